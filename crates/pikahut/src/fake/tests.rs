//! The fake against itself: what it must do whatever the recordings say.

use std::time::Duration;

use serde_json::{Value, json};

use super::raw::{self, Answer};
use super::{DEFAULT_ALIAS, FakeIncus, Fault, Power, RequestOutcome, Root, When};

fn create_body(name: &str, start: bool) -> Value {
    json!({
        "name": name, "type": "container", "start": start, "config": {"user.owner": "t"},
        "source": {"type": "image", "alias": DEFAULT_ALIAS},
    })
}

async fn post(fake: &FakeIncus, path: &str, body: &Value) -> Answer {
    raw::send(
        fake.socket(),
        "POST",
        path,
        &[],
        body.to_string().into_bytes(),
    )
    .await
    .expect("an answer")
}

async fn get(fake: &FakeIncus, path: &str) -> Answer {
    raw::send(fake.socket(), "GET", path, &[], Vec::new())
        .await
        .expect("an answer")
}

async fn wait(fake: &FakeIncus, started: &Answer) -> Value {
    let operation = started.body["operation"].as_str().expect("an operation");
    get(fake, &format!("{operation}/wait?timeout=10"))
        .await
        .body
}

#[tokio::test]
async fn an_instance_from_create_to_delete() {
    let fake = FakeIncus::start().await.expect("the fake starts");
    let started = post(&fake, "/1.0/instances", &create_body("a", true)).await;
    assert_eq!(wait(&fake, &started).await["metadata"]["status"], "Success");
    assert_eq!(
        fake.world().instance("a").map(|i| i.power),
        Some(Power::Running)
    );
    assert!(
        get(&fake, "/1.0/instances/a")
            .await
            .headers
            .contains_key("etag")
    );
    let refused = raw::send(fake.socket(), "DELETE", "/1.0/instances/a", &[], Vec::new())
        .await
        .expect("an answer");
    assert_eq!(refused.status, 400);
    fake.world().instance("a").expect("just made").halt();
    let deleting = raw::send(fake.socket(), "DELETE", "/1.0/instances/a", &[], Vec::new())
        .await
        .expect("an answer");
    assert_eq!(
        wait(&fake, &deleting).await["metadata"]["status"],
        "Success"
    );
    assert_eq!(fake.world().instance_count(), 0);
    let methods: Vec<String> = fake.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(methods, ["POST", "GET", "GET", "DELETE", "DELETE", "GET"]);
}

#[tokio::test]
async fn a_crash_between_steps_leaves_debris_and_forgets_operations() {
    let fake = FakeIncus::start().await.expect("the fake starts");
    fake.faults().inject(
        When::step("create.record"),
        Fault::Crash {
            down_for: Duration::from_millis(50),
        },
    );
    let started = post(&fake, "/1.0/instances", &create_body("a", true)).await;
    let operation = started.body["operation"]
        .as_str()
        .expect("an operation")
        .to_owned();
    let answer = raw::until_up(fake.socket(), "GET", &operation).await;
    assert_eq!(answer.status, 404);
    let instance = get(&fake, "/1.0/instances/a").await.body["metadata"].clone();
    assert_eq!(instance["status"], "Stopped");
    assert_eq!(instance["last_used_at"], "1970-01-01T00:00:00Z");
    assert_eq!(instance["config"]["user.owner"], "t");
    assert_eq!(
        fake.world().instance("a").map(|i| i.root),
        Some(Root::Missing)
    );
}

#[tokio::test]
async fn a_lost_response_is_carried_out_and_a_dropped_request_is_not() {
    let fake = FakeIncus::start().await.expect("the fake starts");
    let lost = When::request("POST", "/1.0/profiles");
    fake.faults().inject(lost.clone(), Fault::LoseResponse);
    fake.faults().inject(lost.nth(2), Fault::DropRequest);
    for name in ["kept", "never"] {
        let body = json!({"name": name}).to_string().into_bytes();
        raw::send(fake.socket(), "POST", "/1.0/profiles", &[], body)
            .await
            .expect_err("the connection drops");
    }
    assert!(fake.world().default_project().profiles.contains_key("kept"));
    assert!(
        !fake
            .world()
            .default_project()
            .profiles
            .contains_key("never")
    );
    assert!(
        fake.requests()
            .iter()
            .all(|request| request.outcome == RequestOutcome::Dropped)
    );
}

