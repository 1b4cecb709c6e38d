//! Lists in pages and streams: nothing is lost and nothing comes twice, whatever is written in between.

use std::collections::BTreeSet;

use pika_managed_agent_contract::{AgentState, OperationKind, StartupPhase};
use pika_store::{
    AgentFilter, AllowEntry, Backup, Event, EventScope, Observed, OperationRequest, Page,
    Requested, Store,
};
use tokio::task::JoinSet;

use crate::fixtures::{
    PLENTY, accept, add_owner, claim, create, create_done, end, key, new_agent, new_token, request,
};
use crate::place::{Place, on_both};

on_both!(
    pages_of_agents_lose_and_repeat_nothing,
    pages_of_owners_tokens_and_the_allow_list_lose_and_repeat_nothing,
    pages_of_operations_lose_and_repeat_nothing,
    a_page_goes_on_where_an_operation_was_pruned,
    events_are_read_on_from_any_of_them,
    events_appear_in_the_order_of_their_numbers,
    old_events_are_removed_and_the_newest_kept,
    what_was_seen_is_written_once_for_each_revision,
    backups_keep_their_reason,
    two_lookers_at_once_both_come_through,
    what_a_key_leads_to_is_not_pruned,
);

const START: [&str; 9] = ["b", "d", "f", "h", "j", "l", "n", "p", "é"];
/// Written while pages are read: before and behind what was read.
const MEANWHILE: [&str; 5] = ["a", "e", "k", "q", "ü"];

/// Reads all pages, writing one more row before each; every row of the start must come once.
async fn assert_pages<P, W>(page: P, write: W)
where
    P: AsyncFn(Option<&str>, i64) -> Vec<String>,
    W: AsyncFn(&str),
{
    for id in START {
        write(id).await;
    }
    let mut seen: Vec<String> = Vec::new();
    let mut meanwhile = MEANWHILE.into_iter();
    loop {
        let after = seen.last().cloned();
        let next = page(after.as_deref(), 2).await;
        assert!(next.len() <= 2);
        if next.is_empty() {
            break;
        }
        seen.extend(next);
        if let Some(id) = meanwhile.next() {
            write(id).await;
        }
    }
    let once: BTreeSet<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(once.len(), seen.len(), "twice: {seen:?}");
    assert!(START.iter().all(|id| once.contains(id)), "lost: {seen:?}");
    let all = page(None, 100).await;
    assert_eq!(all.len(), START.len() + MEANWHILE.len());
    assert!(page(None, 0).await.is_empty());
}

async fn pages_of_agents_lose_and_repeat_nothing(place: Place) {
    let store = place.open().await;
    for id in ["o1", "o2"] {
        add_owner(&store, id, PLENTY).await;
    }
    for owner in [Some("o1"), None] {
        let prefix = owner.unwrap_or("o2");
        let page = async |after: Option<&str>, limit| {
            let filter = AgentFilter {
                owner_id: owner,
                deleted: false,
            };
            let after = after.map(|after| format!("{prefix}-{after}"));
            let page = Page {
                after: Some(after.as_deref().unwrap_or(prefix)),
                limit,
            };
            let agents = store.agents(filter, page).await.unwrap();
            let ids = agents.into_iter().map(|agent| agent.id);
            ids.map(|id| id.split_once('-').unwrap().1.to_owned())
                .collect()
        };
        let write = async |id: &str| {
            create(&store, 10, &new_agent(prefix, &format!("{prefix}-{id}"))).await;
        };
        assert_pages(page, write).await;
    }
}

async fn pages_of_owners_tokens_and_the_allow_list_lose_and_repeat_nothing(place: Place) {
    let store = place.open().await;
    assert_pages(
        async |after, limit| {
            let owners = store.owners(after, limit).await.unwrap();
            owners.into_iter().map(|owner| owner.id).collect()
        },
        async |id| add_owner(&store, id, PLENTY).await,
    )
    .await;
    assert_pages(
        async |after, limit| {
            let tokens = store.tokens("b", after, limit).await.unwrap();
            tokens.into_iter().map(|token| token.id).collect()
        },
        async |id| store.add_token("boss", &new_token("b", id)).await.unwrap(),
    )
    .await;
    assert_pages(
        async |after, limit| {
            let list = store.allow_list(after, limit).await.unwrap();
            list.into_iter().map(|entry| entry.owner_id).collect()
        },
        async |id| {
            let entry = AllowEntry {
                owner_id: id.to_owned(),
                note: String::new(),
                added_by: "boss".to_owned(),
                added_at: 1,
            };
            assert!(store.allow(&entry).await.unwrap());
        },
    )
    .await;
}

/// Operations of one agent that are over: `p1` to `pN`.
async fn with_operations(store: &Store, count: i64) {
    add_owner(store, "o1", PLENTY).await;
    create_done(store, 1, &new_agent("o1", "a")).await;
    for number in 1..=count {
        add_operation(store, number).await;
    }
}

