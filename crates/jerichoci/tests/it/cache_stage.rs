//! What tests of caches and payloads share: a daemon, a store with an owner of its own, jobs' uses, instances.

use std::sync::Arc;
use std::time::Duration;

use jerichoci::cache::{CacheKey, CacheStore, CacheUse, Committed, PreparedCache, Trust};
use jerichoci::record::RunId;
use pika_cloud::{
    OwnedKind, Ownership, RuntimeMount, RuntimeMountKind, RuntimeMountMode, RuntimeSpec,
};
use pika_runtime::incus::ExecRequest;
use pika_runtime::{Runtime, RuntimeConfig, Runtimes, VolumeRemoved};
use pikahut::stack::TestIncus;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);
const MOUNTED: &str = "/mnt/cache";

pub(crate) struct Stage {
    pub(crate) incus: TestIncus,
    image: String,
    pub(crate) caches: CacheStore,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let incus = TestIncus::shared().await;
        let image = incus.tiny_image().await;
        let config = RuntimeConfig {
            expected_contract_version: None,
            ..RuntimeConfig::new(incus.owner().parse().unwrap())
        };
        let caches = CacheStore {
            runtimes: Runtimes::new(incus.client().clone(), config),
            project: incus.client().project().to_owned(),
            pool: "default".to_owned(),
            allow_full_copy: false,
            volume_bytes_max: None,
            known: Arc::default(),
        };
        Self {
            incus,
            image,
            caches,
        }
    }

    /// A job's use of the cache `target`; jobs are told apart by their number.
    pub(crate) fn job(&self, number: u32, trust: Trust) -> CacheUse {
        CacheUse {
            key: self.key(),
            volume_prefix: self.incus.name("target"),
            run_id: RunId::new("2026-11-26T10:00:00Z".parse().unwrap(), number),
            lane: "check".to_owned(),
            attempt: 1,
            trust,
            basis: Some(format!("manifest-{number}")),
            deadline: "2030-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    pub(crate) fn key(&self) -> CacheKey {
        CacheKey {
            name: "target".to_owned(),
            whose: self.incus.owner(),
            lane: None,
        }
    }

    /// A running instance with a volume at [`MOUNTED`].
    pub(crate) async fn instance(&self, what: &str, volume: &str) -> Runtime {
        let mount = RuntimeMount {
            kind: RuntimeMountKind::Cache,
            guest_path: MOUNTED.to_owned(),
            source: volume.to_owned(),
            mode: RuntimeMountMode::ReadWrite,
            required: true,
        };
        self.instance_with(what, mount).await
    }

    pub(crate) async fn instance_with(&self, what: &str, mount: RuntimeMount) -> Runtime {
        let name = self.incus.name(what);
        let spec: RuntimeSpec = serde_json::from_value(json!({
            "identity": { "runtime_id": name, "instance_name": name },
            "incus": {
                "project": self.caches.project,
                "profile": "default",
                "image_alias": self.image,
                "instance_type": "container",
            },
            "mounts": [mount],
        }))
        .unwrap();
        let ownership = Ownership {
            owner: self.incus.owner().parse().unwrap(),
            kind: OwnedKind::Ci,
            generation: 1,
            guest_role: None,
            deadline: None,
        };
        let plan = spec.build_incus_plan().unwrap();
        self.caches
            .runtimes
            .ensure(&plan, &ownership)
            .await
            .unwrap()
    }

    pub(crate) async fn destroy(&self, runtime: &Runtime) {
        let end = self.caches.runtimes.destroy(&runtime.id).await.unwrap();
        assert!(end.is_absent(), "{end:?}");
    }

    /// Runs a script in a job's volume and removes the instance. Returns what the script printed.
    pub(crate) async fn sh(&self, what: &str, volume: &str, script: &str) -> String {
        let runtime = self.instance(what, volume).await;
        let printed = self
            .exec(&runtime, &format!("cd {MOUNTED}; {script}"))
            .await;
        self.destroy(&runtime).await;
        printed
    }

    /// Runs a script in an instance as its root.
    pub(crate) async fn exec(&self, runtime: &Runtime, script: &str) -> String {
        let request = ExecRequest::new(["/bin/bash", "-c", script]);
        let output = self
            .incus
            .client()
            .exec_capture(runtime.instance_name(), &request, Default::default(), LIMIT)
            .await
            .unwrap();
        assert_eq!(output.exit_code, 0, "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) async fn prepare(&self, of: &CacheUse) -> PreparedCache {
        let prepared = self.caches.prepare(of).await.unwrap();
        assert_eq!(prepared.volume, of.volume());
        prepared
    }

    pub(crate) async fn commit(&self, of: &CacheUse, now: &str) -> Committed {
        let now = now.parse().unwrap();
        self.caches.commit(of, now, Some(1000)).await.unwrap()
    }

    /// A generation without content.
    pub(crate) async fn generation(&self, number: u32, now: &str) -> CacheUse {
        let of = self.job(number, Trust::Trusted);
        self.prepare(&of).await;
        assert!(matches!(self.commit(&of, now).await, Committed::Now { .. }));
        of
    }

    pub(crate) async fn remove_all(&self, pool: &str) {
        for generation in self.caches.list().await.unwrap() {
            let end = self
                .caches
                .runtimes
                .remove_volume(&self.caches.project, pool, &generation.volume)
                .await;
            assert_eq!(end.unwrap(), VolumeRemoved::Removed);
        }
        self.incus.assert_nothing_left().await;
    }
}
