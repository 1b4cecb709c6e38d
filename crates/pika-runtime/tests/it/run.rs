//! Runs on a real guest: every end is typed, every byte of the log comes once, and only the record decides.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pika_cloud::{GuestRequest, OwnedKind, ResultStatus, RunEnd};
use pika_incus::StateChange;
use pika_runtime::{
    InfrastructureKind, LogSink, RunDeadline, RunVerdict, Runtime, Runtimes, new_nonce,
};
use pikahut::stack::TestIncus;
use serde_json::json;

use crate::support::{Stage, ended, infrastructure, until};

/// A log that a test can look at while it grows.
#[derive(Clone, Default)]
struct Growing(Arc<Mutex<Vec<u8>>>, Arc<AtomicU64>);

impl LogSink for Growing {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(offset, self.1.load(Ordering::SeqCst), "a gap or an overlap");
        self.0.lock().unwrap().extend_from_slice(bytes);
        self.1.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok(())
    }
}

impl Growing {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

fn in_background(
    runtimes: &Runtimes,
    runtime: &Runtime,
    request: GuestRequest,
    log: Growing,
) -> tokio::task::JoinHandle<pika_runtime::RunReport> {
    let (runtimes, runtime) = (runtimes.clone(), runtime.clone());
    tokio::spawn(async move {
        let mut log = log;
        runtimes.run(&runtime, &request, &mut log).await.unwrap()
    })
}

#[tokio::test]
async fn a_command_that_succeeds() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("ok")).await;
    let (report, log) = stage.run(&runtime, "echo out; echo err >&2; id -u").await;
    assert_eq!(*ended(&report), RunEnd::Exited { code: 0 });
    assert_eq!(log, "out\nerr\n1000\n");
    let result = report.result.unwrap();
    assert_eq!(
        (result.status, result.exit_code),
        (ResultStatus::Completed, Some(0))
    );
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_runner_that_is_not_there_yet_is_waited_for_until_the_boot_deadline() {
    let stage = Stage::runner().await;
    let plan = |what: &str, secs: u32| {
        stage.plan_with(
            what,
            json!({ "policies": { "deadlines": { "boot_secs": secs } } }),
        )
    };
    let [late, never] = [plan("late", 60), plan("never", 2)];
    let (late, never) = tokio::join!(stage.ensure(&late), stage.ensure(&never));
    for runtime in [&late, &never] {
        let hide = "mv /run/current-system /run/hidden";
        stage.sh(runtime.instance_name(), hide).await;
    }
    let request = GuestRequest::new("echo came", 60);
    let log = Growing::default();
    let coming = in_background(&stage.runtimes, &late, request.clone(), log.clone());
    let waiting = in_background(&stage.runtimes, &never, request, Growing::default());
    let report = waiting.await.unwrap();
    assert!(
        matches!(
            report.end,
            RunVerdict::TimedOut {
                deadline: RunDeadline::Boot,
                ..
            }
        ),
        "{:?}",
        report.end
    );
    assert!(!coming.is_finished(), "it has more time");
    let show = "mv /run/hidden /run/current-system";
    stage.sh(late.instance_name(), show).await;
    assert_eq!(*ended(&coming.await.unwrap()), RunEnd::Exited { code: 0 });
    assert_eq!(log.text(), "came\n");
    assert!(stage.runtimes.destroy(&late.id).await.unwrap().is_absent());
    stage.destroy(&never).await;
}

