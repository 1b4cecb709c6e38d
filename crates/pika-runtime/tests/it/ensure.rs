//! Ensure: makes it so, changes nothing when it is so, refuses what it may not touch.

use std::sync::{Arc, Mutex};

use pika_cloud::Ownership;
use pika_cloud::labels::{LABEL_DEADLINE, LABEL_OWNER};
use pika_incus::{InstanceStatus, StateChange};
use pika_runtime::{
    EnsureError, EnsureStep, RuntimeId, SnapshotExpiry, StepHook, StepMoment, StepPoint,
    StepVerdict, VolumeEnsured, VolumeError, VolumeRemoved, ensure_points,
};
use serde_json::json;

use crate::support::{LIMIT, Stage, id_of};

#[tokio::test]
async fn a_second_ensure_adopts_what_the_first_made() {
    let stage = Stage::tiny().await;
    let plan = stage.plan("same");
    let first = stage.ensure(&plan).await;
    assert!(first.started_at.is_some());
    let diff = stage.runtimes.diff(&first.resolved).await.unwrap();
    assert_eq!(diff.steps, [EnsureStep::Confirm]);
    let second = stage.ensure(&plan).await;
    assert_eq!(first, second);
    stage.destroy(&first).await;
}

#[tokio::test]
async fn each_ensure_moves_the_lease() {
    let stage = Stage::tiny().await;
    let plan = stage.plan("lease");
    let mut last = None;
    for deadline in [
        Some("2099-01-01T00:00:00Z"),
        Some("2100-01-01T00:00:00Z"),
        None,
    ] {
        let ownership = Ownership {
            deadline: deadline.map(str::to_owned),
            ..stage.ownership()
        };
        let runtime = stage.runtimes.ensure(&plan, &ownership).await.unwrap();
        let client = stage.incus.client();
        let instance = client.instance(runtime.instance_name()).await.unwrap();
        let label = instance.value.config.get(LABEL_DEADLINE);
        assert_eq!(label.map(String::as_str), deadline);
        last = Some(runtime);
    }
    stage.destroy(&last.unwrap()).await;
}

