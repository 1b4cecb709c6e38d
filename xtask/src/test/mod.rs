//! `cargo xtask test`: everything that this repository checks of itself.
//!
//! Owns the order of the checks, the one Incus daemon and the one PostgreSQL server that the tests share, and the closing
//! table. Anything skipped or left behind is red.

mod runner;

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use pikahut::{daemon, postgres, stack, wheel};

use crate::phases::Phases;
use crate::{deny, host, tidy};
use runner::{Counts, Runner};

/// Tests that need no daemon: those inside `src/`.
const UNIT_FILTER: &str = "kind(lib) + kind(bin) + kind(proc-macro)";
/// Tests in `tests/` folders; they share one real Incus daemon and one PostgreSQL server.
const DAEMON_FILTER: &str = "kind(test)";

/// Images that tests boot, made before the clock of any test runs.
const IMAGES: [(&str, &str); 3] = [
    ("runner image", stack::roles::RUNNER),
    ("agent image", stack::roles::AGENT),
    ("sandbox image", stack::roles::SANDBOX),
];

/// What to check.
#[derive(Args)]
pub(crate) struct Options {
    /// Leave out what needs a real Incus daemon.
    #[arg(long)]
    fast: bool,
    /// Only these parts, in the usual order.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Remove test daemons and servers that earlier runs left for the next, and do nothing else.
    #[arg(long, conflicts_with_all = ["fast", "only"])]
    clean: bool,
}

/// One part of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// rustfmt.
    Format,
    /// clippy, warnings are errors.
    Clippy,
    /// Crate edges, sizes, headers.
    Tidy,
    /// Licences and sources of dependencies.
    Deny,
    /// Tests without a daemon.
    Unit,
    /// Tests with a real daemon.
    Daemon,
    /// Examples in documentation.
    Doc,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        let chosen = self.only.is_empty() || self.only.contains(&part);
        chosen && !(self.fast && part == Part::Daemon)
    }

    /// Whether every test is wanted, so that one that did not run is a fault.
    fn wants_every_test(&self) -> bool {
        self.wants(Part::Unit) && self.wants(Part::Daemon)
    }
}

/// Runs the checks; an error when one of them failed or a test did not run.
#[expect(clippy::print_stdout, reason = "a command line prints its result")]
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if options.clean {
        return clean();
    }
    let mut phases = Phases::new();
    if options.wants(Part::Format) {
        phases.run("format", || cargo(root, &["fmt", "--all", "--", "--check"]));
    }
    if options.wants(Part::Clippy) {
        let lints = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        phases.run("clippy", || cargo(root, &lints));
    }
    if options.wants(Part::Tidy) {
        phases.run("tidy", || tidy::run(root));
    }
    if options.wants(Part::Deny) {
        phases.run("deny", || deny::run(root));
    }
    let closing = run_tests(root, options, &mut phases);
    if options.wants(Part::Doc) {
        phases.run("doc tests", || runner::doc_tests(root));
    }
    print!("\n{}", phases.table());
    for line in closing {
        println!("{line}");
    }
    if options.fast {
        println!("chosen: --fast, so no test with a real Incus daemon ran");
    }
    if !phases.all_passed() {
        bail!("not everything passed");
    }
    Ok(())
}

/// Unit tests, then tests on a daemon; gives the test runner's closing lines.
fn run_tests(root: &Path, options: &Options, phases: &mut Phases) -> Vec<String> {
    let mut closing = Vec::new();
    if !options.wants(Part::Unit) && !options.wants(Part::Daemon) {
        return closing;
    }
    let Some(runner) = phases.attempt("build tests", || Runner::prepare(root)) else {
        return closing;
    };
    let mut ran = Counts::default();
    if options.wants(Part::Unit) {
        phases.run("unit tests", || {
            let outcome = runner.run(UNIT_FILTER, &[])?;
            outcome.conclude(&mut ran, &mut closing)
        });
    }
    if options.wants(Part::Daemon) {
        run_daemon_tests(&runner, phases, &mut ran, &mut closing);
    }
    if options.wants_every_test() {
        phases.run("every test ran", || runner.compare(&ran));
    }
    closing
}

/// Starts a daemon and a database server for the tests, runs them, and looks for what they left.
fn run_daemon_tests(
    runner: &Runner,
    phases: &mut Phases,
    ran: &mut Counts,
    closing: &mut Vec<String>,
) {
    if !phases.run("Incus on this machine", host::prepare_tests) {
        return;
    }
    let started = phases.attempt("daemon for the tests", || {
        stack::sweep();
        let daemon = stack::start_for_tests()?;
        let note = daemon.dir().display().to_string();
        Ok((daemon, note))
    });
    let Some(daemon) = started else {
        return;
    };
    let started = phases.attempt("PostgreSQL for the tests", || {
        let server = postgres::start_for_tests()?;
        let note = server.dir().display().to_string();
        Ok((server, note))
    });
    let Some(server) = started else {
        return;
    };
    let client = daemon.client();
    phases.run("API fuzzer", || {
        Ok(wheel::ensure(&wheel::SCHEMATHESIS)?.display().to_string())
    });
    for (phase, role) in IMAGES {
        phases.run(phase, || host::role_image(&client, daemon.dir(), role));
    }
    phases.run("tests with Incus", || {
        let environment = [
            (stack::INCUS_DIR_VARIABLE, daemon.dir().into()),
            (postgres::POSTGRES_DIR_VARIABLE, server.dir().into()),
        ];
        let outcome = runner.run(DAEMON_FILTER, &environment)?;
        outcome.conclude(ran, closing)
    });
    phases.run("nothing left", || {
        let left = host::runtime()?.block_on(stack::left_in(&client))?;
        if !left.is_empty() {
            bail!(
                "the tests left in {}: {}",
                daemon.dir().display(),
                left.join(", ")
            );
        }
        let databases = server.test_databases()?;
        if !databases.is_empty() {
            bail!(
                "the tests left in {}: databases {}",
                server.dir().display(),
                databases.join(", ")
            );
        }
        daemon.clean_blocking()?;
        server.clean_blocking()?;
        let orphans = stack::sweep();
        if !orphans.is_empty() {
            bail!("the tests left whole servers: {orphans:?}");
        }
        Ok(String::new())
    });
}

/// Removes the daemon and the database server that bare runs of the test runner share, and orphans.
fn clean() -> Result<()> {
    stack::sweep();
    daemon::clean(&stack::checkout_dir("test"))?;
    postgres::clean(&stack::checkout_dir("postgres"))?;
    Ok(())
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<String> {
    let status = crate::cargo::command("cargo")
        .args(arguments)
        .current_dir(root)
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("`cargo {}` ended with {status}", arguments.join(" "));
    }
    Ok(String::new())
}
