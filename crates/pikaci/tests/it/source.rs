//! What a lane sees of the work tree, and what it can do to it.

use pikahut::stack::TestIncus;

use crate::bench_tree::{Tree, lane};

#[tokio::test]
async fn a_writable_workspace_is_the_lanes_own() {
    let incus = TestIncus::shared().await;
    let changes = "echo mine > new; rm hello.txt; mkdir -p ci/deep; cat new; ls";
    let lanes = [
        lane("writes", changes, "workspace = \"writable\""),
        lane("reads", "cat hello.txt; ls; ! touch new", ""),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    tree.run(&["run", "--all"]).await.assert_code(0);
    assert_eq!(
        String::from_utf8_lossy(&tree.log("writes")),
        "mine\nci\nnew\n"
    );
    let read = String::from_utf8_lossy(&tree.log("reads")).into_owned();
    assert!(
        read.starts_with("from the work tree\nci\nhello.txt\n"),
        "{read}"
    );
    let hello = std::fs::read_to_string(tree.root().join("hello.txt"));
    assert_eq!(hello.expect("still there"), "from the work tree\n");
    assert!(!tree.root().join("new").exists());
    // The snapshot is as it was, so the next run may share it.
    tree.run(&["run", "reads"]).await.assert_code(0);
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_file_that_looks_like_a_secret_stops_the_run_unless_it_is_allowed() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("reads", "cat .env", "")).await;
    std::fs::write(tree.root().join(".env"), "TOKEN=x\n").expect("written");
    let refused = tree.run(&["run", "reads"]).await;
    refused.assert_code(2);
    for part in [".env", "--allow-untracked"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let allowed = tree.run(&["run", "reads", "--allow-untracked", ".env"]);
    let allowed = allowed.await;
    allowed.assert_code(0);
    // Not by the newest run's log: both runs may have begun in the same second.
    assert!(
        allowed.stdout.contains("reads | TOKEN=x\n"),
        "{}",
        allowed.stdout
    );
    incus.assert_nothing_left().await;
}
