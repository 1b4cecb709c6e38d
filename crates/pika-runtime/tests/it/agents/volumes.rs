//! Volumes: snapshots, ways back, settings, the end.

use pika_incus::VolumeContent;
use pika_runtime::{
    LabelChange, LeaseChange, ORIGIN_SNAPSHOT, OwnedVolume, SnapshotExpiry, SnapshotRemoved,
    SnapshotSchedule, VolumeChanged, VolumeEnsured, VolumeError, VolumeRemoved, VolumeRestored,
};

use super::stage::{Agent, AgentStage, PROJECT};

impl AgentStage {
    async fn snapshot(&self, agent: &Agent, name: &str) -> VolumeEnsured {
        let never = SnapshotExpiry::Never;
        self.runtimes
            .snapshot_volume(PROJECT, &self.pool, &agent.volume, name, &never)
            .await
            .unwrap()
    }

    async fn restore(
        &self,
        agent: &Agent,
        snapshot: &str,
        token: &str,
    ) -> Result<VolumeRestored, VolumeError> {
        self.runtimes
            .restore_volume(PROJECT, &self.pool, &agent.volume, snapshot, token)
            .await
    }

    async fn snapshot_names(&self, agent: &Agent) -> Vec<String> {
        let listed = self
            .runtimes
            .list_snapshots(PROJECT, &self.pool, &agent.volume)
            .await;
        let listed = listed.unwrap();
        listed.into_iter().map(|found| found.name).collect()
    }

    async fn volume(&self, agent: &Agent) -> OwnedVolume {
        let kind = pika_cloud::OwnedKind::Agent;
        let listed = self.runtimes.owned_volumes(PROJECT, &self.pool, kind).await;
        let mut listed = listed.unwrap();
        listed.retain(|found| found.name == agent.volume);
        listed.pop().expect("the volume is there")
    }
}

pub(super) async fn a_snapshot_is_put_back_once(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    stage.write(&agent, "one").await;
    assert_eq!(stage.snapshot(&agent, "s1").await, VolumeEnsured::Created);
    stage.write(&agent, "two").await;
    assert_eq!(stage.snapshot(&agent, "s1").await, VolumeEnsured::Existing);
    assert_eq!(stage.snapshot(&agent, "s2").await, VolumeEnsured::Created);
    stage.stop(&agent).await;
    let end = stage.restore(&agent, "s1", "op-1").await.unwrap();
    assert_eq!(end, VolumeRestored::Restored);
    stage.runtimes.start(&agent.id).await.unwrap();
    assert_eq!(stage.read(&agent).await, "one");
    // Asked for again under the same token, it stays as it is, also while the guest runs and has written.
    stage.write(&agent, "three").await;
    let end = stage.restore(&agent, "s1", "op-1").await.unwrap();
    assert_eq!(end, VolumeRestored::AlreadyRestored);
    assert_eq!(stage.read(&agent).await, "three");
    assert_eq!(
        stage.snapshot_names(&agent).await,
        [ORIGIN_SNAPSHOT, "s1", "s2"]
    );
    let seen = stage.volume(&agent).await;
    assert_eq!(seen.restored.as_deref(), Some("op-1"));
    assert_eq!(
        (seen.size_bytes_max, seen.unfinished),
        (Some(64 << 20), false)
    );

    // A later snapshot can be put back too.
    stage.stop(&agent).await;
    let end = stage.restore(&agent, "s2", "op-2").await.unwrap();
    assert_eq!(end, VolumeRestored::Restored);
    let late = stage.restore(&agent, "s1", "op-1").await.unwrap();
    assert_eq!(
        late,
        VolumeRestored::AlreadyRestored,
        "a late request takes nothing back"
    );
    let error = stage.restore(&agent, "s1", "op 1").await.unwrap_err();
    assert!(matches!(error, VolumeError::InvalidToken { .. }), "{error}");
    stage.runtimes.start(&agent.id).await.unwrap();
    assert_eq!(stage.read(&agent).await, "two");
    let remove = async |name: &str| {
        let removed = stage
            .runtimes
            .remove_snapshot(PROJECT, &stage.pool, &agent.volume, name);
        removed.await
    };
    assert_eq!(remove("s1").await.unwrap(), SnapshotRemoved::Removed);
    assert_eq!(remove("s1").await.unwrap(), SnapshotRemoved::Gone);
    let error = remove(ORIGIN_SNAPSHOT).await.unwrap_err();
    assert!(matches!(error, VolumeError::OriginStays { .. }), "{error}");
    assert_eq!(stage.snapshot_names(&agent).await, [ORIGIN_SNAPSHOT, "s2"]);
    stage.remove(&agent).await;
}

