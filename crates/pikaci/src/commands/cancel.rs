//! `pikaci cancel`

use std::time::Duration;

use jerichoci::engine::{CancelLevel, Cancelled, RunEvent};
use jerichoci::outcome::RunVerdict;
use tokio::sync::mpsc;

use crate::cli::{CancelArguments, Global};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::talk;

/// How long a process that was asked to stop is waited for: past a start, the grace of its commands and removals.
const STOP_LIMIT: Duration = Duration::from_secs(600);

pub(crate) async fn cancel(
    global: &Global,
    arguments: &CancelArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    let engine = &context.engine;
    let run = match &arguments.run {
        Some(wanted) => engine.store().find(Some(wanted))?,
        None => engine.newest_open()?,
    };
    let level = if arguments.now {
        CancelLevel::AtOnce
    } else {
        CancelLevel::Clean
    };
    let (events, _unheard) = mpsc::unbounded_channel::<RunEvent>();
    match engine.cancel_run(&run, level, &events).await? {
        Cancelled::Asked { pid } => {
            talk::note(&format!("run {}: process {pid} was asked to stop", run.id));
            let stopped = tokio::time::timeout(STOP_LIMIT, engine.until_undriven(&run)).await;
            let Ok(stopped) = stopped else {
                let message = format!(
                    "run {}: process {pid} was asked to stop and has not within {} min",
                    run.id,
                    STOP_LIMIT.as_secs() / 60
                );
                let remedy = format!(
                    "`pikaci cancel --now {0}` waits for no command; if it hangs, `kill -9 {pid}`, then `pikaci cancel {0}`",
                    run.id
                );
                return Err(CommandError::new(Exit::Infrastructure, message).with_hint(remedy));
            };
            match stopped? {
                Some(RunVerdict::Cancelled) => {
                    talk::note(&format!("run {} is cancelled", run.id));
                    Ok(Exit::Passed)
                }
                Some(verdict) => {
                    let (_, word) = style::of_verdict(verdict);
                    let message = format!("run {} came to its own end first: {word}", run.id);
                    Err(CommandError::new(Exit::Usage, message))
                }
                None => {
                    let message = format!("run {}: its process died before it had stopped", run.id);
                    let again = format!("`pikaci cancel {}` removes what it left", run.id);
                    Err(CommandError::new(Exit::Infrastructure, message).with_hint(again))
                }
            }
        }
        Cancelled::Closed(closed) => {
            talk::closed(&closed);
            Ok(if closed.left.is_empty() {
                Exit::Passed
            } else {
                Exit::Infrastructure
            })
        }
    }
}
