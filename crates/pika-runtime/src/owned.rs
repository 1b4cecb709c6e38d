//! Owns the bulk look: all instances of ours that are for one purpose, at the price of one list.
//!
//! The number of requests does not depend on how many there are. Never looks into a guest, never changes anything.

use std::collections::BTreeMap;

use pika_cloud::OwnedKind;
use pika_cloud::labels::{
    LABEL_GENERATION, LABEL_GUEST_ROLE, LABEL_KIND, LABEL_OWNER, LABEL_PREFIX, LABEL_RUNTIME_ID,
    is_ours,
};
use pika_incus::{Filter, InstanceOutline, InstanceStatus, Operation};
use serde::Serialize;

use crate::id::RuntimeId;
use crate::observe::{LookError, Power, busy_with, power_of};
use crate::runtimes::Runtimes;

/// An instance of ours, as a list of all showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnedInstance {
    /// Names it; the runtime's id is what its label says.
    pub id: RuntimeId,
    /// Its generation, from 1; 0 where the label can't be read.
    pub generation: u64,
    /// Whether the guest runs.
    pub power: Power,
    /// Whether the guest told Incus that it is ready. Guest root can say so at any time: a reason to look, no proof.
    pub guest_says_ready: bool,
    /// When it was made (RFC 3339).
    pub created_at: Option<String>,
    /// When the guest was last started (RFC 3339); `None` if never. Another time later means another boot.
    pub started_at: Option<String>,
    /// The guest role, where it was recorded.
    pub guest_role: Option<String>,
    /// Fingerprint of the image that it was made from.
    pub image_fingerprint: Option<String>,
    /// The spec's own labels, without their prefix.
    pub labels: BTreeMap<String, String>,
    /// Volumes that the instance itself (not a profile) is configured to have, by device.
    pub volume_devices: Vec<VolumeDevice>,
    /// It never ran and nothing is at work on it: left by an interrupted create. Whoever removes such a thing looks again
    /// first ([`Runtimes::ensure`] does), since a create may have ended between two reads.
    pub debris: bool,
}

/// A disk device that puts a custom volume into a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeDevice {
    /// The device's name.
    pub device: String,
    /// The volume's pool.
    pub pool: String,
    /// The volume.
    pub source: String,
    /// Where it is in the guest.
    pub path: String,
    /// Whether the guest can only read it.
    pub read_only: bool,
}

impl OwnedInstance {
    /// The device that puts this volume into the guest, if there is one.
    pub fn volume_device(&self, volume: &str) -> Option<&VolumeDevice> {
        self.volume_devices
            .iter()
            .find(|device| device.source == volume)
    }

    fn of(instance: &InstanceOutline) -> Self {
        let get = |key: &str| instance.config.get(key).cloned();
        let of_spec = |(key, value): (&String, &String)| {
            let key = key.strip_prefix(LABEL_PREFIX)?;
            Some((key.to_owned(), value.clone()))
        };
        let started_at = (!instance.never_started())
            .then(|| instance.last_used_at.clone())
            .flatten();
        Self {
            id: RuntimeId::new(
                &get(LABEL_RUNTIME_ID).unwrap_or_default(),
                &instance.name,
                &instance.project,
            ),
            generation: generation_of(&instance.config).unwrap_or_default(),
            power: power_of(instance.status),
            guest_says_ready: instance.status == InstanceStatus::Ready,
            created_at: instance.created_at.clone(),
            started_at,
            guest_role: get(LABEL_GUEST_ROLE),
            image_fingerprint: get("volatile.base_image"),
            labels: instance.config.iter().filter_map(of_spec).collect(),
            volume_devices: volume_devices(instance),
            debris: looks_like_debris(instance),
        }
    }
}

impl Runtimes {
    /// Lists the instances of ours in a project that are for one purpose, by name. One request, and a second one for the
    /// operations of the daemon only where some instance looks like debris.
    ///
    /// # Errors
    /// When Incus can't be asked.
    pub async fn observe_all(
        &self,
        project: &str,
        kind: OwnedKind,
    ) -> Result<Vec<OwnedInstance>, LookError> {
        let client = self.client(project);
        let failed = |source| LookError::of_all(project, source);
        // Incus takes a value for a pattern and ignores its case; what is ours is told below.
        let owner = &self.config().owner;
        let ours = format!("config.{LABEL_OWNER} eq {owner} and config.{LABEL_KIND} eq {kind}");
        let is_one = |instance: &InstanceOutline| {
            is_ours(&instance.config, &instance.name, owner)
                && instance.config.get(LABEL_KIND).map(String::as_str) == Some(kind.as_str())
        };
        let mut seen = Vec::new();
        let keep = |instance: InstanceOutline| {
            if is_one(&instance) {
                seen.push(OwnedInstance::of(&instance));
            }
        };
        client
            .each_instance(&Filter::matching(ours), keep)
            .await
            .map_err(failed)?;
        seen.sort_by(|one, other| one.id.instance_name().cmp(other.id.instance_name()));
        if seen.iter().any(|instance| instance.debris) {
            let operations = client.operations().await.map_err(failed)?;
            for instance in &mut seen {
                instance.debris &= !is_busy(instance.id.instance_name(), &operations);
            }
        }
        Ok(seen)
    }
}

/// The generation, where its label can be read.
pub(crate) fn generation_of(config: &BTreeMap<String, String>) -> Option<u64> {
    config.get(LABEL_GENERATION)?.parse().ok()
}

fn looks_like_debris(instance: &InstanceOutline) -> bool {
    instance.never_started() && matches!(power_of(instance.status), Power::Stopped | Power::Error)
}

fn is_busy(name: &str, operations: &[Operation]) -> bool {
    !busy_with(name, operations).is_empty()
}

fn volume_devices(instance: &InstanceOutline) -> Vec<VolumeDevice> {
    let of_volume = |(name, device): (&String, &BTreeMap<String, String>)| {
        let get = |key: &str| device.get(key).cloned();
        let is_disk = device.get("type").is_some_and(|kind| kind == "disk");
        // A root disk has a pool and no source, a host directory has a source and no pool.
        is_disk.then_some(())?;
        Some(VolumeDevice {
            device: name.clone(),
            pool: get("pool")?,
            source: get("source")?,
            path: get("path")?,
            read_only: device.get("readonly").is_some_and(|flag| flag == "true"),
        })
    };
    instance.devices.iter().filter_map(of_volume).collect()
}
