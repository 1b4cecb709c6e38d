//! A real daemon that ends, is killed and comes back.

use std::time::Duration;

use pika_incus::{ErrorKind, EventItem, EventKind, ExecRequest, InstanceStatus, WaitError};
use pikahut::stack::TestIncus;

use crate::conformance::events::{action_on, next_item};
use crate::support::{self, LIMIT};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_breaks_waits_and_forgets_operations_and_events_come_back() {
    let s = support::on(TestIncus::private("kill").await).await;
    let name = s.instance("a", true).await;
    let mut events = s
        .client
        .events(&[EventKind::Lifecycle])
        .await
        .expect("events");
    let mut session = s
        .client
        .exec(&name, &ExecRequest::new(["sleep", "1000"]))
        .await
        .expect("exec");
    let id = session.operation().clone();
    let client = s.client.clone();
    let waiting = tokio::spawn({
        let id = id.clone();
        async move { client.wait(&id, LIMIT).await }
    });
    let early = s
        .client
        .wait(&id, Duration::from_secs(1))
        .await
        .expect_err("it runs");
    assert!(matches!(early, WaitError::TimedOut { .. }), "{early}");
    assert!(
        tokio::task::block_in_place(|| s.incus().daemon().kill9_blocking()),
        "the daemon is killed"
    );

    let error = waiting
        .await
        .expect("the task ends")
        .expect_err("the daemon is gone");
    assert!(
        matches!(error, WaitError::Client { .. }) && error.outcome_unknown(),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(
        session
            .wait(LIMIT)
            .await
            .expect_err("the daemon is gone")
            .kind(),
        ErrorKind::Unreachable
    );
    let broken = loop {
        match next_item(&mut events).await {
            EventItem::Event(_) => {}
            other => break other,
        }
    };
    assert!(
        matches!(broken, EventItem::Disconnected { .. }),
        "{broken:?}"
    );
    let down = s.client.server().await.expect_err("nobody listens");
    assert_eq!(down.kind(), ErrorKind::Unreachable, "{down:?}");
    assert!(down.connect_problem().is_some() && !down.outcome_unknown());

    tokio::task::block_in_place(|| s.incus().daemon().restart_blocking())
        .expect("the daemon starts again");
    assert!(matches!(
        next_item(&mut events).await,
        EventItem::Reconnected
    ));
    let error = s.client.wait(&id, LIMIT).await.expect_err("forgotten");
    assert!(matches!(error, WaitError::Gone { .. }), "{error:?}");
    assert_eq!(
        s.client.instance(&name).await.expect("get").value.status,
        InstanceStatus::Running
    );
    s.remove_instance(&name).await;
    while action_on(&mut events, &format!("/1.0/instances/{name}")).await != "instance-deleted" {}
    s.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_ends_waits_for_execs_and_refuses_new_work() {
    let s = support::on(TestIncus::private("term").await).await;
    let name = s.instance("a", true).await;
    let mut session = s
        .client
        .exec(&name, &ExecRequest::new(["sleep", "1000"]))
        .await
        .expect("exec");
    let asking = tokio::spawn({
        let (client, body) = (s.client.clone(), s.body(&s.name("never"), false));
        async move {
            let refused = || async {
                match client.create_instance(&body).await {
                    Err(error) if error.kind() == ErrorKind::ShuttingDown => Some(()),
                    _ => None,
                }
            };
            let seen = pikahut::wait::until_async(LIMIT, refused).await;
            session
                .control
                .signal(9)
                .await
                .expect("the exec goes on meanwhile");
            (seen, session.wait(LIMIT).await)
        }
    });
    let ended = tokio::task::block_in_place(|| s.incus().daemon().stop_blocking());
    let (seen, exit) = asking.await.expect("the task ends");
    assert!(seen.is_some(), "new work was never refused");
    assert_eq!(exit.expect("the exec ended properly").code, 137);
    assert!(ended, "the daemon ended after its exec");
    tokio::task::block_in_place(|| s.incus().daemon().restart_blocking())
        .expect("the daemon starts again");
    s.remove_instance(&name).await;
    s.remove_instance(&s.name("never")).await;
    s.finish().await;
}
