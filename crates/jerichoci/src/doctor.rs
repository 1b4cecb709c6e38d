//! Whether everything that a run needs is there: each check with what, why, and what to do.
//!
//! Looks only; changes nothing.

use std::time::Duration;

use pika_cloud::{OwnedKind, Ownership};
use pika_runtime::incus::{ErrorKind, Server};
use serde::Serialize;

use crate::engine::Engine;
use crate::engine::chain;
use crate::git::git_version;
use crate::host::{HostFacts, INOTIFY_INSTANCES_PATH, INOTIFY_INSTANCES_PER_GUEST};
use crate::job::{JobContext, JobSpec};
use crate::lanes::{LanesFile, Section};

/// How long Incus may take to answer before it counts as not answering.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub state: CheckState,
    /// What was seen.
    pub seen: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How a checked thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// As it should be.
    Good,
    /// Runs work, but not as well as they could.
    Warning,
    /// Runs don't work.
    Bad,
    /// It could not be looked at, because something before it is bad.
    NotChecked,
}

impl Check {
    /// A check that found things as they should be.
    pub fn good(name: &str, seen: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state: CheckState::Good,
            seen: seen.into(),
            remedy: None,
        }
    }

    /// A check that found something bad, with what to do.
    pub fn bad(name: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state: CheckState::Bad,
            seen: seen.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn warning(name: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: CheckState::Warning,
            ..Self::bad(name, seen, remedy)
        }
    }

    fn not_checked(name: &str) -> Self {
        let seen = "not looked at, since Incus does not answer".to_owned();
        Self {
            name: name.to_owned(),
            state: CheckState::NotChecked,
            seen,
            remedy: None,
        }
    }
}

/// Looks at everything.
pub async fn examine(engine: &Engine, host: &HostFacts, lanes: Option<&LanesFile>) -> Vec<Check> {
    let mut checks = vec![git(), inotify(engine, host)];
    checks.extend(mounts(engine));
    match incus(engine).await {
        Ok((check, server)) => {
            checks.push(check);
            checks.push(drivers(&server));
            checks.push(instance(engine, lanes).await);
        }
        Err(check) => {
            checks.push(check);
            checks.push(Check::not_checked("instance drivers"));
            checks.push(Check::not_checked("image, profile and pool"));
        }
    }
    checks.push(leftovers(engine));
    checks
}

fn git() -> Check {
    match git_version() {
        Ok(version) => Check::good("git", version),
        Err(error) => Check::bad("git", chain(&error), "install the `git` package"),
    }
}

fn inotify(engine: &Engine, host: &HostFacts) -> Check {
    let name = "inotify instances";
    let Some(limit) = host.inotify_instances else {
        return Check::warning(
            name,
            format!("{INOTIFY_INSTANCES_PATH} can't be read"),
            "make /proc readable",
        );
    };
    let wanted = engine
        .operator()
        .defaults
        .parallel
        .unwrap_or(host.cores)
        .max(1) as u64;
    let needed = wanted * INOTIFY_INSTANCES_PER_GUEST;
    let seen = format!(
        "{limit}, enough for {} guests at once",
        limit / INOTIFY_INSTANCES_PER_GUEST
    );
    let remedy = "beyond the limit guests come up half dead; raise it: sysctl fs.inotify.max_user_instances=1024";
    if limit < needed {
        Check::bad(
            name,
            format!("{seen}; {wanted} lanes at once need {needed}"),
            remedy,
        )
    } else if limit < 1024 {
        Check::warning(name, seen, remedy)
    } else {
        Check::good(name, seen)
    }
}

fn mounts(engine: &Engine) -> Vec<Check> {
    let mounts = &engine.operator().mounts;
    let look = |(name, mount): (&String, &crate::operator::HostMount)| {
        let (name, source) = (format!("mount {name}"), mount.source.display());
        if mount.source.is_dir() {
            Check::good(&name, format!("{source} at {}", mount.guest_path))
        } else {
            let remedy = format!("make it, or correct `[mounts]` in the configuration: {source}");
            Check::bad(&name, format!("{source} is not a directory"), remedy)
        }
    };
    mounts.iter().map(look).collect()
}

