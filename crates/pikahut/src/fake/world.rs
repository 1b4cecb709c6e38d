//! The model of the world that the fake daemon serves: projects, instances, images, pools.
//!
//! Owns the state and nothing else: no HTTP, no time but stamps. Tests may change it behind the client's back.
//! It survives a crash of the daemon, as a real host's disk and processes do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pika_cloud::image_contract::IMAGE_CONTRACT_VERSION;
use tokio::sync::watch;
use uuid::Uuid;

use super::AGENT_ALIAS;
use super::guest_files::GuestFiles;

/// What an instance's processes are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// No process.
    Stopped,
    /// PID 1 runs.
    Running,
    /// Paused by the freezer.
    Frozen,
}

/// What there is of an instance's root volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The record exists, the volume doesn't: debris of an interrupted create or delete. Can't start.
    Missing,
    /// A whole root file system.
    Whole,
}

/// An instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Own config keys, volatile ones included.
    pub config: BTreeMap<String, String>,
    /// Own devices by name.
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
    /// Profiles in order.
    pub profiles: Vec<String>,
    /// `container` or `virtual-machine`.
    pub kind: String,
    /// Gone once it stops.
    pub ephemeral: bool,
    /// Free text.
    pub description: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; `None` is shown as 1970: never started.
    pub last_used_at: Option<String>,
    /// RFC 3339 of the last start.
    pub started_at: Option<String>,
    /// Running, stopped or frozen.
    pub power: Power,
    /// Whether it could start.
    pub root: Root,
    /// PID 1 as the host sees it, 0 while stopped.
    pub pid: u64,
    /// A guest that doesn't answer a clean stop.
    pub ignores_shutdown: bool,
    /// Stop and delete never end (a helper process is wedged) until this is set back.
    pub wedged: bool,
    /// A delete fails with these words until it is set back.
    pub undeletable: Option<String>,
    /// The guest's file system as far as anybody wrote to it.
    pub files: GuestFiles,
    /// What the guest's kernel calls this boot; a fresh one at each start.
    pub boot_id: String,
    /// Whether the guest told the daemon in this boot that it is ready.
    pub says_ready: bool,
    /// A guest that takes a look into it and never answers.
    pub deaf: bool,
    /// Paths that were unmounted in the guest in this boot.
    pub(crate) unmounted: BTreeSet<String>,
    /// A mount table that the guest shows instead of the true one.
    pub(crate) mount_table: Option<String>,
    /// Its interface on a bridge, if a test gave it one.
    pub nic: Option<GuestNic>,
    /// Counts starts and stops: whoever waits for the end of a boot watches it.
    pub(crate) boots: watch::Sender<u64>,
}

impl Instance {
    /// A stopped container without config, never started.
    pub fn stopped_container() -> Instance {
        Instance {
            config: BTreeMap::new(),
            devices: BTreeMap::new(),
            profiles: vec!["default".to_owned()],
            kind: "container".to_owned(),
            ephemeral: false,
            description: String::new(),
            created_at: now_rfc3339(),
            last_used_at: None,
            started_at: None,
            power: Power::Stopped,
            root: Root::Whole,
            pid: 0,
            ignores_shutdown: false,
            wedged: false,
            undeletable: None,
            files: GuestFiles::default(),
            boot_id: String::new(),
            says_ready: false,
            deaf: false,
            unmounted: BTreeSet::new(),
            mount_table: None,
            nic: None,
            boots: watch::Sender::new(0),
        }
    }

    /// Boots the guest: what a start does, and what a test does behind the client's back.
    pub fn boot(&mut self) {
        let now = now_rfc3339();
        self.power = Power::Running;
        self.last_used_at = Some(now.clone());
        self.started_at = Some(now);
        self.boot_id = random_id();
        self.says_ready = false;
        self.unmounted.clear();
        self.config
            .insert("volatile.last_state.power".to_owned(), "RUNNING".to_owned());
        self.config.remove("volatile.apply_template");
        self.boots.send_modify(|boots| *boots += 1);
        self.pid = 10_000 + *self.boots.borrow() * 2;
    }

    /// Ends all of the guest's processes, execs in it with 137, and notes it as stopped.
    pub fn halt(&mut self) {
        self.end_processes();
        self.note_stopped();
    }

    /// The first half of a stop: nothing runs any more, and nothing is written down yet.
    pub(crate) fn end_processes(&mut self) {
        self.power = Power::Stopped;
        self.started_at = None;
        self.pid = 0;
        self.says_ready = false;
        self.files.forget_tmpfs();
        self.boots.send_modify(|boots| *boots += 1);
    }

    /// The second half: the daemon won't start it again by itself.
    pub(crate) fn note_stopped(&mut self) {
        self.config
            .insert("volatile.last_state.power".to_owned(), "STOPPED".to_owned());
    }
}

