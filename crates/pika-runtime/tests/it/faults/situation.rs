//! Worlds in which an ensure or a destroy may begin, and what must be true of them at the end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pika_cloud::labels::LABEL_OWNER;
use pika_cloud::{
    DeploymentId, IncusRuntimeConfig, IncusRuntimePlan, InstanceType, OwnedKind, Ownership,
    RestartPolicy, RuntimeIdentity, RuntimeMount, RuntimeMountKind, RuntimeMountMode, RuntimeSpec,
};
use pika_runtime::{
    Destroyed, EnsureError, Runtime, RuntimeConfig, RuntimeId, Runtimes, StepHook, StepMoment,
    StepPoint, StepVerdict, Timeouts,
};
use pikahut::fake::{DEFAULT_ALIAS, DEFAULT_IMAGE, FakeIncus, Fault, Power, Root, When};

const OWNER: &str = "fault-tests";
const INSTANCE: &str = "faulty";
const VOLUME: &str = "faulty-out";

/// How many fakes a test has at a time: their passes mostly wait.
pub(super) const STAGES_AT_ONCE: usize = 16;

/// What is there before the operation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Situation {
    /// No instance.
    Empty,
    /// A create that goes on for a while.
    CreateUnderWay,
    /// What a killed create left, without a root volume.
    DebrisWithoutRoot,
    /// What a killed create left, with a whole root volume.
    DebrisWithRoot,
    /// It runs.
    Running,
    /// It ran and stopped.
    Stopped,
    /// It is frozen.
    Frozen,
}

impl Situation {
    pub(super) const ALL: [Situation; 7] = [
        Situation::Empty,
        Situation::CreateUnderWay,
        Situation::DebrisWithoutRoot,
        Situation::DebrisWithRoot,
        Situation::Running,
        Situation::Stopped,
        Situation::Frozen,
    ];
}

/// What a pass does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Towards running.
    Ensure,
    /// Towards absent.
    Destroy,
}

/// A fake daemon with one plan to be carried out on it.
pub(super) struct Stage {
    pub(super) fake: FakeIncus,
    plan: IncusRuntimePlan,
    ownership: Ownership,
}

impl Stage {
    /// Brings a fresh fake into a situation.
    pub(super) async fn set(situation: Situation) -> Stage {
        let fake = FakeIncus::start().await.expect("the fake starts");
        if let Some(image) = fake.world().default_project().images.get_mut(DEFAULT_IMAGE) {
            let version = pika_cloud::GUEST_CONTRACT_VERSION.to_string();
            let property = pika_cloud::image_contract::IMAGE_CONTRACT_VERSION;
            image.properties.insert(property.to_owned(), version);
        }
        // The wait for the guest's /run is a script in the guest; here it is over at once.
        fake.on_exec(&["/bin/sh", "-c"], |_| Box::pin(async { Some(0) }));
        let stage = Stage {
            fake,
            plan: plan(),
            ownership: Ownership {
                owner: owner(),
                kind: OwnedKind::Ci,
                generation: 1,
                guest_role: None,
                deadline: None,
            },
        };
        let runtimes = stage.runtimes();
        runtimes
            .ensure_volume("default", "default", VOLUME, "faulty", &stage.ownership)
            .await
            .expect("the volume is made");
        stage.arrange(situation).await;
        stage.fake.clear_requests();
        stage
    }

    async fn arrange(&self, situation: Situation) {
        let crash = Fault::Crash {
            down_for: Duration::from_millis(5),
        };
        match situation {
            Situation::Empty => {}
            Situation::CreateUnderWay => {
                let slow = Fault::Delay(Duration::from_millis(60));
                self.fake.faults().inject(When::step("create.record"), slow);
                self.post_create().await;
            }
            Situation::DebrisWithoutRoot => self.killed_create("create.record", crash).await,
            Situation::DebrisWithRoot => self.killed_create("create.root", crash).await,
            Situation::Running | Situation::Stopped | Situation::Frozen => {
                self.ensure().await.expect("an undisturbed ensure");
                let mut world = self.fake.world();
                let instance = world.instance(INSTANCE).expect("it was just made");
                match situation {
                    Situation::Stopped => instance.halt(),
                    Situation::Frozen => instance.power = Power::Frozen,
                    _ => {}
                }
            }
        }
    }

    async fn post_create(&self) {
        let resolved = self
            .runtimes()
            .resolve(&self.plan, &self.ownership)
            .await
            .expect("the plan fits the fake");
        let _operation = self
            .fake
            .client()
            .create_instance(&resolved.create_body)
            .await
            .expect("a create that is accepted");
    }

    async fn killed_create(&self, step: &str, crash: Fault) {
        self.fake.faults().inject(When::step(step), crash);
        self.post_create().await;
        self.settled().await;
        let mut world = self.fake.world();
        let debris = world.instance(INSTANCE).expect("the record is left");
        assert_eq!(debris.power, Power::Stopped);
        assert_eq!(debris.last_used_at, None);
        let whole = debris.root == Root::Whole;
        assert_eq!(whole, step == "create.root");
    }

    /// Waits until no fault waits any more and the daemon answers.
    pub(super) async fn settled(&self) {
        let client = self.fake.client();
        let struck = pikahut::wait::until_async(Duration::from_secs(5), || async {
            (self.fake.faults().pending() == 0 && client.server().await.is_ok()).then_some(())
        })
        .await;
        assert!(
            struck.is_some(),
            "a fault never struck, or the daemon stayed away"
        );
    }

