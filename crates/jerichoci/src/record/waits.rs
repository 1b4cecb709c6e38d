//! Why a lane did not begin at once, told from what the run's records say of it and of the others.
//!
//! Reads nothing and decides nothing: the rules are the schedule's, looked at from behind. What several things held up
//! together is told of the one that let go last.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::RunPlan;
use crate::job::JobSpec;

/// When a lane was taken up and when it had its result, as far as that has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first attempt began.
    pub started_at: Option<Timestamp>,
    /// Its last attempt had its result.
    pub finished_at: Option<Timestamp>,
}

/// What held a lane up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Wait {
    /// A lane that it needs.
    Need {
        /// The one that ended last.
        lane: String,
        /// When it ended, if it has.
        until: Option<Timestamp>,
    },
    /// Another lane of its concurrency group.
    Group {
        /// The group.
        group: String,
        /// The one that ran.
        lane: String,
        /// When it ended, if it has.
        until: Option<Timestamp>,
    },
    /// One of the run's places.
    Slot {
        /// How many there are.
        slots: usize,
        /// When one was free, if one was.
        until: Option<Timestamp>,
    },
    /// Memory that others had.
    Memory {
        /// What all together may have, in MiB.
        budget_mib: u64,
        /// When there was enough, if there was.
        until: Option<Timestamp>,
    },
}

/// What held `lane` up until it began, or until `now`, one after the other.
pub fn waits(
    plan: &RunPlan,
    spans: &BTreeMap<String, Span>,
    (begun, now): (Timestamp, Timestamp),
    lane: &str,
) -> Vec<Wait> {
    let Some(job) = plan.jobs.iter().find(|job| job.lane == lane) else {
        return Vec::new();
    };
    let span = |lane: &str| spans.get(lane).copied().unwrap_or_default();
    let began = span(lane).started_at;
    let end = began.unwrap_or(now);
    let mut waits = Vec::new();
    let mut since = begun;
    let needs = job.needs.iter().filter(|need| spans.contains_key(*need));
    if let Some(last) = needs.max_by_key(|need| span(need).finished_at.unwrap_or(Timestamp::MAX)) {
        let until = span(last).finished_at.filter(|at| *at <= end);
        waits.push(Wait::Need {
            lane: last.clone(),
            until,
        });
        match until {
            Some(until) => since = since.max(until),
            None => return waits,
        }
    }
    waits.extend(after_needs(plan, spans, job, since, (began, now)));
    waits
}

/// Another lane that ran meanwhile, with when it let go; `None` while it has not.
type Ran<'a> = (&'a JobSpec, Option<Timestamp>);