#[tokio::test]
async fn a_truncated_body_is_no_answer() {
    let fake = FakeIncus::start().await.expect("the fake starts");
    fake.faults()
        .inject(When::nth_request(1), Fault::Truncate { bytes: 10 });
    raw::send(fake.socket(), "GET", "/1.0", &[], Vec::new())
        .await
        .expect_err("the body breaks off");
    assert_eq!(get(&fake, "/1.0").await.status, 200);
}

#[tokio::test]
async fn ended_operations_vanish() {
    let fake = FakeIncus::start().await.expect("the fake starts");
    fake.set_operation_lifetime(Duration::ZERO);
    let started = post(&fake, "/1.0/instances", &create_body("a", false)).await;
    let operation = started.body["operation"]
        .as_str()
        .expect("an operation")
        .to_owned();
    raw::until(fake.socket(), &operation, |answer| answer.status == 404).await;
}

#[tokio::test]
async fn ten_thousand_instances_are_cheap() {
    let fake = FakeIncus::start().await.expect("the fake starts");
    {
        let mut world = fake.world();
        for number in 0..10_000 {
            let instance = super::Instance::stopped_container();
            world
                .default_project()
                .instances
                .insert(format!("i{number}"), instance);
        }
    }
    let begun = std::time::Instant::now();
    let all = get(&fake, "/1.0/instances?recursion=1").await;
    assert_eq!(all.body["metadata"].as_array().map(Vec::len), Some(10_000));
    // Seconds in a debug build would make tests of scale unusable.
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[derive(serde::Deserialize)]
struct Seen {
    situation: String,
    request: (String, String, Value),
    status: u16,
    error: Option<String>,
    metadata: Option<Value>,
    wait: Option<Value>,
}

/// Brings a fresh fake into a recorded situation, with an instance called `a`.
async fn bring_about(situation: &str) -> FakeIncus {
    let fake = FakeIncus::start().await.expect("the fake starts");
    let crash = Fault::Crash {
        down_for: Duration::from_millis(20),
    };
    let step = match situation {
        "create killed before its root volume" => "create.record",
        "create killed after its root volume" => "create.root",
        _ => "none",
    };
    if step != "none" {
        fake.faults().inject(When::step(step), crash.clone());
    }
    let started = post(&fake, "/1.0/instances", &create_body("a", true)).await;
    if step == "none" {
        assert_eq!(wait(&fake, &started).await["error_code"], 0);
    }
    match situation {
        "forced stop killed" => {
            fake.faults().inject(When::step("stop.halt"), crash);
            let stop = json!({"action": "stop", "force": true})
                .to_string()
                .into_bytes();
            raw::send(fake.socket(), "PUT", "/1.0/instances/a/state", &[], stop)
                .await
                .expect("an answer");
        }
        "shutting down" => fake.set_shutting_down(true),
        _ => {}
    }
    raw::until_true("the crash strikes", || fake.faults().pending() == 0).await;
    raw::until_up(fake.socket(), "GET", "/1.0").await;
    fake
}

#[tokio::test]
async fn after_a_crash_the_fake_answers_as_the_real_daemon_did() {
    let seen: Vec<Seen> =
        serde_json::from_str(include_str!("recorded/crashes.json")).expect("the recording parses");
    let live = |text: &str| text.replace("{name}", "a").replace("{incus-dir}", "/fake");
    for seen in seen {
        let fake = bring_about(&seen.situation).await;
        let (method, path, body) = &seen.request;
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let answer = raw::send(fake.socket(), method, &live(path), &[], body)
            .await
            .expect("an answer");
        let at = format!("{}: {method} {path}: {}", seen.situation, answer.body);
        assert_eq!(answer.status, seen.status, "{at}");
        if let Some(error) = &seen.error {
            assert_eq!(answer.body["error"], live(error), "{at}");
        }
        for (key, value) in seen
            .metadata
            .iter()
            .flat_map(|m| m.as_object().cloned().unwrap_or_default())
        {
            assert_eq!(answer.body["metadata"][&key], value, "{at}");
        }
        if let Some(expected) = &seen.wait {
            let ended = wait(&fake, &answer).await;
            assert_eq!(ended["error_code"], expected["error_code"], "{at}");
            let error = expected["error"].as_str().expect("a recorded text");
            assert_eq!(ended["error"], live(error), "{at}");
        }
    }
}
