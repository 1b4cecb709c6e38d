//! Deleted agents that come back: which ones, within which quota, and what `me` means afterwards.

use pika_managed_agent_contract::{AgentState, OperationKind, StartupPhase};
use pika_store::{
    AgentChange, AgentFilter, OperationRequest, Page, Quotas, Requested, Shortage, Store, Target,
};
use serde_json::json;

use crate::fixtures::{
    PLENTY, accept, add_owner, claim, create_done, default_agent, end, key, new_agent, request,
};
use crate::place::{Place, on_both, race};

on_both!(
    a_deleted_agent_comes_back_as_itself,
    what_is_not_deleted_or_on_its_way_away_does_not_come_back,
    an_agent_that_comes_back_has_to_fit_its_owners_quota,
    another_default_agent_stays_the_default_one,
    of_many_who_ask_at_once_only_what_fits_comes_back,
);

async fn with_owner(place: &Place, quotas: Quotas) -> Store {
    let store = place.open().await;
    add_owner(&store, "o1", quotas).await;
    store
}

/// Deletes an agent as a worker does; its volume may go at 1000.
async fn bury(store: &Store, now: i64, agent_id: &str) {
    let id = format!("delete-{agent_id}-{now}");
    accept(store, now, &request(agent_id, &id, OperationKind::Delete)).await;
    let claimed = claim(store, now, "w").await;
    assert_eq!(claimed.operation.id, id);
    store.begin_step(now, &claimed.grip, "bury").await.unwrap();
    let change = AgentChange {
        deleted_until: Some(1000),
        ..AgentChange::default()
    };
    let finished = store
        .finish_step(now, &claimed.grip, ("bury", None), &json!({}), &change)
        .await;
    finished.unwrap();
    end(store, now, &claimed).await;
}

fn undelete<'a>(agent_id: &'a str, id: &str) -> OperationRequest<'a> {
    request(agent_id, id, OperationKind::Undelete)
}

async fn a_deleted_agent_comes_back_as_itself(place: Place) {
    let store = with_owner(&place, PLENTY).await;
    create_done(&store, 10, &default_agent("o1", "a")).await;
    bury(&store, 20, "a").await;
    assert_eq!(store.default_agent("o1").await.unwrap(), None);
    let before = store.agent("a", None, true).await.unwrap().unwrap();
    assert_eq!(
        (before.deleted_at, before.purge_after),
        (Some(20), Some(1000))
    );

    let with_key = OperationRequest {
        key: Some(key("o1", "k", "undelete a")),
        ..undelete("a", "u1")
    };
    let asked = store.request_operation(30, &with_key).await.unwrap();
    let Requested::Accepted(agent, _) = asked else {
        panic!("{asked:?}")
    };
    assert_eq!(
        (agent.target, agent.state, agent.startup_phase),
        (
            Target::Running,
            AgentState::Creating,
            StartupPhase::Requested
        )
    );
    assert_eq!((agent.deleted_at, agent.purge_after), (None, None));
    assert_eq!(
        (&agent.volume_name, agent.generation),
        (&before.volume_name, before.generation)
    );
    assert_eq!(
        store.default_agent("o1").await.unwrap(),
        Some(agent.clone())
    );
    // From now on nothing of it goes, however late the work is done, and whoever read that its grace is over.
    let mut purge = request("a", "purge", OperationKind::Delete);
    purge.operation.requested_by = "server".to_owned();
    let purged = store.request_operation(5000, &purge).await.unwrap();
    assert_eq!(purged, Requested::NotDeleted);

    // The same again is the same, by its key and without.
    let again = store.request_operation(31, &with_key).await.unwrap();
    assert!(matches!(again, Requested::Replayed(_, operation) if operation.id == "u1"));
    let again = store.request_operation(32, &undelete("a", "u2")).await;
    assert!(matches!(again.unwrap(), Requested::Joined(_, operation) if operation.id == "u1"));
    let audit = store.audit_log(None, 1).await.unwrap();
    let told = (&*audit[0].actor, &*audit[0].action, &*audit[0].subject);
    assert_eq!(told, ("o1", "agent_undeleted", "a"));
    assert_eq!(audit[0].detail, "default agent of o1");

    let claimed = claim(&store, 40, "w").await;
    end(&store, 41, &claimed).await;
    // A second end has a grace of its own.
    bury(&store, 50, "a").await;
    let after = store.agent("a", None, true).await.unwrap().unwrap();
    assert_eq!(after.deleted_at, Some(50));
    let early = store.request_operation(999, &purge).await.unwrap();
    assert_eq!(early, Requested::NotDeleted);
    accept(&store, 1000, &purge).await;
}

