//! Backups on the operator's schedule: the policy reaches every volume, and what Incus took is listed and gone back to.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pika_runtime::incus::{Client, VolumeSnapshot};
use pika_server::{Clock, Config, SnapshotPlan, StartOptions};
use pikahut::fake;
use pikahut::stack::TestIncus;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::real::ask;
use crate::support::{Api, Running, Stage, clock_ahead, config_of_tiny, until};

/// Incus looks at schedules once a minute, and the machine may have other things to do.
const TAKEN_LIMIT: Duration = Duration::from_secs(130);
const READY: Duration = Duration::from_secs(240);

fn policy(schedule: &str, expiry: &str) -> Option<SnapshotPlan> {
    Some(SnapshotPlan {
        schedule: schedule.to_owned(),
        expiry: expiry.to_owned(),
    })
}

fn with(stage: &Stage, snapshots: Option<SnapshotPlan>) -> Config {
    Config {
        snapshots,
        ..stage.config()
    }
}

/// What the only volume is changed by the test, as Incus's own scheduler changes it.
fn change_volume<T>(stage: &Stage, change: impl FnOnce(&mut fake::Volume) -> T) -> T {
    let mut world = stage.fake.world();
    let pool = world.pools.get_mut("default").unwrap();
    change(pool.volumes.values_mut().next().unwrap())
}

/// Schedule, expiry, and whether there is a pattern.
fn scheduled(stage: &Stage) -> (Option<String>, Option<String>, bool) {
    change_volume(stage, |volume| {
        let get = |key: &str| volume.config.get(key).cloned();
        let pattern = get("snapshots.pattern");
        (
            get("snapshots.schedule"),
            get("snapshots.expiry"),
            pattern.is_some(),
        )
    })
}

fn set(schedule: &str, expiry: &str) -> (Option<String>, Option<String>, bool) {
    (Some(schedule.to_owned()), Some(expiry.to_owned()), true)
}

/// As Incus does it by the schedule: nobody describes it.
fn takes_by_itself(stage: &Stage, name: &str) {
    change_volume(stage, |volume| {
        let taken = fake::VolumeSnapshot {
            config: volume.config.clone(),
            description: String::new(),
            created_at: "2026-01-02T03:04:05.5Z".to_owned(),
            expires_at: None,
            content: volume.content.clone(),
            whole: true,
        };
        volume.snapshots.insert(name.to_owned(), taken);
    });
}

fn write(stage: &Stage, content: &[u8]) {
    change_volume(stage, |volume| volume.content = content.to_vec());
}

