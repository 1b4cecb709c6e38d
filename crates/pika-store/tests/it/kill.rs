//! kill -9 of a server in the middle of its transactions: each is there as a whole, or not at all.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use pika_managed_agent_contract::OperationKind;
use pika_store::{AgentChange, Created, StillHeld, Store};
use serde_json::json;
use tokio::task::JoinSet;

use crate::fixtures::{PLENTY, add_owner, key, new_agent, new_operation, request};
use crate::place::Place;

/// Given to the child: the database that it writes to, and its number.
const ADDRESS: &str = "PIKA_STORE_TEST_WRITER";
const ROUNDS: u32 = 10;
const TASKS: u32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_killed_server_wrote_to_sqlite_is_whole() {
    if !is_writer().await {
        let name = "kill::what_a_killed_server_wrote_to_sqlite_is_whole";
        assert_whole_after_kills(Place::sqlite().await, name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_killed_server_wrote_to_postgres_is_whole() {
    if !is_writer().await {
        let name = "kill::what_a_killed_server_wrote_to_postgres_is_whole";
        assert_whole_after_kills(Place::postgres().await, name).await;
    }
}

/// In a child it writes until it is killed; in the parent, which starts and kills children, it says no.
async fn is_writer() -> bool {
    let Ok(given) = std::env::var(ADDRESS) else {
        return false;
    };
    let (round, address) = given.split_once(' ').unwrap();
    write_for_ever(address, round.parse().unwrap()).await;
    true
}

async fn assert_whole_after_kills(place: Place, test: &str) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    for round in 0..ROUNDS {
        let mut child = writer(&place, test, round);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A later one each time, so that the kill comes at different moments of their work.
        let until = format!("done {}", 1 + 3 * round);
        let reached = lines
            .map_while(Result::ok)
            .any(|line| line.ends_with(&until));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(reached, "the writer ended before it had done {until}");
        assert_whole(&place).await;
    }
    let agents = place.number("SELECT COUNT(*) FROM agents").await;
    assert!(agents >= i64::from(ROUNDS), "{agents}");
    // What they had in hand is taken up by whoever comes next.
    let now = i64::from(ROUNDS + 1) * 1_000_000;
    while let Some(claimed) = store.claim(now, "last", now + 1000).await.unwrap() {
        crate::fixtures::end(&store, now, &claimed).await;
    }
    assert!(store.open_operations().await.unwrap().is_empty());
    assert_whole(&place).await;
}

/// The same test, in a process of its own.
fn writer(place: &Place, test: &str, round: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ADDRESS, format!("{round} {}", place.address()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[expect(clippy::print_stdout, reason = "the parent reads how far it is")]
async fn write_for_ever(address: &str, round: u32) {
    let store = Store::open(address).await.unwrap();
    let (told, mut done) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (store, told) = (store.clone(), told.clone());
        tasks.spawn(async move {
            for number in 0_u32.. {
                write(&store, round, &format!("{round}-{task}-{number}")).await;
                told.send(()).unwrap();
            }
        });
    }
    for number in 1.. {
        done.recv().await.unwrap();
        println!("\ndone {number}");
    }
}

/// An agent from its request to its removal, with everything on the way in transactions of its own.
async fn write(store: &Store, round: u32, id: &str) {
    let now = i64::from(round + 1) * 1_000_000;
    let operation = new_operation(&format!("create-{id}"), OperationKind::Create);
    let made = store
        .create_agent(
            now,
            &new_agent("o1", id),
            &operation,
            Some(&key("o1", id, "body")),
        )
        .await
        .unwrap();
    assert!(matches!(made, Created::Made { .. }), "{made:?}");
    let Some(claimed) = store.claim(now, id, now + 500_000).await.unwrap() else {
        return;
    };
    let held = store
        .begin_step(now, &claimed.grip, "ensure_volume")
        .await
        .unwrap();
    assert!(matches!(held, StillHeld::Yes { .. }));
    let change = AgentChange {
        volume_made: true,
        ..AgentChange::default()
    };
    let step = ("ensure_volume", Some("ensure_instance"));
    store
        .finish_step(now, &claimed.grip, step, &json!({}), &change)
        .await
        .unwrap();
    let stop = request(
        &claimed.agent.id,
        &format!("stop-{id}"),
        OperationKind::Stop,
    );
    store.request_operation(now, &stop).await.unwrap();
    store
        .end_operation(now, &claimed.grip, Ok(()))
        .await
        .unwrap();
}

/// Counts that must be 0: what one transaction writes together is never there in part.
const PARTS: &[(&str, &str)] = &[
    (
        "agents without their first operation",
        "SELECT COUNT(*) FROM agents a WHERE NOT EXISTS \
         (SELECT 1 FROM operations o WHERE o.agent_id = a.id AND o.kind = 'create')",
    ),
    (
        "keys that lead nowhere",
        "SELECT COUNT(*) FROM idempotency_keys k WHERE NOT EXISTS (SELECT 1 FROM agents a JOIN operations o \
         ON o.agent_id = a.id WHERE a.id = k.agent_id AND o.id = k.operation_id)",
    ),
    (
        "agents without their key",
        "SELECT COUNT(*) FROM agents a WHERE NOT EXISTS (SELECT 1 FROM idempotency_keys k WHERE k.agent_id = a.id)",
    ),
    (
        "operations and events of requests that don't match",
        "SELECT (SELECT COUNT(*) FROM operations) - (SELECT COUNT(*) FROM events WHERE kind = 'operation_requested')",
    ),
    (
        "steps and events of steps that don't match",
        "SELECT (SELECT COUNT(*) FROM operation_steps WHERE finished_at IS NOT NULL) \
         - (SELECT COUNT(*) FROM events WHERE kind = 'operation_step')",
    ),
    (
        "volumes without the step that made them",
        "SELECT COUNT(*) FROM agents a WHERE a.volume_made_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM operations o \
         JOIN operation_steps s ON s.operation_id = o.id WHERE o.agent_id = a.id AND s.finished_at IS NOT NULL)",
    ),
    (
        "ends and events of ends that don't match",
        "SELECT (SELECT COUNT(*) FROM operations WHERE finished_at IS NOT NULL) \
         - (SELECT COUNT(*) FROM events WHERE kind = 'operation_finished')",
    ),
    (
        "starts and events of starts that don't match",
        "SELECT (SELECT COUNT(*) FROM operations WHERE fence > 0) \
         - (SELECT COUNT(*) FROM events WHERE kind = 'operation_started')",
    ),
    (
        "gaps in the numbers of events",
        "SELECT (SELECT value FROM counters WHERE name = 'events') - (SELECT COUNT(*) FROM events)",
    ),
    (
        "gaps in the order of operations",
        "SELECT (SELECT value FROM counters WHERE name = 'operations') - (SELECT COUNT(*) FROM operations)",
    ),
    (
        "workers without a lease",
        "SELECT COUNT(*) FROM operations WHERE (state = 'running') <> (worker IS NOT NULL AND lease_until IS NOT NULL)",
    ),
    (
        "stops that left their agent's target as it was",
        "SELECT COUNT(*) FROM operations o JOIN agents a ON a.id = o.agent_id WHERE o.kind = 'stop' \
         AND a.target <> 'stopped'",
    ),
];

async fn assert_whole(place: &Place) {
    for (what, query) in PARTS {
        assert_eq!(place.number(query).await, 0, "{what}");
    }
}
