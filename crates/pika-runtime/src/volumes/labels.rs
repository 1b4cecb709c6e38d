//! Owns the labels of volumes: which a new one gets, how ours are listed by them, and how they are changed on what was
//! seen. What says whose a volume is never changes.

use std::collections::BTreeMap;

use pika_cloud::labels::{
    LABEL_CLONED_FROM, LABEL_DEADLINE, LABEL_GENERATION, LABEL_GUEST_ROLE, LABEL_INSTANCE_NAME,
    LABEL_KIND, LABEL_OWNER, LABEL_PREFIX, LABEL_RUNTIME_ID, LABEL_TOMBSTONE, LABEL_UNFINISHED,
    is_ours,
};
use pika_cloud::{OwnedKind, Ownership};
use pika_incus::{ErrorKind, Volume};
use serde::Serialize;

use super::VolumeError;
use super::error::incus;
use super::restore::tokens;
use super::settings::{SnapshotSchedule, bytes_of};
use crate::runtimes::Runtimes;

/// How often labels are read again when others change them in between.
const CHANGE_TRIES: usize = 8;

/// A custom volume of ours, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnedVolume {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// The runtime that it belongs to, or its own name.
    pub runtime_id: String,
    /// Its generation, from 1; 0 where the label can't be read.
    pub generation: u64,
    /// When a janitor may take it (RFC 3339); never, when absent.
    pub deadline: Option<String>,
    /// The volume that it was filled from.
    pub cloned_from: Option<String>,
    /// Whether its filling was begun and not ended: its content counts for nothing.
    pub unfinished: bool,
    /// The caller's labels, without their prefix.
    pub labels: BTreeMap<String, String>,
    /// When it may go, if what it belonged to is gone (RFC 3339).
    pub tombstone: Option<String>,
    /// Which request put a snapshot's content back into it last.
    pub restored: Option<String>,
    /// Most bytes that it may hold.
    pub size_bytes_max: Option<u64>,
    /// When Incus takes snapshots of it by itself.
    pub snapshots: SnapshotSchedule,
    /// Paths of what uses it.
    pub used_by: Vec<String>,
    /// When it was made (RFC 3339), as Incus tells it.
    pub created_at: Option<String>,
    /// What of its configuration goes with its content into a copy.
    #[serde(skip)]
    pub content_config: BTreeMap<String, String>,
}

/// What is to become of a volume's lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LeaseChange {
    /// It stays as it is.
    #[default]
    Keep,
    /// There is none from now on: no janitor takes the volume.
    Remove,
    /// It ends then (RFC 3339).
    Until(String),
}

/// A change of labels. Whose the volume is and what for is not among what can be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelChange {
    /// Labels of the caller, without their prefix: `None` removes one, what isn't named stays.
    pub labels: BTreeMap<String, Option<String>>,
    /// The generation, if it changes.
    pub generation: Option<u64>,
    /// The lease.
    pub lease: LeaseChange,
    /// The tombstone: from when on the volume may go for good. Set where what it belonged to is deleted, removed where that
    /// is brought back. No janitor reads it.
    pub tombstone: LeaseChange,
}

/// How a change of labels ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relabelled {
    /// They are changed. The volume as it was before.
    Changed(OwnedVolume),
    /// The caller wanted no change of what was there.
    Unchanged(OwnedVolume),
    /// The volume is not there.
    Gone,
}

impl Runtimes {
    /// Lists the custom volumes of ours in a pool that are for one purpose, by name.
    ///
    /// # Errors
    /// When the pool can't be listed.
    pub async fn owned_volumes(
        &self,
        project: &str,
        pool: &str,
        kind: OwnedKind,
    ) -> Result<Vec<OwnedVolume>, VolumeError> {
        let owner = &self.config().owner;
        let ours = format!("config.{LABEL_OWNER} eq {owner} and config.{LABEL_KIND} eq {kind}");
        let listed = self.client(project).volumes_matching(pool, &ours).await;
        let listed = listed.map_err(|source| VolumeError::Pool {
            pool: pool.to_owned(),
            source,
        })?;
        let of_kind = |volume: &Volume| {
            volume.kind == "custom"
                && is_ours(&volume.config, &volume.name, owner)
                && volume.config.get(LABEL_KIND).map(String::as_str) == Some(kind.as_str())
        };
        let mut ours: Vec<OwnedVolume> = listed
            .into_iter()
            .filter(of_kind)
            .map(|volume| seen(pool, volume))
            .collect();
        ours.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(ours)
    }

