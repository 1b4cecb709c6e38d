//! What is there, and what was done, as people read it.
//!
//! Owns the layout. Words of a guest are shown as its claims and can't paint the terminal.

use std::path::Path;

use pika_cloud::IncusRuntimePlan;
use pika_runtime::{
    Collected, CollectedFrom, Destroyed, EnsureRefusal, EnsureStep, GuestStatus, InstanceSeen,
    Observation, PlanDiff, Runtime, RuntimeId,
};

use crate::output::{self, BAD, BOLD, GOOD, WARN, columns, plain};

/// An instance that runs as planned.
pub(super) fn runtime(runtime: &Runtime) -> String {
    let started = runtime
        .started_at
        .as_deref()
        .unwrap_or("at an unknown time");
    format!(
        "{GOOD}running{GOOD:#}  {BOLD}{}{BOLD:#} in project {}, started {}\n",
        runtime.instance_name(),
        runtime.project(),
        plain(started)
    )
}

/// What a look showed.
pub(super) fn observation(observation: &Observation) -> String {
    let name = observation.id.instance_name();
    let state = match &observation.seen {
        InstanceSeen::Absent => "not there",
        InstanceSeen::NotOurs { .. } => "not ours",
        InstanceSeen::Ours(_) => observation.state.as_str(),
    };
    let mut text = format!("{BOLD}{name}{BOLD:#} is {state}\n");
    let mut rows = vec![
        ("runtime".to_owned(), observation.id.runtime_id().to_owned()),
        ("project".to_owned(), observation.id.project().to_owned()),
        ("instance".to_owned(), seen(&observation.seen)),
    ];
    if let InstanceSeen::Ours(ours) = &observation.seen {
        if let Some(started) = &ours.started_at {
            rows.push(("started".to_owned(), plain(started)));
        }
        for operation in &ours.busy_with {
            rows.push(("busy with".to_owned(), plain(&operation.description)));
        }
    }
    if let Some(guest) = &observation.guest {
        rows.push(("guest says".to_owned(), guest_words(guest)));
    }
    for (key, value) in &observation.labels {
        rows.push(("label".to_owned(), plain(&format!("{key}={value}"))));
    }
    text.push_str(&columns(&rows, 2));
    text
}

fn guest_words(guest: &GuestStatus) -> String {
    match guest {
        GuestStatus::Said(status) => plain(&format!(
            "{} since {}: {}",
            status.state, status.updated_at, status.message
        )),
        GuestStatus::Missing | GuestStatus::OfAnotherBoot { .. } => "nothing yet".to_owned(),
        GuestStatus::Unreadable { why } => format!("nothing that can be read: {}", plain(why)),
    }
}

fn seen(seen: &InstanceSeen) -> String {
    match seen {
        InstanceSeen::Absent => "not there".to_owned(),
        InstanceSeen::NotOurs { reason } => format!("not ours: {}", plain(reason)),
        InstanceSeen::Ours(ours) => {
            let power = serde_json::to_value(ours.power).unwrap_or_default();
            let kind = ours.instance.kind;
            format!("{kind}, {}", power.as_str().unwrap_or_default())
        }
    }
}

/// What an ensure would do now.
pub(super) fn diff(plan: &IncusRuntimePlan, diff: &PlanDiff) -> String {
    let name = &plan.identity.instance_name;
    let mut text = format!("{BOLD}{name}{BOLD:#}: {}\n", seen(&diff.seen));
    match &diff.refusal {
        Some(EnsureRefusal::NotOurs { reason }) => {
            let reason = plain(reason);
            text.push_str(&format!(
                "{BAD}ensure would refuse{BAD:#}: it is not ours ({reason})\n"
            ));
        }
        Some(EnsureRefusal::Ended) => text.push_str(&format!(
            "{BAD}ensure would refuse{BAD:#}: it ran and stopped, and its restart policy is never; \
             collect and destroy it\n"
        )),
        Some(EnsureRefusal::Differs { differences }) => {
            text.push_str(&format!(
                "{BAD}ensure would refuse{BAD:#}: it differs from the plan\n"
            ));
            for difference in differences {
                text.push_str(&format!("  - {}\n", plain(&difference.to_string())));
            }
        }
        None if changes(&diff.steps) == 0 => {
            text.push_str("as planned: ensure would change nothing\n")
        }
        None => {
            text.push_str("ensure would:\n");
            for (index, step) in diff.steps.iter().enumerate() {
                text.push_str(&format!("  {}. {}\n", index + 1, step_words(step)));
            }
        }
    }
    text
}

