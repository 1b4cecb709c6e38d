//! The schema: from nothing, from each version with rows in it, by several at once; and never from a newer one.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use pika_managed_agent_contract::{OperationKind, OperationState};
use pika_store::{AgentFilter, Created, EventScope, OpenError, Page, Store};
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Connection as _};
use tokio::task::JoinSet;

use crate::fixtures::{default_agent, key, new_agent, new_operation, request};
use crate::place::{Place, on_both};

on_both!(
    each_version_with_rows_in_it_is_brought_up_to_date,
    a_database_of_a_newer_program_is_refused,
    a_schema_that_somebody_changed_is_refused,
    many_who_start_at_once_find_one_schema,
    a_start_on_what_is_up_to_date_changes_nothing,
);

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("migrations")
        .join(kind)
}

async fn migrator(place: &Place) -> Migrator {
    let kind = if place.is_sqlite() {
        "sqlite"
    } else {
        "postgres"
    };
    Migrator::new(folder(kind)).await.unwrap()
}

#[tokio::test]
async fn both_kinds_of_database_have_the_same_versions() {
    let [sqlite, postgres] = [folder("sqlite"), folder("postgres")].map(Migrator::new);
    let (sqlite, postgres) = (sqlite.await.unwrap(), postgres.await.unwrap());
    let versions = |migrator: &Migrator| -> Vec<(i64, String)> {
        let each = migrator.iter();
        each.map(|one| (one.version, one.description.to_string()))
            .collect()
    };
    assert!(!versions(&sqlite).is_empty());
    assert_eq!(versions(&sqlite), versions(&postgres));
}

/// The rows that a program of this version may have left.
fn rows_of(version: i64) -> String {
    let path = format!(
        "{}/tests/it/rows/{version:04}.sql",
        env!("CARGO_MANIFEST_DIR")
    );
    let rows = std::fs::read_to_string(&path);
    let rows = rows.unwrap_or_else(|_| {
        panic!("version {version} of the schema needs rows in {path}, a row for each table")
    });
    let params = serde_json::to_string(&new_agent("o1", "a1").params).unwrap();
    rows.replace("{{PARAMS}}", &params)
}

async fn run(connection: &mut AnyConnection, statements: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements))
        .execute(connection)
        .await
        .unwrap();
}

async fn each_version_with_rows_in_it_is_brought_up_to_date(place: Place) {
    let all = migrator(&place).await;
    let newest = all.iter().map(|one| one.version).max().unwrap();
    for migration in all.iter() {
        let place = match place.is_sqlite() {
            true => Place::sqlite().await,
            false => Place::postgres().await,
        };
        let mut older = migrator(&place).await;
        let kept = older.iter().filter(|one| one.version <= migration.version);
        older.migrations = Cow::Owned(kept.cloned().collect());
        let mut connection = place.raw().await;
        older.run(&mut connection).await.unwrap();
        run(&mut connection, rows_of(migration.version)).await;
        connection.close().await.unwrap();

        let store = place.open().await;
        let version = place
            .number("SELECT MAX(version) FROM _sqlx_migrations")
            .await;
        assert_eq!(version, newest);
        assert_rows_are_read(&store).await;
        assert_rows_are_worked_with(&store).await;
    }
}

