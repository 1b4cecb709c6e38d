//! Instances, their state and snapshots: `/1.0/instances`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Config, Devices, nullable, optional_time};

/// An instance as `GET /1.0/instances/{name}` gives it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Instance {
    /// The instance's name, unique in its project.
    pub name: String,
    /// The instance's own configuration, without what its profiles add.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Config,
    /// The instance's own devices, without what its profiles add.
    #[serde(default, deserialize_with = "nullable")]
    pub devices: Devices,
    /// Configuration with the profiles applied.
    #[serde(default, deserialize_with = "nullable")]
    pub expanded_config: Config,
    /// Devices with the profiles applied.
    #[serde(default, deserialize_with = "nullable")]
    pub expanded_devices: Devices,
    /// Names of the profiles, in order of application.
    #[serde(default, deserialize_with = "nullable")]
    pub profiles: Vec<String>,
    /// Free text.
    #[serde(default, deserialize_with = "nullable")]
    pub description: String,
    /// Architecture name, such as `x86_64`.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// Whether the instance is deleted when it stops.
    #[serde(default)]
    pub ephemeral: bool,
    /// Container or virtual machine.
    #[serde(rename = "type")]
    pub kind: InstanceKind,
    /// What the instance was doing when the answer was made.
    #[serde(rename = "status_code")]
    pub status: InstanceStatus,
    /// When it was created (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub created_at: Option<String>,
    /// When it was last started (RFC 3339); see [`Instance::never_started`].
    #[serde(default, deserialize_with = "optional_time")]
    pub last_used_at: Option<String>,
    /// Cluster member, or `none`.
    #[serde(default, deserialize_with = "nullable")]
    pub location: String,
    /// The project the instance is in.
    #[serde(default, deserialize_with = "nullable")]
    pub project: String,
    /// Its state, present only where the listing was asked for it (`recursion=2`).
    #[serde(default)]
    pub state: Option<InstanceState>,
}

impl Instance {
    /// Whether the instance was never started: Incus keeps the Unix epoch as its time of last use until then.
    pub fn never_started(&self) -> bool {
        is_never(self.last_used_at.as_deref())
    }
}

/// What a look at thousands of instances needs of each: an [`Instance`] without what its profiles add, which is half of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct InstanceOutline {
    /// The instance's name, unique in its project.
    pub name: String,
    /// The project the instance is in.
    #[serde(default, deserialize_with = "nullable")]
    pub project: String,
    /// The instance's own configuration.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Config,
    /// The instance's own devices.
    #[serde(default, deserialize_with = "nullable")]
    pub devices: Devices,
    /// What the instance was doing when the answer was made.
    #[serde(rename = "status_code")]
    pub status: InstanceStatus,
    /// When it was created (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub created_at: Option<String>,
    /// When it was last started (RFC 3339); see [`InstanceOutline::never_started`].
    #[serde(default, deserialize_with = "optional_time")]
    pub last_used_at: Option<String>,
}

impl InstanceOutline {
    /// As [`Instance::never_started`].
    pub fn never_started(&self) -> bool {
        is_never(self.last_used_at.as_deref())
    }
}

fn is_never(last_used_at: Option<&str>) -> bool {
    last_used_at.is_none_or(|time| time.starts_with("1970-01-01T00:00:00"))
}

/// Container or virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceKind {
    /// An LXC system container.
    Container,
    /// A QEMU virtual machine.
    VirtualMachine,
    /// A kind that this client doesn't know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for InstanceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
            Self::Unknown => "unknown",
        })
    }
}

/// What an instance is doing, from Incus's status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(from = "u32", into = "u32")]
pub enum InstanceStatus {
    /// 102
    Stopped,
    /// 103
    Running,
    /// 106
    Starting,
    /// 107
    Stopping,
    /// 108
    Aborting,
    /// 109
    Freezing,
    /// 110
    Frozen,
    /// 111
    Thawed,
    /// 112: Incus itself can't tell, for example because the instance's storage is not there.
    Error,
    /// 113: running, and the guest's agent said that it is ready.
    Ready,
    /// A code that this client doesn't know.
    Unknown(u32),
}

impl From<u32> for InstanceStatus {
    fn from(code: u32) -> Self {
        match code {
            102 => Self::Stopped,
            103 => Self::Running,
            106 => Self::Starting,
            107 => Self::Stopping,
            108 => Self::Aborting,
            109 => Self::Freezing,
            110 => Self::Frozen,
            111 => Self::Thawed,
            112 => Self::Error,
            113 => Self::Ready,
            other => Self::Unknown(other),
        }
    }
}

