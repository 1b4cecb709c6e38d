//! `pikaci resume`

use super::drive;
use crate::cli::{Global, ResumeArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};

pub(crate) async fn resume(
    global: &Global,
    arguments: &ResumeArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    let engine = &context.engine;
    let run = match &arguments.run {
        Some(wanted) => engine.store().find(Some(wanted))?,
        None => engine.newest_interrupted()?,
    };
    drive::to_the_end(engine.store(), &arguments.view, |events, cancel| {
        engine.resume(run, events, cancel)
    })
    .await
}
