//! The images of managed agents and sandboxes, booted for real: ready when they are, failed when they are, and the same
//! after their root is gone.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pika_cloud::lifecycle::{decode_events, decode_status};
use pika_cloud::{IncusRuntimePlan, LifecycleState, LifecycleStatus, OwnedKind, Ownership};
use pika_incus::{ExecRequest, FileMeta};
use pika_runtime::{Runtime, Runtimes};
use pikahut::stack::TestIncus;
use serde_json::{Value, json};

use crate::support::{LIMIT, Stage, config, owner};

const POOL: &str = "default";
const VOLUME: &str = "/mnt/pika-state";
/// A gateway takes seconds to start alone on a machine, and minutes where everything else runs too.
const READY: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_millis(250);
const HEALTH: &str = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:18789/health";

impl Stage {
    async fn agent() -> Stage {
        let incus = TestIncus::shared().await;
        let image = incus.agent_image().await;
        Stage::of(incus, image)
    }

    async fn sandbox() -> Stage {
        let incus = TestIncus::shared().await;
        let image = incus.sandbox_image().await;
        Stage::of(incus, image)
    }

    fn of(incus: TestIncus, image: String) -> Stage {
        Stage {
            runtimes: Runtimes::new(incus.client().clone(), config(&incus)),
            incus,
            image,
        }
    }

    /// An empty volume of this test's own.
    async fn agent_volume(&self, what: &str) -> String {
        let name = self.incus.name(what);
        let ownership = Ownership {
            owner: owner(&self.incus),
            kind: OwnedKind::Agent,
            generation: 1,
            guest_role: None,
            deadline: None,
        };
        let project = self.client().project();
        self.runtimes
            .ensure_volume(project, POOL, &name, &name, &ownership)
            .await
            .unwrap();
        name
    }

    fn plan_on(&self, what: &str, volume: &str) -> IncusRuntimePlan {
        let mounts = json!([{
            "kind": "persistent_volume", "guest_path": VOLUME, "source": volume,
            "mode": "read_write", "required": true,
        }]);
        self.plan_with(what, json!({ "mounts": mounts }))
    }

    async fn remove_agent_volume(&self, volume: &str) {
        self.runtimes
            .remove_volume(self.client().project(), POOL, volume)
            .await
            .unwrap();
        self.incus.assert_nothing_left().await;
    }

    async fn lifecycle(&self, name: &str) -> Option<LifecycleStatus> {
        let path = "/run/pika-cloud/status.json";
        let bytes = self.client().file_read(name, path, 65_536).await.ok()?;
        Some(decode_status(path, &bytes).unwrap())
    }

