//! Caches: what a trusted lane that passed leaves is there for the next run, and nothing else ever is.

use pikahut::daemon::POOL;
use pikahut::stack::TestIncus;
use rustix::process::{Pid, Signal, kill_process};

use crate::bench_tree::{Tree, lane};

const CACHE: &str = "[caches.note]\nguest_path = \"/cache\"\n";
/// Tells what the cache holds, and leaves the tree's file in it.
const SCRIPT: &str = "cat /cache/note 2>/dev/null || echo empty; cp hello.txt /cache/note; ! grep -q fails hello.txt";

/// Volumes of this test's owner.
async fn volumes(incus: &TestIncus) -> Vec<String> {
    let volumes = incus.client().volumes(POOL).await.expect("listed");
    volumes
        .into_iter()
        .filter(|volume| volume.config.get("user.pika.owner") == Some(&incus.owner()))
        .map(|volume| volume.name)
        .collect()
}

async fn remove_volumes(incus: &TestIncus) {
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
    remove_volumes(&incus).await;
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn what_a_killed_run_wrote_to_its_cache_goes_with_its_instance() {
    let incus = TestIncus::shared().await;
    let script = "echo x > /cache/note; echo written; sleep 300";
    let tree = Tree::on(&incus, &lane("writes", script, "caches = [\"note\"]")).await;
    tree.configure(CACHE);
    let child = tree
        .command(&["run", "writes", "--trusted"])
        .spawn()
        .expect("starts");
    let written = pikahut::wait::until_async(std::time::Duration::from_secs(120), || async {
        let log = tree.try_newest_run()?.join("jobs/writes/log");
        let log = std::fs::read_to_string(log).ok()?;
        log.contains("written").then_some(())
    });
    written.await.expect("the lane writes to its cache");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), Signal::KILL).expect("killed");
    child.wait_with_output().expect("waited for");
    assert_eq!(volumes(&incus).await.len(), 1);
    std::fs::write(
        tree.root().join("ci/forge-lanes.toml"),
        format!("version = 1\n{}", lane("other", "true", "")),
    )
    .expect("written");
    tree.run(&["run", "other"]).await.assert_code(0);
    incus.assert_nothing_left().await;
}