#[tokio::test]
async fn exit_7_a_signal_and_exit_124_are_told_apart() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("ends")).await;
    for (command, end) in [
        ("exit 7", RunEnd::Exited { code: 7 }),
        ("kill -KILL $$", RunEnd::Signaled { signal: 9 }),
        ("exit 137", RunEnd::Exited { code: 137 }),
        ("exit 124", RunEnd::Exited { code: 124 }),
        ("exit 2", RunEnd::Exited { code: 2 }),
    ] {
        let (report, _) = stage.run(&runtime, command).await;
        assert_eq!(*ended(&report), end, "{command}");
        assert_eq!(report.result.unwrap().status, ResultStatus::Failed);
    }
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_deadline_ends_even_what_ignores_term() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("late")).await;
    for command in [
        "echo begun; sleep 300",
        "trap '' TERM; echo begun; while :; do sleep 1; done",
    ] {
        let before = Instant::now();
        let (report, log) = stage
            .run_request(&runtime, &GuestRequest::new(command, 1))
            .await;
        assert_eq!(*ended(&report), RunEnd::Deadline, "{command}");
        assert_eq!(log, "begun\n");
        assert!(
            before.elapsed() < Duration::from_secs(20),
            "{command}: {:?}",
            before.elapsed()
        );
    }
    assert_eq!(
        stage
            .sh(runtime.instance_name(), "pgrep -u 1000 | wc -l")
            .await
            .trim(),
        "0"
    );
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn silence_ends_at_the_idle_deadline() {
    let stage = Stage::runner().await;
    let policies = json!({ "policies": { "deadlines": { "idle_secs": 2 } } });
    let runtime = stage.ensure(&stage.plan_with("idle", policies)).await;
    let (report, log) = stage
        .run(
            &runtime,
            "for i in 1 2 3; do echo $i; sleep 1; done; sleep 300",
        )
        .await;
    assert_eq!(
        report.end,
        RunVerdict::TimedOut {
            deadline: RunDeadline::Idle,
            after_secs: 2
        }
    );
    assert_eq!(log, "1\n2\n3\n");
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_run_that_is_cancelled_ends_with_its_record() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("cancel")).await;
    let nonce = new_nonce().unwrap();
    let request = GuestRequest {
        nonce: Some(nonce.clone()),
        ..GuestRequest::new("echo begun; sleep 300", 600)
    };
    let log = Growing::default();
    let run = in_background(&stage.runtimes, &runtime, request, log.clone());
    until("output", async || log.text() == "begun\n").await;
    stage
        .runtimes
        .cancel(&runtime, &nonce, Duration::from_secs(2))
        .await
        .unwrap();
    let report = run.await.unwrap();
    assert!(
        !matches!(ended(&report), RunEnd::Exited { code: 0 }),
        "{report:?}"
    );
    let error = stage
        .runtimes
        .cancel(&runtime, "no-such-run", Duration::ZERO)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no run with nonce"), "{error}");
    stage.destroy(&runtime).await;
}

/// What a job as root can write in place of the runner's file.
const FORGE: &str = r#"cd /run/pika-cloud
n=$(sed -n 's/.*"nonce": *"\([^"]*\)".*/\1/p' result.json 2>/dev/null)
[ -n "$n" ] && echo '{"schema_version":1,"status":"completed","finished_at":"2026-11-21T10:00:00.000Z","message":"all is well","exit_code":0,"details":{"nonce":"'$n'"}}' > .forged && mv .forged result.json"#;

