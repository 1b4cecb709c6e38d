//! Which job starts next: needs, concurrency groups, slots and memory.
//!
//! Pure. Each job is waiting, running, resting before another attempt, or ended; [`Schedule::next`] turns waiting ones
//! into running or ended ones, [`Schedule::ended`] takes what the executor reports.
//!
//! ```text
//! waiting --(needs passed, group free, slot and memory free)--> running --> ended
//!  ^  \--(a need did not pass, or the run stops early)-------------|---------^  skipped
//!  '------------------------ resting <--(did not pass, may retry)--'
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    needs: Vec<String>,
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
}

impl Schedule {
    /// `keep_going` overrides what the lanes say. An optional lane never stops the others.
    pub(crate) fn new(jobs: &[JobSpec], capacity: Capacity, keep_going: Option<bool>) -> Self {
        let optional = optional_lanes(jobs);
        let node = |job: &JobSpec| Node {
            lane: job.lane.clone(),
            needs: job.needs.clone(),
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
        }
    }

    /// Puts a job where a process that died left it: in this attempt, which runs, or waits to start. An attempt that is
    /// over runs until [`Schedule::ended`] says so.
    pub(crate) fn take_up(&mut self, index: usize, attempt: u32, runs: bool) {
        let node = &mut self.nodes[index];
        node.attempt = attempt.max(1);
        node.state = if runs { State::Running } else { State::Waiting };
    }

    /// What can be decided now, in the order of the run. Each decision is made once.
    pub(crate) fn next(&mut self) -> Vec<Decision> {
        if self.stopped.is_some() {
            self.end_begun();
        }
        let mut decisions = Vec::new();
        // A skipped job can make another one skip, so this goes on until nothing changes.
        loop {
            let skipped = self.skip_hopeless();
            if skipped.is_empty() {
                break;
            }
            decisions.extend(skipped);
        }
        for index in 0..self.nodes.len() {
            if self.nodes[index].state == State::Waiting && self.may_start(index) {
                self.nodes[index].state = State::Running;
                decisions.push(Decision::Start(index, self.nodes[index].attempt));
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
            node.state = State::Resting;
            return Some(doubled.min(REST_MAX));
        }
        node.state = State::Ended {
            passed: outcome.is_passed(),
        };
        if !outcome.is_passed() && !node.keep_going && self.stopped.is_none() {
            self.stopped = Some(format!(
                "lane `{}` did not pass, and the run stops at the first such lane",
                node.lane
            ));
        }
        None
    }

    /// Lets a job that rested wait for its next attempt. `false` if it has ended meanwhile, with its last attempt.
    pub(crate) fn rested(&mut self, index: usize) -> bool {
        let node = &mut self.nodes[index];
        let goes_on = node.state == State::Resting;
        if goes_on {
            node.state = State::Waiting;
        }
        goes_on
    }

    /// Ends a job that rests with its last attempt.
    pub(crate) fn give_up(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.state == State::Resting {
            node.state = State::Ended { passed: false };
        }
    }

    /// Lets nothing new start.
    pub(crate) fn stop(&mut self, why: &str) {
        self.stopped.get_or_insert_with(|| why.to_owned());
        self.end_begun();
    }

    /// Whether every job has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| matches!(node.state, State::Ended { .. }))
    }

    /// What has begun and does not run when the run stops has ended with its last attempt.
    fn end_begun(&mut self) {
        for node in &mut self.nodes {
            let waits_again = node.state == State::Waiting && node.attempt > 1;
            if waits_again || node.state == State::Resting {
                node.state = State::Ended { passed: false };
            }
        }
    }

    fn skip_hopeless(&mut self) -> Vec<Decision> {
        let states: BTreeMap<&str, State> = self
            .nodes
            .iter()
            .map(|node| (node.lane.as_str(), node.state))
            .collect();
        let hopeless: Vec<(usize, String)> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.state == State::Waiting)
            .filter_map(|(index, node)| {
                let did_not_pass = |need: &&String| {
                    states.get(need.as_str()) == Some(&State::Ended { passed: false })
                };
                let because_of_need = node
                    .needs
                    .iter()
                    .find(did_not_pass)
                    .map(|need| format!("needs lane `{need}`, which did not pass"));
                Some((index, self.stopped.clone().or(because_of_need)?))
            })
            .collect();
        for (index, _) in &hopeless {
            self.nodes[*index].state = State::Ended { passed: false };
        }
        hopeless
            .into_iter()
            .map(|(index, reason)| Decision::Skip(index, reason))
            .collect()
    }

    fn may_start(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let running: Vec<&Node> = self
            .nodes
            .iter()
            .filter(|other| other.state == State::Running)
            .collect();
        if running.is_empty() {
            return self.needs_passed(node);
        }
        let groups: BTreeSet<&str> = running
            .iter()
            .filter_map(|other| other.group.as_deref())
            .collect();
        let memory_mib: u64 = running.iter().map(|other| other.memory_mib).sum();
        running.len() < self.capacity.jobs
            && self
                .capacity
                .memory_mib
                .is_none_or(|budget| memory_mib + node.memory_mib <= budget)
            && node
                .group
                .as_deref()
                .is_none_or(|group| !groups.contains(group))
            && self.needs_passed(node)
    }

    /// A need that isn't part of the run does not hold a job up; whoever makes the run adds them.
    fn needs_passed(&self, node: &Node) -> bool {
        self.nodes
            .iter()
            .filter(|other| node.needs.contains(&other.lane))
            .all(|other| other.state == State::Ended { passed: true })
    }
}

/// Whether another attempt may end otherwise: not after a pass, and not after somebody's will.
fn may_be_retried(outcome: &JobOutcome) -> bool {
    matches!(
        outcome,
        JobOutcome::Failed { .. } | JobOutcome::TimedOut { .. } | JobOutcome::Infrastructure { .. }
    )
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
