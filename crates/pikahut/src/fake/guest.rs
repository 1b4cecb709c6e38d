//! What a guest of the fake says of itself: its status file, its boot and its mounts, and guests that get ready by
//! themselves.
//!
//! Owns the answer to the host's look into a guest, which takes no process: the command is known by the name that it is
//! given. Everything can be made to lie, as root in a real guest can.

use std::sync::Arc;
use std::time::Duration;

use pika_cloud::LifecycleState;
use pika_cloud::labels::LABEL_KIND;
use pika_cloud::paths::STATE_DIR;
use serde_json::{Value, json};

use super::FakeIncus;
use super::daemon::Daemon;
use super::exec::ExecCall;
use super::guest_files::GuestNode;
use super::handlers::power;
use super::world::{Instance, Power, World, now_rfc3339};

/// What the host calls its look into a guest.
const LOOK_NAME: &str = "pika-guest-look";
/// How the look ends where there is no status, and where it is no regular file.
const NO_STATUS: i32 = 3;
const NO_REGULAR_FILE: i32 = 4;

/// Guests of one kind that get ready, or fail, by themselves after each start.
#[derive(Debug, Clone)]
pub struct ScriptedGuest {
    /// `user.pika.kind` of their instances.
    pub kind: String,
    /// How long after its start a guest says the state; until then it says `starting`.
    pub after: Duration,
    /// What it says then.
    pub state: LifecycleState,
    /// What it says about that.
    pub details: Value,
    /// Whether it tells Incus too that it is ready.
    pub tells_incus: bool,
}

impl ScriptedGuest {
    /// Agents that are ready after a while, and tell Incus so.
    pub fn ready_after(after: Duration) -> ScriptedGuest {
        ScriptedGuest {
            kind: "agent".to_owned(),
            after,
            state: LifecycleState::Ready,
            details: Value::Null,
            tells_incus: true,
        }
    }

    /// Agents whose workload crashes again and again.
    pub fn crash_loop_after(after: Duration) -> ScriptedGuest {
        let details = json!({
            "crash_loop": true, "unit": "workload.service", "restarts": 4, "result": "exit-code",
        });
        ScriptedGuest {
            state: LifecycleState::Failed,
            details,
            tells_incus: false,
            ..ScriptedGuest::ready_after(after)
        }
    }
}

/// The guest of one instance of the default project, to make it say things.
#[derive(Debug)]
pub struct FakeGuest<'a> {
    fake: &'a FakeIncus,
    name: &'a str,
}

impl<'a> FakeGuest<'a> {
    pub(super) fn new(fake: &'a FakeIncus, name: &'a str) -> FakeGuest<'a> {
        FakeGuest { fake, name }
    }

    /// Writes a status of this boot. False if there is no such instance.
    pub fn says(&self, state: LifecycleState, details: Value) -> bool {
        self.change(|instance| {
            let boot_id = instance.boot_id.clone();
            put_status(instance, &status(state, &boot_id, &details));
        })
    }

    /// Writes a status of another boot.
    pub fn says_in_boot(&self, boot_id: &str, state: LifecycleState) -> bool {
        self.change(|instance| put_status(instance, &status(state, boot_id, &Value::Null)))
    }

    /// Puts anything where the status is.
    pub fn has_in_place_of_status(&self, node: GuestNode) -> bool {
        self.change(|instance| instance.files.put(&status_path(), node, 0o644, 0))
    }

    /// Takes the status away.
    pub fn says_nothing(&self) -> bool {
        self.change(|instance| instance.files.forget_tmpfs())
    }

    /// Unmounts a path in the guest behind the host's back, until the next boot.
    pub fn unmounts(&self, path: &str) -> bool {
        self.change(|instance| {
            instance.unmounted.insert(path.to_owned());
        })
    }

    /// Has the guest show this mount table, whatever is mounted.
    pub fn shows_mounts(&self, table: &str) -> bool {
        self.change(|instance| instance.mount_table = Some(table.to_owned()))
    }

    /// Has the guest take looks and never answer them, or answer again.
    pub fn is_deaf(&self, deaf: bool) -> bool {
        self.change(|instance| instance.deaf = deaf)
    }

    /// Tells Incus that it is ready, as root in a guest can at any time.
    pub fn tells_incus(&self) -> bool {
        tell_incus(&self.fake.daemon, "default", self.name)
    }

    fn change(&self, change: impl FnOnce(&mut Instance)) -> bool {
        self.fake.world().instance(self.name).map(change).is_some()
    }
}

fn status_path() -> String {
    format!("{STATE_DIR}/status.json")
}

fn status(state: LifecycleState, boot_id: &str, details: &Value) -> Value {
    let now = jiff::Timestamp::now();
    json!({
        "schema_version": pika_cloud::lifecycle::LIFECYCLE_SCHEMA_VERSION, "state": state,
        "updated_at": format!("{now:.3}"), "message": format!("the workload is {state}"),
        "boot_id": boot_id, "details": details,
    })
}

fn put_status(instance: &mut Instance, status: &Value) {
    let node = GuestNode::File(status.to_string().into_bytes());
    instance.files.put(&status_path(), node, 0o644, 0);
}

