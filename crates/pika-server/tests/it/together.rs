//! Two servers on one PostgreSQL: no step is done twice, and what one is in the middle of when it dies the other ends.

use std::time::Duration;

use pika_store::StepRecord;
use pikahut::postgres::TestPostgres;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{Api, Running, Stage};

const AGENTS: usize = 200;
/// Longest wait for all agents on a loaded machine.
const ALL_READY: Duration = Duration::from_secs(180);

struct Process {
    runtime: Runtime,
    running: Running,
}

async fn process(stage: &Stage, database: &str) -> Process {
    let mut config = stage.config();
    database.clone_into(&mut config.database);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let running = runtime
        .spawn(async move { Running::start(config).await })
        .await
        .unwrap();
    Process { runtime, running }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_make_two_hundred_agents_and_one_dies_in_the_middle() {
    let stage = Stage::new().await;
    let database = TestPostgres::shared().await.database().await;
    let first = process(&stage, &database.url()).await;
    let second = process(&stage, &database.url()).await;
    let quotas = json!({ "agents": 1000, "vcpu": 10_000, "memory_mib": 10_000_000, "disk_gib": 100_000, "backups": 1 });
    let owner = json!({ "owner_id": "fleet", "quotas": quotas });
    assert_eq!(
        first
            .running
            .operator
            .post("/v1/owners", owner)
            .await
            .0
            .as_u16(),
        201
    );
    let path = "/v1/owners/fleet/tokens";
    let (_, made) = first
        .running
        .operator
        .post(path, json!({ "scope": "write" }))
        .await;
    let secret = made["secret"].as_str().unwrap();
    let apis = [
        Api::new(&first.running.server, secret),
        Api::new(&second.running.server, secret),
    ];
    let mut asked = JoinSet::new();
    for number in 0..AGENTS {
        let api = apis[number % 2].clone();
        asked.spawn(async move {
            let (status, agent) = api.post("/v1/agents", json!({})).await;
            assert_eq!(status.as_u16(), 202, "{agent}");
            agent["operation"]["operation_id"]
                .as_str()
                .unwrap()
                .to_owned()
        });
    }
    let operations = asked.join_all().await;

    // In the middle of it, the first one dies.
    let until = Instant::now() + ALL_READY;
    while stage.counts().0 < AGENTS / 10 {
        assert!(Instant::now() < until, "{:?}", stage.counts());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.runtime.shutdown_background();

    let store = second.running.server.store();
    for id in &operations {
        let ended = apis[1].operation(id).await;
        assert_eq!(ended["state"], "succeeded", "{ended}");
        check_steps(id, &store.steps_of(id).await.unwrap());
        assert!(Instant::now() < until, "not all in time");
    }
    assert_eq!(stage.counts(), (AGENTS, AGENTS));
    second.runtime.shutdown_background();
}

/// Each step was done once, and begun again only by another worker than the one that died in it.
fn check_steps(operation: &str, steps: &[StepRecord]) {
    for (at, step) in steps.iter().enumerate() {
        let again = steps[at + 1..]
            .iter()
            .filter(|later| later.step == step.step);
        for later in again {
            assert!(
                step.finished_at.is_none(),
                "{operation}: done, and begun again: {steps:?}"
            );
            assert_ne!(step.worker, later.worker, "{operation}: {steps:?}");
            assert!(step.fence < later.fence, "{operation}: {steps:?}");
        }
    }
}
