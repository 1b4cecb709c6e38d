//! Operations that are asked for: joined, overtaken, refused; what is another owner's is like what isn't there.

use pika_managed_agent_contract::{
    AgentState, ErrorCode, OperationKind, OperationState, StartupPhase,
};
use pika_store::{
    AgentChange, AgentFilter, Backup, EventScope, Observed, OperationRequest, Page, Quotas,
    Requested, Shortage, Store, Target,
};
use serde_json::json;

use crate::fixtures::{
    HELD, PLENTY, accept, add_owner, claim, create, create_done, end, key, new_agent, request,
};
use crate::place::{Place, on_both, race};

on_both!(
    what_is_anothers_is_like_what_is_not_there,
    the_same_request_is_joined_by_all_who_ask_at_once,
    only_what_is_the_last_word_is_joined,
    a_stop_overtakes_what_waits_and_asks_what_runs_to_end,
    a_delete_is_overtaken_by_nothing,
    a_queue_has_an_end,
    recovers_in_a_row_are_one,
    a_recover_after_a_stop_is_a_new_one,
    backups_have_a_quota,
    a_key_counts_once_for_operations_too,
    only_an_owners_wish_makes_restarts_count_anew,
);

async fn with_agent(place: &Place) -> Store {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    create_done(&store, 10, &new_agent("o1", "a")).await;
    store
}

fn joined(outcome: Requested) -> String {
    match outcome {
        Requested::Joined(_, operation) => operation.id,
        other => panic!("{other:?}"),
    }
}

async fn finish_next(store: &Store, now: i64) -> String {
    let claimed = claim(store, now, "w").await;
    end(store, now, &claimed).await;
    claimed.operation.id
}

async fn what_is_anothers_is_like_what_is_not_there(place: Place) {
    let store = with_agent(&place).await;
    add_owner(&store, "o2", PLENTY).await;
    for (agent_id, owner) in [("a", "o2"), ("none", "o1"), ("", "o1")] {
        assert_eq!(
            store.agent(agent_id, Some(owner), true).await.unwrap(),
            None
        );
        for kind in OperationKind::ALL {
            let request = OperationRequest {
                owner_id: Some(owner),
                key: Some(key(owner, "k", "body")),
                ..request(agent_id, "p", kind)
            };
            let outcome = store.request_operation(20, &request).await.unwrap();
            assert_eq!(outcome, Requested::NoAgent);
        }
    }
    for (operation_id, owner) in [("create-a", "o2"), ("none", "o1")] {
        let found = store.operation(operation_id, Some(owner)).await.unwrap();
        assert_eq!(found, None);
    }
    assert!(
        store
            .operation("create-a", Some("o1"))
            .await
            .unwrap()
            .is_some()
    );
    let page = Page {
        after: None,
        limit: 10,
    };
    let of = |owner| AgentFilter {
        owner_id: Some(owner),
        deleted: true,
        state: None,
    };
    assert!(store.agents(of("o2"), page).await.unwrap().is_empty());
    assert_eq!(store.agents(of("o1"), page).await.unwrap().len(), 1);
    let events = store.events_after(EventScope::Owner("o2"), 0, 10).await;
    assert!(events.unwrap().is_empty());
    assert_eq!(store.usage("o2").await.unwrap().0, 0);
    // Nothing of all this was written down.
    assert_eq!(place.number("SELECT COUNT(*) FROM operations").await, 1);
    assert_eq!(
        place.number("SELECT COUNT(*) FROM idempotency_keys").await,
        0
    );
}

