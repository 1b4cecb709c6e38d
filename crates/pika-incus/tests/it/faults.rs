//! Scripted faults of the fake daemon.

use std::time::Duration;

use pika_incus::{ErrorKind, EventItem, EventKind, ExecRequest, WaitError};
use pikahut::fake::{Fault, When};

use crate::conformance::events::next_item;
use crate::support::{self, LIMIT};

#[tokio::test]
async fn a_lost_answer_leaves_the_outcome_unknown_and_the_object_tells() {
    let s = support::fake().await;
    s.fake()
        .faults()
        .inject(When::request("POST", "/1.0/instances"), Fault::LoseResponse);
    let name = s.name("a");
    let error = s
        .client
        .create_instance(&s.body(&name, false))
        .await
        .expect_err("the answer is lost");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(error.outcome_unknown());
    let looking = || async { s.client.instance(&name).await.ok() };
    pikahut::wait::until_async(LIMIT, looking)
        .await
        .expect("the instance was made all the same");
    let posts = s
        .fake()
        .requests()
        .into_iter()
        .filter(|request| request.method == "POST")
        .count();
    assert_eq!(posts, 1, "the client never sends a request twice");
    s.remove_instance(&name).await;
    s.finish().await;
}

#[tokio::test]
async fn a_crash_during_a_wait_is_no_failure_of_the_operation() {
    let s = support::fake().await;
    let name = s.instance("a", true).await;
    let mut session = s
        .client
        .exec(&name, &ExecRequest::new(["sleep", "1000"]))
        .await
        .expect("exec");
    let id = session.operation().clone();
    let (waited, ()) = tokio::join!(s.client.wait(&id, LIMIT), async {
        let listed = || async { s.client.operation(&id).await.ok() };
        pikahut::wait::until_async(LIMIT, listed)
            .await
            .expect("it runs");
        s.fake().crash();
    });
    let error = waited.expect_err("the daemon is gone");
    assert!(
        matches!(error, WaitError::Client { .. }) && error.kind() == ErrorKind::Unreachable,
        "{error:?}"
    );
    assert!(error.outcome_unknown());
    assert_eq!(
        session.wait(LIMIT).await.expect_err("gone").kind(),
        ErrorKind::Unreachable
    );
    s.fake().restart().expect("the fake starts again");
    let error = s.client.wait(&id, LIMIT).await.expect_err("forgotten");
    assert!(matches!(error, WaitError::Gone { .. }), "{error:?}");
    s.remove_instance(&name).await;
    s.finish().await;
}

#[tokio::test]
async fn an_event_stream_says_that_it_was_away() {
    let s = support::fake().await;
    let mut events = s
        .client
        .events(&[EventKind::Lifecycle])
        .await
        .expect("listen");
    s.fake().crash();
    assert!(matches!(
        next_item(&mut events).await,
        EventItem::Disconnected { .. }
    ));
    s.fake().restart().expect("the fake starts again");
    assert!(matches!(
        next_item(&mut events).await,
        EventItem::Reconnected
    ));
    let name = s.instance("a", false).await;
    assert!(
        matches!(next_item(&mut events).await, EventItem::Event(event) if event.lifecycle().is_some_and(|detail| detail.name == name))
    );
    s.remove_instance(&name).await;
    s.finish().await;
}

#[tokio::test]
async fn a_daemon_that_goes_down_says_so() {
    let s = support::fake().await;
    s.fake().set_shutting_down(true);
    let error = s
        .client
        .create_instance(&s.body("x", false))
        .await
        .expect_err("no new work");
    assert_eq!(error.kind(), ErrorKind::ShuttingDown, "{error:?}");
    s.fake().set_shutting_down(false);
    s.finish().await;
}

#[tokio::test]
async fn an_operation_that_was_forgotten_is_gone() {
    let s = support::fake().await;
    s.fake().set_operation_lifetime(Duration::ZERO);
    let name = s.name("a");
    let made = s
        .client
        .create_instance(&s.body(&name, false))
        .await
        .expect("create");
    let ended = || async { s.client.operation(made.id()).await.err() };
    pikahut::wait::until_async(LIMIT, ended)
        .await
        .expect("it is forgotten");
    let error = made.wait(LIMIT).await.expect_err("forgotten");
    assert!(matches!(error, WaitError::Gone { .. }), "{error:?}");
    s.client.instance(&name).await.expect("it was made");
    s.fake().set_operation_lifetime(Duration::from_secs(5));
    s.remove_instance(&name).await;
    s.finish().await;
}