/// An interface of a guest, as the guest has set it up: its addresses are the guest's word.
#[derive(Debug, Clone)]
pub struct GuestNic {
    /// MAC address.
    pub hwaddr: String,
    /// Addresses, each with the scope that the kernel gives it: `global`, `link` or `local`.
    pub addresses: Vec<(IpAddr, &'static str)>,
}

/// An address that a bridge gave away.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Name of the network.
    pub network: String,
    /// MAC address of the holder.
    pub hwaddr: String,
    /// What it was given.
    pub address: IpAddr,
}

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// `container` or `virtual-machine`.
    pub kind: String,
    /// Free properties.
    pub properties: BTreeMap<String, String>,
    /// Whether anybody may use it.
    pub public: bool,
    /// Bytes.
    pub size: u64,
    /// RFC 3339.
    pub uploaded_at: String,
    /// Name of the uploaded file.
    pub filename: String,
}

/// A name of an image.
#[derive(Debug, Clone)]
pub struct Alias {
    /// Fingerprint.
    pub target: String,
    /// Free text.
    pub description: String,
}

/// A named set of config and devices: a profile, or a network without devices.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// Config keys.
    pub config: BTreeMap<String, String>,
    /// Devices by name (profiles only).
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
    /// Free text.
    pub description: String,
}

/// A project and what is in it.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Config keys, features among them.
    pub config: BTreeMap<String, String>,
    /// Free text.
    pub description: String,
    /// By name.
    pub instances: BTreeMap<String, Instance>,
    /// By fingerprint.
    pub images: BTreeMap<String, Image>,
    /// By alias.
    pub aliases: BTreeMap<String, Alias>,
    /// By name.
    pub profiles: BTreeMap<String, Named>,
    /// By name.
    pub networks: BTreeMap<String, Named>,
}

/// A custom storage volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Config keys, labels among them.
    pub config: BTreeMap<String, String>,
    /// Free text.
    pub description: String,
    /// RFC 3339.
    pub created_at: String,
    /// `filesystem` or `block`.
    pub content_type: String,
    /// What it holds, as far as a test says so: it goes into snapshots and copies, and comes back with a restore.
    pub content: Vec<u8>,
    /// Snapshots by name, with their config, description and creation time.
    pub snapshots: BTreeMap<String, VolumeSnapshot>,
}

/// A snapshot of a volume.
#[derive(Debug, Clone)]
pub struct VolumeSnapshot {
    /// Config of the volume when it was taken.
    pub config: BTreeMap<String, String>,
    /// Free text.
    pub description: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; never, when absent.
    pub expires_at: Option<String>,
    /// What the volume held.
    pub content: Vec<u8>,
    /// The record exists and its content too. Not so is debris of an interrupted taking, which can't be restored.
    pub whole: bool,
}

/// A storage pool. Its volumes are keyed by project and name.
#[derive(Debug, Clone)]
pub struct Pool {
    /// `btrfs`, `dir`, ...
    pub driver: String,
    /// Config keys.
    pub config: BTreeMap<String, String>,
    /// Free text.
    pub description: String,
    /// Bytes in the pool.
    pub total_bytes: u64,
    /// Custom volumes by (project, name).
    pub volumes: BTreeMap<(String, String), Volume>,
}

/// What the daemon says about itself.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// `environment.driver`: `lxc`, or `lxc | qemu` where virtual machines can run.
    pub driver: String,
    /// `environment.server_version`.
    pub version: String,
    /// API extensions.
    pub extensions: Vec<String>,
    /// Drivers of storage pools.
    pub storage_drivers: Vec<String>,
    /// Server config.
    pub config: BTreeMap<String, String>,
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    /// The daemon's own facts.
    pub server: ServerFacts,
    /// By name; `default` always exists.
    pub projects: BTreeMap<String, Project>,
    /// By name.
    pub pools: BTreeMap<String, Pool>,
    /// Addresses that networks gave away.
    pub leases: Vec<Lease>,
}

/// Name of the bridge that a new world has.
pub const DEFAULT_BRIDGE: &str = "fakebr0";

/// Fingerprint of the image that a new world has.
pub const DEFAULT_IMAGE: &str = "4974fb947de9850d349892f149bf345755d2be6395417783ec6403fbd14bc052";

impl World {
    /// One project, a `btrfs` pool and a bridge, the default profile with both, and one container image with an alias.
    pub fn new(image_alias: &str) -> World {
        let mut project = Project {
            description: "Default Incus project".to_owned(),
            config: strings(&[
                ("features.images", "true"),
                ("features.networks", "true"),
                ("features.networks.zones", "true"),
                ("features.profiles", "true"),
                ("features.storage.buckets", "true"),
                ("features.storage.volumes", "true"),
            ]),
            ..Project::default()
        };
        project.networks.insert(
            DEFAULT_BRIDGE.to_owned(),
            Named {
                config: strings(&[("ipv4.address", "10.200.0.1/24"), ("ipv4.nat", "true")]),
                ..Named::default()
            },
        );
        project
            .profiles
            .insert("default".to_owned(), default_profile());
        project
            .images
            .insert(DEFAULT_IMAGE.to_owned(), Image::container("dev"));
        project.aliases.insert(
            image_alias.to_owned(),
            Alias {
                target: DEFAULT_IMAGE.to_owned(),
                description: String::new(),
            },
        );
        World {
            server: ServerFacts::default(),
            projects: BTreeMap::from([("default".to_owned(), project)]),
            pools: BTreeMap::from([("default".to_owned(), Pool::btrfs())]),
            leases: Vec::new(),
        }
    }