async fn the_same_request_is_joined_by_all_who_ask_at_once(place: Place) {
    let store = with_agent(&place).await;
    let outcomes = race(&place, 20, async |store: Store, number| {
        let request = request("a", &format!("p{number}"), OperationKind::Restart);
        store.request_operation(20, &request).await.unwrap()
    })
    .await;
    let accepted: Vec<&str> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Requested::Accepted(_, operation) => Some(&*operation.id),
            _ => None,
        })
        .collect();
    assert_eq!(accepted.len(), 1, "{outcomes:?}");
    let joined = outcomes.iter().filter(
        |outcome| matches!(outcome, Requested::Joined(_, operation) if operation.id == accepted[0]),
    );
    assert_eq!(joined.count(), 19);
    // What is asked for with something else is something else.
    let mut other = request("a", "other", OperationKind::Restart);
    other.operation.arguments = json!({ "force": true });
    accept(&store, 21, &other).await;
}

async fn only_what_is_the_last_word_is_joined(place: Place) {
    let store = with_agent(&place).await;
    accept(&store, 20, &request("a", "stop-1", OperationKind::Stop)).await;
    let running = claim(&store, 21, "w").await;
    accept(&store, 22, &request("a", "start", OperationKind::Start)).await;
    // Were this the same as the one that runs, the agent would end up running.
    accept(&store, 23, &request("a", "stop-2", OperationKind::Stop)).await;
    let agent = store.agent("a", None, false).await.unwrap().unwrap();
    assert_eq!(agent.target, Target::Stopped);
    end(&store, 24, &running).await;
    assert_eq!(finish_next(&store, 25).await, "stop-2");

    // A backup in between is no other word.
    accept(&store, 30, &request("a", "start-2", OperationKind::Start)).await;
    accept(&store, 31, &request("a", "backup", OperationKind::Backup)).await;
    let again = request("a", "start-3", OperationKind::Start);
    let outcome = store.request_operation(32, &again).await.unwrap();
    assert_eq!(joined(outcome), "start-2");
}

async fn a_stop_overtakes_what_waits_and_asks_what_runs_to_end(place: Place) {
    let store = with_agent(&place).await;
    accept(&store, 20, &request("a", "restart", OperationKind::Restart)).await;
    let running = claim(&store, 21, "w").await;
    accept(&store, 22, &request("a", "rebuild", OperationKind::Rebuild)).await;
    accept(&store, 23, &request("a", "backup", OperationKind::Backup)).await;
    let seen = store.newest_event_id().await.unwrap();
    accept(&store, 24, &request("a", "stop", OperationKind::Stop)).await;

    for id in ["rebuild", "backup"] {
        let ended = store.operation(id, None).await.unwrap().unwrap();
        assert_eq!(
            (ended.state, ended.finished_at),
            (OperationState::Failed, Some(24))
        );
        let error = ended.error.unwrap();
        assert_eq!(error.error, ErrorCode::Conflict);
        assert!(error.message.contains("stop"), "{error:?}");
    }
    let told = store.events_after(EventScope::Agent("a"), seen, 10).await;
    let told: Vec<(String, String)> = told
        .unwrap()
        .iter()
        .map(|event| {
            let id = event.data["operation_id"].as_str().unwrap();
            (event.kind.clone(), id.to_owned())
        })
        .collect();
    let expected = [
        ("operation_finished", "rebuild"),
        ("operation_finished", "backup"),
        ("operation_requested", "stop"),
    ];
    let expected = expected.map(|(kind, id)| (kind.to_owned(), id.to_owned()));
    assert_eq!(
        told, expected,
        "who waits for an operation is told of its end"
    );

    // What runs is asked at each of its calls, and the stop comes after it.
    let asked = pika_store::StillHeld::Yes {
        cancel_requested: true,
    };
    assert_eq!(store.renew(&running.grip, 300).await.unwrap(), asked);
    assert_eq!(
        store.begin_step(25, &running.grip, "s").await.unwrap(),
        asked
    );
    assert!(store.claim(26, "w2", 200).await.unwrap().is_none());
    end(&store, 27, &running).await;
    assert_eq!(finish_next(&store, 28).await, "stop");
}

