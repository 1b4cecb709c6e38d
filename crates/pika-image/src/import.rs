//! From files to an image behind an alias.
//!
//! Owns images and aliases of this project in Incus. An image is uploaded without an alias, then the alias is
//! created or switched under a condition, so whoever uses the alias sees the old image or the new one and never
//! none. The image that lost the alias stays for a rollback; older ones go. Images of others are never touched.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pika_incus::{Client, ErrorKind, ImageRoot, WaitError};
use pika_incus_guest_role::IncusGuestRole;
use serde::Serialize;

use crate::build::{BuiltImage, prepare};
use crate::catalog::{CatalogError, ImageRecord, list};
use crate::error::BuildError;
use crate::progress::{self, Progress, Running, Step};
use crate::properties::{ROLLBACK_FOR, SUPERSEDED_AT};
use crate::request::{BuildRequest, ImageKind};

/// How often a change of an alias that others change too is tried.
const ALIAS_TRIES_MAX: u32 = 5;
/// How often an image that somebody deletes between upload and alias is uploaded.
const UPLOAD_TRIES_MAX: u32 = 3;
/// An image of ours without an alias that is older than this was left by an interrupted import.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRequest {
    /// Alias that will point at it.
    pub alias: String,
    /// How many images that lost the alias are kept to go back to.
    pub rollback_keep: usize,
    /// How long the server may take to store it.
    pub limit: Duration,
}

impl ImportRequest {
    /// Under the role's own alias, with one image kept to go back to.
    #[must_use]
    pub fn for_role(role: IncusGuestRole) -> ImportRequest {
        ImportRequest::under(role.default_image_alias())
    }

    /// Under this alias, with one image kept to go back to.
    #[must_use]
    pub fn under(alias: impl Into<String>) -> ImportRequest {
        ImportRequest {
            alias: alias.into(),
            rollback_keep: 1,
            limit: Duration::from_secs(600),
        }
    }
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The alias, which points at the image now.
    pub alias: String,
    /// The image.
    pub fingerprint: String,
    /// Whether it had to be uploaded.
    pub uploaded: bool,
    /// What happened to the alias.
    pub alias_change: AliasChange,
    /// Images that were deleted because nothing needs them any more.
    pub deleted: Vec<String>,
}

/// What happened to an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum AliasChange {
    /// It pointed at the image before.
    Unchanged,
    /// There was none.
    Created,
    /// It pointed at another image, which is kept to go back to.
    Switched {
        /// That image.
        from: String,
    },
}

/// Why an image could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The server refused a request.
    #[error("the server did not take the image {fingerprint} for the alias {alias}")]
    Server {
        /// Which image.
        fingerprint: String,
        /// Which alias.
        alias: String,
        /// Why.
        #[source]
        source: pika_incus::Error,
    },
    /// The server could not store it.
    #[error(
        "the server did not store the image {fingerprint}: check the space of its image store and its log"
    )]
    Store {
        /// Which image.
        fingerprint: String,
        /// Why.
        #[source]
        source: WaitError,
    },
    /// What came out is not what was sent.
    #[error(
        "the server stored the image as {stored}, its files say {fingerprint}: a file changed while it was sent; import again"
    )]
    Fingerprint {
        /// What the files say.
        fingerprint: String,
        /// What the server says.
        stored: String,
    },
    /// Others change the alias all the time.
    #[error(
        "the alias {alias} was changed by others {ALIAS_TRIES_MAX} times while it was switched: import again when they are done"
    )]
    AliasContended {
        /// Which alias.
        alias: String,
    },
    /// Somebody deletes the image before it has its alias.
    #[error(
        "the image {fingerprint} was deleted {UPLOAD_TRIES_MAX} times before it had its alias: see who deletes images on this server"
    )]
    Vanishes {
        /// Which image.
        fingerprint: String,
    },
    /// The server's images could not be listed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Nothing to go back to.
    #[error("no image is kept for the alias {alias}: build one with `pika image build-import`")]
    NothingToRollBack {
        /// Which alias.
        alias: String,
    },
}

