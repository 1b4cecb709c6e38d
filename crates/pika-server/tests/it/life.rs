//! The life of an agent, over the API, on the fake.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pika_server::{Clock, StartOptions};
use pikahut::fake::ScriptedGuest;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{LIMIT, Running, Stage, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_goes_through_everything_that_can_be_asked_of_it() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("alice", "write").await;

    let (status, me) = api.get("/v1/agents/me").await;
    assert_eq!(
        (status, &me["error"]),
        (StatusCode::NOT_FOUND, &json!("agent_not_found"))
    );

    let (status, asked) = api.post("/v1/agents/ensure", json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{asked}");
    assert_eq!(
        (&asked["state"], &asked["startup_phase"]),
        (&json!("creating"), &json!("requested"))
    );
    assert!(asked.get("vm_id").is_none());
    let id = asked["agent_id"].as_str().unwrap().to_owned();
    let ready = api.agent_in("me", "ready").await;
    assert_eq!(
        (&ready["agent_id"], &ready["startup_phase"]),
        (&json!(id), &json!("ready"))
    );
    assert_eq!(
        (&ready["generation"], &ready["guest_role"]),
        (&json!(1), &json!("managed-openclaw"))
    );
    let vm = ready["vm_id"].as_str().unwrap().to_owned();
    assert_eq!(stage.counts(), (1, 1));

    // The same again is the same agent.
    let (status, again) = api.post("/v1/agents/ensure", json!({})).await;
    assert_eq!(
        (status, &again["agent_id"]),
        (StatusCode::ACCEPTED, &json!(id))
    );
    let (status, differs) = api
        .post("/v1/agents/ensure", json!({ "labels": { "a": "b" } }))
        .await;
    assert_eq!(
        (status, &differs["error"]),
        (StatusCode::CONFLICT, &json!("agent_exists"))
    );

    let done =
        |operation: &serde_json::Value| assert_eq!(operation["state"], "succeeded", "{operation}");
    done(&api.post_and_wait("/v1/agents/me/stop", json!({})).await);
    assert_eq!(api.agent_in("me", "stopped").await["vm_id"], json!(vm));
    done(&api.post_and_wait("/v1/agents/me/start", json!({})).await);
    api.agent_in("me", "ready").await;
    done(&api.post_and_wait("/v1/agents/me/restart", json!({})).await);
    api.agent_in("me", "ready").await;
    done(&api.post_and_wait("/v1/agents/me/recover", json!({})).await);

    done(&api.post_and_wait("/v1/agents/me/backups", json!({})).await);
    let (_, backups) = api.get("/v1/agents/me/backups").await;
    let backup = backups["backups"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(backups["backups"][0]["reason"], "requested");
    done(
        &api.post_and_wait("/v1/agents/me/restore", json!({ "backup": backup }))
            .await,
    );
    let ready = api.agent_in("me", "ready").await;
    assert_eq!(ready["generation"], 1);
    done(&api.post_and_wait("/v1/agents/me/rebuild", json!({})).await);
    let ready = api.agent_in("me", "ready").await;
    assert_eq!(
        (&ready["generation"], &ready["vm_id"]),
        (&json!(2), &json!(vm))
    );
    done(&api.post_and_wait("/v1/agents/me/reset", json!({})).await);
    assert_eq!(api.agent_in("me", "ready").await["generation"], 3);
    assert_eq!(stage.counts(), (1, 1));

    let (status, gone) = api.delete("/v1/agents/me?purge=true").await;
    assert_eq!(
        (status, &gone["state"]),
        (StatusCode::ACCEPTED, &json!("deleting"))
    );
    done(
        &api.operation(gone["operation"]["operation_id"].as_str().unwrap())
            .await,
    );
    let (status, _) = api.get(&format!("/v1/agents/{id}")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(stage.counts(), (0, 0));
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_agent_leaves_its_volume_until_the_grace_is_over_or_it_is_purged() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("bob", "write").await;
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    let id = api.agent_in("me", "ready").await["agent_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (_, gone) = api.delete("/v1/agents/me").await;
    api.operation(gone["operation"]["operation_id"].as_str().unwrap())
        .await;
    assert_eq!(stage.counts(), (0, 1));
    assert_eq!(api.get("/v1/agents/me").await.0, StatusCode::NOT_FOUND);
    let (_, kept) = running.operator.get("/v1/agents?deleted=true").await;
    assert_eq!(kept["agents"][0]["agent_id"], json!(id));

    // Another agent may take its place meanwhile.
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    assert_ne!(api.agent_in("me", "ready").await["agent_id"], json!(id));
    let (status, purged) = api.delete(&format!("/v1/agents/{id}?purge=true")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{purged}");
    let operation = api
        .operation(purged["operation"]["operation_id"].as_str().unwrap())
        .await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    assert_eq!(stage.fake.world().volume_count(), 1);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_somebody_deleted_comes_back_on_the_same_volume() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("carol", "write").await;
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    let ready = api.agent_in("me", "ready").await;
    let vm = ready["vm_id"].as_str().unwrap().to_owned();
    stage.fake.world().default_project().instances.remove(&vm);
    api.agent_in("me", "error").await;
    // The server brings it back by itself.
    let back = api.agent_in("me", "ready").await;
    assert_eq!(
        (&back["agent_id"], &back["vm_id"]),
        (&ready["agent_id"], &json!(vm))
    );
    assert_eq!(back["generation"], 2);
    assert_eq!(stage.counts(), (1, 1));
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_without_its_volume_is_not_ready_and_incus_that_is_gone_makes_it_stale() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("dave", "write").await;
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    let vm = api.agent_in("me", "ready").await["vm_id"]
        .as_str()
        .unwrap()
        .to_owned();

    stage.fake.crash();
    let view = || api.get("/v1/agents/me");
    let mut stale = view().await.1;
    let limit = tokio::time::Instant::now() + crate::support::LIMIT;
    while stale.get("stale_since").is_none() {
        assert!(tokio::time::Instant::now() < limit, "{stale}");
        stale = view().await.1;
    }
    assert_eq!(stale["state"], "ready");
    stage.fake.restart().unwrap();
    let mut back = view().await.1;
    while back.get("stale_since").is_some() {
        assert!(tokio::time::Instant::now() < limit, "{back}");
        back = view().await.1;
    }

    let volume = stage.fake.guest(&vm).unmounts("/mnt/pika-state");
    assert!(volume);
    stage.fake.guest(&vm).tells_incus();
    let waiting = api.agent_in("me", "creating").await;
    assert_eq!(
        waiting["reason"],
        "the guest runs without its volume mounted"
    );
    until("its instance is still the only one", || {
        stage.fake.world().instance_count() == 1
    })
    .await;
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_cannot_be_made_says_why_and_is_made_once_it_can() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("erin", "write").await;
    let aliases = |stage: &Stage| std::mem::take(&mut stage.fake.world().default_project().aliases);
    let there = aliases(&stage);
    let failed = api.post_and_wait("/v1/agents/ensure", json!({})).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    let agent = api.agent_in("me", "error").await;
    let reason = agent["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("the instance is gone; the last "),
        "{reason}"
    );
    assert!(
        reason.contains("there is no image `pika-agent/dev`"),
        "{reason}"
    );
    stage.fake.world().default_project().aliases = there;
    let ready = api.agent_in("me", "ready").await;
    assert_eq!(ready["agent_id"], agent["agent_id"]);
    assert_eq!(stage.counts(), (1, 1));
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_crashes_again_and_again_is_left_with_its_reason_until_somebody_asks() {
    let stage = Stage::new().await;
    let crashes = ScriptedGuest::crash_loop_after(Duration::from_millis(5));
    stage.fake.set_scripted_guest(Some(crashes));
    // Every look is an hour after the last one, so that no rest has to be waited for.
    let looks = Arc::new(AtomicI64::new(0));
    let clock = Clock::from_source({
        let looks = Arc::clone(&looks);
        move || Clock::system().now() + looks.load(Ordering::Relaxed) * 3_600_000
    });
    let options = StartOptions {
        clock,
        ..StartOptions::default()
    };
    let running = Running::start_with(stage.config(), options).await;
    let api = running.tenant("frank", "write").await;
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    let limit = tokio::time::Instant::now() + LIMIT;
    let reason = loop {
        let agent = api.get("/v1/agents/me").await.1;
        let reason = agent["reason"].as_str().unwrap_or_default().to_owned();
        if reason.starts_with("crash loop") {
            break reason;
        }
        assert!(tokio::time::Instant::now() < limit, "{agent}");
        if agent["state"] == "error" {
            looks.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(reason.contains("brought back 5 times in a row"), "{reason}");
    assert!(reason.contains("the service ended 4 times"), "{reason}");
    let passes = || {
        let requests = stage.fake.requests();
        let lists = requests
            .iter()
            .filter(|request| request.path == "/1.0/instances");
        lists.filter(|request| request.method == "GET").count()
    };
    let enough = passes() + 4;
    until("three more passes", || passes() >= enough).await;
    assert_eq!(api.agent_in("me", "error").await["reason"], json!(reason));

    let ready = ScriptedGuest::ready_after(Duration::from_millis(5));
    stage.fake.set_scripted_guest(Some(ready));
    let recovered = api.post_and_wait("/v1/agents/me/recover", json!({})).await;
    assert_eq!(recovered["state"], "succeeded", "{recovered}");
    api.agent_in("me", "ready").await;
    running.server.shut_down().await;
}