pub(super) async fn a_running_guest_is_in_the_way(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    stage.write(&agent, "one").await;
    stage.snapshot(&agent, "s1").await;
    stage.write(&agent, "two").await;
    let error = stage.restore(&agent, "s1", "op").await.unwrap_err();
    let VolumeError::InUse { used_by, .. } = &error else {
        panic!("{error}");
    };
    assert!(used_by[0].contains(agent.id.instance_name()), "{error}");
    let error = stage.restore(&agent, "nope", "op").await.unwrap_err();
    assert!(
        matches!(error, VolumeError::SnapshotMissing { .. }),
        "{error}"
    );
    assert_eq!(stage.read(&agent).await, "two");
    // Without an instance nothing is in the way.
    assert!(stage.runtimes.destroy(&agent.id).await.unwrap().is_absent());
    let end = stage.restore(&agent, "s1", "op").await.unwrap();
    assert_eq!(end, VolumeRestored::Restored);
    stage.ensure(&agent, 2).await;
    assert_eq!(stage.read(&agent).await, "one");
    stage.remove(&agent).await;
}

pub(super) async fn a_volume_is_emptied_and_keeps_its_snapshots(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    assert_eq!(stage.make_volume(&agent).await, VolumeEnsured::Existing);
    stage.write(&agent, "one").await;
    stage.snapshot(&agent, "before-reset").await;
    stage.stop(&agent).await;
    let empty = async |token: &str| {
        let emptied = stage
            .runtimes
            .empty_volume(PROJECT, &stage.pool, &agent.volume, token);
        emptied.await.unwrap()
    };
    assert_eq!(empty("op-1").await, VolumeRestored::Restored);
    assert_eq!(empty("op-1").await, VolumeRestored::AlreadyRestored);
    stage.runtimes.start(&agent.id).await.unwrap();
    assert_eq!(stage.read(&agent).await, "");
    // The guest can write to it again, though the origin was taken before any guest had it.
    stage.write(&agent, "two").await;
    assert_eq!(stage.read(&agent).await, "two");
    stage.stop(&agent).await;
    let end = stage.restore(&agent, "before-reset", "op-2").await.unwrap();
    assert_eq!(end, VolumeRestored::Restored);
    stage.runtimes.start(&agent.id).await.unwrap();
    assert_eq!(stage.read(&agent).await, "one");
    stage.remove(&agent).await;
}

pub(super) async fn snapshots_expire_as_asked(stage: &AgentStage) {
    let agent = stage.agent("agent");
    stage.make_volume(&agent).await;
    let schedule = SnapshotSchedule {
        schedule: Some("@daily".to_owned()),
        expiry: Some("7d".to_owned()),
        pattern: Some("auto-%d".to_owned()),
    };
    let set = stage
        .runtimes
        .set_snapshot_schedule(PROJECT, &stage.pool, &agent.volume, &schedule)
        .await;
    assert_eq!(set.unwrap(), VolumeChanged::Changed);
    let at = "2031-02-03T04:05:06Z";
    let take = async |name: &str, expiry: SnapshotExpiry| {
        let taken =
            stage
                .runtimes
                .snapshot_volume(PROJECT, &stage.pool, &agent.volume, name, &expiry);
        taken.await
    };
    take("a", SnapshotExpiry::At(at.to_owned())).await.unwrap();
    take("b", SnapshotExpiry::OfVolume).await.unwrap();
    take("c", SnapshotExpiry::Never).await.unwrap();
    let error = take("d", SnapshotExpiry::At("tomorrow".to_owned())).await;
    assert!(matches!(error, Err(VolumeError::Incus { .. })), "{error:?}");
    let error = take(ORIGIN_SNAPSHOT, SnapshotExpiry::Never).await;
    assert!(
        matches!(error, Err(VolumeError::OriginStays { .. })),
        "{error:?}"
    );
    let listed = stage
        .runtimes
        .list_snapshots(PROJECT, &stage.pool, &agent.volume)
        .await;
    let listed = listed.unwrap();
    let [origin, a, b, c] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert!(origin.is_origin && origin.expires_at.is_none());
    assert_eq!(a.expires_at.as_deref(), Some(at));
    assert!(b.expires_at.is_some(), "{b:?}");
    assert!(c.expires_at.is_none() && !c.is_origin, "{c:?}");
    assert!(
        listed
            .iter()
            .all(|found| found.seen_complete && found.created_at.is_some())
    );
    stage.remove(&agent).await;
}

