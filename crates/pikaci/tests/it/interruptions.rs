//! Stopping a run: Ctrl-C once, twice, and the program killed.

use std::path::Path;
use std::time::Duration;

use pikahut::stack::TestIncus;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use crate::bench_tree::{Ended, Tree, lane};

const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn start(tree: &Tree, arguments: &[&str]) -> Child {
    tokio::process::Command::from(tree.command(arguments))
        .kill_on_drop(true)
        .spawn()
        .expect("starts")
}

pub(crate) fn send(child: &Child, signal: Signal) {
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
        .expect("it runs");
    kill_process(pid, signal).expect("signalled");
}

/// Waits until the lane's log holds `text`.
pub(crate) async fn until_logged(tree: &Tree, lane: &str, text: &str) {
    let path = || {
        tree.try_newest_run()
            .map(|run| run.join("jobs").join(lane).join("log"))
    };
    let seen = pikahut::wait::until_async(LIMIT, || async {
        let log = std::fs::read_to_string(path()?).ok()?;
        log.contains(text).then_some(())
    });
    seen.await
        .unwrap_or_else(|| panic!("the lane {lane} did not say {text}"));
}

async fn ended(child: Child) -> Ended {
    Ended::of(
        tokio::time::timeout(LIMIT, child.wait_with_output())
            .await
            .expect("ends in time")
            .expect("waited for"),
    )
}

#[tokio::test]
async fn ctrl_c_ends_commands_cleanly_and_removes_their_instances() {
    let incus = TestIncus::shared().await;
    let script = "trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let tree = Tree::on(
        &incus,
        &[lane("waits", script, ""), lane("later", "true", "")].concat(),
    )
    .await;
    let child = start(&tree, &["run", "--all", "--jobs", "1"]);
    until_logged(&tree, "waits", "ready").await;
    send(&child, Signal::INT);
    let ended = ended(child).await;
    ended.assert_code(130);
    assert_eq!(tree.result("waits")["outcome"], "cancelled");
    assert_eq!(
        tree.result("later")["outcome"],
        "cancelled",
        "what never started is not skipped silently"
    );
    assert!(
        String::from_utf8_lossy(&tree.log("waits")).contains("tidied"),
        "the command had its grace"
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn ctrl_c_twice_waits_for_no_grace_and_still_removes() {
    let incus = TestIncus::shared().await;
    let script = "trap 'echo heard' TERM; echo ready; while :; do sleep 0.1; done";
    let tree = Tree::on(&incus, &lane("deaf", script, "")).await;
    let child = start(&tree, &["run", "deaf"]);
    until_logged(&tree, "deaf", "ready").await;
    send(&child, Signal::INT);
    until_logged(&tree, "deaf", "heard").await;
    send(&child, Signal::INT);
    ended(child).await.assert_code(130);
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn after_kill_9_the_next_command_marks_the_run_and_removes_what_it_left() {
    let incus = TestIncus::shared().await;
    let script = "echo ready; sleep 600";
    let tree = Tree::on(
        &incus,
        &[
            lane("one", script, ""),
            lane("two", script, "needs = [\"one\"]"),
        ]
        .concat(),
    )
    .await;
    let mut child = start(&tree, &["run", "--all"]);
    until_logged(&tree, "one", "ready").await;
    let run = tree.newest_run();
    send(&child, Signal::KILL);
    child.wait().await.expect("waited for");
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(path).expect("there")).expect("JSON")
    };
    assert_eq!(
        read(&run.join("run.json"))["state"],
        "running",
        "nobody noted the end"
    );

    let listed = tree.run(&["list"]).await;
    listed.assert_code(0);
    assert!(
        listed
            .stderr
            .contains("was interrupted; 1 instance was left and is removed"),
        "{}",
        listed.stderr
    );
    assert!(listed.stdout.contains("interrupted"), "{}", listed.stdout);
    assert_eq!(read(&run.join("run.json"))["state"], "interrupted");
    assert_eq!(tree.result("one")["kind"], "interrupted");
    assert_eq!(tree.result("two")["outcome"], "skipped");
    incus.assert_nothing_left().await;
    let again = tree.run(&["list"]).await;
    assert!(
        !again.stderr.contains("interrupted"),
        "settled once: {}",
        again.stderr
    );
}

#[tokio::test]
async fn another_command_leaves_a_living_run_alone() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("lives", "echo ready; sleep 3; echo done", "")).await;
    let child = start(&tree, &["run", "lives"]);
    until_logged(&tree, "lives", "ready").await;
    let listed = tree.run(&["list"]).await;
    assert!(
        listed.assert_code(0).stdout.contains("running"),
        "{}",
        listed.stdout
    );
    ended(child).await.assert_code(0);
    assert_eq!(tree.log("lives"), b"ready\ndone\n");
    incus.assert_nothing_left().await;
}