/// What a lane whose needs were there `since` waited for, until it `began` or until `now`.
fn after_needs(
    plan: &RunPlan,
    spans: &BTreeMap<String, Span>,
    job: &JobSpec,
    since: Timestamp,
    (began, now): (Option<Timestamp>, Timestamp),
) -> Option<Wait> {
    let end = began.unwrap_or(now);
    let overlapping = |other: &'_ JobSpec| {
        let span = spans.get(&other.lane).copied().unwrap_or_default();
        let started_at = span.started_at.filter(|at| *at < end)?;
        let until = span.finished_at.filter(|at| *at <= end);
        (until.is_none_or(|at| at > since)).then_some((started_at, until))
    };
    let ran: Vec<(Ran<'_>, Timestamp)> = (plan.jobs.iter())
        .filter(|other| other.lane != job.lane)
        .filter_map(|other| overlapping(other).map(|(started, until)| ((other, until), started)))
        .collect();
    // A lane that began was held up by one that let go; one that waits, by one that has not.
    let held_up = |(_, until): &&Ran<'_>| until.is_some() == began.is_some();
    let group = job.concurrency_group.as_ref();
    let of_group = ran
        .iter()
        .map(|(ran, _)| ran)
        .filter(|(other, _)| group.is_some() && other.concurrency_group.as_ref() == group);
    let last_of_group = of_group.filter(held_up).max_by_key(|(_, until)| *until);
    if let (Some(group), Some((other, until))) = (group, last_of_group) {
        return Some(Wait::Group {
            group: group.clone(),
            lane: other.lane.clone(),
            until: *until,
        });
    }
    let last = ran.iter().map(|(ran, _)| ran).filter(held_up);
    let (_, until) = *last.max_by_key(|(_, until)| *until)?;
    // As the others stood right before the last of them let go, or stand now.
    let then = until.unwrap_or(now);
    let stood = ran
        .iter()
        .filter(|((_, until), started)| *started < then && until.is_none_or(|at| at >= then));
    let stood: Vec<&JobSpec> = stood.map(|((other, _), _)| *other).collect();
    let slots = plan.capacity.jobs.max(1);
    if stood.len() >= slots {
        return Some(Wait::Slot { slots, until });
    }
    let memory = |job: &JobSpec| u64::from(job.resources.memory_mib.unwrap_or(0));
    let taken: u64 = stood.into_iter().map(memory).sum();
    let budget_mib = plan.capacity.memory_mib?;
    (taken + memory(job) > budget_mib).then_some(Wait::Memory { budget_mib, until })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Capacity;
    use crate::job::testing::jobs;
    use crate::record::RUN_RECORD_SCHEMA_VERSION;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("a time")
    }

    fn plan(keys: &[&str], slots: usize, memory_mib: Option<u64>) -> RunPlan {
        RunPlan {
            schema_version: RUN_RECORD_SCHEMA_VERSION,
            jobs: jobs(keys),
            capacity: Capacity {
                jobs: slots,
                memory_mib,
            },
            keep_going: None,
            allow_untracked: Vec::new(),
            keep_failed: None,
        }
    }

    /// Lanes `a`, `b`, ... with when each began and ended, in seconds after the run's beginning.
    fn spans(of: &[(Option<i64>, Option<i64>)]) -> BTreeMap<String, Span> {
        let span = |(index, (started, finished)): (usize, &(Option<i64>, Option<i64>))| {
            let lane = char::from(b'a' + u8::try_from(index).expect("few lanes"));
            let span = Span {
                started_at: started.map(at),
                finished_at: finished.map(at),
            };
            (lane.to_string(), span)
        };
        of.iter().enumerate().map(span).collect()
    }

    fn told(plan: &RunPlan, of: &[(Option<i64>, Option<i64>)], lane: &str) -> Vec<Wait> {
        waits(plan, &spans(of), (at(0), at(100)), lane)
    }

    #[test]
    fn a_lane_that_began_at_once_waited_for_nothing() {
        let plan = plan(&["", ""], 2, None);
        let of = [(Some(0), Some(9)), (Some(0), Some(3))];
        assert_eq!(told(&plan, &of, "b"), []);
        assert_eq!(told(&plan, &of, "nobody"), []);
    }

    #[test]
    fn the_need_that_ends_last_holds_a_lane_up() {
        let plan = plan(&["", "", "needs = [\"a\", \"b\"]"], 4, None);
        let of = [(Some(0), Some(9)), (Some(0), Some(3)), (Some(9), None)];
        let lane = "a".to_owned();
        let until = Some(at(9));
        assert_eq!(told(&plan, &of, "c"), [Wait::Need { lane, until }]);
        let of = [(Some(0), None), (Some(0), Some(3)), (None, None)];
        let lane = "a".to_owned();
        assert_eq!(told(&plan, &of, "c"), [Wait::Need { lane, until: None }]);
    }

    #[test]
    fn then_its_group_holds_it_up() {
        let group = "concurrency_group = \"db\"";
        let needs = format!("needs = [\"a\"]\n{group}");
        let plan = plan(&["", group, &needs], 4, None);
        let of = [(Some(0), Some(2)), (Some(0), Some(7)), (Some(7), Some(8))];
        let told = told(&plan, &of, "c");
        let wait = Wait::Group {
            group: "db".to_owned(),
            lane: "b".to_owned(),
            until: Some(at(7)),
        };
        assert_eq!(told[1..], [wait]);
    }

    #[test]
    fn or_the_places_of_the_run() {
        let plan = plan(&["", "", ""], 2, None);
        let of = [(Some(0), Some(9)), (Some(0), Some(3)), (Some(3), Some(4))];
        let until = Some(at(3));
        assert_eq!(told(&plan, &of, "c"), [Wait::Slot { slots: 2, until }]);
        let of = [(Some(0), None), (Some(0), None), (None, None)];
        let until = None;
        assert_eq!(told(&plan, &of, "c"), [Wait::Slot { slots: 2, until }]);
    }

    #[test]
    fn or_its_memory() {
        let large = "resources = { memory_mib = 3000 }";
        let plan = plan(&[large, large], 4, Some(4096));
        let of = [(Some(0), Some(5)), (Some(5), None)];
        let until = Some(at(5));
        let budget_mib = 4096;
        assert_eq!(told(&plan, &of, "b"), [Wait::Memory { budget_mib, until }]);
    }
}
