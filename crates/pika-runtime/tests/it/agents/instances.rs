//! All agents at once, what wakes, start and restart, generations.

use std::time::Duration;

use pika_cloud::OwnedKind;
use pika_runtime::{ControlError, Destroyed, EnsureError, GuestEnd, Power, RuntimeId, WakeUps};
use serde_json::json;

use super::stage::{AgentStage, PROJECT, STATE};
use crate::support::LIMIT;

pub(super) async fn all_are_seen_at_once(stage: &AgentStage) {
    let runs = stage.running("runs").await;
    let stopped = stage.running("stopped").await;
    stage.stop(&stopped).await;
    // A job of ours, an agent of somebody else's, a copy of ours: none is an agent of ours.
    let labels = |owner: &str, kind: &str, name: &str| {
        json!({
            "user.pika.owner": owner, "user.pika.kind": kind, "user.pika.runtime_id": "x",
            "user.pika.instance_name": stage.name(name),
        })
    };
    let others = [
        stage
            .foreign("job", labels(stage.owner(), "ci", "job"), false)
            .await,
        stage
            .foreign("theirs", labels("somebody-else", "agent", "theirs"), false)
            .await,
        stage
            .foreign("copy", labels(stage.owner(), "agent", "original"), false)
            .await,
    ];
    let debris = stage
        .foreign("debris", labels(stage.owner(), "agent", "debris"), false)
        .await;

    if let Some(fake) = stage.as_fake() {
        fake.clear_requests();
    }
    let seen = stage.runtimes.observe_all(PROJECT, OwnedKind::Agent).await;
    let seen = seen.unwrap();
    if let Some(fake) = stage.as_fake() {
        // One more than without debris, however many there are.
        assert_eq!(fake.requests().len(), 2);
    }
    let mut names: Vec<&str> = seen.iter().map(|one| one.id.instance_name()).collect();
    let mut expected = vec![
        runs.id.instance_name(),
        stopped.id.instance_name(),
        debris.as_str(),
    ];
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    let of = |id: &RuntimeId| seen.iter().find(|one| one.id == *id).unwrap();
    let one = of(&runs.id);
    assert_eq!(
        (one.power, one.generation, one.debris),
        (Power::Running, 1, false)
    );
    assert_eq!(one.labels["tenant"], "t1");
    assert!(one.started_at.is_some() && one.created_at.is_some());
    assert_eq!(one.image_fingerprint.as_ref().map(String::len), Some(64));
    let device = one.volume_device(&runs.volume).expect("its volume");
    assert_eq!((device.path.as_str(), device.read_only), (STATE, false));
    assert_eq!(one.volume_device(&stopped.volume), None);
    let other = of(&stopped.id);
    assert_eq!((other.power, other.debris), (Power::Stopped, false));
    let left = seen.iter().find(|one| one.id.instance_name() == debris);
    let left = left.unwrap();
    assert_eq!((left.debris, &left.started_at), (true, &None));

    for name in others.iter().chain([&debris]) {
        stage.remove_foreign(name).await;
    }
    stage.remove(&runs).await;
    stage.remove(&stopped).await;
}

async fn next(wake_ups: &mut WakeUps) -> String {
    let next = tokio::time::timeout(LIMIT, wake_ups.next_name()).await;
    next.expect("a wake-up comes")
        .expect("the stream goes on")
        .unwrap()
}

pub(super) async fn what_happens_wakes_and_a_look_does_not(stage: &AgentStage) {
    let looked_at = stage.running("looked-at").await;
    let stopped = stage.running("stopped").await;
    let mut wake_ups = stage.runtimes.wake_ups(PROJECT).await.unwrap();
    let look = stage.runtimes.guest_look(&looked_at.id, STATE).await;
    look.unwrap();
    stage.stop(&stopped).await;
    // Other tests on the same daemon wake too; the look would have come before the stop.
    loop {
        let name = next(&mut wake_ups).await;
        assert_ne!(name, looked_at.id.instance_name(), "a look wakes nobody");
        if name == stopped.id.instance_name() {
            break;
        }
    }
    if let Some(fake) = stage.as_fake() {
        assert!(fake.guest(looked_at.id.instance_name()).tells_incus());
        assert_eq!(next(&mut wake_ups).await, looked_at.id.instance_name());
        let seen = stage.runtimes.observe_all(PROJECT, OwnedKind::Agent).await;
        let seen = seen.unwrap();
        let ready = seen.iter().find(|one| one.guest_says_ready).unwrap();
        assert_eq!(
            (&ready.id, ready.power),
            (&looked_at.id, Power::Running),
            "it runs"
        );
        fake.crash();
        let end = tokio::time::timeout(LIMIT, wake_ups.next_name()).await;
        assert!(
            matches!(end, Ok(Some(Err(_)))),
            "the break is told: {end:?}"
        );
        assert!(wake_ups.next_name().await.is_none(), "and then it is over");
        fake.restart().unwrap();
    }
    stage.remove(&looked_at).await;
    stage.remove(&stopped).await;
}

