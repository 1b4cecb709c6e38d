//! What a person sees while an operation is waited for: each step on a terminal, nothing elsewhere.

use std::time::{Duration, Instant};

use pika_agent_client::contract::OperationView;
use pika_agent_client::{AgentClient, ClientError};

use crate::exit::CommandError;
use crate::output::{DIM, GOOD, plain};
use crate::progress;

pub(super) async fn wait(
    client: &AgentClient,
    operation_id: &str,
    limit: Duration,
) -> Result<OperationView, CommandError> {
    let bar = progress::spinner();
    let mut step: Option<(String, Instant)> = None;
    let finished = |step: Option<(String, Instant)>| {
        if let Some((name, since)) = step {
            let secs = since.elapsed().as_secs_f64();
            bar.println(format!(
                "{GOOD}done {GOOD:#}  {name}  {DIM}{secs:.1} s{DIM:#}"
            ));
        }
    };
    let ended = client
        .wait(operation_id, limit, |seen| {
            let name = seen.step.as_deref().unwrap_or(seen.state.as_str());
            let name = plain(&format!("{} {name}", seen.kind));
            bar.set_message(name.clone());
            if !seen.state.is_terminal() {
                finished(step.replace((name, Instant::now())));
            }
        })
        .await;
    if ended.is_ok() {
        finished(step);
    }
    bar.finish_and_clear();
    ended.map_err(|error| told(error, operation_id))
}

fn told(error: ClientError, operation_id: &str) -> CommandError {
    let not_over = matches!(error, ClientError::NotOver { .. });
    let error = CommandError::from(error);
    match not_over {
        true => error.with_hint(format!(
            "`pika agent wait {}` waits again",
            plain(operation_id)
        )),
        false => error,
    }
}