fn changes(steps: &[EnsureStep]) -> usize {
    let looks = |step: &&EnsureStep| matches!(step, EnsureStep::Confirm | EnsureStep::AwaitBoot);
    steps.len() - steps.iter().filter(looks).count()
}

fn step_words(step: &EnsureStep) -> String {
    match step {
        EnsureStep::AwaitOperation(operation) => {
            format!(
                "wait for \"{}\", then look again",
                plain(&operation.description)
            )
        }
        EnsureStep::RemoveDebris => "remove what an interrupted create left".to_owned(),
        EnsureStep::Create => "create and start it".to_owned(),
        EnsureStep::Start => "start it".to_owned(),
        EnsureStep::Unfreeze => "let the frozen guest go on".to_owned(),
        EnsureStep::AwaitBoot => "wait until the guest is up".to_owned(),
        EnsureStep::AttachLate { device_name } => format!("attach {}", plain(device_name)),
        EnsureStep::Confirm => "look that it runs".to_owned(),
    }
}

/// What a collection brought.
pub(super) fn collected(collected: &Collected, into: &Path) -> String {
    let from = match collected.from {
        CollectedFrom::Nothing => return "nothing to collect, by the spec's policy\n".to_owned(),
        CollectedFrom::RunningGuest => "the running guest",
        CollectedFrom::StoppedContainer => "the stopped container",
    };
    let files = output::count(collected.files.len() as u64, "file");
    let bytes = output::count(collected.bytes, "byte");
    let mut text = format!("{files}, {bytes} from {from} in {}\n", into.display());
    let rows: Vec<(String, String)> = collected
        .files
        .iter()
        .map(|file| (plain(&file.name), output::count(file.bytes, "byte")))
        .collect();
    text.push_str(&columns(&rows, 2));
    for refused in &collected.refused {
        let (name, why) = (plain(&refused.name), plain(&refused.why));
        text.push_str(&format!("{WARN}refused{WARN:#}  {name}: {why}\n"));
    }
    let listed = collected.refused.len() as u64;
    if collected.refused_count > listed {
        let more = collected.refused_count - listed;
        text.push_str(&format!("{WARN}refused{WARN:#}  {more} more\n"));
    }
    if let Some(why) = &collected.incomplete {
        text.push_str(&format!("{BAD}incomplete{BAD:#}: {}\n", plain(why)));
    }
    text
}

/// How a destroy ended.
pub(super) fn destroyed(id: &RuntimeId, end: &Destroyed) -> String {
    let name = format!("{BOLD}{}{BOLD:#}", id.instance_name());
    match end {
        Destroyed::Destroyed => format!("{GOOD}destroyed{GOOD:#}  {name}\n"),
        Destroyed::Gone => format!("{GOOD}gone{GOOD:#}  {name} was not there\n"),
        Destroyed::Unknown { why } => {
            format!(
                "{WARN}unknown{WARN:#}  {name}: {}; destroy it again to find out\n",
                plain(why)
            )
        }
        Destroyed::Stuck { why, remedy } => {
            format!(
                "{BAD}stuck{BAD:#}  {name}: {}\nrun on the host:\n  {remedy}\n",
                plain(why)
            )
        }
    }
}
