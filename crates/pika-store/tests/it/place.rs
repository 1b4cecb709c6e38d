//! Where a test's rows are: a SQLite file in a folder of its own, or a PostgreSQL database of its own.

use pika_store::Store;
use pikahut::postgres::{TestDatabase, TestPostgres};
use sqlx::{AnyConnection, Connection as _, Row as _};
use tokio::task::JoinSet;

/// One database, gone with the value.
pub(crate) struct Place {
    address: String,
    _kept: Kept,
}

enum Kept {
    Folder { _folder: tempfile::TempDir },
    Database { _database: TestDatabase },
}

impl Place {
    pub(crate) async fn sqlite() -> Place {
        let folder = tempfile::tempdir().unwrap();
        Place {
            address: format!("sqlite:{}", folder.path().join("it.db").display()),
            _kept: Kept::Folder { _folder: folder },
        }
    }

    pub(crate) async fn postgres() -> Place {
        let database = TestPostgres::shared().await.database().await;
        Place {
            address: database.url(),
            _kept: Kept::Database {
                _database: database,
            },
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.address.starts_with("sqlite:")
    }

    /// The store, as one server has it; each call is another server on the same database.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.address).await.unwrap()
    }

    /// A connection beside the store, to see or make what its functions don't.
    pub(crate) async fn raw(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        let address = if self.is_sqlite() {
            format!("{}?mode=rwc", self.address)
        } else {
            self.address.clone()
        };
        AnyConnection::connect(&address).await.unwrap()
    }

    /// The number that a query gives.
    pub(crate) async fn number(&self, query: &'static str) -> i64 {
        let mut connection = self.raw().await;
        let row = sqlx::query(query).fetch_one(&mut connection).await.unwrap();
        let number = row.try_get(0).unwrap();
        connection.close().await.unwrap();
        number
    }
}

/// Asks so many times at once, half of them on each of two servers, and gives all answers.
pub(crate) async fn race<T, F>(
    place: &Place,
    count: usize,
    ask: impl Fn(Store, usize) -> F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let servers = [place.open().await, place.open().await];
    let mut tasks = JoinSet::new();
    for number in 0..count {
        tasks.spawn(ask(servers[number % 2].clone(), number));
    }
    tasks.join_all().await
}

/// Makes of each scenario a test on each kind of database.
macro_rules! on_both {
    ($($scenario:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $scenario() {
                super::$scenario(crate::place::Place::sqlite().await).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $scenario() {
                super::$scenario(crate::place::Place::postgres().await).await;
            })+
        }
    };
}

pub(crate) use on_both;
