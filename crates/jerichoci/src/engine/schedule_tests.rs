//! Tests of the schedule: each rule alone, then any jobs with any ends against what must hold at every moment.

use super::*;
use crate::job::testing::jobs;
use Decision::{Skip, Start};

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
    assert_eq!(schedule.next(), [Start(0, 1), Start(1, 1)]);
    assert_eq!(schedule.next(), []);
    schedule.ended(1, &failed());
    assert_eq!(
        schedule.next(),
        [Start(2, 1)],
        "others go on after a failure"
    );
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
    assert_eq!(schedule.next(), [Start(0, 1)]);
    schedule.ended(0, &JobOutcome::Passed);
    assert_eq!(schedule.next(), [Start(1, 1), Start(2, 1)]);
}

#[test]
fn an_optional_lane_that_fails_stops_nothing() {
    let stops = "keep_going = false";
    let optional = "keep_going = false\nrequired = false";
    let mut lenient = schedule(&[optional, ""], 1);
    assert_eq!(lenient.next(), [Start(0, 1)]);
    lenient.ended(0, &failed());
    assert_eq!(lenient.next(), [Start(1, 1)]);
    let mut strict = schedule(&[stops, ""], 1);
    assert_eq!(strict.next(), [Start(0, 1)]);
    strict.ended(0, &failed());
    assert!(matches!(strict.next().as_slice(), [Skip(1, _)]));
}

#[test]
fn a_group_runs_one_at_a_time() {
    let group = "concurrency_group = \"g\"";
    let mut schedule = schedule(&[group, group, "", group], 9);
    assert_eq!(schedule.next(), [Start(0, 1), Start(2, 1)]);
    schedule.ended(0, &failed());
    assert_eq!(schedule.next(), [Start(1, 1)]);
}

#[test]
fn needs_wait_and_a_failed_need_skips_what_hangs_on_it() {
    let mut one = schedule(&["needs = [\"b\"]", "", "needs = [\"a\"]"], 9);
    assert_eq!(one.next(), [Start(1, 1)]);
    one.ended(1, &JobOutcome::Passed);
    assert_eq!(one.next(), [Start(0, 1)]);
    one.ended(0, &failed());
    assert_eq!(
        one.next(),
        [Skip(2, "needs lane `a`, which did not pass".into())]
    );
    assert!(one.is_over());
    let mut chain = schedule(&["needs = [\"b\"]", "needs = [\"c\"]", ""], 9);
    assert_eq!(chain.next(), [Start(2, 1)]);
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
    assert_eq!(schedule.next(), [Start(0, 1)]);
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
    assert_eq!(schedule.next(), [Start(0, 1)]);
    schedule.stop("cancelled");
    assert_eq!(schedule.next(), [Skip(1, "cancelled".into())]);
    schedule.ended(0, &JobOutcome::Cancelled { by: "x".into() });
    assert!(schedule.is_over());
}

#[test]
fn a_job_is_tried_again_as_often_as_it_may_and_longer_after_each_attempt() {
    let mut schedule = schedule(&["retry = 2", "needs = [\"a\"]"], 1);
    assert_eq!(schedule.next(), [Start(0, 1)]);
    assert_eq!(schedule.ended(0, &failed()), Some(Duration::from_secs(1)));
    assert_eq!(schedule.next(), [], "neither it nor what needs it");
    assert!(schedule.rested(0));
    assert_eq!(schedule.next(), [Start(0, 2)]);
    assert_eq!(schedule.ended(0, &failed()), Some(Duration::from_secs(2)));
    assert!(schedule.rested(0));
    assert_eq!(schedule.next(), [Start(0, 3)]);
    assert_eq!(schedule.ended(0, &JobOutcome::Passed), None);
    assert_eq!(schedule.next(), [Start(1, 1)]);
    schedule.ended(1, &failed());
    assert!(schedule.is_over());
}

#[test]
fn a_rest_frees_the_slot_and_the_group() {
    let mut schedule = schedule(
        &[
            "retry = 1\nconcurrency_group = \"g\"",
            "concurrency_group = \"g\"",
        ],
        1,
    );
    assert_eq!(schedule.next(), [Start(0, 1)]);
    schedule.ended(0, &failed());
    assert_eq!(schedule.next(), [Start(1, 1)]);
    assert!(schedule.rested(0));
    assert_eq!(schedule.next(), [], "the other one has the slot now");
    schedule.ended(1, &JobOutcome::Passed);
    assert_eq!(schedule.next(), [Start(0, 2)]);
    schedule.ended(0, &failed());
    assert!(schedule.is_over());
}

#[test]
fn what_waits_for_its_next_attempt_when_the_run_stops_is_not_called_skipped() {
    let mut schedule = schedule(&["retry = 1", ""], 1);
    assert_eq!(schedule.next(), [Start(0, 1)]);
    schedule.ended(0, &failed());
    assert_eq!(schedule.next(), [Start(1, 1)]);
    assert!(schedule.rested(0));
    schedule.stop("cancelled");
    assert_eq!(schedule.next(), []);
    schedule.ended(1, &JobOutcome::Cancelled { by: "x".into() });
    assert!(schedule.is_over());
}

