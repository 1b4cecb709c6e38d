//! A daemon, real or fake, with agents on it.

use std::collections::BTreeMap;

use pika_cloud::{
    IncusRuntimePlan, OwnedKind, Ownership, RuntimeSpec, agent_instance_name, agent_volume_name,
};
use pika_incus::{Client, StateChange};
use pika_runtime::{
    NewVolume, Runtime, RuntimeConfig, RuntimeId, Runtimes, VolumeEnsured, VolumeRemoved,
};
use pikahut::daemon::PrivateIncus;
use pikahut::fake::{DEFAULT_ALIAS, FakeIncus};
use pikahut::stack::TestIncus;
use serde_json::{Value, json};

use crate::support::LIMIT;

pub(super) const PROJECT: &str = "default";
/// Where an agent's volume is in its guest.
pub(super) const STATE: &str = "/mnt/pika-state";
const STATUS_DIR: &str = "/run/pika-cloud";

pub(super) struct AgentStage {
    pub(super) runtimes: Runtimes,
    pub(super) client: Client,
    /// The pool that everything is in.
    pub(super) pool: String,
    image: String,
    prefix: String,
    owner: String,
    daemon: Daemon,
}

enum Daemon {
    Real(Box<TestIncus>),
    Fake(Box<FakeIncus>),
}

/// One agent: its names follow from its id.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) id: RuntimeId,
    pub(super) volume: String,
}

impl AgentStage {
    pub(super) async fn real() -> AgentStage {
        Self::on_real(TestIncus::shared().await).await
    }

    async fn on_real(incus: TestIncus) -> AgentStage {
        let image = incus.tiny_image().await;
        let (prefix, owner) = (incus.name("ag"), incus.owner());
        let client = incus.client().clone();
        Self::on(client, image, prefix, owner, Daemon::Real(Box::new(incus)))
    }

    pub(super) async fn fake() -> AgentStage {
        let fake = FakeIncus::start().await.expect("the fake starts");
        let client = fake.client();
        let daemon = Daemon::Fake(Box::new(fake));
        Self::on(
            client,
            DEFAULT_ALIAS.to_owned(),
            "ag".to_owned(),
            "agents".to_owned(),
            daemon,
        )
    }

    fn on(
        client: Client,
        image: String,
        prefix: String,
        owner: String,
        daemon: Daemon,
    ) -> AgentStage {
        let config = RuntimeConfig {
            expected_contract_version: None,
            ..RuntimeConfig::new(owner.parse().unwrap())
        };
        AgentStage {
            runtimes: Runtimes::new(client.clone(), config),
            client,
            pool: "default".to_owned(),
            image,
            prefix,
            owner,
            daemon,
        }
    }

    /// On a daemon that this test may kill.
    pub(super) async fn private(name: &str) -> AgentStage {
        let incus = TestIncus::private(name).await;
        Self::on_real(incus).await
    }

    /// The test's own daemon.
    pub(super) fn daemon(&self) -> &PrivateIncus {
        match &self.daemon {
            Daemon::Real(incus) => incus.daemon(),
            Daemon::Fake(_) => panic!("this test is for a real daemon"),
        }
    }

    /// On a pool of plain directories, where Incus copies each byte.
    pub(super) async fn real_on_dir() -> AgentStage {
        let mut stage = Self::real().await;
        let pool = stage.name("dir");
        let plain = BTreeMap::new();
        let made = stage.client.create_pool(&pool, "dir", &plain).await;
        made.unwrap();
        stage.pool = pool;
        stage
    }

    /// The fake; nothing on a real daemon.
    pub(super) fn as_fake(&self) -> Option<&FakeIncus> {
        match &self.daemon {
            Daemon::Fake(fake) => Some(fake),
            Daemon::Real(_) => None,
        }
    }

    pub(super) fn ownership(&self, generation: u64) -> Ownership {
        Ownership {
            owner: self.owner.parse().unwrap(),
            kind: OwnedKind::Agent,
            generation,
            guest_role: None,
            deadline: None,
        }
    }

