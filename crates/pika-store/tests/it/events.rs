//! Events and what was seen: each is written once, and can be read on from any of them.

use pika_managed_agent_contract::{AgentState, OperationKind, StartupPhase};
use pika_store::{Backup, Event, EventScope, Observed};
use tokio::task::JoinSet;

use crate::fixtures::{
    PLENTY, accept, add_owner, create, end, new_agent, request, with_operations,
};
use crate::place::{Place, on_both};

on_both!(
    events_are_read_on_from_any_of_them,
    events_appear_in_the_order_of_their_numbers,
    old_events_are_removed_and_the_newest_kept,
    what_was_seen_is_written_once_for_each_revision,
    backups_keep_their_reason,
    two_lookers_at_once_both_come_through,
);

async fn events_are_read_on_from_any_of_them(place: Place) {
    let store = place.open().await;
    for owner in ["o1", "o2"] {
        add_owner(&store, owner, PLENTY).await;
        for agent in ["a", "b"] {
            create(&store, 10, &new_agent(owner, &format!("{owner}{agent}"))).await;
        }
    }
    while let Some(claimed) = store.claim(20, "w", 100).await.unwrap() {
        end(&store, 21, &claimed).await;
    }
    let all = store.events_after(EventScope::All, 0, 100).await.unwrap();
    let ids: Vec<i64> = all.iter().map(|event| event.id).collect();
    assert_eq!(ids, (1..=12).collect::<Vec<i64>>());
    assert_eq!(store.newest_event_id().await.unwrap(), 12);
    for scope in [
        EventScope::All,
        EventScope::Owner("o1"),
        EventScope::Owner("none"),
        EventScope::Agent("o2b"),
    ] {
        let of: Vec<Event> = all
            .iter()
            .filter(|event| match scope {
                EventScope::All => true,
                EventScope::Owner(owner) => event.owner_id == owner,
                EventScope::Agent(agent) => event.agent_id == agent,
            })
            .cloned()
            .collect();
        for after in [0, 1, 5, 11, 12, i64::MAX] {
            let expected: Vec<Event> = of
                .iter()
                .filter(|event| event.id > after)
                .cloned()
                .collect();
            assert_eq!(
                store.events_after(scope, after, 100).await.unwrap(),
                expected
            );
            let first = store.events_after(scope, after, 1).await.unwrap();
            assert_eq!(first[..], expected[..expected.len().min(1)]);
        }
    }
    let newest = store.newest_events("o1a", 2).await.unwrap();
    let kinds: Vec<&str> = newest.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["operation_finished", "operation_started"]);
}

