//! Stopping a run: Ctrl-C once and twice, and `pikaci cancel` of a run that lives and of one that died.

use pikahut::stack::TestIncus;
use rustix::process::Signal;

use crate::bench_tree::{Tree, lane};
use crate::program::{ended, kill, send, start, until_logged};

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

#[tokio::test]
async fn cancel_stops_the_run_of_another_process_as_ctrl_c_does() {
    let incus = TestIncus::shared().await;
    let script = "trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let tree = Tree::on(&incus, &lane("waits", script, "")).await;
    let child = start(&tree, &["run", "waits"]);
    until_logged(&tree, "waits", "ready").await;
    let refused = tree.run(&["resume"]).await;
    refused.assert_code(2);
    let id = tree.newest_id();
    let refused = tree.run(&["resume", &id]).await;
    assert!(
        refused.assert_code(2).stderr.contains("lives"),
        "{}",
        refused.stderr
    );
    let cancelled = tree.run(&["cancel"]).await;
    assert!(
        cancelled.assert_code(0).stderr.contains("is cancelled"),
        "{}",
        cancelled.stderr
    );
    ended(child).await.assert_code(130);
    assert_eq!(tree.result("waits")["outcome"], "cancelled");
    let log = String::from_utf8_lossy(&tree.log("waits")).into_owned();
    assert!(log.contains("tidied"), "the command had its grace: {log}");
    incus.assert_nothing_left().await;
    tree.run(&["cancel"]).await.assert_code(2);
    tree.run(&["cancel", &id]).await.assert_code(2);
}

#[tokio::test]
async fn cancel_closes_a_run_whose_process_died_and_removes_what_it_left() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("first", "true", ""),
        lane("hangs", "echo ready; sleep 600", "needs = [\"first\"]"),
        lane("after", "true", "needs = [\"hangs\"]"),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let child = start(&tree, &["run", "--all"]);
    until_logged(&tree, "hangs", "ready").await;
    kill(child).await;
    let cancelled = tree.run(&["cancel"]).await;
    assert!(
        cancelled
            .assert_code(0)
            .stderr
            .contains("1 instance was left and is removed"),
        "{}",
        cancelled.stderr
    );
    assert_eq!(tree.record()["verdict"], "cancelled");
    assert_eq!(tree.result("first")["outcome"], "passed");
    assert_eq!(tree.result("hangs")["outcome"], "cancelled");
    assert_eq!(tree.result("after")["outcome"], "cancelled");
    incus.assert_nothing_left().await;
    let listed = tree.run(&["list"]).await;
    assert!(!listed.stderr.contains("interrupted"), "{}", listed.stderr);
}