    /// The names of an agent of this test alone.
    pub(super) fn agent(&self, what: &str) -> Agent {
        let agent_id = format!("{}-{what}", self.prefix);
        let name = agent_instance_name(&agent_id);
        Agent {
            id: RuntimeId::new(&agent_id, &name, PROJECT),
            volume: agent_volume_name(&name),
        }
    }

    pub(super) fn plan(&self, agent: &Agent) -> IncusRuntimePlan {
        self.plan_with(agent, json!({}))
    }

    pub(super) fn plan_with(&self, agent: &Agent, fields: Value) -> IncusRuntimePlan {
        let mut spec = json!({
            "identity": { "runtime_id": agent.id.runtime_id(), "instance_name": agent.id.instance_name() },
            "incus": {
                "project": PROJECT, "profile": "default", "image_alias": self.image,
                "instance_type": "container", "storage_pool": self.pool,
            },
            "policies": { "restart_policy": "always" },
            "labels": { "tenant": "t1" },
            "mounts": [{
                "kind": "persistent_volume", "guest_path": STATE, "source": agent.volume,
                "mode": "read_write", "required": true,
            }],
        });
        if let (Some(spec), Some(fields)) = (spec.as_object_mut(), fields.as_object()) {
            spec.extend(fields.clone());
        }
        let spec: RuntimeSpec = serde_json::from_value(spec).unwrap();
        spec.build_incus_plan().unwrap()
    }

    pub(super) async fn make_volume(&self, agent: &Agent) -> VolumeEnsured {
        let new = NewVolume {
            volume: &agent.volume,
            runtime_id: agent.id.runtime_id(),
            ownership: &self.ownership(1),
            labels: &BTreeMap::new(),
            guest_owner: None,
            size_bytes_max: Some(64 << 20),
            snapshots: None,
            with_origin: true,
        };
        let made = self
            .runtimes
            .ensure_new_volume(PROJECT, &self.pool, &new)
            .await;
        made.unwrap()
    }

    pub(super) async fn ensure(&self, agent: &Agent, generation: u64) -> Runtime {
        let plan = self.plan(agent);
        let ownership = self.ownership(generation);
        self.runtimes.ensure(&plan, &ownership).await.unwrap()
    }

    /// A running agent on a volume of its own.
    pub(super) async fn running(&self, what: &str) -> Agent {
        let agent = self.agent(what);
        assert_eq!(self.make_volume(&agent).await, VolumeEnsured::Created);
        self.ensure(&agent, 1).await;
        agent
    }

