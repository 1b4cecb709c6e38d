//! The daemon is killed in the middle of restores: asked for again, each ends as it should, and nothing is lost.

#![expect(
    clippy::print_stdout,
    reason = "what a kill at each moment left is for the reader of a failure"
)]

use pika_runtime::{SnapshotExpiry, VolumeError, VolumeRestored};
use pikahut::stack::told;

use super::stage::{Agent, AgentStage, PROJECT};

/// Places in a restore at which the daemon dies.
const MOMENTS: u32 = 8;

async fn restore(
    stage: &AgentStage,
    agent: &Agent,
    token: &str,
) -> Result<VolumeRestored, VolumeError> {
    stage
        .runtimes
        .restore_volume(PROJECT, &stage.pool, &agent.volume, "s1", token)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_in_the_middle_of_a_restore_loses_nothing() {
    let stage = AgentStage::private("kill-restore").await;
    let agent = stage.running("agent").await;
    stage
        .sh(
            &agent,
            "cd /mnt/pika-state; for f in $(seq 500); do echo $f >$f; done",
        )
        .await;
    let never = SnapshotExpiry::Never;
    let taken = stage
        .runtimes
        .snapshot_volume(PROJECT, &stage.pool, &agent.volume, "s1", &never);
    taken.await.unwrap();
    stage.write(&agent, "since").await;
    stage.stop(&agent).await;
    let begun = std::time::Instant::now();
    restore(&stage, &agent, "whole").await.unwrap();
    let whole = begun.elapsed();
    for number in 0..MOMENTS {
        let token = format!("op-{number}");
        let kill = async {
            tokio::time::sleep(whole * number / MOMENTS).await;
            tokio::task::block_in_place(|| {
                assert!(stage.daemon().kill9_blocking());
                stage.daemon().restart_blocking().unwrap();
            });
        };
        let (first, ()) = tokio::join!(restore(&stage, &agent, &token), kill);
        let told = |end: &Result<VolumeRestored, VolumeError>| match end {
            Ok(end) => format!("{end:?}"),
            Err(error) => told(error),
        };
        let second = restore(&stage, &agent, &token).await;
        println!(
            "killed {number}/{MOMENTS} of {whole:?} into a restore: {}, then {}",
            told(&first),
            told(&second)
        );
        second.unwrap();
        stage.runtimes.start(&agent.id).await.unwrap();
        let count = "cd /mnt/pika-state; n=0; for f in *; do [ \"$(cat $f)\" = $f ] && n=$((n+1)); done; echo $n";
        assert_eq!(stage.sh(&agent, count).await, "500\n", "{number}");
        stage.stop(&agent).await;
    }
    stage.remove(&agent).await;
    stage.finish().await;
}
