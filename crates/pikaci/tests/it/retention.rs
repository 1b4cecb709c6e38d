//! What is removed when: `gc` and `prune`.

use jerichoci::record::{PrunePolicy, RunId, RunStore};
use pikahut::stack::TestIncus;
use rustix::process::Signal;
use serde_json::Value;

use crate::bench_tree::{Tree, lane, without_daemon};
use crate::durability::expire;
use crate::program::{send, start, until_logged};
use crate::written_run::{at, plan, selection, write_run};

/// Runs that began on these days of November, settled.
fn write_runs(tree: &Tree, days: &[u8]) -> Vec<RunId> {
    let template = write_run(tree, selection());
    let record = template.read().expect("read");
    std::fs::remove_dir_all(template.dir()).expect("removed");
    let store = RunStore::at(&tree.root());
    let write = |day: &u8| {
        let mut record = record.clone();
        record.run_id = RunId::new(at(&format!("2026-11-{day:02}T09:15:00Z")), 7);
        store.create_run(&record, &plan()).expect("made");
        store.settle(&record.run_id).expect("settled");
        record.run_id
    };
    days.iter().map(write).collect()
}

fn there(tree: &Tree) -> Vec<String> {
    let store = RunStore::at(&tree.root());
    let runs = store.runs().expect("listed").into_iter();
    runs.map(|run| run.id.to_string()[6..8].to_owned())
        .collect()
}

#[tokio::test]
async fn prune_keeps_what_any_rule_keeps() {
    let tree = without_daemon(&lane("code", "true", ""));
    tree.run(&["prune"]).await.assert_code(2);
    tree.run(&["prune", "--older-than", "soon"])
        .await
        .assert_code(2);
    write_runs(&tree, &[1, 2, 3, 4]);
    let dry = tree.run(&["prune", "--keep", "1", "--dry-run"]).await;
    let told = &dry.assert_code(0).stdout;
    assert!(
        told.contains("would remove 3 runs,") && told.ends_with("; 1 kept\n"),
        "{told}"
    );
    assert_eq!(there(&tree), ["04", "03", "02", "01"]);
    // Younger than a hundred years are all of them.
    let all_young = ["prune", "--keep", "1", "--older-than", "36500d"];
    tree.run(&all_young).await.assert_code(0);
    assert_eq!(there(&tree).len(), 4);
    let pruned = tree
        .run(&[
            "prune",
            "--keep",
            "2",
            "--older-than",
            "1s",
            "--output",
            "json",
        ])
        .await;
    let document: Value = serde_json::from_str(&pruned.assert_code(0).stdout).expect("a document");
    assert_eq!(document["removed"][0]["run_id"], "20261102-091500-000007");
    assert!(document["bytes"].as_u64() > Some(0), "{document}");
    assert_eq!(there(&tree), ["04", "03"]);
    let left = std::fs::read_dir(tree.root().join(".pikaci/runs")).expect("listed");
    assert_eq!(left.count(), 2, "nothing is left of the others");
}

#[tokio::test]
async fn prune_never_takes_a_run_in_progress_or_one_that_left_something() {
    let tree = without_daemon(&lane("code", "true", ""));
    let runs = write_runs(&tree, &[1, 2]);
    let store = RunStore::at(&tree.root());
    let living = store.find(Some(runs[0].as_str())).expect("there");
    let lock = living.try_drive().expect("asked").expect("free");
    let pruned = tree.run(&["prune", "--keep", "0"]).await;
    pruned.assert_code(0);
    assert!(
        pruned
            .stderr
            .contains("run 20261101-091500-000007 stays: it is in progress"),
        "{}",
        pruned.stderr
    );
    assert_eq!(there(&tree), ["01"]);
    drop(lock);
    let mut record = living.read().expect("read");
    record.run_id = RunId::new(at("2026-11-03T09:15:00Z"), 7);
    store
        .create_run(&record, &plan())
        .expect("made, and not settled");
    let policy = PrunePolicy {
        keep: Some(0),
        younger_than: None,
    };
    let now = at("2026-11-26T00:00:00Z");
    let report = store.prune(&policy, now, false).expect("pruned");
    assert_eq!(report.left[0].run_id, record.run_id);
    assert!(
        report.left[0].why.contains("left something in Incus"),
        "{report:?}"
    );
    assert_eq!(there(&tree), ["03"]);
}

#[tokio::test]
async fn gc_removes_artifacts_whose_time_is_over_and_keeps_their_record() {
    let tree = without_daemon(&lane("code", "true", ""));
    let run = crate::results::write_results(&tree);
    let code = run.job("code");
    let mut record = code.read_artifacts().expect("read").expect("there");
    record.expires_at = Some(at("2026-11-22T00:00:00Z"));
    code.write_artifacts(&record).expect("written");
    std::fs::create_dir(code.artifacts_dir()).expect("made");
    std::fs::write(code.artifacts_dir().join("junit.xml"), "x").expect("written");
    let gc = tree.run(&["gc"]).await;
    // Incus does not answer, which keeps nothing else from being done, and is told.
    gc.assert_code(3);
    assert!(
        gc.stdout
            .contains("removed     2.0 KiB  artifacts  20261121-091500-000007/code\n"),
        "{}",
        gc.stdout
    );
    assert!(gc.stderr.contains("can't be listed"), "{}", gc.stderr);
    assert!(!code.artifacts_dir().exists());
    let listed = tree.run(&["artifacts"]).await;
    let shown = &listed.assert_code(0).stdout;
    assert!(
        shown.contains("removed on") && shown.contains("sha256:ba7816bf8f01cfea"),
        "{shown}"
    );
    let again = tree.run(&["gc"]).await;
    assert!(
        again.stdout.contains("nothing to remove"),
        "{}",
        again.stdout
    );
}

#[tokio::test]
async fn gc_removes_what_a_killed_run_left_once_its_lease_is_over() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("one", "echo ready; sleep 600", "")).await;
    let nothing = tree.run(&["gc"]).await;
    assert_eq!(nothing.assert_code(0).stdout, "nothing to remove\n");
    let mut child = start(&tree, &["run", "one"]);
    until_logged(&tree, "one", "ready").await;
    send(&child, Signal::KILL);
    child.wait().await.expect("waited for");
    let offered = tree.run(&["gc"]).await;
    assert_eq!(offered.assert_code(0).stdout, "nothing to remove\n");
    assert!(
        offered.stderr.contains("pikaci resume"),
        "{}",
        offered.stderr
    );
    expire(&tree.newest_run(), "one");
    let gc = tree.run(&["gc"]).await;
    gc.assert_code(0);
    assert!(
        gc.stderr.contains("1 instance was left and is removed"),
        "{}",
        gc.stderr
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_page_of_the_manual_for_each_command() {
    let tree = without_daemon("");
    tree.run(&["man", "pages"]).await.assert_code(0);
    let page = std::fs::read_to_string(tree.root().join("pages/pikaci-prune.1")).expect("there");
    assert!(page.contains(".TH") && page.contains("older"), "{page}");
    assert!(tree.root().join("pages/pikaci.1").exists());
}
