//! `pikaci run`

use std::io::IsTerminal;

use jerichoci::cache::Trust;
use jerichoci::engine::{CancelLevel, CancelSource, RunRequest, RunSummary};
use jerichoci::host::HostFacts;
use jerichoci::job::JobSpec;
use jerichoci::lanes::{Section, format_duration};
use jerichoci::outcome::RunVerdict;
use jerichoci::record::{JobResult, SelectionRecord};
use jerichoci::select::LaneSelection;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{print_json, selection, write_out};
use crate::cli::{Global, Output, RunArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::view::{Show, summary, talk, watch};

/// What `--output json` prints.
#[derive(Serialize)]
struct RunDocument<'a> {
    schema_version: u32,
    run_id: &'a str,
    dir: String,
    verdict: RunVerdict,
    exit_code: u8,
    lanes: &'a [JobResult],
    selection: &'a SelectionRecord,
    troubles: &'a [String],
}

pub(crate) async fn run(global: &Global, arguments: RunArguments) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    let file = context.lanes()?;
    let section = if arguments.nightly {
        Section::Nightly
    } else {
        Section::Branch
    };
    let (selections, base) =
        selection::for_run(&context, file.lanes(section), section, &arguments)?;
    let jobs = jobs_of(&context, section, &selections)?;
    let selection = SelectionRecord::new(&selections, base);
    context.settle_interrupted_runs().await;
    let wanted = arguments
        .jobs
        .map(usize::from)
        .or(context.engine.operator().defaults.parallel);
    let capacity = HostFacts::look().capacity(wanted);
    if wanted.is_some_and(|wanted| capacity.jobs < wanted) {
        talk::warn(&format!(
            "only {} lanes at once: more guests would not live under this machine's inotify limit",
            capacity.jobs
        ));
        talk::hint("sysctl fs.inotify.max_user_instances=1024");
    }
    let keep_going = match (arguments.fail_fast, arguments.keep_going) {
        (true, _) => Some(false),
        (_, true) => Some(true),
        _ => None,
    };
    let discards_caches = !arguments.trusted && jobs.iter().any(|job| !job.caches.is_empty());
    let request = RunRequest {
        jobs,
        capacity,
        keep_going,
        trust: if arguments.trusted {
            Trust::Trusted
        } else {
            Trust::Untrusted
        },
        allow_untracked: arguments.allow_untracked.clone(),
        selection,
    };
    let began = std::time::Instant::now();
    let summary = drive(&context, request, show(&arguments)).await?;
    let exit = Exit::of_run(&summary);
    match arguments.output.output {
        Output::Human => print_summary(&summary, &format_duration(began.elapsed()))?,
        Output::Json => print_json(&RunDocument {
            schema_version: 1,
            run_id: summary.run_id.as_str(),
            dir: summary.dir.display().to_string(),
            verdict: summary.verdict,
            exit_code: exit.code(),
            lanes: &summary.results,
            selection: &summary.selection,
            troubles: &summary.troubles,
        })?,
    }
    for trouble in &summary.troubles {
        talk::warn(trouble);
    }
    if discards_caches {
        talk::hint("--trusted keeps what lanes leave in their caches for the next run");
    }
    Ok(exit)
}

/// Runs, shows the run, and turns signals into cancelling.
async fn drive(
    context: &Context,
    request: RunRequest,
    show: Show,
) -> Result<RunSummary, CommandError> {
    let (source, cancel) = CancelSource::new("a signal");
    let signals = tokio::spawn(raise_on_signals(source));
    let (events, received) = mpsc::unbounded_channel();
    let watching = tokio::spawn(watch(show, received));
    let ended = context.engine.run(request, events, cancel).await;
    // Every sender of events is gone with the run, so the view comes to its end.
    watching.await.ok();
    signals.abort();
    Ok(ended?)
}

async fn raise_on_signals(source: CancelSource) {
    let streams = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = streams else {
        return talk::warn("signals can't be caught: Ctrl-C leaves what the next command removes");
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        match source.raise() {
            CancelLevel::Clean => talk::note(
                "stopping: commands get 5 s to end, then their instances are removed; again to stop at once",
            ),
            _ => talk::note(
                "stopping at once: only the removal of the instances is waited for, and not long",
            ),
        }
    }
}

fn show(arguments: &RunArguments) -> Show {
    match arguments.output.output {
        Output::Json => Show::Quiet,
        Output::Human if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() => {
            Show::Live {
                lines: arguments.verbose,
            }
        }
        Output::Human => Show::Plain,
    }
}

/// The jobs of the lanes that are selected, in the order of the file.
fn jobs_of(
    context: &Context,
    section: Section,
    selections: &[LaneSelection<'_>],
) -> Result<Vec<JobSpec>, CommandError> {
    let tag = context.engine.store().tag();
    let job_context = context.job_context(&tag)?;
    let (mut jobs, mut problems) = (Vec::new(), Vec::new());
    for selection in selections.iter().filter(|one| one.is_selected()) {
        match JobSpec::new(section, selection.lane, &job_context) {
            Ok(job) => jobs.push(job),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if problems.is_empty() {
        return Ok(jobs);
    }
    let error = CommandError::new(Exit::Usage, problems.join("\n"));
    Err(match &context.config_path {
        Some(path) => error.with_hint(format!(
            "the operator's configuration is {}",
            path.display()
        )),
        None => error
            .with_hint("there is no operator's configuration; --config or PIKACI_CONFIG names one"),
    })
}

fn print_summary(run: &RunSummary, took: &str) -> Result<(), CommandError> {
    write_out(|out| {
        use std::io::Write;
        writeln!(out)?;
        summary::lanes(out, &run.dir, &run.results, &run.selection.not_selected)?;
        summary::verdict(out, run, took)
    })
}
