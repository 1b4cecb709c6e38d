//! `/1.0/instances/NAME/state`: look, start, stop, restart, freeze, unfreeze.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::instances::{find, instance_resources, remove};
use crate::fake::daemon::Daemon;
use crate::fake::guest;
use crate::fake::operations::OperationRecord;
use crate::fake::reply::{ApiError, Reply, accepted, sync};
use crate::fake::route::Call;
use crate::fake::world::{Instance, Power, Root};

/// Status and its code.
pub(crate) fn status(instance: &Instance) -> (&'static str, u16) {
    match instance.power {
        Power::Running if instance.says_ready => ("Ready", 113),
        Power::Stopped => ("Stopped", 102),
        Power::Running => ("Running", 103),
        Power::Frozen => ("Frozen", 110),
    }
}

/// `GET /1.0/instances/NAME/state`
pub(crate) fn state(daemon: &Arc<Daemon>, name: &str, call: &Call) -> Reply {
    let mut world = daemon.world();
    let instance = find(&mut world, call.project(), name)?;
    Ok(sync(&render_state(instance)))
}

pub(crate) fn render_state(instance: &Instance) -> Value {
    let (status, code) = status(instance);
    let up = instance.power != Power::Stopped;
    let memory = u64::from(up) * 20_512_768;
    let network = if up {
        render_interfaces(instance)
    } else {
        Value::Null
    };
    json!({
        "status": status, "status_code": code, "disk": {},
        "memory": {"usage": memory, "usage_peak": memory, "total": 0, "swap_usage": 0, "swap_usage_peak": 0},
        "network": network, "pid": instance.pid, "processes": u8::from(up),
        "cpu": {"usage": 0, "allocated_time": 0},
        "started_at": instance.started_at.as_deref().unwrap_or("0001-01-01T00:00:00Z"),
        "os_info": null,
    })
}

fn render_interfaces(instance: &Instance) -> Value {
    let mut interfaces = json!({"lo": {
        "addresses": [{"family": "inet", "address": "127.0.0.1", "netmask": "8", "scope": "local"}],
        "counters": {}, "hwaddr": "", "host_name": "", "mtu": 65536, "state": "up", "type": "loopback",
    }});
    if let Some(nic) = &instance.nic {
        let addresses = nic.addresses.iter().map(|(address, scope)| {
            let (family, netmask) = match address.is_ipv4() {
                true => ("inet", "24"),
                false => ("inet6", "64"),
            };
            json!({"family": family, "address": address, "netmask": netmask, "scope": scope})
        });
        interfaces["eth0"] = json!({
            "addresses": addresses.collect::<Vec<_>>(), "counters": {}, "hwaddr": nic.hwaddr,
            "host_name": "veth0", "mtu": 1500, "state": "up", "type": "broadcast",
        });
    }
    interfaces
}

/// `PUT /1.0/instances/NAME/state`
pub(crate) fn change(daemon: &Arc<Daemon>, name: &str, call: &Call) -> Reply {
    let body = call.json()?;
    let project = call.project().to_owned();
    find(&mut daemon.world(), &project, name)?;
    let action = body["action"].as_str().unwrap_or_default().to_owned();
    let description = match action.as_str() {
        "start" => "Starting instance",
        "stop" => "Stopping instance",
        "restart" => "Restarting instance",
        "freeze" => "Freezing instance",
        "unfreeze" => "Unfreezing instance",
        other => return Err(ApiError::new(400, format!("Unknown action: '{other}'"))),
    };
    let force = body["force"].as_bool().unwrap_or(false);
    let timeout = body["timeout"].as_u64().map(Duration::from_secs);
    let record = OperationRecord::new("task", description, &project, instance_resources(name));
    let (worker, name) = (Arc::clone(daemon), name.to_owned());
    let record = daemon.run_operation(record, async move {
        match action.as_str() {
            "start" => boot(&worker, &project, &name).await,
            "stop" => halt(&worker, &project, &name, force, timeout).await,
            "restart" => {
                halt(&worker, &project, &name, force, timeout).await?;
                boot(&worker, &project, &name).await
            }
            "freeze" => freeze(&worker, &project, &name).await,
            _ => unfreeze(&worker, &project, &name).await,
        }
    });
    Ok(accepted(&record))
}