/// A reader that goes on after the last number it saw must see every event: none may appear behind it.
async fn events_appear_in_the_order_of_their_numbers(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    let servers = [place.open().await, place.open().await];
    let mut writers = JoinSet::new();
    for number in 0..6 {
        let store = servers[number % 2].clone();
        writers.spawn(async move {
            for round in 0..10 {
                let id = format!("a{number}-{round}");
                create(&store, 10, &new_agent("o1", &id)).await;
                accept(
                    &store,
                    11,
                    &request(&id, &format!("s-{id}"), OperationKind::Stop),
                )
                .await;
            }
        });
    }
    // Asked for twice, and the creation overtaken by the stop.
    const EVENTS: usize = 6 * 10 * 3;
    let mut seen: Vec<i64> = Vec::new();
    let mut is_last_look = false;
    while !is_last_look {
        is_last_look = writers.is_empty();
        loop {
            let after = seen.last().copied().unwrap_or(0);
            let next = store.events_after(EventScope::All, after, 7).await.unwrap();
            if next.is_empty() {
                break;
            }
            seen.extend(next.iter().map(|event| event.id));
        }
        if let Some(outcome) = writers.try_join_next() {
            outcome.unwrap();
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(seen, (1..=EVENTS as i64).collect::<Vec<i64>>());
}

async fn old_events_are_removed_and_the_newest_kept(place: Place) {
    let store = place.open().await;
    with_operations(&store, 4).await;
    let before = store.events_after(EventScope::All, 0, 100).await.unwrap();
    let removed = store.prune_events(32, 0).await.unwrap();
    let after = store.events_after(EventScope::All, 0, 100).await.unwrap();
    let expected: Vec<Event> = before
        .iter()
        .filter(|event| event.at >= 32)
        .cloned()
        .collect();
    assert_eq!(after, expected);
    assert_eq!(removed as usize, before.len() - after.len());
    assert_eq!(
        store.prune_events(i64::MAX, 3).await.unwrap(),
        after.len() as u64 - 3
    );
    assert_eq!(
        store.events_after(EventScope::All, 0, 100).await.unwrap(),
        after[after.len() - 3..]
    );
    // Numbers are never given out again.
    let newest = store.newest_event_id().await.unwrap();
    store.prune_events(i64::MAX, 0).await.unwrap();
    assert_eq!(store.newest_event_id().await.unwrap(), newest);
    accept(&store, 90, &request("a", "next", OperationKind::Stop)).await;
    let next = store.events_after(EventScope::All, 0, 100).await.unwrap();
    assert_eq!(
        next.iter().map(|event| event.id).collect::<Vec<_>>(),
        [newest + 1]
    );
}

fn seen(agent: &str, revision: i64, state: AgentState) -> Observed {
    Observed {
        agent_id: agent.to_owned(),
        revision,
        state,
        startup_phase: StartupPhase::Ready,
        reason: Some("it's ready".to_owned()),
        stale_since: Some(5),
        restarts: 2,
        restart_after: Some(77),
    }
}

async fn what_was_seen_is_written_once_for_each_revision(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    for id in ["a", "b"] {
        create(&store, 10, &new_agent("o1", id)).await;
    }
    let before = store.newest_event_id().await.unwrap();
    let both = [
        seen("a", 1, AgentState::Ready),
        seen("b", 9, AgentState::Ready),
        seen("none", 1, AgentState::Ready),
    ];
    assert_eq!(store.record_observed(20, &both).await.unwrap(), ["a"]);
    assert!(store.record_observed(21, &both).await.unwrap().is_empty());
    assert!(store.record_observed(22, &[]).await.unwrap().is_empty());
    let a = store.agent("a", None, false).await.unwrap().unwrap();
    assert_eq!(
        (a.state, a.startup_phase, a.ready_at),
        (AgentState::Ready, StartupPhase::Ready, Some(20))
    );
    assert_eq!(
        (a.stale_since, a.restarts, a.restart_after),
        (Some(5), 2, Some(77))
    );
    assert_eq!((a.revision, a.reason.as_deref()), (2, Some("it's ready")));
    let b = store.agent("b", None, false).await.unwrap().unwrap();
    assert_eq!((b.state, b.revision), (AgentState::Creating, 1));
    let told = store
        .events_after(EventScope::All, before, 10)
        .await
        .unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&*told[0].kind, &told[0].data["state"]),
        ("state_changed", &"ready".into())
    );

    // Ready since it became so, also when it is seen again. That it was counted once more nobody is told.
    let again = Observed {
        restarts: 3,
        restart_after: Some(78),
        ..seen("a", 2, AgentState::Ready)
    };
    assert_eq!(store.record_observed(30, &[again]).await.unwrap(), ["a"]);
    let a = store.agent("a", None, false).await.unwrap().unwrap();
    assert_eq!((a.restarts, a.restart_after), (3, Some(78)));
    let told = store
        .events_after(EventScope::All, before, 10)
        .await
        .unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    store
        .record_observed(31, &[seen("a", 3, AgentState::Error)])
        .await
        .unwrap();
    let a = store.agent("a", None, false).await.unwrap().unwrap();
    assert_eq!((a.state, a.ready_at), (AgentState::Error, Some(20)));
    let told = store
        .events_after(EventScope::All, before, 10)
        .await
        .unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    store
        .record_observed(32, &[seen("a", 4, AgentState::Ready)])
        .await
        .unwrap();
    let a = store.agent("a", None, false).await.unwrap().unwrap();
    assert_eq!(a.ready_at, Some(32));
}

/// Two servers that look at the same agents in different orders don't stop each other.
async fn two_lookers_at_once_both_come_through(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    let ids: Vec<String> = (0..20).map(|number| format!("a{number}")).collect();
    for id in &ids {
        create(&store, 10, &new_agent("o1", id)).await;
    }
    for round in 0..20 {
        let mut looks = JoinSet::new();
        for is_backwards in [false, true] {
            let mut all: Vec<Observed> = ids
                .iter()
                .map(|id| seen(id, round + 1, AgentState::Ready))
                .collect();
            if is_backwards {
                all.reverse();
            }
            let store = store.clone();
            looks.spawn(async move { store.record_observed(20, &all).await.unwrap().len() });
        }
        let written: usize = looks.join_all().await.into_iter().sum();
        assert_eq!(written, ids.len());
    }
}

async fn backups_keep_their_reason(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    create(&store, 10, &new_agent("o1", "a")).await;
    let backup = |name: &str, reason: &str, created_at| Backup {
        name: name.to_owned(),
        reason: reason.to_owned(),
        created_at,
    };
    store
        .set_backups(
            "a",
            &[
                backup("s1", "requested", 1),
                backup("s2", "before reset", 2),
            ],
            3,
        )
        .await
        .unwrap();
    store
        .set_backups(
            "a",
            &[backup("s3", "found", 2), backup("s2", "found", 9)],
            3,
        )
        .await
        .unwrap();
    let listed = store.backups("a").await.unwrap();
    assert_eq!(
        listed,
        [backup("s3", "found", 2), backup("s2", "before reset", 2)]
    );
    // A look that began before a backup was taken says nothing about it.
    store.set_backups("a", &[], 2).await.unwrap();
    assert_eq!(store.backups("a").await.unwrap().len(), 2);
    store.set_backups("a", &[], 3).await.unwrap();
    assert!(store.backups("a").await.unwrap().is_empty());
    store
        .set_backups("none", &[backup("s1", "found", 1)], 3)
        .await
        .unwrap_err();
}
