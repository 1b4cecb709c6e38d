//! Which images a server has, and whether a role's is the one that this program expects.
//!
//! Owns reading; changes nothing.

use pika_cloud::GUEST_CONTRACT_VERSION;
use pika_cloud::image_contract::{
    IMAGE_CONTRACT_VERSION, IMAGE_GUEST_ROLE, IMAGE_INPUT_DIGEST, IMAGE_SOURCE_REVISION,
};
use pika_incus::Client;
use pika_incus::types::{Image, InstanceKind};
use pika_incus_guest_role::IncusGuestRole;
use serde::Serialize;

use crate::properties::{KIND, KIND_IMAGE, ROLLBACK_FOR, SUPERSEDED_AT};
use crate::request::ImageKind;

/// Why images could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("can't look at the server's images")]
pub struct CatalogError(#[source] pub(crate) pika_incus::Error);

/// An image of this project on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageRecord {
    /// Its identity.
    pub fingerprint: String,
    /// What it makes; none for a kind that this program doesn't know.
    pub kind: Option<ImageKind>,
    /// Aliases that point at it, sorted.
    pub aliases: Vec<String>,
    /// Role that it was built for.
    pub role: Option<String>,
    /// Version of the guest contract that its programs speak.
    pub contract_version: Option<u32>,
    /// Revision that it was first built from.
    pub source_revision: Option<String>,
    /// Digest of its inputs.
    pub input_digest: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it was imported (RFC 3339).
    pub uploaded_at: Option<String>,
    /// Alias that it is kept to go back to.
    pub rollback_for: Option<String>,
    /// When another image took its alias (RFC 3339).
    pub superseded_at: Option<String>,
}

impl ImageRecord {
    /// The record of an image that this project made, else nothing.
    pub(crate) fn of(image: &Image) -> Option<ImageRecord> {
        let property = |name: &str| {
            image
                .properties
                .get(name)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        if property(KIND).as_deref() != Some(KIND_IMAGE) {
            return None;
        }
        Some(ImageRecord::read(image))
    }

    fn read(image: &Image) -> ImageRecord {
        // A property can't be taken away from an image: an empty one counts as absent.
        let property = |name: &str| {
            image
                .properties
                .get(name)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        let mut aliases: Vec<String> = image
            .aliases
            .iter()
            .map(|alias| alias.name.clone())
            .collect();
        aliases.sort();
        ImageRecord {
            fingerprint: image.fingerprint.clone(),
            kind: match image.kind {
                InstanceKind::Container => Some(ImageKind::Container),
                InstanceKind::VirtualMachine => Some(ImageKind::VirtualMachine),
                _ => None,
            },
            aliases,
            role: property(IMAGE_GUEST_ROLE),
            contract_version: property(IMAGE_CONTRACT_VERSION)
                .and_then(|version| version.parse().ok()),
            source_revision: property(IMAGE_SOURCE_REVISION),
            input_digest: property(IMAGE_INPUT_DIGEST),
            size_bytes: image.size.max(0).unsigned_abs(),
            uploaded_at: image.uploaded_at.clone(),
            rollback_for: property(ROLLBACK_FOR),
            superseded_at: property(SUPERSEDED_AT),
        }
    }
}

/// All images of this project on the server, newest first.
pub async fn list(client: &Client) -> Result<Vec<ImageRecord>, CatalogError> {
    let images = client.images().await.map_err(CatalogError)?;
    let mut records: Vec<ImageRecord> = images.iter().filter_map(ImageRecord::of).collect();
    records.sort_by(|a, b| (&b.uploaded_at, &a.fingerprint).cmp(&(&a.uploaded_at, &b.fingerprint)));
    Ok(records)
}

/// Whether a role can run from what its alias points at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ImageState {
    /// It can.
    Ready,
    /// No such alias.
    Missing,
    /// The alias points at an image that must not be used, or is not the newest.
    Stale {
        /// What is wrong with it.
        reasons: Vec<StaleReason>,
    },
}

/// What is wrong with an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum StaleReason {
    /// Its programs speak another version of the guest contract, or say nothing about it.
    #[error("it speaks guest contract {}, this program {expected}", found.map_or("none".to_owned(), |version| version.to_string()))]
    ContractVersion {
        /// What this program speaks.
        expected: u32,
        /// What the image says.
        found: Option<u32>,
    },
    /// It was built for another role.
    #[error("it was built for the role {}", found.as_deref().unwrap_or("(none)"))]
    Role {
        /// What the image says.
        found: Option<String>,
    },
    /// Its inputs are not those of today.
    #[error(
        "it was built from other inputs (packages, guest programs or certificate authorities have changed)"
    )]
    Inputs {
        /// Digest of today's inputs.
        expected: String,
        /// What the image says.
        found: Option<String>,
    },
}

