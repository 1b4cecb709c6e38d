//! What the tests share: a daemon, an owner of their own, plans.

use std::path::Path;
use std::time::Duration;

use pika_cloud::{
    DeploymentId, GuestRequest, IncusRuntimePlan, OwnedKind, Ownership, RunEnd, RuntimeSpec,
};
use pika_incus::{Client, ExecRequest, InstanceStatus, StateChange};
use pika_runtime::{
    InfrastructureKind, RunReport, RunVerdict, Runtime, RuntimeConfig, RuntimeId, Runtimes,
};
use pikahut::stack::TestIncus;
use serde_json::{Value, json};

/// Longest wait for something that the daemon does by itself.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A daemon, and a runtime executor with an owner of this test alone.
pub(crate) struct Stage {
    pub(crate) incus: TestIncus,
    pub(crate) runtimes: Runtimes,
    pub(crate) image: String,
}

impl Stage {
    /// On the shared daemon, with the image that has no runner in it.
    pub(crate) async fn tiny() -> Self {
        let incus = TestIncus::shared().await;
        let image = incus.tiny_image().await;
        let config = RuntimeConfig {
            expected_contract_version: None,
            ..config(&incus)
        };
        Self {
            runtimes: Runtimes::new(incus.client().clone(), config),
            incus,
            image,
        }
    }

    /// On the shared daemon, with the runner's image.
    pub(crate) async fn runner() -> Self {
        Self::runner_on(TestIncus::shared().await).await
    }

    /// On a daemon that this test may kill.
    pub(crate) async fn runner_on(incus: TestIncus) -> Self {
        let image = incus.runner_image().await;
        Self {
            runtimes: Runtimes::new(incus.client().clone(), config(&incus)),
            incus,
            image,
        }
    }

    /// The same with other settings.
    pub(crate) fn with_config(
        mut self,
        change: impl FnOnce(RuntimeConfig) -> RuntimeConfig,
    ) -> Self {
        self.runtimes = Runtimes::new(self.client().clone(), change(config(&self.incus)));
        self
    }

    /// Runs a command as the job's user and returns report and log.
    pub(crate) async fn run(&self, runtime: &Runtime, command: &str) -> (RunReport, String) {
        self.run_request(runtime, &GuestRequest::new(command, 60))
            .await
    }

    /// Runs a command as root.
    pub(crate) async fn run_as_root(
        &self,
        runtime: &Runtime,
        command: &str,
    ) -> (RunReport, String) {
        let request = GuestRequest {
            run_as_root: true,
            ..GuestRequest::new(command, 60)
        };
        self.run_request(runtime, &request).await
    }

    pub(crate) async fn run_request(
        &self,
        runtime: &Runtime,
        request: &GuestRequest,
    ) -> (RunReport, String) {
        let mut log = Vec::new();
        let report = self.runtimes.run(runtime, request, &mut log).await.unwrap();
        assert_eq!(report.log_bytes, log.len() as u64);
        (report, String::from_utf8_lossy(&log).into_owned())
    }

    pub(crate) fn client(&self) -> &Client {
        self.incus.client()
    }

    pub(crate) fn ownership(&self) -> Ownership {
        Ownership {
            owner: owner(&self.incus),
            kind: OwnedKind::Ci,
            generation: 1,
            guest_role: None,
            deadline: None,
        }
    }

    /// A plan with this test's own instance name.
    pub(crate) fn plan(&self, what: &str) -> IncusRuntimePlan {
        self.plan_with(what, json!({}))
    }

    /// The same, with fields of the spec replaced.
    pub(crate) fn plan_with(&self, what: &str, fields: Value) -> IncusRuntimePlan {
        let name = self.incus.name(what);
        let mut spec = json!({
            "identity": { "runtime_id": format!("run-{name}"), "instance_name": name },
            "incus": {
                "project": self.client().project(),
                "profile": "default",
                "image_alias": self.image,
                "instance_type": "container",
            },
        });
        if let (Some(spec), Some(fields)) = (spec.as_object_mut(), fields.as_object()) {
            spec.extend(fields.clone());
        }
        let spec: RuntimeSpec = serde_json::from_value(spec).unwrap();
        spec.build_incus_plan().unwrap()
    }