/// Starts an instance, or fails as debris does.
pub(crate) async fn boot(daemon: &Arc<Daemon>, project: &str, name: &str) -> Result<(), ApiError> {
    {
        let mut world = daemon.world();
        let instance = find(&mut world, project, name)?;
        if instance.power != Power::Stopped {
            return Err(ApiError::new(500, "The instance is already running"));
        }
        if instance.root == Root::Missing {
            return Err(ApiError::new(
                404,
                format!(
                    "Failed to handle idmapped storage: Failed expanding symlinks of \"\": lstat \
                     /fake/containers/{name}: no such file or directory"
                ),
            ));
        }
        instance.boot();
    }
    guest::play_script(daemon, project, name);
    event(daemon, project, name, "instance-started");
    daemon.step("start.boot").await
}

async fn halt(
    daemon: &Arc<Daemon>,
    project: &str,
    name: &str,
    force: bool,
    timeout: Option<Duration>,
) -> Result<(), ApiError> {
    unless_wedged(daemon, project, name).await?;
    let (power, deaf) = {
        let mut world = daemon.world();
        let instance = find(&mut world, project, name)?;
        (instance.power, instance.ignores_shutdown)
    };
    if power == Power::Stopped {
        return Err(ApiError::new(400, "The instance is already stopped"));
    }
    if !force && (deaf || power == Power::Frozen) {
        // Recorded: an unforced stop thaws the instance, and then waits in vain.
        find(&mut daemon.world(), project, name)?.power = Power::Running;
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
        return Err(ApiError::new(
            500,
            "Failed shutting down instance, status is \"Running\": context deadline exceeded",
        ));
    }
    find(&mut daemon.world(), project, name)?.end_processes();
    daemon.step("stop.halt").await?;
    let ephemeral = {
        let mut world = daemon.world();
        let instance = find(&mut world, project, name)?;
        instance.note_stopped();
        instance.ephemeral
    };
    event(daemon, project, name, "instance-stopped");
    daemon.step("stop.record").await?;
    if ephemeral {
        remove(daemon, project, name).await?;
    }
    Ok(())
}

/// Returns once the instance is not wedged: what a helper process that holds it does to stop and delete.
pub(crate) async fn unless_wedged(
    daemon: &Arc<Daemon>,
    project: &str,
    name: &str,
) -> Result<(), ApiError> {
    while find(&mut daemon.world(), project, name)?.wedged {
        tokio::time::sleep(WEDGE_LOOK).await;
    }
    Ok(())
}

/// How often a wedged operation looks whether a test has freed it.
const WEDGE_LOOK: Duration = Duration::from_millis(20);

async fn freeze(daemon: &Arc<Daemon>, project: &str, name: &str) -> Result<(), ApiError> {
    {
        let mut world = daemon.world();
        let instance = find(&mut world, project, name)?;
        match instance.power {
            Power::Running => instance.power = Power::Frozen,
            Power::Frozen => {
                return Err(ApiError::new(500, "The container is already frozen"));
            }
            Power::Stopped => return Err(ApiError::new(500, "The instance isn't running")),
        }
    }
    event(daemon, project, name, "instance-paused");
    daemon.step("freeze").await
}

async fn unfreeze(daemon: &Arc<Daemon>, project: &str, name: &str) -> Result<(), ApiError> {
    {
        let mut world = daemon.world();
        let instance = find(&mut world, project, name)?;
        match instance.power {
            Power::Frozen => instance.power = Power::Running,
            Power::Running => return Err(ApiError::new(500, "The container is already running")),
            Power::Stopped => return Err(ApiError::new(500, "The container isn't running")),
        }
    }
    event(daemon, project, name, "instance-resumed");
    daemon.step("unfreeze").await
}

pub(crate) fn event(daemon: &Daemon, project: &str, name: &str, action: &str) {
    daemon.lifecycle_event(project, action, name, &format!("/1.0/instances/{name}"));
}
