//! Destroy: repeatable on whatever is there, only what is ours, always an answer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pika_cloud::labels::{LABEL_INSTANCE_NAME, LABEL_OWNER, LABEL_RUNTIME_ID};
use pika_incus::{InstanceStatus, StateChange};
use pika_runtime::{
    DestroyError, Destroyed, RuntimeConfig, Runtimes, StepHook, StepMoment, StepPoint, StepVerdict,
    Timeouts, destroy_points,
};
use serde_json::json;

use crate::support::{Stage, config, id_of, until};

#[tokio::test]
async fn a_running_instance_is_destroyed_and_then_gone() {
    let stage = Stage::tiny().await;
    let runtime = stage.ensure(&stage.plan("run")).await;
    assert_eq!(
        stage.runtimes.destroy(&runtime.id).await.unwrap(),
        Destroyed::Destroyed
    );
    assert_eq!(
        stage.runtimes.destroy(&runtime.id).await.unwrap(),
        Destroyed::Gone
    );
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn what_was_never_there_is_gone() {
    let stage = Stage::tiny().await;
    assert_eq!(
        stage
            .runtimes
            .destroy(&id_of(&stage.plan("no")))
            .await
            .unwrap(),
        Destroyed::Gone
    );
}

#[tokio::test]
async fn a_frozen_instance_is_destroyed() {
    let stage = Stage::tiny().await;
    let runtime = stage.ensure(&stage.plan("frozen")).await;
    stage
        .change(runtime.instance_name(), StateChange::freeze())
        .await;
    assert_eq!(
        stage.status(runtime.instance_name()).await,
        InstanceStatus::Frozen
    );
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn an_instance_that_stops_itself_meanwhile_is_destroyed() {
    let stage = Stage::tiny().await;
    let runtime = stage.ensure(&stage.plan("self")).await;
    // Its init ends with this: Incus says "stopped" a while before it lets go of the instance.
    stage.end_init(runtime.instance_name()).await;
    until("the stop", async || {
        stage.status(runtime.instance_name()).await == InstanceStatus::Stopped
    })
    .await;
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn what_was_seen_running_is_destroyed_whatever_became_of_it_since() {
    let stage = Stage::tiny().await;
    for (what, change) in [
        ("as-seen", None),
        ("frozen-since", Some(StateChange::freeze())),
        ("stopped-since", Some(StateChange::force_stop())),
    ] {
        let runtime = stage.ensure(&stage.plan(what)).await;
        let seen = Instant::now();
        if let Some(change) = change {
            stage.change(runtime.instance_name(), change).await;
        }
        let end = stage.runtimes.destroy_seen(&runtime.id, seen).await;
        assert_eq!(end.unwrap(), Destroyed::Destroyed, "{what}");
        let again = stage.runtimes.destroy_seen(&runtime.id, seen).await;
        assert_eq!(again.unwrap(), Destroyed::Gone, "{what}");
    }
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn what_a_create_without_a_start_left_is_destroyed_and_never_started() {
    let stage = Stage::tiny().await;
    let plan = stage.plan("half");
    let mut resolved = stage
        .runtimes
        .resolve(&plan, &stage.ownership())
        .await
        .unwrap();
    resolved.create_body["start"] = json!(false);
    let handle = stage
        .client()
        .create_instance(&resolved.create_body)
        .await
        .unwrap();
    handle.wait(crate::support::LIMIT).await.unwrap();
    assert!(
        stage
            .client()
            .instance(id_of(&plan).instance_name())
            .await
            .unwrap()
            .value
            .never_started()
    );
    assert_eq!(
        stage.runtimes.destroy(&id_of(&plan)).await.unwrap(),
        Destroyed::Destroyed
    );
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn an_instance_that_is_being_created_is_destroyed() {
    let stage = Stage::tiny().await;
    let plan = stage.plan("making");
    let resolved = stage
        .runtimes
        .resolve(&plan, &stage.ownership())
        .await
        .unwrap();
    let handle = stage
        .client()
        .create_instance(&resolved.create_body)
        .await
        .unwrap();
    let end = stage.runtimes.destroy(&id_of(&plan)).await.unwrap();
    // The create may not have written its record yet when the destroy looked.
    drop(handle.wait(crate::support::LIMIT).await);
    let then = stage.runtimes.destroy(&id_of(&plan)).await.unwrap();
    assert!(
        end.is_absent() && then.is_absent(),
        "{end:?}, then {then:?}"
    );
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn two_destroys_at_once_both_end_absent() {
    let stage = Stage::tiny().await;
    let runtime = stage.ensure(&stage.plan("twice")).await;
    let (one, two) = tokio::join!(
        stage.runtimes.destroy(&runtime.id),
        stage.runtimes.destroy(&runtime.id)
    );
    assert!(
        one.as_ref().unwrap().is_absent() && two.as_ref().unwrap().is_absent(),
        "{one:?} {two:?}"
    );
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_untouched() {
    let stage = Stage::tiny().await;
    let id = id_of(&stage.plan("theirs"));
    for (config, why) in [
        (json!({}), "no owner label"),
        (
            json!({ LABEL_OWNER: "somebody-else", LABEL_INSTANCE_NAME: id.instance_name(), LABEL_RUNTIME_ID: id.runtime_id() }),
            "somebody-else",
        ),
        (
            json!({ LABEL_OWNER: stage.incus.owner(), LABEL_INSTANCE_NAME: "the-original", LABEL_RUNTIME_ID: id.runtime_id() }),
            "it is a copy",
        ),
        (
            json!({ LABEL_OWNER: stage.incus.owner(), LABEL_INSTANCE_NAME: id.instance_name(), LABEL_RUNTIME_ID: "another" }),
            "another",
        ),
    ] {
        let name = stage.foreign("theirs", config, true).await;
        let error = stage.runtimes.destroy(&id).await.unwrap_err();
        let DestroyError::NotOurs { reason, .. } = &error;
        assert!(reason.contains(why), "{reason}");
        assert!(
            error.to_string().contains("incus delete --force"),
            "{error}"
        );
        assert_eq!(stage.status(&name).await, InstanceStatus::Running);
        stage.remove_foreign(&name).await;
    }
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_copy_of_ours_is_not_ours() {
    let stage = Stage::tiny().await;
    let runtime = stage.ensure(&stage.plan("first")).await;
    stage
        .change(runtime.instance_name(), StateChange::force_stop())
        .await;
    let name = stage.incus.name("copy");
    let body =
        json!({ "name": name, "source": { "type": "copy", "source": runtime.instance_name() } });
    stage
        .client()
        .create_instance(&body)
        .await
        .unwrap()
        .wait(crate::support::LIMIT)
        .await
        .unwrap();
    let copied = stage.client().instance(&name).await.unwrap().value;
    assert_eq!(
        copied.config.get(LABEL_OWNER),
        Some(&stage.incus.owner()),
        "Incus copies labels"
    );

    let id = pika_runtime::RuntimeId::new(runtime.id.runtime_id(), &name, runtime.project());
    let error = stage.runtimes.destroy(&id).await.unwrap_err();
    assert!(error.to_string().contains("it is a copy"), "{error}");
    stage.remove_foreign(&name).await;
    stage.destroy(&runtime).await;
}

/// Stops at one point of one operation.
struct CrashAt(StepPoint, StepMoment, Mutex<u32>);

impl StepHook for CrashAt {
    fn reached(&self, point: StepPoint, moment: StepMoment) -> StepVerdict {
        if point != self.0 || moment != self.1 {
            return StepVerdict::Continue;
        }
        *self.2.lock().unwrap() += 1;
        StepVerdict::Abandon
    }
}

#[tokio::test]
async fn a_crash_at_any_step_is_finished_by_one_further_pass() {
    let stage = Stage::tiny().await;
    // The first step waits for somebody else's operation, which a running instance doesn't have.
    for point in destroy_points().into_iter().skip(1) {
        for moment in [StepMoment::Before, StepMoment::After] {
            let runtime = stage.ensure(&stage.plan("crash")).await;
            let hook = Arc::new(CrashAt(point, moment, Mutex::new(0)));
            let crashing = stage.runtimes.clone().with_hook(hook.clone());
            let end = crashing.destroy(&runtime.id).await.unwrap();
            assert!(
                matches!(end, Destroyed::Unknown { .. }),
                "{point} {moment:?}: {end:?}"
            );
            assert_eq!(*hook.2.lock().unwrap(), 1, "{point} was not reached");
            stage.destroy(&runtime).await;
        }
    }
}

#[tokio::test]
async fn an_instance_that_resists_ends_stuck_with_the_operators_command() {
    let stage = Stage::tiny().await;
    let plan = stage.plan_with("protected", json!({}));
    let runtime = stage.ensure(&plan).await;
    let name = runtime.instance_name();
    let patch = json!({ "config": { "security.protection.delete": "true" } });
    stage.client().patch_instance(name, &patch).await.unwrap();

    let before = Instant::now();
    let end = stage.runtimes.destroy(&runtime.id).await.unwrap();
    let Destroyed::Stuck { why, remedy } = end else {
        panic!("{end:?}")
    };
    assert!(why.contains("delete"), "{why}");
    assert!(
        remedy.contains(&format!(
            "incus delete --force --project {} {name}",
            runtime.project()
        )),
        "{remedy}"
    );
    assert!(
        before.elapsed() < Duration::from_secs(30),
        "{:?}",
        before.elapsed()
    );

    let patch = json!({ "config": { "security.protection.delete": "" } });
    stage.client().patch_instance(name, &patch).await.unwrap();
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn the_deadline_is_total() {
    let stage = Stage::tiny().await;
    let timeouts = Timeouts {
        destroy_total: Duration::ZERO,
        ..Timeouts::default()
    };
    let hasty = RuntimeConfig {
        timeouts,
        ..config(&stage.incus)
    };
    let runtime = stage.ensure(&stage.plan("hasty")).await;
    let end = Runtimes::new(stage.client().clone(), hasty)
        .destroy(&runtime.id)
        .await
        .unwrap();
    assert!(
        matches!(end, Destroyed::Unknown { .. } | Destroyed::Stuck { .. }),
        "{end:?}"
    );
    stage.destroy(&runtime).await;
}
