//! The rules of caches against a small world: whatever jobs do, in whatever order, with crashes anywhere, no job starts
//! from what an untrusted job wrote, and eviction keeps its bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::cache::rules::{AtEnd, CommitRefusal, DiscardReason};

const KEYS: usize = 2;

fn key(number: usize) -> CacheKey {
    CacheKey {
        name: format!("cache-{number}"),
        whose: "me".to_owned(),
        lane: None,
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + ms).expect("it is in range")
}

fn generation(volume: &str, of: CacheKey, state: CacheState, trust: Trust) -> Generation {
    Generation {
        volume: volume.to_owned(),
        number: 1,
        labels: CacheLabels {
            key: of,
            state,
            trust,
            basis: None,
            run_id: "r".to_owned(),
            job: "j".to_owned(),
        },
        whole: true,
        cloned_from: None,
        used_by: Vec::new(),
        deadline: None,
        pool_bytes: None,
    }
}

/// What happens in the world.
#[derive(Debug, Clone)]
enum Step {
    /// A job of a cache is given its working volume, and writes to it. `whole` is false when the process or the daemon
    /// was killed in the middle of the clone.
    Start {
        key: usize,
        trust: Trust,
        whole: bool,
    },
    /// A job ends, and what it wrote is dealt with.
    End { job: usize, passed: bool },
    /// A job's process is killed, and another one, which takes the job for trusted and passed, tries to commit.
    Forge { job: usize },
    /// A job is killed and its volume stays until a janitor takes it.
    Lose { job: usize },
    /// The clock goes on, or back.
    Clock { ms: i64 },
    /// Old generations are removed.
    Evict { max: usize, bytes_max: Option<u64> },
}

fn any_step() -> impl Strategy<Value = Step> {
    let trust = prop_oneof![Just(Trust::Trusted), Just(Trust::Untrusted)];
    prop_oneof![
        4 => (0..KEYS, trust, prop::bool::weighted(0.9))
            .prop_map(|(key, trust, whole)| Step::Start { key, trust, whole }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(job, passed)| Step::End { job, passed }),
        1 => any::<usize>().prop_map(|job| Step::Forge { job }),
        1 => any::<usize>().prop_map(|job| Step::Lose { job }),
        2 => (-5_i64..50).prop_map(|ms| Step::Clock { ms }),
        1 => (1_usize..4, prop::option::of(0_u64..40))
            .prop_map(|(max, bytes_max)| Step::Evict { max, bytes_max }),
    ]
}

#[derive(Debug)]
struct Job {
    volume: String,
    key: CacheKey,
    trust: Trust,
}

#[derive(Default)]
struct World {
    generations: Vec<Generation>,
    /// Volumes with a byte in them that an untrusted job wrote.
    poisoned: BTreeSet<String>,
    jobs: Vec<Job>,
    now_ms: i64,
    made: usize,
    newest_at: BTreeMap<CacheKey, Timestamp>,
}