async fn what_is_not_deleted_or_on_its_way_away_does_not_come_back(place: Place) {
    let store = with_owner(&place, PLENTY).await;
    create_done(&store, 10, &new_agent("o1", "a")).await;
    let ask = async |now| {
        let asked = undelete("a", &format!("u{now}"));
        store.request_operation(now, &asked).await.unwrap()
    };
    assert_eq!(ask(20).await, Requested::NotDeleted);
    accept(&store, 30, &request("a", "d", OperationKind::Delete)).await;
    assert_eq!(ask(31).await, Requested::Deleting);
    let claimed = claim(&store, 32, "w").await;
    end(&store, 33, &claimed).await;
    bury(&store, 40, "a").await;

    // Whoever asked for the purge first has it.
    let mut purge = request("a", "purge", OperationKind::Delete);
    purge.operation.arguments = json!({ "purge": true });
    accept(&store, 50, &purge).await;
    assert_eq!(ask(51).await, Requested::Deleting);
    let claimed = claim(&store, 52, "w").await;
    assert_eq!(ask(53).await, Requested::Deleting);
    let gone = AgentChange {
        purged: true,
        ..AgentChange::default()
    };
    let grip = &claimed.grip;
    store.begin_step(54, grip, "purge_volume").await.unwrap();
    let finished = store
        .finish_step(55, grip, ("purge_volume", None), &json!({}), &gone)
        .await;
    finished.unwrap();
    end(&store, 56, &claimed).await;
    assert_eq!(ask(57).await, Requested::NoAgent);
    // Nothing of all this was told as done.
    let log = store.audit_log(None, 10).await.unwrap();
    assert!(log.iter().all(|entry| entry.action != "agent_undeleted"));
}

async fn an_agent_that_comes_back_has_to_fit_its_owners_quota(place: Place) {
    let one = Quotas {
        agents_max: 1,
        ..PLENTY
    };
    let store = with_owner(&place, one).await;
    create_done(&store, 10, &new_agent("o1", "a")).await;
    bury(&store, 20, "a").await;
    create_done(&store, 30, &new_agent("o1", "b")).await;
    let refused = store.request_operation(40, &undelete("a", "u1")).await;
    let short = Shortage {
        what: "agents",
        used: 1,
        asked: 1,
        max: 1,
    };
    assert_eq!(refused.unwrap(), Requested::NoRoom(short));
    let kept = store.agent("a", None, true).await.unwrap().unwrap();
    assert_eq!((kept.deleted_at, kept.target), (Some(20), Target::Deleted));
    bury(&store, 50, "b").await;
    accept(&store, 60, &undelete("a", "u2")).await;
    assert_eq!(store.usage("o1").await.unwrap().0, 1);
}

async fn another_default_agent_stays_the_default_one(place: Place) {
    let store = with_owner(&place, PLENTY).await;
    create_done(&store, 10, &default_agent("o1", "a")).await;
    bury(&store, 20, "a").await;
    create_done(&store, 30, &default_agent("o1", "b")).await;
    accept(&store, 40, &undelete("a", "u1")).await;
    let is_default = async |id: &str| {
        let found = store.agent(id, None, true).await.unwrap();
        found.unwrap().is_default
    };
    assert!(!is_default("a").await);
    let me = store.default_agent("o1").await.unwrap().unwrap();
    assert_eq!(me.id, "b");
    let audit = store.audit_log(None, 1).await.unwrap();
    assert_eq!(audit[0].detail, "agent of o1");
    // Once that one is gone, the other one comes back as it was: no default.
    let claimed = claim(&store, 41, "w").await;
    end(&store, 42, &claimed).await;
    bury(&store, 50, "b").await;
    assert_eq!(store.default_agent("o1").await.unwrap(), None);
    accept(&store, 60, &undelete("b", "u2")).await;
    assert!(is_default("b").await);
}

async fn of_many_who_ask_at_once_only_what_fits_comes_back(place: Place) {
    let store = with_owner(&place, PLENTY).await;
    let ids: Vec<String> = (0..6).map(|number| format!("a{number}")).collect();
    for id in &ids {
        // Each was what `me` meant in its time.
        create_done(&store, 10, &default_agent("o1", id)).await;
        bury(&store, 20, id).await;
    }
    let three = Quotas {
        agents_max: 3,
        ..PLENTY
    };
    store.set_quotas(30, "op", "o1", three).await.unwrap();
    let outcomes = race(&place, 12, async |store: Store, number| {
        let agent = format!("a{}", number % 6);
        let asked = undelete(&agent, &format!("u{number}"));
        store.request_operation(40, &asked).await.unwrap()
    })
    .await;
    let accepted = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Requested::Accepted(..)));
    assert_eq!(accepted.count(), 3, "{outcomes:?}");
    let filter = AgentFilter {
        owner_id: Some("o1"),
        ..AgentFilter::default()
    };
    let page = Page {
        after: None,
        limit: 10,
    };
    let back = store.agents(filter, page).await.unwrap();
    let defaults = back.iter().filter(|agent| agent.is_default);
    assert_eq!((back.len(), defaults.count()), (3, 1), "{back:?}");
}
