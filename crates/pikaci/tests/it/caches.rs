//! Caches: what a trusted lane that passed leaves is there for the next run, and nothing else ever is.

use pikahut::daemon::POOL;
use pikahut::stack::TestIncus;

use crate::bench_tree::{Tree, lane};
use crate::gate::{At, Gate, Stop};
use crate::program::{kill, start, until_logged};

pub(crate) const CACHE: &str = "[caches.note]\nguest_path = \"/cache\"\n";
/// Tells what the cache holds, and leaves the tree's file in it.
const SCRIPT: &str = "cat /cache/note 2>/dev/null || echo empty; cp hello.txt /cache/note; ! grep -q fails hello.txt";

/// Volumes of this test's owner.
pub(crate) async fn volumes(incus: &TestIncus) -> Vec<String> {
    let volumes = incus.client().volumes(POOL).await.expect("listed");
    volumes
        .into_iter()
        .filter(|volume| volume.config.get("user.pika.owner") == Some(&incus.owner()))
        .map(|volume| volume.name)
        .collect()
}

pub(crate) async fn remove_volumes(incus: &TestIncus) {
    for volume in volumes(incus).await {
        let removed = incus.client().delete_volume(POOL, &volume).await;
        removed.expect("nobody uses it");
    }
}

/// Runs the lane with this file in the tree, and tells what its cache held.
async fn held(tree: &Tree, file: &str, arguments: &[&str], code: i32) -> String {
    std::fs::write(tree.root().join("hello.txt"), format!("{file}\n")).expect("written");
    let ended = tree.run(&[&["run", "keeps"], arguments].concat()).await;
    ended.assert_code(code);
    String::from_utf8_lossy(&tree.log("keeps"))
        .trim()
        .to_owned()
}

#[tokio::test]
async fn only_what_a_trusted_lane_left_when_it_passed_is_ever_seen_again() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("keeps", SCRIPT, "caches = [\"note\"]")).await;
    tree.configure(CACHE);
    assert_eq!(held(&tree, "poison", &[], 0).await, "empty");
    assert_eq!(volumes(&incus).await, Vec::<String>::new(), "thrown away");
    assert_eq!(held(&tree, "one", &["--trusted"], 0).await, "empty");
    assert_eq!(held(&tree, "poison", &[], 0).await, "one");
    assert_eq!(held(&tree, "fails", &["--trusted"], 1).await, "one");
    assert_eq!(held(&tree, "two", &["--trusted"], 0).await, "one");
    assert_eq!(held(&tree, "three", &["--trusted"], 0).await, "two");
    assert_eq!(held(&tree, "poison", &[], 0).await, "three");
    assert_eq!(
        volumes(&incus).await.len(),
        2,
        "the newest generation and the one before"
    );
    let listed = tree.run(&["caches", "--output", "json"]).await;
    let listed: serde_json::Value =
        serde_json::from_str(&listed.assert_code(0).stdout).expect("JSON");
    let rows: Vec<_> = listed["caches"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| {
            (
                row["number"].clone(),
                row["state"].clone(),
                row["trust"].clone(),
                row["newest"].clone(),
                row["job"].clone(),
            )
        })
        .collect();
    let row = |number: u64, newest: bool| {
        (
            number.into(),
            "committed".into(),
            "trusted".into(),
            newest.into(),
            "keeps".into(),
        )
    };
    assert_eq!(rows, [row(3, true), row(2, false)]);
    let shown = tree.run(&["caches"]).await;
    let shown = &shown.assert_code(0).stdout;
    assert!(
        shown.contains("newest") && shown.contains("superseded"),
        "{shown}"
    );
    remove_volumes(&incus).await;
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn what_a_killed_run_wrote_to_its_cache_stays_its_own_and_goes_with_its_instance() {
    let incus = TestIncus::shared().await;
    let script = "echo x > /cache/note; echo written; sleep 300";
    let lanes = [
        lane("writes", script, "caches = [\"note\"]"),
        lane("other", "true", ""),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    tree.configure(CACHE);
    let child = start(&tree, &["run", "writes", "--trusted"]);
    until_logged(&tree, "writes", "written").await;
    kill(child).await;
    let killed = tree.newest_id();
    assert_eq!(volumes(&incus).await.len(), 1);
    tree.run(&["run", "other"]).await.assert_code(0);
    assert_eq!(volumes(&incus).await.len(), 1, "it can be taken up");
    tree.run(&["cancel", &killed]).await.assert_code(0);
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_run_that_is_taken_up_keeps_what_its_lanes_left() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("keeps", SCRIPT, "caches = [\"note\"]")).await;
    tree.configure(CACHE);
    let removal = Stop {
        at: At::Request,
        method: "DELETE",
        path: "/1.0/instances/",
        part: "",
    };
    let mut gate = Gate::open(incus.socket(), removal);
    std::fs::write(tree.root().join("hello.txt"), "one\n").expect("written");
    let socket = gate.socket();
    let socket = socket.to_str().expect("text");
    let child = start(&tree, &["run", "keeps", "--trusted", "--socket", socket]);
    gate.stopped().await;
    kill(child).await;
    drop(gate);
    tree.run(&["resume"]).await.assert_code(0);
    assert_eq!(held(&tree, "two", &[], 0).await, "one");
    remove_volumes(&incus).await;
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_lane_of_an_interrupted_run_never_meets_a_cache_that_moved_on() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("holds", "echo ready; sleep 3", ""),
        lane("keeps", SCRIPT, "caches = [\"note\"]\nneeds = [\"holds\"]"),
        lane("leaves", "cp hello.txt /cache/note", "caches = [\"note\"]"),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    tree.configure(CACHE);
    let child = start(&tree, &["run", "keeps"]);
    until_logged(&tree, "holds", "ready").await;
    kill(child).await;
    let (run, id) = (tree.newest_run(), tree.newest_id());
    std::fs::write(tree.root().join("hello.txt"), "other\n").expect("written");
    tree.run(&["run", "leaves", "--trusted"])
        .await
        .assert_code(0);
    let resumed = tree.run(&["resume", &id]).await;
    resumed.assert_code(5);
    assert!(
        resumed.stdout.contains("newer generation"),
        "{}",
        resumed.stdout
    );
    assert!(!run.join("jobs/keeps/log").exists(), "it was not started");
    let holds = std::fs::read_to_string(run.join("jobs/holds/result.json")).expect("there");
    assert!(holds.contains("\"passed\""), "{holds}");
    remove_volumes(&incus).await;
    incus.assert_nothing_left().await;
}
