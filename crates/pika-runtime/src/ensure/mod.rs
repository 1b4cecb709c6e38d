//! Owns the way to "running as planned": `ensure`. Observe, resolve, plan, execute; every step can be run again, and
//! a second ensure of the same plan changes nothing.
//!
//! Never compensates on a guess: a step whose outcome is unknown leads to another look and another plan. Never undoes:
//! what a failed ensure leaves is removed by a destroy.

mod boot;
mod compare;
mod error;
mod rounds;
mod steps;

use pika_cloud::{IncusRuntimePlan, Ownership, ResolvedPlan};
use serde::Serialize;
use tokio::sync::oneshot;

use self::rounds::{Rounds, RunnerWanted};
use crate::facts::ServerSeen;
use crate::id::RuntimeId;
use crate::observe::InstanceSeen;
use crate::run::WaitingRunner;
use crate::runtimes::{Runtime, Runtimes};

pub use compare::{Difference, differences};
pub use error::EnsureError;
pub use steps::{EnsureRefusal, EnsureStep, ensure_points, ensure_steps};

/// What an ensure would do now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanDiff {
    /// What is there under the instance's name.
    pub seen: InstanceSeen,
    /// The steps, in order; empty if ensure would refuse.
    pub steps: Vec<EnsureStep>,
    /// Why ensure would refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<EnsureRefusal>,
}

impl Runtimes {
    /// Makes it so: an instance of this plan runs. Does nothing if it already does; refuses if something else has its
    /// name. The work goes on in a task of its own if the caller stops waiting.
    ///
    /// # Errors
    /// Each thing that can be in the way is a variant of its own.
    pub async fn ensure(
        &self,
        plan: &IncusRuntimePlan,
        ownership: &Ownership,
    ) -> Result<Runtime, EnsureError> {
        let id = RuntimeId::of(plan);
        let client = self.client(id.project());
        // The first look goes out together with the questions about the server.
        let (resolved, seen) = tokio::join!(self.resolve(plan, ownership), self.look(&client, &id));
        self.ensure_seen(resolved.map_err(EnsureError::Resolve)?, seen.ok())
            .await
    }

    /// As [`Runtimes::ensure`], for an instance name that was just made up, on a server that was looked at before: asks
    /// nothing that is known. If the name is taken all the same, Incus refuses the create, and the look that follows
    /// tells what is there. While the last look is on its way the guest's runner is made to wait for the request with
    /// `nonce`; there is none if that could not be done at once.
    ///
    /// # Errors
    /// As [`Runtimes::ensure`].
    pub async fn ensure_new(
        &self,
        plan: &IncusRuntimePlan,
        ownership: &Ownership,
        server: ServerSeen,
        nonce: &str,
    ) -> Result<(Runtime, Option<WaitingRunner>), EnsureError> {
        let resolved = self
            .resolve_on(plan, ownership, server)
            .await
            .map_err(EnsureError::Resolve)?;
        let (to, mut waiting) = oneshot::channel();
        let runner = RunnerWanted {
            nonce: nonce.to_owned(),
            to,
        };
        let runtime = self
            .execute(resolved, Some(InstanceSeen::Absent), Some(runner))
            .await?;
        Ok((runtime, waiting.try_recv().ok()))
    }

    /// As [`Runtimes::ensure`], from a plan that was resolved before.
    ///
    /// # Errors
    /// As [`Runtimes::ensure`].
    pub async fn ensure_resolved(&self, resolved: ResolvedPlan) -> Result<Runtime, EnsureError> {
        self.ensure_seen(resolved, None).await
    }

    async fn ensure_seen(
        &self,
        resolved: ResolvedPlan,
        seen: Option<InstanceSeen>,
    ) -> Result<Runtime, EnsureError> {
        self.execute(resolved, seen, None).await
    }

    async fn execute(
        &self,
        resolved: ResolvedPlan,
        seen: Option<InstanceSeen>,
        runner: Option<RunnerWanted>,
    ) -> Result<Runtime, EnsureError> {
        let runtimes = self.clone();
        let task = tokio::spawn(async move {
            let rounds = Rounds::new(&runtimes, resolved, seen, runner);
            rounds.run().await
        });
        match task.await {
            Ok(end) => end,
            Err(error) => Err(EnsureError::Interrupted {
                why: error.to_string(),
            }),
        }
    }

    /// What [`Runtimes::ensure_resolved`] would do. Changes nothing.
    ///
    /// # Errors
    /// When the instance can't be looked at.
    pub async fn diff(&self, resolved: &ResolvedPlan) -> Result<PlanDiff, EnsureError> {
        let id = RuntimeId::of(&resolved.plan);
        let seen = self
            .look(&self.client(id.project()), &id)
            .await
            .map_err(EnsureError::Look)?;
        let (steps, refusal) = match ensure_steps(&seen, resolved) {
            Ok(steps) => (steps, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        Ok(PlanDiff {
            seen,
            steps,
            refusal,
        })
    }
}
