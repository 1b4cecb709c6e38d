//! Thousands of agents on a fake Incus: a few first, then all, made over the API as anybody would.
//!
//! Owns where the database is: in memory while agents are made, which would take an hour of waiting for the disk, and on
//! disk, under a fresh server, when it is measured.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use pikahut::fake::{CostModel, FakeIncus};

use super::super::place::Folder;
use super::api::{Api, Settings, move_database};
use super::load::{Load, latency};
use super::report::{Answers, Report};
use super::{ServerOptions, passes, say};

/// What a real daemon takes for an instance of a bulk read.
const PER_INSTANCE: Duration = Duration::from_micros(800);
/// Owners; each has an agent of its own, and its share of the others.
const OWNERS: u32 = 100;
/// How soon guests are ready.
const READY_AFTER: Duration = Duration::from_millis(1);
/// How long all agents may take until they are ready.
const READY_LIMIT: Duration = Duration::from_secs(3600);
/// Where files are kept in memory.
const IN_MEMORY: &str = "/dev/shm";
/// In how many parts each kind of request is sent, the kinds in turn.
const PARTS: u32 = 3;
/// What an application asks for most.
const ME: &str = "/v1/agents/me";
/// Requests a second that no server notices.
const LOW_RATE: u32 = 10;

pub(super) async fn measure(
    options: &ServerOptions,
    program: &Path,
    report: &mut Report,
) -> Result<()> {
    let fake = FakeIncus::start_for_agents(READY_AFTER).await?;
    // From the start: a server that waits for its lists makes room for the work on agents.
    fake.set_cost(CostModel {
        per_instance: PER_INSTANCE,
        per_instance_state: Duration::ZERO,
    });
    let folder = Folder::new(&std::env::temp_dir())?;
    let memory = Folder::new(Path::new(IN_MEMORY))?;
    let (database, at_first) = (folder.path().join("pika.db"), memory.path().join("pika.db"));
    let at = |database| Settings {
        program,
        folder: folder.path(),
        database,
        socket: fake.socket(),
        more: "",
    };

    let api = Api::start(&at(&at_first), None).await?;
    say(&format!("making {OWNERS} agents"));
    let mut tokens = Vec::new();
    for number in 0..OWNERS {
        tokens.push(api.tenant(&format!("owner-{number}")).await?);
    }
    let each: Vec<&str> = tokens.iter().map(String::as_str).collect();
    api.ask_for(&each, "/v1/agents/ensure").await?;
    api.ready(OWNERS, READY_LIMIT).await?;
    report.few = Some(passes::measure(&fake, &api, OWNERS, options.passes).await?);
    say(&format!("making {} agents", options.agents - OWNERS));
    let more = options.agents - OWNERS;
    let others: Vec<&str> = each.iter().copied().cycle().take(more as usize).collect();
    api.ask_for(&others, "/v1/agents").await?;
    api.ready(options.agents, READY_LIMIT).await?;
    let operator = api.token().to_owned();
    api.end().await?;
    move_database(&at_first, &database)?;

    let api = Api::start(&at(&database), Some(&operator)).await?;
    api.ready(options.agents, READY_LIMIT).await?;
    say(&format!("passes over {} agents", options.agents));
    report.many = Some(passes::measure(&fake, &api, options.agents, options.passes).await?);
    report.answers = Some(answers(options, &api, &tokens).await?);
    report.peak_kib = Some(api.peak_kib()?);
    api.end().await.context("end the server")
}

/// The same rate of two kinds of request, and the one kind at a rate that nobody notices; in turn.
async fn answers(options: &ServerOptions, api: &Api, tokens: &[String]) -> Result<Answers> {
    let rate = options.rate;
    let load = |path: &str, tokens: &[String], rate| Load {
        url: api.url(path),
        tokens: tokens.to_vec(),
        rate,
    };
    let kinds = [
        load(ME, tokens, rate),
        load("/healthz", &[], rate),
        load(ME, tokens, LOW_RATE.min(rate)),
    ];
    let mut taken: [Vec<Duration>; 3] = Default::default();
    for part in 0..PARTS {
        for (load, taken) in kinds.iter().zip(&mut taken) {
            say(&format!(
                "GET {} at {}/s, {} of {PARTS}",
                load.url,
                load.rate,
                part + 1
            ));
            taken.extend(load.clone().run_apart(options.seconds / PARTS).await?);
        }
    }
    let [me, health, me_seldom] = taken.map(latency);
    Ok(Answers {
        rate,
        me,
        health,
        me_seldom,
    })
}
