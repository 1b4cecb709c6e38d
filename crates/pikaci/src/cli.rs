//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jerichoci::lanes::{DurationError, parse_duration};

/// How long an instance may be kept.
const KEEP_MAX: Duration = Duration::from_secs(24 * 3600);

/// Runs a repository's CI lanes in throw-away Incus instances.
///
/// A lane is a command of `ci/forge-lanes.toml`. Each one runs in an instance of its own, on a snapshot of
/// the work tree as it is, and the instance is removed afterwards.
#[derive(Debug, Parser)]
#[command(
    name = "pikaci",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Exit codes: 0 passed, 1 a lane failed, 2 usage or configuration, 3 infrastructure, \
    4 timed out, 5 nothing ran or nothing was selected, 130 cancelled."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Work tree; the one around the current directory by default
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) repo: Option<PathBuf>,
    /// The operator's configuration [env: PIKACI_CONFIG] [default: ~/.config/pikaci/config.toml, then /etc/pikaci/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Socket of the Incus daemon [env: PIKACI_INCUS_SOCKET]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run lanes
    Run(RunArguments),
    /// Run the lanes of an earlier run again, on the tree as it is now
    Rerun(RerunArguments),
    /// Take up a run whose `pikaci` died, and see it to its end
    Resume(ResumeArguments),
    /// Stop a run: ask the `pikaci` that drives it, or remove what one that died left
    Cancel(CancelArguments),
    /// Open a shell in an instance set up like a lane's, or run a command there
    Shell(ShellArguments),
    /// Remove instances that `run --keep-failed` let stay, before their time is over
    Release(ReleaseArguments),
    /// List runs, newest first
    List(ListArguments),
    /// Show a run and its lanes
    Status(StatusArguments),
    /// Show or follow logs
    Logs(LogsArguments),
    /// List collected artifacts
    Artifacts(ArtifactsArguments),
    /// List caches: each generation with its size and age, and what uses it
    Caches(OutputArguments),
    /// List the lanes of the repository
    Lanes(LanesArguments),
    /// Tell why a lane ran or did not, how it ended, and what became of its instance
    Why(WhyArguments),
    /// Remove what ended runs left behind: instances and volumes whose time is over, superfluous generations of caches,
    /// old snapshots, and artifacts that are not kept any longer
    Gc(OutputArguments),
    /// Remove the records of old runs, never one in progress
    Prune(PruneArguments),
    /// Look at everything that a run needs
    Doctor(OutputArguments),
    /// Write completions for a shell to stdout
    Completions(CompletionsArguments),
    /// Write manual pages into a folder
    Man(ManArguments),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Human,
    /// One JSON document on stdout
    Json,
}

/// What carries a run on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportOutput {
    /// For people
    Human,
    /// One JSON document
    Json,
    /// One JSON object on each line for each thing that happens
    Jsonl,
    /// Markdown for a pull request
    Markdown,
    /// JUnit XML with a test case for each lane
    Junit,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Lanes to run, by id; what they need runs too
    #[arg(
        value_name = "LANE",
        required_unless_present_any = ["all", "changed"],
        // `base` is named too: what it requires is not asked for where that conflicts with what is there.
        conflicts_with_all = ["all", "changed", "base"]
    )]
    pub(crate) lanes: Vec<String>,
    /// Run every lane
    #[arg(long, conflicts_with_all = ["changed", "base"])]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) changed: ChangedArguments,
    /// Take the nightly lanes instead of the branch lanes
    #[arg(long)]
    pub(crate) nightly: bool,
    #[command(flatten)]
    pub(crate) how: HowArguments,
}

#[derive(Debug, Args)]
pub(crate) struct RerunArguments {
    /// Run, or a clear part of its id; the newest by default
    pub(crate) run: Option<String>,
    /// Only the lanes that did not pass, and what those need
    #[arg(long)]
    pub(crate) failed: bool,
    #[command(flatten)]
    pub(crate) how: HowArguments,
}

