//! The server: its parts put together, started, and ended in order.
//!
//! Owns the order of both. At the end no new request is taken, those under way are finished, operations are put back for
//! whoever takes them next, and only then the database is closed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pika_managed_agent_contract::{Role, Scope};
use pika_store::{AllowEntry, NewToken, OpenError, Owner, Store, StoreError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Signals};
use crate::clock::Clock;
use crate::config::Config;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::secret::{NoRandomness, Secret, new_id};
use crate::work::WorkHook;
use crate::{http, reconcile, uses, work};

/// The owner that the first token belongs to.
pub const FIRST_OWNER: &str = "operator";
/// How long requests under way may take once the server is to end.
pub const REQUESTS_LIMIT: Duration = Duration::from_secs(10);
/// How long the whole end may take.
pub const ENDING_LIMIT: Duration = Duration::from_secs(20);

/// A server that can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its database can't be opened.
    #[error("the database can't be used")]
    Database(#[from] OpenError),
    /// Its database fails.
    #[error("the database fails")]
    Store(#[from] StoreError),
    /// It can't listen.
    #[error("can't listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The operator's first token can't be kept.
    #[error(
        "can't write the operator's first token to {path}; no token was made",
        path = path.display()
    )]
    TokenFile {
        /// Where it should go.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The system gives no random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    first_token: Option<Secret>,
    app: Arc<App>,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
}

/// What a start may be given besides its configuration.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// Where the time comes from.
    pub clock: Clock,
    /// Told about each step of each operation.
    pub hook: Option<Arc<dyn WorkHook>>,
    /// Where the operator's first token is written before it counts, for its owner alone.
    pub token_file: Option<PathBuf>,
}

impl Default for StartOptions {
    fn default() -> StartOptions {
        StartOptions {
            clock: Clock::system(),
            hook: None,
            token_file: None,
        }
    }
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// Each reason is a variant of its own.
    pub async fn start(config: Config, options: StartOptions) -> Result<Server, StartError> {
        let store = Store::open(&config.database).await?;
        let (listener, address) = listen(config.listen).await?;
        let metrics_listener = match config.metrics_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        // The last thing that can fail: a token that was made and never shown would lock everybody out.
        let first_token = first_token(&store, &config, &options).await?;
        let metrics_address = metrics_listener.as_ref().map(|(_, address)| *address);
        let app = Arc::new(App {
            fleet: Fleet::new(&config),
            store,
            clock: options.clock,
            signals: Signals::default(),
            metrics: Metrics::default(),
            strays: reconcile::Strays::default(),
            uses: uses::Uses::default(),
            hook: options.hook,
            ending: CancellationToken::new(),
            sockets: TaskTracker::new(),
            name: new_id("server"),
            config,
        });
        let mut tasks = vec![
            (
                "http",
                tokio::spawn(serve(Arc::clone(&app), listener, http::router(&app))),
            ),
            ("work", tokio::spawn(work::run(Arc::clone(&app)))),
            ("reconcile", tokio::spawn(reconcile::run(Arc::clone(&app)))),
            ("uses of tokens", tokio::spawn(uses::run(Arc::clone(&app)))),
        ];
        if let Some((listener, _)) = metrics_listener {
            let router = http::router_of_metrics(&app);
            let serving = tokio::spawn(serve(Arc::clone(&app), listener, router));
            tasks.push(("metrics", serving));
        }
        tracing::info!(%address, name = app.name, "started");
        Ok(Server {
            address,
            metrics_address,
            first_token,
            app,
            tasks,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it shows its figures to whoever asks, if it does.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The operator's first token, if this start made it. It can't be had again.
    #[must_use]
    pub fn first_token(&self) -> Option<&Secret> {
        self.first_token.as_ref()
    }

    /// Its database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.app.store
    }

    /// Ends it in order, within [`ENDING_LIMIT`]; what has not ended by then is told and dropped.
    pub async fn shut_down(self) {
        let until = Instant::now() + ENDING_LIMIT;
        self.app.ending.cancel();
        for (task, handle) in self.tasks {
            let abort = handle.abort_handle();
            match tokio::time::timeout_at(until, handle).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(task, %error, "a part ended badly"),
                Err(_) => {
                    abort.abort();
                    tracing::error!(task, "a part did not end in time, and is dropped");
                }
            }
        }
        self.app.sockets.close();
        let last = async {
            self.app.sockets.wait().await;
            uses::write(&self.app).await;
            self.app.store.close().await;
        };
        if tokio::time::timeout_at(until, last).await.is_err() {
            tracing::error!("the database was not let go in time");
        }
        tracing::info!("ended");
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = TcpListener::bind(address)
        .await
        .and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    listener.map_err(|source| StartError::Listen { address, source })
}

async fn serve(app: Arc<App>, listener: TcpListener, router: axum::Router) {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service)
        .with_graceful_shutdown(app.ending.clone().cancelled_owned())
        .into_future();
    let late = async {
        app.ending.cancelled().await;
        tokio::time::sleep(REQUESTS_LIMIT).await;
    };
    tokio::select! {
        served = served => {
            if let Err(error) = served {
                tracing::error!(%error, "no more requests are taken");
            }
        }
        () = late => tracing::warn!("requests that were still under way are dropped"),
    }
}

/// Makes the operator's first token on a database that has none that counts. Kept first and counted then: a server that
/// dies in between makes another.
async fn first_token(
    store: &Store,
    config: &Config,
    options: &StartOptions,
) -> Result<Option<Secret>, StartError> {
    let now = options.clock.now();
    if store.has_operator_token(now).await? {
        return Ok(None);
    }
    let owner = Owner {
        id: FIRST_OWNER.to_owned(),
        name: "the operator".to_owned(),
        role: Role::Operator,
        quotas: config.quotas,
        created_at: now,
    };
    store.ensure_owner(reconcile::BY_SERVER, &owner).await?;
    let entry = AllowEntry {
        owner_id: owner.id.clone(),
        note: "runs this deployment".to_owned(),
        added_by: reconcile::BY_SERVER.to_owned(),
        added_at: now,
    };
    store.allow(&entry).await?;
    let secret = Secret::token()?;
    if let Some(path) = &options.token_file {
        secret
            .write_to(path)
            .map_err(|source| StartError::TokenFile {
                path: path.clone(),
                source,
            })?;
    }
    let token = NewToken {
        id: new_id("token"),
        owner_id: owner.id,
        secret_hash: secret.hash(),
        scope: Scope::Operator,
        label: "made at the first start".to_owned(),
        created_at: now,
        expires_at: None,
    };
    store.add_token(reconcile::BY_SERVER, &token).await?;
    Ok(Some(secret))
}
