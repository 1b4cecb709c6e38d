//! Owns the wait for a guest that is far enough for devices below its `/run`.

use std::time::Duration;

use pika_incus::{CaptureLimits, Client, ExecRequest};
use tokio::time::Instant;

use crate::text::chain;

/// Waits in the guest, so that the host doesn't ask again and again. Counts in turns of about 20 ms.
const WAIT_FOR_RUN: &str = r#"i=0
while [ "$(stat -c %d /run)" = "$(stat -c %d /)" ]; do
  i=$((i+1)); [ "$i" -gt "$1" ] && { echo "/run is not a file system of its own" >&2; exit 1; }
  sleep 0.02
done"#;
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until `/run` in the guest is its own tmpfs: what is attached below it earlier is hidden by it.
pub(super) async fn await_run_tmpfs(
    client: &Client,
    instance: &str,
    limit: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let turns = (left.as_millis() / 20).to_string();
        let request = ExecRequest::new(["/bin/sh", "-c", WAIT_FOR_RUN, "pika", &turns]);
        let problem = match client
            .exec_capture(instance, &request, CaptureLimits::default(), left)
            .await
        {
            Ok(output) if output.exit_code == 0 => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => chain(&error),
        };
        if Instant::now() + PAUSE >= deadline {
            return Err(problem);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
