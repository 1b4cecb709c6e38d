//! Which job starts next: needs, concurrency groups, slots and memory.
//!
//! Pure. Each job is waiting, running or ended; [`Schedule::next`] turns waiting ones into running or
//! ended ones, [`Schedule::ended`] takes what the executor reports.
//!
//! ```text
//! waiting --(needs passed, group free, slot and memory free)--> running --> ended
//!    \--(a need did not pass, or the run stops early)-------------------------^  skipped
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::job::JobSpec;
use crate::outcome::JobOutcome;

/// How much may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Jobs at once; at least one runs.
    pub jobs: usize,
    /// Memory of all running instances together, in MiB; one job runs even if it is larger.
    pub memory_mib: Option<u64>,
}

/// What to do about one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start it now.
    Start(usize),
    /// It will not run.
    Skip(usize, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Ended { passed: bool },
}

struct Node {
    lane: String,
    needs: Vec<String>,
    group: Option<String>,
    memory_mib: u64,
    keep_going: bool,
    state: State,
}

/// The jobs of one run.
pub(crate) struct Schedule {
    nodes: Vec<Node>,
    capacity: Capacity,
    /// Why nothing new starts any more.
    stopped: Option<String>,
}

impl Schedule {
    /// `keep_going` overrides what the lanes say.
    pub(crate) fn new(jobs: &[JobSpec], capacity: Capacity, keep_going: Option<bool>) -> Self {
        let node = |job: &JobSpec| Node {
            lane: job.lane.clone(),
            needs: job.needs.clone(),
            group: job.concurrency_group.clone(),
            memory_mib: job.resources.memory_mib.unwrap_or(0).into(),
            keep_going: keep_going.unwrap_or(job.keep_going),
            state: State::Waiting,
        };
        Self {
            nodes: jobs.iter().map(node).collect(),
            capacity,
            stopped: None,
        }
    }

    /// What can be decided now, in the order of the run. Each decision is made once.
    pub(crate) fn next(&mut self) -> Vec<Decision> {
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
                decisions.push(Decision::Start(index));
            }
        }
        decisions
    }

    /// Notes how a job ended.
    pub(crate) fn ended(&mut self, index: usize, outcome: &JobOutcome) {
        let node = &mut self.nodes[index];
        node.state = State::Ended {
            passed: outcome.is_passed(),
        };
        if !outcome.is_passed() && !node.keep_going && self.stopped.is_none() {
            self.stopped = Some(format!(
                "lane `{}` did not pass, and the run stops at the first such lane",
                node.lane
            ));
        }
    }

    /// Lets nothing new start.
    pub(crate) fn stop(&mut self, why: &str) {
        self.stopped.get_or_insert_with(|| why.to_owned());
    }

    /// Whether every job has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| matches!(node.state, State::Ended { .. }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobContext;
    use crate::lanes::{LanesFile, Section};
    use crate::operator::OperatorConfig;
    use Decision::{Skip, Start};

    /// Lanes `a`, `b`, ... each with the keys given.
    fn jobs(keys: &[&str]) -> Vec<JobSpec> {
        let mut source = "version = 1\n".to_owned();
        for (index, keys) in keys.iter().enumerate() {
            let id = char::from(b'a' + u8::try_from(index).expect("few lanes"));
            source.push_str(&format!(
                "[[branch.lanes]]\nid = \"{id}\"\ncommand = [\"true\"]\n{keys}\n"
            ));
        }
        let file = LanesFile::parse("f", &source).expect("parses");
        let operator = OperatorConfig::default();
        let context = JobContext {
            operator: &operator,
            owner: "o",
            store_tag: "t",
            role_override: None,
        };
        let job = |lane| JobSpec::new(Section::Branch, lane, &context).expect("a job");
        file.branch.iter().map(job).collect()
    }

    fn schedule(keys: &[&str], slots: usize) -> Schedule {
        Schedule::new(
            &jobs(keys),
            Capacity {
                jobs: slots,
                memory_mib: None,
            },
            None,
        )
    }

    fn failed() -> JobOutcome {
        JobOutcome::Failed {
            exit_code: Some(1),
            signal: None,
            out_of_memory: false,
        }
    }

    #[test]
    fn slots_bound_what_runs_at_once() {
        let mut schedule = schedule(&["", "", ""], 2);
        assert_eq!(schedule.next(), [Start(0), Start(1)]);
        assert_eq!(schedule.next(), []);
        schedule.ended(1, &failed());
        assert_eq!(schedule.next(), [Start(2)], "others go on after a failure");
        schedule.ended(0, &JobOutcome::Passed);
        schedule.ended(2, &JobOutcome::Passed);
        assert!(schedule.is_over() && schedule.next().is_empty());
    }

    #[test]
    fn memory_bounds_too_but_one_always_runs() {
        let keys = "resources = { memory_mib = 1000 }";
        let large = "resources = { memory_mib = 9000 }";
        let capacity = Capacity {
            jobs: 9,
            memory_mib: Some(2500),
        };
        let mut schedule = Schedule::new(&jobs(&[large, keys, keys, keys]), capacity, None);
        assert_eq!(schedule.next(), [Start(0)]);
        schedule.ended(0, &JobOutcome::Passed);
        assert_eq!(schedule.next(), [Start(1), Start(2)]);
    }

    #[test]
    fn a_group_runs_one_at_a_time() {
        let group = "concurrency_group = \"g\"";
        let mut schedule = schedule(&[group, group, "", group], 9);
        assert_eq!(schedule.next(), [Start(0), Start(2)]);
        schedule.ended(0, &failed());
        assert_eq!(schedule.next(), [Start(1)]);
    }

    #[test]
    fn needs_wait_and_a_failed_need_skips_what_hangs_on_it() {
        let mut one = schedule(&["needs = [\"b\"]", "", "needs = [\"a\"]"], 9);
        assert_eq!(one.next(), [Start(1)]);
        one.ended(1, &JobOutcome::Passed);
        assert_eq!(one.next(), [Start(0)]);
        one.ended(0, &failed());
        assert_eq!(
            one.next(),
            [Skip(2, "needs lane `a`, which did not pass".into())]
        );
        assert!(one.is_over());
        let mut chain = schedule(&["needs = [\"b\"]", "needs = [\"c\"]", ""], 9);
        assert_eq!(chain.next(), [Start(2)]);
        chain.ended(2, &failed());
        assert_eq!(chain.next().len(), 2, "the whole chain is skipped at once");
        assert!(chain.is_over());
    }

    #[test]
    fn a_run_that_stops_early_skips_the_rest() {
        let mut schedule = Schedule::new(
            &jobs(&["", "", ""]),
            Capacity {
                jobs: 1,
                memory_mib: None,
            },
            Some(false),
        );
        assert_eq!(schedule.next(), [Start(0)]);
        schedule.ended(0, &failed());
        let skipped = schedule.next();
        assert!(
            matches!(skipped.as_slice(), [Skip(1, why), Skip(2, _)] if why.contains("lane `a`")),
            "{skipped:?}"
        );
        assert!(schedule.is_over());
    }

    #[test]
    fn a_stopped_run_starts_nothing() {
        let mut schedule = schedule(&["", ""], 1);
        assert_eq!(schedule.next(), [Start(0)]);
        schedule.stop("cancelled");
        assert_eq!(schedule.next(), [Skip(1, "cancelled".into())]);
        schedule.ended(0, &JobOutcome::Cancelled { by: "x".into() });
        assert!(schedule.is_over());
    }
}