#[tokio::test]
async fn an_instance_of_ours_that_differs_is_refused_and_untouched() {
    let stage = Stage::tiny().await;
    let runtime = stage.ensure(&stage.plan("differs")).await;
    let other = stage.plan_with("differs", json!({ "resources": { "memory_mib": 300 } }));
    let error = stage
        .runtimes
        .ensure(&other, &stage.ownership())
        .await
        .unwrap_err();
    let EnsureError::Differs { differences, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(differences.len(), 1, "{differences:?}");
    assert!(
        error
            .to_string()
            .contains("config.limits.memory: nothing instead of 300MiB"),
        "{error}"
    );
    assert_eq!(
        stage.status(runtime.instance_name()).await,
        InstanceStatus::Running
    );
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_name_that_is_taken_by_another_is_refused_and_untouched() {
    let stage = Stage::tiny().await;
    let name = stage
        .foreign("taken", json!({ LABEL_OWNER: "somebody-else" }), true)
        .await;
    let error = stage
        .runtimes
        .ensure(&stage.plan("taken"), &stage.ownership())
        .await
        .unwrap_err();
    assert!(matches!(error, EnsureError::NotOurs { .. }), "{error}");
    assert_eq!(stage.status(&name).await, InstanceStatus::Running);
    stage.remove_foreign(&name).await;
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn debris_of_an_interrupted_create_is_made_anew() {
    let stage = Stage::tiny().await;
    let plan = stage.plan("debris");
    let mut resolved = stage
        .runtimes
        .resolve(&plan, &stage.ownership())
        .await
        .unwrap();
    resolved.create_body["start"] = json!(false);
    stage
        .client()
        .create_instance(&resolved.create_body)
        .await
        .unwrap()
        .wait(LIMIT)
        .await
        .unwrap();
    let before = stage
        .client()
        .instance(id_of(&plan).instance_name())
        .await
        .unwrap()
        .value;
    let runtime = stage.ensure(&plan).await;
    let after = stage
        .client()
        .instance(runtime.instance_name())
        .await
        .unwrap()
        .value;
    assert_ne!(
        before.created_at, after.created_at,
        "it was started instead of made anew"
    );
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn an_instance_that_ended_stays_so_or_starts_by_its_restart_policy() {
    let stage = Stage::tiny().await;
    let never = stage.plan("ended");
    let runtime = stage.ensure(&never).await;
    stage
        .runtimes
        .stop(&runtime.id, std::time::Duration::ZERO)
        .await
        .unwrap();
    let error = stage
        .runtimes
        .ensure(&never, &stage.ownership())
        .await
        .unwrap_err();
    assert!(matches!(error, EnsureError::Ended { .. }), "{error}");

    let always = stage.plan_with(
        "ended",
        json!({ "policies": { "restart_policy": "always" } }),
    );
    let again = stage.ensure(&always).await;
    assert_ne!(again.started_at, runtime.started_at);
    stage
        .change(again.instance_name(), StateChange::freeze())
        .await;
    let thawed = stage.ensure(&always).await;
    assert_eq!(thawed.started_at, again.started_at);
    stage.runtimes.restart(&again.id).await.unwrap();
    let restarted = stage.ensure(&always).await;
    assert_ne!(restarted.started_at, again.started_at);
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn mounts_are_there_and_one_below_run_is_attached_after_the_boot() {
    let stage = Stage::tiny().await;
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("marker"), "here").unwrap();
    let mount = |path: &str, mode: &str| json!({ "kind": "cache", "guest_path": path, "source": source.path(), "mode": mode, "required": true });
    let mounts =
        json!({ "mounts": [mount("/mnt/source", "read_only"), mount("/run/late", "read_write")] });
    // The image's init makes no tmpfs, so the test does what systemd would.
    let plan = stage.plan_with("mounts", mounts);
    let runtimes = stage.runtimes.clone();
    let ownership = stage.ownership();
    let ensuring = tokio::spawn(async move { runtimes.ensure(&plan, &ownership).await });
    let name = stage.incus.name("mounts");
    crate::support::until("the instance", async || {
        stage
            .client()
            .instance(&name)
            .await
            .is_ok_and(|found| found.value.status.is_running())
    })
    .await;
    stage.sh(&name, "mount -t tmpfs none /run").await;
    let runtime = ensuring.await.unwrap().unwrap();
    assert_eq!(
        stage
            .sh(&name, "cat /mnt/source/marker /run/late/marker")
            .await,
        "herehere"
    );
    let readonly = stage.sh(&name, "touch /mnt/source/x 2>&1 || true").await;
    assert!(readonly.contains("Read-only"), "{readonly}");
    let again = stage
        .runtimes
        .ensure(&runtime.resolved.plan, &stage.ownership())
        .await
        .unwrap();
    assert_eq!(again, runtime);
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_missing_source_is_an_error_where_it_is_required_and_left_out_where_not() {
    let stage = Stage::tiny().await;
    let mounts = |required: bool| {
        json!({ "mounts": [
            { "kind": "cache", "guest_path": "/mnt/a", "source": "/nowhere/at/all", "mode": "read_write", "required": required },
        ] })
    };
    let error = stage
        .runtimes
        .ensure(&stage.plan_with("m", mounts(true)), &stage.ownership())
        .await
        .unwrap_err();
    let text = pikahut::stack::told(&error);
    assert!(
        text.contains("/nowhere/at/all") && text.contains("required = false"),
        "{text}"
    );
    let runtime = stage.ensure(&stage.plan_with("m", mounts(false))).await;
    assert_eq!(runtime.resolved.left_out_mounts.len(), 1);
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_volume_is_made_once_mounted_snapshot_and_removed_only_unused() {
    let stage = Stage::tiny().await;
    let (project, volume) = (stage.client().project(), stage.incus.name("cache"));
    let ownership = stage.ownership();
    let made = || {
        stage
            .runtimes
            .ensure_volume(project, "default", &volume, "cache-1", &ownership)
    };
    let pool = stage.client().pools().await.unwrap()[0].name.clone();
    assert_eq!(pool, "default", "the test daemon's pool");
    assert_eq!(made().await.unwrap(), VolumeEnsured::Created);
    assert_eq!(made().await.unwrap(), VolumeEnsured::Existing);
    let mounts = json!({ "mounts": [
        { "kind": "cache", "guest_path": "/cargo-home", "source": volume, "mode": "read_write", "required": true },
    ] });
    let runtime = stage.ensure(&stage.plan_with("vol", mounts)).await;
    stage
        .sh(runtime.instance_name(), "echo kept > /cargo-home/file")
        .await;
    stage
        .runtimes
        .snapshot_volume(project, &pool, &volume, "one", &SnapshotExpiry::Never)
        .await
        .unwrap();
    stage
        .runtimes
        .snapshot_volume(project, &pool, &volume, "one", &SnapshotExpiry::Never)
        .await
        .unwrap();
    assert_eq!(
        stage
            .client()
            .volume_snapshots(&pool, &volume)
            .await
            .unwrap()
            .len(),
        1
    );
    let used = stage
        .runtimes
        .remove_volume(project, &pool, &volume)
        .await
        .unwrap();
    assert!(matches!(used, VolumeRemoved::InUse { .. }), "{used:?}");
    let end = stage.runtimes.destroy(&runtime.id).await.unwrap();
    assert!(end.is_absent(), "{end:?}");
    assert_eq!(
        stage
            .runtimes
            .remove_volume(project, &pool, &volume)
            .await
            .unwrap(),
        VolumeRemoved::Removed
    );
    assert_eq!(
        stage
            .runtimes
            .remove_volume(project, &pool, &volume)
            .await
            .unwrap(),
        VolumeRemoved::Gone
    );

    stage
        .client()
        .create_volume(
            &pool,
            &volume,
            pika_incus::VolumeContent::Filesystem,
            &Default::default(),
        )
        .await
        .unwrap();
    let refused = stage
        .runtimes
        .remove_volume(project, &pool, &volume)
        .await
        .unwrap_err();
    assert!(matches!(refused, VolumeError::NotOurs { .. }), "{refused}");
    stage.client().delete_volume(&pool, &volume).await.unwrap();
    stage.incus.assert_nothing_left().await;
}

/// Stops at one point.
struct CrashAt(StepPoint, StepMoment, Mutex<u32>);

impl StepHook for CrashAt {
    fn reached(&self, point: StepPoint, moment: StepMoment) -> StepVerdict {
        if (point, moment) != (self.0, self.1) {
            return StepVerdict::Continue;
        }
        *self.2.lock().unwrap() += 1;
        StepVerdict::Abandon
    }
}

#[tokio::test]
async fn a_crash_around_the_create_is_finished_by_one_further_pass() {
    let stage = Stage::tiny().await;
    for point in ensure_points()
        .into_iter()
        .filter(|point| ["create", "confirm"].contains(&point.name))
    {
        for moment in [StepMoment::Before, StepMoment::After] {
            let plan = stage.plan("crash");
            let hook = Arc::new(CrashAt(point, moment, Mutex::new(0)));
            let crashing = stage.runtimes.clone().with_hook(hook.clone());
            let error = crashing
                .ensure(&plan, &stage.ownership())
                .await
                .unwrap_err();
            assert!(
                matches!(error, EnsureError::Abandoned { point: at } if at == point),
                "{error}"
            );
            assert_eq!(*hook.2.lock().unwrap(), 1);
            let runtime = stage.ensure(&plan).await;
            stage.destroy(&runtime).await;
        }
    }
}

#[tokio::test]
async fn inspect_shows_instance_labels_and_that_the_guest_said_nothing() {
    let stage = Stage::tiny().await;
    let runtime = stage
        .ensure(&stage.plan_with("look", json!({ "labels": { "team": "blue" } })))
        .await;
    let seen = stage.runtimes.inspect(&runtime.id).await.unwrap();
    assert_eq!(seen.labels["team"], "blue");
    assert_eq!(seen.state, pika_cloud::LifecycleState::Booted);
    let gone = RuntimeId::new("none", &stage.incus.name("none"), runtime.project());
    assert_eq!(
        stage.runtimes.inspect(&gone).await.unwrap().state,
        pika_cloud::LifecycleState::Destroyed
    );
    stage.destroy(&runtime).await;
}
