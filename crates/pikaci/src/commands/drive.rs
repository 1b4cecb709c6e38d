//! What every command does that drives a run: it shows the run, turns signals into cancelling, and tells the end.

use std::io::IsTerminal;

use jerichoci::engine::{Cancel, CancelLevel, CancelSource, EngineError, RunEvent, RunSummary};
use jerichoci::record::RunStore;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedSender};

use crate::cli::{ReportOutput, ViewArguments};
use crate::exit::{CommandError, Exit};
use crate::report::{self, RunEnd};
use crate::view::{Show, talk, watch};

/// Drives a run to its end, shows it, and tells what it came to.
pub(super) async fn to_the_end<R>(
    store: &RunStore,
    view: &ViewArguments,
    begin: impl FnOnce(UnboundedSender<RunEvent>, Cancel) -> R,
) -> Result<Exit, CommandError>
where
    R: Future<Output = Result<RunSummary, EngineError>>,
{
    let summary = watched(show(view), begin).await?;
    let exit = Exit::of_run(&summary);
    let run = store.find(Some(summary.run_id.as_str()))?;
    let end = RunEnd {
        exit_code: exit.code(),
        troubles: &summary.troubles,
    };
    let mut details = run.details()?;
    // What a full disk did not take is known all the same.
    details.record.verdict = Some(summary.verdict);
    for lane in &mut details.lanes {
        let ended = (summary.results.iter()).find(|result| result.lane == lane.lane);
        lane.result = ended.cloned().or(lane.result.take());
    }
    report::write_ended(view.output, &details, end)?;
    for trouble in &summary.troubles {
        talk::warn(trouble);
    }
    Ok(exit)
}

/// Drives a run, shows it, and turns signals into cancelling.
async fn watched<R>(
    show: Show,
    begin: impl FnOnce(UnboundedSender<RunEvent>, Cancel) -> R,
) -> Result<RunSummary, CommandError>
where
    R: Future<Output = Result<RunSummary, EngineError>>,
{
    let (source, cancel) = CancelSource::new("a signal");
    let signals = tokio::spawn(raise_on_signals(source));
    let (events, received) = mpsc::unbounded_channel();
    let watching = tokio::spawn(watch(show, received));
    let ended = begin(events, cancel).await;
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
        return talk::warn("signals can't be caught: Ctrl-C leaves what `pikaci resume` takes up");
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

fn show(view: &ViewArguments) -> Show {
    let lines = view.verbose;
    match view.output {
        ReportOutput::Jsonl => Show::Jsonl { lines },
        ReportOutput::Json | ReportOutput::Markdown | ReportOutput::Junit => Show::Quiet,
        ReportOutput::Human
            if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() =>
        {
            Show::Live { lines }
        }
        ReportOutput::Human => Show::Plain,
    }
}