async fn a_delete_is_overtaken_by_nothing(place: Place) {
    let store = with_agent(&place).await;
    accept(&store, 20, &request("a", "delete", OperationKind::Delete)).await;
    let running = claim(&store, 21, "w").await;
    for kind in OperationKind::ALL {
        let outcome = store
            .request_operation(22, &request("a", "more", kind))
            .await;
        match kind {
            OperationKind::Delete => assert_eq!(joined(outcome.unwrap()), "delete"),
            _ => assert_eq!(outcome.unwrap(), Requested::Deleting),
        }
    }
    assert_eq!(store.renew(&running.grip, 500).await.unwrap(), HELD);
    // The purge at once waits behind it; neither ends the other.
    let mut purge = request("a", "purge", OperationKind::Delete);
    purge.operation.arguments = json!({ "purge": true });
    accept(&store, 23, &purge).await;
    let again = store
        .request_operation(24, &request("a", "more", OperationKind::Delete))
        .await;
    assert_eq!(joined(again.unwrap()), "delete");
    assert_eq!(store.renew(&running.grip, 500).await.unwrap(), HELD);

    let change = AgentChange {
        deleted_until: Some(1000),
        ..AgentChange::default()
    };
    store.begin_step(30, &running.grip, "detach").await.unwrap();
    let done = store
        .finish_step(31, &running.grip, ("detach", None), &json!({}), &change)
        .await;
    assert_eq!(done.unwrap(), HELD);
    end(&store, 32, &running).await;
    assert_eq!(finish_next(&store, 33).await, "purge");
    assert_eq!(store.agent("a", None, false).await.unwrap(), None);
    let kept = store.agent("a", None, true).await.unwrap().unwrap();
    assert_eq!((kept.deleted_at, kept.purge_after), (Some(31), Some(1000)));
    assert_eq!(kept.state, AgentState::Deleting);
    let late = request("a", "late", OperationKind::Start);
    assert_eq!(
        store.request_operation(34, &late).await.unwrap(),
        Requested::NoAgent
    );
}

async fn a_queue_has_an_end(place: Place) {
    let store = with_agent(&place).await;
    let restore = |number: i64| {
        let mut request = request("a", &format!("p{number}"), OperationKind::Restore);
        request.operation.arguments = json!({ "snapshot": number });
        request
    };
    for number in 0..8 {
        accept(&store, 20, &restore(number)).await;
    }
    let full = store.request_operation(21, &restore(8)).await.unwrap();
    assert_eq!(full, Requested::QueueFull(8));
    assert_eq!(store.operation("p8", None).await.unwrap(), None);
    // There is always room to stop.
    accept(&store, 22, &request("a", "stop", OperationKind::Stop)).await;
    accept(&store, 23, &restore(9)).await;
}

async fn recovers_in_a_row_are_one(place: Place) {
    let store = with_agent(&place).await;
    let recover = |id: &str| OperationRequest {
        recover_cool_down: 1000,
        ..request("a", id, OperationKind::Recover)
    };
    accept(&store, 20, &recover("r1")).await;
    let outcome = store.request_operation(21, &recover("r2")).await.unwrap();
    assert_eq!(joined(outcome), "r1");
    assert_eq!(finish_next(&store, 30).await, "r1");
    for now in [31, 1029] {
        let outcome = store.request_operation(now, &recover("r2")).await.unwrap();
        assert_eq!(joined(outcome), "r1");
    }
    accept(&store, 1030, &recover("r3")).await;
}

async fn a_recover_after_a_stop_is_a_new_one(place: Place) {
    let store = with_agent(&place).await;
    let recover = |id: &str| OperationRequest {
        recover_cool_down: 1000,
        ..request("a", id, OperationKind::Recover)
    };
    accept(&store, 20, &recover("r1")).await;
    finish_next(&store, 21).await;
    accept(&store, 22, &request("a", "stop", OperationKind::Stop)).await;
    finish_next(&store, 23).await;
    accept(&store, 24, &recover("r2")).await;
    // One that was overtaken before it began did nothing that could be joined.
    accept(&store, 25, &request("a", "stop-2", OperationKind::Stop)).await;
    finish_next(&store, 26).await;
    accept(&store, 27, &request("a", "start", OperationKind::Start)).await;
    finish_next(&store, 28).await;
    let outcome = store.request_operation(1022, &recover("r3")).await.unwrap();
    assert!(matches!(outcome, Requested::Accepted(..)), "{outcome:?}");
}

