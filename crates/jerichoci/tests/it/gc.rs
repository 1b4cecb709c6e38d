//! What ended runs left, removed on a real daemon.

use jerichoci::cache::Trust;
use jerichoci::engine::{Engine, GarbageKind};
use jerichoci::operator::OperatorConfig;
use jerichoci::snapshot::take_snapshot;

use crate::cache_stage::Stage;
use crate::git_tree::GitTree;

/// Snapshots that stay for later runs.
const SNAPSHOTS_KEPT: usize = 5;

#[tokio::test]
async fn leases_that_are_over_old_generations_and_old_snapshots_go_and_the_rest_stays() {
    let stage = Stage::new().await;
    let tree = GitTree::new();
    for number in 0..=SNAPSHOTS_KEPT {
        tree.write("file", &format!("{number}"));
        take_snapshot(&tree.repository(), &tree.root().join(".pikaci/snapshots")).unwrap();
    }
    let now = jiff::Timestamp::now();
    for number in 1..=3 {
        let at = now - jiff::SignedDuration::from_mins(10 - i64::from(number));
        stage.generation(number, &at.to_string()).await;
    }
    let living = stage.job(4, Trust::Untrusted);
    stage.prepare(&living).await;
    let mut dead = stage.job(5, Trust::Untrusted);
    dead.deadline = now - jiff::SignedDuration::from_mins(1);
    stage.prepare(&dead).await;

    let source = format!(
        "[incus]\nsocket = {:?}\nproject = {:?}\nowner = {:?}\npool = \"default\"\n[caches.target]\nguest_path = \"/t\"\n",
        stage.incus.socket(),
        stage.caches.project,
        stage.incus.owner()
    );
    let operator = OperatorConfig::parse("c", &source).unwrap();
    let engine = Engine::new(tree.repository(), operator).unwrap();
    let report = engine.gc().await;
    assert_eq!(report.problems, [""; 0]);
    let names = |kind| {
        let of_kind = report.removed.iter().filter(|one| one.kind == kind);
        of_kind.map(|one| one.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(GarbageKind::Volume), [dead.volume()]);
    let oldest = stage.job(1, Trust::Trusted).volume();
    assert_eq!(names(GarbageKind::CacheGeneration), [oldest]);
    assert_eq!(names(GarbageKind::Snapshot).len(), 1);
    let left = stage.caches.list().await.unwrap();
    assert_eq!(
        left.len(),
        3,
        "two generations and a living job's: {left:?}"
    );
    let again = engine.gc().await;
    assert!(again.removed.is_empty(), "{:?}", again.removed);
    stage.remove_all("default").await;
}