async fn backups(api: &Api) -> Vec<(String, String)> {
    let (status, list) = api.get("/v1/agents/me/backups").await;
    assert_eq!(status, StatusCode::OK, "{list}");
    let word = |backup: &Value, key: &str| backup[key].as_str().unwrap().to_owned();
    let all = list["backups"].as_array().unwrap().iter();
    all.map(|backup| (word(backup, "name"), word(backup, "reason")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_incus_took_by_itself_is_listed_restored_and_in_no_quota() {
    let stage = Stage::new().await;
    let running = Running::start(with(&stage, policy("@daily", "7d"))).await;
    let api = running.tenant("alice", "write").await;
    let quotas =
        json!({ "agents": 1, "vcpu": 8, "memory_mib": 8192, "disk_gib": 64, "backups": 1 });
    let request = running
        .operator
        .request(reqwest::Method::PUT, "/v1/owners/alice/quotas");
    let (status, _) = running.operator.send(request.json(&quotas)).await;
    assert_eq!(status, StatusCode::OK);
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    api.agent_in("me", "ready").await;
    assert_eq!(scheduled(&stage), set("@daily", "7d"));
    assert_eq!(backups(&api).await, []);

    write(&stage, b"of yesterday");
    let name = "scheduled-20260102-030405";
    takes_by_itself(&stage, name);
    // Whose name tells nothing is nobody's: it may be half taken.
    takes_by_itself(&stage, "snap0");
    let listed = [(name.to_owned(), "scheduled".to_owned())];
    assert_eq!(backups(&api).await, listed);
    let (_, list) = api.get("/v1/agents/me/backups").await;
    assert_eq!(
        list["backups"][0]["created_at"], "2026-01-02T03:04:05.500Z",
        "{list}"
    );

    // The one place of the quota is still free.
    let end = api.post_and_wait("/v1/agents/me/backups", json!({})).await;
    assert_eq!(end["state"], "succeeded", "{end}");
    write(&stage, b"of today");
    let end = api
        .post_and_wait("/v1/agents/me/restore", json!({ "backup": name }))
        .await;
    assert_eq!(end["state"], "succeeded", "{end}");
    api.agent_in("me", "ready").await;
    let content = change_volume(&stage, |volume| volume.content.clone());
    assert_eq!(content, b"of yesterday");
    // Its schedule outlives the restore.
    assert_eq!(scheduled(&stage), set("@daily", "7d"));

    // What Incus removed when its time was over is no backup any more; while Incus is away the last list counts.
    let reasons = async || -> Vec<String> {
        let all = backups(&api).await.into_iter();
        all.map(|(_, reason)| reason).collect()
    };
    assert_eq!(
        reasons().await,
        ["before_restore", "requested", "scheduled"]
    );
    change_volume(&stage, |volume| volume.snapshots.remove(name));
    assert_eq!(reasons().await, ["before_restore", "requested"]);
    stage.fake.crash();
    assert_eq!(reasons().await, ["before_restore", "requested"]);
    let (status, refused) = api
        .post("/v1/agents/me/restore", json!({ "backup": name }))
        .await;
    assert_eq!(
        (status, &refused["error"]),
        (StatusCode::NOT_FOUND, &json!("not_found"))
    );
    stage.fake.restart().unwrap();
    running.server.shut_down().await;
}

fn patches(stage: &Stage) -> usize {
    let requests = stage.fake.requests();
    requests
        .iter()
        .filter(|request| request.method == "PATCH")
        .count()
}

fn passes(stage: &Stage) -> usize {
    let requests = stage.fake.requests();
    let lists = requests
        .iter()
        .filter(|request| request.path == "/1.0/instances");
    lists.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_changes_reaches_volumes_that_are_there_once() {
    let stage = Stage::new().await;
    let running = Running::start(with(&stage, None)).await;
    let api = running.tenant("alice", "write").await;
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    api.agent_in("me", "ready").await;
    assert_eq!(scheduled(&stage), (None, None, false));
    // Without a policy, what somebody set up in Incus is left alone.
    change_volume(&stage, |volume| {
        volume
            .config
            .insert("snapshots.schedule".to_owned(), "@weekly".to_owned())
    });
    running.server.shut_down().await;

    // Each server's every look is two minutes after the last one.
    let looks = Arc::new(AtomicI64::new(0));
    let start = async |plan: Option<SnapshotPlan>| {
        let looks = Arc::clone(&looks);
        let source = move || Clock::system().now() + 120_000 * looks.load(Ordering::Relaxed);
        let options = StartOptions {
            clock: Clock::from_source(source),
            ..StartOptions::default()
        };
        Running::start_with(with(&stage, plan), options).await
    };
    let some_looks = async || {
        for _ in 0..3 {
            looks.fetch_add(1, Ordering::Relaxed);
            let enough = passes(&stage) + 2;
            until("two more passes", || passes(&stage) >= enough).await;
        }
    };
    let by_hand = (Some("@weekly".to_owned()), None, false);
    for (plan, expected) in [
        (None, by_hand),
        (policy("@hourly", "2d"), set("@hourly", "2d")),
        (policy("0 3 * * *", "2w"), set("0 3 * * *", "2w")),
        (None, (None, None, false)),
    ] {
        let what = format!("{plan:?}");
        let running = start(plan).await;
        until(&what, || scheduled(&stage) == expected).await;
        let before = patches(&stage);
        some_looks().await;
        assert_eq!(scheduled(&stage), expected, "{what}");
        assert_eq!(patches(&stage), before, "{what}: changed again and again");
        running.server.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_taken_of_an_agent_that_is_deleted() {
    let stage = Stage::new().await;
    let (clock, ahead) = clock_ahead();
    let options = StartOptions {
        clock,
        ..StartOptions::default()
    };
    let running = Running::start_with(with(&stage, policy("@daily", "7d")), options).await;
    let api = running.tenant("alice", "write").await;
    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    api.agent_in("me", "ready").await;
    let (_, gone) = api.delete("/v1/agents/me").await;
    api.operation(gone["operation"]["operation_id"].as_str().unwrap())
        .await;
    ahead.fetch_add(61_000, Ordering::Relaxed);
    until("its schedule is taken off", || {
        scheduled(&stage) == (None, None, false)
    })
    .await;
    running.server.shut_down().await;
}

async fn taken(client: &Client, volume: &str) -> Vec<VolumeSnapshot> {
    let mut all = client.volume_snapshots("default", volume).await.unwrap();
    all.retain(|found| found.name.starts_with("scheduled-"));
    all
}

/// What Incus's own scheduler takes from now on. What it took before may be older than what the volume holds now.
async fn until_taken(client: &Client, volume: &str) -> VolumeSnapshot {
    let end = Instant::now() + TAKEN_LIMIT;
    let before = taken(client, volume).await;
    loop {
        let is_new = |found: &VolumeSnapshot| before.iter().all(|old| old.name != found.name);
        if let Some(new) = taken(client, volume).await.into_iter().find(is_new) {
            return new;
        }
        assert!(
            Instant::now() < end,
            "Incus took nothing within {TAKEN_LIMIT:?}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_incus_takes_a_backup_each_minute_that_can_be_gone_back_to() {
    let incus = TestIncus::shared().await;
    let client = incus.client().clone();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config_of_tiny(&incus, folder.path(), READY).await;
    config.snapshots = policy("* * * * *", "1H 30M");
    let running = Running::start(config).await;
    let api = running.tenant("alice", "write").await;
    let succeeds = async |path: &str, body: Value| {
        let (status, view) = api.post(path, body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{path}: {view}");
        let id = view["operation"]["operation_id"].as_str().unwrap();
        let end = api.operation_within(id, READY).await;
        assert_eq!(end["state"], "succeeded", "{end}");
    };
    succeeds("/v1/agents/ensure", json!({})).await;
    let ready = api.agent_within("me", "ready", READY).await;
    let vm = ready["vm_id"].as_str().unwrap();
    ask(&client, vm, "echo kept > /mnt/pika-state/note; sync").await;

    let volume = pika_cloud::agent_volume_name(vm);
    let taken = until_taken(&client, &volume).await;
    assert!(taken.expires_at.is_some(), "{taken:?}");
    let listed = backups(&api).await;
    assert!(
        listed.contains(&(taken.name.clone(), "scheduled".to_owned())),
        "{taken:?}: {listed:?}"
    );
    ask(&client, vm, "echo changed > /mnt/pika-state/note").await;
    succeeds("/v1/agents/me/restore", json!({ "backup": taken.name })).await;
    api.agent_within("me", "ready", READY).await;
    assert_eq!(ask(&client, vm, "cat /mnt/pika-state/note").await, "kept");

    let (status, gone) = api.delete("/v1/agents/me?purge=true").await;
    assert_eq!(status, StatusCode::ACCEPTED, "{gone}");
    let id = gone["operation"]["operation_id"].as_str().unwrap();
    let gone = api.operation_within(id, READY).await;
    assert_eq!(gone["state"], "succeeded", "{gone}");
    running.server.shut_down().await;
    incus.assert_nothing_left().await;
}
