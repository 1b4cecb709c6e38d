//! One launch by calls of the API alone: the same create, start and exec that `pikaci run` asks for, then the removal.
//!
//! Owns the program that `launch` measures the others against. Like them it is a process of its own, from its start to its
//! end.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pika_incus::Client;

use super::place::Instance;
use crate::host;

/// The line that tells that the command has ended well.
pub(super) const VERDICT: &str = "passed";

/// What to launch, and where.
#[derive(Args)]
pub(crate) struct ScriptOptions {
    /// Socket of the daemon
    #[arg(long)]
    socket: PathBuf,
    /// Project of the instance
    #[arg(long)]
    project: String,
    /// Image by its alias
    #[arg(long)]
    image: String,
    /// Directory that is mounted read-only
    #[arg(long)]
    source: PathBuf,
    /// End of the instance's name
    #[arg(long)]
    what: String,
}

/// Launches, tells that the command ended, removes.
#[expect(clippy::print_stdout, reason = "who measures waits for the line")]
pub(super) fn run(options: &ScriptOptions) -> Result<()> {
    let client = Client::unix(&options.socket).with_project(&options.project);
    host::runtime()?.block_on(async {
        let instance = Instance::launch(
            &client,
            &options.image,
            &options.source,
            &options.what,
            "4096MiB",
        )
        .await?;
        instance.run(&["true"]).await?;
        println!("{VERDICT}");
        instance.remove().await
    })
}
