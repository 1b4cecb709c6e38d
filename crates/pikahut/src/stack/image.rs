//! Images of a test daemon: those of the guest roles, built by pika-image, and tiny ones made from programs of this host.
//!
//! Owns when an image is built and imported again. Files of a role's image are cached below the checkout's target
//! directory by the digest of their inputs, so that a second run builds nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fs_err::File;
use pika_cloud::image_contract::IMAGE_CONTRACT_VERSION;
use pika_image::{BuildImportError, BuildRequest, GuestBinaries, ImportRequest, Progress};
use pika_incus::{Client, ImageRoot, WaitError};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::checkout;
use super::tiny::{self, Tiny};
use crate::daemon::blocking;
use crate::program::{self, ProgramError};

/// Roles of the images that lanes and tests run in, each the name of a guest role.
pub mod roles {
    /// CI jobs.
    pub const RUNNER: &str = "pikaci-runner";
    /// Managed agents.
    pub const AGENT: &str = "managed-openclaw";
    /// An operator's own machine.
    pub const SANDBOX: &str = "pi-sandbox";
}

/// Alias of the tiny image.
const TINY_ALIAS: &str = "pikahut/tiny";
/// Alias of the tiny image whose guests say that they are ready.
const TINY_AGENT_ALIAS: &str = "pikahut/tiny-agent";
/// Longest time for the daemon to take in an image.
const IMPORT_LIMIT: Duration = Duration::from_secs(300);

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The role is not in the registry.
    #[error("the role {0} is not in the role registry")]
    Role(&'static str),
    /// A role's image could not be built or imported.
    #[error("there is no image of role {role}")]
    BuildImport {
        /// Which role.
        role: &'static str,
        /// Why.
        #[source]
        source: BuildImportError,
    },
    /// The tiny image could not be made.
    #[error("can't make the tiny image")]
    Tiny(#[source] ProgramError),
    /// Files could not be read or written.
    #[error("can't prepare an image in {path}")]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The daemon refused something.
    #[error("Incus did not take the image")]
    Incus(#[source] pika_incus::Error),
    /// The import failed.
    #[error("Incus did not take the image in")]
    Import(#[source] WaitError),
}

/// Which run an alias was last looked after in.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Stamp {
    run: String,
    alias: String,
}

/// Where files of images are kept between runs.
pub fn image_cache() -> PathBuf {
    checkout().join("target/pika-image")
}

/// Makes it so that the daemon has the image of one of the [`roles`] as this checkout makes it; gives its alias.
///
/// Within one run of the test runner only the first call looks at the checkout.
pub async fn ensure_role_image(
    client: &Client,
    dir: &Path,
    role: &'static str,
    progress: &dyn Progress,
) -> Result<String, ImageError> {
    let _lock = lock(dir).await?;
    let stamp_path = dir.join(format!("{role}-image.json"));
    // Whoever names a daemon for a whole run has looked after its image before.
    let is_given = std::env::var_os(super::INCUS_DIR_VARIABLE).is_some();
    let run =
        std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| format!("pid-{}", std::process::id()));
    if let Some(stamp) = fs_err::read(&stamp_path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Stamp>(&bytes).ok())
        .filter(|stamp| is_given || stamp.run == run)
    {
        return Ok(stamp.alias);
    }
    let parsed = role.parse().map_err(|_| ImageError::Role(role))?;
    let binaries = GuestBinaries::Checkout(checkout());
    let mut request = BuildRequest::new(parsed, binaries, image_cache());
    request.source_revision = source_revision();
    let target = ImportRequest::for_role(request.role);
    let imported = pika_image::build_import(client, &request, &target, progress)
        .await
        .map_err(|source| ImageError::BuildImport { role, source })?;
    let alias = imported.alias;
    let stamp = Stamp { run, alias };
    let files = |source| ImageError::Files {
        path: stamp_path.clone(),
        source,
    };
    let bytes = serde_json::to_vec(&stamp).map_err(|error| files(error.into()))?;
    fs_err::write(&stamp_path, bytes).map_err(files)?;
    Ok(stamp.alias)
}

/// Makes it so that the daemon has the tiny image; gives its alias.
pub async fn ensure_tiny_image(client: &Client, dir: &Path) -> Result<String, ImageError> {
    ensure_tiny(client, dir, Tiny::Waits).await
}

/// Makes it so that the daemon has the tiny image whose guests say at once that they are ready, as a managed agent's;
/// gives its alias.
pub async fn ensure_tiny_agent_image(client: &Client, dir: &Path) -> Result<String, ImageError> {
    ensure_tiny(client, dir, Tiny::SaysReady).await
}

async fn ensure_tiny(client: &Client, dir: &Path, tiny: Tiny) -> Result<String, ImageError> {
    let _lock = lock(dir).await?;
    let mut properties = pika_incus::Config::default();
    let alias = match tiny {
        Tiny::Waits => TINY_ALIAS,
        Tiny::SaysReady => {
            let version = pika_cloud::GUEST_CONTRACT_VERSION.to_string();
            properties.insert(IMAGE_CONTRACT_VERSION.to_owned(), version);
            TINY_AGENT_ALIAS
        }
    };
    let found = client.alias(alias).await.map_err(ImageError::Incus)?;
    if found.is_some() {
        return Ok(alias.to_owned());
    }
    let folder = tempfile::tempdir().map_err(|source| ImageError::Files {
        path: std::env::temp_dir(),
        source,
    })?;
    let path = folder.path().to_owned();
    let (metadata, rootfs) = blocking(move || tiny::build(&path, tiny)).await?;
    let done = client
        .import_image_split(&metadata, &rootfs, ImageRoot::FileSystem, &properties)
        .await
        .map_err(ImageError::Incus)?
        .wait(IMPORT_LIMIT)
        .await
        .map_err(ImageError::Import)?;
    let fingerprint = done
        .metadata
        .get("fingerprint")
        .and_then(|value| value.as_str());
    client
        .create_alias(
            alias,
            fingerprint.unwrap_or_default(),
            "programs of the host",
        )
        .await
        .map_err(ImageError::Incus)?;
    Ok(alias.to_owned())
}

/// The commit that the checkout is at, if it is one.
fn source_revision() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "HEAD"]).current_dir(checkout());
    let revision = program::run(&mut git).ok()?;
    Some(revision.trim().to_owned())
}

/// Held while an image is made, so that tests that start together make it once.
async fn lock(dir: &Path) -> Result<File, ImageError> {
    let path = dir.join("images.lock");
    blocking(move || {
        let files = |source| ImageError::Files {
            path: path.clone(),
            source,
        };
        let file = File::create(&path).map_err(files)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| files(errno.into()))?;
        Ok(file)
    })
    .await
}
