//! Owns the pure half of destroy: what was seen of an instance, and the steps from there to "absent".
//! No I/O, no clock.

use serde::Serialize;

use crate::observe::{InstanceSeen, OperationSeen, Power};
use crate::steps::{StepOperation, StepPoint};

/// A step on the way to absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum DestroyStep {
    /// Something else is at work on the instance (an interrupted create, a stop of its own): wait for it,
    /// for a bounded time.
    AwaitOperation(OperationSeen),
    /// End everything in the guest, forced.
    Stop,
    /// Remove the instance and its root disk. Incus's own word that it did so, at the end of its operation, is what
    /// "destroyed" rests on; any other end is followed by a look.
    Delete,
}

impl DestroyStep {
    /// Names of all steps, by index.
    pub const NAMES: [&'static str; 3] = ["await-operation", "stop", "delete"];

    /// The step's name and fixed index.
    pub fn point(&self) -> StepPoint {
        let index = match self {
            Self::AwaitOperation(_) => 0,
            Self::Stop => 1,
            Self::Delete => 2,
        };
        StepPoint {
            operation: StepOperation::Destroy,
            index,
            name: Self::NAMES[index],
        }
    }
}

/// Every step point of destroy, in order.
pub fn destroy_points() -> Vec<StepPoint> {
    DestroyStep::NAMES
        .iter()
        .enumerate()
        .map(|(index, name)| StepPoint {
            operation: StepOperation::Destroy,
            index,
            name,
        })
        .collect()
}

/// The steps from a guest that runs to "absent".
pub(super) fn of_running() -> Vec<DestroyStep> {
    vec![DestroyStep::Stop, DestroyStep::Delete]
}

/// The steps from what was seen to "absent". Empty means that it is absent. Something that is not ours
/// has no steps: the caller refuses before it asks.
///
/// Debris of an interrupted create is like any stopped instance here: deleted, never started. A running
/// operation of the daemon is waited for only when force would not end it: a forced stop also ends what
/// a running guest is in the middle of.
pub fn destroy_steps(seen: &InstanceSeen) -> Vec<DestroyStep> {
    let InstanceSeen::Ours(ours) = seen else {
        return Vec::new();
    };
    let mut steps: Vec<DestroyStep> = match ours.power {
        Power::Running | Power::Frozen | Power::Error => return of_running(),
        Power::Stopped | Power::Changing => ours
            .busy_with
            .iter()
            .cloned()
            .map(DestroyStep::AwaitOperation)
            .collect(),
    };
    // In the middle of a change without an operation that could be waited for: force is what is left.
    if ours.power == Power::Changing && steps.is_empty() {
        steps.push(DestroyStep::Stop);
    }
    steps.push(DestroyStep::Delete);
    steps
}
