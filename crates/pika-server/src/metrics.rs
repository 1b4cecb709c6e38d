//! What this server counts and times, for Prometheus.
//!
//! Owns every family with its name, its labels and its buckets. Labels come from closed lists alone (routes of the table,
//! kinds, steps, words), never from what a caller or a guest sent: the number of series is bounded. One registry a server:
//! nothing here is global, so several servers in one process don't mix.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use pika_managed_agent_contract::{AgentState, OperationKind};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// `Content-Type` of what [`Metrics::text`] gives.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Seconds, for what a person or a guest is waited for.
const LONG: [f64; 13] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 1800.0,
];
/// Seconds, for what a program waits for.
const SHORT: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Histograms by label.
type Times<S> = Family<S, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOperation {
    kind: &'static str,
    end: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStep {
    kind: &'static str,
    step: &'static str,
    end: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWord {
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// How far a new agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A worker has its operation.
    Claimed,
    /// Its volume is there.
    VolumeEnsured,
    /// Its instance runs.
    InstanceRunning,
    /// Its service is ready.
    Ready,
}

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Phase::Claimed => "claimed",
            Phase::VolumeEnsured => "volume_ensured",
            Phase::InstanceRunning => "instance_running",
            Phase::Ready => "ready",
        }
    }
}

/// What an operation that left a worker's hands became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    Failed,
    /// Tried again later, here or elsewhere.
    PutBack,
    /// Another worker has it.
    Lost,
    /// The database failed: its lease runs out.
    Abandoned,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            End::Succeeded => "succeeded",
            End::Failed => "failed",
            End::PutBack => "put_back",
            End::Lost => "lost",
            End::Abandoned => "abandoned",
        }
    }
}

/// Which part of the server the database failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Http,
    Work,
    Reconcile,
}

impl Part {
    const fn as_str(self) -> &'static str {
        match self {
            Part::Http => "http",
            Part::Work => "work",
            Part::Reconcile => "reconcile",
        }
    }
}

/// What a pass of the reconciler saw.
#[derive(Debug, Default)]
pub(crate) struct PassSeen {
    /// State of each agent that isn't deleted.
    pub(crate) states: Vec<AgentState>,
    /// Those that are shown as stale.
    pub(crate) stale: usize,
    /// Those that were brought back as often as they may be.
    pub(crate) crash_loops: usize,
    /// Places that can't be asked.
    pub(crate) unreachable_places: usize,
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    phases: Times<OfPhase>,
    operations: Times<OfOperation>,
    steps: Times<OfStep>,
    agents: Family<OfState, Gauge>,
    agents_stale: Gauge,
    crash_loops: Gauge,
    passes: Times<OfKind>,
    last_pass: Gauge<f64, AtomicU64>,
    looks: Family<OfKind, Counter>,
    unreachable_places: Gauge,
    strays: Family<OfKind, Gauge>,
    requests: Times<OfRequest>,
    rate_limited: Counter,
    auth_failures: Family<OfWord, Counter>,
    database: Histogram,
    database_errors: Family<OfWord, Counter>,
}

fn long() -> Histogram {
    Histogram::new(LONG)
}

fn short() -> Histogram {
    Histogram::new(SHORT)
}

/// A figure's name without the prefix, and what it tells.
type Name = (&'static str, &'static str);

const PHASES: Name = (
    "agent_phase_seconds",
    "From the request of a new agent to each phase",
);
const OPERATIONS: Name = (
    "operation_seconds",
    "From an operation's request to its worker's letting go of it",
);
const STEPS: Name = ("operation_step_seconds", "One try of one step");
const AGENTS: Name = (
    "agents",
    "Agents by state, as the server that looks sees them",
);
const AGENTS_STALE: Name = (
    "agents_stale",
    "Agents whose Incus can't be asked for a while",
);
const CRASH_LOOPS: Name = (
    "agents_crash_looping",
    "Agents that are not brought back any more",
);
const PASSES: Name = (
    "reconcile_pass_seconds",
    "One look at everything, by its end",
);
const LAST_PASS: Name = (
    "reconcile_last_success_timestamp_seconds",
    "When a look at everything last succeeded",
);
const LOOKS: Name = (
    "reconcile_looks",
    "What the reconciler asked Incus for: lists of a place, looks into a guest",
);
const UNREACHABLE_PLACES: Name = (
    "places_unreachable",
    "Places of agents that can't be asked now",
);
const STRAYS: Name = ("strays", "What carries our label and belongs to no agent");
const REQUESTS: Name = (
    "http_request_seconds",
    "From a request to the head of its answer",
);
const RATE_LIMITED: Name = (
    "http_rate_limited",
    "Requests refused because there were too many",
);
const AUTH_FAILURES: Name = (
    "auth_failures",
    "Requests whose credential was refused, by its kind",
);
const DATABASE: Name = (
    "database_write_seconds",
    "One small write, done on every period",
);
const DATABASE_ERRORS: Name = (
    "database_errors",
    "Failures of the database, by the part that met it",
);
const BUILD: Name = ("build", "The program that runs");

