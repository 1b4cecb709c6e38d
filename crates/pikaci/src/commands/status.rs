//! `pikaci status`

use crate::cli::{Global, StatusArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::report;

pub(crate) async fn status(
    global: &Global,
    arguments: &StatusArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    context.settle_interrupted_runs().await;
    let run = context.engine.store().find(arguments.run.as_deref())?;
    report::write_recorded(arguments.output, &run.details()?)?;
    Ok(Exit::Passed)
}
