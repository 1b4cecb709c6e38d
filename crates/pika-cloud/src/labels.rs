//! Labels: how the project knows its own things in Incus.
//!
//! Owns the configuration keys and the rule of what is ours. Labels hold no secret: root in a guest
//! can read them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use pika_incus_guest_role::IncusGuestRole;
use serde::{Deserialize, Serialize};

use crate::incus::IncusRuntimePlan;

/// The deployment that owns the thing.
pub const LABEL_OWNER: &str = "user.pika.owner";
/// The consumer's id of the runtime.
pub const LABEL_RUNTIME_ID: &str = "user.pika.runtime_id";
/// Which generation of the runtime the thing belongs to.
pub const LABEL_GENERATION: &str = "user.pika.generation";
/// The guest role, when the image is the role's own.
pub const LABEL_GUEST_ROLE: &str = "user.pika.guest_role";
/// What the thing is for, an [`OwnedKind`].
pub const LABEL_KIND: &str = "user.pika.kind";
/// When the janitor may take the thing (RFC 3339).
pub const LABEL_DEADLINE: &str = "user.pika.deadline";
/// The name that the thing was made with; a copy has another.
pub const LABEL_INSTANCE_NAME: &str = "user.pika.instance_name";
/// There while a volume is being filled from another one. Its content counts for nothing until the label is gone.
pub const LABEL_UNFINISHED: &str = "user.pika.unfinished";
/// The volume that a volume was filled from.
pub const LABEL_CLONED_FROM: &str = "user.pika.cloned_from";
/// When a kept volume may go whose owner is gone (RFC 3339). Until then it is there to be brought back.
pub const LABEL_TOMBSTONE: &str = "user.pika.tombstone";
/// Which request put a snapshot's content back into a volume last.
pub const LABEL_RESTORED: &str = "user.pika.restored";
/// What a spec's own labels begin with.
pub const LABEL_PREFIX: &str = "user.pika.label.";

/// Which deployment of the project owns a thing: 1 to 63 letters, digits, `.`, `_` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DeploymentId(String);

/// A text that can't be a deployment's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not a deployment id: use 1 to 63 letters, digits, `.`, `_` or `-`", .0.escape_debug()
)]
pub struct InvalidDeploymentId(pub String);

impl DeploymentId {
    /// Checks the text and takes it.
    pub fn new(text: impl Into<String>) -> Result<DeploymentId, InvalidDeploymentId> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if text.is_empty() || text.len() > 63 || !text.chars().all(allowed) {
            return Err(InvalidDeploymentId(text.chars().take(64).collect()));
        }
        Ok(DeploymentId(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for DeploymentId {
    type Err = InvalidDeploymentId;

    fn from_str(text: &str) -> Result<DeploymentId, InvalidDeploymentId> {
        DeploymentId::new(text)
    }
}

impl TryFrom<String> for DeploymentId {
    type Error = InvalidDeploymentId;

    fn try_from(text: String) -> Result<DeploymentId, InvalidDeploymentId> {
        DeploymentId::new(text)
    }
}

impl From<DeploymentId> for String {
    fn from(id: DeploymentId) -> String {
        id.0
    }
}

/// What an owned thing is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnedKind {
    /// One CI job.
    Ci,
    /// A managed agent.
    Agent,
    /// An image being made.
    Image,
    /// A cache.
    Cache,
    /// A source snapshot.
    Snapshot,
}

impl OwnedKind {
    /// The kind's word in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            OwnedKind::Ci => "ci",
            OwnedKind::Agent => "agent",
            OwnedKind::Image => "image",
            OwnedKind::Cache => "cache",
            OwnedKind::Snapshot => "snapshot",
        }
    }
}

impl fmt::Display for OwnedKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Who makes a thing, what for, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ownership {
    /// The deployment.
    pub owner: DeploymentId,
    /// What the thing is for.
    pub kind: OwnedKind,
    /// Generation of the runtime, from 1.
    pub generation: u64,
    /// The role, which is recorded only when the image is the role's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_role: Option<IncusGuestRole>,
    /// When the janitor may take the thing (RFC 3339); never, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
}

/// The labels of a plan's instance: the project's own, and the spec's under [`LABEL_PREFIX`].
#[must_use]
pub fn instance_labels(ownership: &Ownership, plan: &IncusRuntimePlan) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = plan
        .labels
        .iter()
        .map(|(key, value)| (format!("{LABEL_PREFIX}{key}"), value.clone()))
        .collect();
    let mut set = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
    set(LABEL_OWNER, ownership.owner.as_str());
    set(LABEL_KIND, ownership.kind.as_str());
    set(LABEL_RUNTIME_ID, &plan.identity.runtime_id);
    set(LABEL_INSTANCE_NAME, &plan.identity.instance_name);
    set(LABEL_GENERATION, &ownership.generation.to_string());
    if let Some(role) = recorded_guest_role(ownership.guest_role, &plan.incus.image_alias) {
        set(LABEL_GUEST_ROLE, role.as_str());
    }
    if let Some(deadline) = &ownership.deadline {
        set(LABEL_DEADLINE, deadline);
    }
    labels
}

/// The role to record: only when the alias is the role's default, so that a custom image is not
/// misattributed.
#[must_use]
pub fn recorded_guest_role(
    role: Option<IncusGuestRole>,
    image_alias: &str,
) -> Option<IncusGuestRole> {
    role.filter(|role| role.uses_default_image_alias(image_alias))
}

/// Whether the thing `name` is `owner`'s, judged by its own configuration (never the expanded one).
///
/// A copy keeps its labels but not its name, so it is nobody's.
#[must_use]
pub fn is_ours(config: &BTreeMap<String, String>, name: &str, owner: &DeploymentId) -> bool {
    let has = |key: &str, value: &str| config.get(key).is_some_and(|found| found == value);
    has(LABEL_OWNER, owner.as_str()) && has(LABEL_INSTANCE_NAME, name)
}