    /// Plugs an instance of the default project into the bridge and has it ask for an address, which is this one.
    pub fn lease(&mut self, name: &str, address: IpAddr) {
        let hwaddr = format!("10:66:6a:00:00:{:02x}", self.leases.len());
        let Some(instance) = self.instance(name) else {
            return;
        };
        let key = "volatile.eth0.hwaddr".to_owned();
        instance.config.insert(key, hwaddr.clone());
        instance.nic = Some(GuestNic {
            hwaddr: hwaddr.clone(),
            addresses: vec![(address, "global")],
        });
        self.leases.push(Lease {
            network: DEFAULT_BRIDGE.to_owned(),
            hwaddr,
            address,
        });
    }

    /// The default project.
    pub fn default_project(&mut self) -> &mut Project {
        self.projects.entry("default".to_owned()).or_default()
    }

    /// Adds an image that managed agents can be made from to the default project.
    pub fn add_agent_image(&mut self) {
        let mut image = Image::container("an agent");
        let version = pika_cloud::GUEST_CONTRACT_VERSION.to_string();
        image
            .properties
            .insert(IMAGE_CONTRACT_VERSION.to_owned(), version);
        let target = "a".repeat(64);
        let project = self.default_project();
        project.images.insert(target.clone(), image);
        let alias = Alias {
            target,
            description: String::new(),
        };
        project.aliases.insert(AGENT_ALIAS.to_owned(), alias);
    }

    /// An instance of the default project.
    pub fn instance(&mut self, name: &str) -> Option<&mut Instance> {
        self.default_project().instances.get_mut(name)
    }

    /// How many instances there are in all projects.
    pub fn instance_count(&self) -> usize {
        self.projects.values().map(|p| p.instances.len()).sum()
    }

    /// How many custom volumes there are in all pools.
    pub fn volume_count(&self) -> usize {
        self.pools.values().map(|p| p.volumes.len()).sum()
    }

    /// The project whose images, profiles, networks or volumes a project uses: itself, or `default`.
    pub(crate) fn owner_of<'a>(&self, project: &'a str, feature: &str) -> &'a str {
        let own = self.projects.get(project).is_some_and(|p| {
            p.config
                .get(&format!("features.{feature}"))
                .is_some_and(|v| v == "true")
        });
        if own { project } else { "default" }
    }
}

impl Image {
    /// A private container image of some size.
    pub fn container(description: &str) -> Image {
        Image {
            kind: "container".to_owned(),
            properties: strings(&[("description", description)]),
            public: false,
            size: 596_221_440,
            uploaded_at: now_rfc3339(),
            filename: "rootfs.tar".to_owned(),
        }
    }
}

impl Pool {
    /// An empty pool on a loop file.
    pub fn btrfs() -> Pool {
        Pool {
            driver: "btrfs".to_owned(),
            config: strings(&[("size", "15GiB"), ("source", "/fake/disks/default.img")]),
            description: String::new(),
            total_bytes: 15 << 30,
            volumes: BTreeMap::new(),
        }
    }
}

impl Default for ServerFacts {
    fn default() -> ServerFacts {
        ServerFacts {
            driver: "lxc".to_owned(),
            version: "6.0.4".to_owned(),
            extensions: API_EXTENSIONS
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            storage_drivers: vec!["btrfs".to_owned(), "dir".to_owned()],
            config: BTreeMap::new(),
        }
    }
}

fn default_profile() -> Named {
    Named {
        description: "Default Incus profile".to_owned(),
        config: BTreeMap::new(),
        devices: BTreeMap::from([
            (
                "eth0".to_owned(),
                strings(&[
                    ("name", "eth0"),
                    ("network", DEFAULT_BRIDGE),
                    ("type", "nic"),
                ]),
            ),
            (
                "root".to_owned(),
                strings(&[("path", "/"), ("pool", "default"), ("type", "disk")]),
            ),
        ]),
    }
}

/// The few of the recorded 450 extensions that a client could ask for.
const API_EXTENSIONS: [&str; 12] = [
    "etag",
    "patch",
    "container_exec_recording",
    "directory_manipulation",
    "file_delete",
    "file_append",
    "storage",
    "projects",
    "event_lifecycle",
    "api_filtering",
    "instances",
    "disk_io_bus",
];

pub(crate) fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

pub(crate) fn now_rfc3339() -> String {
    jiff::Timestamp::now().to_string()
}

pub(crate) fn random_id() -> String {
    Uuid::new_v4().to_string()
}
