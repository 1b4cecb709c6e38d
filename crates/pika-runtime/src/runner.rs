//! Owns how the guest's runner is called: one exec that waits for the runner and becomes it.
//!
//! The runner's path is on the guest's `/run`, which is made anew during the boot: between two calls it may be gone
//! for a moment.

use std::time::Duration;

use pika_cloud::paths::RUNNER_PATH;
use pika_cloud::record::MOUNT_MISSING_PREFIX;

use crate::run::ExecEnd;

/// Waits in the guest until the runner is there, then becomes it: one exec instead of several, and no process of the
/// shell's own where the runner is there already. Nothing of the branch has run in the guest before the first start.
const WAIT_THEN_RUN: &str = r#"boot=$1 runner=$2; shift 2
i=0
while [ ! -x "$runner" ]; do
  i=$((i+1)); [ "$i" -gt "$boot" ] && { echo "PIKA-BOOT-DEADLINE $runner" >&2; exit 1; }
  sleep 0.01
done
exec "$runner" "$@""#;
/// Turns of the wait above in one second.
const TURNS_PER_SEC: u64 = 80;
/// How long a runner that was there before may be gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);
const BOOT_DEADLINE_PREFIX: &str = "PIKA-BOOT-DEADLINE ";

/// What kept the runner from being called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Preamble {
    /// It was not there in time.
    BootDeadline,
    /// This mount is not there.
    MountMissing(String),
}

/// A call of the runner in a guest that is up.
pub(crate) fn command(arguments: &[&str]) -> Vec<String> {
    command_at_boot(GONE_LIMIT, arguments)
}

/// A call of the runner in a guest that may still boot, for at most `boot`.
pub(crate) fn command_at_boot(boot: Duration, arguments: &[&str]) -> Vec<String> {
    let turns = (boot.as_secs().max(1) * TURNS_PER_SEC).to_string();
    let head = ["/bin/sh", "-c", WAIT_THEN_RUN, "pika", &turns, RUNNER_PATH];
    head.iter()
        .chain(arguments)
        .map(|word| (*word).to_owned())
        .collect()
}

/// What kept the runner from being called, if anything did. Nothing of a branch has run before the first start, and
/// afterwards this can only end in `infrastructure`.
pub(crate) fn preamble_problem(end: &ExecEnd, stderr: &[u8]) -> Option<Preamble> {
    if *end != ExecEnd::Exited(1) {
        return None;
    }
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().last()?;
    if last.starts_with(BOOT_DEADLINE_PREFIX) {
        return Some(Preamble::BootDeadline);
    }
    let (_, mount) = last.split_once(MOUNT_MISSING_PREFIX)?;
    Some(Preamble::MountMissing(
        mount
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect(),
    ))
}