    /// As a new process would have them: nothing is known from before.
    pub(super) fn runtimes(&self) -> Runtimes {
        let secs = Duration::from_secs;
        let config = RuntimeConfig {
            timeouts: Timeouts {
                create: secs(5),
                start: secs(5),
                stop: secs(5),
                delete: secs(5),
                foreign_operation: secs(5),
                destroy_total: secs(10),
                boot: secs(5),
                reconnect: secs(5),
                ..Timeouts::default()
            },
            ..RuntimeConfig::new(owner())
        };
        Runtimes::new(self.fake.client(), config)
    }

    pub(super) async fn ensure(&self) -> Result<Runtime, EnsureError> {
        self.ensure_with(&self.runtimes()).await
    }

    pub(super) async fn ensure_with(&self, runtimes: &Runtimes) -> Result<Runtime, EnsureError> {
        runtimes.ensure(&self.plan, &self.ownership).await
    }

    pub(super) async fn destroy_with(&self, runtimes: &Runtimes) -> Destroyed {
        runtimes
            .destroy(&RuntimeId::of(&self.plan))
            .await
            .expect("the instance is ours")
    }

    /// Runs a pass; how it ends is its own business.
    pub(super) async fn run(&self, pass: Pass, runtimes: &Runtimes) {
        match pass {
            Pass::Ensure => drop(self.ensure_with(runtimes).await),
            Pass::Destroy => drop(self.destroy_with(runtimes).await),
        }
    }

    /// One further pass of a new process, which must end as wanted.
    pub(super) async fn one_further(&self, pass: Pass, after: &str) {
        match pass {
            Pass::Ensure => {
                let ended = self.ensure().await;
                assert!(ended.is_ok(), "{after}: a further ensure: {ended:?}");
                self.assert_running(after);
            }
            Pass::Destroy => {
                let ended = self.destroy_with(&self.runtimes()).await;
                assert!(ended.is_absent(), "{after}: a further destroy: {ended:?}");
                assert_eq!(self.instances(), [""; 0], "{after}: an orphan is left");
                assert_eq!(
                    self.volumes(),
                    1,
                    "{after}: the volume is not the instance's"
                );
            }
        }
    }

    fn assert_running(&self, after: &str) {
        assert_eq!(self.instances(), [INSTANCE], "{after}");
        assert_eq!(self.volumes(), 1, "{after}");
        let mut world = self.fake.world();
        let instance = world.instance(INSTANCE).expect("just listed");
        assert_eq!(instance.power, Power::Running, "{after}");
        assert_eq!(instance.root, Root::Whole, "{after}");
        let attached = instance
            .devices
            .values()
            .any(|device| device.get("source").is_some_and(|source| source == VOLUME));
        assert!(attached, "{after}: the late device is missing");
    }

    /// Names of all instances; each must carry our label.
    fn instances(&self) -> Vec<String> {
        let mut world = self.fake.world();
        let project = world.default_project();
        for (name, instance) in &project.instances {
            let owner = instance.config.get(LABEL_OWNER).map(String::as_str);
            assert_eq!(owner, Some(OWNER), "instance {name} has no owner label");
        }
        project.instances.keys().cloned().collect()
    }

    fn volumes(&self) -> usize {
        self.fake.world().volume_count()
    }
}

fn owner() -> DeploymentId {
    DeploymentId::new(OWNER).expect("a valid deployment id")
}

fn plan() -> IncusRuntimePlan {
    let mut spec = RuntimeSpec::new(
        RuntimeIdentity {
            runtime_id: "faulty".to_owned(),
            instance_name: INSTANCE.to_owned(),
        },
        IncusRuntimeConfig {
            project: "default".to_owned(),
            profile: "default".to_owned(),
            image_alias: DEFAULT_ALIAS.to_owned(),
            instance_type: Some(InstanceType::Container),
            storage_pool: None,
            target: None,
        },
    );
    // Below /run, so that a container gets it once its guest is up.
    spec.mounts.push(RuntimeMount {
        kind: RuntimeMountKind::ArtifactOutput,
        guest_path: "/run/pika-cloud/artifacts".to_owned(),
        source: VOLUME.to_owned(),
        mode: RuntimeMountMode::ReadWrite,
        required: true,
    });
    // So that a stopped one may be started again.
    spec.policies.restart_policy = RestartPolicy::Always;
    spec.build_incus_plan().expect("a valid spec")
}

/// Notes the points that are reached, and abandons the pass at one of them.
pub(super) struct AbandonAt {
    nth: usize,
    reached: Mutex<Vec<(StepPoint, StepMoment)>>,
}

impl AbandonAt {
    /// Abandons at the nth point, from 0; never, if there are not so many.
    pub(super) fn nth(nth: usize) -> Arc<AbandonAt> {
        Arc::new(AbandonAt {
            nth,
            reached: Mutex::default(),
        })
    }

    pub(super) fn reached(&self) -> Vec<(StepPoint, StepMoment)> {
        self.reached
            .lock()
            .expect("no test panics in between")
            .clone()
    }
}

impl StepHook for AbandonAt {
    fn reached(&self, point: StepPoint, moment: StepMoment) -> StepVerdict {
        let mut reached = self.reached.lock().expect("no test panics in between");
        reached.push((point, moment));
        if reached.len() == self.nth + 1 {
            StepVerdict::Abandon
        } else {
            StepVerdict::Continue
        }
    }
}