async fn incus(engine: &Engine) -> Result<(Check, Server), Check> {
    let name = "Incus";
    let socket = engine.operator().incus.socket.display();
    let server = match tokio::time::timeout(ANSWER_LIMIT, engine.client().server()).await {
        Err(_) => {
            let seen = format!(
                "{socket} takes connections and does not answer within {} s",
                ANSWER_LIMIT.as_secs()
            );
            return Err(Check::bad(
                name,
                seen,
                "look at the daemon's log, and restart it",
            ));
        }
        Ok(Err(error)) => {
            let fallback = match error.kind() {
                ErrorKind::Forbidden => "add the user to the group incus-admin, then log in again",
                _ => {
                    "install and start Incus, or name its socket in the configuration ([incus] socket)"
                }
            };
            let remedy = error.remedy().unwrap_or_else(|| fallback.to_owned());
            return Err(Check::bad(name, chain(&error), remedy));
        }
        Ok(Ok(server)) => server,
    };
    if server.auth != "trusted" {
        let seen = format!("{socket} answers, and does not trust us");
        return Err(Check::bad(
            name,
            seen,
            "add the user to the group incus-admin, then log in again",
        ));
    }
    let seen = format!("{} at {socket}", server.environment.server_version);
    Ok((Check::good(name, seen), server))
}

fn drivers(server: &Server) -> Check {
    let name = "instance drivers";
    match (
        server.environment.has_driver("lxc"),
        server.environment.has_driver("qemu"),
    ) {
        (true, true) => Check::good(name, "containers and virtual machines"),
        (true, false) => Check::good(
            name,
            "containers (virtual machines need KVM and the qemu packages)",
        ),
        (false, true) => Check::good(name, "virtual machines"),
        (false, false) => Check::bad(
            name,
            "none",
            "install the packages incus-base or incus, and restart the daemon",
        ),
    }
}

/// Resolves the plan of a lane that does nothing, exactly as a run would.
async fn instance(engine: &Engine, lanes: Option<&LanesFile>) -> Check {
    let name = "image, profile and pool";
    let source = "version = 1\n[[branch.lanes]]\nid = \"doctor\"\ncommand = [\"true\"]\n";
    let probe = LanesFile::parse("doctor", source).map_err(|error| error.to_string());
    let tag = engine.store().tag();
    let context = JobContext {
        operator: engine.operator(),
        owner: engine.owner().as_str(),
        store_tag: &tag,
        role_override: None,
    };
    let job = probe.and_then(|file| {
        JobSpec::new(Section::Branch, &file.branch[0], &context).map_err(|error| error.to_string())
    });
    let plan = job.and_then(|job| {
        let mut spec = job.probe();
        spec.mounts.clear();
        spec.build_incus_plan().map_err(|error| error.to_string())
    });
    let plan = match plan {
        Ok(plan) => plan,
        Err(problem) => return Check::bad(name, problem, "correct the configuration"),
    };
    let ownership = Ownership {
        owner: engine.owner().clone(),
        kind: OwnedKind::Ci,
        generation: 1,
        guest_role: None,
        deadline: None,
    };
    match engine.runtimes().resolve(&plan, &ownership).await {
        Ok(resolved) => {
            let kind = resolved.instance_type.incus_word().unwrap_or("instance");
            let fingerprint: String = resolved.image_fingerprint.chars().take(12).collect();
            let uses = lanes.map_or(0, |file| file.branch.len() + file.nightly.len());
            let seen = format!(
                "{} is {fingerprint}, a {kind} in the pool {}",
                plan.incus.image_alias, resolved.pool
            );
            Check::good(
                name,
                if uses > 0 {
                    format!("{seen}; {uses} lanes")
                } else {
                    seen
                },
            )
        }
        Err(error) => {
            let text = chain(&error);
            // The contract's sentences end with the way out.
            let (seen, remedy) = text
                .split_once(": ")
                .unwrap_or((text.as_str(), "see the message"));
            Check::bad(name, seen, remedy)
        }
    }
}

fn leftovers(engine: &Engine) -> Check {
    let name = "unsettled runs";
    match engine.store().unsettled() {
        Ok(runs) if runs.is_empty() => Check::good(name, "none"),
        Ok(runs) => {
            let ids: Vec<String> = runs.iter().take(3).map(|run| run.id.to_string()).collect();
            let seen = format!("{}: {}", runs.len(), ids.join(", "));
            Check::warning(
                name,
                seen,
                "they run, or were interrupted; `pikaci list` tells which of those can be taken up, and settles the others",
            )
        }
        Err(error) => Check::bad(name, chain(&error), "look at the folder .pikaci"),
    }
}
