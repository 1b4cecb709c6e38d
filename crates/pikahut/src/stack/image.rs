//! Images of a test daemon: the runner's, built by pika-image, and a tiny one made from programs of this host.
//!
//! Owns when an image is built and imported again. Files of the runner's image are cached below the checkout's target
//! directory by the digest of their inputs, so that a second run builds nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err::File;
use pika_image::{BuildError, BuildRequest, GuestBinaries, Progress};
use pika_incus::{Client, ImageRoot, WaitError};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{checkout, tiny};
use crate::daemon::blocking;
use crate::program::ProgramError;

/// Role of the image that lanes and tests run in.
const RUNNER_ROLE: &str = "pikaci-runner";
/// Alias of the tiny image.
const TINY_ALIAS: &str = "pikahut/tiny";
/// Longest time for the daemon to take in an image.
const IMPORT_LIMIT: Duration = Duration::from_secs(300);

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The role is not in the registry.
    #[error("the role {RUNNER_ROLE} is not in the role registry")]
    Role,
    /// The runner's image could not be built.
    #[error("can't build the image of role {RUNNER_ROLE}")]
    Build(#[source] BuildError),
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

/// Makes it so that the daemon has the runner's image of this checkout; gives its alias.
///
/// Within one run of the test runner only the first call looks at the checkout.
pub async fn ensure_runner_image(
    client: &Client,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<String, ImageError> {
    let _lock = lock(dir).await?;
    let stamp_path = dir.join("runner-image.json");
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
    let role = RUNNER_ROLE.parse().map_err(|_| ImageError::Role)?;
    let binaries = GuestBinaries::Checkout(checkout());
    let request = BuildRequest::new(role, binaries, image_cache());
    let built = pika_image::build(&request, progress)
        .await
        .map_err(ImageError::Build)?;
    let alias = built.role.default_image_alias().to_owned();
    import(
        client,
        &alias,
        &built.fingerprint,
        (&built.metadata, &built.rootfs),
        &built.properties,
    )
    .await?;
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
    let _lock = lock(dir).await?;
    if client
        .alias(TINY_ALIAS)
        .await
        .map_err(ImageError::Incus)?
        .is_some()
    {
        return Ok(TINY_ALIAS.to_owned());
    }
    let folder = tempfile::tempdir().map_err(|source| ImageError::Files {
        path: std::env::temp_dir(),
        source,
    })?;
    let path = folder.path().to_owned();
    let (metadata, rootfs) = blocking(move || tiny::build(&path)).await?;
    let properties = pika_incus::types::Config::default();
    import(client, TINY_ALIAS, "", (&metadata, &rootfs), &properties).await?;
    Ok(TINY_ALIAS.to_owned())
}

/// Makes it so that the image is there and the alias points at it.
async fn import(
    client: &Client,
    alias: &str,
    fingerprint: &str,
    (metadata, rootfs): (&Path, &Path),
    properties: &pika_incus::types::Config,
) -> Result<(), ImageError> {
    let known = client.images().await.map_err(ImageError::Incus)?;
    let fingerprint = match known.iter().find(|image| image.fingerprint == fingerprint) {
        Some(image) => image.fingerprint.clone(),
        None => {
            let done = client
                .import_image_split(metadata, rootfs, ImageRoot::FileSystem, properties)
                .await
                .map_err(ImageError::Incus)?
                .wait(IMPORT_LIMIT)
                .await
                .map_err(ImageError::Import)?;
            let named = done
                .metadata
                .get("fingerprint")
                .and_then(|value| value.as_str());
            named.unwrap_or(fingerprint).to_owned()
        }
    };
    let outcome = match client.alias(alias).await.map_err(ImageError::Incus)? {
        Some(found) if found.value.target == fingerprint => Ok(()),
        Some(found) => {
            client
                .update_alias(alias, &fingerprint, found.etag.as_ref())
                .await
        }
        None => client.create_alias(alias, &fingerprint, "").await,
    };
    outcome.map_err(ImageError::Incus)
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