pub(super) async fn one_starts_and_restarts(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    let started = async || {
        let all = stage.runtimes.observe_all(PROJECT, OwnedKind::Agent).await;
        let all = all.unwrap();
        let found = all.into_iter().find(|one| one.id == agent.id).unwrap();
        assert_eq!(found.power, Power::Running);
        found.started_at
    };
    let first = started().await;
    stage.runtimes.start(&agent.id).await.unwrap();
    assert_eq!(started().await, first, "one that runs stays so");
    stage.stop(&agent).await;
    stage.runtimes.start(&agent.id).await.unwrap();
    let second = started().await;
    assert_ne!(second, first);
    let grace = Duration::from_secs(20);
    let end = stage.runtimes.restart_gracefully(&agent.id, grace).await;
    assert_eq!(end.unwrap(), GuestEnd::Agreed);
    let third = started().await;
    assert_ne!(third, second);
    let freeze = pika_incus::StateChange::freeze();
    let name = agent.id.instance_name();
    let frozen = stage.client.set_instance_state(name, &freeze).await;
    frozen.unwrap().wait(LIMIT).await.unwrap();
    stage.runtimes.start(&agent.id).await.unwrap();
    assert_eq!(started().await, third, "a frozen one goes on");
    if let Some(fake) = stage.as_fake() {
        fake.world().instance(name).unwrap().ignores_shutdown = true;
        let grace = Duration::from_secs(1);
        let end = stage.runtimes.restart_gracefully(&agent.id, grace).await;
        assert_eq!(end.unwrap(), GuestEnd::Forced, "it does not listen");
    }
    let gone = stage.agent("gone");
    let error = stage.runtimes.start(&gone.id).await.unwrap_err();
    assert!(matches!(error, ControlError::Gone { .. }), "{error}");
    let theirs = stage.foreign("theirs", json!({}), false).await;
    let theirs_id = RuntimeId::new("x", &theirs, PROJECT);
    for error in [
        stage.runtimes.start(&theirs_id).await.unwrap_err(),
        stage
            .runtimes
            .restart_gracefully(&theirs_id, grace)
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(error, ControlError::NotOurs { .. }), "{error}");
    }
    let labels = json!({
        "user.pika.owner": stage.owner(), "user.pika.kind": "agent", "user.pika.runtime_id": "x",
        "user.pika.instance_name": stage.name("debris"),
    });
    let debris = stage.foreign("debris", labels, false).await;
    let debris_id = RuntimeId::new("x", &debris, PROJECT);
    let error = stage.runtimes.start(&debris_id).await.unwrap_err();
    assert!(matches!(error, ControlError::Debris { .. }), "{error}");
    for name in [theirs, debris] {
        let found = stage.client.instance(&name).await.unwrap().value;
        assert!(found.never_started(), "{name} was not touched");
        stage.remove_foreign(&name).await;
    }
    stage.remove(&agent).await;
}

pub(super) async fn a_generation_is_replaced_on_the_same_volume(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    stage.write(&agent, "kept").await;
    // Another generation is never taken for the planned one.
    let plan = stage.plan(&agent);
    let second = stage.ownership(2);
    let error = stage.runtimes.ensure(&plan, &second).await.unwrap_err();
    assert!(matches!(error, EnsureError::Differs { .. }), "{error}");
    assert_eq!(error.other_generation(), Some(1));
    let resolved = stage.runtimes.resolve(&plan, &second).await.unwrap();
    let diff = stage.runtimes.diff(&resolved).await.unwrap();
    assert!(diff.steps.is_empty() && diff.refusal.is_some(), "{diff:?}");

    assert!(stage.runtimes.destroy(&agent.id).await.unwrap().is_absent());
    stage.ensure(&agent, 2).await;
    assert_eq!(stage.read(&agent).await, "kept");
    let seen = stage.runtimes.observe_all(PROJECT, OwnedKind::Agent).await;
    let seen = seen.unwrap();
    assert_eq!((seen.len(), seen[0].generation), (1, 2));
    assert!(seen[0].volume_device(&agent.volume).is_some());
    let error = stage.runtimes.ensure(&plan, &stage.ownership(1)).await;
    assert_eq!(error.unwrap_err().other_generation(), Some(2));
    // A worker of the first generation that was held up takes nothing away.
    let destroy = async |generation: u64| {
        let end = stage.runtimes.destroy_generation(&agent.id, generation);
        end.await.unwrap()
    };
    assert_eq!(destroy(1).await, Destroyed::Gone);
    assert_eq!(stage.read(&agent).await, "kept", "it runs");
    assert_eq!(destroy(2).await, Destroyed::Destroyed);
    assert_eq!(destroy(2).await, Destroyed::Gone);
    stage.remove(&agent).await;
}
