//! Owns what a long-lived workload says of itself for as long as its guest runs: looks at its volume, at systemd's view
//! of its unit and at its probe, and decides which lifecycle state that is.
//!
//! A crash loop, or no readiness in time, is `failed`, with the reason; what gets well again is `ready` again. Nothing
//! is said twice.

use std::time::{Duration, Instant};

use pika_cloud::{EventKind, LifecycleState};
use serde_json::{Value, json};

use crate::mounts;
use crate::probe::{Probe, UnitState};
use crate::publish::{PublishError, Publisher};
use crate::wait;

/// How often a workload that is ready is looked at.
const READY_PAUSE: Duration = Duration::from_secs(5);
/// So many looks in a row a ready workload may leave without an answer: it may be busy.
const MISSES_MAX: u32 = 3;
/// A workload that was ready for so long has its restarts forgiven.
const STABLE: Duration = Duration::from_secs(120);

/// What to look at, and the limits.
#[derive(Debug, Clone)]
pub struct Follow {
    /// How to ask.
    pub probe: Probe,
    /// The workload's unit.
    pub unit: String,
    /// Where a volume must be mounted.
    pub volume: Option<String>,
    /// More restarts than this without a time of calm are a crash loop.
    pub restarts_max: u64,
    /// How long it may take from a start until it is ready.
    pub ready: Duration,
    /// How long one answer may take.
    pub limit: Duration,
    /// How often a workload that isn't ready is looked at.
    pub interval: Duration,
}

/// One look.
#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    mounted: bool,
    unit: UnitState,
    answer: Result<(), String>,
}

/// A state with what is said of it.
#[derive(Debug, Clone, PartialEq)]
struct Saying {
    state: LifecycleState,
    message: String,
    details: Value,
}

/// What was seen before, as far as it decides.
#[derive(Debug)]
struct Judge {
    restarts_max: u64,
    ready: Duration,
    unit: String,
    volume: String,
    /// Restarts that are forgiven.
    forgiven: u64,
    /// Since when it is being waited for.
    waiting_since: Instant,
    ready_since: Option<Instant>,
    misses: u32,
    /// How its main process ended last, and systemd's word for it. Once it runs again systemd has forgotten.
    last_end: (String, String),
}

impl Follow {
    /// Looks and says for as long as this process lives.
    pub fn run(&self, publisher: &Publisher) -> Result<std::convert::Infallible, PublishError> {
        let mut judge = Judge::new(self, Instant::now());
        let mut said: Option<Saying> = None;
        let mut last_no = String::new();
        let mut next = Instant::now();
        loop {
            let day = Instant::now() + Duration::from_secs(24 * 3600);
            let pause = self.interval.min(READY_PAUSE);
            let seen = wait::until(day, pause, || match Instant::now() >= next {
                true => self.look(),
                false => None,
            });
            let Some(seen) = seen else { continue };
            if let Err(why) = &seen.answer
                && *why != last_no
            {
                publisher.event(EventKind::Probe, why, None)?;
                last_no.clone_from(why);
            }
            let saying = judge.say(&seen);
            next = Instant::now()
                + match saying.state {
                    LifecycleState::Ready => READY_PAUSE,
                    _ => self.interval,
                };
            if said.as_ref().is_none_or(|said| !saying.is_same_as(said)) {
                let details = Some(saying.details.clone());
                publisher.state(saying.state, &saying.message, details)?;
                said = Some(saying);
            }
        }
    }

    /// One look; none if systemd can't be asked, which says nothing of the workload.
    fn look(&self) -> Option<Seen> {
        let unit = UnitState::of(&self.unit).ok()?;
        let mounted = self
            .volume
            .as_ref()
            .is_none_or(|volume| mounts::first_missing(std::slice::from_ref(volume)).is_none());
        let answer = match unit.active.as_str() {
            "active" => self.probe.ask(self.limit),
            _ => Err(format!("{} is {} ({})", self.unit, unit.active, unit.sub)),
        };
        Some(Seen {
            at: Instant::now(),
            mounted,
            unit,
            answer,
        })
    }
}

impl Saying {
    /// Whether it would be no news. Why a workload is still awaited is told by events.
    fn is_same_as(&self, other: &Saying) -> bool {
        self.state == other.state && self.details == other.details
    }
}

impl Judge {
    fn new(follow: &Follow, now: Instant) -> Judge {
        Judge {
            restarts_max: follow.restarts_max,
            ready: follow.ready,
            unit: follow.unit.clone(),
            volume: follow.volume.clone().unwrap_or_default(),
            forgiven: 0,
            waiting_since: now,
            ready_since: None,
            misses: 0,
            last_end: (String::new(), String::new()),
        }
    }

