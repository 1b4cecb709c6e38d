//! What a workload says of itself, with systemd as its witness.

use std::process::Command;

use pika_cloud::LifecycleState;
use pikahut::stack::{TestIncus, checkout};

use crate::support::Guest;

const PROGRAM: &str = "/usr/bin/pika-cloud-lifecycle";

/// The runner's image has no use for the program; the build of that image made it, though.
fn install(guest: &Guest) {
    let built = checkout().join("target/x86_64-unknown-linux-gnu/guest/pika-cloud-lifecycle");
    let target = format!("{}{PROGRAM}", guest.name);
    let mut push = guest.incus(&["file", "push", "--quiet", "--mode", "755"]);
    let output = push.arg(built).arg(target).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn code(command: &mut Command) -> Option<i32> {
    command.output().unwrap().status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_says_how_far_it_is() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "publish", &[]).await;
    install(&guest);
    let details = r#"{"port":1}"#;
    let publish = [
        PROGRAM,
        "publish",
        "--state",
        "ready",
        "--message",
        "here",
        "--details",
        details,
    ];
    assert_eq!(code(&mut guest.exec(&publish)), Some(0));
    let status = guest.status();
    assert_eq!(
        (status.state, status.message.as_str()),
        (LifecycleState::Ready, "here")
    );
    assert_eq!(status.details.unwrap()["port"], 1);
    for refused in ["booted", "destroyed", "passed"] {
        let publish = [PROGRAM, "publish", "--state", refused, "--message", "no"];
        assert_eq!(code(&mut guest.exec(&publish)), Some(2), "{refused}");
    }
    assert_eq!(guest.status().state, LifecycleState::Ready);

    guest.sh("(sleep 1; touch /tmp/up) >/dev/null 2>&1 &");
    let watch = [
        PROGRAM,
        "watch",
        "--ready-command",
        "test -e /tmp/up",
        "--once",
        "--interval-millis",
        "50",
    ];
    assert_eq!(code(&mut guest.exec(&watch)), Some(0));
    assert_eq!(guest.status().message, "the workload is ready");
    let kinds: Vec<String> = guest
        .events()
        .iter()
        .map(|event| event.kind.as_str().to_owned())
        .collect();
    assert!(
        kinds.ends_with(&["starting".into(), "probe".into(), "ready".into()]),
        "{kinds:?}"
    );

    let late = [
        PROGRAM,
        "watch",
        "--ready-url",
        "http://127.0.0.1:9/health",
        "--ready-secs",
        "1",
    ];
    assert_eq!(code(&mut guest.exec(&late)), Some(1));
    assert_eq!(guest.status().state, LifecycleState::Failed);
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_is_told_as_one() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "loop", &[]).await;
    install(&guest);
    guest.wait_for("systemctl is-active --quiet multi-user.target");
    let unit = "[Service]\\nExecStart=/bin/false\\nRestart=always\\nRestartSec=50ms\\n[Unit]\\nStartLimitIntervalSec=0\\n";
    guest.sh(&format!("printf '{unit}' > /run/systemd/system/broken.service; systemctl daemon-reload; systemctl start broken"));
    let watch = [
        PROGRAM,
        "watch",
        "--ready-command",
        "false",
        "--unit",
        "broken.service",
        "--ready-secs",
        "60",
    ];
    assert_eq!(code(&mut guest.exec(&watch)), Some(1));
    let status = guest.status();
    assert_eq!(status.state, LifecycleState::Failed);
    let details = status.details.unwrap();
    assert_eq!(details["crash_loop"], true, "{}", status.message);
    assert!(
        details["restarts"].as_u64().unwrap() > 3,
        "{}",
        status.message
    );
    drop(guest);
    incus.assert_nothing_left().await;
}
