//! Owns [`Runtimes`], through which everything in this crate is reached, and [`Runtime`], what it hands out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pika_cloud::{IncusRuntimePlan, ResolvedPlan, RuntimePaths, RuntimePolicies};
use pika_incus::Client;
use serde::{Deserialize, Serialize};

use crate::config::RuntimeConfig;
use crate::facts::ServerCache;
use crate::id::RuntimeId;
use crate::steps::{StepHook, StepMoment, StepPoint, StepVerdict};

/// Executes plans on one Incus server (or cluster) for one owner. Cheap to clone; clones share what was learned
/// about the server.
#[derive(Clone)]
pub struct Runtimes {
    client: Client,
    config: Arc<RuntimeConfig>,
    pub(crate) server_cache: Arc<ServerCache>,
    hook: Option<Arc<dyn StepHook>>,
}

impl Runtimes {
    /// Works through `client`; projects come from the plans.
    pub fn new(client: Client, config: RuntimeConfig) -> Self {
        Self {
            client,
            config: Arc::new(config),
            server_cache: Arc::default(),
            hook: None,
        }
    }

    /// The same, with a hook that is told about every step.
    #[must_use]
    pub fn with_hook(mut self, hook: Arc<dyn StepHook>) -> Self {
        self.hook = Some(hook);
        self
    }

    /// The configuration.
    pub fn config(&self) -> &RuntimeConfig {
        &self.config
    }

    /// Whether Incus answers, and to us.
    ///
    /// # Errors
    /// When it doesn't.
    pub async fn reachable(&self) -> Result<(), pika_incus::Error> {
        self.client.server().await.map(drop)
    }

    /// The client, in a project.
    pub(crate) fn client(&self, project: &str) -> Client {
        self.client.with_project(project)
    }

    pub(crate) fn reached(&self, point: StepPoint, moment: StepMoment) -> StepVerdict {
        self.hook
            .as_ref()
            .map_or(StepVerdict::Continue, |hook| hook.reached(point, moment))
    }
}

impl fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtimes")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A runtime whose instance runs as planned. It can be written down and read again by another process, which then
/// follows the run where this one stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Runtime {
    /// Names it.
    pub id: RuntimeId,
    /// When its guest was started, as Incus tells it. Another time later means another boot.
    pub started_at: Option<String>,
    /// Guest paths of the mounts that must be there.
    pub required_mounts: Vec<String>,
    /// The plan as it was resolved.
    pub resolved: ResolvedPlan,
}

impl Runtime {
    pub(crate) fn of(resolved: ResolvedPlan, started_at: Option<String>) -> Self {
        Self {
            id: RuntimeId::of(&resolved.plan),
            started_at,
            required_mounts: required_mounts(&resolved.plan),
            resolved,
        }
    }

    /// The instance's name.
    pub fn instance_name(&self) -> &str {
        self.id.instance_name()
    }

    /// The Incus project.
    pub fn project(&self) -> &str {
        self.id.project()
    }

    /// Its policies, deadlines among them.
    pub fn policies(&self) -> &RuntimePolicies {
        &self.resolved.plan.policies
    }

    /// Where the contract's files are in the guest.
    pub fn paths(&self) -> &RuntimePaths {
        &self.resolved.plan.paths
    }

    /// How long the guest may take until its runner can be executed.
    pub(crate) fn boot_limit(&self, config: &RuntimeConfig) -> Duration {
        self.policies()
            .deadlines
            .boot_secs
            .map_or(config.timeouts.boot, Duration::from_secs)
    }
}

/// Guest paths of the mounts that must be there. One that is required is never left out: resolving fails first.
pub(crate) fn required_mounts(plan: &IncusRuntimePlan) -> Vec<String> {
    let required = plan.mounts.iter().filter(|mount| mount.required);
    required.map(|mount| mount.guest_path.clone()).collect()
}