impl World {
    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Start {
                key: number,
                trust,
                whole,
            } => self.start(key(number), trust, whole),
            Step::End { job, passed } => match self.take_job(job) {
                Some(job) => self.end(&job, passed),
                None => Ok(()),
            },
            Step::Forge { job } => match self.take_job(job) {
                Some(job) => self.commit(&job),
                None => Ok(()),
            },
            Step::Lose { job } => {
                self.take_job(job);
                Ok(())
            }
            Step::Clock { ms } => {
                self.now_ms += ms;
                Ok(())
            }
            Step::Evict { max, bytes_max } => self.evict(max, bytes_max),
        }
    }

    fn take_job(&mut self, index: usize) -> Option<Job> {
        (!self.jobs.is_empty()).then(|| self.jobs.remove(index % self.jobs.len()))
    }

    fn start(&mut self, key: CacheKey, trust: Trust, whole: bool) -> Result<(), TestCaseError> {
        let from = rules::newest(&key, &self.generations).cloned();
        if let Some(from) = &from {
            prop_assert!(
                !self.poisoned.contains(&from.volume),
                "{from:?} is poisoned"
            );
            prop_assert_eq!(from.committed_at(), self.newest_at.get(&key).copied());
        }
        self.made += 1;
        let volume = format!("v{:04}", self.made);
        let working = Generation {
            number: rules::next_number(from.as_ref()),
            whole,
            cloned_from: from.map(|from| from.volume),
            pool_bytes: (!self.made.is_multiple_of(3)).then_some(self.made as u64 % 17),
            ..generation(&volume, key.clone(), CacheState::Working, trust)
        };
        self.generations.push(working);
        if trust == Trust::Untrusted {
            self.poisoned.insert(volume.clone());
        }
        self.jobs.push(Job { volume, key, trust });
        Ok(())
    }

    fn end(&mut self, job: &Job, passed: bool) -> Result<(), TestCaseError> {
        match rules::at_end(job.trust, passed) {
            AtEnd::Commit => self.commit(job),
            AtEnd::Discard { .. } => {
                self.generations.retain(|there| there.volume != job.volume);
                Ok(())
            }
        }
    }

    /// What the store does, in one step since its commit is one request.
    fn commit(&mut self, job: &Job) -> Result<(), TestCaseError> {
        let newest = rules::newest(&job.key, &self.generations).cloned();
        let Some(working) = self
            .generations
            .iter_mut()
            .find(|there| there.volume == job.volume)
        else {
            return Ok(());
        };
        let commit = rules::commit(&job.key, working, newest.as_ref(), at(self.now_ms));
        let Ok(commit) = commit else {
            prop_assert!(working.labels.trust == Trust::Untrusted || !working.whole);
            return Ok(());
        };
        working.labels.state = CacheState::Committed {
            at: commit.at,
            bytes: None,
        };
        working.number = commit.number;
        self.newest_at.insert(job.key.clone(), commit.at);
        let newest = rules::newest(&job.key, &self.generations);
        prop_assert_eq!(newest.map(|newest| &newest.volume), Some(&job.volume));
        Ok(())
    }

    fn evict(&mut self, max: usize, bytes_max: Option<u64>) -> Result<(), TestCaseError> {
        let policy = CachePolicy {
            generations_max: NonZeroUsize::new(max).expect("it is at least one"),
            age_max: None,
            bytes_max,
        };
        let before = self.generations.clone();
        let gone = evict(at(self.now_ms), &policy, &before, &BTreeSet::new());
        for eviction in &gone {
            let index = self
                .generations
                .iter()
                .position(|there| there.volume == eviction.volume);
            let there = self
                .generations
                .remove(index.expect("only what is there is evicted"));
            prop_assert!(
                there.committed_at().is_some(),
                "a working volume was evicted"
            );
        }
        for number in 0..KEYS {
            let of_key = self
                .generations
                .iter()
                .filter(|there| there.labels.key == key(number) && there.committed_at().is_some());
            prop_assert!(of_key.count() <= max);
            match rules::newest(&key(number), &self.generations) {
                // Only the bound on bytes may take the newest.
                None if bytes_max.is_none() => {
                    prop_assert!(rules::newest(&key(number), &before).is_none());
                }
                None => {
                    self.newest_at.remove(&key(number));
                }
                Some(newest) => prop_assert_eq!(
                    newest.committed_at(),
                    self.newest_at.get(&key(number)).copied()
                ),
            }
        }
        let committed = self
            .generations
            .iter()
            .filter(|there| there.committed_at().is_some());
        let total: u64 = committed.filter_map(Generation::bytes).sum();
        prop_assert!(bytes_max.is_none_or(|max| total <= max));
        let again = evict(
            at(self.now_ms),
            &policy,
            &self.generations,
            &BTreeSet::new(),
        );
        prop_assert!(again.is_empty(), "{again:?}");
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_job_ever_starts_from_what_an_untrusted_one_wrote(
        steps in prop::collection::vec(any_step(), 0..80)
    ) {
        let mut world = World::default();
        for step in steps {
            world.step(step)?;
        }
    }
}

#[test]
fn only_a_trusted_job_that_passed_commits() {
    let discard = |reason| AtEnd::Discard { reason };
    for (trust, passed, expected) in [
        (Trust::Trusted, true, AtEnd::Commit),
        (Trust::Trusted, false, discard(DiscardReason::NotPassed)),
        (Trust::Untrusted, true, discard(DiscardReason::Untrusted)),
        (Trust::Untrusted, false, discard(DiscardReason::Untrusted)),
    ] {
        assert_eq!(rules::at_end(trust, passed), expected, "{trust:?} {passed}");
    }
}

