//! Our own process dies before and after each step; and the daemon dies after each step of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use pika_runtime::{destroy_points, ensure_points};
use pikahut::fake::{Fault, STEPS, When};

use super::situation::{AbandonAt, Pass, STAGES_AT_ONCE, Situation, Stage};

/// Dies at every point that a pass reaches in every situation; returns the names of the points it died at.
async fn die_at_every_point(pass: Pass) -> BTreeSet<&'static str> {
    let mut died_at = BTreeSet::new();
    for situation in Situation::ALL {
        for nth in 0.. {
            let mut last = None;
            for further in [Pass::Ensure, Pass::Destroy] {
                let stage = Stage::set(situation).await;
                let hook = AbandonAt::nth(nth);
                stage
                    .run(pass, &stage.runtimes().with_hook(hook.clone()))
                    .await;
                last = hook.reached().get(nth).copied();
                let Some((point, moment)) = last else { break };
                died_at.insert(point.name);
                let after = format!("{situation:?}, died {moment:?} {point}");
                stage.one_further(further, &after).await;
            }
            if last.is_none() {
                break;
            }
        }
    }
    died_at
}

#[tokio::test]
async fn our_process_dies_at_every_step_of_ensure() {
    let died_at = die_at_every_point(Pass::Ensure).await;
    // Removing debris is a destroy within the ensure, so some of its steps are there too.
    let all: BTreeSet<&str> = ensure_points().iter().map(|point| point.name).collect();
    assert!(
        died_at.is_superset(&all),
        "some step was never reached: {died_at:?}"
    );
}

#[tokio::test]
async fn our_process_dies_at_every_step_of_destroy() {
    let died_at = die_at_every_point(Pass::Destroy).await;
    let all: BTreeSet<&str> = destroy_points().iter().map(|point| point.name).collect();
    assert_eq!(died_at, all, "some step was never reached");
}

/// Whether the pass made the step, after which the daemon died.
async fn daemon_dies(pass: Pass, situation: Situation, step: &'static str, further: Pass) -> bool {
    let stage = Stage::set(situation).await;
    let crash = Fault::Crash {
        down_for: Duration::from_millis(5),
    };
    stage.fake.faults().inject(When::step(step), crash);
    stage.run(pass, &stage.runtimes()).await;
    let died = stage.fake.faults().pending() == 0;
    stage.fake.faults().clear();
    stage.settled().await;
    let after = format!("{pass:?} in {situation:?}, the daemon died after {step}");
    stage.one_further(further, &after).await;
    died
}

#[tokio::test]
async fn the_daemon_dies_after_every_step_of_its_own() {
    let mut cases = Vec::new();
    for pass in [Pass::Ensure, Pass::Destroy] {
        for situation in Situation::ALL {
            for step in STEPS {
                for further in [Pass::Ensure, Pass::Destroy] {
                    cases.push(async move {
                        daemon_dies(pass, situation, step, further)
                            .await
                            .then_some(step)
                    });
                }
            }
        }
    }
    let died_at: BTreeSet<&str> = stream::iter(cases)
        .buffer_unordered(STAGES_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let expected = [
        "create.record",
        "create.root",
        "delete.record",
        "delete.root",
        "start.boot",
        "stop.halt",
        "stop.record",
        "unfreeze",
        "update",
    ];
    assert_eq!(
        died_at,
        BTreeSet::from(expected),
        "other steps were made than expected"
    );
}
