//! The server is killed on both sides of every step of every kind of operation. Whoever comes next ends each as it should:
//! no second agent, no lost volume, nothing left over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pika_managed_agent_contract::OperationKind;
use pika_server::{StartOptions, StepSide, WorkHook, operation_steps};
use pikahut::fake::ScriptedGuest;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::support::{Api, LIMIT, Running, Stage, clock_ahead};

/// What an agent's volume holds before anything is done to it.
const CONTENT: &[u8] = b"what the agent knows";

/// A server in a runtime of its own, which dies with everything in it.
struct Process {
    runtime: Runtime,
    running: Running,
}

impl Process {
    async fn start(stage: &Stage, options: StartOptions) -> Process {
        let mut config = stage.config();
        // Nobody else brings anything back meanwhile.
        config.times.restart_rest = Duration::from_secs(3600);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let started = runtime.spawn(async move { Running::start_with(config, options).await });
        let running = started.await.unwrap();
        Process { runtime, running }
    }

    /// As `kill -9`: whatever it was in the middle of stays as it is.
    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

/// Stops the server at one side of one step.
struct StopAt {
    kind: OperationKind,
    step: &'static str,
    side: StepSide,
    reached: Notify,
    /// Whether it stops there at all.
    armed: AtomicBool,
    /// Whose guests work again once a recover makes a new instance.
    stage: Arc<Stage>,
}

impl std::fmt::Debug for StopAt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "stop {} at {}", self.kind, self.step)
    }
}

impl WorkHook for StopAt {
    fn reached(&self, kind: OperationKind, step: &str, side: StepSide) -> BoxFuture<'static, ()> {
        if kind == OperationKind::Recover && step == "destroy_instance" {
            guests_work(&self.stage);
        }
        let here = (kind, step, side) == (self.kind, self.step, self.side);
        if here && self.armed.swap(false, Ordering::Relaxed) {
            self.reached.notify_one();
            return std::future::pending().boxed();
        }
        std::future::ready(()).boxed()
    }
}

fn guests_work(stage: &Stage) {
    let ready = ScriptedGuest::ready_after(Duration::from_millis(5));
    stage.fake.set_scripted_guest(Some(ready));
}

fn path_of(kind: OperationKind, agent: &Value) -> String {
    let id = agent["agent_id"].as_str().unwrap_or_default();
    match kind {
        OperationKind::Create => "/v1/agents/ensure".to_owned(),
        OperationKind::Backup => "/v1/agents/me/backups".to_owned(),
        OperationKind::Delete => "/v1/agents/me?purge=true".to_owned(),
        // It is what `me` means only afterwards.
        OperationKind::Undelete => format!("/v1/agents/{id}/undelete"),
        other => format!("/v1/agents/me/{other}"),
    }
}

fn volume_content(stage: &Stage) -> Option<Vec<u8>> {
    let world = stage.fake.world();
    let volumes = &world.pools["default"].volumes;
    volumes.values().next().map(|volume| volume.content.clone())
}

/// Whether something in Incus says that the volume may go.
fn is_tombstoned(stage: &Stage) -> bool {
    let world = stage.fake.world();
    let mut volumes = world.pools["default"].volumes.values();
    volumes.any(|volume| {
        volume
            .config
            .contains_key(pika_cloud::labels::LABEL_TOMBSTONE)
    })
}

fn write_content(stage: &Stage, content: &[u8]) {
    let mut world = stage.fake.world();
    let pool = world.pools.get_mut("default").unwrap();
    pool.volumes.values_mut().next().unwrap().content = content.to_vec();
}

/// Brings an agent to where the operation makes sense; gives the request's body.
async fn prepare(stage: &Stage, api: &Api, kind: OperationKind) -> Value {
    guests_work(stage);
    if kind == OperationKind::Create {
        return json!({});
    }
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    api.agent_in("me", "ready").await;
    write_content(stage, CONTENT);
    match kind {
        OperationKind::Start => {
            api.post_and_wait("/v1/agents/me/stop", json!({})).await;
        }
        OperationKind::Recover => {
            let vm = api.get("/v1/agents/me").await.1["vm_id"]
                .as_str()
                .unwrap()
                .to_owned();
            let details = json!({ "crash_loop": true, "unit": "openclaw.service", "restarts": 4 });
            stage
                .fake
                .guest(&vm)
                .says(pika_cloud::LifecycleState::Failed, details);
            let crashes = ScriptedGuest::crash_loop_after(Duration::from_millis(5));
            stage.fake.set_scripted_guest(Some(crashes));
            api.agent_in("me", "error").await;
        }
        OperationKind::Restore => {
            api.post_and_wait("/v1/agents/me/backups", json!({})).await;
            write_content(stage, b"written after the backup");
            let (_, backups) = api.get("/v1/agents/me/backups").await;
            return json!({ "backup": backups["backups"][0]["name"] });
        }
        OperationKind::Undelete => {
            let (_, gone) = api.delete("/v1/agents/me").await;
            let operation = gone["operation"]["operation_id"].as_str().unwrap();
            let ended = api.operation(operation).await;
            assert_eq!(ended["state"], "succeeded", "{ended}");
        }
        _ => {}
    }
    json!({})
}

