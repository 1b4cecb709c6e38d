//! Opening a database: which one, its settings, and bringing its schema up to date.
//!
//! Owns the two kinds of database and what differs between them. Everything else is the same text on both.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Any, AnyPool, ConnectOptions as _, Transaction};

use crate::error::{Saying as _, StoreError};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Connections that read at the same time.
const READERS_MAX: u32 = 8;
/// How long a connection is waited for.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(10);
/// Each statement of which takes longer is logged.
const SLOW: Duration = Duration::from_millis(500);

/// Which kind of database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// One file on this machine.
    Sqlite,
    /// A server.
    Postgres,
}

/// A database that is open, with a schema that is this program's.
#[derive(Debug, Clone)]
pub struct Store {
    reads: AnyPool,
    writes: AnyPool,
    backend: Backend,
}

/// Why a database can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is of no kind that is known.
    #[error(
        "`{given}` is no database address: use `sqlite:/path/to/file` or `postgres://user@host/name`"
    )]
    UnknownAddress {
        /// What was given, without a password.
        given: String,
    },
    /// The folder of the file or its lock can't be used.
    #[error("{path} can't be used", path = path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database can't be reached.
    #[error("the database can't be opened")]
    Connect(#[source] sqlx::Error),
    /// A newer program wrote it.
    #[error(
        "the database has schema version {found}, which this program doesn't know: a newer pika-server wrote it; start that one"
    )]
    Newer {
        /// The version that is there.
        found: i64,
    },
    /// Its schema can't be brought up to date.
    #[error("the database's schema can't be brought up to date; it is as it was")]
    Migrate(#[source] MigrateError),
}

impl Store {
    /// Opens the database at `address`, makes it if it is a file that isn't there, and brings its schema up to date.
    /// Several programs may do so at once.
    ///
    /// # Errors
    /// Each reason is a variant of its own.
    pub async fn open(address: &str) -> Result<Store, OpenError> {
        sqlx::any::install_default_drivers();
        match address.split_once(':') {
            Some(("sqlite", path)) => {
                Store::open_sqlite(Path::new(path.trim_start_matches("//"))).await
            }
            Some(("postgres" | "postgresql", _)) => Store::open_postgres(address).await,
            _ => Err(OpenError::UnknownAddress {
                given: without_password(address),
            }),
        }
    }

    async fn open_sqlite(path: &Path) -> Result<Store, OpenError> {
        let file = |source| OpenError::File {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            tokio::fs::create_dir_all(folder).await.map_err(file)?;
        }
        let lock = lock_beside(path).await?;
        private_file(path).map_err(file)?;
        let text = path.to_str().ok_or_else(|| OpenError::UnknownAddress {
            given: path.display().to_string(),
        })?;
        let options = connect_options(&format!("sqlite:{}?mode=rwc", escape_path(text)))?;
        let pool = |connections: u32| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_LIMIT)
                // A file has no connection that can be lost meanwhile; asking would double what each statement takes.
                .test_before_acquire(false)
                .after_connect(|connection, _| {
                    Box::pin(async move {
                        for pragma in [
                            "PRAGMA journal_mode = WAL",
                            "PRAGMA synchronous = FULL",
                            "PRAGMA foreign_keys = ON",
                            "PRAGMA busy_timeout = 10000",
                        ] {
                            sqlx::query(pragma).execute(&mut *connection).await?;
                        }
                        Ok(())
                    })
                })
        };
        let writes = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(OpenError::Connect)?;
        migrate(&SQLITE, &writes).await?;
        drop(lock);
        let reads = pool(READERS_MAX)
            .connect_with(options)
            .await
            .map_err(OpenError::Connect)?;
        Ok(Store {
            reads,
            writes,
            backend: Backend::Sqlite,
        })
    }

    async fn open_postgres(address: &str) -> Result<Store, OpenError> {
        let pool = AnyPoolOptions::new()
            .max_connections(2 * READERS_MAX)
            .acquire_timeout(ACQUIRE_LIMIT)
            .connect_with(connect_options(address)?)
            .await
            .map_err(OpenError::Connect)?;
        migrate(&POSTGRES, &pool).await?;
        Ok(Store {
            reads: pool.clone(),
            writes: pool,
            backend: Backend::Postgres,
        })
    }

    /// Which kind of database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// When it doesn't.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let asked = sqlx::query("SELECT 1").execute(&self.reads).await;
        asked.map(drop).saying("answer")
    }

    /// Closes every connection once its statement is over.
    pub async fn close(&self) {
        self.writes.close().await;
        self.reads.close().await;
    }

    pub(crate) fn reads(&self) -> &AnyPool {
        &self.reads
    }

    /// A transaction that writes; on SQLite the only one of its kind from its first statement on.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begun = match self.backend {
            Backend::Sqlite => self.writes.begin_with("BEGIN IMMEDIATE").await,
            Backend::Postgres => self.writes.begin().await,
        };
        begun.saying("begin a transaction")
    }

    /// What a SELECT ends with to keep others from changing the row; SQLite has one writer anyway.
    pub(crate) fn for_update(&self) -> &'static str {
        match self.backend {
            Backend::Sqlite => "",
            Backend::Postgres => " FOR NO KEY UPDATE",
        }
    }

    /// The same, for a row that may be left to whoever holds it.
    pub(crate) fn for_update_skipping(&self) -> &'static str {
        match self.backend {
            Backend::Sqlite => "",
            Backend::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }
}

fn connect_options(address: &str) -> Result<AnyConnectOptions, OpenError> {
    let options = AnyConnectOptions::from_str(address).map_err(OpenError::Connect)?;
    Ok(options
        .log_statements(tracing::log::LevelFilter::Trace)
        .log_slow_statements(tracing::log::LevelFilter::Warn, SLOW))
}

async fn migrate(migrator: &Migrator, pool: &AnyPool) -> Result<(), OpenError> {
    migrator.run(pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) | MigrateError::VersionTooNew(found, _) => {
            OpenError::Newer { found }
        }
        other => OpenError::Migrate(other),
    })
}

/// Several programs that open a file for the first time bring its schema up to date one after the other.
async fn lock_beside(path: &Path) -> Result<std::fs::File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let at = path.clone();
    let locked = tokio::task::spawn_blocking(move || {
        let file = private_file(&at)?;
        file.lock()?;
        Ok(file)
    });
    let failed = |source| OpenError::File {
        path: path.clone(),
        source,
    };
    locked
        .await
        .map_err(|error| failed(std::io::Error::other(error)))?
        .map_err(failed)
}

/// Opens or makes a file that only its owner can read: it holds what credentials are checked against.
fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path)
}

/// A path as a part of an address.
fn escape_path(path: &str) -> String {
    path.chars()
        .map(|c| match c {
            '%' => "%25".to_owned(),
            '?' => "%3f".to_owned(),
            '#' => "%23".to_owned(),
            other => other.to_string(),
        })
        .collect()
}

/// An address as it may be shown.
#[must_use]
pub fn without_password(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => address.chars().take(128).collect(),
    }
}