    /// How many bytes a volume of ours takes up, where its pool counts that; on btrfs and zfs only what no other
    /// volume shares. `None` too when the volume is not there.
    ///
    /// # Errors
    /// When Incus can't be asked.
    pub async fn volume_bytes(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
    ) -> Result<Option<u64>, VolumeError> {
        match self.client(project).volume_state(pool, volume).await {
            Ok(state) => Ok(state.usage.map(|usage| usage.used)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(incus(pool, volume, "measured", source)),
        }
    }

    /// Changes labels of a volume of ours in one request, on the state that `decide` saw: if another process changed it
    /// since, it is read and decided again. `decide` says no change by `None`.
    ///
    /// Incus compares the state and then writes without a lock around both: of requests within the same few
    /// milliseconds each may succeed, and the last one stays. What must be one process' alone needs a lock of its own.
    ///
    /// # Errors
    /// When it is not ours, when others always come first, or Incus fails.
    pub async fn relabel_volume(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        decide: impl Fn(&OwnedVolume) -> Option<LabelChange>,
    ) -> Result<Relabelled, VolumeError> {
        let client = self.client(project);
        for _ in 0..CHANGE_TRIES {
            let Some(found) = self.our_tagged_volume(&client, pool, volume).await? else {
                return Ok(Relabelled::Gone);
            };
            let now = seen(pool, found.value);
            let Some(change) = decide(&now) else {
                return Ok(Relabelled::Unchanged(now));
            };
            let patch = patch_of(&change);
            match client
                .patch_volume(pool, volume, &patch, found.etag.as_ref())
                .await
            {
                Ok(()) => return Ok(Relabelled::Changed(now)),
                Err(error) if error.kind() == ErrorKind::PreconditionFailed => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Relabelled::Gone),
                Err(source) => return Err(incus(pool, volume, "labelled", source)),
            }
        }
        Err(VolumeError::Contended {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
            tries: CHANGE_TRIES,
        })
    }
}

/// A volume that was found to be ours.
pub(super) fn seen(pool: &str, volume: Volume) -> OwnedVolume {
    let get = |key: &str| volume.config.get(key).cloned();
    let of_caller = |(key, value): (&String, &String)| {
        let key = key.strip_prefix(LABEL_PREFIX)?;
        Some((key.to_owned(), value.clone()))
    };
    OwnedVolume {
        pool: pool.to_owned(),
        runtime_id: get(LABEL_RUNTIME_ID).unwrap_or_default(),
        generation: get(LABEL_GENERATION)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        deadline: get(LABEL_DEADLINE),
        cloned_from: get(LABEL_CLONED_FROM),
        tombstone: get(LABEL_TOMBSTONE),
        restored: tokens(&volume.config).next().map(str::to_owned),
        size_bytes_max: get("size").and_then(|text| bytes_of(&text)),
        snapshots: SnapshotSchedule::of(&volume.config),
        unfinished: volume.config.contains_key(LABEL_UNFINISHED),
        content_config: carried(&volume.config),
        labels: volume.config.iter().filter_map(of_caller).collect(),
        name: volume.name,
        used_by: volume.used_by,
        created_at: volume.created_at,
    }
}

