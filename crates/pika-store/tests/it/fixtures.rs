//! Owners, agents and operations as tests want them, and the calls that most tests make on the way.

use pika_managed_agent_contract::{
    AgentProvisionRequest, Authority, OperationKind, OperatorParams, Role, Scope, materialize,
};
use pika_store::{
    Claimed, Created, IdempotencyKey, Millis, NewAgent, NewOperation, NewToken, OperationRequest,
    Owner, Quotas, Requested, Sizes, StillHeld, Store,
};
use serde_json::json;

/// More than any test needs.
pub(crate) const PLENTY: Quotas = Quotas {
    agents_max: 1000,
    vcpu_max: 10_000,
    memory_mib_max: 10_000_000,
    disk_gib_max: 100_000,
    backups_max: 100,
};

pub(crate) const HELD: StillHeld = StillHeld::Yes {
    cancel_requested: false,
};

pub(crate) const SIZES: Sizes = Sizes {
    vcpu: 2,
    memory_mib: 1024,
    disk_gib: 16,
};

pub(crate) fn owner(id: &str, quotas: Quotas) -> Owner {
    Owner {
        id: id.to_owned(),
        name: format!("the one called {id}"),
        role: Role::Tenant,
        quotas,
        created_at: 1,
    }
}

pub(crate) async fn add_owner(store: &Store, id: &str, quotas: Quotas) {
    let wanted = owner(id, quotas);
    let there = store.ensure_owner("server", &wanted).await.unwrap();
    assert_eq!(there, wanted);
}

pub(crate) fn new_agent(owner: &str, id: &str) -> NewAgent {
    let params = materialize(
        &OperatorParams::default(),
        &AgentProvisionRequest::default(),
        Authority::Tenant,
    );
    NewAgent {
        id: id.to_owned(),
        owner_id: owner.to_owned(),
        is_default: false,
        params: params.unwrap(),
        project: "default".to_owned(),
        pool: "default".to_owned(),
        instance_name: format!("pika-agent-{id}"),
        volume_name: format!("pika-agent-{id}-state"),
        sizes: SIZES,
    }
}

pub(crate) fn default_agent(owner: &str, id: &str) -> NewAgent {
    NewAgent {
        is_default: true,
        ..new_agent(owner, id)
    }
}

pub(crate) fn new_operation(id: &str, kind: OperationKind) -> NewOperation {
    NewOperation {
        id: id.to_owned(),
        kind,
        arguments: json!({}),
        deadline_at: 1_000_000,
        requested_by: "o1".to_owned(),
    }
}

pub(crate) fn key(owner: &str, key: &str, fingerprint: &str) -> IdempotencyKey {
    IdempotencyKey {
        owner_id: owner.to_owned(),
        key: key.to_owned(),
        fingerprint: fingerprint.to_owned(),
    }
}

/// What its agent's owner asks for, without a key or a cool-down.
pub(crate) fn request<'a>(
    agent_id: &'a str,
    id: &str,
    kind: OperationKind,
) -> OperationRequest<'a> {
    OperationRequest {
        agent_id,
        owner_id: None,
        operation: new_operation(id, kind),
        key: None,
        recover_cool_down: 0,
    }
}

/// Writes an agent down with the operation `create-ID`.
pub(crate) async fn create(store: &Store, now: Millis, agent: &NewAgent) {
    let operation = new_operation(&format!("create-{}", agent.id), OperationKind::Create);
    let made = store
        .create_agent(now, agent, &operation, None)
        .await
        .unwrap();
    assert!(matches!(made, Created::Made { .. }), "{made:?}");
}

/// An agent whose creation is over.
pub(crate) async fn create_done(store: &Store, now: Millis, agent: &NewAgent) {
    create(store, now, agent).await;
    let claimed = claim(store, now, "maker").await;
    assert_eq!(claimed.agent.id, agent.id);
    end(store, now, &claimed).await;
}

/// Takes the next operation for 100 ms.
pub(crate) async fn claim(store: &Store, now: Millis, worker: &str) -> Claimed {
    store.claim(now, worker, now + 100).await.unwrap().unwrap()
}

pub(crate) async fn end(store: &Store, now: Millis, claimed: &Claimed) {
    let ended = store.end_operation(now, &claimed.grip, Ok(())).await;
    assert!(matches!(ended.unwrap(), StillHeld::Yes { .. }));
}

/// Asks for an operation that must be written down, and gives its id.
pub(crate) async fn accept(store: &Store, now: Millis, request: &OperationRequest<'_>) -> String {
    match store.request_operation(now, request).await.unwrap() {
        Requested::Accepted(_, operation) => operation.id,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn new_token(owner: &str, id: &str) -> NewToken {
    NewToken {
        id: id.to_owned(),
        owner_id: owner.to_owned(),
        secret_hash: format!("hash-of-{id}"),
        scope: Scope::Write,
        label: "a laptop".to_owned(),
        created_at: 5,
        expires_at: None,
    }
}

/// Operations of one agent that are over: `p1` to `pN`.
pub(crate) async fn with_operations(store: &Store, count: i64) {
    add_owner(store, "o1", PLENTY).await;
    create_done(store, 1, &new_agent("o1", "a")).await;
    for number in 1..=count {
        add_operation(store, number).await;
    }
}

pub(crate) async fn add_operation(store: &Store, number: i64) {
    let id = format!("p{number}");
    accept(
        store,
        10 * number,
        &request("a", &id, OperationKind::Restart),
    )
    .await;
    let claimed = claim(store, 10 * number + 1, "w").await;
    end(store, 10 * number + 2, &claimed).await;
}
