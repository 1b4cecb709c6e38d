//! Tests of the one way to a verdict: each kind of end, each kind of lie.

use super::*;

const NONCE: &str = "n1";

fn record(end: RunEnd, log_bytes: u64) -> TerminalRecord {
    TerminalRecord {
        schema_version: 1,
        nonce: NONCE.to_owned(),
        boot_id: "boot".to_owned(),
        log_bytes,
        end,
        self_reported: false,
    }
}

fn result(code: Option<i32>, status: ResultStatus, nonce: &str) -> LifecycleResult {
    let text = serde_json::json!({
        "schema_version": 1,
        "status": status,
        "finished_at": "2026-11-21T10:00:00.000Z",
        "message": "over",
        "exit_code": code,
        "details": { "nonce": nonce },
    });
    serde_json::from_value(text).unwrap()
}

const EXITED: fn(i32) -> RunEnd = |code| RunEnd::Exited { code };

#[test]
fn a_record_counts_only_whole_on_an_exec_that_ended_0() {
    let record = record(EXITED(0), 10);
    let judge = |exec: ExecEnd, received| {
        judge_attach(&exec, LastWords::Record(record.clone()), NONCE, received)
    };
    assert_eq!(
        judge(ExecEnd::Exited(0), 10),
        Attached::Record(record.clone())
    );
    assert_eq!(
        judge(ExecEnd::Exited(0), 9),
        Attached::Short(record.clone())
    );
    assert!(matches!(
        judge(ExecEnd::Exited(0), 11),
        Attached::Mismatch(InfrastructureKind::LogMismatch, _)
    ));
    for code in [1, 2, 124, 137] {
        assert!(
            matches!(judge(ExecEnd::Exited(code), 10), Attached::Silent { status: Some(seen), .. } if seen == code)
        );
    }
    let broken = ExecEnd::Broken("the websocket closed".to_owned());
    assert!(matches!(
        judge(broken, 10),
        Attached::Silent { status: None, .. }
    ));
}

#[test]
fn a_record_of_another_run_is_a_contradiction() {
    let other = TerminalRecord {
        nonce: "n2".to_owned(),
        ..record(EXITED(0), 10)
    };
    let attached = judge_attach(&ExecEnd::Exited(0), LastWords::Record(other), NONCE, 10);
    assert!(
        matches!(
            attached,
            Attached::Mismatch(InfrastructureKind::ResultMismatch, _)
        ),
        "{attached:?}"
    );
}

#[test]
fn an_exec_status_alone_is_never_a_verdict() {
    for code in [0, 2, 124, 137] {
        let attached = judge_attach(
            &ExecEnd::Exited(code),
            LastWords::None("x".to_owned()),
            NONCE,
            0,
        );
        assert!(
            matches!(attached, Attached::Silent { .. }),
            "{code}: {attached:?}"
        );
    }
    assert_eq!(
        judge_attach(&ExecEnd::Exited(0), LastWords::Continue, NONCE, 0),
        Attached::Continue
    );
}

#[test]
fn the_instance_decides_what_silence_means() {
    let began = Some("2026-11-21T10:00:00Z");
    let at = |time: &str| GuestSeen::Running {
        started_at: Some(time.to_owned()),
    };
    assert_eq!(judge_guest(&at("2026-11-21T10:00:00Z"), began), None);
    assert_eq!(judge_guest(&GuestSeen::Frozen, began), None);
    let kind = |seen| judge_guest(&seen, began).map(|(kind, _)| kind);
    assert_eq!(
        kind(at("2026-11-21T10:00:01Z")),
        Some(InfrastructureKind::GuestRestarted)
    );
    assert_eq!(
        kind(GuestSeen::Running { started_at: None }),
        Some(InfrastructureKind::GuestRestarted)
    );
    assert_eq!(
        kind(GuestSeen::Stopped),
        Some(InfrastructureKind::GuestStopped)
    );
    assert_eq!(kind(GuestSeen::Gone), Some(InfrastructureKind::GuestGone));
}

#[test]
fn the_result_file_must_tell_what_the_record_tells() {
    let failed = |code| result(code, ResultStatus::Failed, NONCE);
    let completed = result(Some(0), ResultStatus::Completed, NONCE);
    assert_eq!(
        judge_result(&record(EXITED(0), 0), Some(&completed)),
        Ok(())
    );
    assert_eq!(
        judge_result(&record(EXITED(7), 0), Some(&failed(Some(7)))),
        Ok(())
    );
    for end in [
        RunEnd::Signaled { signal: 9 },
        RunEnd::Deadline,
        RunEnd::Oom,
    ] {
        assert_eq!(
            judge_result(&record(end.clone(), 0), Some(&failed(Some(137)))),
            Ok(())
        );
        judge_result(&record(end.clone(), 0), Some(&completed)).unwrap_err();
        judge_result(&record(end, 0), None).unwrap_err();
    }
    let said = judge_result(&record(EXITED(7), 0), Some(&completed)).unwrap_err();
    assert!(
        said.contains("exited with 7") && said.contains("Completed"),
        "both are shown: {said}"
    );
    judge_result(&record(EXITED(7), 0), Some(&failed(Some(8)))).unwrap_err();
    judge_result(&record(EXITED(0), 0), None).unwrap_err();
    let stale = result(Some(0), ResultStatus::Completed, "another");
    assert!(
        judge_result(&record(EXITED(0), 0), Some(&stale))
            .unwrap_err()
            .contains("another run")
    );
    let runner = RunEnd::RunnerFailed {
        reason: "no disk".to_owned(),
    };
    assert_eq!(judge_result(&record(runner, 0), None), Ok(()));
}