#[tokio::test]
async fn a_forged_result_is_shown_beside_the_record() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("forged")).await;
    let (report, _) = stage.run_as_root(&runtime, "exit 7").await;
    assert_eq!(*ended(&report), RunEnd::Exited { code: 7 });
    stage.sh(runtime.instance_name(), FORGE).await;
    let again = stage
        .runtimes
        .follow(&runtime, &report.nonce, 0, &mut Vec::new())
        .await
        .unwrap();
    let (kind, cause) = infrastructure(&again);
    assert_eq!(kind, InfrastructureKind::ResultMismatch, "{cause}");
    assert!(
        cause.contains("exited with 7") && cause.contains("all is well"),
        "both are shown: {cause}"
    );
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_result_that_is_forged_all_the_time_never_decides() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("forger")).await;
    let forger = format!("while :; do ( {FORGE} ); done");
    stage.leave_running(runtime.instance_name(), &forger).await;
    for _ in 0..3 {
        let (report, _) = stage.run_as_root(&runtime, "exit 7").await;
        // Who wrote last before the host read is chance: either the truth is read, or both are shown.
        match &report.end {
            RunVerdict::Ended(record) => {
                assert!(record.self_reported);
                assert_eq!(record.end, RunEnd::Exited { code: 7 });
            }
            _ => {
                let (kind, cause) = infrastructure(&report);
                assert_eq!(kind, InfrastructureKind::ResultMismatch, "{cause}");
                // Its own nonce with a pass, or that of the run before.
                let shown = cause.contains("exited with 7") || cause.contains("of another run");
                assert!(shown, "{cause}");
            }
        }
    }
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_stale_result_is_not_taken_for_this_runs() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("stale")).await;
    let (first, _) = stage.run(&runtime, "exit 0").await;
    assert_eq!(*ended(&first), RunEnd::Exited { code: 0 });
    let (second, _) = stage.run(&runtime, "exit 7").await;
    assert_eq!(*ended(&second), RunEnd::Exited { code: 7 });
    assert_eq!(second.result.unwrap().exit_code, Some(7));
    // The first run can't be had again: its log and record were removed before the second began.
    let again = stage
        .runtimes
        .follow(&runtime, &first.nonce, 0, &mut Vec::new())
        .await
        .unwrap();
    let (kind, cause) = infrastructure(&again);
    assert_eq!(kind, InfrastructureKind::RunnerLost);
    assert!(cause.contains("no run with nonce"), "{cause}");
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_guest_that_is_restarted_or_stopped_or_removed_is_no_test_failure() {
    let stage = Stage::runner().await;
    for (what, kind) in [
        ("restart", InfrastructureKind::GuestRestarted),
        ("stop", InfrastructureKind::GuestStopped),
        ("poweroff", InfrastructureKind::GuestStopped),
        ("destroy", InfrastructureKind::GuestGone),
    ] {
        let runtime = stage.ensure(&stage.plan("mid")).await;
        let log = Growing::default();
        let request = GuestRequest::new("echo begun; sleep 300", 600);
        let run = in_background(&stage.runtimes, &runtime, request, log.clone());
        until("output", async || log.text() == "begun\n").await;
        match what {
            "restart" => {
                stage
                    .change(runtime.instance_name(), StateChange::force_restart())
                    .await
            }
            "stop" => {
                stage
                    .change(runtime.instance_name(), StateChange::force_stop())
                    .await
            }
            "poweroff" => {
                stage
                    .end_guest(runtime.instance_name(), "systemctl poweroff -ff")
                    .await
            }
            _ => assert!(
                stage
                    .runtimes
                    .destroy(&runtime.id)
                    .await
                    .unwrap()
                    .is_absent()
            ),
        }
        let report = run.await.unwrap();
        let (seen, cause) = infrastructure(&report);
        // An instance goes through "stopped" on its way to a restart and to its removal: either is true then, neither
        // is a failed test.
        let passes_stopped = matches!(what, "restart" | "destroy");
        let fits = seen == kind || passes_stopped && seen == InfrastructureKind::GuestStopped;
        assert!(fits, "{what}: {seen:?}, {cause}");
        stage.destroy(&runtime).await;
    }
}

