//! Private PostgreSQL servers: started by many at once, killed and restarted, a database for each test, nothing left.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pikahut::daemon::Lifetime;
use pikahut::postgres::{
    self, CleanError, Durability, PostgresError, PrivatePostgres, PrivatePostgresConfig,
    TestPostgres,
};
use pikahut::stack::{self, Kind};
use pikahut::wait;

const LIMIT: Duration = Duration::from_secs(60);

fn config(name: &str) -> PrivatePostgresConfig {
    PrivatePostgresConfig::new(directory(name))
}

/// A directory of its own for each test and process.
fn directory(name: &str) -> PathBuf {
    PathBuf::from(format!(
        "/var/lib/pikahut/g-{name}-{}-0",
        std::process::id()
    ))
}

/// Runs a statement with the system's own client.
fn try_psql(url: &str, statement: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args([url, "--no-psqlrc", "-Atc", statement])
        .output()
        .unwrap();
    if output.status.success() {
        let text = String::from_utf8(output.stdout).unwrap();
        Ok(text.trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn psql(url: &str, statement: &str) -> String {
    try_psql(url, statement).unwrap()
}

fn pikahut(arguments: &[&str], dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pikahut"))
        .args(arguments)
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn has_processes(dir: &Path) -> bool {
    postgres::leftovers(dir).contains(&"processes".to_owned())
}

fn assert_clean(dir: &Path) {
    assert_eq!(postgres::leftovers(dir), Vec::<String>::new());
}

#[test]
fn many_processes_that_start_it_at_once_get_one_server_and_cleaning_leaves_nothing() {
    let dir = directory("many");
    let mut starters: Vec<Child> = (0..6).map(|_| pikahut(&["postgres"], &dir)).collect();
    let urls: Vec<String> = starters.iter_mut().map(first_line).collect();
    for starter in &mut starters {
        assert!(starter.wait().unwrap().success());
    }
    assert!(
        urls[0].starts_with("postgres:///postgres?host="),
        "{urls:?}"
    );
    assert!(urls.iter().all(|url| *url == urls[0]), "{urls:?}");
    assert_eq!(psql(&urls[0], "SHOW listen_addresses"), "");
    let shown = stack::servers();
    let shown = shown.iter().find(|server| server.dir == dir).unwrap();
    assert!(shown.kind == Kind::Postgres && shown.runs, "{shown:?}");

    let list = Command::new(env!("CARGO_BIN_EXE_pikahut"))
        .arg("list")
        .output()
        .unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let line = format!("{} postgres running", dir.display());
    assert!(list.lines().any(|shown| shown == line), "{list}");
    assert!(pikahut(&["clean"], &dir).wait().unwrap().success());
    assert_clean(&dir);
    assert!(
        pikahut(&["clean"], &dir).wait().unwrap().success(),
        "done already is a success"
    );
}

#[tokio::test]
async fn each_test_has_an_empty_database_of_its_own_which_goes_with_it() {
    let server = TestPostgres::shared().await;
    let (one, other) = tokio::join!(server.database(), server.database());
    assert_ne!(one.name(), other.name());
    let nothing = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(psql(&one.url(), nothing), "0");
    psql(
        &one.url(),
        "CREATE TABLE letters (text TEXT); INSERT INTO letters VALUES ('ä')",
    );
    assert_eq!(one.sql("SELECT text, length(text) FROM letters"), "ä|1");
    assert_eq!(psql(&other.url(), nothing), "0");
    // Its owner may nothing outside of it.
    assert_eq!(
        psql(
            &one.url(),
            "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
        ),
        "f"
    );
    let refused = try_psql(&one.url(), "CREATE DATABASE more").unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");

    // Dropped although somebody is connected.
    let mut session = Command::new("psql")
        .args([one.url().as_str(), "--no-psqlrc", "-At"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(session.stdin.as_mut().unwrap(), b"SELECT 'here';\n").unwrap();
    assert_eq!(first_line(&mut session), "here");
    let name = one.name().to_owned();
    drop(one);
    let there = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(other.sql(&there), "0");
    drop(session.stdin.take());
    session.wait().unwrap();
}

#[tokio::test]
async fn databases_of_dead_processes_are_dropped_and_those_of_living_ones_are_not() {
    let server = TestPostgres::private("sweep").await;
    let living = server.database().await;
    living.sql("CREATE DATABASE test_4194399_0_tdeadbeef");
    living.sql("CREATE DATABASE other");
    let dropped = server.server().sweep_blocking().unwrap();
    assert_eq!(dropped, ["test_4194399_0_tdeadbeef"]);
    let left = living.sql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1");
    assert_eq!(left, format!("other\npostgres\n{}", living.name()));
}

#[tokio::test]
async fn what_was_committed_survives_kill_9_of_the_server() {
    let server = TestPostgres::private("kill").await;
    let database = server.database().await;
    let url = database.url();
    psql(&url, "CREATE TABLE kept (n INT)");
    for n in 1..=3 {
        psql(&url, &format!("INSERT INTO kept VALUES ({n})"));
        let before = server.server().server_pid().unwrap();
        assert!(server.server().kill9_blocking());
        assert_eq!(server.server().server_pid(), None);
        assert!(try_psql(&url, "SELECT 1").is_err());
        server.server().restart_blocking().unwrap();
        assert_ne!(server.server().server_pid().unwrap(), before);
        assert_eq!(psql(&url, "SELECT count(*) FROM kept"), n.to_string());
    }
    let dir = server.dir().to_owned();
    drop(database);
    drop(server);
    assert_clean(&dir);
}

#[test]
fn a_killed_starter_takes_the_server_with_it_and_the_next_start_finds_its_data() {
    let dir = directory("starter");
    let mut starter = pikahut(&["postgres", "--until-eof"], &dir);
    let url = first_line(&mut starter);
    psql(
        &url,
        "CREATE TABLE kept (n INT); INSERT INTO kept VALUES (7)",
    );
    starter.kill().unwrap();
    starter.wait().unwrap();
    let ended = wait::until(LIMIT, || (!has_processes(&dir)).then_some(()));
    assert!(ended.is_some(), "processes of a killed starter go on");
    assert!(
        dir.join("data/postmaster.pid").exists(),
        "it had no time to say good-bye"
    );

    let server = PrivatePostgres::start_blocking(&PrivatePostgresConfig::new(&dir)).unwrap();
    assert_eq!(server.url(), url);
    assert_eq!(psql(&url, "SELECT n FROM kept"), "7");
    drop(server);
    assert_clean(&dir);
}

#[test]
fn a_start_that_is_killed_in_the_middle_is_begun_anew_by_the_next() {
    let dir = directory("half");
    let mut starter = pikahut(&["postgres"], &dir);
    let begun = wait::until(LIMIT, || dir.join("data/PG_VERSION").exists().then_some(()));
    begun.expect("initdb did not begin");
    starter.kill().unwrap();
    starter.wait().unwrap();

    let server = PrivatePostgres::start_blocking(&PrivatePostgresConfig::new(&dir)).unwrap();
    assert_eq!(psql(&server.url(), "SELECT 1"), "1");
    server.clean_blocking().unwrap();
    assert_clean(&dir);
}

#[test]
fn a_cluster_that_does_not_start_is_made_anew_only_where_it_was_for_a_while() {
    let stays = PrivatePostgresConfig {
        lifetime: Lifetime::UntilCleaned,
        durability: Durability::PowerLoss,
        ..config("damaged")
    };
    let server = PrivatePostgres::start_blocking(&stays).unwrap();
    assert_eq!(psql(&server.url(), "SHOW fsync"), "on");
    assert!(server.kill9_blocking());
    let version = server.dir().join("data/PG_VERSION");
    fs_err::write(&version, "8.4\n").unwrap();
    let error = PrivatePostgres::start_blocking(&stays).unwrap_err();
    assert!(matches!(error, PostgresError::NotStarted { .. }), "{error}");
    assert!(error.to_string().contains("8.4"), "{error}");
    assert_eq!(fs_err::read_to_string(&version).unwrap(), "8.4\n");

    let passes = PrivatePostgresConfig {
        lifetime: Lifetime::WithStarter,
        durability: Durability::ProcessCrash,
        ..stays
    };
    let server = PrivatePostgres::start_blocking(&passes).unwrap();
    assert_eq!(psql(&server.url(), "SHOW fsync"), "off");
    let dir = server.dir().to_owned();
    drop(server);
    assert_clean(&dir);
}

#[test]
fn a_server_that_lives_while_it_is_used_ends_when_nobody_does() {
    let config = PrivatePostgresConfig {
        lifetime: Lifetime::WhileUsed {
            idle: Duration::from_secs(2),
        },
        ..config("idle")
    };
    let server = PrivatePostgres::start_blocking(&config).unwrap();
    let second_user = PrivatePostgres::start_blocking(&config).unwrap();
    drop(server);
    let ended = wait::until(Duration::from_secs(6), || {
        (!has_processes(&config.dir)).then_some(())
    });
    assert!(ended.is_none(), "it ended although somebody uses it");
    drop(second_user);
    let ended = wait::until(LIMIT, || (!has_processes(&config.dir)).then_some(()));
    assert!(ended.is_some(), "it goes on although nobody uses it");
    let server = PrivatePostgres::start_blocking(&config).unwrap();
    assert_eq!(psql(&server.url(), "SELECT 1"), "1");
    drop(server);
    postgres::clean(&config.dir).unwrap();
    assert_clean(&config.dir);
}

#[test]
fn a_directory_with_files_of_others_is_refused_and_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("letter"), "dear").unwrap();
    let config = PrivatePostgresConfig::new(folder.path());
    let error = PrivatePostgres::start_blocking(&config).unwrap_err();
    assert!(matches!(error, PostgresError::Directory { .. }), "{error}");
    let error = postgres::clean(folder.path()).unwrap_err();
    assert!(matches!(error, CleanError::NotOurs { .. }), "{error}");
    let letter = fs_err::read_to_string(folder.path().join("letter"));
    assert_eq!(letter.unwrap(), "dear");
}
