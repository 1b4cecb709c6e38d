//! The instances that runs keep for people to look into: the way into one, and removing it before its time is over.
//! Never keeps one; whoever ends a job does.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pika_cloud::account::Account;
use pika_cloud::paths::GUEST_UID;
use pika_runtime::RuntimeId;
use pika_runtime::incus::{CaptureLimits, ExecRequest};
use tokio::sync::mpsc::UnboundedSender;

use super::event::RunEvent;
use super::hold::Entry;
use super::recover::{Recovered, remove_jobs};
use super::resume::lock_to_drive;
use super::{Engine, EngineError, blocking, payloads};
use crate::cache::payload::{PROBE_SCRIPT, StagedPrograms, staged_environment};
use crate::job::{ATTEMPT_ENV, JobSpec};
use crate::record::{JobDir, JobRecord, RunDir, RunId};

/// How long a kept guest may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Why there is no kept instance to work with.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// Nothing of the run is kept.
    #[error(
        "run {run_id} keeps no instance{}; `pikaci run --keep-failed` keeps those of lanes that do not pass",
        .lane.as_ref().map(|lane| format!(" of lane {lane}")).unwrap_or_default()
    )]
    Nothing {
        /// The run.
        run_id: RunId,
        /// The lane, where one was named.
        lane: Option<String>,
    },
    /// Its time is over.
    #[error("the instance of lane {lane} of run {run_id} was kept until {until} and is removed")]
    Over {
        /// The run.
        run_id: RunId,
        /// The lane.
        lane: String,
        /// Until when it was kept.
        until: Timestamp,
    },
    /// A process drives the run or looks at it.
    #[error(
        "run {run_id} is held by another process; try again once `pikaci status {run_id}` shows its end"
    )]
    Lives {
        /// The run.
        run_id: RunId,
    },
    /// The guest does not answer as ours do.
    #[error(
        "the kept guest of lane {lane} can't be asked for its environment: {why}; `pikaci release {run_id} {lane}` removes it"
    )]
    Silent {
        /// The run.
        run_id: RunId,
        /// The lane.
        lane: String,
        /// Why.
        why: String,
    },
}

impl Engine {
    /// The way into the instance that a run keeps of a lane, with the environment that the lane's command had.
    pub async fn enter_kept(&self, run: &RunDir, lane: &str) -> Result<Entry, EngineError> {
        self.refuse_tracked_store().await?;
        let nothing = || KeptError::Nothing {
            run_id: run.id.clone(),
            lane: Some(lane.to_owned()),
        };
        let kept = run.kept()?;
        let (dir, until) =
            (kept.into_iter().find(|(dir, _)| dir.lane == lane)).ok_or_else(nothing)?;
        if until <= Timestamp::now() {
            let (run_id, lane) = (run.id.clone(), lane.to_owned());
            return Err(KeptError::Over {
                run_id,
                lane,
                until,
            }
            .into());
        }
        let record = dir.read_record()?.ok_or_else(nothing)?;
        let plan = run.read_plan()?.ok_or_else(nothing)?;
        let job = plan.jobs.into_iter().find(|job| job.lane == lane);
        let job = job.ok_or_else(nothing)?;
        let env = self.env_of(run, &job, &record).await?;
        let id = RuntimeId::new(&record.runtime_id, &record.instance_name, &record.project);
        Ok(Entry::new(id, job.run_as_root, env))
    }

    /// What the guest's runner gave the command.
    async fn env_of(
        &self,
        run: &RunDir,
        job: &JobSpec,
        record: &JobRecord,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        let ask = async |command: &[&str]| {
            let said = self.ask_kept(record, command).await;
            said.map_err(|why| KeptError::Silent {
                run_id: run.id.clone(),
                lane: job.lane.clone(),
                why,
            })
        };
        let uid = if job.run_as_root { 0 } else { GUEST_UID };
        let passwd = ask(&[
            "/bin/sh",
            "-c",
            "while IFS= read -r line; do printf '%s\\n' \"$line\"; done < /etc/passwd",
        ])
        .await?;
        let mut env = Account::find(&passwd, uid).default_env();
        env.extend(job.guest_request(&record.nonce).env);
        env.insert(ATTEMPT_ENV.to_owned(), record.attempt.to_string());
        if !job.inputs.is_empty() {
            let said = ask(&["/bin/sh", "-c", PROBE_SCRIPT]).await?;
            env.extend(staged_environment(&StagedPrograms::told(&said), &job.env));
        }
        Ok(env)
    }

    async fn ask_kept(&self, record: &JobRecord, command: &[&str]) -> Result<String, String> {
        let id = RuntimeId::new(&record.runtime_id, &record.instance_name, &record.project);
        let request = ExecRequest::new(command.iter().copied());
        let limits = CaptureLimits::default();
        let said = self.runtimes.ask(&id, &request, limits, ANSWER_LIMIT).await;
        let said = said.map_err(|error| super::chain(&error))?;
        match said.exit_code {
            0 => Ok(String::from_utf8_lossy(&said.stdout).into_owned()),
            code => Err(format!("it answered {code}")),
        }
    }

    /// Removes the instances that a run keeps, or the one of a lane, before their time is over.
    pub async fn release(
        &self,
        run: &RunDir,
        lane: Option<&str>,
        events: &UnboundedSender<RunEvent>,
    ) -> Result<Recovered, EngineError> {
        self.refuse_tracked_store().await?;
        let run_id = run.id.clone();
        let Some(_lock) = lock_to_drive(run).await? else {
            return Err(KeptError::Lives { run_id }.into());
        };
        let kept = run.kept()?.into_iter().map(|(dir, _)| dir);
        let jobs: Vec<JobDir> = kept
            .filter(|dir| lane.is_none_or(|lane| dir.lane == lane))
            .collect();
        if jobs.is_empty() {
            let lane = lane.map(str::to_owned);
            return Err(KeptError::Nothing { run_id, lane }.into());
        }
        let mut released = remove_jobs(&self.runtimes, run, jobs, events).await?;
        released.kept = run.kept()?.len();
        // A run without a verdict can still be taken up, and what is left of it is needed then.
        if released.kept == 0 && run.read()?.verdict.is_some() {
            let left = payloads::remove_left(&self.runtimes, run).await?;
            released.left.extend(left);
            if released.left.is_empty() && run.is_clean()? {
                let store = self.store.clone();
                blocking(move || store.settle(&run_id)).await?;
            }
        }
        Ok(released)
    }
}