#[tokio::test]
async fn another_process_follows_from_the_byte_where_the_first_stopped() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("follow")).await;
    let nonce = new_nonce().unwrap();
    let command = "for i in $(seq 1 40); do echo line $i; sleep 0.1; done";
    let request = GuestRequest {
        nonce: Some(nonce.clone()),
        ..GuestRequest::new(command, 60)
    };
    let mut log = Growing::default();
    let run = in_background(&stage.runtimes, &runtime, request, log.clone());
    until("some output", async || log.text().contains("line 7")).await;
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());

    // What the second process knows is what was written down.
    let record = serde_json::to_string(&runtime).unwrap();
    let runtime: Runtime = serde_json::from_str(&record).unwrap();
    let offset = log.1.load(Ordering::SeqCst);
    let report = stage
        .runtimes
        .follow(&runtime, &nonce, offset, &mut log)
        .await
        .unwrap();
    assert_eq!(*ended(&report), RunEnd::Exited { code: 0 });
    let wanted: String = (1..=40).map(|at| format!("line {at}\n")).collect();
    assert_eq!(log.text(), wanted);
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_run_goes_on_while_the_daemon_is_killed_and_started_again() {
    let stage = Stage::runner_on(TestIncus::private("rtkill").await).await;
    const IDLE_SECS: u64 = 4;
    let policies = json!({ "policies": { "deadlines": { "idle_secs": IDLE_SECS } } });
    let runtime = stage.ensure(&stage.plan_with("kill", policies)).await;
    let log = Growing::default();
    let request = GuestRequest::new("for i in $(seq 1 99); do echo line $i; sleep 0.1; done", 60);
    let run = in_background(&stage.runtimes, &runtime, request, log.clone());
    until("some output", async || log.text().contains("line 5")).await;
    let daemon = stage.incus.daemon();
    assert!(daemon.kill9_blocking());
    // What a daemon that is down can't pass on is not the command's silence.
    tokio::time::sleep(Duration::from_secs(IDLE_SECS + 1)).await;
    daemon.restart_blocking().unwrap();
    let report = run.await.unwrap();
    assert_eq!(*ended(&report), RunEnd::Exited { code: 0 }, "{report:?}");
    let wanted: String = (1..=99).map(|at| format!("line {at}\n")).collect();
    assert_eq!(log.text(), wanted);
    assert!(report.attaches >= 2);
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn an_attach_is_renewed_at_its_byte() {
    let stage = Stage::runner().await.with_config(|mut config| {
        config.timeouts.attach = Duration::from_secs(1);
        config
    });
    let runtime = stage.ensure(&stage.plan("renew")).await;
    let (report, log) = stage
        .run(
            &runtime,
            "for i in $(seq 1 35); do echo line $i; sleep 0.1; done",
        )
        .await;
    assert_eq!(*ended(&report), RunEnd::Exited { code: 0 });
    assert!(report.attaches >= 3, "{}", report.attaches);
    let wanted: String = (1..=35).map(|at| format!("line {at}\n")).collect();
    assert_eq!(log, wanted);
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn many_bytes_that_are_no_text_come_whole() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("bytes")).await;
    let mut log = Vec::new();
    let request = GuestRequest::new(
        "cd /tmp && head -c 20000000 /dev/urandom > random && cat random && sha256sum < random",
        60,
    );
    let report = stage
        .runtimes
        .run(&runtime, &request, &mut log)
        .await
        .unwrap();
    assert_eq!(*ended(&report), RunEnd::Exited { code: 0 });
    let (bytes, digest) = log.split_at(20_000_000);
    use sha2::Digest as _;
    let wanted = format!("{}  -\n", hex::encode(sha2::Sha256::digest(bytes)));
    assert_eq!(String::from_utf8_lossy(digest), wanted);
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_required_mount_that_is_not_there_is_infrastructure() {
    let stage = Stage::runner().await;
    let source = tempfile::tempdir().unwrap();
    let mounts = json!({ "mounts": [
        { "kind": "cache", "guest_path": "/cargo-home", "source": source.path(), "mode": "read_write", "required": true },
    ] });
    let runtime = stage.ensure(&stage.plan_with("mount", mounts)).await;
    let (report, _) = stage
        .run(&runtime, "touch /cargo-home/seen 2>/dev/null; true")
        .await;
    assert_eq!(*ended(&report), RunEnd::Exited { code: 0 }, "{report:?}");
    stage
        .sh(runtime.instance_name(), "umount /cargo-home")
        .await;
    let (report, _) = stage.run(&runtime, "true").await;
    let (kind, cause) = infrastructure(&report);
    assert_eq!(kind, InfrastructureKind::MountMissing);
    assert!(cause.contains("/cargo-home"), "{cause}");
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_lane_that_is_not_ours_to_run_fails_before_it_starts() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("request")).await;
    let error = stage
        .runtimes
        .run(&runtime, &GuestRequest::new(" ", 60), &mut Vec::new())
        .await
        .unwrap_err();
    assert!(pikahut::stack::told(&error).contains("command"), "{error}");
    assert_eq!(stage.ownership().kind, OwnedKind::Ci);
    stage.destroy(&runtime).await;
}
