//! What tests have of PostgreSQL: an empty database of their own, on a server that they share.
//!
//! Owns which server a test talks to, as the stack does for Incus: the one that `cargo xtask test` names in
//! [`POSTGRES_DIR_VARIABLE`], else the checkout's standing one, started by whichever test comes first and ended when no
//! test used it for a quarter of an hour. A database is named after its process: those of killed tests are dropped by the
//! next process that uses the standing server.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::layout::Layout;
use super::programs::Programs;
use super::{Durability, PostgresError, PrivatePostgres, PrivatePostgresConfig, ROLE, sql, url};
use crate::daemon::blocking;
use crate::keeper::Lifetime;
use crate::program::ProgramError;
use crate::stack;

/// Directory of the server that all tests of one run share.
pub const POSTGRES_DIR_VARIABLE: &str = "PIKAHUT_POSTGRES_DIR";
/// What the names of tests' databases begin with.
const PREFIX: &str = "test_";

/// A server for tests.
#[derive(Debug)]
pub struct TestPostgres {
    dir: PathBuf,
    programs: Programs,
    server: Option<PrivatePostgres>,
}

/// An empty database of one test's own; it is dropped with the value, whoever is connected.
#[derive(Debug)]
pub struct TestDatabase {
    layout: Layout,
    programs: Programs,
    name: String,
}

impl TestPostgres {
    /// The server that all tests share.
    ///
    /// # Panics
    /// When there is none and none can be started: the test fails with the reason.
    pub async fn shared() -> TestPostgres {
        match shared_dir().await {
            Ok(dir) => TestPostgres::new(dir, None),
            Err(error) => panic!("no PostgreSQL for tests: {}", stack::told(&error)),
        }
    }

    /// A server for this test alone, to be killed and restarted; gone with the returned value.
    ///
    /// # Panics
    /// When it can't be started: the test fails with the reason.
    pub async fn private(name: &str) -> TestPostgres {
        let config = PrivatePostgresConfig::new(stack::dir_of_process(stack::POSTGRES, name));
        match PrivatePostgres::start(config).await {
            Ok(server) => TestPostgres::new(server.dir().to_owned(), Some(server)),
            Err(error) => panic!("no PostgreSQL for tests: {}", stack::told(&error)),
        }
    }

    fn new(dir: PathBuf, server: Option<PrivatePostgres>) -> TestPostgres {
        let programs = Programs::find();
        TestPostgres {
            dir,
            programs: programs.expect("a server runs, so its programs are there"),
            server,
        }
    }

    /// The server's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The test's own server.
    ///
    /// # Panics
    /// When the server is the shared one, which no test may kill.
    pub fn server(&self) -> &PrivatePostgres {
        self.server.as_ref().expect(
            "TestPostgres::private gives a server that a test may kill, TestPostgres::shared does not",
        )
    }

    /// A new, empty database.
    ///
    /// # Panics
    /// When it can't be made: the test fails with the reason.
    pub async fn database(&self) -> TestDatabase {
        let database = TestDatabase {
            layout: Layout::new(&self.dir),
            programs: self.programs.clone(),
            name: new_name(),
        };
        let made = blocking(move || {
            let statement = format!(
                "CREATE DATABASE {} OWNER {ROLE} TEMPLATE template0",
                database.name
            );
            sql(&database.programs, &database.layout, "postgres", &statement).map(|_| database)
        });
        match made.await {
            Ok(database) => database,
            Err(error) => panic!("no database for the test: {}", stack::told(&error)),
        }
    }
}

impl PrivatePostgres {
    /// Names of the databases that tests made and that are still there.
    pub fn test_databases(&self) -> Result<Vec<String>, PostgresError> {
        let names = self.sql("postgres", "SELECT datname FROM pg_database ORDER BY 1");
        let names = names.map_err(|source| self.program(source))?;
        let of_tests = names.lines().filter(|name| process_of(name).is_some());
        Ok(of_tests.map(str::to_owned).collect())
    }

    /// Drops the databases of tests whose process is gone, and gives their names.
    pub fn sweep_blocking(&self) -> Result<Vec<String>, PostgresError> {
        let mut names = self.test_databases()?;
        names.retain(|name| is_orphan(name));
        names.retain(|name| {
            let outcome = drop_database(&self.programs, &self.layout, name);
            if let Err(error) = &outcome {
                // Another process may be just dropping it.
                tracing::debug!(name, %error, "a database of a killed test stays");
            }
            outcome.is_ok()
        });
        Ok(names)
    }
}

impl TestDatabase {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// URL by which its owner reaches it, an ordinary role that may do what it likes in it and nothing else.
    pub fn url(&self) -> String {
        url(&self.layout, &self.name, ROLE)
    }

    /// What a statement of the superuser gives: a line for each row, its columns parted by `|`.
    ///
    /// # Panics
    /// When the server refuses it: the test fails with the reason.
    pub fn sql(&self, statement: &str) -> String {
        match sql(&self.programs, &self.layout, &self.name, statement) {
            Ok(rows) => rows,
            Err(error) => panic!("the test's database: {}", stack::told(&error)),
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // Of a server that is gone nothing is left to drop; of one that is down the next process drops it.
        if let Err(error) = drop_database(&self.programs, &self.layout, &self.name) {
            tracing::warn!(name = self.name, error = %stack::told(&error), "a test's database stays");
        }
    }
}

/// Starts a server for all tests of one run; it ends with this process.
pub fn start_for_tests() -> Result<PrivatePostgres, PostgresError> {
    let dir = stack::dir_of_process(stack::POSTGRES, "run");
    PrivatePostgres::start_blocking(&PrivatePostgresConfig::new(dir))
}

/// The shared server's directory; it answers.
async fn shared_dir() -> Result<PathBuf, PostgresError> {
    if let Some(dir) = std::env::var_os(POSTGRES_DIR_VARIABLE) {
        return Ok(PathBuf::from(dir));
    }
    // Held until this process ends, which is what says that the server is used.
    static STANDING: tokio::sync::OnceCell<PrivatePostgres> = tokio::sync::OnceCell::const_new();
    STANDING
        .get_or_try_init(|| blocking(standing))
        .await
        .map(|server| server.dir().to_owned())
}

/// Makes it so that the checkout's standing server answers, without databases of killed tests.
fn standing() -> Result<PrivatePostgres, PostgresError> {
    let server = PrivatePostgres::start_blocking(&PrivatePostgresConfig {
        dir: stack::checkout_dir("postgres"),
        durability: Durability::ProcessCrash,
        lifetime: Lifetime::WhileUsed { idle: stack::IDLE },
    })?;
    server.sweep_blocking()?;
    Ok(server)
}

fn drop_database(programs: &Programs, layout: &Layout, name: &str) -> Result<(), ProgramError> {
    let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    sql(programs, layout, "postgres", &statement).map(drop)
}

/// `test_PID_N`: differs between processes, and between tests of one process.
fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "{PREFIX}{}_{next}_{}",
        std::process::id(),
        stack::unique_id()
    )
}

/// The process that made a test's database.
fn process_of(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('_')?;
    pid.parse().ok()
}

/// A test's database whose process is gone.
fn is_orphan(name: &str) -> bool {
    process_of(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_databases_of_dead_processes_are_orphans() {
        assert!(!is_orphan(&new_name()));
        assert!(is_orphan("test_4194399_0_t12345678"));
        assert!(!is_orphan("postgres"));
        assert!(!is_orphan("test_results"));
        assert_ne!(new_name(), new_name());
    }
}
