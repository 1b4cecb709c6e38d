//! `pika runtime`: check, plan and carry out specs.
//!
//! Owns which library call each verb is, and its exit code. The spec is read again by every verb, so nothing
//! is kept between two calls: what is true is in the spec and in Incus.

mod observed;
mod plan_text;

use std::path::Path;
use std::time::Duration;

use pika_cloud::{
    IncusGuestRole, IncusRuntimePlan, OwnedKind, Ownership, RuntimeMountKind, Timestamp,
};
use pika_runtime::{Destroyed, RuntimeId};
use serde::Serialize;

use crate::cli::{
    CollectArguments, EnsureArguments, Global, OutputFormat, OwnershipArguments, PlanArguments,
    RuntimeCommand,
};
use crate::config::Settings;
use crate::exit::{CommandError, Exit};
use crate::{output, spec_file};

pub(crate) async fn run(command: RuntimeCommand, global: &Global) -> Result<Exit, CommandError> {
    match command {
        RuntimeCommand::Validate(argument) => validate(&argument.spec, global),
        RuntimeCommand::Plan(arguments) => plan(&arguments, global).await,
        RuntimeCommand::Ensure(arguments) => ensure(&arguments, global).await,
        RuntimeCommand::Inspect(argument) => inspect(&argument.spec, global).await,
        RuntimeCommand::Collect(arguments) => collect(&arguments, global).await,
        RuntimeCommand::Destroy(argument) => destroy(&argument.spec, global).await,
    }
}

/// What `validate` found.
#[derive(Serialize)]
struct Validation {
    valid: bool,
    problems: Vec<String>,
}

fn validate(spec: &Path, global: &Global) -> Result<Exit, CommandError> {
    let problems: Vec<String> = spec_file::read(spec)?
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    let exit = if problems.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    };
    if global.output == OutputFormat::Json {
        output::print_json(&Validation {
            valid: problems.is_empty(),
            problems,
        })?;
        return Ok(exit);
    }
    let name = spec.display();
    if problems.is_empty() {
        output::print(&format!("{name} is valid\n"))?;
        return Ok(exit);
    }
    let count = output::count(problems.len() as u64, "problem");
    let list: String = problems
        .iter()
        .map(|problem| format!("  - {}\n", output::plain(problem)))
        .collect();
    output::print(&format!("{name} has {count}:\n{list}"))?;
    Ok(exit)
}

async fn plan(arguments: &PlanArguments, global: &Global) -> Result<Exit, CommandError> {
    let plan = spec_file::read_plan(&arguments.spec.spec)?;
    let json = global.output == OutputFormat::Json;
    if !arguments.resolve && !arguments.diff {
        if json {
            output::print_json(&plan)?;
        } else {
            output::print(&plan_text::plan(&plan))?;
        }
        return Ok(Exit::Done);
    }
    let settings = Settings::load(global)?;
    let ownership = ownership(&plan, &arguments.ownership, &settings);
    let runtimes = settings.runtimes();
    let resolved = runtimes.resolve(&plan, &ownership).await?;
    if arguments.resolve {
        if json {
            output::print_json(&resolved)?;
        } else {
            output::print(&plan_text::resolved(&resolved))?;
        }
        return Ok(Exit::Done);
    }
    let diff = runtimes.diff(&resolved).await?;
    if json {
        output::print_json(&diff)?;
    } else {
        output::print(&observed::diff(&plan, &diff))?;
    }
    Ok(if diff.refusal.is_some() {
        Exit::Refused
    } else {
        Exit::Done
    })
}

async fn ensure(arguments: &EnsureArguments, global: &Global) -> Result<Exit, CommandError> {
    let plan = spec_file::read_plan(&arguments.spec.spec)?;
    let settings = Settings::load(global)?;
    let ownership = ownership(&plan, &arguments.ownership, &settings);
    let runtimes = settings.runtimes();
    let resolved = runtimes.resolve(&plan, &ownership).await?;
    for note in &resolved.notes {
        output::say(&format!("note: {}", output::plain(note)));
    }
    let runtime = runtimes.ensure_resolved(resolved).await?;
    if global.output == OutputFormat::Json {
        output::print_json(&runtime)?;
    } else {
        output::print(&observed::runtime(&runtime))?;
    }
    Ok(Exit::Done)
}

async fn inspect(spec: &Path, global: &Global) -> Result<Exit, CommandError> {
    let id = RuntimeId::of(&spec_file::read_plan(spec)?);
    let observation = Settings::load(global)?.runtimes().inspect(&id).await?;
    if global.output == OutputFormat::Json {
        output::print_json(&observation)?;
    } else {
        output::print(&observed::observation(&observation))?;
    }
    Ok(Exit::Done)
}

async fn collect(arguments: &CollectArguments, global: &Global) -> Result<Exit, CommandError> {
    let plan = spec_file::read_plan(&arguments.spec.spec)?;
    let policy = &plan.policies.output_collection;
    let runtimes = Settings::load(global)?.runtimes();
    let collected = runtimes
        .collect(&RuntimeId::of(&plan), policy, &arguments.into)
        .await?;
    if global.output == OutputFormat::Json {
        output::print_json(&collected)?;
    } else {
        output::print(&observed::collected(&collected, &arguments.into))?;
    }
    Ok(if collected.incomplete.is_some() {
        Exit::Failed
    } else {
        Exit::Done
    })
}

async fn destroy(spec: &Path, global: &Global) -> Result<Exit, CommandError> {
    let id = RuntimeId::of(&spec_file::read_plan(spec)?);
    let end = Settings::load(global)?.runtimes().destroy(&id).await?;
    if global.output == OutputFormat::Json {
        output::print_json(&end)?;
    } else {
        output::print(&observed::destroyed(&id, &end))?;
    }
    Ok(match end {
        Destroyed::Destroyed | Destroyed::Gone => Exit::Done,
        Destroyed::Unknown { .. } | Destroyed::Stuck { .. } => Exit::OperatorNeeded,
    })
}

/// Who makes the instance and what for, from the arguments and, where they are silent, from the plan.
fn ownership(
    plan: &IncusRuntimePlan,
    arguments: &OwnershipArguments,
    settings: &Settings,
) -> Ownership {
    let keeps_state = plan
        .mounts
        .iter()
        .any(|mount| mount.kind == RuntimeMountKind::PersistentVolume);
    let kind = if keeps_state {
        OwnedKind::Agent
    } else {
        OwnedKind::Ci
    };
    let alias = &plan.incus.image_alias;
    let role = IncusGuestRole::ALL
        .into_iter()
        .find(|role| role.uses_default_image_alias(alias));
    Ownership {
        owner: settings.owner.clone(),
        kind: arguments.kind.unwrap_or(kind),
        generation: arguments.generation,
        guest_role: arguments.role.or(role),
        deadline: arguments
            .lease_secs
            .map(|secs| deadline(Duration::from_secs(secs))),
    }
}

/// The point in time that is `lease` from now, as labels have it.
fn deadline(lease: Duration) -> String {
    let now = jiff::Timestamp::now().as_millisecond();
    let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_unix_millis(now.saturating_add(lease)).to_string()
}
