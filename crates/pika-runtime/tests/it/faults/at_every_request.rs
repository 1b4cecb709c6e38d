//! Each request in turn is lost, its answer is lost or cut, or the daemon dies around it.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use pikahut::fake::{Fault, When};

use super::situation::{Pass, STAGES_AT_ONCE, Situation, Stage};

/// How many requests an undisturbed pass sends.
async fn undisturbed(pass: Pass, situation: Situation) -> usize {
    let stage = Stage::set(situation).await;
    stage.run(pass, &stage.runtimes()).await;
    let sent = stage.fake.requests().len();
    // A destroy of nothing is one look at it.
    let least = match (pass, situation) {
        (Pass::Destroy, Situation::Empty) => 1,
        _ => 2,
    };
    assert!(
        sent >= least,
        "{pass:?} in {situation:?} sent {sent} requests"
    );
    sent
}

/// Strikes at the nth request of a pass, and then does one further pass; says whether there was such a request.
async fn strike(pass: Pass, situation: Situation, nth: usize, fault: Fault, further: Pass) -> bool {
    let stage = Stage::set(situation).await;
    let after = format!("{pass:?} in {situation:?}, {fault:?} at request {nth}");
    stage.fake.faults().inject(When::nth_request(nth), fault);
    stage.run(pass, &stage.runtimes()).await;
    let struck = stage.fake.faults().pending() == 0;
    stage.fake.faults().clear();
    stage.settled().await;
    stage.one_further(further, &after).await;
    struck
}

/// Strikes at every request index of ensure and destroy in every situation.
async fn strike_everywhere(fault: Fault) {
    let mut cases = Vec::new();
    for pass in [Pass::Ensure, Pass::Destroy] {
        for situation in Situation::ALL {
            for nth in 1..=undisturbed(pass, situation).await {
                for further in [Pass::Ensure, Pass::Destroy] {
                    cases.push(strike(pass, situation, nth, fault.clone(), further));
                }
            }
        }
    }
    let struck: Vec<bool> = stream::iter(cases)
        .buffer_unordered(STAGES_AT_ONCE)
        .collect()
        .await;
    let struck = struck.into_iter().filter(|struck| *struck).count();
    // How many requests a situation needs is the runtime's business, and a few depend on timing.
    assert!(struck > 200, "only {struck} requests were struck");
}

const DOWN_FOR: Duration = Duration::from_millis(5);

#[tokio::test]
async fn requests_that_never_arrive() {
    strike_everywhere(Fault::DropRequest).await;
}

#[tokio::test]
async fn answers_that_are_lost() {
    strike_everywhere(Fault::LoseResponse).await;
}

#[tokio::test]
async fn answers_that_break_off() {
    strike_everywhere(Fault::Truncate { bytes: 5 }).await;
}

#[tokio::test]
async fn the_daemon_dies_on_a_request() {
    strike_everywhere(Fault::Crash { down_for: DOWN_FOR }).await;
}

#[tokio::test]
async fn the_daemon_dies_after_a_request() {
    strike_everywhere(Fault::CrashAfter { down_for: DOWN_FOR }).await;
}

#[tokio::test]
async fn the_daemon_says_that_it_is_going_down() {
    let code = 503;
    let message = "Shutting down".to_owned();
    strike_everywhere(Fault::Status { code, message }).await;
}

#[tokio::test]
async fn the_daemon_fails() {
    let code = 500;
    let message = "database is locked".to_owned();
    strike_everywhere(Fault::Status { code, message }).await;
}
