//! The way of an agent through the store: asked for, made by a worker, seen, deleted.

use pika_managed_agent_contract::{
    AgentProvisionRequest, AgentState, Authority, OperationKind, OperationState, OperatorParams,
    Role, StartupPhase, materialize,
};
use pika_store::{
    AgentChange, Created, EventScope, NewAgent, NewOperation, Observed, OperationRequest, Owner,
    Quotas, Requested, Sizes, StillHeld, Store, Target,
};
use serde_json::json;

const QUOTAS: Quotas = Quotas {
    agents_max: 2,
    vcpu_max: 8,
    memory_mib_max: 8192,
    disk_gib_max: 64,
    backups_max: 3,
};

fn new_agent(id: &str, is_default: bool) -> NewAgent {
    let params = materialize(
        &OperatorParams::default(),
        &AgentProvisionRequest::default(),
        Authority::Tenant,
    );
    NewAgent {
        id: id.to_owned(),
        owner_id: "o1".to_owned(),
        is_default,
        params: params.unwrap(),
        project: "default".to_owned(),
        pool: "default".to_owned(),
        instance_name: format!("pika-agent-{id}"),
        volume_name: format!("pika-agent-{id}-state"),
        sizes: Sizes {
            vcpu: 2,
            memory_mib: 1024,
            disk_gib: 16,
        },
    }
}

fn new_operation(id: &str, kind: OperationKind) -> NewOperation {
    NewOperation {
        id: id.to_owned(),
        kind,
        arguments: json!({}),
        deadline_at: 1_000_000,
        requested_by: "o1".to_owned(),
    }
}

async fn store(folder: &tempfile::TempDir) -> Store {
    let address = format!("sqlite:{}", folder.path().join("it.db").display());
    let store = Store::open(&address).await.unwrap();
    let owner = Owner {
        id: "o1".to_owned(),
        name: "one".to_owned(),
        role: Role::Tenant,
        quotas: QUOTAS,
        created_at: 1,
    };
    assert_eq!(store.ensure_owner("server", &owner).await.unwrap(), owner);
    store
}

const HELD: StillHeld = StillHeld::Yes {
    cancel_requested: false,
};

#[tokio::test]
async fn an_agent_is_made_seen_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let made = store
        .create_agent(
            10,
            &new_agent("a1", true),
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
            &new_agent("a2", true),
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
