//! Owns the identity of a runtime: where its instance is and what it is called.

use std::fmt;

use pika_cloud::IncusRuntimePlan;
use serde::{Deserialize, Serialize};

/// Names one runtime: its id, the instance and the Incus project. All three are chosen before anything is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuntimeId {
    runtime_id: String,
    instance_name: String,
    project: String,
}

impl RuntimeId {
    /// The identity of what a plan describes.
    pub fn of(plan: &IncusRuntimePlan) -> Self {
        Self::new(
            &plan.identity.runtime_id,
            &plan.identity.instance_name,
            &plan.incus.project,
        )
    }

    /// An identity from its parts, for example from a record.
    pub fn new(runtime_id: &str, instance_name: &str, project: &str) -> Self {
        Self {
            runtime_id: runtime_id.to_owned(),
            instance_name: instance_name.to_owned(),
            project: project.to_owned(),
        }
    }

    /// The runtime's own id, as in its label.
    pub fn runtime_id(&self) -> &str {
        &self.runtime_id
    }

    /// The instance's name.
    pub fn instance_name(&self) -> &str {
        &self.instance_name
    }

    /// The Incus project.
    pub fn project(&self) -> &str {
        &self.project
    }
}

impl fmt::Display for RuntimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (instance {} in project {})",
            self.runtime_id, self.instance_name, self.project
        )
    }
}