/// The labels of a new volume; like an instance's, its own name among them, so that a copy is nobody's.
pub(super) fn volume_labels(
    volume: &str,
    runtime_id: &str,
    ownership: &Ownership,
    of_caller: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = of_caller
        .iter()
        .map(|(key, value)| (format!("{LABEL_PREFIX}{key}"), value.clone()))
        .collect();
    let mut set = |key: &str, value: String| labels.insert(key.to_owned(), value);
    set(LABEL_OWNER, ownership.owner.to_string());
    set(LABEL_KIND, ownership.kind.to_string());
    set(LABEL_RUNTIME_ID, runtime_id.to_owned());
    set(LABEL_INSTANCE_NAME, volume.to_owned());
    set(LABEL_GENERATION, ownership.generation.to_string());
    if let Some(role) = ownership.guest_role {
        set(LABEL_GUEST_ROLE, role.to_string());
    }
    if let Some(deadline) = &ownership.deadline {
        set(LABEL_DEADLINE, deadline.clone());
    }
    labels
}

/// The keys to send. An empty value removes a key.
fn patch_of(change: &LabelChange) -> BTreeMap<String, String> {
    let mut patch: BTreeMap<String, String> = change
        .labels
        .iter()
        .map(|(key, value)| {
            (
                format!("{LABEL_PREFIX}{key}"),
                value.clone().unwrap_or_default(),
            )
        })
        .collect();
    if let Some(generation) = change.generation {
        patch.insert(LABEL_GENERATION.to_owned(), generation.to_string());
    }
    let times = [
        (LABEL_DEADLINE, &change.lease),
        (LABEL_TOMBSTONE, &change.tombstone),
    ];
    for (key, change) in times {
        let time = match change {
            LeaseChange::Keep => continue,
            LeaseChange::Remove => String::new(),
            LeaseChange::Until(time) => time.clone(),
        };
        patch.insert(key.to_owned(), time);
    }
    patch
}

/// What of a volume's configuration goes with its content: how ids on the disk are to be read, sizes. Labels don't.
/// Nor does `initial.*`: Incus would set the root folder's owner again, in ids of the host.
fn carried(config: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let of_content = |key: &str| match key.split('.').next() {
        Some("user" | "initial") => false,
        Some("volatile") => key.starts_with("volatile.idmap."),
        _ => true,
    };
    config
        .iter()
        .filter(|(key, _)| of_content(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_only_what_changes() {
        assert!(patch_of(&LabelChange::default()).is_empty());
        let change = LabelChange {
            labels: BTreeMap::from([
                ("state".to_owned(), Some("committed".to_owned())),
                ("old".to_owned(), None),
            ]),
            generation: Some(7),
            lease: LeaseChange::Remove,
            tombstone: LeaseChange::Until("2030-01-01T00:00:00Z".to_owned()),
        };
        let expected = [
            ("user.pika.deadline", ""),
            ("user.pika.generation", "7"),
            ("user.pika.label.old", ""),
            ("user.pika.label.state", "committed"),
            ("user.pika.tombstone", "2030-01-01T00:00:00Z"),
        ];
        let patch = patch_of(&change);
        let sent: Vec<(&str, &str)> = patch
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_callers_label_never_hides_one_of_the_projects_own() {
        let ownership = Ownership {
            owner: "me".parse().unwrap(),
            kind: OwnedKind::Cache,
            generation: 1,
            guest_role: None,
            deadline: None,
        };
        let of_caller = BTreeMap::from([("owner".to_owned(), "somebody".to_owned())]);
        let labels = volume_labels("v", "v", &ownership, &of_caller);
        assert!(is_ours(&labels, "v", &ownership.owner));
        assert_eq!(labels["user.pika.label.owner"], "somebody");
    }

    #[test]
    fn how_ids_are_read_goes_with_the_content_and_labels_do_not() {
        let config = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            pairs.iter().map(owned).collect()
        };
        let source = config(&[
            ("user.pika.owner", "me"),
            ("user.other", "x"),
            ("volatile.idmap.last", "[1]"),
            ("volatile.uuid", "u"),
            ("initial.uid", "1000"),
            ("size", "5GiB"),
        ]);
        let expected = config(&[("volatile.idmap.last", "[1]"), ("size", "5GiB")]);
        assert_eq!(carried(&source), expected);
    }
}
