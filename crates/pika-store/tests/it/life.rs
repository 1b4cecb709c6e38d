//! The way of an agent through the store: asked for, made by a worker, seen, deleted.

use pika_managed_agent_contract::{AgentState, OperationKind, OperationState, StartupPhase};
use pika_store::{
    AgentChange, Created, EventScope, Observed, OperationRequest, Quotas, Requested, StillHeld,
    Store, Target,
};
use serde_json::json;

use crate::fixtures::{HELD, add_owner, default_agent, new_operation};
use crate::place::{Place, on_both};

on_both!(an_agent_is_made_seen_and_deleted);

const QUOTAS: Quotas = Quotas {
    agents_max: 2,
    vcpu_max: 8,
    memory_mib_max: 8192,
    disk_gib_max: 64,
    backups_max: 3,
};

async fn an_agent_is_made_seen_and_deleted(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", QUOTAS).await;
    let made = store
        .create_agent(
            10,
            &default_agent("o1", "a1"),
            &new_operation("p1", OperationKind::Create),
            None,
        )
        .await
        .unwrap();
    let Created::Made { agent, .. } = made else {
        panic!("{made:?}")
    };
    assert_eq!(
        (agent.state, agent.startup_phase),
        (AgentState::Creating, StartupPhase::Requested)
    );
    let again = store
        .create_agent(
            11,
            &default_agent("o1", "a2"),
            &new_operation("p2", OperationKind::Create),
            None,
        )
        .await
        .unwrap();
    assert!(matches!(again, Created::Existing { agent, .. } if agent.id == "a1"));

    let claimed = store.claim(20, "w1", 120).await.unwrap().unwrap();
    assert_eq!(claimed.operation.id, "p1");
    assert!(store.claim(21, "w2", 121).await.unwrap().is_none());
    assert_eq!(
        store
            .begin_step(22, &claimed.grip, "ensure_volume")
            .await
            .unwrap(),
        HELD
    );
    let change = AgentChange {
        volume_made: true,
        generation: Some(1),
        ..AgentChange::default()
    };
    let step = ("ensure_volume", Some("ensure_instance"));
    let done = store
        .finish_step(23, &claimed.grip, step, &json!({}), &change)
        .await
        .unwrap();
    assert_eq!(done, HELD);

    // The lease is over: another worker goes on where the first one was, and the first one is told.
    let taken = store.claim(121, "w2", 300).await.unwrap().unwrap();
    assert_eq!(taken.operation.step.as_deref(), Some("ensure_instance"));
    assert!(taken.grip.fence > claimed.grip.fence);
    assert_eq!(
        store
            .begin_step(122, &claimed.grip, "ensure_instance")
            .await
            .unwrap(),
        StillHeld::Lost
    );
    assert_eq!(
        store.renew(&claimed.grip, 500).await.unwrap(),
        StillHeld::Lost
    );
    assert_eq!(
        store.end_operation(123, &taken.grip, Ok(())).await.unwrap(),
        HELD
    );
    let ended = store.operation("p1", Some("o1")).await.unwrap().unwrap();
    assert_eq!(ended.state, OperationState::Succeeded);
    assert_eq!(store.operation("p1", Some("o2")).await.unwrap(), None);

    let row = store.agent("a1", None, false).await.unwrap().unwrap();
    let seen = Observed {
        agent_id: "a1".to_owned(),
        revision: row.revision,
        state: AgentState::Ready,
        startup_phase: StartupPhase::Ready,
        reason: None,
        stale_since: None,
        restarts: 0,
        restart_after: None,
    };
    assert_eq!(
        store
            .record_observed(130, std::slice::from_ref(&seen))
            .await
            .unwrap(),
        ["a1"]
    );
    assert!(
        store
            .record_observed(131, &[seen])
            .await
            .unwrap()
            .is_empty()
    );

    delete(&store).await;
}

async fn delete(store: &Store) {
    let request = OperationRequest {
        agent_id: "a1",
        owner_id: Some("o1"),
        operation: new_operation("p3", OperationKind::Delete),
        key: None,
        recover_cool_down: 0,
    };
    let asked = store.request_operation(140, &request).await.unwrap();
    assert!(matches!(asked, Requested::Accepted(agent, _) if agent.target == Target::Deleted));
    let kinds: Vec<String> = store
        .events_after(EventScope::Owner("o1"), 0, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|event| event.kind)
        .collect();
    let expected = [
        "operation_requested",
        "operation_started",
        "operation_step",
        "operation_finished",
        "state_changed",
        "operation_requested",
    ];
    assert_eq!(kinds, expected);
}
