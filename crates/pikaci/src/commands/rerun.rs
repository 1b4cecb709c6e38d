//! `pikaci rerun`

use jerichoci::record::{RunDetails, RunState, SelectionRecord};
use jerichoci::select::{add_needs, select_named};

use super::run::{Chosen, jobs_of, run_chosen};
use crate::cli::{Global, RerunArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::view::{summary, talk};

pub(crate) async fn rerun(
    global: &Global,
    arguments: RerunArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    let file = context.lanes()?;
    // What is called running after this has a process that drives it.
    context.settle_interrupted_runs().await;
    let details = context
        .engine
        .store()
        .find(arguments.run.as_deref())?
        .details()?;
    let record = &details.record;
    if record.state == RunState::Running {
        let message = format!("run {} is still in progress", record.run_id);
        return Err(CommandError::new(Exit::Usage, message)
            .with_hint("`pikaci logs --follow` shows it; try again when it is over"));
    }
    let names = lanes_of(&details, arguments.failed);
    if names.is_empty() {
        let message = format!(
            "every lane of run {} passed: there is nothing to run again",
            record.run_id
        );
        return Err(CommandError::new(Exit::NothingRan, message)
            .with_hint("without --failed, all of its lanes run again"));
    }
    let lanes = file.lanes(record.section);
    let mut selections = select_named(lanes, &names).map_err(|gone| {
        let message = format!(
            "lane `{gone}` of run {} is not in the lanes file any more",
            record.run_id
        );
        CommandError::new(Exit::Usage, message)
            .with_hint("`pikaci run` takes the lanes that there are; `pikaci lanes` lists them")
    })?;
    add_needs(&mut selections);
    talk::note(&format!(
        "{} of run {} again, on the tree as it is now",
        summary::lane_count(names.len()),
        record.run_id
    ));
    let chosen = Chosen {
        jobs: jobs_of(&context, record.section, &selections)?,
        selection: SelectionRecord::new(&selections, None),
        rerun_of: Some(record.run_id.clone()),
    };
    run_chosen(&context, chosen, &arguments.how).await
}

/// The run's lanes, or those of them that did not pass: what was skipped or never ended is among them.
fn lanes_of(details: &RunDetails, only_failed: bool) -> Vec<String> {
    details
        .lanes
        .iter()
        .filter(|lane| !only_failed || !lane.is_passed())
        .map(|lane| lane.lane.clone())
        .collect()
}
