//! Every rule of a spec, each broken alone: the spec that breaks it is otherwise valid.

use pika_cloud::{RuntimeMount, RuntimeSpec, RuntimeSpecError as Error};

use crate::sample::{bare_spec, cache, full_spec};

/// Breaks a valid spec and expects this one problem and no other.
#[track_caller]
pub(crate) fn refuses(change: impl FnOnce(&mut RuntimeSpec), expected: Error) {
    let mut spec = bare_spec();
    change(&mut spec);
    assert_eq!(spec.problems(), std::slice::from_ref(&expected));
    assert_eq!(spec.validate(), Err(expected.clone()));
    assert_eq!(spec.build_incus_plan(), Err(expected));
}

#[track_caller]
pub(crate) fn refuses_mounts(mounts: &[RuntimeMount], expected: Error) {
    refuses(|spec| spec.mounts = mounts.to_vec(), expected);
}

pub(crate) fn invalid_path(field: &'static str, path: &str, reason: &'static str) -> Error {
    Error::InvalidPath {
        field,
        path: path.to_owned(),
        reason,
    }
}

#[test]
fn the_samples_are_valid() {
    assert_eq!(bare_spec().validate(), Ok(()));
    assert_eq!(full_spec().problems(), []);
}

#[test]
fn required_texts_must_not_be_empty_or_white_space() {
    type Access = fn(&mut RuntimeSpec) -> &mut String;
    let fields: [(&'static str, Access); 5] = [
        ("identity.runtime_id", |spec| &mut spec.identity.runtime_id),
        ("identity.instance_name", |spec| {
            &mut spec.identity.instance_name
        }),
        ("incus.project", |spec| &mut spec.incus.project),
        ("incus.profile", |spec| &mut spec.incus.profile),
        ("incus.image_alias", |spec| &mut spec.incus.image_alias),
    ];
    for (field, access) in fields {
        for empty in ["", " ", "\t\n "] {
            let expected = Error::EmptyField { field };
            refuses(|spec| *access(spec) = empty.to_owned(), expected);
        }
    }
    let storage_pool = Error::EmptyField {
        field: "incus.storage_pool",
    };
    refuses(
        |spec| spec.incus.storage_pool = Some("  ".to_owned()),
        storage_pool,
    );
    let target = Error::EmptyField {
        field: "incus.target",
    };
    refuses(|spec| spec.incus.target = Some(String::new()), target);
    let command = Error::EmptyField {
        field: "bootstrap.entry_command",
    };
    refuses(
        |spec| spec.bootstrap.entry_command = Some(" ".to_owned()),
        command,
    );
    for empty in ["", "   "] {
        let expected = Error::EmptyField {
            field: "mounts.source",
        };
        refuses_mounts(&[cache(empty, "/cache")], expected);
    }
    refuses_mounts(
        &[cache("x", " ")],
        Error::EmptyField {
            field: "mounts.guest_path",
        },
    );
    let events = Error::EmptyField {
        field: "paths.events_path",
    };
    refuses(|spec| spec.paths.events_path = String::new(), events);
}

#[test]
fn a_path_must_be_absolute_and_normal() {
    for (path, reason) in [
        ("run/pika-cloud/events.jsonl", "must be absolute"),
        (
            "/run/pika-cloud/../events.jsonl",
            "must not contain parent traversal",
        ),
        ("/run/pika-cloud/..", "must not contain parent traversal"),
        (
            "/run/pika-cloud/./events.jsonl",
            "must not contain `.` components",
        ),
        ("/run//pika-cloud/events.jsonl", "must not contain `//`"),
        ("/run/pika-cloud/events.jsonl/", "must not end with `/`"),
        (
            "/run/pika-cloud/events\0.jsonl",
            "must not contain control characters",
        ),
        (
            "/run/pika-cloud/events\n.jsonl",
            "must not contain control characters",
        ),
        (
            "/run/pika-cloud/events\u{85}.jsonl",
            "must not contain control characters",
        ),
    ] {
        let expected = invalid_path("paths.events_path", path, reason);
        refuses(|spec| spec.paths.events_path = path.to_owned(), expected);
        let expected = invalid_path("mounts.guest_path", path, reason);
        refuses_mounts(&[cache("x", path)], expected);
    }
    let long = format!("/run/pika-cloud/{}", "x".repeat(4096));
    let expected = invalid_path(
        "paths.events_path",
        &long,
        "must not be longer than 4096 bytes",
    );
    refuses(|spec| spec.paths.events_path = long.clone(), expected);
}

#[test]
fn dots_inside_a_component_are_fine() {
    let mut spec = bare_spec();
    spec.paths.events_path = "/run/pika-cloud/..events...jsonl".to_owned();
    spec.mounts = vec![cache("x", "/a/..b/.c")];
    assert_eq!(spec.problems(), []);
}

#[test]
fn every_contract_path_must_stay_under_the_root() {
    type Access = fn(&mut RuntimeSpec) -> &mut String;
    let fields: [(&'static str, Access); 7] = [
        ("paths.events_path", |spec| &mut spec.paths.events_path),
        ("paths.status_path", |spec| &mut spec.paths.status_path),
        ("paths.result_path", |spec| &mut spec.paths.result_path),
        ("paths.guest_request_path", |spec| {
            &mut spec.paths.guest_request_path
        }),
        ("paths.logs_dir", |spec| &mut spec.paths.logs_dir),
        ("paths.guest_log_path", |spec| {
            &mut spec.paths.guest_log_path
        }),
        ("paths.artifacts_dir", |spec| &mut spec.paths.artifacts_dir),
    ];
    for (field, access) in fields {
        let outside = [
            "/run/pika-cloud-evil/x",
            "/run/pika-cloudx",
            "/run/pika",
            "/var/x",
        ];
        for path in outside {
            let expected = invalid_path(field, path, "must stay under lifecycle_root");
            refuses(|spec| *access(spec) = path.to_owned(), expected);
        }
    }
}

#[test]
fn the_state_directory_itself_is_not_under_the_root() {
    let mut spec = bare_spec();
    spec.paths.artifacts_dir = "/run/pika-cloud".to_owned();
    let reason = "must stay under lifecycle_root";
    let expected = invalid_path("paths.artifacts_dir", "/run/pika-cloud", reason);
    assert_eq!(spec.validate(), Err(expected));
}

#[test]
fn lifecycle_root_and_state_directory_are_one() {
    refuses(
        |spec| {
            spec.lifecycle_root = "/run".to_owned();
        },
        Error::MismatchedStateRoot {
            lifecycle_root: "/run".to_owned(),
            state_dir: "/run/pika-cloud".to_owned(),
        },
    );
}

#[test]
fn the_state_directory_is_not_the_root_directory() {
    let mut spec = bare_spec();
    spec.lifecycle_root = "/".to_owned();
    spec.paths.state_dir = "/".to_owned();
    let reason = "must not be the root directory";
    let expected = [
        invalid_path("lifecycle_root", "/", reason),
        invalid_path("paths.state_dir", "/", reason),
    ];
    assert_eq!(spec.problems(), expected);
}

#[test]
fn path_defaults_do_not_follow_the_root() {
    let mut spec = bare_spec();
    spec.lifecycle_root = "/run/other".to_owned();
    spec.paths.state_dir = "/run/other".to_owned();
    let reason = "must stay under lifecycle_root";
    let path = "/run/pika-cloud/events.jsonl";
    assert_eq!(
        spec.validate(),
        Err(invalid_path("paths.events_path", path, reason))
    );
}

#[test]
fn two_lifecycle_files_never_share_a_path() {
    let status = "/run/pika-cloud/status.json";
    refuses(
        |spec| spec.paths.result_path = status.to_owned(),
        Error::DuplicateLifecyclePath {
            first: "paths.status_path",
            second: "paths.result_path",
            path: status.to_owned(),
        },
    );
    let inside_file = "/run/pika-cloud/status.json/result.json";
    refuses(
        |spec| spec.paths.result_path = inside_file.to_owned(),
        Error::DuplicateLifecyclePath {
            first: "paths.status_path",
            second: "paths.result_path",
            path: inside_file.to_owned(),
        },
    );
}

#[test]
fn the_workloads_directory_holds_no_contract_file() {
    let path = "/run/pika-cloud/artifacts/result.json";
    refuses(
        |spec| spec.paths.result_path = path.to_owned(),
        Error::DuplicateLifecyclePath {
            first: "paths.result_path",
            second: "paths.artifacts_dir",
            path: "/run/pika-cloud/artifacts".to_owned(),
        },
    );
}

#[test]
fn the_bootstraps_request_file_is_that_of_the_paths() {
    let bootstrap_path = "/run/pika-cloud/other.json";
    refuses(
        |spec| spec.bootstrap.guest_request_path = Some(bootstrap_path.to_owned()),
        Error::MismatchedGuestRequestPath {
            bootstrap_path: bootstrap_path.to_owned(),
            runtime_path: "/run/pika-cloud/guest-request.json".to_owned(),
        },
    );
}

#[test]
fn instance_names_are_those_that_incus_takes() {
    for (name, reason) in [
        ("1abc", "must begin with a letter"),
        ("-abc", "must begin with a letter"),
        ("abc-", "must not end with `-`"),
        ("a_b", "must contain only ASCII letters, digits and `-`"),
        ("a.b", "must contain only ASCII letters, digits and `-`"),
        ("a/b", "must contain only ASCII letters, digits and `-`"),
        ("käse", "must contain only ASCII letters, digits and `-`"),
        ("a b", "must contain only ASCII letters, digits and `-`"),
    ] {
        let instance_name = name.to_owned();
        let expected = Error::InvalidInstanceName {
            instance_name,
            reason,
        };
        refuses(
            |spec| spec.identity.instance_name = name.to_owned(),
            expected,
        );
    }
    let long = "a".repeat(64);
    refuses(
        |spec| spec.identity.instance_name = long.clone(),
        Error::InvalidInstanceName {
            instance_name: long.clone(),
            reason: "must not be longer than 63 characters",
        },
    );
    for name in ["a", "A1", "a-b", &"a".repeat(63)] {
        let mut spec = bare_spec();
        spec.identity.instance_name = name.to_owned();
        assert_eq!(spec.problems(), [], "{name}");
    }
}

#[test]
fn names_hold_no_control_characters_and_nothing_that_incus_refuses() {
    let invalid = |field, value: &str, reason| Error::InvalidName {
        field,
        value: value.to_owned(),
        reason,
    };
    let control = "must not contain control characters";
    let refused = "contains a character that Incus refuses in such a name";
    refuses(
        |spec| spec.identity.runtime_id = "a\0b".to_owned(),
        invalid("identity.runtime_id", "a\0b", control),
    );
    refuses(
        |spec| spec.incus.project = "a/b".to_owned(),
        invalid("incus.project", "a/b", refused),
    );
    refuses(
        |spec| spec.incus.profile = "a/b".to_owned(),
        invalid("incus.profile", "a/b", refused),
    );
    refuses(
        |spec| spec.incus.image_alias = " a".to_owned(),
        invalid(
            "incus.image_alias",
            " a",
            "must not begin or end with white space",
        ),
    );
    refuses(
        |spec| spec.incus.storage_pool = Some("..".to_owned()),
        invalid("incus.storage_pool", "..", "must not be `.` or `..`"),
    );
}

#[test]
fn sizes_and_deadlines_are_not_zero() {
    type Change = fn(&mut RuntimeSpec);
    let changes: [(&'static str, Change); 7] = [
        ("resources.vcpu_count", |spec| {
            spec.resources.vcpu_count = Some(0)
        }),
        ("resources.memory_mib", |spec| {
            spec.resources.memory_mib = Some(0)
        }),
        ("resources.root_disk_gib", |spec| {
            spec.resources.root_disk_gib = Some(0)
        }),
        ("policies.deadlines.boot_secs", |spec| {
            spec.policies.deadlines.boot_secs = Some(0)
        }),
        ("policies.deadlines.ready_secs", |spec| {
            spec.policies.deadlines.ready_secs = Some(0)
        }),
        ("policies.deadlines.run_secs", |spec| {
            spec.policies.deadlines.run_secs = Some(0)
        }),
        ("policies.deadlines.idle_secs", |spec| {
            spec.policies.deadlines.idle_secs = Some(0)
        }),
    ];
    for (field, change) in changes {
        refuses(change, Error::ZeroValue { field });
    }
}

#[test]
fn a_deadline_has_a_limit() {
    let field = "policies.deadlines.run_secs";
    let max = 366 * 24 * 3600;
    refuses(
        |spec| spec.policies.deadlines.run_secs = Some(u64::MAX),
        Error::LimitExceeded {
            field,
            actual: u64::MAX,
            max,
        },
    );
}

#[test]
fn labels_fit_into_configuration_keys() {
    let set = |key: &str, value: &str| {
        let (key, value) = (key.to_owned(), value.to_owned());
        move |spec: &mut RuntimeSpec| {
            spec.labels.insert(key, value);
        }
    };
    let invalid = |key: &str, reason| Error::InvalidLabel {
        key: key.to_owned(),
        reason,
    };
    let empty = "must have a key of 1 to 63 bytes";
    refuses(set("", "x"), invalid("", empty));
    let long = "k".repeat(64);
    refuses(set(&long, "x"), invalid(&long, empty));
    let letters = "must have a key of ASCII letters, digits, `.`, `_`, `-` and `/`";
    refuses(set("a b", "x"), invalid("a b", letters));
    refuses(set("a=b", "x"), invalid("a=b", letters));
    let control = "must not have control characters in its value";
    refuses(set("a", "x\ny"), invalid("a", control));
    let value = "must have a value of at most 1024 bytes";
    refuses(set("a", &"x".repeat(1025)), invalid("a", value));
}

#[test]
fn artifact_patterns_stay_in_the_artifacts_directory() {
    for (glob, reason) in [
        ("", "is empty: leave it out, or use `**` for everything"),
        ("/etc/**", "must be relative to the artifacts directory"),
        ("../**", "must not contain parent traversal"),
        ("a/../../b", "must not contain parent traversal"),
        ("a\0", "must not contain control characters"),
    ] {
        refuses(
            |spec| spec.policies.output_collection.artifact_globs = vec![glob.to_owned()],
            Error::InvalidArtifactGlob {
                glob: glob.to_owned(),
                reason,
            },
        );
    }
    let mut spec = bare_spec();
    let globs = ["**", "*.xml", "report/**/*.html", "..a", "{a,b}/c"];
    spec.policies.output_collection.artifact_globs = globs.map(str::to_owned).to_vec();
    assert_eq!(spec.problems(), []);
}

#[test]
fn lists_and_texts_have_limits() {
    let exceeded = |field, actual, max| Error::LimitExceeded { field, actual, max };
    let mut spec = bare_spec();
    spec.mounts = (0..65)
        .map(|index| cache("x", &format!("/m{index}")))
        .collect();
    assert_eq!(spec.problems(), [exceeded("mounts", 65, 64)]);
    let mut spec = bare_spec();
    spec.labels = (0..65)
        .map(|index| (format!("k{index}"), String::new()))
        .collect();
    assert_eq!(spec.problems(), [exceeded("labels", 65, 64)]);
    let mut spec = bare_spec();
    spec.metadata
        .insert("k".to_owned(), serde_json::json!("x".repeat(64 * 1024)));
    let bytes = serde_json::to_vec(&spec.metadata).unwrap().len() as u64;
    assert_eq!(
        spec.problems(),
        [exceeded("metadata (bytes of JSON)", bytes, 64 * 1024)]
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let mut spec = bare_spec();
    spec.identity.runtime_id = String::new();
    spec.resources.vcpu_count = Some(0);
    spec.lifecycle_root = "relative".to_owned();
    spec.mounts = vec![cache("", "/")];
    let texts: Vec<String> = spec.problems().iter().map(Error::to_string).collect();
    insta::assert_snapshot!(texts.join("\n"));
    assert_eq!(spec.validate(), Err(spec.problems()[0].clone()));
}
