//! Owns the way to absent: `destroy`. Repeatable on instances that are half-made, running, frozen, stopped by
//! themselves or wedged; bounded by a total deadline; ends [`Destroyed`], one of four.
//!
//! Each round looks at the instance, plans from what it saw and executes. A failed step is not classified by its
//! text: the next round looks again. Never touches what isn't ours, and never starts anything.

mod rounds;
mod steps;

use std::time::Instant;

use serde::Serialize;

use self::rounds::Rounds;

use crate::id::RuntimeId;
use crate::observe::InstanceSeen;
use crate::owned::generation_of;
use crate::runtimes::Runtimes;

pub use steps::{DestroyStep, destroy_points, destroy_steps};

/// How a destroy ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum Destroyed {
    /// It was there, and is gone now.
    Destroyed,
    /// It was not there.
    Gone,
    /// Whether it is there can't be told now; a later destroy will tell.
    Unknown {
        /// Why it can't be told.
        why: String,
    },
    /// It is still there, and what can be done over the API was done.
    Stuck {
        /// What was tried, and what Incus said last.
        why: String,
        /// What the operator must run.
        remedy: String,
    },
}

impl Destroyed {
    /// Whether nothing is left.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Destroyed | Self::Gone)
    }
}

/// A destroy that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestroyError {
    /// The instance isn't ours, and was not touched.
    #[error(
        "instance {instance_name} in project {project} is not ours ({reason}), so it was not touched; \
         if it should go, remove it with: incus delete --force --project {project} {instance_name}"
    )]
    NotOurs {
        /// The instance.
        instance_name: String,
        /// Its project.
        project: String,
        /// What about it is not ours.
        reason: String,
    },
}

impl Runtimes {
    /// Removes a runtime's instance. The work goes on in a task of its own if the caller stops waiting.
    ///
    /// # Errors
    /// Only when the instance isn't ours; everything else is one of the four ends.
    pub async fn destroy(&self, id: &RuntimeId) -> Result<Destroyed, DestroyError> {
        self.destroy_from(id, None).await
    }

    /// As [`Runtimes::destroy`], of an instance that this process saw running, and its own, at `seen_running`. Where that
    /// was a moment ago it is not looked at again: most of a short job's removal is waiting for answers. What is no longer
    /// so is refused by Incus, and then looked at.
    ///
    /// # Errors
    /// As [`Runtimes::destroy`].
    pub async fn destroy_seen(
        &self,
        id: &RuntimeId,
        seen_running: Instant,
    ) -> Result<Destroyed, DestroyError> {
        self.destroy_from(id, Some(seen_running)).await
    }

    /// As [`Runtimes::destroy`], of one generation of a runtime: where another one has its name by now, this one is gone.
    /// A worker that was held up can't take away what was made since.
    ///
    /// # Errors
    /// As [`Runtimes::destroy`].
    pub async fn destroy_generation(
        &self,
        id: &RuntimeId,
        generation: u64,
    ) -> Result<Destroyed, DestroyError> {
        match self.look(&self.client(id.project()), id).await {
            Ok(InstanceSeen::Ours(ours))
                if generation_of(&ours.instance.config) != Some(generation) =>
            {
                Ok(Destroyed::Gone)
            }
            // What can't be seen now, or isn't ours, is what a destroy has its own words for.
            _ => self.destroy(id).await,
        }
    }

    async fn destroy_from(
        &self,
        id: &RuntimeId,
        seen_running: Option<Instant>,
    ) -> Result<Destroyed, DestroyError> {
        let (runtimes, id) = (self.clone(), id.clone());
        let work = async move { Rounds::new(&runtimes, &id, seen_running).run().await };
        match tokio::spawn(work).await {
            Ok(end) => end,
            Err(error) => Ok(Destroyed::Unknown {
                why: format!("the task that destroys it ended early: {error}"),
            }),
        }
    }
}

/// What an operator runs when an instance resists. A file helper of Incus that a dead guest's files hold keeps stop and
/// delete waiting for good; it is ended first.
pub(crate) fn stuck_remedy(id: &RuntimeId) -> String {
    format!(
        "for p in $(pgrep -f '[i]ncusd forkfile'); do init=$(tr '\\0' '\\n' </proc/$p/cmdline | tail -n1); \
         [ -d /proc/$init ] || kill -9 $p; done; incus delete --force --project {} {}  \
         # on the Incus host as root; see docs/runbooks/stuck-instances.md",
        id.project(),
        id.instance_name()
    )
}
