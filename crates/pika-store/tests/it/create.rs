//! New agents: quotas, the default agent and keys hold, also when many ask at once on two servers.

use std::collections::BTreeSet;

use pika_managed_agent_contract::OperationKind;
use pika_store::{
    AgentFilter, Created, EventScope, IdempotencyKey, NewAgent, Page, Quotas, Shortage, Sizes,
    Store, StoreError,
};

use crate::fixtures::{
    PLENTY, add_owner, create, create_done, default_agent, key, new_agent, new_operation, request,
};
use crate::place::{Place, on_both, race};

on_both!(
    the_last_place_is_taken_once,
    each_part_of_a_quota_holds,
    a_default_agent_is_made_once,
    a_key_counts_once,
    a_key_belongs_to_one_request_of_one_owner,
    a_refused_request_leaves_its_key_free,
    an_agent_of_nobody_is_not_made,
);

const RACERS: usize = 20;

/// Twenty requests at once.
async fn race_for(
    place: &Place,
    agent: impl Fn(usize) -> NewAgent,
    key: Option<&IdempotencyKey>,
) -> Vec<Created> {
    let each = |store: Store, number| {
        let (agent, key) = (agent(number), key.cloned());
        async move { ask(&store, &agent, key.as_ref()).await.unwrap() }
    };
    race(place, RACERS, each).await
}

async fn ask(
    store: &Store,
    agent: &NewAgent,
    key: Option<&IdempotencyKey>,
) -> Result<Created, StoreError> {
    let operation = new_operation(&format!("op-{}", agent.id), OperationKind::Create);
    store.create_agent(10, agent, &operation, key).await
}

/// Agents, operations, events and keys that are there.
async fn rows(place: &Place) -> [i64; 4] {
    [
        place.number("SELECT COUNT(*) FROM agents").await,
        place.number("SELECT COUNT(*) FROM operations").await,
        place.number("SELECT COUNT(*) FROM events").await,
        place.number("SELECT COUNT(*) FROM idempotency_keys").await,
    ]
}

async fn the_last_place_is_taken_once(place: Place) {
    let store = place.open().await;
    let quotas = Quotas {
        agents_max: 3,
        ..PLENTY
    };
    add_owner(&store, "o1", quotas).await;
    create(&store, 5, &new_agent("o1", "first")).await;
    create(&store, 6, &new_agent("o1", "second")).await;
    let outcomes = race_for(
        &place,
        |number| new_agent("o1", &format!("a{number}")),
        None,
    )
    .await;
    let full = Created::NoRoom(Shortage {
        what: "agents",
        used: 3,
        asked: 1,
        max: 3,
    });
    let refused = outcomes.iter().filter(|outcome| **outcome == full).count();
    let made = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Created::Made { .. }));
    assert_eq!((made.count(), refused), (1, RACERS - 1), "{outcomes:?}");
    assert_eq!(store.usage("o1").await.unwrap().0, 3);
    assert_eq!(rows(&place).await, [3, 3, 3, 0]);
}

async fn each_part_of_a_quota_holds(place: Place) {
    let store = place.open().await;
    let quotas = Quotas {
        agents_max: 10,
        vcpu_max: 4,
        memory_mib_max: 2048,
        disk_gib_max: 40,
        backups_max: 1,
    };
    add_owner(&store, "o1", quotas).await;
    create(&store, 5, &new_agent("o1", "first")).await;
    let one = Sizes {
        vcpu: 1,
        memory_mib: 1,
        disk_gib: 1,
    };
    for (what, used, asked, max, sizes) in [
        ("vcpu", 2, 3, 4, Sizes { vcpu: 3, ..one }),
        (
            "memory_mib",
            1024,
            1025,
            2048,
            Sizes {
                memory_mib: 1025,
                ..one
            },
        ),
        (
            "disk_gib",
            16,
            25,
            40,
            Sizes {
                disk_gib: 25,
                ..one
            },
        ),
        (
            "vcpu",
            2,
            i64::MAX,
            4,
            Sizes {
                vcpu: i64::MAX,
                ..one
            },
        ),
    ] {
        let agent = NewAgent {
            sizes,
            ..new_agent("o1", "second")
        };
        let short = Shortage {
            what,
            used,
            asked,
            max,
        };
        assert_eq!(
            ask(&store, &agent, None).await.unwrap(),
            Created::NoRoom(short)
        );
    }
    // What fits exactly fits, and another owner has room of its own.
    let fits = Sizes {
        vcpu: 2,
        memory_mib: 1024,
        disk_gib: 24,
    };
    let agent = NewAgent {
        sizes: fits,
        ..new_agent("o1", "second")
    };
    create(&store, 6, &agent).await;
    let total = Sizes {
        vcpu: 4,
        memory_mib: 2048,
        disk_gib: 40,
    };
    assert_eq!(store.usage("o1").await.unwrap(), (2, total));
    add_owner(&store, "o2", quotas).await;
    create(&store, 7, &new_agent("o2", "third")).await;
}