async fn assert_rows_are_read(store: &Store) {
    let page = Page {
        after: None,
        limit: 10,
    };
    let agents = store.agents(AgentFilter::default(), page).await.unwrap();
    assert_eq!(agents.len(), 1);
    let agent = &agents[0];
    assert_eq!(
        (&*agent.id, agent.generation, agent.volume_made_at),
        ("a1", 1, Some(12))
    );
    assert_eq!(
        store.default_agent("o1").await.unwrap().as_ref(),
        Some(agent)
    );
    assert_eq!(store.usage("o1").await.unwrap(), (1, agent.sizes));
    let operations = store.operations_of("a1", None, 10).await.unwrap();
    let ids: Vec<&str> = operations.iter().map(|operation| &*operation.id).collect();
    assert_eq!(ids, ["p2", "p1"]);
    assert_eq!(operations[1].state, OperationState::Succeeded);
    assert_eq!(store.steps_of("p1").await.unwrap().len(), 1);
    assert_eq!(store.backups("a1").await.unwrap().len(), 1);
    assert_eq!(
        store
            .events_after(EventScope::All, 0, 10)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(store.audit_log(None, 10).await.unwrap().len(), 1);
    let presented = store
        .present_token(20, "hash-of-t1")
        .await
        .unwrap()
        .unwrap();
    assert!(presented.allowed && presented.owner.id == "o1");
    assert!(store.session(20, "s1").await.unwrap().is_some());
    assert!(!store.take_signature(20, "e1", 1000).await.unwrap());
}

async fn assert_rows_are_worked_with(store: &Store) {
    let operation = new_operation("p3", OperationKind::Create);
    let again = store
        .create_agent(
            30,
            &default_agent("o1", "a2"),
            &operation,
            Some(&key("o1", "k1", "body")),
        )
        .await;
    assert!(matches!(again.unwrap(), Created::Replayed { agent, .. } if agent.id == "a1"));
    // The worker of before is gone, and its lease over.
    let taken = store.claim(50, "w2", 90).await.unwrap().unwrap();
    assert_eq!((&*taken.operation.id, taken.grip.fence), ("p2", 4));
    crate::fixtures::end(store, 51, &taken).await;
    let next = request("a1", "p4", OperationKind::Stop);
    assert_eq!(crate::fixtures::accept(store, 52, &next).await, "p4");
    assert_eq!(
        store.operations_of("a1", None, 1).await.unwrap()[0].id,
        "p4"
    );
    let lease = store.hold_lease(60, "look", "server-2", 90).await.unwrap();
    assert_eq!(lease.unwrap().fence, 3);
}

/// What the schema is at: versions and what each was made from.
async fn versions(place: &Place) -> Vec<(i64, Vec<u8>)> {
    let mut connection = place.raw().await;
    let rows = sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
        .fetch_all(&mut connection)
        .await;
    connection.close().await.unwrap();
    rows.unwrap()
}

async fn a_database_of_a_newer_program_is_refused(place: Place) {
    place.open().await.close().await;
    let mut connection = place.raw().await;
    let newer = "INSERT INTO _sqlx_migrations SELECT 9001, 'of tomorrow', installed_on, success, checksum, \
                 execution_time FROM _sqlx_migrations ORDER BY version LIMIT 1";
    run(&mut connection, newer.to_owned()).await;
    connection.close().await.unwrap();
    let before = versions(&place).await;
    let error = Store::open(place.address()).await.unwrap_err();
    assert!(
        matches!(error, OpenError::Newer { found: 9001 }),
        "{error:?}"
    );
    let words = error.to_string();
    assert!(words.contains("9001") && words.contains("newer"), "{words}");
    assert_eq!(versions(&place).await, before);
}

async fn a_schema_that_somebody_changed_is_refused(place: Place) {
    place.open().await.close().await;
    let mut connection = place.raw().await;
    let other = if place.is_sqlite() {
        "x'00'"
    } else {
        "'\\x00'"
    };
    run(
        &mut connection,
        format!("UPDATE _sqlx_migrations SET checksum = {other}"),
    )
    .await;
    connection.close().await.unwrap();
    let error = Store::open(place.address()).await.unwrap_err();
    assert!(matches!(error, OpenError::Migrate(_)), "{error:?}");
}

async fn many_who_start_at_once_find_one_schema(place: Place) {
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let address = place.address().to_owned();
        tasks.spawn(async move {
            let store = Store::open(&address).await.unwrap();
            store.ping().await.unwrap();
            store.close().await;
        });
    }
    tasks.join_all().await;
    let found = versions(&place).await;
    assert_eq!(found.len(), migrator(&place).await.iter().count());
    assert_eq!(place.number("SELECT COUNT(*) FROM counters").await, 3);
}

async fn a_start_on_what_is_up_to_date_changes_nothing(place: Place) {
    let store = place.open().await;
    crate::fixtures::add_owner(&store, "o1", crate::fixtures::PLENTY).await;
    let before = versions(&place).await;
    store.close().await;
    let store = place.open().await;
    assert!(store.owner("o1").await.unwrap().is_some());
    assert_eq!(versions(&place).await, before);
}

#[tokio::test]
async fn an_address_of_no_known_kind_is_refused_without_its_password() {
    for address in ["mysql://me:secret@host/db", "db.sqlite", ""] {
        let error = Store::open(address).await.unwrap_err();
        let words = format!("{error} {error:?}");
        assert!(!words.contains("secret"), "{words}");
    }
    let error = Store::open("mysql://me:secret@host/db").await.unwrap_err();
    assert!(error.to_string().contains("mysql://…@host/db"), "{error}");
}

#[tokio::test]
async fn a_file_is_made_with_its_folders_and_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a folder/50% #1?/pika.db");
    let store = Store::open(&format!("sqlite:{}", path.display()))
        .await
        .unwrap();
    store.ping().await.unwrap();
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", entry.path().display());
    }
    assert!(path.exists());
    // A folder is no file.
    let address = format!("sqlite:{}", folder.path().display());
    let error = Store::open(&address).await.unwrap_err();
    assert!(matches!(error, OpenError::File { .. }), "{error:?}");
}
