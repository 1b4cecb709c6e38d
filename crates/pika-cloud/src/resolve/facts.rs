//! What resolving needs to know about a server.
//!
//! Owns the shape of the observation; pika-runtime makes it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::spec::InstanceType;

/// One look at a server, for one plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// Whether the server can run containers.
    pub containers: bool,
    /// Whether the server can run virtual machines.
    pub virtual_machines: bool,
    /// Why it can't run virtual machines, in its own words, when it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_machines_problem: Option<String>,
    /// What a spec that says nothing gets: the operator's choice.
    pub default_instance_type: InstanceType,
    /// The image behind the plan's alias, if there is one.
    pub image: Option<ImageFacts>,
    /// The contract version that the image must have; `None` takes any image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_contract_version: Option<u32>,
    /// The pool of root disk and volumes.
    pub pool: PoolFacts,
    /// Custom volumes that are in the pool.
    pub volumes: BTreeSet<String>,
    /// The host directories of the plan's mounts that could be looked at; one that is not listed is
    /// on a host that can't be looked at from here.
    pub host_dirs: BTreeMap<String, HostDirFacts>,
    /// Name of the profile's root disk device, if the profile has one.
    pub profile_root_device: Option<String>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Full fingerprint.
    pub fingerprint: String,
    /// What it boots as; never `auto`.
    pub instance_type: InstanceType,
    /// Its properties.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolFacts {
    /// Its name.
    pub name: String,
    /// Its driver: `btrfs`, `dir`, `zfs` and so on.
    pub driver: String,
    /// Whether the size of a root disk is enforced there.
    pub quota_enforced: bool,
    /// Whether the operator accepts a root disk size that isn't enforced.
    pub allow_unenforced_root_size: bool,
}

/// A directory of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDirFacts {
    /// Whether it is there and is a directory.
    pub exists: bool,
    /// Whether its file system itself is read-only, so that no guest can remount it writable.
    pub read_only_fs: bool,
}
