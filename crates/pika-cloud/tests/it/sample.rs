//! Specs and facts that the tests start from.

use std::collections::{BTreeMap, BTreeSet};

use pika_cloud::resolve::{HostDirFacts, ImageFacts, PoolFacts};
use pika_cloud::{
    DeploymentId, IncusGuestRole, IncusRuntimeConfig, InstanceType, OwnedKind, Ownership,
    RuntimeIdentity, RuntimeMount, RuntimeMountKind, RuntimeMountMode, RuntimeSpec, ServerFacts,
};

pub(crate) const SNAPSHOT_SOURCE: &str = "/var/tmp/run/snapshot";
pub(crate) const FINGERPRINT: &str =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn mount(
    kind: RuntimeMountKind,
    source: &str,
    guest_path: &str,
    mode: RuntimeMountMode,
) -> RuntimeMount {
    RuntimeMount {
        kind,
        guest_path: guest_path.to_owned(),
        source: source.to_owned(),
        mode,
        required: true,
    }
}

pub(crate) fn cache(source: &str, guest_path: &str) -> RuntimeMount {
    mount(
        RuntimeMountKind::Cache,
        source,
        guest_path,
        RuntimeMountMode::ReadWrite,
    )
}

pub(crate) fn snapshot() -> RuntimeMount {
    let kind = RuntimeMountKind::ReadOnlySnapshot;
    mount(
        kind,
        SNAPSHOT_SOURCE,
        "/workspace/snapshot",
        RuntimeMountMode::ReadOnly,
    )
}

/// A CI job's spec without mounts.
pub(crate) fn bare_spec() -> RuntimeSpec {
    let identity = RuntimeIdentity {
        runtime_id: "run:job".to_owned(),
        instance_name: "pikaci-6fd8c7b5193e".to_owned(),
    };
    let incus = IncusRuntimeConfig {
        project: "default".to_owned(),
        profile: "default".to_owned(),
        image_alias: "pikaci/dev".to_owned(),
        instance_type: None,
        storage_pool: None,
        target: None,
    };
    RuntimeSpec::new(identity, incus)
}

/// A CI job's spec with sizes, labels and one mount of each kind.
pub(crate) fn full_spec() -> RuntimeSpec {
    let mut spec = bare_spec();
    spec.resources.vcpu_count = Some(2);
    spec.resources.memory_mib = Some(4096);
    spec.resources.root_disk_gib = Some(20);
    spec.labels.insert("lane".to_owned(), "unit".to_owned());
    spec.metadata
        .insert("attempt".to_owned(), serde_json::json!(1));
    spec.bootstrap.guest_request_path = Some(spec.paths.guest_request_path.clone());
    spec.bootstrap.entry_command = Some(pika_cloud::paths::RUNNER_PATH.to_owned());
    let read_write = RuntimeMountMode::ReadWrite;
    spec.mounts = vec![
        snapshot(),
        mount(
            RuntimeMountKind::PersistentVolume,
            "agent-state",
            "/mnt/pika-state",
            read_write,
        ),
        cache("cargo-home", "/cargo-home"),
        mount(
            RuntimeMountKind::ArtifactOutput,
            "/var/tmp/run/artifacts",
            "/run/pika-cloud/artifacts",
            read_write,
        ),
        RuntimeMount {
            required: false,
            ..cache("/var/tmp/absent", "/cargo-target")
        },
    ];
    spec
}

/// A server that can run both types and has everything that [`full_spec`] needs but `/var/tmp/absent`.
pub(crate) fn facts(image_type: InstanceType) -> ServerFacts {
    let present = HostDirFacts {
        exists: true,
        read_only_fs: false,
    };
    let absent = HostDirFacts {
        exists: false,
        read_only_fs: false,
    };
    ServerFacts {
        containers: true,
        virtual_machines: true,
        virtual_machines_problem: None,
        default_instance_type: InstanceType::Auto,
        image: Some(ImageFacts {
            fingerprint: FINGERPRINT.to_owned(),
            instance_type: image_type,
            properties: BTreeMap::from([("pika.contract_version".to_owned(), "1".to_owned())]),
        }),
        expected_contract_version: Some(1),
        pool: PoolFacts {
            name: "fast".to_owned(),
            driver: "btrfs".to_owned(),
            quota_enforced: true,
            allow_unenforced_root_size: false,
        },
        volumes: BTreeSet::from(["agent-state".to_owned(), "cargo-home".to_owned()]),
        host_dirs: BTreeMap::from([
            (SNAPSHOT_SOURCE.to_owned(), present),
            ("/var/tmp/run/artifacts".to_owned(), present),
            ("/var/tmp/absent".to_owned(), absent),
        ]),
        profile_root_device: Some("root".to_owned()),
    }
}

pub(crate) fn ownership(kind: OwnedKind) -> Ownership {
    Ownership {
        owner: DeploymentId::new("deployment-1").unwrap(),
        kind,
        generation: 3,
        guest_role: Some(IncusGuestRole::PikaciRunner),
        deadline: Some("2026-11-21T10:00:00.000Z".to_owned()),
    }
}
