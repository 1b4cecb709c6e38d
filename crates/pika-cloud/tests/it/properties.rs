//! Properties that hold for every input.

use pika_cloud::incus::{mount_device_name, plan_mounts};
use pika_cloud::lifecycle::{decode_events, decode_result, decode_status, encode_event};
use pika_cloud::paths::{check_normal, is_at_or_below, is_below};
use pika_cloud::{
    EventKind, GuestRequest, LifecycleEvent, LifecycleState, RunEnd, RuntimeMountKind, RuntimeSpec,
    TerminalRecord, Timestamp, decode_terminal_record,
};
use proptest::prelude::*;

use crate::sample::{bare_spec, cache, full_spec};

/// Paths that are nearly right: the alphabet of everything that the rules are about.
fn near_path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just(String::new()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just("run".to_owned()),
        Just("pika-cloud".to_owned()),
        "[a-c.-]{1,3}",
    ];
    (prop::collection::vec(part, 1..6), any::<bool>()).prop_map(|(parts, absolute)| {
        (if absolute { "/" } else { "" }).to_owned() + &parts.join("/")
    })
}

/// Normal paths of few names, so that many contain each other or nearly do.
fn normal_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "ab", "b"]), 1..4)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn kind() -> impl Strategy<Value = RuntimeMountKind> {
    prop::sample::select(vec![
        RuntimeMountKind::PersistentVolume,
        RuntimeMountKind::ReadOnlySnapshot,
        RuntimeMountKind::ArtifactOutput,
        RuntimeMountKind::Cache,
    ])
}

fn event() -> impl Strategy<Value = LifecycleEvent> {
    let details = prop::option::of(prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
    ]);
    let state = prop::sample::select(LifecycleState::ALL.to_vec());
    let boot_id = prop::option::of("[a-z]{1,3}");
    (
        0..4_102_444_800_000_i64,
        state,
        any::<String>(),
        boot_id,
        details,
    )
        .prop_map(
            |(millis, state, message, boot_id, details)| LifecycleEvent {
                schema_version: 1,
                seq: 1,
                timestamp: Timestamp::from_unix_millis(millis),
                kind: EventKind::State(state),
                message,
                boot_id,
                details,
            },
        )
}