#[test]
fn a_job_that_is_given_up_stops_the_run_as_one_that_fails_does() {
    let mut schedule = schedule(&["retry = 1\nkeep_going = false", ""], 1);
    assert_eq!(schedule.next(), [Start(0, 1)]);
    assert!(
        schedule.ended(0, &failed()).is_some(),
        "it may be tried again"
    );
    schedule.give_up(0);
    let decisions = schedule.next();
    assert!(matches!(decisions[..], [Skip(1, _)]), "{decisions:?}");
    assert!(schedule.is_over());
}

#[test]
fn nothing_is_tried_again_once_the_run_stops() {
    let mut schedule = schedule(&["retry = 5", "retry = 5"], 2);
    assert_eq!(schedule.next(), [Start(0, 1), Start(1, 1)]);
    assert!(schedule.ended(0, &failed()).is_some());
    schedule.stop("cancelled");
    assert!(!schedule.rested(0), "it ended with its last attempt");
    assert_eq!(schedule.ended(1, &failed()), None);
    assert!(schedule.is_over());
}

proptest::proptest! {
    /// Jobs with any needs (on earlier ones), groups, retries and ends, in any order of events.
    #[test]
    fn whatever_happens_the_rules_hold(
        shapes in proptest::collection::vec((0u8..8, 0u8..3, 0u32..3, proptest::bool::weighted(0.8)), 1..9),
        ends in proptest::collection::vec((0usize..9, proptest::bool::ANY), 0..120),
        slots in 1usize..4,
        stop_at in proptest::option::of(0usize..60),
    ) {
        let keys: Vec<String> = shapes
            .iter()
            .enumerate()
            .map(|(index, (needs, group, retry, keep_going))| {
                let needed: Vec<String> = (0..index.min(3))
                    .filter(|bit| needs & (1 << bit) != 0)
                    .map(|need| format!("\"{}\"", char::from(b'a' + u8::try_from(need).unwrap())))
                    .collect();
                let group = match group {
                    0 => String::new(),
                    group => format!("concurrency_group = \"g{group}\"\n"),
                };
                format!("needs = [{}]\n{group}retry = {retry}\nkeep_going = {keep_going}", needed.join(", "))
            })
            .collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let all = jobs(&keys);
        let mut schedule = Schedule::new(&all, Capacity { jobs: slots, memory_mib: None }, None);
        let mut running: BTreeSet<usize> = BTreeSet::new();
        let mut resting: BTreeSet<usize> = BTreeSet::new();
        let mut attempts = vec![0u32; all.len()];
        let mut passed = BTreeSet::new();
        let mut skipped = BTreeSet::new();
        let mut stopped = false;
        let mut ends = ends.into_iter().cycle();
        for step in 0..400 {
            if stop_at == Some(step) {
                schedule.stop("cancelled");
                stopped = true;
            }
            for decision in schedule.next() {
                match decision {
                    Decision::Start(index, attempt) => {
                        proptest::prop_assert!(!stopped, "nothing starts in a run that was stopped");
                        proptest::prop_assert_eq!(attempt, attempts[index] + 1);
                        proptest::prop_assert!(attempt <= all[index].retry + 1);
                        for need in &all[index].needs {
                            let need = all.iter().position(|job| job.lane == *need).unwrap();
                            proptest::prop_assert!(passed.contains(&need), "a need has not passed");
                        }
                        let group = &all[index].concurrency_group;
                        let taken = running.iter().any(|other| group.is_some() && all[*other].concurrency_group == *group);
                        proptest::prop_assert!(!taken, "a group runs one at a time");
                        attempts[index] = attempt;
                        running.insert(index);
                    }
                    Decision::Skip(index, reason) => {
                        proptest::prop_assert!(!reason.is_empty());
                        proptest::prop_assert!(skipped.insert(index) && !passed.contains(&index));
                    }
                }
            }
            proptest::prop_assert!(running.len() <= slots);
            if schedule.is_over() {
                break;
            }
            let Some((pick, does_pass)) = ends.next() else { break };
            let pickable: Vec<usize> = running.iter().chain(&resting).copied().collect();
            if pickable.is_empty() {
                continue;
            }
            let index = pickable[pick % pickable.len()];
            if resting.remove(&index) {
                schedule.rested(index);
            } else {
                running.remove(&index);
                let outcome = if does_pass { JobOutcome::Passed } else { failed() };
                if does_pass {
                    passed.insert(index);
                }
                if schedule.ended(index, &outcome).is_some() {
                    resting.insert(index);
                }
            }
        }
        proptest::prop_assert!(ends.next().is_none() || schedule.is_over(), "it comes to an end");
    }
}