    fn say(&mut self, seen: &Seen) -> Saying {
        // A start by hand begins a new count.
        self.forgiven = self.forgiven.min(seen.unit.restarts);
        if !seen.unit.ending.is_empty() || self.last_end.1.is_empty() {
            self.last_end = (seen.unit.ending.clone(), seen.unit.result.clone());
        }
        if !seen.mounted {
            // The host decides when it comes, so no time counts until then.
            self.wait_from(seen.at);
            return Saying {
                state: LifecycleState::Starting,
                message: format!("waiting for the volume at {}", self.volume),
                details: json!({ "volume_mounted": false }),
            };
        }
        let restarts = seen.unit.restarts - self.forgiven;
        if seen.unit.active == "failed" || restarts > self.restarts_max {
            let calm = self.calm(seen);
            if calm.is_none_or(|calm| calm < STABLE) {
                return self.crash_loop(seen);
            }
        }
        match &seen.answer {
            Ok(()) => self.ready(seen),
            Err(_) if self.ready_since.is_some() && self.is_only_busy(seen) => {
                self.ready_saying(seen)
            }
            Err(why) => self.waiting(seen, why),
        }
    }

    /// How long it has been well; none if it isn't.
    fn calm(&mut self, seen: &Seen) -> Option<Duration> {
        if seen.answer.is_err() {
            self.wait_from(seen.at);
            return None;
        }
        let since = *self.ready_since.get_or_insert(seen.at);
        Some(seen.at.saturating_duration_since(since))
    }

    fn is_only_busy(&mut self, seen: &Seen) -> bool {
        self.misses += 1;
        seen.unit.active == "active" && self.misses < MISSES_MAX
    }

    fn wait_from(&mut self, now: Instant) {
        self.waiting_since = now;
        self.ready_since = None;
        self.misses = 0;
    }

    fn ready(&mut self, seen: &Seen) -> Saying {
        self.misses = 0;
        let since = *self.ready_since.get_or_insert(seen.at);
        if seen.at.saturating_duration_since(since) >= STABLE {
            self.forgiven = seen.unit.restarts;
        }
        self.ready_saying(seen)
    }

    fn ready_saying(&self, seen: &Seen) -> Saying {
        Saying {
            state: LifecycleState::Ready,
            message: "the workload is ready".to_owned(),
            details: json!({ "unit": self.unit, "restarts": seen.unit.restarts }),
        }
    }

    fn waiting(&mut self, seen: &Seen, why: &str) -> Saying {
        if self.ready_since.is_some() {
            self.wait_from(seen.at);
        }
        let waited = seen.at.saturating_duration_since(self.waiting_since);
        if waited >= self.ready {
            return Saying {
                state: LifecycleState::Failed,
                message: format!("not ready after {} s: {why}", self.ready.as_secs()),
                details: self.details(seen, false),
            };
        }
        let message = match seen.unit.restarts {
            0 => format!("waiting until the workload is ready: {why}"),
            count => format!(
                "started again after {} ({count} restarts): {why}",
                self.ending()
            ),
        };
        Saying {
            state: LifecycleState::Starting,
            message,
            details: json!({ "unit": self.unit, "restarts": seen.unit.restarts }),
        }
    }

    fn crash_loop(&self, seen: &Seen) -> Saying {
        let (name, unit) = (&self.unit, &seen.unit);
        Saying {
            state: LifecycleState::Failed,
            message: format!(
                "{name} is {} ({}) after {} restarts: {}, {}; see `journalctl -u {name}` in the guest",
                unit.active,
                unit.sub,
                unit.restarts,
                self.last_end.1,
                self.ending()
            ),
            details: self.details(seen, unit.restarts > 0),
        }
    }

    fn details(&self, seen: &Seen, crash_loop: bool) -> Value {
        json!({
            "unit": self.unit,
            "restarts": seen.unit.restarts,
            "result": self.last_end.1,
            "ending": self.last_end.0,
            "crash_loop": crash_loop,
        })
    }

