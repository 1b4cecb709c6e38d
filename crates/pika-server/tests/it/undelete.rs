//! Deleted agents that come back while their volume is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pika_server::StartOptions;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Api, LIMIT, Running, Stage, clock_ahead, until};

/// A server whose clock can be set ahead.
async fn start(stage: &Stage) -> (Running, Arc<AtomicI64>) {
    let (clock, ahead) = clock_ahead();
    let options = StartOptions {
        clock,
        ..StartOptions::default()
    };
    (Running::start_with(stage.config(), options).await, ahead)
}

async fn ready(api: &Api) -> String {
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    let agent = api.agent_in("me", "ready").await;
    agent["agent_id"].as_str().unwrap().to_owned()
}

async fn delete(api: &Api, path: &str) {
    let (status, gone) = api.delete(path).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{gone}");
    let operation = gone["operation"]["operation_id"].as_str().unwrap();
    let ended = api.operation(operation).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
}

async fn refused(api: &Api, path: &str) -> (u16, String) {
    let (status, body) = api.post(path, json!({})).await;
    (status.as_u16(), body["error"].as_str().unwrap().to_owned())
}

fn conflict() -> (u16, String) {
    (409, "conflict".to_owned())
}

fn not_found() -> (u16, String) {
    (404, "agent_not_found".to_owned())
}

fn content(stage: &Stage) -> Vec<u8> {
    let mut world = stage.fake.world();
    let pool = world.pools.get_mut("default").unwrap();
    pool.volumes.values_mut().next().unwrap().content.clone()
}

fn write(stage: &Stage, content: &[u8]) {
    let mut world = stage.fake.world();
    let pool = world.pools.get_mut("default").unwrap();
    pool.volumes.values_mut().next().unwrap().content = content.to_vec();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_has_a_deleted_agent_back_as_it_was_and_nobody_else_does() {
    let stage = Stage::new().await;
    let (running, ahead) = start(&stage).await;
    let api = running.tenant("alice", "write").await;
    let mallory = running.tenant("mallory", "write").await;
    let id = ready(&api).await;
    write(&stage, b"what it knows");
    let path = format!("/v1/agents/{id}/undelete");
    assert_eq!(refused(&api, &path).await, conflict());
    delete(&api, "/v1/agents/me").await;
    assert_eq!(stage.counts(), (0, 1));
    assert_eq!(refused(&api, "/v1/agents/me/undelete").await, not_found());
    assert_eq!(refused(&mallory, &path).await, not_found());

    // The owner finds it among its own.
    let (_, list) = api.get("/v1/agents?deleted=true").await;
    let kept = &list["agents"][0];
    assert_eq!(kept["agent_id"], json!(id), "{list}");
    assert!(
        kept["deleted_at"].is_string() && kept["purge_after"].is_string(),
        "{kept}"
    );
    let (_, list) = mallory.get("/v1/agents?deleted=true").await;
    assert_eq!(list["agents"], json!([]));

    let asked = || {
        let request = api.request(Method::POST, &path).json(&json!({}));
        api.send(request.header("idempotency-key", "undelete-1"))
    };
    let (status, first) = asked().await;
    assert_eq!(status, StatusCode::ACCEPTED, "{first}");
    let (_, second) = asked().await;
    let operation = first["operation"]["operation_id"].as_str().unwrap();
    assert_eq!(second["operation"]["operation_id"], json!(operation));
    let ended = api.operation(operation).await;
    assert_eq!(
        (&ended["state"], &ended["kind"]),
        (&json!("succeeded"), &json!("undelete"))
    );
    let back = api.agent_in("me", "ready").await;
    assert_eq!(
        (&back["agent_id"], &back["generation"]),
        (&json!(id), &json!(2))
    );
    assert!(
        back.get("deleted_at").is_none() && back.get("purge_after").is_none(),
        "{back}"
    );
    assert_eq!(
        (content(&stage), stage.counts()),
        (b"what it knows".to_vec(), (1, 1))
    );

    // No grace of before counts any more.
    ahead.fetch_add(30 * 86_400_000, Ordering::Relaxed);
    let lists = || {
        stage
            .fake
            .requests()
            .iter()
            .filter(|one| one.path == "/1.0/instances")
            .count()
    };
    let enough = lists() + 4;
    until("some more passes", || lists() >= enough).await;
    assert_eq!(stage.counts(), (1, 1));
    let (_, log) = running.operator.get("/v1/audit").await;
    let told = log["entries"].as_array().unwrap().iter();
    let told: Vec<&Value> = told
        .filter(|entry| entry["action"] == "agent_undeleted")
        .collect();
    assert_eq!(told.len(), 1, "{log}");
    assert_eq!(
        (&told[0]["actor"], &told[0]["subject"]),
        (&json!("alice"), &json!(id))
    );
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_comes_back_fits_the_quota_and_leaves_me_alone() {
    let stage = Stage::new().await;
    let (running, _) = start(&stage).await;
    let api = running.tenant("alice", "write").await;
    let first = ready(&api).await;
    delete(&api, "/v1/agents/me").await;
    let second = ready(&api).await;
    let path = format!("/v1/agents/{first}/undelete");
    let quotas = |agents: u32| {
        let quotas = json!({ "agents": agents, "vcpu": 8, "memory_mib": 8192, "disk_gib": 64, "backups": 1 });
        let request = running
            .operator
            .request(Method::PUT, "/v1/owners/alice/quotas");
        running.operator.send(request.json(&quotas))
    };
    assert_eq!(quotas(1).await.0, StatusCode::OK);
    for who in [&api, &running.operator] {
        assert_eq!(
            refused(who, &path).await,
            (429, "quota_exceeded".to_owned())
        );
    }
    assert_eq!(quotas(2).await.0, StatusCode::OK);
    let ended = running.operator.post_and_wait(&path, json!({})).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    api.agent_in(&first, "ready").await;
    assert_eq!(api.agent_in("me", "ready").await["agent_id"], json!(second));
    assert_eq!(stage.counts(), (2, 2));
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_purged_does_not_come_back_and_what_lost_its_volume_says_so() {
    let stage = Stage::new().await;
    let (running, ahead) = start(&stage).await;
    let api = running.tenant("alice", "write").await;
    let id = ready(&api).await;
    delete(&api, "/v1/agents/me").await;
    ahead.fetch_add(8 * 86_400_000, Ordering::Relaxed);
    until("the grace is over", || stage.counts() == (0, 0)).await;
    let path = format!("/v1/agents/{id}/undelete");
    // The volume is gone a moment before that is written down.
    let limit = tokio::time::Instant::now() + LIMIT;
    let mut end = refused(&api, &path).await;
    while end == conflict() && tokio::time::Instant::now() < limit {
        end = refused(&api, &path).await;
    }
    assert_eq!(end, not_found());

    let id = ready(&api).await;
    delete(&api, "/v1/agents/me").await;
    stage
        .fake
        .world()
        .pools
        .get_mut("default")
        .unwrap()
        .volumes
        .clear();
    let ended = api
        .post_and_wait(&format!("/v1/agents/{id}/undelete"), json!({}))
        .await;
    assert_eq!(ended["state"], "failed", "{ended}");
    let message = ended["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("there is no volume") && message.contains("no empty one"),
        "{message}"
    );
    assert_eq!(api.agent_in("me", "error").await["agent_id"], json!(id));
    assert_eq!(stage.counts(), (0, 0));
    running.server.shut_down().await;
}
