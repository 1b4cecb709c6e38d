//! `pikaci release`

use jerichoci::engine::RunEvent;
use tokio::sync::mpsc;

use crate::cli::{Global, ReleaseArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::view::talk;

pub(crate) async fn release(
    global: &Global,
    arguments: &ReleaseArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    let engine = &context.engine;
    let run = engine.store().find(Some(&arguments.run))?;
    let (events, _unheard) = mpsc::unbounded_channel::<RunEvent>();
    let released = engine
        .release(&run, arguments.lane.as_deref(), &events)
        .await?;
    talk::released(&released);
    Ok(if released.left.is_empty() {
        Exit::Passed
    } else {
        Exit::Infrastructure
    })
}