async fn backups_have_a_quota(place: Place) {
    let store = with_agent(&place).await;
    let quotas = Quotas {
        backups_max: 2,
        ..PLENTY
    };
    store.set_quotas(15, "op", "o1", quotas).await.unwrap();
    let listed = |name: &str, reason: &str| Backup {
        name: name.to_owned(),
        reason: reason.to_owned(),
        created_at: 16,
    };
    let seen = [
        listed("s1", "requested"),
        listed("s2", "scheduled"),
        listed("s3", "before_restore"),
    ];
    store.set_backups("a", &seen, 17).await.unwrap();
    accept(&store, 20, &request("a", "b1", OperationKind::Backup)).await;
    let mut more = request("a", "b2", OperationKind::Backup);
    more.operation.arguments = json!({ "name": "mine" });
    let short = Shortage {
        what: "backups",
        used: 2,
        asked: 1,
        max: 2,
    };
    let refused = store.request_operation(21, &more).await.unwrap();
    assert_eq!(refused, Requested::NoRoom(short));
    finish_next(&store, 22).await;
    store.set_backups("a", &seen[1..], 17).await.unwrap();
    accept(&store, 23, &more).await;
}

async fn a_key_counts_once_for_operations_too(place: Place) {
    let store = with_agent(&place).await;
    create(&store, 11, &new_agent("o1", "b")).await;
    let with_key = |agent_id, id, fingerprint| OperationRequest {
        key: Some(key("o1", "k", fingerprint)),
        ..request(agent_id, id, OperationKind::Restart)
    };
    accept(&store, 20, &with_key("a", "p1", "restart a")).await;
    for state in [OperationState::Pending, OperationState::Succeeded] {
        let outcome = store
            .request_operation(21, &with_key("a", "p2", "restart a"))
            .await;
        let Requested::Replayed(agent, operation) = outcome.unwrap() else {
            panic!("not replayed")
        };
        assert_eq!((&*agent.id, &*operation.id), ("a", "p1"));
        assert_eq!(operation.state, state);
        if state == OperationState::Pending {
            finish_next(&store, 22).await;
            finish_next(&store, 22).await;
        }
    }
    let outcome = store
        .request_operation(23, &with_key("b", "p3", "restart b"))
        .await;
    assert_eq!(outcome.unwrap(), Requested::KeyReused);
    assert_eq!(place.number("SELECT COUNT(*) FROM operations").await, 3);
}

/// The server asks for restarts of its own accord; were they counted anew each time, there would be no crash loop.
async fn only_an_owners_wish_makes_restarts_count_anew(place: Place) {
    let store = with_agent(&place).await;
    let seen = Observed {
        agent_id: "a".to_owned(),
        revision: 1,
        state: AgentState::Error,
        startup_phase: StartupPhase::Failed,
        reason: None,
        stale_since: None,
        restarts: 3,
        restart_after: Some(90),
    };
    store.record_observed(20, &[seen]).await.unwrap();
    let mut counted = Vec::new();
    for (id, by) in [("p1", "server"), ("p2", "o1")] {
        let mut start = request("a", id, OperationKind::Start);
        start.operation.requested_by = by.to_owned();
        accept(&store, 21, &start).await;
        finish_next(&store, 22).await;
        let agent = store.agent("a", None, false).await.unwrap().unwrap();
        counted.push((agent.restarts, agent.restart_after));
    }
    assert_eq!(counted, [(3, Some(90)), (0, None)]);
}
