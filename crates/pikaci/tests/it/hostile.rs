//! Lanes that misbehave, and hands that reach for their instances: each ends with its own outcome, in words that a
//! person can use, and leaves nothing.

use std::time::Duration;

use pikahut::incus::{Client, ExecRequest, InstanceStatus, StateChange};
use pikahut::process::{Taken, samples};
use pikahut::stack::TestIncus;
use serde_json::{Value, json};

use crate::bench_tree::{Tree, lane};
use crate::program::{ended, start, until_logged};

/// Longest wait for an operation of Incus.
const LIMIT: Duration = Duration::from_secs(60);
/// Says that it runs, and goes on until it is ended.
const GOES_ON: &str = "echo ready; sleep 600";

/// Fails unless the result has these fields.
#[track_caller]
fn assert_fields(result: &Value, expected: &Value) {
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&result[key], value, "{key}: {result}");
    }
}

/// The instance that a lane of the newest run has.
fn instance_of(tree: &Tree, lane: &str) -> String {
    let path = tree.newest_run().join("jobs").join(lane).join("job.json");
    let text = std::fs::read_to_string(path).expect("written before anything is created");
    let record: Value = serde_json::from_str(&text).expect("JSON");
    let name = record["instance_name"].as_str();
    name.expect("chosen in advance").to_owned()
}

async fn change(client: &Client, instance: &str, change: StateChange) {
    let operation = client.set_instance_state(instance, &change).await;
    let ended = operation.expect("taken").wait(LIMIT).await;
    ended.expect("done");
}

