//! Jobs that begin with what their run listed before: what they ask for, and what becomes of a list that is not true any
//! more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jerichoci::cache::{CacheError, CacheKey, CacheStore, CacheUse, Committed, StartedFrom, Trust};
use jerichoci::record::RunId;
use pika_cloud::{IncusRuntimePlan, RuntimeSpec};
use pika_runtime::{RuntimeConfig, Runtimes, VolumeRemoved};
use pikahut::fake::FakeIncus;
use serde_json::json;

use crate::cache_stage::Stage;

const VOLUMES: &str = "/1.0/storage-pools/default/volumes/custom";

fn store(fake: &FakeIncus) -> CacheStore {
    let config = RuntimeConfig::new("known".parse().unwrap());
    CacheStore {
        runtimes: Runtimes::new(fake.client(), config),
        project: "default".to_owned(),
        pool: "default".to_owned(),
        allow_full_copy: false,
        volume_bytes_max: None,
        known: Arc::default(),
    }
}

fn a_use(number: u32) -> CacheUse {
    CacheUse {
        key: CacheKey {
            name: "target".to_owned(),
            whose: "known".to_owned(),
            lane: None,
        },
        volume_prefix: "known".to_owned(),
        run_id: RunId::new("2026-11-26T10:00:00Z".parse().unwrap(), number),
        lane: "check".to_owned(),
        attempt: 1,
        trust: Trust::Trusted,
        basis: None,
        deadline: "2030-01-01T00:00:00Z".parse().unwrap(),
    }
}

fn plan_with(volume: &str) -> IncusRuntimePlan {
    let spec: RuntimeSpec = serde_json::from_value(json!({
        "identity": { "runtime_id": "known", "instance_name": "known" },
        "incus": { "project": "default", "profile": "default", "image_alias": "pika", "instance_type": "container" },
        "mounts": [{
            "kind": "cache", "guest_path": "/cache", "source": volume, "mode": "read_write", "required": true,
        }],
    }))
    .unwrap();
    spec.build_incus_plan().unwrap()
}

/// What was asked for since the last call: method and path, and what an operation is called left out.
fn asked(fake: &FakeIncus) -> Vec<String> {
    let requests = fake.requests();
    fake.clear_requests();
    let shown = requests.into_iter().map(|request| {
        let path = match request.path.split_once("/operations/") {
            Some((before, _)) => format!("{before}/operations/..."),
            None => request.path,
        };
        format!("{} {path}", request.method)
    });
    shown.collect()
}

async fn commit(caches: &CacheStore, of: &CacheUse, now: &str) {
    let committed = caches.commit(of, now.parse().unwrap(), None).await.unwrap();
    assert!(matches!(committed, Committed::Now { .. }), "{committed:?}");
}

/// The volume that a use starts from when it begins now.
async fn begun_from(caches: &CacheStore, of: &CacheUse) -> String {
    match caches.prepare_new(of).await.unwrap().started_from {
        StartedFrom::Generation { volume, .. } => volume,
        StartedFrom::Nothing => String::new(),
    }
}

#[tokio::test]
async fn a_job_that_begins_asks_for_its_clone_and_nothing_else() {
    let fake = FakeIncus::start().await.unwrap();
    let caches = store(&fake);
    let first = a_use(1);
    assert_eq!(begun_from(&caches, &first).await, "");
    commit(&caches, &first, "2026-11-26T10:00:00Z").await;
    // As a run does before its jobs, which learn the pool's driver by it.
    caches.runtimes.facts(&plan_with("none")).await.unwrap();
    let held = BTreeSet::from([first.key.clone()]);
    assert_eq!(caches.list_held(held).await.unwrap().len(), 1);
    asked(&fake);

    let second = a_use(2);
    assert_eq!(begun_from(&caches, &second).await, first.volume());
    let clone = [
        format!("POST {VOLUMES}"),
        "GET /1.0/operations/...".to_owned(),
        format!("PATCH {VOLUMES}/{}", second.volume()),
    ];
    assert_eq!(asked(&fake), clone);

    // Its plan counts on the volume once, and never lists.
    let plan = plan_with(&second.volume());
    let looks_at_volumes = async || {
        let facts = caches.runtimes.facts(&plan).await.unwrap();
        assert!(facts.volumes.contains(&second.volume()));
        let mut asked = asked(&fake);
        asked.retain(|request| request.contains("/volumes"));
        asked
    };
    assert_eq!(looks_at_volumes().await, [""; 0]);
    let by_name = format!("GET {VOLUMES}/{}", second.volume());
    assert_eq!(looks_at_volumes().await, [by_name]);

    // One that another process may have begun looks first.
    let again = caches.prepare(&second).await.unwrap();
    assert_eq!(again.volume, second.volume());
    let asked = asked(&fake);
    assert!(!asked.contains(&format!("POST {VOLUMES}")), "{asked:?}");
}

#[tokio::test]
async fn a_volume_that_is_gone_is_missed_though_it_was_made_here() {
    let fake = FakeIncus::start().await.unwrap();
    let caches = store(&fake);
    let of = a_use(1);
    begun_from(&caches, &of).await;
    let removed = caches
        .runtimes
        .remove_volume("default", "default", &of.volume())
        .await;
    assert_eq!(removed.unwrap(), VolumeRemoved::Removed);
    let facts = caches.runtimes.facts(&plan_with(&of.volume())).await;
    assert_eq!(facts.unwrap().volumes, BTreeSet::new());
}

#[tokio::test]
async fn what_is_there_counts_where_the_list_is_not_true_any_more() {
    let stage = Stage::new().await;
    let caches = &stage.caches;
    let client = stage.incus.client();
    let listed = async || {
        let held = BTreeSet::from([stage.key()]);
        caches.list_held(held).await.unwrap();
    };
    let first = stage.generation(1, "2026-11-26T10:00:00Z").await;
    let second = stage.generation(2, "2026-11-26T11:00:00Z").await;
    listed().await;

    // Another process removed the generation that was the newest.
    client
        .delete_volume("default", &second.volume())
        .await
        .unwrap();
    let third = stage.job(3, Trust::Trusted);
    assert_eq!(begun_from(caches, &third).await, first.volume());

    // What a job of this run left is what the next one starts from.
    assert!(matches!(
        stage.commit(&third, "2026-11-26T12:00:00Z").await,
        Committed::Now { .. }
    ));
    let fourth = stage.job(4, Trust::Untrusted);
    assert_eq!(begun_from(caches, &fourth).await, third.volume());

    // A working volume that a killed process left half made.
    listed().await;
    let fifth = stage.job(5, Trust::Untrusted);
    begun_from(caches, &fifth).await;
    let unfinished = BTreeMap::from([("user.pika.unfinished".to_owned(), "true".to_owned())]);
    client
        .patch_volume("default", &fifth.volume(), &unfinished, None)
        .await
        .unwrap();
    let prepared = caches.prepare_new(&fifth).await.unwrap();
    assert!(prepared.took_ms > 0, "made again: {prepared:?}");
    let now = client.volume("default", &fifth.volume()).await.unwrap();
    assert!(!now.value.config.contains_key("user.pika.unfinished"));

    // And one of the name that is something else.
    let forged = CacheUse {
        trust: Trust::Trusted,
        ..fifth
    };
    let taken = caches.prepare_new(&forged).await.unwrap_err();
    assert!(matches!(taken, CacheError::Taken { .. }), "{taken}");
    stage.remove_all("default").await;
}
