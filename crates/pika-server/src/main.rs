//! `pika-server`: reads its configuration, starts, and ends on SIGTERM or SIGINT.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pika_server::{Config, Server, StartOptions};
use tokio::signal::unix::{SignalKind, signal};

/// The control plane of managed agents on Incus.
///
/// Settings come from a TOML file and the environment; docs/reference/server.md lists both. The first start prints an
/// operator's token once.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file [default: /etc/pika/server.toml if it is there]
    #[arg(long, env = "PIKA_SERVER_CONFIG")]
    config: Option<PathBuf>,
    /// Print the settled configuration, without secrets, and end
    #[arg(long, conflicts_with = "check")]
    print_config: bool,
    /// Check configuration, database and Incus, and end
    #[arg(long)]
    check: bool,
    /// Print the OpenAPI document, and end
    #[arg(long)]
    print_openapi: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // If nobody listens on stderr, the exit code still says it.
            drop(writeln!(std::io::stderr(), "pika-server: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.print_openapi {
        let document = serde_json::to_string_pretty(&pika_server::openapi())?;
        writeln!(std::io::stdout(), "{document}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(arguments.config.as_deref(), |name| std::env::var(name).ok())?;
    if arguments.print_config {
        write!(std::io::stdout(), "{}", config.to_toml())?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if arguments.check {
        return runtime.block_on(check(&config));
    }
    begin_logging(config.log_json);
    runtime.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

fn begin_logging(json: bool) {
    let filter = std::env::var("PIKA_LOG").unwrap_or_else(|_| "info".to_owned());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if json {
        builder.json().init();
    } else {
        builder.init();
    }
}

async fn check(config: &Config) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    let findings = pika_server::check(config).await;
    let mut code = ExitCode::SUCCESS;
    for (what, finding) in findings {
        match finding {
            Ok(found) => writeln!(out, "ok    {what}: {found}")?,
            Err(problem) => {
                code = ExitCode::FAILURE;
                writeln!(out, "FAIL  {what}: {problem}")?;
            }
        }
    }
    Ok(code)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(config, StartOptions::default()).await?;
    let mut out = std::io::stdout();
    if let Some(token) = server.first_token() {
        writeln!(
            out,
            "operator's first token, shown this once; keep it:\n{}",
            token.reveal()
        )?;
    }
    writeln!(out, "listening on http://{}", server.address())?;
    out.flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to end");
    server.shut_down().await;
    Ok(())
}
