//! `pikaci run`

use jerichoci::cache::Trust;
use jerichoci::engine::RunRequest;
use jerichoci::host::HostFacts;
use jerichoci::job::JobSpec;
use jerichoci::lanes::Section;
use jerichoci::record::{RunId, SelectionRecord};
use jerichoci::select::LaneSelection;

use super::{drive, selection};
use crate::cli::{Global, HowArguments, RunArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::view::talk;

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
        keep_failed: how.keep_failed,
        selection: chosen.selection,
        rerun_of: chosen.rerun_of,
    };
    let engine = &context.engine;
    let exit = drive::to_the_end(engine.store(), &how.view, |events, cancel| {
        engine.run(request, events, cancel)
    })
    .await?;
    if discards_caches {
        talk::hint("--trusted keeps what lanes leave in their caches for the next run");
    }
    Ok(exit)
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
