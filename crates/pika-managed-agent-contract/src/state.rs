//! The words for how an agent is.
//!
//! Owns both vocabularies and their spelling. A word that is not in them is refused.

use serde::{Deserialize, Serialize};

use crate::words::words;

/// What an agent is to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// On its way to ready, or being brought back.
    Creating,
    /// It does its work.
    Ready,
    /// It does not, and says why.
    Error,
    /// Stopped because somebody asked for it.
    Stopped,
    /// On its way to being gone.
    Deleting,
}

/// How far an agent has come on its way to ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StartupPhase {
    /// Written down; nobody works on it yet.
    Requested,
    /// Volume and instance are being made.
    ProvisioningVm,
    /// The instance starts.
    BootingGuest,
    /// The guest runs and its service is not ready.
    WaitingForServiceReady,
    /// The guest's probe is satisfied and its key package is not published.
    WaitingForKeypackagePublish,
    /// All of it is done.
    Ready,
    /// It ended before it was ready, or after.
    Failed,
}

impl AgentState {
    /// Every state, in the order of the enum.
    pub const ALL: [AgentState; 5] = [
        AgentState::Creating,
        AgentState::Ready,
        AgentState::Error,
        AgentState::Stopped,
        AgentState::Deleting,
    ];

    /// The state's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AgentState::Creating => "creating",
            AgentState::Ready => "ready",
            AgentState::Error => "error",
            AgentState::Stopped => "stopped",
            AgentState::Deleting => "deleting",
        }
    }
}

impl StartupPhase {
    /// Every phase, in the order of the enum.
    pub const ALL: [StartupPhase; 7] = [
        StartupPhase::Requested,
        StartupPhase::ProvisioningVm,
        StartupPhase::BootingGuest,
        StartupPhase::WaitingForServiceReady,
        StartupPhase::WaitingForKeypackagePublish,
        StartupPhase::Ready,
        StartupPhase::Failed,
    ];

    /// The phase's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StartupPhase::Requested => "requested",
            StartupPhase::ProvisioningVm => "provisioning_vm",
            StartupPhase::BootingGuest => "booting_guest",
            StartupPhase::WaitingForServiceReady => "waiting_for_service_ready",
            StartupPhase::WaitingForKeypackagePublish => "waiting_for_keypackage_publish",
            StartupPhase::Ready => "ready",
            StartupPhase::Failed => "failed",
        }
    }
}

words!(AgentState, StartupPhase);
