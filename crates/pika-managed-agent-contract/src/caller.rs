//! Who calls: roles of owners and scopes of credentials.
//!
//! Owns the words and their order. Which route needs which is the server's table.

use serde::{Deserialize, Serialize};

use crate::words::words;

/// What an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A customer, who has agents of its own and sees no others.
    Tenant,
    /// Who runs the deployment.
    Operator,
}

/// What a credential may do; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look at what is the owner's.
    Read,
    /// Change what is the owner's, and go inside.
    Write,
    /// Look at and change everything; only an owner with the role `operator` has it.
    Operator,
}

impl Role {
    /// Every one, in the order of the enum.
    pub const ALL: [Role; 2] = [Role::Tenant, Role::Operator];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Tenant => "tenant",
            Role::Operator => "operator",
        }
    }
}

impl Scope {
    /// Every one, in the order of the enum.
    pub const ALL: [Scope; 3] = [Scope::Read, Scope::Write, Scope::Operator];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Operator => "operator",
        }
    }
}

words!(Role, Scope);
