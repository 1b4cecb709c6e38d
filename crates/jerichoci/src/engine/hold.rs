//! Instances that people work in: set up like a lane's, held until nobody needs them.
//!
//! Such an instance is that of an ordinary job whose command tells its environment and then waits, so image, source,
//! caches, workspace, limits, lease and removal are those of the lane by construction. What it leaves in its caches is
//! always thrown away. Its record is kept apart from those of runs, and goes with it. Never knows a terminal.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use pika_cloud::paths::{GUEST_GID, GUEST_UID};
use pika_incus_guest_role::SNAPSHOT_GUEST_PATH;
use pika_runtime::incus::{ExecRequest, ExecSession};
use pika_runtime::{RuntimeId, ServerOnce};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::cancel::Cancel;
use super::conclude::REMOVAL_WAIT_AT_ONCE;
use super::dispatch::removal_end;
use super::event::{JobPhase, RunEvent};
use super::job_task::{self, JobEnd, JobTask};
use super::live_record::LiveRecord;
use super::past::Past;
use super::prepare::SnapshotTicket;
use super::recover::Recovered;
use super::removal::{Removed, trouble_of};
use super::run::RunRequest;
use super::{Capacity, Engine, EngineError, blocking, recover};
use crate::cache::Trust;
use crate::job::JobSpec;
use crate::outcome::JobOutcome;
use crate::record::{JobDir, Removal, RunDir, RunLock, RunPlan, RunRecord, SelectionRecord};

/// Tells its environment, an empty entry after the last one, and waits to be ended.
const HOLDER: &str = r"env -0; printf '\0'; exec sleep infinity";
/// What the holder's log ends with: no entry of an environment is empty.
const ENVIRONMENT_END: &[u8] = b"\0\0";
/// Largest environment that is taken; a lane's own variables may have anything else said before it.
const ENVIRONMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How often the holder's log is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// What the holder's own shell put there.
const OF_THE_HOLDER: [&str; 4] = ["_", "OLDPWD", "PWD", "SHLVL"];
/// Becomes the command, under the same limits that the guest's runner sets for a job, and without what Incus adds to the
/// environment.
const AS_A_JOB: &str = r#"unset container; umask 022; ulimit -c 0; exec "$@""#;

/// What to hold.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    /// The lane's job; its command does not run.
    pub job: JobSpec,
    /// How long at most.
    pub time: Duration,
    /// Path rules of untracked files that are taken though they look like secrets.
    pub allow_untracked: Vec<String>,
}

/// The way into a held instance.
#[derive(Debug, Clone)]
pub struct Entry {
    id: RuntimeId,
    run_as_root: bool,
    /// The environment that the lane's command would have.
    pub env: BTreeMap<String, String>,
}

impl Entry {
    pub(super) fn new(id: RuntimeId, run_as_root: bool, env: BTreeMap<String, String>) -> Self {
        Self {
            id,
            run_as_root,
            env,
        }
    }

    /// The instance's name in Incus.
    pub fn instance_name(&self) -> &str {
        self.id.instance_name()
    }
}

/// How the holding ended.
#[derive(Debug, Clone)]
pub struct HoldEnd {
    /// What became of the holder: cancelled when nobody needed it any more.
    pub outcome: JobOutcome,
    /// What could not be removed.
    pub troubles: Vec<String>,
}

impl Engine {
    /// Makes an instance like that of the job, gives the way in through `ready`, and removes the instance once `cancel`
    /// says so or its time is over.
    pub async fn hold(
        &self,
        request: HoldRequest,
        events: UnboundedSender<RunEvent>,
        mut cancel: Cancel,
        ready: oneshot::Sender<Entry>,
    ) -> Result<HoldEnd, EngineError> {
        let engine = Engine {
            store: self.store.for_shells(),
            ..self.clone()
        };
        let looked = engine.client.server().await;
        looked.map_err(|source| engine.incus_error(source))?;
        let store = engine.store.clone();
        blocking(move || store.prepare()).await?;
        let run = RunRequest {
            jobs: vec![holder(request.job, request.time)],
            capacity: Capacity {
                jobs: 1,
                memory_mib: None,
            },
            keep_going: None,
            trust: Trust::Untrusted,
            allow_untracked: request.allow_untracked,
            keep_failed: None,
            selection: SelectionRecord::default(),
            rerun_of: None,
        };
        let locks = engine.lock_caches(&run.jobs, &events, &mut cancel).await?;
        let (record, plan, dir, _lock) = engine.begin(run).await?;
        let holding = Holding {
            engine: &engine,
            dir: dir.clone(),
            events,
            cancel,
        };
        match holding.prepare(&plan, &record).await {
            Ok((task, snapshot)) => {
                let end = holding.until_over(task, locks, ready).await;
                // Nothing may take the source away while the instance is there.
                drop(snapshot);
                end
            }
            Err(error) => {
                let run_id = record.run_id.clone();
                let error = engine.give_up(record, dir, error).await;
                engine.store.forget(&run_id)?;
                Err(error)
            }
        }
    }

