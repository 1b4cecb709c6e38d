//! The operator's override of every job's guest role.

use pika_incus_guest_role::{IncusGuestRole, UnknownGuestRole};
use thiserror::Error;

/// The environment variable that holds the override. Programs read it; this crate never does.
pub const GUEST_ROLE_ENV: &str = "PIKACI_REMOTE_LINUX_VM_INCUS_GUEST_ROLE";

/// An override that names no role.
#[derive(Debug, Error)]
#[error("{GUEST_ROLE_ENV} is set to something that is no guest role")]
pub struct GuestRoleOverrideError {
    /// Which roles there are.
    #[from]
    source: UnknownGuestRole,
}

/// Reads the value of [`GUEST_ROLE_ENV`]. Unset is no override; anything else must be a role.
pub fn parse_guest_role_override(
    value: Option<&str>,
) -> Result<Option<IncusGuestRole>, GuestRoleOverrideError> {
    Ok(value.map(str::parse).transpose()?)
}