#[test]
fn a_commit_is_refused_for_each_reason_alone() {
    let working = generation("v", key(0), CacheState::Working, Trust::Trusted);
    let committed = CacheState::Committed {
        at: at(0),
        bytes: None,
    };
    let judge = |working: &Generation| rules::commit(&key(0), working, None, at(0));
    assert_eq!(judge(&working).unwrap().number, 1);
    let cases: [(Generation, CommitRefusal); 5] = [
        (
            generation("v", key(0), committed, Trust::Trusted),
            CommitRefusal::Already,
        ),
        (
            generation("v", key(0), CacheState::Working, Trust::Untrusted),
            CommitRefusal::Untrusted,
        ),
        (
            generation("v", key(1), CacheState::Working, Trust::Trusted),
            CommitRefusal::OtherCache,
        ),
        (
            Generation {
                whole: false,
                ..working.clone()
            },
            CommitRefusal::Unfinished,
        ),
        (
            Generation {
                used_by: vec!["/1.0/instances/a".to_owned()],
                ..working.clone()
            },
            CommitRefusal::InUse(vec!["/1.0/instances/a".to_owned()]),
        ),
    ];
    for (working, expected) in cases {
        assert_eq!(judge(&working), Err(expected));
    }
}

#[test]
fn a_commit_is_the_newest_even_if_the_clock_went_back() {
    let committed = CacheState::Committed {
        at: at(1000),
        bytes: None,
    };
    let newest = Generation {
        number: 6,
        ..generation("v6", key(0), committed, Trust::Trusted)
    };
    let working = generation("v7", key(0), CacheState::Working, Trust::Trusted);
    let commit = rules::commit(&key(0), &working, Some(&newest), at(0)).unwrap();
    assert_eq!((commit.number, commit.at), (7, at(1001)));
}

/// Committed generations of one cache, a second apart, of these sizes.
fn line(of: usize, bytes: &[u64]) -> Vec<Generation> {
    let one = |(index, bytes): (usize, &u64)| {
        let state = CacheState::Committed {
            at: at(1000 * i64::try_from(index).expect("it is small")),
            bytes: Some(*bytes),
        };
        let volume = format!("k{of}-{index}");
        generation(&volume, key(of), state, Trust::Trusted)
    };
    bytes.iter().enumerate().map(one).collect()
}

fn evicted(
    policy: &CachePolicy,
    all: &[Generation],
    pinned: &[&str],
) -> Vec<(String, EvictReason)> {
    let pinned = pinned.iter().map(ToString::to_string).collect();
    let gone = evict(at(10_000), policy, all, &pinned);
    gone.into_iter()
        .map(|gone| (gone.volume, gone.reason))
        .collect()
}

#[test]
fn each_bound_takes_what_it_should_and_what_is_held_stays() {
    let mut all = [line(0, &[1, 2, 3]), line(1, &[10, 20])].concat();
    let policy = CachePolicy {
        age_max: None,
        ..CachePolicy::default()
    };
    let superseded = |volume: &str| (volume.to_owned(), EvictReason::Superseded { kept: 2 });
    assert_eq!(evicted(&policy, &all, &[]), [superseded("k0-0")]);
    assert_eq!(evicted(&policy, &all, &["k0-0"]), []);
    all[0].used_by = vec!["/1.0/instances/a".to_owned()];
    assert_eq!(evicted(&policy, &all, &[]), []);

    let aged = CachePolicy {
        age_max: Some(SignedDuration::from_millis(8500)),
        ..policy.clone()
    };
    let too_old = |volume: &str, age_secs| {
        let max_secs = 8;
        (
            volume.to_owned(),
            EvictReason::TooOld { age_secs, max_secs },
        )
    };
    assert_eq!(
        evicted(&aged, &all, &[]),
        [too_old("k0-1", 9), too_old("k1-1", 9), too_old("k1-0", 10)]
    );

    let bounded = CachePolicy {
        bytes_max: Some(24),
        ..policy
    };
    let too_large = |volume: &str, total_bytes| {
        let max_bytes = 24;
        (
            volume.to_owned(),
            EvictReason::TooLarge {
                total_bytes,
                max_bytes,
            },
        )
    };
    // 1 is held, 10 and 2 are not the newest of theirs.
    assert_eq!(
        evicted(&bounded, &all, &[]),
        [too_large("k1-0", 36), too_large("k0-1", 26)]
    );
    assert_eq!(
        evicted(&bounded, &all, &["k1-0"]),
        [too_large("k0-1", 36), too_large("k1-1", 34)]
    );
}

#[test]
fn rows_are_by_cache_and_name_the_one_that_jobs_start_from() {
    let mut all = [line(1, &[5]), line(0, &[1, 2])].concat();
    all.push(generation(
        "w",
        key(0),
        CacheState::Working,
        Trust::Untrusted,
    ));
    let rows = rows(at(3000), &all);
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.volume.as_str(), row.newest, row.age_secs, row.bytes))
        .collect();
    assert_eq!(
        shown,
        [
            ("k0-1", true, Some(2), Some(2)),
            ("k0-0", false, Some(3), Some(1)),
            ("w", false, None, None),
            ("k1-0", true, Some(3), Some(5)),
        ]
    );
}
