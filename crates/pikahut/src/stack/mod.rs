//! The stack that tests run on: a real Incus daemon with images, and for each test a name and an owner of its own.
//!
//! Owns which daemon a test talks to. `cargo xtask test` starts one, names it in [`INCUS_DIR_VARIABLE`] and cleans it;
//! a bare `cargo nextest run` uses one that stands beside the checkout's target directory, started by whichever test
//! comes first and ended when no test used it for a quarter of an hour. Tests that kill their daemon have one alone.
//!
//! ```no_run
//! # async fn test() {
//! let incus = pikahut::stack::TestIncus::shared().await;
//! let image = incus.tiny_image().await;
//! let name = incus.name("first");
//! // ... make an instance with that name and incus.owner() among its labels, and remove it ...
//! incus.assert_nothing_left().await;
//! # drop((image, name)); }
//! ```

mod image;
mod inventory;
mod servers;
mod tiny;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pika_incus::Client;
use sha2::{Digest as _, Sha256};

pub use image::{
    ImageError, ensure_role_image, ensure_tiny_agent_image, ensure_tiny_image, image_cache, roles,
};
pub use inventory::{left_in, left_of};
/// The client that tests reach a daemon with, where their crate has none of its own.
pub use pika_incus as incus;
pub(crate) use servers::{INCUS, POSTGRES, dir_of_process};
pub use servers::{Kind, Server, clean, servers, sweep};

use crate::daemon::{Lifetime, Pool, PrivateIncus, PrivateIncusConfig, StartError, blocking};
use crate::install::{self, InotifyError};
use crate::wait;

/// Directory of the daemon that all tests of one run share.
pub const INCUS_DIR_VARIABLE: &str = "PIKAHUT_INCUS_DIR";
/// Where directories of private servers are: short, since sockets are below, and on disk.
pub const BASE: &str = "/var/lib/pikahut";
/// Size of the pool of a test daemon; sparse.
const POOL_GIB: u32 = 20;
/// After this long without a test a standing server ends.
pub(crate) const IDLE: Duration = Duration::from_secs(900);
/// How long a removal that is under way may take before it counts as a leak.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);

/// Why a test has no daemon.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The limit on inotify instances.
    #[error("this machine can't run enough guests")]
    Inotify(#[source] InotifyError),
    /// The daemon.
    #[error("no Incus daemon for tests")]
    Start(#[source] StartError),
}

/// What one test has: a daemon, a client, a name.
#[derive(Debug)]
pub struct TestIncus {
    client: Client,
    dir: PathBuf,
    id: String,
    daemon: Option<PrivateIncus>,
}

impl TestIncus {
    /// The daemon that all tests share.
    ///
    /// # Panics
    /// When there is none and none can be started: the test fails with the reason.
    pub async fn shared() -> TestIncus {
        match shared_dir().await {
            Ok(dir) => TestIncus::new(dir, None),
            Err(error) => panic!("{}", told(&error)),
        }
    }

    /// A daemon for this test alone, to be killed and restarted; gone with the returned value.
    ///
    /// # Panics
    /// When it can't be started: the test fails with the reason.
    pub async fn private(name: &str) -> TestIncus {
        TestIncus::private_with(name, |config| config).await
    }

    /// As [`TestIncus::private`], with changes to its configuration.
    ///
    /// # Panics
    /// When it can't be started: the test fails with the reason.
    pub async fn private_with(
        name: &str,
        change: impl FnOnce(PrivateIncusConfig) -> PrivateIncusConfig,
    ) -> TestIncus {
        let config = change(PrivateIncusConfig {
            pool: Pool::Btrfs { size_gib: POOL_GIB },
            ..PrivateIncusConfig::new(dir_of_process(INCUS, name))
        });
        let started = async {
            prepare_machine().await?;
            PrivateIncus::start(config).await.map_err(StackError::Start)
        };
        match started.await {
            Ok(daemon) => TestIncus::new(daemon.dir().to_owned(), Some(daemon)),
            Err(error) => panic!("{}", told(&error)),
        }
    }

    fn new(dir: PathBuf, daemon: Option<PrivateIncus>) -> TestIncus {
        let project = daemon.as_ref().map_or("default", PrivateIncus::project);
        TestIncus {
            client: Client::unix(dir.join("unix.socket")).with_project(project),
            id: unique_id(),
            dir,
            daemon,
        }
    }

    /// A client of the daemon, in its project.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The daemon's directory, its `INCUS_DIR`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("unix.socket")
    }

    /// The test's own daemon.
    ///
    /// # Panics
    /// When the daemon is the shared one, which no test may kill.
    pub fn daemon(&self) -> &PrivateIncus {
        self.daemon.as_ref().expect(
            "TestIncus::private gives a daemon that a test may kill, TestIncus::shared does not",
        )
    }

    /// An instance name that no other test uses: on this machine, in any daemon.
    pub fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.id)
    }

    /// The owner id of this test alone: goes into the labels of whatever it makes.
    pub fn owner(&self) -> String {
        format!("test-{}", self.id)
    }

    /// Alias of the image of role `pikaci-runner`, built and imported when it isn't there.
    ///
    /// # Panics
    /// When it can't be built: the test fails with the reason.
    pub async fn runner_image(&self) -> String {
        self.role_image(roles::RUNNER).await
    }

    /// Alias of the image of role `managed-openclaw`, built and imported when it isn't there. The first build on a
    /// machine takes minutes.
    ///
    /// # Panics
    /// When it can't be built: the test fails with the reason.
    pub async fn agent_image(&self) -> String {
        self.role_image(roles::AGENT).await
    }

    /// Alias of the image of role `pi-sandbox`, built and imported when it isn't there.
    ///
    /// # Panics
    /// When it can't be built: the test fails with the reason.
    pub async fn sandbox_image(&self) -> String {
        self.role_image(roles::SANDBOX).await
    }

    async fn role_image(&self, role: &'static str) -> String {
        match ensure_role_image(&self.client, &self.dir, role, &pika_image::Silent).await {
            Ok(alias) => alias,
            Err(error) => panic!("{}", told(&error)),
        }
    }

    /// Alias of an image with a shell, a few programs and an init that only waits: up in a tenth of a second.
    ///
    /// # Panics
    /// When it can't be made: the test fails with the reason.
    pub async fn tiny_image(&self) -> String {
        match ensure_tiny_image(&self.client, &self.dir).await {
            Ok(alias) => alias,
            Err(error) => panic!("{}", told(&error)),
        }
    }

    /// Alias of a tiny image whose guests say that they are ready: the least that a managed agent can be.
    ///
    /// # Panics
    /// When it can't be made: the test fails with the reason.
    pub async fn tiny_agent_image(&self) -> String {
        match ensure_tiny_agent_image(&self.client, &self.dir).await {
            Ok(alias) => alias,
            Err(error) => panic!("{}", told(&error)),
        }
    }

    /// Fails the test unless everything with its owner id or name is gone: instances, volumes, images, operations.
    ///
    /// A removal that is under way gets ten seconds.
    ///
    /// # Panics
    /// With the list of what is left.
    pub async fn assert_nothing_left(&self) {
        let (owner, prefix) = (self.owner(), self.id.clone());
        let mut left = Vec::new();
        let gone = wait::until_async(REMOVAL_LIMIT, || async {
            match left_of(&self.client, &owner, &prefix).await {
                Ok(found) => Some(found),
                Err(error) => Some(vec![format!("the daemon can't be asked: {}", told(&error))]),
            }
            .filter(Vec::is_empty)
        })
        .await
        .is_some();
        if !gone {
            left = left_of(&self.client, &owner, &prefix)
                .await
                .unwrap_or_default();
        }
        assert!(
            gone,
            "the test with owner {owner} left behind: {}",
            left.join(", ")
        );
    }
}