async fn add_operation(store: &Store, number: i64) {
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

async fn operation_ids(store: &Store, after: Option<&str>, limit: i64) -> Vec<String> {
    let operations = store.operations_of("a", after, limit).await.unwrap();
    operations
        .into_iter()
        .map(|operation| operation.id)
        .collect()
}

async fn pages_of_operations_lose_and_repeat_nothing(place: Place) {
    let store = place.open().await;
    with_operations(&store, 7).await;
    create(&store, 5, &new_agent("o1", "another")).await;
    let mut seen: Vec<String> = Vec::new();
    loop {
        let after = seen.last().cloned();
        let next = operation_ids(&store, after.as_deref(), 3).await;
        if next.is_empty() {
            break;
        }
        seen.extend(next);
        add_operation_behind_another(&store, seen.len()).await;
    }
    let expected = ["p7", "p6", "p5", "p4", "p3", "p2", "p1", "create-a"];
    assert_eq!(seen, expected);
    assert_eq!(operation_ids(&store, None, 1).await, ["late-8"]);
}

/// One more that waits, while pages are read.
async fn add_operation_behind_another(store: &Store, number: usize) {
    let mut late = request("a", &format!("late-{number}"), OperationKind::Restore);
    late.operation.arguments = serde_json::json!({ "snapshot": number });
    accept(store, 500, &late).await;
}

async fn a_page_goes_on_where_an_operation_was_pruned(place: Place) {
    let store = place.open().await;
    with_operations(&store, 5).await;
    assert_eq!(operation_ids(&store, None, 3).await, ["p5", "p4", "p3"]);
    // What ended before 35 goes: p3, which the page ended with, and all before it.
    assert_eq!(store.prune_operations(35).await.unwrap(), 4);
    assert_eq!(operation_ids(&store, None, 9).await, ["p5", "p4"]);
    assert!(
        operation_ids(&store, Some("p3"), 3).await.is_empty(),
        "nothing comes twice"
    );
    assert!(
        operation_ids(&store, Some("of-another"), 3)
            .await
            .is_empty()
    );
    // The newest of an agent stays, however old it is.
    assert_eq!(store.prune_operations(10_000).await.unwrap(), 1);
    assert_eq!(operation_ids(&store, None, 9).await, ["p5"]);
    assert_eq!(place.number("SELECT COUNT(*) FROM operations").await, 1);
}

/// A key may be younger than the recover that it was joined to.
async fn what_a_key_leads_to_is_not_pruned(place: Place) {
    let store = place.open().await;
    with_operations(&store, 1).await;
    accept(&store, 20, &request("a", "r1", OperationKind::Recover)).await;
    let claimed = claim(&store, 21, "w").await;
    store.begin_step(21, &claimed.grip, "s").await.unwrap();
    end(&store, 22, &claimed).await;
    let again = OperationRequest {
        key: Some(key("o1", "k", "recover a")),
        recover_cool_down: 100,
        ..request("a", "r2", OperationKind::Recover)
    };
    let joined = store.request_operation(30, &again).await.unwrap();
    assert!(
        matches!(&joined, Requested::Joined(_, operation) if operation.id == "r1"),
        "{joined:?}"
    );
    add_operation(&store, 4).await;
    store.prune_operations(25).await.unwrap();
    let replayed = store.request_operation(50, &again).await.unwrap();
    assert!(
        matches!(&replayed, Requested::Replayed(_, operation) if operation.id == "r1"),
        "{replayed:?}"
    );
    // It goes with its key, and its steps with it.
    store.prune_operations(45).await.unwrap();
    assert_eq!(operation_ids(&store, None, 9).await, ["p4"]);
    assert_eq!(
        place.number("SELECT COUNT(*) FROM operation_steps").await,
        0
    );
}

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

    // Ready since it became so, also when it is seen again.
    store
        .record_observed(30, &[seen("a", 2, AgentState::Ready)])
        .await
        .unwrap();
    store
        .record_observed(31, &[seen("a", 3, AgentState::Error)])
        .await
        .unwrap();
    let a = store.agent("a", None, false).await.unwrap().unwrap();
    assert_eq!((a.state, a.ready_at), (AgentState::Error, Some(20)));
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
        )
        .await
        .unwrap();
    store
        .set_backups("a", &[backup("s3", "found", 2), backup("s2", "found", 9)])
        .await
        .unwrap();
    let listed = store.backups("a").await.unwrap();
    assert_eq!(
        listed,
        [backup("s3", "found", 2), backup("s2", "before reset", 2)]
    );
    store.set_backups("a", &[]).await.unwrap();
    assert!(store.backups("a").await.unwrap().is_empty());
    store
        .set_backups("none", &[backup("s1", "found", 1)])
        .await
        .unwrap_err();
}
