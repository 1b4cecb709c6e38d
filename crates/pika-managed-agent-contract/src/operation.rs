//! Operations: what is done to agents, and how far it is.
//!
//! Owns both vocabularies. What an operation's steps are is the server's own affair.

use serde::{Deserialize, Serialize};

use crate::words::words;

/// What an operation does to its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Makes volume and instance.
    Create,
    /// Starts it.
    Start,
    /// Stops it.
    Stop,
    /// Stops and starts it; everything is kept.
    Restart,
    /// Brings it back, by the mildest means that works.
    Recover,
    /// Rolls its volume back to a chosen snapshot.
    Restore,
    /// Makes a new root and empties the volume.
    Reset,
    /// Makes a new root on the same volume.
    Rebuild,
    /// Takes a snapshot of its volume.
    Backup,
    /// Detaches, takes a last snapshot, and purges after a grace.
    Delete,
    /// Brings a deleted one back on its volume, while that is kept.
    Undelete,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Written down; no worker has it.
    Pending,
    /// A worker has it.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
}

impl OperationState {
    /// Whether it is over.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, OperationState::Succeeded | OperationState::Failed)
    }
}

impl OperationKind {
    /// Every one, in the order of the enum.
    pub const ALL: [OperationKind; 11] = [
        OperationKind::Create,
        OperationKind::Start,
        OperationKind::Stop,
        OperationKind::Restart,
        OperationKind::Recover,
        OperationKind::Restore,
        OperationKind::Reset,
        OperationKind::Rebuild,
        OperationKind::Backup,
        OperationKind::Delete,
        OperationKind::Undelete,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            OperationKind::Create => "create",
            OperationKind::Start => "start",
            OperationKind::Stop => "stop",
            OperationKind::Restart => "restart",
            OperationKind::Recover => "recover",
            OperationKind::Restore => "restore",
            OperationKind::Reset => "reset",
            OperationKind::Rebuild => "rebuild",
            OperationKind::Backup => "backup",
            OperationKind::Delete => "delete",
            OperationKind::Undelete => "undelete",
        }
    }
}

impl OperationState {
    /// Every one, in the order of the enum.
    pub const ALL: [OperationState; 4] = [
        OperationState::Pending,
        OperationState::Running,
        OperationState::Succeeded,
        OperationState::Failed,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            OperationState::Pending => "pending",
            OperationState::Running => "running",
            OperationState::Succeeded => "succeeded",
            OperationState::Failed => "failed",
        }
    }
}

words!(OperationKind, OperationState);
