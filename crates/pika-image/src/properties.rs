//! What an image says about itself in Incus.
//!
//! Owns the properties and the metadata file. What is in the metadata is part of the fingerprint; the source
//! revision is not, so that a commit that changes no input leaves the image as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pika_cloud::GUEST_CONTRACT_VERSION;
use pika_cloud::image_contract::{IMAGE_CONTRACT_VERSION, IMAGE_GUEST_ROLE, IMAGE_INPUT_DIGEST};
use pika_incus_guest_role::{DEBIAN_SUITE, RoleFacts};

/// Property that marks an image as made by this project.
pub(crate) const KIND: &str = "pika.kind";
/// Value of [`KIND`].
pub(crate) const KIND_IMAGE: &str = "image";
/// Property: the alias that an image lost and is kept for.
pub(crate) const ROLLBACK_FOR: &str = "pika.rollback_for";
/// Property: when it lost the alias.
pub(crate) const SUPERSEDED_AT: &str = "pika.superseded_at";

/// Properties that are part of the image's own metadata.
pub(crate) fn for_metadata(role: &RoleFacts, input_digest: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("description", role.description.to_owned()),
        ("os", "debian".to_owned()),
        ("release", DEBIAN_SUITE.to_owned()),
        ("architecture", "amd64".to_owned()),
        (KIND, KIND_IMAGE.to_owned()),
        (IMAGE_GUEST_ROLE, role.name.to_owned()),
        (IMAGE_CONTRACT_VERSION, GUEST_CONTRACT_VERSION.to_string()),
        (IMAGE_INPUT_DIGEST, input_digest.to_owned()),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The metadata file of an Incus image. Strings are written as JSON, which YAML reads.
pub(crate) fn metadata_yaml(epoch_secs: i64, properties: &BTreeMap<String, String>) -> String {
    let mut text = format!("architecture: x86_64\ncreation_date: {epoch_secs}\nproperties:\n");
    for (name, value) in properties {
        let value = serde_json::Value::from(value.as_str());
        writeln!(text, "  {name}: {value}").expect("a string takes what is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_sorted_and_quoted() {
        let properties = BTreeMap::from([
            ("b".to_owned(), "says: \"x\"".to_owned()),
            ("a".to_owned(), "1".to_owned()),
        ]);
        assert_eq!(
            metadata_yaml(5, &properties),
            "architecture: x86_64\ncreation_date: 5\nproperties:\n  a: \"1\"\n  b: \"says: \\\"x\\\"\"\n"
        );
    }
}