impl From<InstanceStatus> for u32 {
    fn from(status: InstanceStatus) -> Self {
        match status {
            InstanceStatus::Stopped => 102,
            InstanceStatus::Running => 103,
            InstanceStatus::Starting => 106,
            InstanceStatus::Stopping => 107,
            InstanceStatus::Aborting => 108,
            InstanceStatus::Freezing => 109,
            InstanceStatus::Frozen => 110,
            InstanceStatus::Thawed => 111,
            InstanceStatus::Error => 112,
            InstanceStatus::Ready => 113,
            InstanceStatus::Unknown(code) => code,
        }
    }
}

impl InstanceStatus {
    /// Whether the guest runs and can take an exec: running or ready (a frozen guest can't).
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Ready)
    }
}

impl fmt::Display for InstanceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(code) => write!(f, "unknown ({code})"),
            known => write!(f, "{}", format!("{known:?}").to_lowercase()),
        }
    }
}

/// The state of an instance: `GET /1.0/instances/{name}/state`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct InstanceState {
    /// What the instance is doing.
    #[serde(rename = "status_code")]
    pub status: InstanceStatus,
    /// Process id of the guest's first process (or of QEMU) on the host; 0 if it doesn't run.
    #[serde(default)]
    pub pid: i64,
    /// Number of processes in the guest; -1 if unknown.
    #[serde(default)]
    pub processes: i64,
    /// When the guest was started (RFC 3339); it changes with every start.
    #[serde(default, deserialize_with = "optional_time")]
    pub started_at: Option<String>,
    /// Memory use.
    #[serde(default, deserialize_with = "nullable")]
    pub memory: MemoryState,
    /// Network interfaces by name in the guest.
    #[serde(default, deserialize_with = "nullable")]
    pub network: BTreeMap<String, NetworkInterface>,
}

/// Memory use of an instance, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct MemoryState {
    /// In use now.
    pub usage: i64,
    /// The highest use since the start, 0 where the kernel doesn't tell.
    pub usage_peak: i64,
    /// The limit, or the host's memory.
    pub total: i64,
    /// Swap in use now.
    pub swap_usage: i64,
}

/// A network interface of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct NetworkInterface {
    /// Addresses.
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<NetworkAddress>,
    /// MAC address.
    pub hwaddr: String,
    /// Name of the host's end, if there is one.
    pub host_name: String,
    /// `up` or `down`.
    pub state: String,
}

/// An address of a guest's interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct NetworkAddress {
    /// `inet` or `inet6`.
    pub family: String,
    /// The address.
    pub address: String,
    /// Length of the prefix, as text.
    pub netmask: String,
    /// `global`, `link` or `local`.
    pub scope: String,
}

/// A change of state: `PUT /1.0/instances/{name}/state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateChange {
    /// What to do.
    pub action: StateAction,
    /// How long the server lets the guest take, in seconds; -1 for no limit. For a stop without `force` the
    /// operation fails after it and the guest goes on.
    #[serde(rename = "timeout")]
    pub timeout_secs: i64,
    /// Whether to end the guest without asking it.
    pub force: bool,
    /// Whether to save or restore the guest's memory.
    pub stateful: bool,
}

impl StateChange {
    /// Starts the instance.
    pub fn start() -> Self {
        Self::of(StateAction::Start, false, -1)
    }

    /// Asks the guest to stop, for at most `timeout_secs`.
    pub fn stop(timeout_secs: i64) -> Self {
        Self::of(StateAction::Stop, false, timeout_secs)
    }

    /// Ends the guest at once.
    pub fn force_stop() -> Self {
        Self::of(StateAction::Stop, true, -1)
    }

    /// Ends the guest at once and starts it again.
    pub fn force_restart() -> Self {
        Self::of(StateAction::Restart, true, -1)
    }

    /// Freezes every process of the guest.
    pub fn freeze() -> Self {
        Self::of(StateAction::Freeze, false, -1)
    }

    /// Lets a frozen guest go on.
    pub fn unfreeze() -> Self {
        Self::of(StateAction::Unfreeze, false, -1)
    }

    fn of(action: StateAction, force: bool, timeout_secs: i64) -> Self {
        Self {
            action,
            timeout_secs,
            force,
            stateful: false,
        }
    }
}

/// What a [`StateChange`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StateAction {
    /// Start a stopped instance.
    Start,
    /// Stop a running one.
    Stop,
    /// Stop and start.
    Restart,
    /// Freeze all processes.
    Freeze,
    /// Let frozen processes go on.
    Unfreeze,
}

/// A snapshot of an instance: `GET /1.0/instances/{name}/snapshots`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Snapshot {
    /// The snapshot's own name, without the instance's.
    pub name: String,
    /// When it was made (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub created_at: Option<String>,
    /// When the server will delete it (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub expires_at: Option<String>,
    /// Whether it holds the guest's memory.
    #[serde(default)]
    pub stateful: bool,
    /// The instance's own configuration at that time.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Config,
}
