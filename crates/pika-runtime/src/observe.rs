//! Owns what the rest of the crate knows about an instance: one reading of the object, classified.
//!
//! An error's kind is never read from its text: whoever got one reads the object again and comes here.
//! Never changes anything.

use pika_incus::{Client, ErrorKind, Instance, InstanceStatus, Operation};
use serde::Serialize;

use crate::id::RuntimeId;
use crate::runtimes::Runtimes;

/// Whether the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// The guest runs.
    Running,
    /// The guest is paused.
    Frozen,
    /// There is no guest process.
    Stopped,
    /// Starting, stopping, aborting, freezing or thawing.
    Changing,
    /// Incus says error: it could not tell, or the guest is broken.
    Error,
}

/// An operation of the daemon that is at work on an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperationSeen {
    /// The operation's id.
    pub id: String,
    /// Incus's words for it, such as "Creating instance".
    pub description: String,
}

/// What one look at an instance's name showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "seen", rename_all = "snake_case")]
pub enum InstanceSeen {
    /// No instance has the name.
    Absent,
    /// An instance has the name and is not ours, for the reason given.
    NotOurs {
        /// What about it is not ours.
        reason: String,
    },
    /// Ours.
    Ours(OursSeen),
}

/// An instance of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OursSeen {
    /// Whether the guest runs.
    pub power: Power,
    /// Operations of the daemon on it (exec sessions are not among them).
    pub busy_with: Vec<OperationSeen>,
    /// When the guest was last started, as Incus tells it; `None` if never (Incus says 1970 then).
    pub started_at: Option<String>,
    /// The instance as it was read.
    pub instance: Box<Instance>,
}

impl OursSeen {
    /// Left behind by a create that was interrupted: it never ran and nothing is at work on it. Such an
    /// instance often can't be started at all, so it is deleted and made anew.
    pub fn is_debris(&self) -> bool {
        self.started_at.is_none()
            && self.busy_with.is_empty()
            && matches!(self.power, Power::Stopped | Power::Error)
    }
}

/// A look that showed nothing.
#[derive(Debug, thiserror::Error)]
#[error("can't look at {what} in project {project}")]
pub struct LookError {
    what: String,
    project: String,
    #[source]
    source: pika_incus::Error,
}

impl LookError {
    /// A look at all instances of a project.
    pub(crate) fn of_all(project: &str, source: pika_incus::Error) -> Self {
        Self {
            what: "the instances".to_owned(),
            project: project.to_owned(),
            source,
        }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

impl Runtimes {
    /// Looks at the instance and at what the daemon is doing with it, in one round trip's time.
    pub(crate) async fn look(
        &self,
        client: &Client,
        id: &RuntimeId,
    ) -> Result<InstanceSeen, LookError> {
        let (instance, operations) =
            tokio::join!(client.instance(id.instance_name()), client.operations());
        let failed = |source| LookError {
            what: format!("instance {}", id.instance_name()),
            project: id.project().to_owned(),
            source,
        };
        match instance {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(InstanceSeen::Absent),
            Err(error) => Err(failed(error)),
            Ok(tagged) => {
                let operations = operations.map_err(failed)?;
                Ok(self.classify(id, tagged.value, &operations))
            }
        }
    }

    /// As [`Runtimes::look`], for who only wants to know of operations where the instance isn't plainly running: the
    /// list of all operations of the project is long where much goes on. A change to an instance that something is at
    /// work on after all is refused, and the next look tells.
    pub(crate) async fn look_at_running(
        &self,
        client: &Client,
        id: &RuntimeId,
    ) -> Result<InstanceSeen, LookError> {
        match client.instance(id.instance_name()).await {
            Ok(tagged) if power_of(tagged.value.status) == Power::Running => {
                Ok(self.classify(id, tagged.value, &[]))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(InstanceSeen::Absent),
            _ => self.look(client, id).await,
        }
    }

    /// Classifies an instance that was read under the runtime's name.
    pub(crate) fn classify(
        &self,
        id: &RuntimeId,
        instance: Instance,
        operations: &[Operation],
    ) -> InstanceSeen {
        let owner = &self.config().owner;
        if !pika_cloud::is_ours(&instance.config, &instance.name, owner) {
            return InstanceSeen::NotOurs {
                reason: why_not_ours(&instance, owner),
            };
        }
        let runtime_id = instance
            .config
            .get(pika_cloud::labels::LABEL_RUNTIME_ID)
            .map_or("", String::as_str);
        if runtime_id != id.runtime_id() {
            return InstanceSeen::NotOurs {
                reason: format!("it belongs to runtime {runtime_id:?} of this deployment"),
            };
        }
        InstanceSeen::Ours(OursSeen {
            power: power_of(instance.status),
            busy_with: busy_with(&instance.name, operations),
            started_at: (!instance.never_started())
                .then(|| instance.last_used_at.clone())
                .flatten(),
            instance: Box::new(instance),
        })
    }
}

fn why_not_ours(instance: &Instance, owner: &pika_cloud::DeploymentId) -> String {
    match instance.config.get(pika_cloud::labels::LABEL_OWNER) {
        None => "it has no owner label".to_owned(),
        Some(other) if other != owner.as_str() => format!("its owner label is {other:?}"),
        Some(_) => format!(
            "it is a copy: its label names the instance {:?}",
            instance
                .config
                .get(pika_cloud::labels::LABEL_INSTANCE_NAME)
                .map_or("", String::as_str)
        ),
    }
}

/// Incus's status as one of ours. A status that this code doesn't know counts as in between.
pub(crate) fn power_of(status: InstanceStatus) -> Power {
    match status {
        InstanceStatus::Running | InstanceStatus::Ready | InstanceStatus::Thawed => Power::Running,
        InstanceStatus::Frozen => Power::Frozen,
        InstanceStatus::Stopped => Power::Stopped,
        InstanceStatus::Error => Power::Error,
        InstanceStatus::Starting
        | InstanceStatus::Stopping
        | InstanceStatus::Aborting
        | InstanceStatus::Freezing
        | InstanceStatus::Unknown(_) => Power::Changing,
    }
}

/// Tasks of the daemon on the instance that have not ended. Exec sessions are operations of another class.
pub(crate) fn busy_with(name: &str, operations: &[Operation]) -> Vec<OperationSeen> {
    let on_it = |path: &String| {
        path.split('?')
            .next()
            .is_some_and(|path| path.rsplit('/').next() == Some(name))
    };
    operations
        .iter()
        .filter(|operation| operation.class == "task" && !operation.status.is_final())
        .filter(|operation| {
            operation
                .resources
                .get("instances")
                .is_some_and(|paths| paths.iter().any(on_it))
        })
        .map(|operation| OperationSeen {
            id: operation.id.to_string(),
            description: operation.description.clone(),
        })
        .collect()
}