    /// Starts a command in a held instance as the lane's command would start: same user, environment and directory, with
    /// `env` on top; with a terminal of so many columns and rows, if any.
    pub async fn enter(
        &self,
        entry: &Entry,
        command: &[String],
        terminal: Option<(u16, u16)>,
        env: BTreeMap<String, String>,
    ) -> Result<ExecSession, EngineError> {
        let head = ["/bin/sh", "-c", AS_A_JOB, "sh"].map(str::to_owned);
        let mut request = ExecRequest::new(head.into_iter().chain(command.iter().cloned()));
        request.env.clone_from(&entry.env);
        request.env.extend(env);
        if !entry.run_as_root {
            (request.user, request.group) = (GUEST_UID, GUEST_GID);
        }
        request.cwd = Some(SNAPSHOT_GUEST_PATH.to_owned());
        request.stdin = true;
        request.interactive = terminal;
        let session = self.runtimes.enter(&entry.id, &request).await;
        session.map_err(|error| EngineError::Enter(Box::new(error)))
    }

    /// Removes the instances of people whose process died. Nobody can take such an instance up, so its time is over
    /// whatever its lease says.
    pub async fn recover_shells(
        &self,
        events: &UnboundedSender<RunEvent>,
    ) -> Result<Vec<Recovered>, EngineError> {
        let store = self.store.for_shells();
        if store.unsettled()?.is_empty() {
            return Ok(Vec::new());
        }
        self.refuse_tracked_store().await?;
        let recovered = recover::recover(&self.runtimes, &store, Timestamp::MAX, events).await?;
        for run in recovered.iter().filter(|run| run.left.is_empty()) {
            store.forget(&run.run_id)?;
        }
        Ok(recovered)
    }
}

/// The job with the holder's command in place of its own.
fn holder(mut job: JobSpec, time: Duration) -> JobSpec {
    job.command = ["sh", "-c", HOLDER].map(str::to_owned).to_vec();
    job.timeout = time;
    job.retry = 0;
    job.artifacts.clear();
    job.reports.clear();
    // There is no run that they could come from or go to.
    job.inputs.clear();
    job.outputs.clear();
    job
}

/// One instance while it is held.
struct Holding<'a> {
    engine: &'a Engine,
    dir: RunDir,
    events: UnboundedSender<RunEvent>,
    cancel: Cancel,
}

