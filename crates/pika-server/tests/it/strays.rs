//! Strays that an operator removes: only what is ours and nobody's, at that very moment.

use pika_server::Config;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Api, LIMIT, Running, Stage, config};

/// A server of this deployment on a database of its own.
fn on_its_own_database(stage: &Stage, name: &str, owner: &str) -> Config {
    let database = format!("sqlite:{}", stage.folder().join(name).display());
    let mut config = config(stage.fake.socket(), &database, stage.folder());
    config.incus.owner = owner.parse().unwrap();
    config
}

/// The instance of an agent whose server is gone with its database; what is left of it in Incus is.
pub(crate) async fn leave_behind(stage: &Stage, database: &str, owner: &str) -> String {
    let running = Running::start(on_its_own_database(stage, database, owner)).await;
    let api = running.tenant("alice", "write").await;
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    let agent = api.agent_in("me", "ready").await;
    running.server.shut_down().await;
    agent["vm_id"].as_str().unwrap().to_owned()
}

/// What the server shows, once its survey found so many.
pub(crate) async fn shown(operator: &Api, count: usize) -> Vec<Value> {
    let limit = Instant::now() + LIMIT;
    loop {
        let (status, list) = operator.get("/v1/strays").await;
        assert_eq!(status, StatusCode::OK, "{list}");
        let strays = list["strays"].as_array().unwrap();
        if strays.len() == count {
            return strays.clone();
        }
        assert!(Instant::now() < limit, "{list}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn removed(api: &Api, name: &str) -> (u16, Value) {
    let (status, body) = api.delete(&format!("/v1/strays/{name}")).await;
    (status.as_u16(), body["error"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_removes_a_stray_instance_and_nothing_else() {
    let stage = Stage::new().await;
    let stray = leave_behind(&stage, "lost.db", "test").await;
    let theirs = leave_behind(&stage, "theirs.db", "somebody-else").await;
    let running = stage.server().await;
    let operator = &running.operator;
    let bob = running.tenant("bob", "write").await;
    bob.post_and_wait("/v1/agents/ensure", json!({})).await;
    let agent = bob.agent_in("me", "ready").await;
    let agents = agent["vm_id"].as_str().unwrap();
    assert_eq!(stage.counts(), (3, 3));

    let found = shown(operator, 2).await;
    let of_kind = |kind: &str| {
        let one = found.iter().find(|stray| stray["kind"] == kind);
        one.unwrap()["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(of_kind("instance"), stray);
    assert_eq!(removed(&bob, &stray).await, (403, json!("forbidden")));
    for (name, expected) in [
        (&*of_kind("volume"), (409, json!("conflict"))),
        (agents, (409, json!("conflict"))),
        (&*theirs, (404, json!("not_found"))),
        ("made-up", (404, json!("not_found"))),
    ] {
        assert_eq!(removed(operator, name).await, expected, "{name}");
    }
    assert_eq!(stage.counts(), (3, 3));
    stage.fake.crash();
    assert_eq!(removed(operator, &stray).await, (503, json!("unavailable")));
    stage.fake.restart().unwrap();
    assert_eq!(stage.counts(), (3, 3));

    let (status, _) = operator.delete(&format!("/v1/strays/{stray}")).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(stage.counts(), (2, 3), "its volume stays");
    let left = shown(operator, 1).await;
    assert_eq!(left[0]["kind"], "volume");
    assert_eq!(removed(operator, &stray).await, (404, json!("not_found")));

    let (_, log) = operator.get("/v1/audit").await;
    let entries = log["entries"].as_array().unwrap().iter();
    let told: Vec<&Value> = entries
        .filter(|entry| entry["action"] == "stray_removal_requested")
        .collect();
    assert_eq!(told.len(), 1, "{log}");
    assert_eq!(
        (&told[0]["actor"], &told[0]["subject"]),
        (&json!(pika_server::FIRST_OWNER), &json!(stray))
    );
    bob.agent_in("me", "ready").await;
    running.server.shut_down().await;
}
