//! Owns what can be in the way of an ensure.

use std::time::Duration;

use pika_cloud::labels::LABEL_GENERATION;

use super::compare::Difference;
use crate::facts::ResolvePlanError;
use crate::observe::LookError;
use crate::steps::StepPoint;

/// An ensure that did not end with a running instance.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// The plan could not be resolved on this server.
    #[error("the plan can't be resolved on this server")]
    Resolve(#[source] ResolvePlanError),
    /// The instance can't be looked at.
    #[error("what is there can't be seen")]
    Look(#[source] LookError),
    /// The name is taken by something that isn't ours.
    #[error(
        "the name {instance_name} in project {project} is taken by an instance that is not ours ({reason}); \
         it was not touched. Choose another name, or remove it with: \
         incus delete --force --project {project} {instance_name}"
    )]
    NotOurs {
        /// The instance.
        instance_name: String,
        /// Its project.
        project: String,
        /// What about it is not ours.
        reason: String,
    },
    /// An instance of ours has the name and is another one than planned.
    #[error(
        "instance {instance_name} is there and differs from its plan ({}); destroy it first, or plan what is there",
        .differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Differs {
        /// The instance.
        instance_name: String,
        /// In what.
        differences: Vec<Difference>,
    },
    /// It ran and ended, and its restart policy says that it stays so.
    #[error(
        "instance {instance_name} ran and stopped, and its restart policy is never; collect and destroy it"
    )]
    Ended {
        /// The instance.
        instance_name: String,
    },
    /// Incus refused or failed a step, and the instance is not as the step should have made it.
    #[error("{point} of instance {instance_name} failed: {problem}")]
    Step {
        /// Which step.
        point: StepPoint,
        /// The instance.
        instance_name: String,
        /// What Incus said, with its causes.
        problem: String,
    },
    /// The guest was not up in time.
    #[error("the guest of instance {instance_name} was not up {} s after its start: {problem}", after.as_secs())]
    BootDeadline {
        /// The instance.
        instance_name: String,
        /// The deadline.
        after: Duration,
        /// What the last attempt showed.
        problem: String,
    },
    /// A step's outcome stayed unknown: Incus could not be asked. The instance may be there.
    #[error(
        "whether instance {instance_name} is there is unknown: {why}; ensure it again, or destroy it, to find out"
    )]
    Unknown {
        /// The instance.
        instance_name: String,
        /// Why it can't be told.
        why: String,
    },
    /// A hook asked to stop here.
    #[error("abandoned at {point}")]
    Abandoned {
        /// Where.
        point: StepPoint,
    },
    /// The task that did the work ended early.
    #[error("the task that ensures it ended early: {why}")]
    Interrupted {
        /// Why.
        why: String,
    },
}

impl EnsureError {
    /// The generation of the instance that has the name, where that is another one than planned: it is destroyed before the
    /// planned one can be made.
    pub fn other_generation(&self) -> Option<u64> {
        let Self::Differs { differences, .. } = self else {
            return None;
        };
        let field = format!("config.{LABEL_GENERATION}");
        let found = differences.iter().find(|found| found.field == field)?;
        found.present.as_ref()?.parse().ok()
    }
}
