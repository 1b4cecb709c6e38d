//! Which job starts next: needs, concurrency groups, slots and memory.
//!
//! Pure. Each job is waiting, running, resting before another attempt, or ended; [`Schedule::next`] turns waiting ones
//! into running or ended ones, [`Schedule::ended`] takes what the executor reports. A call looks at the jobs that wait,
//! as long as something is free, and not at those that are over: a run may have thousands.
//!
//! ```text
//! waiting --(needs passed, group free, slot and memory free)--> running --> ended
//!  ^  \--(a need did not pass, or the run stops early)-------------|---------^  skipped
//!  '------------------------ resting <--(did not pass, may retry)--'
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::payload::Payload;
use crate::job::{JobSpec, optional_lanes};
use crate::outcome::JobOutcome;

/// How much may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Jobs at once; at least one runs.
    pub jobs: usize,
    /// Memory of all running instances together, in MiB; one job runs even if it is larger.
    pub memory_mib: Option<u64>,
}

/// What to do about one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start this attempt of it now; attempts count from 1.
    Start(usize, u32),
    /// It will not run.
    Skip(usize, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    /// Between two attempts: it holds no slot.
    Resting,
    Ended {
        passed: bool,
    },
}

struct Node {
    lane: String,
    /// The jobs of this run that must pass first. A need that isn't part of the run does not hold a job up; whoever makes
    /// the run adds them.
    needs: Vec<usize>,
    /// Payloads that it takes, each from the one job that makes it.
    takes: Vec<(usize, Payload)>,
    group: Option<String>,
    memory_mib: u64,
    keep_going: bool,
    /// How often it may be tried again.
    retries: u32,
    /// The attempt that runs or comes next.
    attempt: u32,
    state: State,
}

/// The first rest before another attempt; each further one is twice as long.
const REST_FIRST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// The jobs of one run.
pub(crate) struct Schedule {
    nodes: Vec<Node>,
    capacity: Capacity,
    /// Why nothing new starts any more.
    stopped: Option<String>,
    /// Indices by state, as far as somebody asks for them.
    waiting: BTreeSet<usize>,
    running: BTreeSet<usize>,
    ended: usize,
    /// Whether a job ended without passing, or the run stopped, since the last look for what can't run any more.
    look_for_hopeless: bool,
}

impl Schedule {
    /// `keep_going` overrides what the lanes say. An optional lane never stops the others.
    pub(crate) fn new(jobs: &[JobSpec], capacity: Capacity, keep_going: Option<bool>) -> Self {
        let optional = optional_lanes(jobs);
        let places: BTreeMap<&str, usize> = (jobs.iter().enumerate())
            .map(|(index, job)| (job.lane.as_str(), index))
            .collect();
        let place = |need: &String| places.get(need.as_str()).copied();
        let maker = |payload: &Payload| {
            let makes = |job: &JobSpec| job.outputs.contains(payload);
            Some((jobs.iter().position(makes)?, *payload))
        };
        let node = |job: &JobSpec| Node {
            lane: job.lane.clone(),
            needs: job.needs.iter().filter_map(place).collect(),
            takes: job.inputs.iter().filter_map(maker).collect(),
            group: job.concurrency_group.clone(),
            memory_mib: job.resources.memory_mib.unwrap_or(0).into(),
            keep_going: keep_going.unwrap_or(job.keep_going) || optional.contains(&job.lane),
            retries: job.retry,
            attempt: 1,
            state: State::Waiting,
        };
        Self {
            nodes: jobs.iter().map(node).collect(),
            capacity,
            stopped: None,
            waiting: (0..jobs.len()).collect(),
            running: BTreeSet::new(),
            ended: 0,
            look_for_hopeless: false,
        }
    }

    /// Puts a job where a process that died left it: in this attempt, which runs, or waits to start. An attempt that is
    /// over runs until [`Schedule::ended`] says so.
    pub(crate) fn take_up(&mut self, index: usize, attempt: u32, runs: bool) {
        self.nodes[index].attempt = attempt.max(1);
        self.set(index, if runs { State::Running } else { State::Waiting });
    }

    fn set(&mut self, index: usize, state: State) {
        match self.nodes[index].state {
            State::Waiting => drop(self.waiting.remove(&index)),
            State::Running => drop(self.running.remove(&index)),
            State::Resting => {}
            State::Ended { .. } => self.ended -= 1,
        }
        match state {
            State::Waiting => drop(self.waiting.insert(index)),
            State::Running => drop(self.running.insert(index)),
            State::Resting => {}
            State::Ended { passed } => {
                self.ended += 1;
                self.look_for_hopeless |= !passed;
            }
        }
        self.nodes[index].state = state;
    }

    /// What can be decided now, in the order of the run. Each decision is made once.
    pub(crate) fn next(&mut self) -> Vec<Decision> {
        if self.stopped.is_some() {
            self.end_begun();
        }
        let mut decisions = Vec::new();
        // A skipped job can make another one skip, so this goes on until nothing changes.
        while std::mem::take(&mut self.look_for_hopeless) {
            decisions.extend(self.skip_hopeless());
        }
        let mut free = Free::of(self);
        let mut at = 0;
        while free.has_slot(self.capacity)
            && let Some(index) = self.waiting.range(at..).next().copied()
        {
            at = index + 1;
            let node = &self.nodes[index];
            if free.takes(node, self.capacity) && self.needs_passed(node) {
                free.take(node);
                decisions.push(Decision::Start(index, node.attempt));
                self.set(index, State::Running);
            }
        }
        decisions
    }