async fn a_default_agent_is_made_once(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    add_owner(&store, "o2", PLENTY).await;
    let outcomes = race_for(
        &place,
        |number| default_agent("o1", &format!("a{number}")),
        None,
    )
    .await;
    let mut ids = BTreeSet::new();
    let mut made = 0;
    for outcome in outcomes {
        match outcome {
            Created::Made { agent, .. } => {
                made += 1;
                ids.insert(agent.id);
            }
            Created::Existing { agent, operation } => {
                assert_eq!(operation.unwrap().agent_id, agent.id);
                ids.insert(agent.id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((made, ids.len()), (1, 1));
    let there = store.default_agent("o1").await.unwrap().unwrap();
    assert!(ids.contains(&there.id));
    assert_eq!(store.default_agent("o2").await.unwrap(), None);

    // One that is being deleted is in nobody's way.
    let delete = request(&there.id, "delete", OperationKind::Delete);
    store.request_operation(20, &delete).await.unwrap();
    assert_eq!(store.default_agent("o1").await.unwrap(), None);
    create(&store, 21, &default_agent("o1", "next")).await;
    let next = store.default_agent("o1").await.unwrap().unwrap();
    assert_eq!(next.id, "next");
}

async fn a_key_counts_once(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    let key = key("o1", "k", "POST /v1/agents {}");
    let outcomes = race_for(
        &place,
        |number| new_agent("o1", &format!("a{number}")),
        Some(&key),
    )
    .await;
    let mut made = Vec::new();
    let mut replayed = Vec::new();
    for outcome in outcomes {
        match outcome {
            Created::Made { agent, operation } => made.push((agent, operation)),
            Created::Replayed { agent, operation } => replayed.push((agent, operation.unwrap())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((made.len(), replayed.len()), (1, RACERS - 1));
    assert!(replayed.iter().all(|one| *one == made[0]));
    assert_eq!(rows(&place).await, [1, 1, 1, 1]);
}

async fn a_key_belongs_to_one_request_of_one_owner(place: Place) {
    let store = place.open().await;
    for id in ["o1", "o2"] {
        add_owner(&store, id, PLENTY).await;
        let key = key(id, "k", "body");
        let made = ask(&store, &new_agent(id, &format!("a-{id}")), Some(&key)).await;
        assert!(matches!(made.unwrap(), Created::Made { .. }));
    }
    let other = key("o1", "k", "another body");
    let reused = ask(&store, &new_agent("o1", "b"), Some(&other)).await;
    assert_eq!(reused.unwrap(), Created::KeyReused);

    // It leads to the agent, whatever has become of that since.
    let claimed = crate::fixtures::claim(&store, 20, "w").await;
    crate::fixtures::end(&store, 21, &claimed).await;
    let again = ask(&store, &new_agent("o1", "c"), Some(&key("o1", "k", "body"))).await;
    let Created::Replayed { agent, operation } = again.unwrap() else {
        panic!("not replayed")
    };
    assert_eq!((&*agent.id, &*operation.unwrap().id), ("a-o1", "op-a-o1"));
    assert_eq!(rows(&place).await[..2], [2, 2]);
}

async fn a_refused_request_leaves_its_key_free(place: Place) {
    let store = place.open().await;
    let none = Quotas {
        agents_max: 0,
        ..PLENTY
    };
    add_owner(&store, "o1", none).await;
    let key = key("o1", "k", "body");
    let refused = ask(&store, &new_agent("o1", "a"), Some(&key))
        .await
        .unwrap();
    assert!(matches!(refused, Created::NoRoom(_)), "{refused:?}");
    assert_eq!(rows(&place).await, [0; 4]);
    assert!(store.set_quotas(11, "op", "o1", PLENTY).await.unwrap());
    let made = ask(&store, &new_agent("o1", "a"), Some(&key))
        .await
        .unwrap();
    assert!(matches!(made, Created::Made { .. }), "{made:?}");
}

async fn an_agent_of_nobody_is_not_made(place: Place) {
    let store = place.open().await;
    let error = ask(&store, &new_agent("nobody", "a"), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("quotas"), "{error}");
    assert_eq!(rows(&place).await, [0; 4]);
    // Neither is one whose id or instance name is taken; what is there stays.
    add_owner(&store, "o1", PLENTY).await;
    create_done(&store, 5, &new_agent("o1", "a")).await;
    let before = rows(&place).await;
    ask(&store, &new_agent("o1", "a"), None).await.unwrap_err();
    let twin = NewAgent {
        instance_name: "pika-agent-a".to_owned(),
        ..new_agent("o1", "b")
    };
    ask(&store, &twin, None).await.unwrap_err();
    assert_eq!(rows(&place).await, before);
    let page = Page {
        after: None,
        limit: 10,
    };
    let all = store.agents(AgentFilter::default(), page).await.unwrap();
    assert_eq!(all.len(), 1);
    let events = store.events_after(EventScope::All, 0, 100).await.unwrap();
    assert_eq!(events.len(), 3, "asked for, begun, ended: {events:?}");
}