/// The daemon marks the instance as ready and says so to whoever listens.
fn tell_incus(daemon: &Arc<Daemon>, project: &str, name: &str) -> bool {
    let told = {
        let mut world = daemon.world();
        let instance = instance(&mut world, project, name);
        instance.is_some_and(|instance| {
            instance.says_ready = instance.power == Power::Running;
            instance.says_ready
        })
    };
    if told {
        power::event(daemon, project, name, "instance-ready");
    }
    told
}

fn instance<'w>(world: &'w mut World, project: &str, name: &str) -> Option<&'w mut Instance> {
    world.projects.get_mut(project)?.instances.get_mut(name)
}

/// Has a guest that was just started do what its script says.
pub(super) fn play_script(daemon: &Arc<Daemon>, project: &str, name: &str) {
    let Some(script) = daemon.scripted_guest() else {
        return;
    };
    let boot_id = {
        let mut world = daemon.world();
        let Some(instance) = instance(&mut world, project, name) else {
            return;
        };
        if instance.config.get(LABEL_KIND) != Some(&script.kind) {
            return;
        }
        let boot_id = instance.boot_id.clone();
        let starting = status(LifecycleState::Starting, &boot_id, &Value::Null);
        put_status(instance, &starting);
        boot_id
    };
    let (daemon, project, name) = (Arc::clone(daemon), project.to_owned(), name.to_owned());
    // A guest lives on where the daemon dies.
    tokio::spawn(async move {
        tokio::time::sleep(script.after).await;
        let says = {
            let mut world = daemon.world();
            let found = instance(&mut world, &project, &name);
            let same_boot = |found: &&mut Instance| found.boot_id == boot_id;
            found.filter(same_boot).map(|instance| {
                put_status(instance, &status(script.state, &boot_id, &script.details));
            })
        };
        if says.is_some() && script.tells_incus {
            tell_incus(&daemon, &project, &name);
        }
    });
}

/// Whether a command is the host's look into a guest.
pub(super) fn is_look(command: &[String]) -> bool {
    command.get(3).is_some_and(|name| name == LOOK_NAME)
}

/// Answers the host's look: status on standard output, boot and mounts on standard error.
pub(super) async fn answer_look(daemon: Arc<Daemon>, call: ExecCall) -> Option<i32> {
    let word = |index: usize| call.command.get(index).map_or("", String::as_str);
    let most = |index: usize| word(index).parse().unwrap_or(0);
    let (path, status_max, mounts_max) = (word(4).to_owned(), most(5), most(6));
    let (node, boot_id, mut mounts) = {
        let mut world = daemon.world();
        let instance = instance(&mut world, &call.project, &call.instance)?;
        let node = match instance.deaf {
            true => None,
            false => Some(instance.files.get(&path).map(|entry| entry.node)),
        };
        let mounts = mount_table(&call.project, &call.instance, instance);
        (node, instance.boot_id.clone(), mounts.into_bytes())
    };
    let Some(node) = node else {
        return std::future::pending().await;
    };
    mounts.truncate(mounts_max);
    let facts = [boot_id.as_bytes(), b"\n", &mounts].concat();
    call.stderr(facts).await;
    match node {
        None => Some(NO_STATUS),
        Some(GuestNode::File(mut bytes)) => {
            bytes.truncate(status_max);
            call.stdout(bytes).await;
            Some(0)
        }
        Some(_) => Some(NO_REGULAR_FILE),
    }
}

/// `/proc/self/mountinfo` of a guest: its root, and each volume that it is configured to have.
fn mount_table(project: &str, name: &str, instance: &Instance) -> String {
    if let Some(table) = &instance.mount_table {
        return table.clone();
    }
    let mut table = format!(
        "104 73 0:42 /containers/{name}/rootfs / rw,relatime shared:29 - btrfs /dev/loop0 rw\n"
    );
    for (number, device) in instance.devices.values().enumerate() {
        let (Some(source), Some(path), Some(_)) =
            (device.get("source"), device.get("path"), device.get("pool"))
        else {
            continue;
        };
        if instance.unmounted.contains(path) {
            continue;
        }
        let mode = match device.get("readonly").map(String::as_str) {
            Some("true") => "ro",
            _ => "rw",
        };
        let id = 110 + number;
        let line = format!(
            "{id} 104 0:42 /custom/{project}_{source} {path} {mode},relatime shared:51 - btrfs /dev/loop0 rw\n"
        );
        table.push_str(&line);
    }
    table
}

impl Instance {
    /// A running container with its own configuration and devices, as if it had been started just now.
    pub fn running_container(
        config: &[(&str, &str)],
        devices: &[(&str, &[(&str, &str)])],
    ) -> Instance {
        let mut instance = Instance::stopped_container();
        instance.config = super::world::strings(config);
        let device = |(name, keys): &(&str, &[(&str, &str)])| {
            ((*name).to_owned(), super::world::strings(keys))
        };
        instance.devices = devices.iter().map(device).collect();
        instance.created_at = now_rfc3339();
        instance.boot();
        instance
    }
}
