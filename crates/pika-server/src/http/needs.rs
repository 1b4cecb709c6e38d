//! Who may use a route.

use pika_managed_agent_contract::Scope;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Everybody.
    Anyone,
    /// A credential that reads.
    Read,
    /// A credential that changes.
    Write,
    /// An operator's.
    Operator,
}

impl Needs {
    /// The scope that a credential must have, where there must be one.
    pub(crate) const fn scope(self) -> Option<Scope> {
        match self {
            Needs::Anyone => None,
            Needs::Read => Some(Scope::Read),
            Needs::Write => Some(Scope::Write),
            Needs::Operator => Some(Scope::Operator),
        }
    }
}