proptest! {
    #[test]
    fn a_normal_path_is_one_that_the_kernel_would_not_rewrite(path in near_path()) {
        let rewritten: Vec<&str> =
            path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let normal = path.starts_with('/')
            && !rewritten.contains(&"..")
            && path == format!("/{}", rewritten.join("/"));
        prop_assert_eq!(check_normal(&path).is_ok(), normal, "{}", path);
    }

    #[test]
    fn containment_is_by_component(a in normal_path(), b in normal_path()) {
        let by_std = std::path::Path::new(&a).starts_with(&b);
        prop_assert_eq!(is_at_or_below(&a, &b), by_std);
        prop_assert_eq!(is_below(&a, &b), by_std && a != b);
    }

    #[test]
    fn a_valid_spec_never_has_a_mount_that_hides_something(
        paths in prop::collection::vec(near_path(), 1..5)
    ) {
        let mut spec = bare_spec();
        spec.mounts = paths.iter().map(|path| cache("x", path)).collect();
        if spec.validate().is_ok() {
            for (index, path) in paths.iter().enumerate() {
                prop_assert!(!is_at_or_below("/run/pika-cloud", path));
                for earlier in &paths[..index] {
                    prop_assert!(!is_at_or_below(earlier, path), "{} hides {}", path, earlier);
                }
            }
        }
    }

    #[test]
    fn a_valid_spec_always_has_a_plan_with_distinct_devices(
        sources in prop::collection::vec(("[a-z/.-]{0,8}", near_path(), kind()), 0..6)
    ) {
        let mut spec = bare_spec();
        spec.mounts = sources
            .iter()
            .map(|(source, path, kind)| {
                let mut mount = cache(source, path);
                mount.kind = *kind;
                mount
            })
            .collect();
        prop_assert_eq!(spec.validate().is_ok(), spec.build_incus_plan().is_ok());
        if let Ok(plan) = spec.build_incus_plan() {
            let mut names: Vec<_> = plan.mounts.iter().map(|mount| &mount.device_name).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), spec.mounts.len());
        }
    }

    #[test]
    fn a_device_name_is_short_plain_and_the_same_every_time(
        kind in kind(), source in any::<String>(), guest_path in any::<String>()
    ) {
        let name = mount_device_name(kind, &source, &guest_path);
        prop_assert!(name.len() <= 18 && name.starts_with("pk-"));
        prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        prop_assert_eq!(name, mount_device_name(kind, &source, &guest_path));
    }

    #[test]
    fn planning_any_mounts_keeps_their_number_or_fails(
        paths in prop::collection::vec(any::<String>(), 0..8)
    ) {
        let mounts: Vec<_> = paths.iter().map(|path| cache("x", path)).collect();
        if let Ok(planned) = plan_mounts(&mounts) {
            prop_assert_eq!(planned.len(), mounts.len());
        }
    }

    #[test]
    fn a_spec_is_read_as_it_was_written(
        runtime_id in any::<String>(), cpus in any::<Option<u8>>(), label in any::<String>(),
        required in any::<bool>(), globs in prop::collection::vec(any::<String>(), 0..3)
    ) {
        let mut spec = full_spec();
        spec.identity.runtime_id = runtime_id;
        spec.resources.vcpu_count = cpus;
        spec.labels.insert(label.clone(), label);
        spec.mounts[0].required = required;
        spec.policies.output_collection.artifact_globs = globs;
        let text = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(&RuntimeSpec::from_json("x", &text).unwrap(), &spec);
        let as_toml = toml::to_string(&spec).unwrap();
        prop_assert_eq!(toml::from_str::<RuntimeSpec>(&as_toml).unwrap(), spec);
    }

    #[test]
    fn an_event_is_read_as_it_was_written(event in event()) {
        if let Ok(line) = encode_event(&event) {
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let decoded = decode_events("e", &line).unwrap();
            prop_assert_eq!(decoded.events, vec![event]);
            prop_assert_eq!(decoded.consumed_bytes, line.len());
        }
    }

    #[test]
    fn no_bytes_crash_a_decoder(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        drop(decode_status("s", &bytes));
        drop(decode_result("r", &bytes));
        drop(decode_events("e", &bytes));
        drop(decode_terminal_record(&bytes));
        drop(GuestRequest::decode(&bytes));
    }

    #[test]
    fn a_cut_stream_is_an_error_or_a_prefix(
        events in prop::collection::vec(event(), 1..5), cut in any::<prop::sample::Index>()
    ) {
        let mut stream = Vec::new();
        for (index, event) in events.iter().enumerate() {
            let seq = index as u64 + 1;
            let event = LifecycleEvent { seq, boot_id: None, ..event.clone() };
            let Ok(line) = encode_event(&event) else { return Ok(()) };
            stream.extend(line);
        }
        let whole = decode_events("e", &stream).unwrap().events;
        let cut = cut.index(stream.len());
        let decoded = decode_events("e", &stream[..cut]).unwrap();
        prop_assert_eq!(&decoded.events[..], &whole[..decoded.events.len()]);
        prop_assert_eq!(decoded.consumed_bytes + decoded.torn_bytes, cut);
    }

    #[test]
    fn a_record_is_read_as_it_was_written(
        nonce in "[A-Za-z0-9_-]{1,64}", log_bytes in any::<u64>(), code in 0..=255_i32,
        reason in any::<String>()
    ) {
        for end in [RunEnd::Exited { code }, RunEnd::RunnerFailed { reason }] {
            let record = TerminalRecord {
                schema_version: 1,
                nonce: nonce.clone(),
                boot_id: "b".to_owned(),
                log_bytes,
                end,
                self_reported: true,
            };
            let line = pika_cloud::record::encode_terminal_record(&record).unwrap();
            prop_assert_eq!(decode_terminal_record(&line).unwrap(), Some(record));
        }
    }
}
