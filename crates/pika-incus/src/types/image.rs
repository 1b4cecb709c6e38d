//! Images and their aliases: `/1.0/images`.

use serde::{Deserialize, Serialize};

use super::{Config, InstanceKind, nullable, optional_time};

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Image {
    /// SHA-256 of its parts, hex: its identity.
    pub fingerprint: String,
    /// Free properties, from its metadata and from its import.
    #[serde(default, deserialize_with = "nullable")]
    pub properties: Config,
    /// Aliases that point at it.
    #[serde(default, deserialize_with = "nullable")]
    pub aliases: Vec<ImageAliasRef>,
    /// Architecture name.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// What it makes.
    #[serde(rename = "type")]
    pub kind: InstanceKind,
    /// Size in bytes.
    #[serde(default)]
    pub size: i64,
    /// Whether the server fetched it by itself.
    #[serde(default)]
    pub cached: bool,
    /// Whether untrusted clients may read it.
    #[serde(default)]
    pub public: bool,
    /// Name of the file it came from.
    #[serde(default, deserialize_with = "nullable")]
    pub filename: String,
    /// Profiles that instances of it get by default.
    #[serde(default, deserialize_with = "nullable")]
    pub profiles: Vec<String>,
    /// When it was built (RFC 3339), from its metadata.
    #[serde(default, deserialize_with = "optional_time")]
    pub created_at: Option<String>,
    /// When it was imported (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub uploaded_at: Option<String>,
    /// When an instance was last made of it (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub last_used_at: Option<String>,
    /// The project it is in.
    #[serde(default, deserialize_with = "nullable")]
    pub project: String,
}

/// An alias as an image lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ImageAliasRef {
    /// Its name.
    pub name: String,
    /// Free text.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
}

/// An alias: `GET /1.0/images/aliases/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Alias {
    /// Its name; may hold slashes.
    pub name: String,
    /// Fingerprint of the image that it points at.
    pub target: String,
    /// What that image makes.
    #[serde(rename = "type", default = "unknown_kind")]
    pub kind: InstanceKind,
    /// Free text.
    #[serde(default, deserialize_with = "nullable")]
    pub description: String,
}

fn unknown_kind() -> InstanceKind {
    InstanceKind::Unknown
}