/// Why an image could not be built and imported.
#[derive(Debug, thiserror::Error)]
pub enum BuildImportError {
    /// It could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It could not be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// Makes it so that the alias points at an image of the request's inputs: looks for one on the server, then in the
/// cache, then builds.
pub async fn build_import(
    client: &Client,
    request: &BuildRequest,
    target: &ImportRequest,
    progress: &dyn Progress,
) -> Result<Imported, BuildImportError> {
    let prepared = prepare(request, progress).await?;
    let known = list(client).await.map_err(ImportError::Catalog)?;
    let same = known.iter().find(|record| {
        record.input_digest.as_deref() == Some(prepared.input_digest())
            && record.kind == Some(request.kind)
    });
    if let Some(record) = same {
        progress::reused(progress, Step::Upload, record.fingerprint.clone());
        match finish(client, &record.fingerprint, false, target, progress).await {
            // It went away meanwhile.
            Err(ImportError::Vanishes { .. }) => {}
            other => return Ok(other?),
        }
    }
    let image = prepared.build(progress).await?;
    Ok(import(client, &image, target, progress).await?)
}

/// Makes it so that the alias points at this image. May be called by several processes at once, for the same image
/// or for different ones; the last to switch the alias wins.
pub async fn import(
    client: &Client,
    image: &BuiltImage,
    target: &ImportRequest,
    progress: &dyn Progress,
) -> Result<Imported, ImportError> {
    for _ in 0..UPLOAD_TRIES_MAX {
        let uploaded = upload(client, image, target, progress).await?;
        match finish(client, &image.fingerprint, uploaded, target, progress).await {
            Err(ImportError::Vanishes { .. }) => {}
            Err(error) => {
                if uploaded {
                    discard(client, &image.fingerprint).await;
                }
                return Err(error);
            }
            done => return done,
        }
    }
    Err(ImportError::Vanishes {
        fingerprint: image.fingerprint.clone(),
    })
}

/// Points the alias back at the image that had it before. Calling it again goes forward again.
pub async fn rollback(
    client: &Client,
    target: &ImportRequest,
    progress: &dyn Progress,
) -> Result<Imported, ImportError> {
    let mut kept: Vec<ImageRecord> = list(client)
        .await?
        .into_iter()
        .filter(|record| is_kept_for(record, &target.alias))
        .collect();
    kept.sort_by(|a, b| a.superseded_at.cmp(&b.superseded_at));
    let newest = kept.pop().ok_or_else(|| ImportError::NothingToRollBack {
        alias: target.alias.clone(),
    })?;
    finish(client, &newest.fingerprint, false, target, progress).await
}

fn is_kept_for(record: &ImageRecord, alias: &str) -> bool {
    record.aliases.is_empty() && record.rollback_for.as_deref() == Some(alias)
}

/// Whether it had to be uploaded.
async fn upload(
    client: &Client,
    image: &BuiltImage,
    target: &ImportRequest,
    progress: &dyn Progress,
) -> Result<bool, ImportError> {
    let refused = |source| ImportError::Server {
        fingerprint: image.fingerprint.clone(),
        alias: target.alias.clone(),
        source,
    };
    if exists(client, &image.fingerprint).await.map_err(refused)? {
        progress::reused(progress, Step::Upload, image.fingerprint.clone());
        return Ok(false);
    }
    let running = Running::start(
        progress,
        Step::Upload,
        format!("{} MiB", image.rootfs_bytes >> 20),
    );
    let root = match image.kind {
        ImageKind::Container => ImageRoot::FileSystem,
        ImageKind::VirtualMachine => ImageRoot::Disk,
    };
    let started = client
        .import_image_split(&image.metadata, &image.rootfs, root, &image.properties)
        .await;
    let outcome = match started {
        Ok(operation) => operation
            .wait(target.limit)
            .await
            .map_err(|source| ImportError::Store {
                fingerprint: image.fingerprint.clone(),
                source,
            }),
        Err(source) => Err(refused(source)),
    };
    match outcome {
        Ok(operation) => {
            let stored = operation
                .metadata
                .get("fingerprint")
                .and_then(|value| value.as_str())
                .unwrap_or(&image.fingerprint);
            if stored != image.fingerprint {
                discard(client, stored).await;
                return Err(ImportError::Fingerprint {
                    fingerprint: image.fingerprint.clone(),
                    stored: stored.to_owned(),
                });
            }
        }
        // Another process may have imported the same image at the same time: look again.
        Err(error) => {
            if !exists(client, &image.fingerprint).await.map_err(refused)? {
                return Err(error);
            }
            running.finish("another import was quicker");
            return Ok(false);
        }
    }
    running.finish(image.fingerprint.clone());
    Ok(true)
}

async fn exists(client: &Client, fingerprint: &str) -> Result<bool, pika_incus::Error> {
    match client.image(fingerprint).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Alias, marks and pruning for an image that is on the server.
async fn finish(
    client: &Client,
    fingerprint: &str,
    uploaded: bool,
    target: &ImportRequest,
    progress: &dyn Progress,
) -> Result<Imported, ImportError> {
    let running = Running::start(progress, Step::Alias, target.alias.clone());
    let alias_change = point_alias(client, &target.alias, fingerprint).await?;
    let refused = |source| ImportError::Server {
        fingerprint: fingerprint.to_owned(),
        alias: target.alias.clone(),
        source,
    };
    mark(client, fingerprint, "", "").await.map_err(refused)?;
    running.finish(match &alias_change {
        AliasChange::Unchanged => "unchanged".to_owned(),
        AliasChange::Created => "created".to_owned(),
        AliasChange::Switched { from } => format!("switched from {from}"),
    });
    let deleted = prune(client, target, progress).await?;
    Ok(Imported {
        alias: target.alias.clone(),
        fingerprint: fingerprint.to_owned(),
        uploaded,
        alias_change,
        deleted,
    })
}

/// Creates or switches the alias, each time on the condition that nobody changed it since it was read.
async fn point_alias(
    client: &Client,
    alias: &str,
    fingerprint: &str,
) -> Result<AliasChange, ImportError> {
    let refused = |source| ImportError::Server {
        fingerprint: fingerprint.to_owned(),
        alias: alias.to_owned(),
        source,
    };
    for _ in 0..ALIAS_TRIES_MAX {
        let found = client.alias(alias).await.map_err(refused)?;
        let (outcome, change) = match found {
            Some(found) if found.value.target == fingerprint => return Ok(AliasChange::Unchanged),
            Some(found) => {
                let from = found.value.target;
                keep(client, &from, alias).await.map_err(refused)?;
                let switched = client
                    .update_alias(alias, fingerprint, found.etag.as_ref())
                    .await;
                (switched, AliasChange::Switched { from })
            }
            None => (
                client.create_alias(alias, fingerprint, "").await,
                AliasChange::Created,
            ),
        };
        let error = match outcome {
            Ok(()) => return Ok(change),
            Err(error) => error,
        };
        if !exists(client, fingerprint).await.map_err(refused)? {
            return Err(ImportError::Vanishes {
                fingerprint: fingerprint.to_owned(),
            });
        }
        // Lost against somebody else if the alias is another one than before; else the refusal stands.
        let now = client.alias(alias).await.map_err(refused)?;
        let before = match &change {
            AliasChange::Switched { from } => Some(from.as_str()),
            _ => None,
        };
        let changed = now.as_ref().map(|now| now.value.target.as_str()) != before;
        if !changed && error.kind() != ErrorKind::PreconditionFailed {
            return Err(refused(error));
        }
    }
    Err(ImportError::AliasContended {
        alias: alias.to_owned(),
    })
}

/// Marks an image that is about to lose its alias, so that it is never one that nothing is known of. While it has an
/// alias the mark means nothing.
async fn keep(client: &Client, fingerprint: &str, alias: &str) -> Result<(), pika_incus::Error> {
    let now = Timestamp::now().to_string();
    match mark(client, fingerprint, alias, &now).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        marked => marked,
    }
}

/// Writes which alias an image is kept for and since when; empty means that it is not.
async fn mark(
    client: &Client,
    fingerprint: &str,
    rollback_for: &str,
    superseded_at: &str,
) -> Result<(), pika_incus::Error> {
    let image = client.image(fingerprint).await?;
    let wanted = BTreeMap::from([
        (ROLLBACK_FOR.to_owned(), rollback_for.to_owned()),
        (SUPERSEDED_AT.to_owned(), superseded_at.to_owned()),
    ]);
    let value = |name: &String| image.value.properties.get(name).map_or("", String::as_str);
    if wanted.iter().all(|(name, wanted)| value(name) == wanted) {
        return Ok(());
    }
    // The server merges them with the others.
    client
        .update_image_properties(fingerprint, &wanted, None)
        .await
}

/// Deletes what is beyond the bound, and what interrupted imports left.
async fn prune(
    client: &Client,
    target: &ImportRequest,
    progress: &dyn Progress,
) -> Result<Vec<String>, ImportError> {
    let records = list(client).await?;
    let mut deleted = Vec::new();
    for fingerprint in surplus(&records, target, Timestamp::now()) {
        if discard(client, &fingerprint).await {
            deleted.push(fingerprint);
        }
    }
    if !deleted.is_empty() {
        progress::reused(progress, Step::Prune, format!("deleted {}", deleted.len()));
    }
    Ok(deleted)
}

/// Which images nothing needs any more. One with an alias, or made by others, is never among them.
fn surplus(records: &[ImageRecord], target: &ImportRequest, now: Timestamp) -> Vec<String> {
    let mut kept: Vec<&ImageRecord> = records
        .iter()
        .filter(|record| is_kept_for(record, &target.alias))
        .collect();
    kept.sort_by(|a, b| b.superseded_at.cmp(&a.superseded_at));
    let abandoned = records.iter().filter(|record| {
        record.aliases.is_empty()
            && record.rollback_for.is_none()
            && record
                .uploaded_at
                .as_deref()
                .and_then(|at| at.parse::<Timestamp>().ok())
                .is_some_and(|at| now.duration_since(at).unsigned_abs() > ABANDONED_AFTER)
    });
    kept.into_iter()
        .skip(target.rollback_keep)
        .chain(abandoned)
        .map(|record| record.fingerprint.clone())
        .collect()
}

/// Deletes an image that has no alias; whether it is gone. A failure leaves it for the next import to delete.
async fn discard(client: &Client, fingerprint: &str) -> bool {
    let unused = match client.image(fingerprint).await {
        Ok(image) => image.value.aliases.is_empty(),
        Err(_) => false,
    };
    if !unused {
        return false;
    }
    let outcome = match client.delete_image(fingerprint).await {
        Ok(operation) => operation
            .wait(Duration::from_secs(60))
            .await
            .map(drop)
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = &outcome {
        tracing::warn!(fingerprint, error, "an unneeded image stays");
    }
    outcome.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, aliases: &[&str], kept: Option<(&str, &str)>) -> ImageRecord {
        ImageRecord {
            fingerprint: name.to_owned(),
            kind: Some(ImageKind::Container),
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            role: None,
            contract_version: None,
            source_revision: None,
            input_digest: None,
            size_bytes: 0,
            uploaded_at: Some("2026-01-01T00:00:00Z".to_owned()),
            rollback_for: kept.map(|(alias, _)| alias.to_owned()),
            superseded_at: kept.map(|(_, at)| at.to_owned()),
        }
    }

    #[test]
    fn the_newest_rollback_stays_and_other_aliases_keep_theirs() {
        let records = [
            record("current", &["a"], None),
            record("older", &[], Some(("a", "2026-01-01T00:00:00Z"))),
            record("newer", &[], Some(("a", "2026-01-02T00:00:00Z"))),
            record("others", &[], Some(("b", "2025-01-01T00:00:00Z"))),
            record("used", &["c"], Some(("a", "2024-01-01T00:00:00Z"))),
        ];
        let now = "2026-01-01T00:30:00Z".parse().unwrap();
        assert_eq!(
            surplus(&records, &ImportRequest::under("a"), now),
            ["older"]
        );
    }

    #[test]
    fn an_import_under_way_is_not_taken_for_an_abandoned_one() {
        let records = [record("fresh", &[], None)];
        let target = ImportRequest::under("a");
        let soon = "2026-01-01T00:59:00Z".parse().unwrap();
        assert!(surplus(&records, &target, soon).is_empty());
        let later = "2026-01-01T01:01:00Z".parse().unwrap();
        assert_eq!(surplus(&records, &target, later), ["fresh"]);
    }
}