pub(super) async fn size_and_schedule_change(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    let resize = async |bytes: u64| {
        let resized = stage
            .runtimes
            .resize_volume(PROJECT, &stage.pool, &agent.volume, bytes);
        resized.await
    };
    assert_eq!(resize(96 << 20).await.unwrap(), VolumeChanged::Changed);
    assert_eq!(resize(96 << 20).await.unwrap(), VolumeChanged::Unchanged);
    let error = resize(4096).await.unwrap_err();
    assert!(
        matches!(error, VolumeError::Shrinks { now: Some(now), .. } if now == 96 << 20),
        "{error}"
    );
    let set = async |schedule: &SnapshotSchedule| {
        let set =
            stage
                .runtimes
                .set_snapshot_schedule(PROJECT, &stage.pool, &agent.volume, schedule);
        set.await
    };
    let daily = SnapshotSchedule {
        schedule: Some("0 3 * * *".to_owned()),
        expiry: Some("3d".to_owned()),
        pattern: None,
    };
    assert_eq!(set(&daily).await.unwrap(), VolumeChanged::Changed);
    assert_eq!(set(&daily).await.unwrap(), VolumeChanged::Unchanged);
    assert_eq!(stage.volume(&agent).await.snapshots, daily);
    let nonsense = SnapshotSchedule {
        schedule: Some("now and then".to_owned()),
        ..SnapshotSchedule::default()
    };
    let error = set(&nonsense).await.unwrap_err();
    assert!(matches!(error, VolumeError::Incus { .. }), "{error}");
    let none = SnapshotSchedule::default();
    assert_eq!(set(&none).await.unwrap(), VolumeChanged::Changed);
    let seen = stage.volume(&agent).await;
    assert_eq!(
        (seen.snapshots, seen.size_bytes_max),
        (none, Some(96 << 20))
    );
    stage.remove(&agent).await;
}

pub(super) async fn a_tombstone_is_set_and_the_volume_purged(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    stage.write(&agent, "last words").await;
    assert!(stage.runtimes.destroy(&agent.id).await.unwrap().is_absent());
    stage.snapshot(&agent, "final").await;
    let bury = |tombstone: LeaseChange| LabelChange {
        tombstone,
        ..LabelChange::default()
    };
    let relabel = async |change: LabelChange| {
        let decide = |_: &OwnedVolume| Some(change.clone());
        let relabelled = stage
            .runtimes
            .relabel_volume(PROJECT, &stage.pool, &agent.volume, decide);
        relabelled.await.unwrap()
    };
    let at = "2030-01-01T00:00:00Z";
    relabel(bury(LeaseChange::Until(at.to_owned()))).await;
    let seen = stage.volume(&agent).await;
    assert_eq!((seen.tombstone.as_deref(), seen.deadline), (Some(at), None));
    // Brought back.
    relabel(bury(LeaseChange::Remove)).await;
    assert_eq!(stage.volume(&agent).await.tombstone, None);
    stage.ensure(&agent, 2).await;
    assert_eq!(stage.read(&agent).await, "last words");
    let purge = async || {
        let removed = stage
            .runtimes
            .remove_volume(PROJECT, &stage.pool, &agent.volume);
        removed.await.unwrap()
    };
    assert!(matches!(purge().await, VolumeRemoved::InUse { .. }));
    assert!(stage.runtimes.destroy(&agent.id).await.unwrap().is_absent());
    assert_eq!(purge().await, VolumeRemoved::Removed, "with its snapshots");
    assert_eq!(purge().await, VolumeRemoved::Gone);
    let error = stage.restore(&agent, "final", "op").await.unwrap_err();
    assert!(matches!(error, VolumeError::Missing { .. }), "{error}");
}

pub(super) async fn what_is_not_ours_stays(stage: &AgentStage) {
    let name = stage.name("theirs");
    let config = [("user.pika.owner", "somebody-else"), ("size", "16MiB")];
    let config = config.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = config.into();
    let kind = VolumeContent::Filesystem;
    stage
        .client
        .create_volume(&stage.pool, &name, kind, &config)
        .await
        .unwrap();
    let theirs = Agent {
        volume: name.clone(),
        ..stage.agent("x")
    };
    let never = SnapshotExpiry::Never;
    let schedule = SnapshotSchedule::default();
    let runtimes = &stage.runtimes;
    let volume = name.as_str();
    let errors = [
        runtimes
            .list_snapshots(PROJECT, &stage.pool, volume)
            .await
            .map(drop),
        runtimes
            .snapshot_volume(PROJECT, &stage.pool, volume, "s", &never)
            .await
            .map(drop),
        runtimes
            .remove_snapshot(PROJECT, &stage.pool, volume, "s")
            .await
            .map(drop),
        stage.restore(&theirs, "s", "op").await.map(drop),
        runtimes
            .empty_volume(PROJECT, &stage.pool, volume, "op")
            .await
            .map(drop),
        runtimes
            .resize_volume(PROJECT, &stage.pool, volume, 32 << 20)
            .await
            .map(drop),
        runtimes
            .set_snapshot_schedule(PROJECT, &stage.pool, volume, &schedule)
            .await
            .map(drop),
        runtimes
            .remove_volume(PROJECT, &stage.pool, volume)
            .await
            .map(drop),
    ];
    for error in errors {
        assert!(
            matches!(error, Err(VolumeError::NotOurs { .. })),
            "{error:?}"
        );
    }
    let now = stage.client.volume(&stage.pool, &name).await.unwrap().value;
    assert_eq!(now.config, config);
    let snapshots = stage
        .client
        .volume_snapshots(&stage.pool, &name)
        .await
        .unwrap();
    assert!(snapshots.is_empty());
    stage
        .client
        .delete_volume(&stage.pool, &name)
        .await
        .unwrap();
}
