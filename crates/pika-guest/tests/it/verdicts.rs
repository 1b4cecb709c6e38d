//! How runs end.

use std::time::Instant;

use pika_cloud::{GuestRequest, LifecycleState, ResultStatus, RunEnd};
use pikahut::stack::TestIncus;
use sha2::{Digest as _, Sha256};

use crate::support::{Guest, assert_end, request, root_request};

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_signals_are_told_apart() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "codes", &[]).await;
    for (nonce, command, end) in [
        ("c0", "true", RunEnd::Exited { code: 0 }),
        (
            "c7",
            "echo out; echo err >&2; exit 7",
            RunEnd::Exited { code: 7 },
        ),
        ("c124", "exit 124", RunEnd::Exited { code: 124 }),
        ("c137", "exit 137", RunEnd::Exited { code: 137 }),
        ("s9", "kill -9 $$", RunEnd::Signaled { signal: 9 }),
        ("s11", "kill -SEGV $$", RunEnd::Signaled { signal: 11 }),
    ] {
        let run = guest.run(nonce, &request(command));
        assert_end(&run, end.clone());
        assert!(!run.record.self_reported);
        let result = guest.result();
        let details = result.details.as_ref().unwrap();
        assert_eq!(details["nonce"], nonce);
        assert_eq!(details["end"], serde_json::to_value(&end).unwrap());
        let good = end == RunEnd::Exited { code: 0 };
        assert_eq!(result.status == ResultStatus::Completed, good);
        let state = if good {
            LifecycleState::Completed
        } else {
            LifecycleState::Failed
        };
        // The status comes after the record, once log and result are on the disk.
        guest.wait_for(&format!(
            "grep -q '\"{state}\"' /run/pika-cloud/status.json"
        ));
        assert_eq!(guest.status().state, state);
        if nonce == "c7" {
            assert_eq!(run.text(), "out\nerr\n");
            assert_eq!(result.exit_code, Some(7));
        }
    }
    let events = guest.events();
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<u64>>());
    let kinds: Vec<&str> = events
        .iter()
        .take(3)
        .map(|event| event.kind.as_str())
        .collect();
    assert_eq!(kinds, ["booted", "starting", "completed"]);
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_ends_everything_that_was_started() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "deadline", &[]).await;
    let patient = GuestRequest {
        timeout_secs: 1,
        ..request("trap 'echo got TERM; exit 0' TERM; echo begun; while :; do sleep 0.1; done")
    };
    let run = guest.run("term", &patient);
    assert_end(&run, RunEnd::Deadline);
    assert!(
        run.text().starts_with("begun\n") && run.text().ends_with("got TERM\n"),
        "{}",
        run.text()
    );

    let deaf = "trap '' TERM; (setsid sh -c \"trap '' TERM; exec sleep 1234\" &) ; echo begun; while :; do sleep 1; done";
    let begun = Instant::now();
    let run = guest.run(
        "deaf",
        &GuestRequest {
            timeout_secs: 1,
            ..request(deaf)
        },
    );
    assert_end(&run, RunEnd::Deadline);
    assert!(
        (6..30).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        guest
            .sh("pgrep -f 'sleep 1234' | grep -v $$ | wc -l")
            .trim(),
        "0"
    );
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_child_with_the_pipe_does_not_hang_the_run() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "background", &[]).await;
    let begun = Instant::now();
    let run = guest.run("quiet", &request("setsid sleep 4321 & echo done"));
    assert_end(&run, RunEnd::Exited { code: 0 });
    assert_eq!(run.text(), "done\n");
    let run = guest.run(
        "loud",
        &request("(while :; do echo still here; done) & sleep 0.1; exit 3"),
    );
    assert_eq!(run.record.end, RunEnd::Exited { code: 3 });
    assert_eq!(run.record.log_bytes, run.log.len() as u64);
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    assert_eq!(
        guest
            .sh("pgrep -f 'sleep 4321' | grep -v $$ | wc -l")
            .trim(),
        "0"
    );
    assert!(
        guest.result().details.unwrap()["processes_left_behind"]
            .as_u64()
            .unwrap()
            > 0
    );
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_bytes_however_many_and_whatever_they_are() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "bytes", &[]).await;
    let run = guest.run("raw", &request(r"printf '\377\376\000\200no newline'"));
    assert_end(&run, RunEnd::Exited { code: 0 });
    assert_eq!(run.log, b"\xff\xfe\x00\x80no newline");

    let million = 1_000_000;
    let command = format!("head -c {}000000 /dev/zero | tr '\\0' x; echo end", 200);
    let begun = Instant::now();
    let run = guest.run("much", &request(&command));
    assert_end(&run, RunEnd::Exited { code: 0 });
    let mut expected = vec![b'x'; 200 * million];
    expected.extend_from_slice(b"end\n");
    assert_eq!(Sha256::digest(&run.log), Sha256::digest(&expected));
    println!("200 MB in {:?}", begun.elapsed());
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_runs_out_is_an_end_of_its_own() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(
        &incus,
        "oom",
        &["limits.memory=256MiB", "limits.memory.swap=false"],
    )
    .await;
    let eat = "python3 -c 'x = bytearray(600 * 1024 * 1024)'";
    assert_end(&guest.run("whole", &request(eat)), RunEnd::Oom);
    assert_eq!(
        guest
            .run("part", &request(&format!("{eat}; exit 1")))
            .record
            .end,
        RunEnd::Oom
    );
    let survived = guest.run(
        "survived",
        &request(&format!("{eat}; echo went on; exit 0")),
    );
    assert_eq!(survived.record.end, RunEnd::Exited { code: 0 });
    assert!(survived.text().ends_with("went on\n"));
    assert_eq!(guest.result().details.unwrap()["oom_kills"], 1);
    assert_end(
        &guest.run("after", &request("exit 5")),
        RunEnd::Exited { code: 5 },
    );
    assert_eq!(guest.sh("cat /proc/1/comm").trim(), "systemd");
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_and_a_stale_result_do_not_count() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "forged", &[]).await;
    let forged = r#"{"schema_version":1,"status":"completed","finished_at":"2026-01-01T00:00:00.000Z","message":"forged","exit_code":0}"#;
    let stale = format!(
        "echo '{forged}' > /run/pika-cloud/result.json; echo x > /run/pika-cloud/artifacts/old"
    );
    guest.sh(&stale);
    let run = guest.run(
        "stale",
        &request("ls /run/pika-cloud /run/pika-cloud/artifacts; exit 9"),
    );
    assert_end(&run, RunEnd::Exited { code: 9 });
    assert!(
        !run.text().contains("result.json") && !run.text().contains("old"),
        "{}",
        run.text()
    );
    assert_eq!(guest.result().details.unwrap()["nonce"], "stale");

    let as_root = root_request(&format!(
        "echo '{forged}' > /run/pika-cloud/result.json; exit 9"
    ));
    let run = guest.run("forged", &as_root);
    assert_end(&run, RunEnd::Exited { code: 9 });
    assert!(run.record.self_reported);
    assert_eq!(guest.result().exit_code, Some(9));

    let run = guest.run(
        "unprivileged",
        &request(&format!("echo '{forged}' > /run/pika-cloud/result.json")),
    );
    assert_end(&run, RunEnd::Exited { code: 1 });
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_links_are_not_followed() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "links", &[]).await;
    let plant = "cd /run/pika-cloud; echo precious > /etc/victim; rm -rf result.json status.json events.jsonl logs artifacts; \
                 for name in result.json status.json events.jsonl .result.json.tmp .status.json.tmp; do ln -s /etc/victim $name; done; \
                 ln -s /etc logs; ln -s /etc artifacts";
    guest.sh(plant);
    let run = guest.run("planted", &request("echo fine"));
    assert_end(&run, RunEnd::Exited { code: 0 });
    assert_eq!(guest.sh("cat /etc/victim"), "precious\n");
    assert_eq!(
        guest.sh("stat -c '%F %u' /run/pika-cloud/logs /run/pika-cloud/artifacts"),
        "directory 0\ndirectory 1000\n"
    );
    assert_eq!(guest.sh("stat -c %u:%g /etc"), "0:0\n");
    assert_eq!(guest.result().exit_code, Some(0));

    // A root job plants them while it runs.
    let run = guest.run("planting", &root_request(plant));
    assert_eq!(run.record.end, RunEnd::Exited { code: 0 });
    assert_eq!(guest.sh("cat /etc/victim"), "precious\n");
    assert_eq!(guest.result().exit_code, Some(0));
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_can_not_begin_is_the_runners_failure() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "nowhere", &[]).await;
    let mut nowhere = request("true");
    nowhere.working_dir = Some("/not/there".to_owned());
    let run = guest.run("nowhere", &nowhere);
    let RunEnd::RunnerFailed { reason } = &run.record.end else {
        panic!("{:?}", run.record)
    };
    assert!(reason.contains("/not/there"), "{reason}");
    let result = guest.result();
    assert_eq!(
        (result.status, result.exit_code),
        (ResultStatus::Failed, None)
    );

    let refused = guest.run_attached(
        "other",
        &GuestRequest {
            nonce: Some("another".into()),
            ..request("true")
        },
    );
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    drop(guest);
    incus.assert_nothing_left().await;
}