fn add<M: Metric + Clone>(registry: &mut Registry, (name, help): Name, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("pika");
        let all = &mut registry;
        let build: Family<Build, Gauge> = add(all, BUILD, Family::default());
        build
            .get_or_create(&Build {
                version: env!("CARGO_PKG_VERSION"),
            })
            .set(1);
        Metrics {
            phases: add(all, PHASES, Times::new_with_constructor(long)),
            operations: add(all, OPERATIONS, Times::new_with_constructor(long)),
            steps: add(all, STEPS, Times::new_with_constructor(long)),
            agents: add(all, AGENTS, Family::default()),
            agents_stale: add(all, AGENTS_STALE, Gauge::default()),
            crash_loops: add(all, CRASH_LOOPS, Gauge::default()),
            passes: add(all, PASSES, Times::new_with_constructor(short)),
            last_pass: add(all, LAST_PASS, Gauge::default()),
            looks: add(all, LOOKS, Family::default()),
            unreachable_places: add(all, UNREACHABLE_PLACES, Gauge::default()),
            strays: add(all, STRAYS, Family::default()),
            requests: add(all, REQUESTS, Times::new_with_constructor(short)),
            rate_limited: add(all, RATE_LIMITED, Counter::default()),
            auth_failures: add(all, AUTH_FAILURES, Family::default()),
            database: add(all, DATABASE, short()),
            database_errors: add(all, DATABASE_ERRORS, Family::default()),
            registry,
        }
    }
}

impl Metrics {
    /// All of it, in Prometheus's text format.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    pub(crate) fn phase(&self, phase: Phase, since_request: Duration) {
        let labels = OfPhase {
            phase: phase.as_str(),
        };
        self.phases
            .get_or_create(&labels)
            .observe(since_request.as_secs_f64());
    }

    pub(crate) fn operation(&self, kind: OperationKind, end: End, since_request: Duration) {
        let labels = OfOperation {
            kind: kind.as_str(),
            end: end.as_str(),
        };
        self.operations
            .get_or_create(&labels)
            .observe(since_request.as_secs_f64());
    }

    pub(crate) fn step(&self, kind: OperationKind, step: &'static str, done: bool, took: Duration) {
        let labels = OfStep {
            kind: kind.as_str(),
            step,
            end: if done { "done" } else { "not_done" },
        };
        self.steps
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// A pass that succeeded at `at`, in seconds since 1970.
    pub(crate) fn passed(&self, seen: &PassSeen, at: f64, took: Duration) {
        for state in AgentState::ALL {
            let labels = OfState {
                state: state.as_str(),
            };
            let count = seen.states.iter().filter(|of| **of == state).count();
            self.agents.get_or_create(&labels).set(gauge(count));
        }
        self.agents_stale.set(gauge(seen.stale));
        self.crash_loops.set(gauge(seen.crash_loops));
        self.unreachable_places.set(gauge(seen.unreachable_places));
        self.last_pass.set(at);
        self.pass_took("succeeded", took);
    }

    pub(crate) fn pass_failed(&self, took: Duration) {
        self.pass_took("failed", took);
    }

    fn pass_took(&self, kind: &'static str, took: Duration) {
        self.passes
            .get_or_create(&OfKind { kind })
            .observe(took.as_secs_f64());
    }

    /// Another server looks now: what this one saw last is not true any more.
    pub(crate) fn does_not_look(&self) {
        self.agents.clear();
        self.strays.clear();
        self.agents_stale.set(0);
        self.crash_loops.set(0);
        self.unreachable_places.set(0);
        self.last_pass.set(0.0);
    }

    pub(crate) fn listed(&self) {
        self.looks.get_or_create(&OfKind { kind: "list" }).inc();
    }

    pub(crate) fn looked_inside(&self) {
        self.looks.get_or_create(&OfKind { kind: "guest" }).inc();
    }

    pub(crate) fn strays(&self, instances: usize, volumes: usize) {
        let set = |kind, count| {
            self.strays
                .get_or_create(&OfKind { kind })
                .set(gauge(count))
        };
        set("instance", instances);
        set("volume", volumes);
    }

    pub(crate) fn request(
        &self,
        route: &'static str,
        method: &'static str,
        status: u16,
        took: Duration,
    ) {
        let labels = OfRequest {
            route,
            method,
            status,
        };
        self.requests
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn rate_limited(&self) {
        self.rate_limited.inc();
    }

    pub(crate) fn auth_failed(&self, by: &'static str) {
        self.auth_failures.get_or_create(&OfWord { by }).inc();
    }

    pub(crate) fn database_wrote(&self, took: Duration) {
        self.database.observe(took.as_secs_f64());
    }

    pub(crate) fn database_failed(&self, part: Part) {
        self.database_errors
            .get_or_create(&OfWord { by: part.as_str() })
            .inc();
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_count_for_themselves() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.rate_limited();
        assert!(
            one.text()
                .unwrap()
                .contains("pika_http_rate_limited_total 1")
        );
        assert!(
            other
                .text()
                .unwrap()
                .contains("pika_http_rate_limited_total 0")
        );
    }

    #[test]
    fn agents_are_shown_in_every_state_until_another_server_looks() {
        let metrics = Metrics::default();
        let seen = PassSeen {
            states: vec![AgentState::Ready, AgentState::Ready, AgentState::Error],
            stale: 1,
            ..PassSeen::default()
        };
        metrics.passed(&seen, 12.5, Duration::from_millis(3));
        let text = metrics.text().unwrap();
        for line in [
            "pika_agents{state=\"ready\"} 2",
            "pika_agents{state=\"error\"} 1",
            "pika_agents{state=\"stopped\"} 0",
            "pika_agents_stale 1",
            "pika_reconcile_last_success_timestamp_seconds 12.5",
            "pika_reconcile_pass_seconds_bucket{kind=\"succeeded\",le=\"0.005\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        metrics.does_not_look();
        assert!(!metrics.text().unwrap().contains("state=\"ready\""));
    }

    #[test]
    fn a_phase_is_timed_from_the_request() {
        let metrics = Metrics::default();
        metrics.phase(Phase::VolumeEnsured, Duration::from_secs(3));
        let text = metrics.text().unwrap();
        let line = "pika_agent_phase_seconds_sum{phase=\"volume_ensured\"} 3";
        assert!(text.contains(line), "{text}");
    }
}