    pub(crate) async fn ensure(&self, plan: &IncusRuntimePlan) -> Runtime {
        self.runtimes.ensure(plan, &self.ownership()).await.unwrap()
    }

    /// An instance that the runtime did not make, with this configuration. Returns its name.
    pub(crate) async fn foreign(&self, what: &str, config: Value, start: bool) -> String {
        let name = self.incus.name(what);
        let body = json!({
            "name": name, "type": "container", "profiles": ["default"], "start": start,
            "source": { "type": "image", "alias": self.image }, "config": config,
        });
        self.client()
            .create_instance(&body)
            .await
            .unwrap()
            .wait(LIMIT)
            .await
            .unwrap();
        name
    }

    pub(crate) async fn status(&self, name: &str) -> InstanceStatus {
        self.client().instance(name).await.unwrap().value.status
    }

    pub(crate) async fn change(&self, name: &str, change: StateChange) {
        self.client()
            .set_instance_state(name, &change)
            .await
            .unwrap()
            .wait(LIMIT)
            .await
            .unwrap();
    }

    /// Removes an instance that the runtime refuses to touch.
    pub(crate) async fn remove_foreign(&self, name: &str) {
        if self.status(name).await.is_running() {
            self.change(name, StateChange::force_stop()).await;
        }
        self.client()
            .delete_instance(name)
            .await
            .unwrap()
            .wait(LIMIT)
            .await
            .unwrap();
    }

    /// Runs a shell script in an instance as root.
    pub(crate) async fn sh(&self, name: &str, script: &str) -> String {
        let request = ExecRequest::new(["/bin/sh", "-c", script]);
        let output = self
            .client()
            .exec_capture(name, &request, Default::default(), LIMIT)
            .await
            .unwrap();
        assert_eq!(
            output.exit_code,
            0,
            "{script}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes the guest end itself; what the exec that asked for it ends with is chance.
    pub(crate) async fn end_init(&self, name: &str) {
        self.end_guest(name, "kill -TERM 1").await;
    }

    /// Starts a script as root that outlives its exec.
    pub(crate) async fn leave_running(&self, name: &str, script: &str) {
        let quoted = script.replace('\'', "'\\''");
        self.sh(
            name,
            &format!("setsid sh -c '{quoted}' </dev/null >/dev/null 2>&1 &"),
        )
        .await;
    }

    /// Makes the guest end itself with a script of its own.
    pub(crate) async fn end_guest(&self, name: &str, script: &str) {
        let request = ExecRequest::new(["/bin/sh", "-c", script]);
        drop(
            self.client()
                .exec_capture(name, &request, Default::default(), LIMIT)
                .await,
        );
    }

    pub(crate) async fn destroy(&self, runtime: &Runtime) {
        let end = self.runtimes.destroy(&runtime.id).await.unwrap();
        assert!(end.is_absent(), "{end:?}");
        self.incus.assert_nothing_left().await;
    }
}

pub(crate) fn owner(incus: &TestIncus) -> DeploymentId {
    incus.owner().parse().unwrap()
}

pub(crate) fn config(incus: &TestIncus) -> RuntimeConfig {
    RuntimeConfig::new(owner(incus))
}

/// Polls until it is so, at most for [`LIMIT`].
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !is_so().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what} did not come about within {LIMIT:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn id_of(plan: &IncusRuntimePlan) -> RuntimeId {
    RuntimeId::of(plan)
}

/// A client of a socket that this test chose.
pub(crate) fn client_at(socket: &Path) -> Client {
    Client::unix(socket)
}

/// How the command ended, by the guest's record.
#[track_caller]
pub(crate) fn ended(report: &RunReport) -> &RunEnd {
    match &report.end {
        RunVerdict::Ended(record) => &record.end,
        other => panic!("{other:?}"),
    }
}

/// What failed around the command.
#[track_caller]
pub(crate) fn infrastructure(report: &RunReport) -> (InfrastructureKind, &str) {
    match &report.end {
        RunVerdict::Infrastructure { kind, cause } => (*kind, cause),
        other => panic!("{other:?}"),
    }
}
