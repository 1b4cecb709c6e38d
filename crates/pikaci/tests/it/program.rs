//! The program as a child that goes on beside a test: started, signalled, waited for.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::bench_tree::{Ended, Tree};

/// Longest time that anything here is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

pub(crate) fn start(tree: &Tree, arguments: &[&str]) -> Child {
    Command::from(tree.command(arguments))
        .kill_on_drop(true)
        .spawn()
        .expect("starts")
}

pub(crate) fn send(child: &Child, signal: Signal) {
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw)
        .expect("it runs");
    kill_process(pid, signal).expect("signalled");
}

/// Kills it with -9 and waits until it is gone.
pub(crate) async fn kill(mut child: Child) {
    send(&child, Signal::KILL);
    child.wait().await.expect("waited for");
}

/// Waits until the lane's log holds `text`.
pub(crate) async fn until_logged(tree: &Tree, lane: &str, text: &str) {
    let path = || Some(log_path(tree.try_newest_run()?, lane));
    let seen = pikahut::wait::until_async(LIMIT, || async {
        let log = std::fs::read(path()?).ok()?;
        String::from_utf8_lossy(&log).contains(text).then_some(())
    });
    seen.await
        .unwrap_or_else(|| panic!("the lane {lane} did not say {text}"));
}

fn log_path(run: PathBuf, lane: &str) -> PathBuf {
    run.join("jobs").join(lane).join("log")
}

pub(crate) async fn ended(child: Child) -> Ended {
    Ended::of(
        tokio::time::timeout(LIMIT, child.wait_with_output())
            .await
            .expect("ends in time")
            .expect("waited for"),
    )
}