impl Holding<'_> {
    /// Everything that the job needs before its instance.
    async fn prepare(
        &self,
        plan: &RunPlan,
        record: &RunRecord,
    ) -> Result<(JobTask, SnapshotTicket), EngineError> {
        let engine = self.engine;
        let (job, allowed) = (plan.jobs[0].clone(), plan.allow_untracked.clone());
        let server = ServerOnce::default();
        let looked = engine.look(&plan.jobs, allowed, &server).await?;
        let live = LiveRecord::new(self.dir.clone(), record.clone());
        let mut run = looked.noted(live, Trust::Untrusted).await?;
        let task = JobTask {
            runtimes: engine.runtimes.clone(),
            owner: engine.owner.clone(),
            run_id: record.run_id.clone(),
            attempt: 1,
            dir: self.dir.job(&job.lane),
            past: Past::waits(1),
            lease: job_task::lease(&job, Timestamp::now()),
            snapshot: run.snapshot.clone(),
            caches: run.caches,
            payloads: run.payloads,
            trust: run.trust,
            server: run.servers.remove(&job.image_alias),
            events: self.events.clone(),
            cancel: self.cancel.clone(),
            keep_failed: None,
            job,
        };
        Ok((task, run.snapshot))
    }

    async fn until_over(
        &self,
        mut task: JobTask,
        locks: Vec<RunLock>,
        ready: oneshot::Sender<Entry>,
    ) -> Result<HoldEnd, EngineError> {
        let (told, heard) = unbounded_channel();
        task.events = told;
        let waiting = Waiting {
            dir: task.dir.clone(),
            run_as_root: task.job.run_as_root,
            ready,
        };
        let listening = tokio::spawn(listen(heard, self.events.clone(), locks, waiting));
        let ended = tokio::spawn(task.execute()).await;
        let end: JobEnd = ended.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })?;
        let mut troubles = end.troubles;
        troubles.extend(self.remove(end.removal).await?);
        // With it goes whoever still waits for the environment: the holder may have ended before it told any.
        listening.abort();
        Ok(HoldEnd {
            outcome: end.result.outcome,
            troubles,
        })
    }

    /// Waits for the removal, and forgets the record if nothing is left.
    async fn remove(
        &self,
        removal: Option<JoinHandle<Removed>>,
    ) -> Result<Vec<String>, EngineError> {
        let at_once = self.cancel.clone().at_once_for(REMOVAL_WAIT_AT_ONCE);
        let removed = match removal {
            None => None,
            Some(removal) => tokio::select! {
                removed = removal_end(removal) => Some(removed.removal),
                () = at_once => Some(Removal::Unknown { why: "it is still being removed".to_owned() }),
            },
        };
        let trouble = removed.and_then(|removal| trouble_of(&removal, "the instance"));
        if trouble.is_none() {
            self.engine.store.settle(&self.dir.id)?;
            self.engine.store.forget(&self.dir.id)?;
        }
        Ok(Vec::from_iter(trouble))
    }
}

/// Who waits for the holder's words.
struct Waiting {
    dir: JobDir,
    run_as_root: bool,
    ready: oneshot::Sender<Entry>,
}

/// Passes events on. Once the holder runs, its caches are cloned, so that others may have them; then its environment
/// is waited for.
async fn listen(
    mut heard: UnboundedReceiver<RunEvent>,
    events: UnboundedSender<RunEvent>,
    locks: Vec<RunLock>,
    waiting: Waiting,
) {
    let (mut locks, mut waiting) = (Some(locks), Some(waiting));
    // Dropped with this task, and with it whoever still waits.
    let mut waiters = JoinSet::new();
    while let Some(event) = heard.recv().await {
        if let RunEvent::Phase { phase, .. } = &event
            && *phase == JobPhase::Running
        {
            drop(locks.take());
            waiting.take().map(|waiting| waiters.spawn(waiting.wait()));
        }
        // Nobody listening is no reason to stop.
        events.send(event).ok();
    }
}

impl Waiting {
    async fn wait(self) {
        let log = self.dir.log_path();
        let env = loop {
            if let Some(env) = environment(&log) {
                break env;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        };
        // The record was written before anything was created. Without it the holder's end tells what happened.
        let Ok(Some(record)) = self.dir.read_record() else {
            return;
        };
        let id = RuntimeId::new(&record.runtime_id, &record.instance_name, &record.project);
        self.ready
            .send(Entry {
                id,
                run_as_root: self.run_as_root,
                env,
            })
            .ok();
    }
}

/// The environment that the holder told, once it told all of it.
fn environment(log: &Path) -> Option<BTreeMap<String, String>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(log).ok()?;
    file.take(ENVIRONMENT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    parse_environment(&bytes)
}

fn parse_environment(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let entries = bytes.strip_suffix(ENVIRONMENT_END)?;
    let pairs = entries
        .split(|byte| *byte == 0)
        .filter_map(|entry| String::from_utf8_lossy(entry).split_once('=').map(owned));
    Some(
        pairs
            .filter(|(name, _)| !OF_THE_HOLDER.contains(&name.as_str()))
            .collect(),
    )
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_environment;

    #[test]
    fn an_environment_is_taken_only_whole() {
        assert_eq!(parse_environment(b""), None);
        assert_eq!(parse_environment(b"A=1\0B=2\0"), None);
        let env = parse_environment(b"A=1\0PWD=/\0_=/usr/bin/env\0B=x=\ny\0\0").unwrap();
        let pairs: Vec<(&str, &str)> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "x=\ny")]);
    }
}
