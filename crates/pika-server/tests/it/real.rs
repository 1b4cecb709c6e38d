//! The control plane on a real Incus, with a real OpenClaw in the agent.

use std::time::Duration;

use pika_runtime::incus::{CaptureLimits, Client, ExecRequest, FileMeta};
use pika_server::Config;
use pikahut::stack::TestIncus;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Api, Running, config};

/// A gateway takes seconds to start alone on a machine, and minutes where everything else runs too.
const READY: Duration = Duration::from_secs(240);
const ASK_LIMIT: Duration = Duration::from_secs(30);

async fn settings(incus: &TestIncus, folder: &tempfile::TempDir) -> Config {
    let database = format!("sqlite:{}", folder.path().join("pika.db").display());
    let mut config = config(&incus.socket(), &database, folder.path());
    config.incus.owner = incus.owner().parse().unwrap();
    config.agents.incus.image_alias = Some(incus.agent_image().await);
    config.times.ready = READY;
    config.times.stop_grace = Duration::from_secs(20);
    config.sizes.disk_gib = 8;
    config
}

pub(crate) async fn ask(client: &Client, vm: &str, script: &str) -> String {
    let request = ExecRequest::new(["/bin/sh", "-c", script]);
    let limits = CaptureLimits {
        stdout_max: 65_536,
        stderr_max: 4096,
    };
    let said = client
        .exec_capture(vm, &request, limits, ASK_LIMIT)
        .await
        .unwrap();
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

async fn health(client: &Client, vm: &str) -> String {
    let script = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:18789/health";
    ask(client, vm, script).await
}

async fn identity(client: &Client, vm: &str) -> String {
    let text = ask(client, vm, "cat /mnt/pika-state/identity.json").await;
    let identity: Value = serde_json::from_str(&text).unwrap();
    identity["id"].as_str().unwrap().to_owned()
}

async fn succeeds(api: &Api, path: &str, body: Value) {
    let operation = api.post_and_wait(path, body).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_agent_keeps_its_volume_through_everything() {
    let incus = TestIncus::shared().await;
    let client = incus.client().clone();
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(settings(&incus, &folder).await).await;
    let api = running.tenant("alice", "write").await;

    succeeds(&api, "/v1/agents/ensure", json!({})).await;
    let ready = api.agent_in("me", "ready").await;
    let vm = ready["vm_id"].as_str().unwrap().to_owned();
    assert_eq!(health(&client, &vm).await, "200");
    let identity_first = identity(&client, &vm).await;
    let (status, logs) = api.get("/v1/agents/me/logs?lines=50").await;
    assert_eq!(status, StatusCode::OK, "{logs}");
    reaches_its_web_interface(&client, &vm, &api).await;

    ask(&client, &vm, "echo kept > /mnt/pika-state/note").await;
    succeeds(&api, "/v1/agents/me/restart", json!({})).await;
    assert_eq!(ask(&client, &vm, "cat /mnt/pika-state/note").await, "kept");
    assert_eq!(health(&client, &vm).await, "200");

    succeeds(&api, "/v1/agents/me/backups", json!({})).await;
    let (_, backups) = api.get("/v1/agents/me/backups").await;
    let backup = backups["backups"][0]["name"].clone();
    ask(&client, &vm, "echo changed > /mnt/pika-state/note").await;
    succeeds(&api, "/v1/agents/me/restore", json!({ "backup": backup })).await;
    assert_eq!(ask(&client, &vm, "cat /mnt/pika-state/note").await, "kept");

    // Its root is deleted behind the server's back: the same agent comes back on the same volume.
    remove(&client, &vm).await;
    let back = comes_back(&api, 2).await;
    assert_eq!(
        (&back["agent_id"], &back["vm_id"]),
        (&ready["agent_id"], &ready["vm_id"])
    );
    assert_eq!(identity(&client, &vm).await, identity_first);
    assert_eq!(ask(&client, &vm, "cat /mnt/pika-state/note").await, "kept");

    let (status, gone) = api.delete("/v1/agents/me?purge=true").await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let operation = api
        .operation(gone["operation"]["operation_id"].as_str().unwrap())
        .await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    running.server.shut_down().await;
    incus.assert_nothing_left().await;
}

/// The gateway is reached on its guest's loopback address, where it listens at first, and at the address that a real bridge
/// gave its guest, once the host lets it listen there.
async fn reaches_its_web_interface(client: &Client, vm: &str, api: &Api) {
    let health = "/v1/agents/me/web/health";
    let (status, said) = api.get(health).await;
    assert_eq!(
        (status, &said["ok"]),
        (StatusCode::OK, &json!(true)),
        "{said}"
    );
    let gateway =
        json!({ "bind": "lan", "controlUi": { "allowedOrigins": ["https://agent.example"] } });
    let config = json!({ "schema_version": 1, "openclaw": { "gateway": gateway } });
    let (path, meta) = ("/run/pika-agent/config.json", FileMeta::root(0o600));
    let pushed = client.file_put(vm, path, config.to_string().into_bytes(), &meta);
    pushed.await.unwrap();
    // Without a relay, only the address is left.
    ask(
        client,
        vm,
        "mv $(command -v pika-cloud-lifecycle) /root/away",
    )
    .await;
    let until = Instant::now() + READY;
    loop {
        let (status, said) = api.get(health).await;
        if status == StatusCode::OK {
            assert_eq!(said["ok"], true, "{said}");
            break;
        }
        // Its gateway is started anew, which the reconciler may see.
        let starting = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE];
        assert!(starting.contains(&status), "{status} {said}");
        assert!(Instant::now() < until, "{status} {said}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    ask(client, vm, "mv /root/away /usr/bin/pika-cloud-lifecycle").await;
    api.agent_within("me", "ready", READY).await;
}

pub(crate) async fn remove(client: &Client, vm: &str) {
    let stop = pika_runtime::incus::StateChange::force_stop();
    let stopped = client.set_instance_state(vm, &stop).await.unwrap();
    stopped.wait(ASK_LIMIT).await.unwrap();
    let removed = client.delete_instance(vm).await.unwrap();
    removed.wait(ASK_LIMIT).await.unwrap();
}

async fn comes_back(api: &Api, generation: u64) -> Value {
    let until = Instant::now() + 2 * READY;
    loop {
        let agent = api.get("/v1/agents/me").await.1;
        if agent["state"] == "ready" && agent["generation"] == generation {
            return agent;
        }
        assert!(Instant::now() < until, "{agent}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