    /// Waits until the guest says so; gives the whole status.
    async fn says(&self, name: &str, state: LifecycleState) -> LifecycleStatus {
        let deadline = tokio::time::Instant::now() + READY;
        loop {
            let status = self.lifecycle(name).await;
            if let Some(status) = status.as_ref().filter(|status| status.state == state) {
                return status.clone();
            }
            if tokio::time::Instant::now() > deadline {
                let journal = "journalctl --no-pager -n 60; systemctl --no-pager --failed";
                let journal = self.sh(name, journal).await;
                panic!("no {state} within {READY:?}, but {status:?}\n{journal}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Polls with a shell command in the guest until it ends 0.
    async fn becomes_true(&self, name: &str, script: &str) {
        let deadline = tokio::time::Instant::now() + READY;
        let request = ExecRequest::new(["/bin/sh", "-c", script]);
        loop {
            let ended = self
                .client()
                .exec_capture(name, &request, Default::default(), LIMIT)
                .await;
            if ended.is_ok_and(|output| output.exit_code == 0) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{name}: never {script}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn json_of(&self, name: &str, path: &str) -> Value {
        let bytes = self.client().file_read(name, path, 1 << 20).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn push(&self, name: &str, path: &str, bytes: Vec<u8>, mode: u32) {
        let meta = FileMeta::root(mode);
        self.client()
            .file_put(name, path, bytes, &meta)
            .await
            .unwrap();
    }
}

fn name_of(runtime: &Runtime) -> &str {
    runtime.instance_name()
}

/// The whole of an agent's life: ready with nothing pushed, configured with a secret, its root lost, and the same again.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_ready_takes_its_configuration_and_outlives_its_root() {
    let stage = Stage::agent().await;
    let volume = stage.agent_volume("state").await;
    let first = stage.ensure(&stage.plan_on("agent", &volume)).await;
    let name = name_of(&first).to_owned();
    stage.says(&name, LifecycleState::Ready).await;
    assert_eq!(stage.sh(&name, HEALTH).await, "200");
    let identity = stage.json_of(&name, "/mnt/pika-state/identity.json").await;
    let openclaw = "/mnt/pika-state/openclaw/openclaw.json";
    let own = stage.json_of(&name, openclaw).await["gateway"]["auth"]["token"].clone();
    assert_eq!(own.as_str().unwrap().len(), 64, "{own}");
    // Nobody but the agent's user reads it, nothing of the agent is root's, and its state is on the volume alone.
    let facts = format!(
        "test \"$(stat -c '%U %a' {openclaw})\" = 'pika 600' && \
         test \"$(ps -o user= -C openclaw-gateway | sort -u)\" = pika && \
         test \"$(stat -c '%U %a' /mnt/pika-state)\" = 'root 755' && \
         test -z \"$(find /home/pika /root /var/lib -xdev -user pika -newer /etc/pika-image-role -type f)\" && \
         ss -ltn | grep -q 127.0.0.1:18789 && ! ss -ltn | grep -q '0.0.0.0:18789'"
    );
    stage.sh(&name, &facts).await;

    let pushed = json!({
        "schema_version": 1, "revision": "r1",
        "openclaw": { "gateway": { "auth": { "token": "chosen-by-the-host" } } },
        "environment": { "PIKA_TEST_KEY": "a secret" },
    });
    stage
        .push(
            &name,
            "/run/pika-agent/config.json",
            pushed.to_string().into_bytes(),
            0o600,
        )
        .await;
    stage
        .becomes_true(
            &name,
            "test -e /run/pika-agent/result.json && test ! -e /run/pika-agent/config.json",
        )
        .await;
    let told = stage.json_of(&name, "/run/pika-agent/result.json").await;
    assert_eq!(
        (&told["applied"], &told["revision"]),
        (&json!(true), &json!("r1"))
    );
    // The gateway was started anew, with it.
    let has_key = "tr '\\0' '\\n' < /proc/$(systemctl show --value -p MainPID pika-agent)/environ | grep -qx 'PIKA_TEST_KEY=a secret'";
    stage.becomes_true(&name, has_key).await;
    stage
        .becomes_true(&name, &format!("test \"$({HEALTH})\" = 200"))
        .await;
    stage.says(&name, LifecycleState::Ready).await;
    // Nothing of it is where Incus shows it.
    let shown = stage.client().instance(&name).await.unwrap().value;
    assert!(!format!("{shown:?}").contains("a secret"));
    assert!(!format!("{shown:?}").contains("chosen-by-the-host"));

    // The root goes behind the runtime's back.
    stage.remove_foreign(&name).await;
    let second = stage.ensure(&stage.plan_on("agent", &volume)).await;
    stage.says(&name, LifecycleState::Ready).await;
    assert_eq!(stage.sh(&name, HEALTH).await, "200");
    assert_eq!(
        stage.json_of(&name, "/mnt/pika-state/identity.json").await,
        identity
    );
    let token = stage.json_of(&name, openclaw).await["gateway"]["auth"]["token"].clone();
    assert_eq!(token, "chosen-by-the-host");
    stage.becomes_true(&name, has_key).await;
    let end = stage.runtimes.destroy(&second.id).await.unwrap();
    assert!(end.is_absent(), "{end:?}");
    stage.remove_agent_volume(&volume).await;
}

/// Without its volume it waits and writes nothing; with it, it goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_its_volume_is_not_ready_until_that_comes() {
    let stage = Stage::agent().await;
    let runtime = stage.ensure(&stage.plan("late")).await;
    let name = name_of(&runtime).to_owned();
    let starting = stage.says(&name, LifecycleState::Starting).await;
    assert!(
        starting.message.contains("waiting for the volume"),
        "{}",
        starting.message
    );
    // The gateway's unit has come to where it waits, and has no gateway.
    stage
        .becomes_true(&name, "test \"$(systemctl show --value -p SubState pika-agent)\" = start-pre && pgrep -f 'pika-agent-setup prepare'")
        .await;
    stage
        .sh(
            &name,
            "test -z \"$(ls -A /mnt/pika-state)\" && ! pgrep -u pika",
        )
        .await;
    // Whoever the agent is, it can't write there.
    stage
        .sh(
            &name,
            "! runuser -u pika -- touch /mnt/pika-state/x 2>/dev/null",
        )
        .await;

    let volume = stage.agent_volume("late").await;
    let device = json!({ "devices": { "late": {
        "type": "disk", "pool": POOL, "source": volume, "path": VOLUME,
    } } });
    stage.client().patch_instance(&name, &device).await.unwrap();
    stage.says(&name, LifecycleState::Ready).await;
    assert_eq!(stage.sh(&name, HEALTH).await, "200");
    let events = stage
        .client()
        .file_read(&name, "/run/pika-cloud/events.jsonl", 1 << 20)
        .await
        .unwrap();
    let events = decode_events("events", &events).unwrap().events;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds.first(), Some(&"booted"), "{kinds:?}");
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "ready").count(),
        1,
        "{kinds:?}"
    );
    let end = stage.runtimes.destroy(&runtime.id).await.unwrap();
    assert!(end.is_absent(), "{end:?}");
    stage.remove_agent_volume(&volume).await;
}

/// A gateway that is killed again and again is told as what it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_gateway_dies_again_and_again_is_failed_with_its_reason() {
    let stage = Stage::agent().await;
    let volume = stage.agent_volume("loop").await;
    let runtime = stage.ensure(&stage.plan_on("loop", &volume)).await;
    let name = name_of(&runtime).to_owned();
    stage.says(&name, LifecycleState::Ready).await;
    // Whatever main process the unit has is killed as soon as it is there.
    stage
        .leave_running(
            &name,
            "until test \"$(systemctl show --value -p ActiveState pika-agent)\" = failed; do \
             systemctl kill --signal=KILL --kill-who=main pika-agent 2>/dev/null; sleep 0.5; done; \
             touch /run/nobody-kills",
        )
        .await;
    let failed = stage.says(&name, LifecycleState::Failed).await;
    let details = failed.details.unwrap();
    assert_eq!(details["crash_loop"], true, "{}", failed.message);
    assert!(details["restarts"].as_u64().unwrap() >= 4, "{details}");
    assert_eq!(details["ending"], "signal 9", "{details}");
    assert!(
        failed.message.contains("pika-agent.service"),
        "{}",
        failed.message
    );
    // The server reads why by name of the unit.
    let journal = stage
        .sh(&name, "journalctl --no-pager -u pika-agent.service")
        .await;
    assert!(journal.contains("status=9/KILL"), "{journal}");
    // Started again by hand, with nobody who still kills it, it is well again.
    stage.becomes_true(&name, "test -e /run/nobody-kills").await;
    stage
        .sh(
            &name,
            "systemctl reset-failed pika-agent && systemctl start --no-block pika-agent",
        )
        .await;
    stage.says(&name, LifecycleState::Ready).await;
    let end = stage.runtimes.destroy(&runtime.id).await.unwrap();
    assert!(end.is_absent(), "{end:?}");
    stage.remove_agent_volume(&volume).await;
}

/// An operator's machine: ready when SSH answers, open to the key that was pushed and to nothing else, the same machine
/// to its users with a new root.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_ready_when_ssh_answers_and_lets_the_pushed_key_in() {
    let stage = Stage::sandbox().await;
    let volume = stage.agent_volume("box").await;
    let runtime = stage.ensure(&stage.plan_on("box", &volume)).await;
    let name = name_of(&runtime).to_owned();
    stage.says(&name, LifecycleState::Ready).await;
    stage
        .sh(
            &name,
            "for p in git tmux jq rg ssh sudo; do command -v $p || exit 1; done",
        )
        .await;
    let keys = tempfile::tempdir().unwrap();
    for key in ["good", "other"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        assert!(
            keygen
                .arg(keys.path().join(key))
                .status()
                .unwrap()
                .success()
        );
    }
    let address = address(&stage, &name).await;
    let ssh = |key: &str, more: &[&str], command: &str| -> Output {
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F",
            "none",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "ConnectTimeout=30",
        ])
        .args(["-o", "StrictHostKeyChecking=accept-new", "-o"])
        .arg(format!(
            "UserKnownHostsFile={}",
            keys.path().join("known").display()
        ))
        .args(more)
        .arg("-i")
        .arg(keys.path().join(key))
        .arg(format!("pi@{address}"))
        .arg(command)
        .stdin(Stdio::null())
        .env_remove("SSH_AUTH_SOCK");
        ssh.output().unwrap()
    };
    let batch = ["-o", "BatchMode=yes"];
    let before = ssh("good", &batch, "true");
    assert_eq!(before.status.code(), Some(255), "{before:?}");
    let public = std::fs::read(keys.path().join("good.pub")).unwrap();
    stage
        .push(
            &name,
            "/etc/ssh/authorized_keys.d/pi",
            public.clone(),
            0o644,
        )
        .await;
    let inside = ssh("good", &batch, "id -un; sudo -n id -un");
    assert_eq!(
        String::from_utf8_lossy(&inside.stdout),
        "pi\nroot\n",
        "{inside:?}"
    );
    assert_eq!(ssh("other", &batch, "true").status.code(), Some(255));
    // What the server offers to one without a key is keys, and nothing else.
    let password = ["-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes"];
    let refused = ssh("other", &password, "true");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("Permission denied (publickey)"), "{said}");
    let host_key = stage
        .sh(
            &name,
            "cat /mnt/pika-state/ssh/host-keys/ssh_host_ed25519_key.pub",
        )
        .await;
    let known = std::fs::read_to_string(keys.path().join("known")).unwrap();
    let key = host_key.split_whitespace().nth(1).unwrap();
    assert!(known.contains(key), "{known}");

    stage.remove_foreign(&name).await;
    let again = stage.ensure(&stage.plan_on("box", &volume)).await;
    stage.says(&name, LifecycleState::Ready).await;
    let same = stage
        .sh(
            &name,
            "cat /run/pika-sandbox/host-keys/ssh_host_ed25519_key.pub",
        )
        .await;
    assert_eq!(same, host_key);
    let end = stage.runtimes.destroy(&again.id).await.unwrap();
    assert!(end.is_absent(), "{end:?}");
    stage.remove_agent_volume(&volume).await;
}

/// The guest's IPv4 address on the bridge, once it has one.
async fn address(stage: &Stage, name: &str) -> String {
    let script = "ip -4 -o addr show scope global | grep -q inet";
    stage.becomes_true(name, script).await;
    let said = stage
        .sh(
            name,
            "ip -4 -o addr show scope global | awk '{print $4}' | cut -d/ -f1",
        )
        .await;
    said.lines().next().unwrap().to_owned()
}
