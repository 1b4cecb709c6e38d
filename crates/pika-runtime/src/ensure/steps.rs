//! Owns the pure half of ensure: what was seen of an instance, and the steps from there to "running as planned".
//! No I/O, no clock.

use pika_cloud::{ResolvedPlan, RestartPolicy};
use serde::Serialize;

use super::compare::{Difference, differences};
use crate::observe::{InstanceSeen, OperationSeen, Power};
use crate::steps::{StepOperation, StepPoint};

/// A step on the way to running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum EnsureStep {
    /// Something else is at work on the instance: wait for it, for a bounded time, and look again.
    AwaitOperation(OperationSeen),
    /// Remove what an interrupted create left.
    RemoveDebris,
    /// Create and start in one request.
    Create,
    /// Start an instance of ours that ended, where the restart policy says so.
    Start,
    /// Let a frozen guest go on.
    Unfreeze,
    /// Wait until the guest's own `/run` is there, since a device below it attached earlier would be hidden.
    AwaitBoot,
    /// Attach a device below `/run`.
    AttachLate {
        /// The device.
        device_name: String,
    },
    /// Look once more, so that "running" is something that was seen.
    Confirm,
}

impl EnsureStep {
    /// Names of all steps, by index.
    pub const NAMES: [&'static str; 8] = [
        "await-operation",
        "remove-debris",
        "create",
        "start",
        "unfreeze",
        "await-boot",
        "attach-late",
        "confirm",
    ];

    /// The step's name and fixed index.
    pub fn point(&self) -> StepPoint {
        let index = match self {
            Self::AwaitOperation(_) => 0,
            Self::RemoveDebris => 1,
            Self::Create => 2,
            Self::Start => 3,
            Self::Unfreeze => 4,
            Self::AwaitBoot => 5,
            Self::AttachLate { .. } => 6,
            Self::Confirm => 7,
        };
        StepPoint {
            operation: StepOperation::Ensure,
            index,
            name: Self::NAMES[index],
        }
    }
}

/// Every step point of ensure, in order.
pub fn ensure_points() -> Vec<StepPoint> {
    EnsureStep::NAMES
        .iter()
        .enumerate()
        .map(|(index, name)| StepPoint {
            operation: StepOperation::Ensure,
            index,
            name,
        })
        .collect()
}

/// Why there is no way from what was seen to what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum EnsureRefusal {
    /// The name is taken by something that isn't ours.
    NotOurs {
        /// What about it is not ours.
        reason: String,
    },
    /// An instance of ours has the name and is another one than planned.
    Differs {
        /// In what.
        differences: Vec<Difference>,
    },
    /// It ran, ended, and its restart policy says that it stays so.
    Ended,
}

/// The steps from what was seen to what is wanted. Steps are planned as far as they can be foreseen; after a wait
/// for somebody else's operation the caller looks and plans again.
pub fn ensure_steps(
    seen: &InstanceSeen,
    wanted: &ResolvedPlan,
) -> Result<Vec<EnsureStep>, EnsureRefusal> {
    let ours = match seen {
        InstanceSeen::Absent => return Ok(with_late(vec![EnsureStep::Create], wanted, |_| false)),
        InstanceSeen::NotOurs { reason } => {
            return Err(EnsureRefusal::NotOurs {
                reason: reason.clone(),
            });
        }
        InstanceSeen::Ours(ours) => ours,
    };
    if let Some(operation) = ours.busy_with.first()
        && matches!(ours.power, Power::Stopped | Power::Changing)
    {
        return Ok(vec![EnsureStep::AwaitOperation(operation.clone())]);
    }
    if ours.is_debris() {
        return Ok(with_late(
            vec![EnsureStep::RemoveDebris, EnsureStep::Create],
            wanted,
            |_| false,
        ));
    }
    let differences = differences(&ours.instance, wanted);
    if !differences.is_empty() {
        return Err(EnsureRefusal::Differs { differences });
    }
    let first = match ours.power {
        Power::Running => vec![],
        Power::Frozen => vec![EnsureStep::Unfreeze],
        Power::Stopped | Power::Changing | Power::Error => {
            match wanted.plan.policies.restart_policy {
                RestartPolicy::Never => return Err(EnsureRefusal::Ended),
                RestartPolicy::OnFailure | RestartPolicy::Always => vec![EnsureStep::Start],
            }
        }
    };
    Ok(with_late(first, wanted, |device| {
        ours.instance.devices.contains_key(device)
    }))
}

fn with_late(
    mut steps: Vec<EnsureStep>,
    wanted: &ResolvedPlan,
    attached: impl Fn(&str) -> bool,
) -> Vec<EnsureStep> {
    let late: Vec<_> = wanted
        .late_devices
        .iter()
        .filter(|late| !attached(&late.device_name))
        .collect();
    if !late.is_empty() {
        steps.push(EnsureStep::AwaitBoot);
        steps.extend(late.iter().map(|late| EnsureStep::AttachLate {
            device_name: late.device_name.clone(),
        }));
    }
    steps.push(EnsureStep::Confirm);
    steps
}