/// Runs a lane whose log is `bytes` times the letter x between a first and a last line, and checks that all of it came
/// and that the program held little of it.
async fn all_of_a_long_log(script: &str, bytes: usize) {
    const PEAK_MIB_MAX: u64 = 48;
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("long", script, "")).await;
    let child = start(&tree, &["run", "long", "--output", "json"]);
    let pid = child.id().expect("it runs");
    let (samples, ended) = tokio::join!(samples(pid, || {}), ended(child));
    ended.assert_code(0);
    let peak = Taken::most(&samples).peak_kib / 1024;
    let log = tree.log("long");
    assert_eq!(log.len(), bytes + "begun\n".len() + "\nend\n".len());
    let text = log
        .strip_prefix(b"begun\n")
        .and_then(|rest| rest.strip_suffix(b"\nend\n"));
    let whole = text.is_some_and(|text| text.iter().all(|byte| *byte == b'x'));
    assert!(whole, "the log is not what was written");
    assert_eq!(tree.result("long")["log_bytes"], log.len());
    assert!(
        (1..=PEAK_MIB_MAX).contains(&peak),
        "{peak} MiB for {bytes} bytes of log"
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn heavy_two_hundred_megabytes_come_whole_through_little_memory() {
    // In lines of 99 letters there would be newlines in between; one letter is enough to tell that all came.
    let script = "echo begun; head -c 200000000 /dev/zero | tr '\\0' x; echo; echo end";
    all_of_a_long_log(script, 200_000_000).await;
}

#[tokio::test]
async fn heavy_a_line_of_fifty_megabytes_is_shown_in_pieces_and_kept_whole() {
    const BYTES: usize = 50_000_000;
    let incus = TestIncus::shared().await;
    let script = format!("head -c {BYTES} /dev/zero | tr '\\0' x; echo; exit 1");
    let tree = Tree::on(&incus, &lane("line", &script, "")).await;
    let ended = tree.run(&["run", "line"]).await;
    ended.assert_code(1);
    assert_eq!(tree.log("line").len(), BYTES + 1);
    let shown = ended
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("line | "));
    let letters = |line: &str| line.bytes().filter(|byte| *byte == b'x').count();
    assert_eq!(
        shown.map(letters).sum::<usize>(),
        BYTES,
        "nothing is hidden"
    );
    let summary = ended.stdout.rsplit("line | ").next().expect("a last part");
    assert!(
        summary.len() < 80_000,
        "what a failed lane said last is cut: {} bytes",
        summary.len()
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn out_of_memory_under_a_limit_is_told_from_other_failures() {
    let incus = TestIncus::shared().await;
    let eats = "echo begun; python3 -c 'x = bytearray(600 * 1024 * 1024)'; exit $?";
    let small = "resources = { memory_mib = 256 }";
    let tree = Tree::on(&incus, &lane("eats", eats, small)).await;
    let ended = tree.run(&["run", "eats"]).await;
    ended.assert_code(1);
    let expected = json!({"outcome": "failed", "out_of_memory": true});
    assert_fields(&tree.result("eats"), &expected);
    assert!(
        ended.stdout.contains("eats failed: out of memory"),
        "{}",
        ended.stdout
    );
    assert!(tree.log("eats").starts_with(b"begun\n"));
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_child_in_the_background_that_holds_the_pipe_holds_nothing_up() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("quiet", "setsid sleep 600 & echo done", ""),
        lane(
            "loud",
            "(while :; do echo still here; sleep 0.01; done) & sleep 0.2; exit 3",
            "",
        ),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    tree.run(&["run", "--all"]).await.assert_code(1);
    assert_eq!(tree.result("quiet")["outcome"], "passed");
    assert_eq!(tree.log("quiet"), b"done\n");
    let expected = json!({"outcome": "failed", "exit_code": 3});
    assert_fields(&tree.result("loud"), &expected);
    assert_eq!(tree.result("loud")["log_bytes"], tree.log("loud").len());
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn bytes_that_are_no_text_end_in_readable_words() {
    let incus = TestIncus::shared().await;
    let script = r"printf 'error: \xff\xfe\x1b]0;title\x07 in the middle\n'; exit 1";
    let tree = Tree::on(&incus, &lane("bytes", script, "")).await;
    let ended = tree.run(&["run", "bytes"]).await;
    ended.assert_code(1);
    assert!(
        ended
            .stdout
            .contains("  error: \u{fffd}\u{fffd} in the middle\n"),
        "{:?}",
        ended.stdout
    );
    assert_eq!(
        tree.log("bytes"),
        b"error: \xff\xfe\x1b]0;title\x07 in the middle\n",
        "the record keeps every byte"
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_root_job_that_kills_its_runner_has_no_verdict_of_its_own() {
    let incus = TestIncus::shared().await;
    let as_root = "run_as_root = true";
    // A word that is in the log can't get lost with the runner any more.
    let logged = "echo ready; until grep -q ready /run/pika-cloud/logs/guest.log; do :; done";
    // The letter in brackets keeps the pattern from finding the command that holds it.
    let supervisor = "'[e]xe supervise'";
    let lanes = [
        lane(
            "supervisor",
            &format!("{logged}; pkill -KILL -f {supervisor}; sleep 600"),
            as_root,
        ),
        lane(
            "everything",
            &format!("{logged}; kill -KILL -1; sleep 600"),
            as_root,
        ),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let ended = tree.run(&["run", "--all"]).await;
    ended.assert_code(3);
    for lane in ["supervisor", "everything"] {
        let expected = json!({"outcome": "infrastructure", "kind": "runner_lost"});
        assert_fields(&tree.result(lane), &expected);
        assert_eq!(tree.log(lane), b"ready\n", "{lane}");
    }
    assert!(
        ended.stdout.contains("the supervisor of the run is gone"),
        "{}",
        ended.stdout
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn an_instance_stopped_or_deleted_behind_our_back_is_no_failed_test() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(
        &incus,
        &[lane("stopped", GOES_ON, ""), lane("deleted", GOES_ON, "")].concat(),
    )
    .await;
    let child = start(&tree, &["run", "--all", "--jobs", "2"]);
    for lane in ["stopped", "deleted"] {
        until_logged(&tree, lane, "ready").await;
        let instance = instance_of(&tree, lane);
        change(incus.client(), &instance, StateChange::force_stop()).await;
        if lane == "deleted" {
            // The engine may be removing it by now: whoever comes second finds nothing.
            if let Ok(removal) = incus.client().delete_instance(&instance).await {
                removal.wait(LIMIT).await.ok();
            }
        }
    }
    let ended = ended(child).await;
    ended.assert_code(3);
    let stopped = json!({"outcome": "infrastructure", "kind": "guest_stopped"});
    assert_fields(&tree.result("stopped"), &stopped);
    let deleted = tree.result("deleted");
    assert_eq!(deleted["outcome"], "infrastructure", "{deleted}");
    // It goes through "stopped" on its way.
    let kind = deleted["kind"].as_str().unwrap_or_default();
    assert!(["guest_gone", "guest_stopped"].contains(&kind), "{deleted}");
    assert!(
        ended.stdout.contains("the instance stopped during the run"),
        "{}",
        ended.stdout
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn an_instance_that_is_frozen_and_thawed_goes_on() {
    let incus = TestIncus::shared().await;
    let script = "echo ready; sleep 1; echo done";
    let tree = Tree::on(&incus, &lane("pauses", script, "")).await;
    let child = start(&tree, &["run", "pauses"]);
    until_logged(&tree, "pauses", "ready").await;
    let instance = instance_of(&tree, "pauses");
    change(incus.client(), &instance, StateChange::freeze()).await;
    let frozen = incus.client().instance(&instance).await.expect("there");
    assert_eq!(frozen.value.status, InstanceStatus::Frozen);
    change(incus.client(), &instance, StateChange::unfreeze()).await;
    ended(child).await.assert_code(0);
    assert_eq!(tree.log("pauses"), b"ready\ndone\n");
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn an_instance_that_stays_frozen_is_told_as_that_and_removed() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("freezes", GOES_ON, "timeout = \"5s\"")).await;
    tree.configure("boot_timeout = \"10s\"\n");
    let child = start(&tree, &["run", "freezes"]);
    until_logged(&tree, "freezes", "ready").await;
    let instance = instance_of(&tree, "freezes");
    change(incus.client(), &instance, StateChange::freeze()).await;
    let ended = ended(child).await;
    ended.assert_code(3);
    let expected = json!({"outcome": "infrastructure", "kind": "guest_frozen"});
    assert_fields(&tree.result("freezes"), &expected);
    assert!(
        ended.stdout.contains("the instance is frozen"),
        "{}",
        ended.stdout
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn private_the_daemon_is_killed_and_restarted_in_the_middle() {
    let incus = TestIncus::private("pkrestart").await;
    // Not over before the daemon is back for the second time, however long it takes to stop.
    let counts = "for i in $(seq 1 80); do echo line $i; sleep 0.1; until [ $i != 70 ] || [ -e /tmp/go ]; do sleep 0.1; done; done";
    let lanes = [
        lane("counts", counts, ""),
        lane("later", "echo ok", "needs = [\"counts\"]"),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let child = start(&tree, &["run", "--all"]);
    until_logged(&tree, "counts", "line 5\n").await;
    assert!(incus.daemon().kill9_blocking());
    incus.daemon().restart_blocking().expect("starts again");
    until_logged(&tree, "counts", "line 40\n").await;
    // This time as an update of the package does it.
    assert!(incus.daemon().stop_blocking());
    incus.daemon().restart_blocking().expect("starts again");
    let instance = instance_of(&tree, "counts");
    let go = ExecRequest::new(["touch", "/tmp/go"]);
    let went = incus
        .client()
        .exec_capture(&instance, &go, Default::default(), LIMIT)
        .await;
    assert_eq!(went.expect("it runs").exit_code, 0);
    ended(child).await.assert_code(0);
    let wanted: String = (1..=80).map(|at| format!("line {at}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&tree.log("counts")), wanted);
    assert_eq!(tree.log("later"), b"ok\n");
    incus.assert_nothing_left().await;
}