    /// Notes how an attempt at a job ended. `Some`: it is tried again after this time, when [`Schedule::rested`] says so.
    pub(crate) fn ended(&mut self, index: usize, outcome: &JobOutcome) -> Option<Duration> {
        let stopped = self.stopped.is_some();
        let node = &mut self.nodes[index];
        if may_be_retried(outcome) && node.attempt <= node.retries && !stopped {
            let doubled = REST_FIRST.saturating_mul(2u32.saturating_pow(node.attempt - 1));
            node.attempt += 1;
            self.set(index, State::Resting);
            return Some(doubled.min(REST_MAX));
        }
        self.end(index, outcome.is_passed());
        None
    }

    /// Ends a job, and the run early if the job's end asks for that.
    fn end(&mut self, index: usize, passed: bool) {
        self.set(index, State::Ended { passed });
        let node = &self.nodes[index];
        if !passed && !node.keep_going && self.stopped.is_none() {
            self.stopped = Some(format!(
                "lane `{}` did not pass, and the run stops at the first such lane",
                node.lane
            ));
        }
    }

    /// Lets a job that rested wait for its next attempt. `false` if it has ended meanwhile, with its last attempt.
    pub(crate) fn rested(&mut self, index: usize) -> bool {
        let goes_on = self.is_resting(index);
        if goes_on {
            self.set(index, State::Waiting);
        }
        goes_on
    }

    /// Whether a job is between two attempts.
    pub(crate) fn is_resting(&self, index: usize) -> bool {
        self.nodes[index].state == State::Resting
    }

    /// Ends a job that rests with its last attempt.
    pub(crate) fn give_up(&mut self, index: usize) {
        if self.is_resting(index) {
            self.end(index, false);
        }
    }

    /// Lets nothing new start.
    pub(crate) fn stop(&mut self, why: &str) {
        self.stopped.get_or_insert_with(|| why.to_owned());
        self.look_for_hopeless = true;
        self.end_begun();
    }

    /// Whether every job has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.ended == self.nodes.len()
    }

    /// What has begun and does not run when the run stops has ended with its last attempt.
    fn end_begun(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let waits_again = node.state == State::Waiting && node.attempt > 1;
            if waits_again || node.state == State::Resting {
                self.set(index, State::Ended { passed: false });
            }
        }
    }

    fn skip_hopeless(&mut self) -> Vec<Decision> {
        let did_not_pass =
            |need: &&usize| self.nodes[**need].state == State::Ended { passed: false };
        let why_hopeless = |index: &usize| {
            let node = &self.nodes[*index];
            let because_of_need = node.needs.iter().find(did_not_pass).map(|need| {
                let lane = &self.nodes[*need].lane;
                match node.takes.iter().find(|(maker, _)| maker == need) {
                    Some((_, payload)) => {
                        format!("takes `{payload}` from lane `{lane}`, which did not pass")
                    }
                    None => format!("needs lane `{lane}`, which did not pass"),
                }
            });
            Some((*index, self.stopped.clone().or(because_of_need)?))
        };
        let hopeless: Vec<(usize, String)> = self.waiting.iter().filter_map(why_hopeless).collect();
        for (index, _) in &hopeless {
            self.set(*index, State::Ended { passed: false });
        }
        hopeless
            .into_iter()
            .map(|(index, reason)| Decision::Skip(index, reason))
            .collect()
    }

    fn needs_passed(&self, node: &Node) -> bool {
        let passed = State::Ended { passed: true };
        node.needs
            .iter()
            .all(|need| self.nodes[*need].state == passed)
    }
}

/// What running jobs have taken.
struct Free {
    running: usize,
    memory_mib: u64,
    groups: BTreeSet<String>,
}

impl Free {
    fn of(schedule: &Schedule) -> Self {
        let mut free = Self {
            running: 0,
            memory_mib: 0,
            groups: BTreeSet::new(),
        };
        for index in &schedule.running {
            free.take(&schedule.nodes[*index]);
        }
        free
    }

    fn take(&mut self, node: &Node) {
        self.running += 1;
        self.memory_mib += node.memory_mib;
        self.groups.extend(node.group.clone());
    }

    /// One job runs however large it is, and whatever the capacity is.
    fn has_slot(&self, capacity: Capacity) -> bool {
        self.running == 0 || self.running < capacity.jobs
    }

    fn takes(&self, node: &Node, capacity: Capacity) -> bool {
        let fits = |budget| self.memory_mib + node.memory_mib <= budget;
        let group = node.group.as_ref();
        self.running == 0
            || self.has_slot(capacity)
                && capacity.memory_mib.is_none_or(fits)
                && group.is_none_or(|group| !self.groups.contains(group))
    }
}

/// Whether another attempt may end otherwise: not after a pass, and not after somebody's will.
fn may_be_retried(outcome: &JobOutcome) -> bool {
    matches!(
        outcome,
        JobOutcome::Failed { .. }
            | JobOutcome::OutputRefused { .. }
            | JobOutcome::TimedOut { .. }
            | JobOutcome::Infrastructure { .. }
    )
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