async fn killed_at(kind: OperationKind, step: &'static str, side: StepSide) {
    let what = format!("{kind} killed at {step}, {side:?}");
    let stage = &Arc::new(Stage::new().await);
    let (clock, ahead) = clock_ahead();
    let hook = Arc::new(StopAt {
        kind,
        step,
        side,
        reached: Notify::new(),
        armed: AtomicBool::new(true),
        stage: Arc::clone(stage),
    });
    let options = StartOptions {
        clock: clock.clone(),
        hook: Some(Arc::clone(&hook) as Arc<dyn WorkHook>),
        ..StartOptions::default()
    };
    let process = Process::start(stage, options).await;
    let api = process.running.tenant("alice", "write").await;
    let body = prepare(stage, &api, kind).await;
    let before = api.get("/v1/agents?deleted=true").await.1["agents"][0].clone();
    let path = path_of(kind, &before);
    let request = match kind {
        OperationKind::Delete => api.request(reqwest::Method::DELETE, &path),
        _ => api.request(reqwest::Method::POST, &path).json(&body),
    };
    let (status, asked) = api.send(request).await;
    assert_eq!(status.as_u16(), 202, "{what}: {asked}");
    let operation = asked["operation"]["operation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let reached = tokio::time::timeout(LIMIT, hook.reached.notified()).await;
    assert!(
        reached.is_ok(),
        "{what}: never got there: {}",
        api.operation(&operation).await
    );
    process.kill();
    // The dead one's lease runs out.
    ahead.fetch_add(60_000, Ordering::Relaxed);

    let hook: Arc<dyn WorkHook> = hook;
    let options = StartOptions {
        clock,
        hook: Some(hook),
        ..StartOptions::default()
    };
    let process = Process::start(stage, options).await;
    let api = api.on(&process.running.server);
    let ended = api.operation(&operation).await;
    assert_eq!(ended["state"], "succeeded", "{what}: {ended}");
    check_end(stage, &api, kind, &before, &what).await;
    let steps = process
        .running
        .server
        .store()
        .steps_of(&operation)
        .await
        .unwrap();
    let mut done: Vec<&str> = steps
        .iter()
        .filter(|step| step.finished_at.is_some())
        .map(|step| &*step.step)
        .collect();
    let all = done.len();
    done.sort_unstable();
    done.dedup();
    assert_eq!(done.len(), all, "{what}: a step was done twice: {steps:?}");
    process.kill();
}

async fn check_end(stage: &Stage, api: &Api, kind: OperationKind, before: &Value, what: &str) {
    if kind == OperationKind::Delete {
        assert_eq!(stage.counts(), (0, 0), "{what}");
        assert_eq!(api.get("/v1/agents").await.1["agents"], json!([]), "{what}");
        return;
    }
    let state = match kind {
        OperationKind::Stop => "stopped",
        _ => "ready",
    };
    let agent = api.agent_in("me", state).await;
    assert_eq!(stage.counts(), (1, 1), "{what}");
    assert!(!is_tombstoned(stage), "{what}");
    let agents = api.get("/v1/agents").await.1;
    assert_eq!(agents["agents"].as_array().unwrap().len(), 1, "{what}");
    if kind != OperationKind::Create {
        assert_eq!(agent["agent_id"], before["agent_id"], "{what}");
        let expected: &[u8] = match kind {
            OperationKind::Reset => b"",
            _ => CONTENT,
        };
        assert_eq!(volume_content(stage).unwrap(), expected, "{what}");
    }
}

async fn every_step_of(kind: OperationKind) {
    for step in operation_steps(kind) {
        for side in [StepSide::Begun, StepSide::Done] {
            killed_at(kind, step, side).await;
        }
    }
}

macro_rules! kinds {
    ($($name:ident: $kind:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            every_step_of(OperationKind::$kind).await;
        }
    )+};
}

kinds! {
    a_create_survives_a_kill_at_every_step: Create;
    a_start_survives_a_kill_at_every_step: Start;
    a_stop_survives_a_kill_at_every_step: Stop;
    a_restart_survives_a_kill_at_every_step: Restart;
    a_recover_survives_a_kill_at_every_step: Recover;
    a_restore_survives_a_kill_at_every_step: Restore;
    a_reset_survives_a_kill_at_every_step: Reset;
    a_rebuild_survives_a_kill_at_every_step: Rebuild;
    a_backup_survives_a_kill_at_every_step: Backup;
    a_delete_survives_a_kill_at_every_step: Delete;
    an_undelete_survives_a_kill_at_every_step: Undelete;
}