/// An error with all its causes, on one line.
pub fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The checkout that this crate was built from.
pub fn checkout() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir
        .ancestors()
        .nth(2)
        .map_or_else(|| crate_dir.to_owned(), Path::to_owned)
}

/// A directory below [`BASE`] that belongs to this checkout.
pub fn checkout_dir(kind: &str) -> PathBuf {
    let digest = Sha256::digest(checkout().as_os_str().as_encoded_bytes());
    Path::new(BASE).join(format!("{kind}-{}", hex::encode(&digest[..4])))
}

/// Starts a daemon for all tests of one run; it ends with this process.
pub fn start_for_tests() -> Result<PrivateIncus, StartError> {
    PrivateIncus::start_blocking(&PrivateIncusConfig {
        pool: Pool::Btrfs { size_gib: POOL_GIB },
        ..PrivateIncusConfig::new(dir_of_process(INCUS, "run"))
    })
}

/// Starts with a letter, differs between processes, tests of one process, and runs.
pub(crate) fn unique_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let digest = Sha256::digest(format!("{}:{next}:{now}", std::process::id()));
    format!("t{}", hex::encode(&digest[..4]))
}

async fn prepare_machine() -> Result<(), StackError> {
    blocking(|| {
        sweep();
        install::ensure_inotify(Path::new(install::INOTIFY_INSTANCES))
    })
    .await
    .map(drop)
    .map_err(StackError::Inotify)
}

/// The shared daemon's directory; it answers.
async fn shared_dir() -> Result<PathBuf, StackError> {
    if let Some(dir) = std::env::var_os(INCUS_DIR_VARIABLE) {
        return Ok(PathBuf::from(dir));
    }
    // Held until this process ends, which is what says that the daemon is used.
    static STANDING: tokio::sync::OnceCell<PrivateIncus> = tokio::sync::OnceCell::const_new();
    STANDING
        .get_or_try_init(|| async {
            prepare_machine().await?;
            blocking(standing).await
        })
        .await
        .map(|daemon| daemon.dir().to_owned())
}

/// Makes it so that the checkout's standing daemon answers; it stays while the returned value lives.
fn standing() -> Result<PrivateIncus, StackError> {
    PrivateIncus::start_blocking(&PrivateIncusConfig {
        pool: Pool::Btrfs { size_gib: POOL_GIB },
        lifetime: Lifetime::WhileUsed { idle: IDLE },
        ..PrivateIncusConfig::new(checkout_dir("test"))
    })
    .map_err(StackError::Start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_may_start_an_instance_name() {
        let (one, two) = (unique_id(), unique_id());
        assert_ne!(one, two);
        assert!(one.starts_with('t') && one.len() == 9, "{one}");
    }
}
