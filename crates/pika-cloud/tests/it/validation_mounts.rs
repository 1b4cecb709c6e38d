//! Every rule of mounts, each broken alone.

use pika_cloud::{RuntimeMount, RuntimeMountKind, RuntimeMountMode, RuntimeSpecError as Error};

use crate::sample::{bare_spec, cache, mount, snapshot};
use crate::validation::{invalid_path, refuses_mounts};

#[test]
fn mount_points_are_distinct() {
    let guest_path = "/cache".to_owned();
    refuses_mounts(
        &[cache("x", "/cache"), cache("y", "/cache")],
        Error::DuplicateMountGuestPath { guest_path },
    );
}

#[test]
fn a_trailing_slash_makes_no_other_mount_point() {
    let mut spec = bare_spec();
    spec.mounts = vec![cache("x", "/cache"), cache("y", "/cache/")];
    let expected = [
        invalid_path("mounts.guest_path", "/cache/", "must not end with `/`"),
        Error::DuplicateMountGuestPath {
            guest_path: "/cache".to_owned(),
        },
    ];
    assert_eq!(spec.problems(), expected);
}

#[test]
fn no_mount_hides_the_guest_or_its_state() {
    for guest_path in ["/", "/run", "/run/pika-cloud"] {
        refuses_mounts(
            &[cache("x", guest_path)],
            Error::MountHidesState {
                guest_path: guest_path.to_owned(),
                hidden: "/run/pika-cloud".to_owned(),
            },
        );
    }
    let status = "/run/pika-cloud/status.json";
    refuses_mounts(
        &[cache("x", status)],
        Error::MountHidesState {
            guest_path: status.to_owned(),
            hidden: status.to_owned(),
        },
    );
}

#[test]
fn a_mount_below_the_state_directory_is_fine() {
    for guest_path in [
        "/run/pika-cloud/artifacts",
        "/run/pika-cloud-evil",
        "/run/pika",
    ] {
        let mut spec = bare_spec();
        spec.mounts = vec![cache("x", guest_path)];
        assert_eq!(spec.problems(), [], "{guest_path}");
    }
}

#[test]
fn a_parent_is_mounted_before_its_child() {
    refuses_mounts(
        &[cache("x", "/a/b"), cache("y", "/a")],
        Error::MountHidesEarlierMount {
            guest_path: "/a".to_owned(),
            hidden_guest_path: "/a/b".to_owned(),
        },
    );
    for paths in [["/a", "/a/b"], ["/a/b", "/a/bc"], ["/ab", "/a"]] {
        let mut spec = bare_spec();
        spec.mounts = paths.map(|path| cache("x", path)).to_vec();
        assert_eq!(spec.problems(), [], "{paths:?}");
    }
}

#[test]
fn a_snapshot_is_read_only() {
    let mount = RuntimeMount {
        mode: RuntimeMountMode::ReadWrite,
        ..snapshot()
    };
    let guest_path = mount.guest_path.clone();
    refuses_mounts(&[mount], Error::WritableSnapshot { guest_path });
}

#[test]
fn a_persistent_volume_is_a_volume() {
    let kind = RuntimeMountKind::PersistentVolume;
    refuses_mounts(
        &[mount(
            kind,
            "/srv/state",
            "/mnt/pika-state",
            RuntimeMountMode::ReadWrite,
        )],
        Error::PersistentVolumeNotAVolume {
            guest_path: "/mnt/pika-state".to_owned(),
            source_path: "/srv/state".to_owned(),
        },
    );
}

#[test]
fn a_source_is_a_normal_path_or_a_volumes_name() {
    for (source, reason) in [
        ("/srv/../etc", "must not contain parent traversal"),
        ("/srv/", "must not end with `/`"),
        ("/srv\0", "must not contain control characters"),
        (
            "./cache",
            "is neither an absolute path nor the name of a volume",
        ),
        (
            "../cache",
            "is neither an absolute path nor the name of a volume",
        ),
        (
            "cache/dir",
            "is neither an absolute path nor the name of a volume",
        ),
        ("..", "is neither an absolute path nor the name of a volume"),
        ("my cache", "must not contain spaces"),
        ("ca\nche", "must not contain control characters"),
    ] {
        refuses_mounts(
            &[cache(source, "/cache")],
            Error::InvalidMountSource {
                guest_path: "/cache".to_owned(),
                mount_source: source.to_owned(),
                reason,
            },
        );
    }
}

#[test]
fn two_mounts_with_one_device_name_are_an_error() {
    refuses_mounts(
        &[cache("x", "/a/b"), cache("x", "/a-b")],
        Error::DeviceNameCollision {
            device_name: "pk-cache-6bac25ad".to_owned(),
            first_guest_path: "/a/b".to_owned(),
            second_guest_path: "/a-b".to_owned(),
        },
    );
}
