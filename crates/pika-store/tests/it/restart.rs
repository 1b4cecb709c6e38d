//! A database server that is killed and comes back: the store says so, loses nothing, and goes on by itself.

use pika_managed_agent_contract::OperationKind;
use pika_store::{Created, Store};
use pikahut::postgres::TestPostgres;

use crate::fixtures::{PLENTY, add_owner, claim, create, end, new_agent, new_operation};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_outlives_a_kill_of_its_database_server() {
    let server = TestPostgres::private("store").await;
    let database = server.database().await;
    let store = Store::open(&database.url()).await.unwrap();
    add_owner(&store, "o1", PLENTY).await;
    create(&store, 10, &new_agent("o1", "a")).await;
    let held = claim(&store, 20, "w").await;
    assert!(server.server().kill9_blocking());

    let operation = new_operation("create-b", OperationKind::Create);
    let lost = store
        .create_agent(30, &new_agent("o1", "b"), &operation, None)
        .await;
    lost.unwrap_err();
    store.ping().await.unwrap_err();
    let refused = Store::open(&database.url()).await.unwrap_err();
    assert_eq!(refused.to_string(), "the database can't be opened");

    server.server().restart_blocking().unwrap();
    store.ping().await.unwrap();
    // What was done is there, what was not is not, and the worker still holds what it held.
    assert!(store.agent("a", Some("o1"), false).await.unwrap().is_some());
    assert_eq!(store.agent("b", None, true).await.unwrap(), None);
    end(&store, 40, &held).await;
    let made = store
        .create_agent(41, &new_agent("o1", "b"), &operation, None)
        .await;
    assert!(matches!(made.unwrap(), Created::Made { .. }));
}
