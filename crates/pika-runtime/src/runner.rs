//! Owns how the guest's runner is called: one exec, directly in a guest that just started, and through a shell that waits
//! for the runner where it was there before.
//!
//! The runner's path is on the guest's `/run`, which is made anew during the boot: between two calls it may be gone
//! for a moment.

use std::time::Duration;

use pika_cloud::paths::RUNNER_PATH;
use pika_cloud::record::MOUNT_MISSING_PREFIX;

use crate::run::ExecEnd;

/// Waits in the guest until the runner is there, then becomes it: one exec instead of several, and no process of the
/// shell's own where the runner is there already.
const WAIT_THEN_RUN: &str = r#"turns=$1 runner=$2; shift 2
i=0
while [ ! -x "$runner" ]; do
  i=$((i+1)); [ "$i" -gt "$turns" ] && { echo "$runner is not there" >&2; exit 1; }
  sleep 0.01
done
exec "$runner" "$@""#;
/// Turns of the wait above in one second.
const TURNS_PER_SEC: u64 = 80;
/// How long a runner that was there before may be gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// A call of the runner in a guest that is up.
pub(crate) fn command(arguments: &[&str]) -> Vec<String> {
    let turns = (GONE_LIMIT.as_secs() * TURNS_PER_SEC).to_string();
    let head = ["/bin/sh", "-c", WAIT_THEN_RUN, "pika", &turns, RUNNER_PATH];
    words(&head, arguments)
}

/// A call of the runner and nothing else: a shell in between costs a guest that boots some 5 ms. Where the runner is not
/// there yet, [`is_missing`] tells so by the end.
pub(crate) fn bare_command(arguments: &[&str]) -> Vec<String> {
    words(&[RUNNER_PATH], arguments)
}

fn words(head: &[&str], arguments: &[&str]) -> Vec<String> {
    head.iter()
        .chain(arguments)
        .map(|word| (*word).to_owned())
        .collect()
}

/// Whether a bare call found no runner: Incus could execute nothing. The runner's own statuses are below 5.
pub(crate) fn is_missing(end: &ExecEnd) -> bool {
    matches!(end, ExecEnd::Exited(126 | 127))
}

/// The mount that the runner missed, if that kept it from starting. Nothing of a branch has run before the first start,
/// and afterwards this can only end in `infrastructure`.
pub(crate) fn missing_mount(end: &ExecEnd, stderr: &[u8]) -> Option<String> {
    if *end != ExecEnd::Exited(1) {
        return None;
    }
    let text = String::from_utf8_lossy(stderr);
    let (_, mount) = text.lines().last()?.split_once(MOUNT_MISSING_PREFIX)?;
    let shown = mount.chars().filter(|c| !c.is_control());
    Some(shown.take(300).collect())
}