    pub(super) async fn sh(&self, agent: &Agent, script: &str) -> String {
        let request = pika_incus::ExecRequest::new(["/bin/sh", "-c", script]);
        let name = agent.id.instance_name();
        let ran = self
            .client
            .exec_capture(name, &request, Default::default(), LIMIT);
        let output = ran.await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.exit_code, 0, "{script}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes a running agent's volume hold this and nothing else.
    pub(super) async fn write(&self, agent: &Agent, text: &str) {
        match self.as_fake() {
            None => drop(self.sh(agent, &format!("echo {text} >{STATE}/file")).await),
            Some(fake) => {
                let mut world = fake.world();
                let pool = world.pools.get_mut(&self.pool).unwrap();
                let key = (PROJECT.to_owned(), agent.volume.clone());
                pool.volumes.get_mut(&key).unwrap().content = text.into();
            }
        }
    }

    /// What a running agent's volume holds; nothing for an empty one.
    pub(super) async fn read(&self, agent: &Agent) -> String {
        match self.as_fake() {
            None => {
                let script = format!("for f in {STATE}/*; do [ ! -e $f ] || cat $f; done");
                self.sh(agent, &script).await.trim().to_owned()
            }
            Some(fake) => {
                let world = fake.world();
                let key = (PROJECT.to_owned(), agent.volume.clone());
                let content = &world.pools[&self.pool].volumes[&key].content;
                String::from_utf8_lossy(content).into_owned()
            }
        }
    }

    /// Has a guest write a status of this boot, or of the one that is named.
    pub(super) async fn say(&self, agent: &Agent, state: &str, boot_id: Option<&str>) {
        match self.as_fake() {
            None => {
                let boot = boot_id.unwrap_or("$(cat /proc/sys/kernel/random/boot_id)");
                let status = format!(
                    r#"{{\"schema_version\":1,\"state\":\"{state}\",\"updated_at\":\"2026-11-26T10:00:00.000Z\",\"message\":\"m\",\"boot_id\":\"{boot}\"}}"#
                );
                let write =
                    format!("mkdir -p {STATUS_DIR}; echo \"{status}\" >{STATUS_DIR}/status.json");
                self.sh(agent, &write).await;
            }
            Some(fake) => {
                let guest = fake.guest(agent.id.instance_name());
                let state = serde_json::from_value(json!(state)).unwrap();
                assert!(match boot_id {
                    Some(boot_id) => guest.says_in_boot(boot_id, state),
                    None => guest.says(state, Value::Null),
                });
            }
        }
    }

    pub(super) async fn stop(&self, agent: &Agent) {
        let stopped = self
            .runtimes
            .stop(&agent.id, std::time::Duration::ZERO)
            .await;
        stopped.unwrap();
    }

    pub(super) async fn remove(&self, agent: &Agent) {
        let end = self.runtimes.destroy(&agent.id).await.unwrap();
        assert!(end.is_absent(), "{end:?}");
        let removed = self
            .runtimes
            .remove_volume(PROJECT, &self.pool, &agent.volume)
            .await;
        let removed = removed.unwrap();
        assert!(
            matches!(removed, VolumeRemoved::Removed | VolumeRemoved::Gone),
            "{removed:?}"
        );
    }

    /// An instance that the runtime did not make. It is named so that the check for leftovers finds it.
    pub(super) async fn foreign(&self, what: &str, config: Value, start: bool) -> String {
        let name = format!("{}-{what}", self.prefix);
        let body = json!({
            "name": name, "type": "container", "profiles": ["default"], "start": start,
            "source": { "type": "image", "alias": self.image }, "config": config,
        });
        let made = self.client.create_instance(&body).await.unwrap();
        made.wait(LIMIT).await.unwrap();
        name
    }

    pub(super) async fn remove_foreign(&self, name: &str) {
        let status = self.client.instance(name).await.unwrap().value.status;
        if status.is_running() {
            let change = StateChange::force_stop();
            let stop = self.client.set_instance_state(name, &change).await;
            stop.unwrap().wait(LIMIT).await.unwrap();
        }
        let deleted = self.client.delete_instance(name).await.unwrap();
        deleted.wait(LIMIT).await.unwrap();
    }

    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// A name that belongs to this test alone.
    pub(super) fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }

    /// An image that was unpacked into the pool is in the way.
    async fn remove_pool(&self) {
        crate::support::until("the pool is free", || async {
            match self.client.delete_pool(&self.pool).await {
                Ok(()) => true,
                Err(error) => {
                    let used = self.client.pool(&self.pool).await.unwrap().value.used_by;
                    let images = |path: &String| path.starts_with("/1.0/images/");
                    assert!(used.iter().all(images), "{error}: {used:?}");
                    false
                }
            }
        })
        .await;
    }

    /// Ends the test: nothing of it may be left.
    pub(super) async fn finish(self) {
        match &self.daemon {
            Daemon::Real(incus) => {
                if self.pool != "default" {
                    self.remove_pool().await;
                }
                incus.assert_nothing_left().await;
            }
            Daemon::Fake(fake) => {
                let world = fake.world();
                assert_eq!((world.instance_count(), world.volume_count()), (0, 0));
            }
        }
    }
}
