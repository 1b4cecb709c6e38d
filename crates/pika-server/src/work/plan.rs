//! The steps of each kind of operation.
//!
//! Owns their names and order. A step is "make it so" and can be run again; its name stands in the operation's row, so it
//! is never changed.

use pika_managed_agent_contract::OperationKind;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// The agent's volume is there, with its snapshot of when it was empty and without a tombstone.
    EnsureVolume,
    /// Which instance comes next: the one that is there, or the next one.
    ChooseGeneration,
    /// The next instance, whatever is there.
    NextGeneration,
    /// The instance is there and runs.
    EnsureInstance,
    /// The service is ready.
    AwaitReady,
    /// Whether there is anything to recover at all.
    LookFirst,
    /// Asked to end, and started again.
    RestartGracefully,
    /// The service is ready, or the next means is tried.
    AwaitAfterGraceful,
    /// Ended, and started again.
    RestartForcibly,
    /// The service is ready, or the next means is tried.
    AwaitAfterForced,
    /// The instance is asked to end, then ended.
    StopInstance,
    /// The instance is gone; the volume stays.
    DestroyInstance,
    /// A snapshot of the volume, before something happens to it.
    SnapshotBefore,
    /// A snapshot that somebody asked for.
    SnapshotRequested,
    /// The volume is as it was in the chosen snapshot.
    RestoreVolume,
    /// The volume is as it was when it was new.
    EmptyVolume,
    /// The agent is gone for its owner; its volume is kept for a while.
    Bury,
    /// The volume is gone with all its snapshots.
    PurgeVolume,
}

impl Step {
    /// Its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Step::EnsureVolume => "ensure_volume",
            Step::ChooseGeneration => "choose_generation",
            Step::NextGeneration => "next_generation",
            Step::EnsureInstance => "ensure_instance",
            Step::AwaitReady => "await_ready",
            Step::LookFirst => "look_first",
            Step::RestartGracefully => "restart_gracefully",
            Step::AwaitAfterGraceful => "await_after_graceful_restart",
            Step::RestartForcibly => "restart_forcibly",
            Step::AwaitAfterForced => "await_after_forced_restart",
            Step::StopInstance => "stop_instance",
            Step::DestroyInstance => "destroy_instance",
            Step::SnapshotBefore => "snapshot_before",
            Step::SnapshotRequested => "snapshot",
            Step::RestoreVolume => "restore_volume",
            Step::EmptyVolume => "empty_volume",
            Step::Bury => "bury",
            Step::PurgeVolume => "purge_volume",
        }
    }
}

/// The steps of a kind, in order.
pub(crate) const fn steps_of(kind: OperationKind) -> &'static [Step] {
    match kind {
        OperationKind::Create | OperationKind::Start | OperationKind::Undelete => &[
            Step::EnsureVolume,
            Step::ChooseGeneration,
            Step::EnsureInstance,
            Step::AwaitReady,
        ],
        OperationKind::Stop => &[Step::StopInstance],
        OperationKind::Restart => &[
            Step::EnsureVolume,
            Step::ChooseGeneration,
            Step::RestartGracefully,
            Step::EnsureInstance,
            Step::AwaitReady,
        ],
        OperationKind::Recover => &[
            Step::LookFirst,
            Step::EnsureVolume,
            Step::ChooseGeneration,
            Step::RestartGracefully,
            Step::AwaitAfterGraceful,
            Step::RestartForcibly,
            Step::AwaitAfterForced,
            Step::SnapshotBefore,
            Step::DestroyInstance,
            Step::NextGeneration,
            Step::EnsureInstance,
            Step::AwaitReady,
        ],
        OperationKind::Restore => &[
            Step::SnapshotBefore,
            Step::StopInstance,
            Step::RestoreVolume,
            Step::ChooseGeneration,
            Step::EnsureInstance,
            Step::AwaitReady,
        ],
        OperationKind::Reset => &[
            Step::SnapshotBefore,
            Step::DestroyInstance,
            Step::EmptyVolume,
            Step::NextGeneration,
            Step::EnsureInstance,
            Step::AwaitReady,
        ],
        OperationKind::Rebuild => &[
            Step::SnapshotBefore,
            Step::DestroyInstance,
            Step::NextGeneration,
            Step::EnsureInstance,
            Step::AwaitReady,
        ],
        OperationKind::Backup => &[Step::SnapshotRequested],
        OperationKind::Delete => &[
            Step::DestroyInstance,
            Step::SnapshotBefore,
            Step::Bury,
            Step::PurgeVolume,
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_stands_once_in_an_operation_so_that_its_name_tells_the_place() {
        for kind in OperationKind::ALL {
            let names: Vec<&str> = steps_of(kind).iter().map(|step| step.as_str()).collect();
            assert!(!names.is_empty());
            let mut sorted = names.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), names.len(), "{kind}");
        }
    }
}