/// How lanes are run and shown, whichever they are.
#[derive(Debug, Args)]
pub(crate) struct HowArguments {
    /// Lanes at once; from cores and memory by default
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) jobs: Option<u16>,
    /// Start nothing more after the first lane that does not pass
    #[arg(long, conflicts_with = "keep_going")]
    pub(crate) fail_fast: bool,
    /// Go on after lanes that do not pass, even where the lanes file says not to
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Let what lanes that pass leave in their caches be what later runs start from. Only for a tree that you trust:
    /// whoever can change it decides what is in the caches then
    #[arg(long)]
    pub(crate) trusted: bool,
    /// Take untracked files on these paths though they look like secrets
    #[arg(long, value_name = "GLOB")]
    pub(crate) allow_untracked: Vec<String>,
    /// Let the instances of lanes that fail or run out of time stay for so long, at most 24h, to look into them with
    /// `pikaci shell --run`
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1h",
        value_parser = keep_time
    )]
    pub(crate) keep_failed: Option<Duration>,
    #[command(flatten)]
    pub(crate) view: ViewArguments,
}

fn keep_time(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text, KEEP_MAX)
}

/// How a run is shown while it goes on, and at its end.
#[derive(Debug, Args)]
pub(crate) struct ViewArguments {
    /// Show every line that lanes write, on a terminal and among JSON lines too
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// What stdout carries
    #[arg(long, value_enum, default_value_t = ReportOutput::Human)]
    pub(crate) output: ReportOutput,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArguments {
    /// Run, or a clear part of its id; the newest that was interrupted by default
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) view: ViewArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArguments {
    /// Run, or a clear part of its id; the newest that is not over by default
    pub(crate) run: Option<String>,
    /// Wait for no command's end, only for the removal of the instances
    #[arg(long)]
    pub(crate) now: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The exit code is that of the shell or of the command. Before one has run it is that of `pikaci` \
    itself: 2 usage or configuration, 3 infrastructure, 4 timed out, 130 stopped by a signal."
)]
pub(crate) struct ShellArguments {
    /// Lane, by id; its own command does not run, and nothing that it needs does
    pub(crate) lane: String,
    /// Enter the instance that this run keeps of the lane (see `run --keep-failed`) instead of making one; it stays
    /// afterwards. A run, or a clear part of its id
    #[arg(long, value_name = "RUN", conflicts_with_all = ["nightly", "time", "allow_untracked"])]
    pub(crate) run: Option<String>,
    /// Take the nightly lanes instead of the branch lanes
    #[arg(long)]
    pub(crate) nightly: bool,
    /// Remove the instance after this time, whoever still works in it
    #[arg(long, value_name = "DURATION", default_value = "8h")]
    pub(crate) time: String,
    /// Take untracked files on these paths though they look like secrets
    #[arg(long, value_name = "GLOB")]
    pub(crate) allow_untracked: Vec<String>,
    /// Command and arguments to run instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArguments {
    /// Run, or a clear part of its id
    pub(crate) run: String,
    /// Lane, by id; every lane that the run keeps by default
    pub(crate) lane: Option<String>,
}

/// Selection by changed paths.
#[derive(Debug, Args)]
pub(crate) struct ChangedArguments {
    /// Select by the paths that changed since the merge base with REF, staged, unstaged and untracked ones included
    #[arg(long)]
    pub(crate) changed: bool,
    /// Branch or commit to compare with; by default the upstream of the branch, else origin/HEAD, main or master
    #[arg(long, value_name = "REF", requires = "changed")]
    pub(crate) base: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LanesArguments {
    #[command(flatten)]
    pub(crate) changed: ChangedArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArguments {
    /// Lane, by id
    pub(crate) lane: String,
    /// Run, or a clear part of its id; the newest by default
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArguments {
    /// What stdout carries
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// Run, or a clear part of its id; the newest by default
    pub(crate) run: Option<String>,
    /// What stdout carries
    #[arg(long, value_enum, default_value_t = ReportOutput::Human)]
    pub(crate) output: ReportOutput,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Run, or a clear part of its id; or, with nothing else, a lane of the newest run
    pub(crate) run: Option<String>,
    /// Lane; all lanes by default
    pub(crate) lane: Option<String>,
    /// Go on until the run is over
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ArtifactsArguments {
    /// Run, or a clear part of its id; the newest by default
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
#[group(id = "policy", required = true, multiple = true, args = ["keep", "older_than"])]
pub(crate) struct PruneArguments {
    /// Let the newest N runs stay
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<usize>,
    /// Remove only runs that began at least AGE ago, such as 7d or 12h
    #[arg(long, value_name = "AGE", value_parser = crate::commands::prune::parse_age)]
    pub(crate) older_than: Option<jiff::SignedDuration>,
    /// Only tell what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// The folder, made if it is not there
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub(crate) shell: Shell,
}
