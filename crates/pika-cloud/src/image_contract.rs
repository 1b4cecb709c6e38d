//! What an image says about itself, in its properties.
//!
//! Owns the property names and the contract's version. A guest whose image has another version than
//! the host is refused before it starts.

/// Version of the contract between host and guest binaries.
pub const GUEST_CONTRACT_VERSION: u32 = 2;

/// Property: the [`GUEST_CONTRACT_VERSION`] that the image's binaries were built with.
pub const IMAGE_CONTRACT_VERSION: &str = "pika.contract_version";
/// Property: revision of the source tree that the image was built from.
pub const IMAGE_SOURCE_REVISION: &str = "pika.source_revision";
/// Property: the guest role that the image was built for.
pub const IMAGE_GUEST_ROLE: &str = "pika.guest_role";
/// Property: digest of everything that went into the image.
pub const IMAGE_INPUT_DIGEST: &str = "pika.input_digest";
