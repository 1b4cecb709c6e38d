//! Strays: found by label, shown, reaped only as they were seen.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use pika_cloud::OwnedKind;
use pika_runtime::{Destroyed, LabelChange, LeaseChange, VolumeRemoved};
use serde_json::json;

use super::stage::{AgentStage, PROJECT};

pub(super) async fn strays_are_shown_and_reaped(stage: &AgentStage) {
    let known = stage.running("known").await;
    let stray = stage.running("stray").await;
    let labels = json!({
        "user.pika.owner": "somebody-else", "user.pika.kind": "agent",
        "user.pika.instance_name": stage.name("theirs"),
    });
    let theirs = stage.foreign("theirs", labels, false).await;
    let ids = BTreeSet::from([known.id.runtime_id().to_owned()]);
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let look = async || {
        let strays = stage
            .runtimes
            .strays(PROJECT, &ids, OwnedKind::Agent, later);
        strays.await.unwrap()
    };
    let found = look().await;
    let ([instance], [volume]) = (&found.instances[..], &found.volumes[..]) else {
        panic!("{found:?}");
    };
    assert_eq!(instance.instance.id, stray.id);
    assert_eq!(volume.volume.name, stray.volume);
    let an_hour = std::time::Duration::from_secs(3500);
    assert!(
        instance.age > Some(an_hour) && volume.age > Some(an_hour),
        "{found:?}"
    );

    // One of the same name that was made since is another one.
    let mut earlier = instance.clone();
    earlier.instance.created_at = Some("2020-01-01T00:00:00Z".to_owned());
    let end = stage.runtimes.reap_instance(&earlier).await.unwrap();
    assert_eq!(end, Destroyed::Gone);
    assert_eq!(look().await.instances.len(), 1, "it was not touched");
    let end = stage.runtimes.reap_instance(instance).await.unwrap();
    assert_eq!(end, Destroyed::Destroyed);

    // A volume is only shown, until its tombstone says that it may go.
    let reap = async |now: Timestamp| stage.runtimes.reap_volume(PROJECT, volume, now).await;
    assert_eq!(reap(later).await.unwrap(), None);
    let until = LabelChange {
        tombstone: LeaseChange::Until(later.to_string()),
        ..LabelChange::default()
    };
    let buried = stage
        .runtimes
        .relabel_volume(PROJECT, &stage.pool, &stray.volume, |_| Some(until.clone()));
    buried.await.unwrap();
    assert_eq!(reap(Timestamp::now()).await.unwrap(), None);
    assert_eq!(reap(later).await.unwrap(), Some(VolumeRemoved::Removed));
    assert_eq!(reap(later).await.unwrap(), Some(VolumeRemoved::Gone));
    assert_eq!(look().await, Default::default());
    stage.remove_foreign(&theirs).await;
    stage.remove(&known).await;
}