/// The answer of [`check`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Which role.
    pub role: IncusGuestRole,
    /// Which alias was looked at.
    pub alias: String,
    /// What was found.
    #[serde(flatten)]
    pub state: ImageState,
    /// The image that the alias points at.
    pub image: Option<ImageRecord>,
    /// The command that mends it, unless it is ready.
    pub remedy: Option<String>,
}

/// Looks at the image of a role's alias. With the digest of today's inputs ([`crate::prepare`]) an older image is
/// stale too; without it only the contract and the role count.
pub async fn check(
    client: &Client,
    role: IncusGuestRole,
    alias: &str,
    input_digest: Option<&str>,
) -> Result<CheckReport, CatalogError> {
    let found = client.alias(alias).await.map_err(CatalogError)?;
    let image = match found {
        None => None,
        Some(found) => match client.image(&found.value.target).await {
            Ok(image) => Some(ImageRecord::read(&image.value)),
            // It went away between the two looks.
            Err(error) if error.kind() == pika_incus::ErrorKind::NotFound => None,
            Err(error) => return Err(CatalogError(error)),
        },
    };
    Ok(judge(role, alias, image, input_digest))
}

fn judge(
    role: IncusGuestRole,
    alias: &str,
    image: Option<ImageRecord>,
    input_digest: Option<&str>,
) -> CheckReport {
    let state = match &image {
        None => ImageState::Missing,
        Some(record) => {
            let reasons = stale_reasons(role, record, input_digest);
            if reasons.is_empty() {
                ImageState::Ready
            } else {
                ImageState::Stale { reasons }
            }
        }
    };
    let remedy = (state != ImageState::Ready).then(|| remedy(role, alias));
    CheckReport {
        role,
        alias: alias.to_owned(),
        state,
        image,
        remedy,
    }
}

/// The command that makes a role's image what it should be.
#[must_use]
pub fn remedy(role: IncusGuestRole, alias: &str) -> String {
    if role.uses_default_image_alias(alias) {
        format!("pika image build-import --role {role}")
    } else {
        format!("pika image build-import --role {role} --alias {alias}")
    }
}

fn stale_reasons(
    role: IncusGuestRole,
    record: &ImageRecord,
    input_digest: Option<&str>,
) -> Vec<StaleReason> {
    let mut reasons = Vec::new();
    if record.contract_version != Some(GUEST_CONTRACT_VERSION) {
        reasons.push(StaleReason::ContractVersion {
            expected: GUEST_CONTRACT_VERSION,
            found: record.contract_version,
        });
    }
    if record.role.as_deref() != Some(role.as_str()) {
        reasons.push(StaleReason::Role {
            found: record.role.clone(),
        });
    }
    if let Some(expected) = input_digest
        && record.input_digest.as_deref() != Some(expected)
    {
        reasons.push(StaleReason::Inputs {
            expected: expected.to_owned(),
            found: record.input_digest.clone(),
        });
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ImageRecord {
        ImageRecord {
            fingerprint: "f".to_owned(),
            kind: Some(ImageKind::Container),
            aliases: vec!["pikaci/dev".to_owned()],
            role: Some("pikaci-runner".to_owned()),
            contract_version: Some(GUEST_CONTRACT_VERSION),
            source_revision: None,
            input_digest: Some("now".to_owned()),
            size_bytes: 1,
            uploaded_at: None,
            rollback_for: None,
            superseded_at: None,
        }
    }

    fn state(image: Option<ImageRecord>) -> ImageState {
        judge(
            IncusGuestRole::PikaciRunner,
            "pikaci/dev",
            image,
            Some("now"),
        )
        .state
    }

    #[test]
    fn an_image_is_ready_if_contract_role_and_inputs_agree() {
        assert_eq!(state(Some(record())), ImageState::Ready);
        assert_eq!(state(None), ImageState::Missing);
    }

    #[test]
    fn each_disagreement_is_named() {
        let stale = ImageRecord {
            contract_version: None,
            role: Some("pi-sandbox".to_owned()),
            input_digest: Some("then".to_owned()),
            ..record()
        };
        let ImageState::Stale { reasons } = state(Some(stale)) else {
            panic!("it is stale");
        };
        let texts: Vec<_> = reasons.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3);
        let version = GUEST_CONTRACT_VERSION;
        assert_eq!(
            texts[0],
            format!("it speaks guest contract none, this program {version}")
        );
        assert_eq!(texts[1], "it was built for the role pi-sandbox");
    }

    #[test]
    fn the_remedy_names_an_alias_only_if_it_is_not_the_roles_own() {
        assert_eq!(
            remedy(IncusGuestRole::PikaciRunner, "pikaci/dev"),
            "pika image build-import --role pikaci-runner"
        );
        assert_eq!(
            remedy(IncusGuestRole::PikaciRunner, "mine"),
            "pika image build-import --role pikaci-runner --alias mine"
        );
    }
}
