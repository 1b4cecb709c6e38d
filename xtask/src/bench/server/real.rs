//! Real agents on a real Incus: a pass of the reconciler beside the bulk read that it makes.
//!
//! Owns the order: each read comes half a period after a pass, when the server rests, so that what keeps the machine busy
//! hits both. Guests are the least that an agent can be: how many there are is what a bulk read pays for, not what they do.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use pika_incus::Filter;
use pikahut::daemon::{PrivateIncus, PrivateIncusConfig};
use pikahut::stack;
use serde::Serialize;

use super::super::figures::{Figures, figures};
use super::super::millis;
use super::super::place::Folder;
use super::api::{Api, Settings};
use super::{ServerOptions, say};
use crate::host;

/// How long all agents may take until they are ready.
const READY_LIMIT: Duration = Duration::from_secs(600);
/// Between two passes, and half of it.
const PERIOD: &str = "[times]\nreconcile_secs = 2\n";
const HALF: Duration = Duration::from_secs(1);

/// Passes beside bulk reads.
#[derive(Serialize)]
pub(super) struct Real {
    pub(super) agents: u32,
    pub(super) image: String,
    pub(super) bulk_read: Figures,
    pub(super) pass: Figures,
}

pub(super) async fn measure(options: &ServerOptions, program: &Path) -> Result<Real> {
    tokio::task::spawn_blocking(host::prepare).await??;
    let config = PrivateIncusConfig::new(stack::checkout_dir("bench"));
    let daemon = PrivateIncus::start(config).await?;
    let client = daemon.client();
    let image = stack::ensure_tiny_agent_image(&client, daemon.dir()).await?;
    let folder = Folder::new(&std::env::temp_dir())?;
    let more = format!("{PERIOD}[agents.incus]\nimage_alias = {image:?}\n");
    let settings = Settings {
        program,
        folder: folder.path(),
        database: &folder.path().join("real.db"),
        socket: &daemon.dir().join("unix.socket"),
        more: &more,
    };
    let api = Api::start(&settings, None).await?;
    say(&format!("making {} real agents", options.real_agents));
    let token = api.tenant("real").await?;
    let all = vec![&*token; options.real_agents as usize];
    api.ask_for(&all, "/v1/agents").await?;
    api.ready(options.real_agents, READY_LIMIT).await?;

    let (mut reads, mut passes) = (Vec::new(), Vec::new());
    let mut before = api.passes().await?;
    say(&format!(
        "{} passes, each beside a bulk read",
        options.reads
    ));
    for round in 0..=options.reads {
        let after = api.more_passes_than(before.count, READY_LIMIT).await?;
        tokio::time::sleep(HALF).await;
        let begun = Instant::now();
        client.instances(&Filter::all()).await?;
        let read = begun.elapsed();
        // The first of each don't count, nor passes that can't be told apart.
        if round > 0 && after.count == before.count + 1 {
            reads.push(millis(read));
            passes.push(1000.0 * (after.seconds - before.seconds));
        }
        before = after;
    }
    api.end().await?;
    Ok(Real {
        agents: options.real_agents,
        image,
        bulk_read: figures(reads),
        pass: figures(passes),
    })
}