    fn ending(&self) -> &str {
        match self.last_end.0.as_str() {
            "" => "no end of its main process",
            ending => ending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A judge, and a clock that the test moves.
    struct Bench {
        judge: Judge,
        now: Instant,
        mounted: bool,
    }

    impl Bench {
        fn new() -> Bench {
            let follow = Follow {
                probe: Probe::Command("true".into()),
                unit: "a.service".into(),
                volume: Some("/mnt/v".into()),
                restarts_max: 3,
                ready: Duration::from_secs(60),
                limit: Duration::from_secs(1),
                interval: Duration::from_secs(1),
            };
            let now = Instant::now();
            Bench {
                judge: Judge::new(&follow, now),
                now,
                mounted: true,
            }
        }

        fn after(&mut self, secs: u64, active: &str, restarts: u64, well: bool) -> Saying {
            self.now += Duration::from_secs(secs);
            self.judge.say(&Seen {
                at: self.now,
                mounted: self.mounted,
                unit: UnitState {
                    active: active.into(),
                    sub: "sub".into(),
                    // What runs has not ended, and systemd has forgotten what was before.
                    result: if active == "active" {
                        "success"
                    } else {
                        "signal"
                    }
                    .into(),
                    restarts,
                    ending: if active == "active" { "" } else { "signal 9" }.into(),
                },
                answer: well.then_some(()).ok_or_else(|| "no".to_owned()),
            })
        }
    }

    #[test]
    fn without_its_volume_it_is_never_ready_and_no_time_counts() {
        let mut bench = Bench::new();
        bench.mounted = false;
        for secs in [0, 30, 300] {
            let saying = bench.after(secs, "active", 0, true);
            assert_eq!(saying.state, LifecycleState::Starting);
            assert!(saying.message.contains("/mnt/v"), "{}", saying.message);
        }
        bench.mounted = true;
        assert_eq!(
            bench.after(30, "activating", 0, false).state,
            LifecycleState::Starting
        );
        assert_eq!(
            bench.after(1, "active", 0, true).state,
            LifecycleState::Ready
        );
    }

    #[test]
    fn no_readiness_in_time_is_failed_and_readiness_later_is_ready() {
        let mut bench = Bench::new();
        assert_eq!(
            bench.after(59, "active", 0, false).state,
            LifecycleState::Starting
        );
        let failed = bench.after(1, "active", 0, false);
        assert_eq!(failed.state, LifecycleState::Failed);
        assert_eq!(failed.message, "not ready after 60 s: no");
        assert_eq!(failed.details["crash_loop"], false);
        assert_eq!(
            bench.after(1, "active", 0, true).state,
            LifecycleState::Ready
        );
    }

    #[test]
    fn a_missed_answer_is_no_news_and_three_are() {
        let mut bench = Bench::new();
        bench.after(1, "active", 0, true);
        for state in [
            LifecycleState::Ready,
            LifecycleState::Ready,
            LifecycleState::Starting,
        ] {
            assert_eq!(bench.after(5, "active", 0, false).state, state);
        }
        // A process that ended is another thing.
        bench.after(1, "active", 0, true);
        let ended = bench.after(1, "activating", 1, false);
        assert_eq!(ended.state, LifecycleState::Starting);
        assert!(
            ended.message.contains("signal 9 (1 restarts)"),
            "{}",
            ended.message
        );
    }

    #[test]
    fn too_many_restarts_are_a_crash_loop_with_their_count() {
        let mut bench = Bench::new();
        for restarts in 0..=3 {
            assert_eq!(
                bench.after(2, "active", restarts, true).state,
                LifecycleState::Ready
            );
        }
        let failed = bench.after(2, "activating", 4, false);
        assert_eq!(failed.state, LifecycleState::Failed);
        assert_eq!(failed.details["crash_loop"], true);
        assert_eq!(failed.details["restarts"], 4);
        assert!(
            failed
                .message
                .contains("after 4 restarts: signal, signal 9"),
            "{}",
            failed.message
        );
        // Up again is not well again, and how it ended is not forgotten.
        let up = bench.after(2, "active", 4, true);
        assert_eq!(up.state, LifecycleState::Failed);
        assert_eq!(up.details["ending"], "signal 9");
        assert_eq!(up.details["result"], "signal");
        assert_eq!(
            bench.after(120, "active", 4, true).state,
            LifecycleState::Ready
        );
        // And now its restarts are forgiven.
        bench.after(1, "active", 4, true);
        assert_eq!(
            bench.after(1, "activating", 5, false).state,
            LifecycleState::Starting
        );
    }

    #[test]
    fn a_unit_that_systemd_gave_up_is_failed_until_it_is_started_again() {
        let mut bench = Bench::new();
        assert_eq!(
            bench.after(1, "failed", 2, false).state,
            LifecycleState::Failed
        );
        assert_eq!(
            bench.after(1, "activating", 0, false).state,
            LifecycleState::Starting
        );
        assert_eq!(
            bench.after(1, "active", 0, true).state,
            LifecycleState::Ready
        );
    }

    #[test]
    fn restarts_long_apart_are_no_crash_loop() {
        let mut bench = Bench::new();
        for restarts in 0..20 {
            bench.after(1, "activating", restarts, false);
            bench.after(1, "active", restarts, true);
            let saying = bench.after(130, "active", restarts, true);
            assert_eq!(saying.state, LifecycleState::Ready, "{restarts}");
        }
    }
}
