//! `pikaci run`

use std::io::IsTerminal;

use jerichoci::cache::Trust;
use jerichoci::engine::{CancelLevel, CancelSource, RunRequest, RunSummary};
use jerichoci::host::HostFacts;
use jerichoci::job::JobSpec;
use jerichoci::lanes::Section;
use jerichoci::record::{RunId, SelectionRecord};
use jerichoci::select::LaneSelection;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::selection;
use crate::cli::{Global, HowArguments, ReportOutput, RunArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::report::{self, RunEnd};
use crate::view::{Show, talk, watch};

/// What is to run, and why.
pub(super) struct Chosen {
    pub(super) jobs: Vec<JobSpec>,
    pub(super) selection: SelectionRecord,
    pub(super) rerun_of: Option<RunId>,
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
    let chosen = Chosen {
        jobs: jobs_of(&context, section, &selections)?,
        selection: SelectionRecord::new(&selections, base),
        rerun_of: None,
    };
    run_chosen(&context, chosen, &arguments.how).await
}

/// Runs what was chosen and shows what it came to.
pub(super) async fn run_chosen(
    context: &Context,
    chosen: Chosen,
    how: &HowArguments,
) -> Result<Exit, CommandError> {
    context.settle_interrupted_runs().await;
    let wanted = how
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
    let keep_going = match (how.fail_fast, how.keep_going) {
        (true, _) => Some(false),
        (_, true) => Some(true),
        _ => None,
    };
    let discards_caches = !how.trusted && chosen.jobs.iter().any(|job| !job.caches.is_empty());
    let request = RunRequest {
        jobs: chosen.jobs,
        capacity,
        keep_going,
        trust: if how.trusted {
            Trust::Trusted
        } else {
            Trust::Untrusted
        },
        allow_untracked: how.allow_untracked.clone(),
        selection: chosen.selection,
        rerun_of: chosen.rerun_of,
    };
    let summary = drive(context, request, show(how)).await?;
    let exit = Exit::of_run(&summary);
    let run = context.engine.store().find(Some(summary.run_id.as_str()))?;
    let end = RunEnd {
        exit_code: exit.code(),
        troubles: &summary.troubles,
    };
    report::write_ended(how.output, &run.details()?, end)?;
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

fn show(how: &HowArguments) -> Show {
    match how.output {
        ReportOutput::Jsonl => Show::Jsonl { lines: how.verbose },
        ReportOutput::Json | ReportOutput::Markdown | ReportOutput::Junit => Show::Quiet,
        ReportOutput::Human
            if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() =>
        {
            Show::Live { lines: how.verbose }
        }
        ReportOutput::Human => Show::Plain,
    }
}

/// The jobs of the lanes that are selected, in the order of the file.
pub(super) fn jobs_of(
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
