//! Owns the command line of `pika-cloud-lifecycle`: a guest's workload says how far it is.
//!
//! `publish` writes one event and the status. `follow` says all its life what is so. `relay` carries one connection to a
//! service of the guest's for the host. `watch` says `starting`, asks a probe until it answers, says `ready`, and
//! goes on watching systemd's view of the unit: a crash loop, or no readiness in time, is `failed`.
//! Exit codes: 0 said (or ready, with `--once`); 1 the workload failed, and that was said; 2 refused or failed.

use std::ffi::OsString;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use pika_cloud::{EventKind, LifecycleState};
use serde_json::{Value, json};

use crate::arguments::{Arguments, UsageError};
use crate::error_text::chain;
use crate::follow::Follow;
use crate::layout::{EVENTS_FILE, Layout};
use crate::probe::{Probe, UnitState};
use crate::publish::Publisher;
use crate::state_dir;
use crate::wait;

/// The workload failed.
pub const EXIT_WORKLOAD_FAILED: u8 = 1;
/// Refused or failed.
pub const EXIT_FAILED: u8 = 2;

const READY_SECS_DEFAULT: u64 = 300;
const PROBE_SECS_DEFAULT: u64 = 5;
const INTERVAL_MILLIS_DEFAULT: u64 = 500;
const RESTARTS_MAX_DEFAULT: u64 = 3;
/// How often a unit is looked at once it is ready.
const UNIT_PAUSE: Duration = Duration::from_secs(5);

const USAGE: &str = "\
usage: pika-cloud-lifecycle publish --state starting|ready|failed|completed --message M [--details JSON]
       pika-cloud-lifecycle publish --event progress|probe|log --message M [--details JSON]
       pika-cloud-lifecycle watch (--ready-url URL | --ready-command C | --ready-banner B) [--unit U] [--restarts-max N]
                                  [--ready-secs S] [--probe-secs S] [--interval-millis MS] [--once]
       pika-cloud-lifecycle follow (--ready-url URL | --ready-command C | --ready-banner ADDRESS:PORT=START) --unit U
                                   [--volume PATH] [--restarts-max N] [--ready-secs S] [--probe-secs S]
                                   [--interval-millis MS]
       pika-cloud-lifecycle relay --port N
       pika-cloud-lifecycle state-dir [--prune]
";

struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(chain(&error))
    }
}

/// Runs one command line (without the program's name) and returns its exit code.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> u8 {
    match dispatch(&mut Arguments::new(arguments)) {
        Ok(code) => code,
        Err(Failure(text)) => {
            // If nobody listens on stderr, the code still says it.
            drop(writeln!(io::stderr(), "pika-cloud-lifecycle: {text}"));
            EXIT_FAILED
        }
    }
}

fn dispatch(arguments: &mut Arguments) -> Result<u8, Failure> {
    match arguments.subcommand()?.as_deref() {
        Some("publish") => publish(arguments),
        Some("watch") => Watch::read(arguments)?.run(),
        Some("follow") => follow(arguments),
        Some(pika_cloud::relay::COMMAND) => relay(arguments),
        Some("state-dir") => {
            let prune = arguments.flag("--prune")?;
            arguments.finish()?;
            say_booted(&open()?)?;
            if prune {
                state_dir::prune(&Layout::guest())?;
            }
            Ok(0)
        }
        Some("help" | "--help" | "-h") | None => {
            io::stdout().write_all(USAGE.as_bytes())?;
            Ok(0)
        }
        Some(other) => Err(UsageError::UnknownCommand(other.to_owned()).into()),
    }
}

fn open() -> Result<Publisher, Failure> {
    let place = state_dir::ensure(&Layout::guest())?;
    Ok(Publisher::new(place.state, place.private, place.boot_id))
}

fn say_booted(publisher: &Publisher) -> Result<(), Failure> {
    if !publisher.has(EVENTS_FILE) {
        publisher.state(LifecycleState::Booted, "the guest is up", None)?;
    }
    Ok(())
}

fn publish(arguments: &mut Arguments) -> Result<u8, Failure> {
    let state = arguments.value("--state")?;
    let event = arguments.value("--event")?;
    let message = arguments.required("--message")?;
    let details = arguments.value("--details")?;
    arguments.finish()?;
    let details: Option<Value> = details
        .map(|text| serde_json::from_str(&text))
        .transpose()?;
    let word = match (state, event) {
        (Some(word), None) | (None, Some(word)) => word,
        _ => {
            return Err(Failure(
                "one of --state and --event is needed; try --help".to_owned(),
            ));
        }
    };
    match word.parse::<EventKind>()? {
        EventKind::State(state) if state.is_guest_emitted() => {
            open()?.state(state, &message, details)?
        }
        EventKind::State(state) => {
            return Err(Failure(format!(
                "`{state}` is for the host to say: starting, ready, failed or completed"
            )));
        }
        kind => open()?.event(kind, &message, details)?,
    }
    Ok(0)
}

/// Goes on until it is stopped, so it returns only why it can't.
fn follow(arguments: &mut Arguments) -> Result<u8, Failure> {
    let follow = Follow {
        unit: arguments.required("--unit")?,
        volume: arguments.value("--volume")?,
        probe: probe(arguments)?,
        restarts_max: arguments
            .number("--restarts-max")?
            .unwrap_or(RESTARTS_MAX_DEFAULT),
        ready: seconds(arguments, "--ready-secs", READY_SECS_DEFAULT)?,
        limit: seconds(arguments, "--probe-secs", PROBE_SECS_DEFAULT)?,
        interval: interval(arguments)?,
    };
    arguments.finish()?;
    let publisher = open()?;
    say_booted(&publisher)?;
    match follow.run(&publisher)? {}
}

