//! The stack for tests: a shared daemon, names and owners, and the look for what a test left.

use std::time::Duration;

use pika_incus::{CaptureLimits, ExecRequest, StateChange, VolumeContent};
use pikahut::daemon;
use pikahut::stack::{TestIncus, left_of};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn instance(incus: &TestIncus, name: &str, image: &str) -> Value {
    json!({
        "name": name, "type": "container", "start": true,
        "source": {"type": "image", "alias": image},
        "config": {"user.anything.owner": incus.owner()},
    })
}

async fn make(incus: &TestIncus, name: &str) {
    let image = incus.tiny_image().await;
    let body = instance(incus, name, &image);
    let handle = incus.client().create_instance(&body).await.unwrap();
    handle.wait(LIMIT).await.unwrap();
}

async fn remove(incus: &TestIncus, name: &str) {
    let client = incus.client();
    let stop = client
        .set_instance_state(name, &StateChange::force_stop())
        .await
        .unwrap();
    stop.wait(LIMIT).await.unwrap();
    client
        .delete_instance(name)
        .await
        .unwrap()
        .wait(LIMIT)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_test_leaves_is_named_and_what_another_leaves_is_not() {
    let incus = TestIncus::shared().await;
    let other = TestIncus::shared().await;
    assert_eq!(incus.dir(), other.dir());
    let name = incus.name("left");
    make(&incus, &name).await;
    let volume = json!({"user.anything.owner": incus.owner()});
    let volume = serde_json::from_value(volume).unwrap();
    incus
        .client()
        .create_volume(
            "default",
            "pikahut-left",
            VolumeContent::Filesystem,
            &volume,
        )
        .await
        .unwrap();

    let owner = incus.owner();
    let mut left = left_of(incus.client(), &owner, "no-such-prefix")
        .await
        .unwrap();
    left.sort();
    let expected = [
        format!("instance {name} (running)"),
        "volume pikahut-left in pool default".to_owned(),
    ];
    assert_eq!(left, expected);
    other.assert_nothing_left().await;
    let failure = tokio::spawn(async move {
        incus.assert_nothing_left().await;
        incus
    });
    // It is told after the time that a removal may take; the removal below is not under way yet.
    let told = failure.await.unwrap_err().into_panic();
    assert!(told.downcast_ref::<String>().unwrap().contains(&name));

    remove(&other, &name).await;
    other
        .client()
        .delete_volume("default", "pikahut-left")
        .await
        .unwrap();
    assert_eq!(
        left_of(other.client(), &owner, &name).await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_private_daemon_is_killed_restarted_and_leaves_nothing() {
    let incus = TestIncus::private("stack").await;
    let name = incus.name("guest");
    make(&incus, &name).await;
    assert!(incus.daemon().kill9_blocking());
    incus.daemon().restart_blocking().unwrap();
    let output = incus
        .client()
        .exec_capture(
            &name,
            &ExecRequest::new(["echo", "still here"]),
            CaptureLimits::default(),
            LIMIT,
        )
        .await
        .unwrap();
    assert_eq!(output.stdout, b"still here\n");
    remove(&incus, &name).await;
    incus.assert_nothing_left().await;
    let dir = incus.dir().to_owned();
    drop(incus);
    assert_eq!(daemon::leftovers(&dir).unwrap(), Vec::<String>::new());
}
