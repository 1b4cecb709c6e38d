//! Reading specs, with the older shapes that documents in the field have.
//!
//! Any serde format goes ([`RuntimeSpec`] is `Deserialize`); JSON has its own function with bounds. Older shapes are a top-level `entry_command` and `"provider": "incus"`. They are read here and
//! written nowhere; anything else unknown is refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{IncusRuntimeConfig, RuntimeBootstrap, RuntimeIdentity, RuntimeResources, RuntimeSpec};
use crate::mount::RuntimeMount;
use crate::paths::{RuntimePaths, STATE_DIR};
use crate::policy::RuntimePolicies;

/// Largest spec document, in bytes.
pub const SPEC_BYTES_MAX: usize = 1024 * 1024;

/// Why a document is not a spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecReadError {
    /// The document is longer than [`SPEC_BYTES_MAX`].
    #[error("{origin} has {actual} bytes, more than the limit of {max} for a spec")]
    TooLarge {
        /// Where the document came from.
        origin: String,
        /// Its size in bytes.
        actual: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// It is not the JSON of a spec.
    #[error("{origin} is not a runtime spec in JSON")]
    Json {
        /// Where the document came from.
        origin: String,
        /// What the parser says, with line and column.
        #[source]
        cause: serde_json::Error,
    },
}

impl RuntimeSpec {
    /// Reads a spec from JSON; `origin` names the document in errors.
    pub fn from_json(origin: &str, text: &str) -> Result<RuntimeSpec, SpecReadError> {
        check_size(origin, text)?;
        serde_json::from_str(text).map_err(|cause| SpecReadError::Json {
            origin: origin.to_owned(),
            cause,
        })
    }
}

fn check_size(origin: &str, text: &str) -> Result<(), SpecReadError> {
    if text.len() <= SPEC_BYTES_MAX {
        return Ok(());
    }
    Err(SpecReadError::TooLarge {
        origin: origin.to_owned(),
        actual: text.len(),
        max: SPEC_BYTES_MAX,
    })
}

/// A spec as documents have it, older shapes included.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpecDocument {
    identity: RuntimeIdentity,
    incus: IncusRuntimeConfig,
    #[serde(default)]
    resources: RuntimeResources,
    #[serde(default = "default_lifecycle_root")]
    lifecycle_root: String,
    #[serde(default)]
    mounts: Vec<RuntimeMount>,
    #[serde(default)]
    paths: RuntimePaths,
    #[serde(default)]
    policies: RuntimePolicies,
    #[serde(default)]
    bootstrap: RuntimeBootstrap,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    metadata: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    entry_command: Option<String>,
    #[serde(default)]
    provider: Option<LegacyProvider>,
}

/// The one provider that ever was.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LegacyProvider {
    Incus,
}

/// Two places of one document contradict each other.
#[derive(Debug, thiserror::Error)]
#[error(
    "`entry_command` is `{top_level}` but `bootstrap.entry_command` is `{bootstrap}`: keep the second"
)]
pub(super) struct DifferingEntryCommands {
    top_level: String,
    bootstrap: String,
}

fn default_lifecycle_root() -> String {
    STATE_DIR.to_owned()
}

impl TryFrom<SpecDocument> for RuntimeSpec {
    type Error = DifferingEntryCommands;

    fn try_from(document: SpecDocument) -> Result<RuntimeSpec, DifferingEntryCommands> {
        let mut bootstrap = document.bootstrap;
        // A provider that is there at all is Incus, or the document would not have parsed.
        let _: Option<LegacyProvider> = document.provider;
        match (document.entry_command, &bootstrap.entry_command) {
            (Some(top_level), Some(inner)) if top_level != *inner => {
                return Err(DifferingEntryCommands {
                    top_level,
                    bootstrap: inner.clone(),
                });
            }
            (Some(top_level), None) => bootstrap.entry_command = Some(top_level),
            (Some(_) | None, _) => {}
        }
        Ok(RuntimeSpec {
            identity: document.identity,
            incus: document.incus,
            resources: document.resources,
            lifecycle_root: document.lifecycle_root,
            mounts: document.mounts,
            paths: document.paths,
            policies: document.policies,
            bootstrap,
            labels: document.labels,
            metadata: document.metadata,
        })
    }
}
