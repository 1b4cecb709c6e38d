//! Owns how the guest's runner is called: one exec that waits for the runner, looks at mounts, and becomes it.
//!
//! The runner's path is on the guest's `/run`, which is made anew during the boot: between two calls it may be gone
//! for a moment.

use std::time::Duration;

use pika_cloud::paths::RUNNER_PATH;

use crate::run::ExecEnd;

/// Waits in the guest until the runner is there, then looks at the mounts that must be there, then becomes the runner:
/// one exec instead of several. Nothing of the branch has run in the guest before the first start.
///
/// A mount counts when its file system is another one than its parent's, or is at least a mount of its own (a pool on
/// a plain directory shares its device with the root), and when it can be read.
const WAIT_THEN_RUN: &str = r#"boot=$1 runner=$2 mounts=$3; shift 3
i=0
while [ ! -x "$runner" ]; do
  i=$((i+1)); [ "$i" -gt "$boot" ] && { echo "PIKA-BOOT-DEADLINE $runner" >&2; exit 1; }
  sleep 0.01
done
while [ "$mounts" -gt 0 ]; do
  mount=$1; shift; mounts=$((mounts-1))
  if [ "$(stat -c %d -- "$mount")" = "$(stat -c %d -- "$mount/..")" ] && ! mountpoint -q -- "$mount" || [ ! -r "$mount" ]; then
    echo "PIKA-MOUNT-MISSING $mount" >&2; exit 1
  fi
done
exec "$runner" "$@""#;
/// Turns of the wait above in one second.
const TURNS_PER_SEC: u64 = 80;
/// How long a runner that was there before may be gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);
const BOOT_DEADLINE_PREFIX: &str = "PIKA-BOOT-DEADLINE ";
const MOUNT_MISSING_PREFIX: &str = "PIKA-MOUNT-MISSING ";

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
    command_at_boot(GONE_LIMIT, &[], arguments)
}

/// A call of the runner in a guest that may still boot, for at most `boot`.
pub(crate) fn command_at_boot(
    boot: Duration,
    required_mounts: &[String],
    arguments: &[&str],
) -> Vec<String> {
    let turns = (boot.as_secs().max(1) * TURNS_PER_SEC).to_string();
    let count = required_mounts.len().to_string();
    let head = [
        "/bin/sh",
        "-c",
        WAIT_THEN_RUN,
        "pika",
        &turns,
        RUNNER_PATH,
        &count,
    ];
    head.into_iter()
        .map(str::to_owned)
        .chain(required_mounts.iter().cloned())
        .chain(arguments.iter().map(|argument| (*argument).to_owned()))
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
    let mount = last.strip_prefix(MOUNT_MISSING_PREFIX)?;
    Some(Preamble::MountMissing(
        mount
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect(),
    ))
}
