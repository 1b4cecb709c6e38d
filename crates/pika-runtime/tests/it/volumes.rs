//! Clones, listings and labels of volumes, on a real daemon.

#![expect(
    clippy::print_stdout,
    reason = "what a kill at each moment left is for the reader of a failure"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use pika_cloud::{OwnedKind, Ownership};
use pika_incus::{Client, Pool, VolumeContent};
use pika_runtime::{
    GuestOwner, LabelChange, LeaseChange, NewVolume, OwnedVolume, Relabelled, Runtime, Runtimes,
    VolumeClone, VolumeCloned, VolumeEnsured, VolumeError, VolumeRemoved,
};
use pikahut::stack::{TestIncus, told};
use serde_json::json;
use tokio::runtime::Handle;

use crate::support::{Stage, owner};

const POOL: &str = "default";
const MOUNTED: &str = "/mnt/cache";

fn cache(incus: &TestIncus) -> Ownership {
    Ownership {
        owner: owner(incus),
        kind: OwnedKind::Cache,
        generation: 1,
        guest_role: None,
        deadline: None,
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

impl Stage {
    async fn empty_volume(&self, what: &str, of_caller: &BTreeMap<String, String>) -> String {
        let name = self.incus.name(what);
        let new = NewVolume {
            volume: &name,
            runtime_id: &name,
            ownership: &cache(&self.incus),
            labels: of_caller,
            guest_owner: Some(GuestOwner {
                uid: 1000,
                gid: 1000,
            }),
            size_bytes_max: None,
            snapshots: None,
            with_origin: false,
        };
        let project = self.client().project();
        let made = self.runtimes.ensure_new_volume(project, POOL, &new).await;
        assert_eq!(made.unwrap(), VolumeEnsured::Created);
        name
    }

    /// A running instance with the volume at [`MOUNTED`].
    async fn with_volume(&self, what: &str, volume: &str) -> Runtime {
        let mount = json!([{
            "kind": "cache", "guest_path": MOUNTED, "source": volume, "mode": "read_write", "required": true,
        }]);
        self.ensure(&self.plan_with(what, json!({ "mounts": mount })))
            .await
    }

    /// Runs a script in an instance that has the volume, and removes the instance.
    async fn in_volume(&self, what: &str, volume: &str, script: &str) -> String {
        let runtime = self.with_volume(what, volume).await;
        let output = self
            .sh(runtime.instance_name(), &format!("cd {MOUNTED}; {script}"))
            .await;
        let end = self.runtimes.destroy(&runtime.id).await.unwrap();
        assert!(end.is_absent(), "{end:?}");
        output
    }

    async fn clone_in(
        &self,
        pool: &str,
        source: &str,
        target: &str,
        allow_full_copy: bool,
    ) -> Result<VolumeCloned, VolumeError> {
        let clone = VolumeClone {
            project: self.client().project(),
            pool,
            source,
            source_seen: None,
            target,
            is_new: false,
            runtime_id: "run",
            ownership: &Ownership {
                deadline: Some("2030-01-01T00:00:00Z".to_owned()),
                ..cache(&self.incus)
            },
            labels: &labels(&[("state", "working")]),
            allow_full_copy,
        };
        self.runtimes.clone_volume(&clone).await
    }

    async fn listed(&self) -> Vec<OwnedVolume> {
        let project = self.client().project();
        let listed = self
            .runtimes
            .owned_volumes(project, POOL, OwnedKind::Cache)
            .await;
        listed.unwrap()
    }

    async fn remove_volumes(&self, names: &[&str]) {
        for name in names {
            let project = self.client().project();
            let end = self.runtimes.remove_volume(project, POOL, name).await;
            assert_eq!(end.unwrap(), VolumeRemoved::Removed, "{name}");
        }
        self.incus.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn a_clone_has_the_sources_content_and_owners_and_labels_of_its_own() {
    let stage = Stage::tiny().await;
    let source = stage
        .empty_volume("source", &labels(&[("state", "committed")]))
        .await;
    let script = "mkdir d; echo one >d/f; chmod 640 d/f; ln -s d/f l; stat -c %u:%g .";
    let made = stage.in_volume("fill", &source, script).await;
    assert_eq!(made, "1000:1000\n");
    let target = stage.incus.name("target");
    let cloned = stage.clone_in(POOL, &source, &target, false).await.unwrap();
    assert_eq!(
        (cloned.ensured, cloned.source.as_deref(), cloned.full_copy),
        (VolumeEnsured::Created, Some(source.as_str()), false)
    );
    let look = "stat -c '%n %u:%g %a' . d/f; cat l";
    let expected = stage.in_volume("look", &source, look).await;
    assert!(expected.contains("d/f 0:0 640\none\n"), "{expected}");
    let changed = format!("{look}; echo two >d/f; rm l");
    assert_eq!(stage.in_volume("change", &target, &changed).await, expected);
    assert_eq!(stage.in_volume("again", &source, look).await, expected);

    let listed = stage.listed().await;
    let [of_source, of_target] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert_eq!(
        (of_source.name.as_str(), of_source.deadline.as_deref()),
        (source.as_str(), None)
    );
    assert_eq!(of_source.labels, labels(&[("state", "committed")]));
    assert_eq!(of_target.labels, labels(&[("state", "working")]));
    assert_eq!(of_target.cloned_from.as_deref(), Some(source.as_str()));
    assert_eq!(of_target.deadline.as_deref(), Some("2030-01-01T00:00:00Z"));
    assert!(
        !of_target.unfinished && of_target.used_by.is_empty() && of_target.created_at.is_some()
    );

    // Asked for again it stays, with what was changed in it.
    let again = stage.clone_in(POOL, &source, &target, false).await.unwrap();
    assert_eq!(again.ensured, VolumeEnsured::Existing);
    assert_eq!(stage.in_volume("kept", &target, "cat d/f").await, "two\n");
    stage.remove_volumes(&[&source, &target]).await;
}

#[tokio::test]
async fn a_clone_that_was_never_finished_is_made_again() {
    let stage = Stage::tiny().await;
    let source = stage.empty_volume("source", &labels(&[])).await;
    stage.in_volume("fill", &source, "echo one >f").await;
    let target = stage.empty_volume("target", &labels(&[])).await;
    stage.in_volume("junk", &target, "echo junk >junk").await;
    // As a process leaves it that is killed after the copy was asked for.
    let unfinished = labels(&[("user.pika.unfinished", "true")]);
    stage
        .client()
        .patch_volume(POOL, &target, &unfinished, None)
        .await
        .unwrap();
    assert!(stage.listed().await.iter().any(|volume| volume.unfinished));

    let error = stage
        .clone_in(POOL, &target, &stage.incus.name("third"), false)
        .await
        .unwrap_err();
    assert!(matches!(error, VolumeError::Unfinished { .. }), "{error}");

    let cloned = stage.clone_in(POOL, &source, &target, false).await.unwrap();
    assert_eq!(cloned.ensured, VolumeEnsured::Created);
    assert_eq!(stage.in_volume("look", &target, "ls").await, "f\n");
    assert!(stage.listed().await.iter().all(|volume| !volume.unfinished));
    stage.remove_volumes(&[&source, &target]).await;
}

#[tokio::test]
async fn what_is_not_ours_is_neither_cloned_nor_replaced_nor_labelled() {
    let stage = Stage::tiny().await;
    let (ours, theirs) = (
        stage.empty_volume("ours", &labels(&[])).await,
        stage.incus.name("theirs"),
    );
    // A copy made by hand: our owner, and the name of another volume.
    let config = labels(&[
        ("user.pika.owner", &stage.incus.owner()),
        ("user.pika.instance_name", &ours),
        ("user.pika.kind", "cache"),
    ]);
    stage
        .client()
        .create_volume(POOL, &theirs, VolumeContent::Filesystem, &config)
        .await
        .unwrap();
    let before = stage.client().volume(POOL, &theirs).await.unwrap();
    let not_ours = |error: VolumeError| match error {
        VolumeError::NotOurs { volume, .. } => assert_eq!(volume, theirs),
        other => panic!("{other}"),
    };
    not_ours(
        stage
            .clone_in(POOL, &theirs, &stage.incus.name("new"), false)
            .await
            .unwrap_err(),
    );
    not_ours(
        stage
            .clone_in(POOL, &ours, &theirs, false)
            .await
            .unwrap_err(),
    );
    let project = stage.client().project();
    let change = |_: &OwnedVolume| Some(LabelChange::default());
    not_ours(
        stage
            .runtimes
            .relabel_volume(project, POOL, &theirs, change)
            .await
            .unwrap_err(),
    );
    not_ours(
        stage
            .runtimes
            .remove_volume(project, POOL, &theirs)
            .await
            .unwrap_err(),
    );
    assert_eq!(stage.listed().await.len(), 1);
    let after = stage.client().volume(POOL, &theirs).await.unwrap();
    assert_eq!(after.etag, before.etag);

    let missing = stage
        .clone_in(
            POOL,
            &stage.incus.name("nothing"),
            &stage.incus.name("new"),
            false,
        )
        .await
        .unwrap_err();
    assert!(matches!(missing, VolumeError::Missing { .. }), "{missing}");
    stage.client().delete_volume(POOL, &theirs).await.unwrap();
    stage.remove_volumes(&[&ours]).await;
}

#[tokio::test]
async fn a_pool_that_would_copy_every_byte_is_refused_unless_that_is_allowed() {
    let stage = Stage::tiny().await;
    let project = stage.client().project();
    let pool = stage.incus.name("plain");
    stage
        .client()
        .create_pool(&pool, "dir", &labels(&[]))
        .await
        .unwrap();
    let names = [stage.incus.name("one"), stage.incus.name("two")];
    let [source, target] = &names;
    stage
        .runtimes
        .ensure_volume(project, &pool, source, "run", &cache(&stage.incus))
        .await
        .unwrap();
    let refused = stage
        .clone_in(&pool, source, target, false)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, VolumeError::CloneUnsupported { driver, .. } if driver == "dir"),
        "{refused}"
    );
    assert_eq!(stage.client().volumes(&pool).await.unwrap().len(), 1);
    let copied = stage.clone_in(&pool, source, target, true).await.unwrap();
    assert!(copied.full_copy && copied.ensured == VolumeEnsured::Created);
    assert!(
        !stage
            .runtimes
            .pool_can_clone(&pool)
            .await
            .unwrap()
            .copy_on_write
    );
    assert!(
        stage
            .runtimes
            .pool_can_clone(POOL)
            .await
            .unwrap()
            .copy_on_write
    );
    for name in &names {
        let end = stage.runtimes.remove_volume(project, &pool, name).await;
        assert_eq!(end.unwrap(), VolumeRemoved::Removed);
    }
    remove_pool(stage.client(), &pool).await;
    stage.incus.assert_nothing_left().await;
}

async fn remove_pool(client: &Client, pool: &str) {
    client.delete_pool(pool).await.unwrap();
    let left: Vec<Pool> = client.pools().await.unwrap();
    assert!(left.iter().all(|found| found.name != pool));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_that_were_changed_in_between_are_read_and_decided_again() {
    let stage = Stage::tiny().await;
    let volume = stage
        .empty_volume("volume", &labels(&[("state", "free")]))
        .await;
    let take = |by: &str| LabelChange {
        labels: BTreeMap::from([
            ("state".to_owned(), Some("taken".to_owned())),
            ("by".to_owned(), Some(by.to_owned())),
        ]),
        generation: Some(7),
        lease: LeaseChange::Until("2030-01-01T00:00:00Z".to_owned()),
        ..LabelChange::default()
    };
    let relabel = async |decide: &dyn Fn(&OwnedVolume) -> Option<LabelChange>| {
        let project = stage.client().project();
        let relabelled = stage
            .runtimes
            .relabel_volume(project, POOL, &volume, decide)
            .await;
        relabelled.unwrap()
    };
    let is_free = |seen: &OwnedVolume| seen.labels["state"] == "free";
    let decided = AtomicUsize::new(0);
    let slower = relabel(&|seen| {
        // Another process comes first, after this one has read and before it writes.
        if decided.fetch_add(1, Ordering::Relaxed) == 0 {
            let decide = |seen: &OwnedVolume| is_free(seen).then(|| take("the quicker"));
            let quicker = relabel(&decide);
            let ended = tokio::task::block_in_place(|| Handle::current().block_on(quicker));
            assert!(matches!(ended, Relabelled::Changed(_)), "{ended:?}");
        }
        is_free(seen).then(|| take("the slower"))
    })
    .await;
    assert!(matches!(slower, Relabelled::Unchanged(_)), "{slower:?}");
    assert_eq!(decided.into_inner(), 2);
    let now = &stage.listed().await[0];
    assert_eq!(now.labels["by"], "the quicker");
    assert_eq!(
        (now.generation, now.deadline.as_deref()),
        (7, Some("2030-01-01T00:00:00Z"))
    );
    let removal = LabelChange {
        labels: BTreeMap::from([("by".to_owned(), None)]),
        lease: LeaseChange::Remove,
        ..LabelChange::default()
    };
    let changed = relabel(&|_| Some(removal.clone())).await;
    assert!(matches!(changed, Relabelled::Changed(_)));
    let now = &stage.listed().await[0];
    assert_eq!(
        (&now.labels, &now.deadline),
        (&labels(&[("state", "taken")]), &None)
    );
    stage.remove_volumes(&[&volume]).await;
    let gone = relabel(&|_| Some(removal.clone())).await;
    assert_eq!(gone, Relabelled::Gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_in_the_middle_of_a_clone_leaves_nothing_that_passes_for_whole() {
    const MOMENTS: u32 = 4;
    let incus = TestIncus::private("kv").await;
    let image = incus.tiny_image().await;
    let config = pika_runtime::RuntimeConfig {
        expected_contract_version: None,
        ..crate::support::config(&incus)
    };
    let stage = Stage {
        runtimes: Runtimes::new(incus.client().clone(), config),
        incus,
        image,
    };
    let source = stage.empty_volume("source", &labels(&[])).await;
    let fill =
        "for d in $(seq 200); do mkdir $d; for f in $(seq 10); do echo $d.$f >$d/$f; done; done";
    stage.in_volume("fill", &source, fill).await;
    let begun = std::time::Instant::now();
    let warm = stage.incus.name("warm");
    stage.clone_in(POOL, &source, &warm, false).await.unwrap();
    let whole = begun.elapsed();
    let mut made = vec![source.clone(), warm];
    for number in 0..MOMENTS {
        let target = stage.incus.name(&format!("c{number}"));
        let kill = async {
            tokio::time::sleep(whole * number / MOMENTS).await;
            tokio::task::block_in_place(|| {
                assert!(stage.incus.daemon().kill9_blocking());
                stage.incus.daemon().restart_blocking().unwrap();
            });
        };
        let (first, ()) = tokio::join!(stage.clone_in(POOL, &source, &target, false), kill);
        println!(
            "killed {number}/{MOMENTS} of {whole:?} into a clone: {}",
            first.map_or_else(|error| told(&error), |cloned| format!("{cloned:?}"))
        );
        let second = stage.clone_in(POOL, &source, &target, false).await;
        second.unwrap_or_else(|error| panic!("{number}: {}", told(&error)));
        let count =
            "for f in */*; do [ \"$(cat $f)\" = \"${f%/*}.${f#*/}\" ] && echo $f; done | wc -l";
        let found = stage.in_volume(&format!("l{number}"), &target, count).await;
        assert_eq!(found, "2000\n", "{number}");
        made.push(target);
    }
    let made: Vec<&str> = made.iter().map(String::as_str).collect();
    stage.remove_volumes(&made).await;
}
