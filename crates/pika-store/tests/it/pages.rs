//! Lists in pages: nothing is lost and nothing comes twice, whatever is written or removed in between.

use std::collections::BTreeSet;

use pika_managed_agent_contract::{AgentState, OperationKind};
use pika_store::{AgentFilter, AllowEntry, OperationRequest, Page, Requested, Store};

use crate::fixtures::{
    PLENTY, accept, add_operation, add_owner, claim, create, end, key, new_agent, new_token,
    request, with_operations,
};
use crate::place::{Place, on_both};

on_both!(
    pages_of_agents_lose_and_repeat_nothing,
    pages_of_owners_tokens_and_the_allow_list_lose_and_repeat_nothing,
    pages_of_operations_lose_and_repeat_nothing,
    a_page_goes_on_where_an_operation_was_pruned,
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
                state: None,
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
    let in_state = async |state| {
        let filter = AgentFilter {
            state: Some(state),
            ..AgentFilter::default()
        };
        let page = Page {
            after: None,
            limit: 100,
        };
        store.agents(filter, page).await.unwrap()
    };
    let creating = in_state(AgentState::Creating).await;
    assert_eq!(creating.len(), 2 * (START.len() + MEANWHILE.len()));
    assert!(in_state(AgentState::Ready).await.is_empty());
    let counted = store.agents_by_state().await.unwrap();
    let vcpu = creating.iter().map(|agent| agent.sizes.vcpu).sum();
    assert_eq!(counted.len(), 1);
    assert_eq!(
        (counted[0].state, counted[0].agents, counted[0].sizes.vcpu),
        (AgentState::Creating, creating.len() as i64, vcpu)
    );
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
