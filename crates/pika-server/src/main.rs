//! `pika-server`: reads its configuration, starts, and ends on SIGTERM or SIGINT.

mod service;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use pika_server::{Config, Server, StartOptions};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The control plane of managed agents on Incus.
///
/// Settings come from a TOML file and the environment; docs/reference/server.md lists both. The first start makes an
/// operator's token: printed once on a terminal, else written to a file that it names.
///
/// SIGTERM and SIGINT end it in order; a second one ends it at once, with 1.
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
    /// Print the manual page, and end
    #[arg(long, hide = true)]
    print_man: bool,
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
    if arguments.print_man {
        clap_mangen::Man::new(Arguments::command())
            .section("8")
            .render(&mut std::io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    }
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
    let code = runtime.block_on(serve(config));
    // What is still there had its time.
    runtime.shutdown_background();
    code
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

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let mut asked = AskedToEnd::listen()?;
    let options = StartOptions {
        token_file: service::token_file(std::io::stdout().is_terminal(), &config.database),
        ..StartOptions::default()
    };
    let token_file = options.token_file.clone();
    let server = Server::start(config, options).await?;
    greet(&server, token_file.as_deref())?;
    service::tell(NotifyState::Ready);
    tokio::spawn(service::say_that_it_lives());
    asked.next().await;
    tracing::info!("asked to end");
    service::tell(NotifyState::Stopping);
    tokio::select! {
        () = server.shut_down() => Ok(ExitCode::SUCCESS),
        () = asked.next() => {
            tracing::warn!("asked again: ends at once");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn greet(server: &Server, token_file: Option<&Path>) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match (server.first_token(), token_file) {
        (Some(_), Some(path)) => writeln!(
            out,
            "operator's first token, written this once; keep it, and remove the file: {}",
            path.display()
        )?,
        (Some(token), None) => writeln!(
            out,
            "operator's first token, shown this once; keep it:\n{}",
            token.reveal()
        )?,
        (None, _) => {}
    }
    writeln!(out, "listening on http://{}", server.address())?;
    out.flush()?;
    Ok(())
}

/// The signals that ask for an end.
struct AskedToEnd {
    terminate: Signal,
    interrupt: Signal,
}

impl AskedToEnd {
    fn listen() -> std::io::Result<AskedToEnd> {
        Ok(AskedToEnd {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
