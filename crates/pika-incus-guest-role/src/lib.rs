//! The registry of guest roles: which image an instance of a role boots from, and what every guest
//! image has in common.
//!
//! Owns the closed enum [`IncusGuestRole`], one variant for each table of `images/roles.toml`, and
//! the guest's fixed paths. Never does input or output: the registry is compiled in, from the file
//! that the image builder and Nix read too.

mod facts;
mod role;

pub use facts::{
    AGENT_STATE_GUEST_PATH, CARGO_HOME_GUEST_PATH, CARGO_TARGET_GUEST_PATH, DEBIAN_PACKAGES,
    DEBIAN_SUITE, GUEST_GID, GUEST_UID, LIFECYCLE_PATH, ROLES_TOML, RUNNER_PATH, RoleFacts,
    SNAPSHOT_GUEST_PATH, STATE_BACKING_DIR, STATE_DIR, SYSTEM_BIN_DIR, WORKSPACE_BUILD_GUEST_PATH,
    WORKSPACE_DEPS_GUEST_PATH,
};
pub use role::{IncusGuestRole, UnknownGuestRole};
