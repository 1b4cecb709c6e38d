//! What the lanes of a run that is taken up see, where its snapshot is not as it was.

use pikahut::stack::TestIncus;

use crate::bench_tree::{Tree, lane};
use crate::durability::CREATE;
use crate::gate::{At, Gate, Stop};
use crate::program::{kill, start, until_logged};

/// Makes every snapshot of the tree one that was never filled to its end, and changes the work tree.
fn lose_snapshots(tree: &Tree) {
    let marks = tree.root().join(".pikaci/snapshots/.whole");
    std::fs::remove_dir_all(&marks).expect("removed");
    std::fs::create_dir(&marks).expect("made");
    std::fs::write(tree.root().join("hello.txt"), "changed since\n").expect("written");
}

#[tokio::test]
async fn a_snapshot_that_was_not_whole_and_that_no_command_saw_is_taken_again() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("reads", "cat hello.txt", "")).await;
    let made = Stop {
        at: At::Answer,
        ..CREATE
    };
    let mut gate = Gate::open(incus.socket(), made);
    let socket = gate.socket();
    let child = start(
        &tree,
        &["run", "reads", "--socket", socket.to_str().expect("text")],
    );
    gate.stopped().await;
    kill(child).await;
    drop(gate);
    let before = tree.record()["snapshot"].clone();
    lose_snapshots(&tree);
    let resumed = tree.run(&["resume"]).await;
    assert!(
        resumed
            .assert_code(0)
            .stderr
            .contains("the work tree changed"),
        "{}",
        resumed.stderr
    );
    assert_eq!(tree.log("reads"), b"changed since\n");
    assert_ne!(
        tree.record()["snapshot"],
        before,
        "the record says what was run"
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn lanes_of_one_run_never_see_two_snapshots() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("first", "echo ready; sleep 3", ""),
        lane("reads", "cat hello.txt", "needs = [\"first\"]"),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let child = start(&tree, &["run", "--all"]);
    until_logged(&tree, "first", "ready").await;
    kill(child).await;
    lose_snapshots(&tree);
    let resumed = tree.run(&["resume"]).await;
    resumed.assert_code(3);
    assert_eq!(tree.result("first")["outcome"], "passed");
    assert_eq!(tree.result("reads")["kind"], "snapshot_failed");
    incus.assert_nothing_left().await;
}