fn relay(arguments: &mut Arguments) -> Result<u8, Failure> {
    let port = arguments.required("--port")?;
    arguments.finish()?;
    let port = port.parse().map_err(|_| UsageError::NoNumber("--port"))?;
    crate::relay::run(port, &mut io::stderr())?;
    Ok(0)
}

fn probe(arguments: &mut Arguments) -> Result<Probe, Failure> {
    let (url, command, banner) = (
        arguments.value("--ready-url")?,
        arguments.value("--ready-command")?,
        arguments.value("--ready-banner")?,
    );
    match (url, command, banner) {
        (Some(url), None, None) => Ok(Probe::Url(url.parse()?)),
        (None, Some(command), None) => Ok(Probe::Command(command)),
        (None, None, Some(banner)) => {
            let (address, start) = banner.split_once('=').unwrap_or((&banner, ""));
            Ok(Probe::Banner {
                address: address.parse()?,
                start: start.to_owned(),
            })
        }
        _ => Err(Failure(
            "one of --ready-url, --ready-command and --ready-banner is needed; try --help"
                .to_owned(),
        )),
    }
}

fn seconds(
    arguments: &mut Arguments,
    name: &'static str,
    default: u64,
) -> Result<Duration, UsageError> {
    Ok(Duration::from_secs(
        arguments.number(name)?.unwrap_or(default),
    ))
}

fn interval(arguments: &mut Arguments) -> Result<Duration, UsageError> {
    Ok(Duration::from_millis(
        arguments
            .number("--interval-millis")?
            .unwrap_or(INTERVAL_MILLIS_DEFAULT),
    ))
}

struct Watch {
    probe: Probe,
    unit: Option<String>,
    restarts_max: u64,
    ready: Duration,
    limit: Duration,
    interval: Duration,
    once: bool,
}

impl Watch {
    fn read(arguments: &mut Arguments) -> Result<Watch, Failure> {
        let watch = Watch {
            probe: probe(arguments)?,
            unit: arguments.value("--unit")?,
            restarts_max: arguments
                .number("--restarts-max")?
                .unwrap_or(RESTARTS_MAX_DEFAULT),
            ready: seconds(arguments, "--ready-secs", READY_SECS_DEFAULT)?,
            limit: seconds(arguments, "--probe-secs", PROBE_SECS_DEFAULT)?,
            interval: interval(arguments)?,
            once: arguments.flag("--once")?,
        };
        arguments.finish()?;
        Ok(watch)
    }

    fn run(&self) -> Result<u8, Failure> {
        let publisher = open()?;
        say_booted(&publisher)?;
        publisher.state(
            LifecycleState::Starting,
            "waiting until the workload is ready",
            None,
        )?;
        let begun = Instant::now();
        let mut last_no = String::new();
        let ended = wait::until(begun + self.ready, self.interval, || {
            match self.crash_loop() {
                Some(unit) => Some(Err(unit)),
                None => match self.probe.ask(self.limit) {
                    Ok(()) => Some(Ok(())),
                    Err(why) => {
                        // The same answer again is no news, and the stream is bounded.
                        if why != last_no {
                            drop(publisher.event(EventKind::Probe, &why, None));
                            last_no = why;
                        }
                        None
                    }
                },
            }
        });
        match ended {
            Some(Ok(())) => {
                let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                publisher.state(
                    LifecycleState::Ready,
                    "the workload is ready",
                    Some(json!({ "after_millis": millis })),
                )?;
                if self.once {
                    Ok(0)
                } else {
                    self.watch_unit(&publisher)
                }
            }
            Some(Err(unit)) => self.say_crash_loop(&publisher, &unit),
            None => {
                let message = format!("not ready after {} s: {last_no}", self.ready.as_secs());
                publisher.state(LifecycleState::Failed, &message, None)?;
                Ok(EXIT_WORKLOAD_FAILED)
            }
        }
    }

    /// Watches a unit that was ready once, for as long as it takes.
    fn watch_unit(&self, publisher: &Publisher) -> Result<u8, Failure> {
        if self.unit.is_none() {
            return Ok(0);
        }
        loop {
            let day = Instant::now() + Duration::from_secs(24 * 3600);
            if let Some(unit) = wait::until(day, UNIT_PAUSE, || self.crash_loop()) {
                return self.say_crash_loop(publisher, &unit);
            }
        }
    }

    /// The unit's state if it is in a crash loop. A systemd that can't be asked says nothing of the workload.
    fn crash_loop(&self) -> Option<UnitState> {
        let unit = UnitState::of(self.unit.as_deref()?).ok()?;
        unit.is_crash_loop(self.restarts_max).then_some(unit)
    }

    fn say_crash_loop(&self, publisher: &Publisher, unit: &UnitState) -> Result<u8, Failure> {
        let name = self.unit.as_deref().unwrap_or_default();
        let message = format!(
            "{name} is {} ({}) after {} restarts: {}; see `journalctl -u {name}` in the guest",
            unit.active, unit.sub, unit.restarts, unit.result
        );
        let details = json!({ "unit": name, "restarts": unit.restarts, "result": unit.result, "crash_loop": true });
        publisher.state(LifecycleState::Failed, &message, Some(details))?;
        Ok(EXIT_WORKLOAD_FAILED)
    }
}
