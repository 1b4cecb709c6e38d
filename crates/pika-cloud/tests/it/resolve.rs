//! From plan and facts to the exact requests.

use std::collections::BTreeSet;

use pika_cloud::resolve::{HostDirFacts, LeftOutReason};
use pika_cloud::{
    InstanceType, OwnedKind, ResolveError, ResolvedPlan, RuntimeMount, RuntimeMountKind,
    RuntimeMountMode, RuntimeSpec, ServerFacts, resolve,
};

use crate::sample::{
    FINGERPRINT, SNAPSHOT_SOURCE, bare_spec, cache, facts, full_spec, mount, ownership, snapshot,
};

fn resolved(spec: &RuntimeSpec, facts: &ServerFacts) -> Result<ResolvedPlan, ResolveError> {
    resolve(
        &spec.build_incus_plan().unwrap(),
        facts,
        &ownership(OwnedKind::Ci),
    )
}

/// Everything of a resolved plan that isn't the plan itself.
fn decisions(resolved: &ResolvedPlan) -> serde_json::Value {
    let mut value = serde_json::to_value(resolved).unwrap();
    value.as_object_mut().unwrap().remove("plan");
    value
}

#[test]
fn a_ci_container_is_created_with_exactly_this() {
    let resolved = resolved(&full_spec(), &facts(InstanceType::Container)).unwrap();
    insta::assert_json_snapshot!(decisions(&resolved));
}

#[test]
fn a_ci_virtual_machine_is_created_with_exactly_this() {
    let resolved = resolved(&full_spec(), &facts(InstanceType::VirtualMachine)).unwrap();
    insta::assert_json_snapshot!(decisions(&resolved));
}

#[test]
fn an_agent_without_sizes_gets_none_of_the_ci_settings() {
    let plan = bare_spec().build_incus_plan().unwrap();
    let mut ownership = ownership(OwnedKind::Agent);
    ownership.deadline = None;
    let resolved = resolve(&plan, &facts(InstanceType::Container), &ownership).unwrap();
    insta::assert_json_snapshot!(resolved.create_body);
}

#[test]
fn a_resolved_plan_is_read_as_it_was_written() {
    let resolved = resolved(&full_spec(), &facts(InstanceType::Container)).unwrap();
    let text = serde_json::to_string(&resolved).unwrap();
    assert_eq!(
        serde_json::from_str::<ResolvedPlan>(&text).unwrap(),
        resolved
    );
}

#[test]
fn the_type_follows_spec_then_operator_then_server_and_image() {
    use InstanceType::{Auto, Container, VirtualMachine};
    // spec, operator's default, server runs virtual machines, image, outcome
    let cases = [
        (
            Some(VirtualMachine),
            Auto,
            true,
            VirtualMachine,
            Some(VirtualMachine),
        ),
        (Some(VirtualMachine), Container, false, VirtualMachine, None),
        (
            Some(Container),
            VirtualMachine,
            true,
            Container,
            Some(Container),
        ),
        (Some(Container), VirtualMachine, true, VirtualMachine, None),
        (Some(VirtualMachine), Auto, true, Container, None),
        (
            None,
            VirtualMachine,
            true,
            VirtualMachine,
            Some(VirtualMachine),
        ),
        (None, VirtualMachine, false, Container, None),
        (None, Container, true, Container, Some(Container)),
        (None, Auto, true, VirtualMachine, Some(VirtualMachine)),
        (None, Auto, true, Container, Some(Container)),
        (None, Auto, false, Container, Some(Container)),
        (None, Auto, false, VirtualMachine, None),
        (
            Some(Auto),
            VirtualMachine,
            false,
            Container,
            Some(Container),
        ),
    ];
    for case in cases {
        let (in_spec, default, virtual_machines, image, outcome) = case;
        let mut spec = bare_spec();
        spec.incus.instance_type = in_spec;
        let mut facts = facts(image);
        facts.default_instance_type = default;
        facts.virtual_machines = virtual_machines;
        let resolved = resolved(&spec, &facts).ok();
        assert_eq!(resolved.map(|plan| plan.instance_type), outcome, "{case:?}");
    }
}

#[test]
fn what_auto_became_is_said() {
    let mut facts = facts(InstanceType::Container);
    let note = |facts: &ServerFacts| resolved(&bare_spec(), facts).unwrap().notes.join("; ");
    insta::assert_snapshot!(note(&facts), @"instance type `auto` became container: the image is a container image");
    facts.virtual_machines = false;
    insta::assert_snapshot!(note(&facts), @"instance type `auto` became container: this server runs no virtual machines");
    facts.virtual_machines = true;
    facts.image.as_mut().unwrap().instance_type = InstanceType::VirtualMachine;
    insta::assert_snapshot!(note(&facts), @"instance type `auto` became virtual machine: the server can and the image is one for virtual machines");
}

#[test]
fn every_refusal_says_what_why_and_the_way_out() {
    let refusal = |change: &dyn Fn(&mut RuntimeSpec, &mut ServerFacts)| {
        let (mut spec, mut facts) = (full_spec(), facts(InstanceType::Container));
        change(&mut spec, &mut facts);
        resolved(&spec, &facts).unwrap_err().to_string()
    };
    let texts = [
        refusal(&|spec, facts| {
            spec.incus.instance_type = Some(InstanceType::VirtualMachine);
            facts.virtual_machines = false;
            facts.virtual_machines_problem = Some("KVM support is missing".to_owned());
        }),
        refusal(&|spec, facts| {
            spec.incus.instance_type = Some(InstanceType::Container);
            facts.containers = false;
        }),
        refusal(&|_, facts| facts.image = None),
        refusal(&|spec, facts| {
            spec.incus.image_alias = "custom/image".to_owned();
            facts.image = None;
        }),
        refusal(&|spec, _| spec.incus.instance_type = Some(InstanceType::VirtualMachine)),
        refusal(&|_, facts| facts.expected_contract_version = Some(2)),
        refusal(&|_, facts| facts.image.as_mut().unwrap().properties.clear()),
        refusal(&|_, facts| facts.volumes.clear()),
        refusal(&|_, facts| {
            facts.host_dirs.get_mut(SNAPSHOT_SOURCE).unwrap().exists = false;
        }),
        refusal(&|_, facts| {
            facts.pool.quota_enforced = false;
            facts.pool.driver = "dir".to_owned();
        }),
        refusal(&|spec, _| spec.mounts[0].guest_path = "/run/snapshot".to_owned()),
        refusal(&|spec, _| {
            spec.paths.status_path = "/run/pika-cloud/other.json".to_owned();
        }),
    ];
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn an_image_is_not_checked_when_any_will_do() {
    let mut facts = facts(InstanceType::Container);
    facts.expected_contract_version = None;
    facts.image.as_mut().unwrap().properties.clear();
    assert_eq!(
        resolved(&bare_spec(), &facts).unwrap().image_fingerprint,
        FINGERPRINT
    );
}

#[test]
fn a_hostile_property_cant_paint_the_terminal() {
    let mut facts = facts(InstanceType::Container);
    let properties = &mut facts.image.as_mut().unwrap().properties;
    properties.insert("pika.contract_version".to_owned(), "\u{1b}[31m".repeat(100));
    let text = resolved(&bare_spec(), &facts).unwrap_err().to_string();
    assert!(!text.contains('\u{1b}') && text.len() < 400, "{text}");
}

#[test]
fn an_optional_mount_without_source_is_left_out_and_recorded() {
    let mut spec = bare_spec();
    let optional = |source: &str, path: &str| RuntimeMount {
        required: false,
        ..cache(source, path)
    };
    spec.mounts = vec![
        optional("/var/tmp/absent", "/a"),
        optional("no-such-volume", "/b"),
    ];
    let resolved = resolved(&spec, &facts(InstanceType::Container)).unwrap();
    assert_eq!(resolved.create_body["devices"], serde_json::json!({}));
    let left_out: Vec<_> = resolved
        .left_out_mounts
        .iter()
        .map(|left| (left.source.as_str(), left.reason))
        .collect();
    let expected = [
        ("/var/tmp/absent", LeftOutReason::HostDirectoryMissing),
        ("no-such-volume", LeftOutReason::VolumeMissing),
    ];
    assert_eq!(left_out, expected);
}

#[test]
fn a_directory_that_cant_be_seen_is_left_to_incus() {
    let mut spec = bare_spec();
    spec.mounts = vec![
        cache("/far/away", "/a"),
        RuntimeMount {
            required: false,
            ..cache("/far/too", "/b")
        },
    ];
    let resolved = resolved(&spec, &facts(InstanceType::Container)).unwrap();
    let devices = resolved.create_body["devices"].as_object().unwrap();
    let required: BTreeSet<_> = devices
        .values()
        .map(|device| {
            (
                device["path"].as_str().unwrap(),
                device.get("required").is_some(),
            )
        })
        .collect();
    assert_eq!(required, BTreeSet::from([("/a", false), ("/b", true)]));
    assert_eq!(
        resolved
            .notes
            .iter()
            .filter(|note| note.contains("/far/"))
            .count(),
        2
    );
}

#[test]
fn below_run_a_container_mounts_late_and_a_virtual_machine_at_once() {
    let mut spec = bare_spec();
    spec.mounts = vec![
        cache("cargo-home", "/run/pika-cloud/artifacts"),
        cache("x", "/runner"),
    ];
    for (image, late) in [
        (InstanceType::Container, 1),
        (InstanceType::VirtualMachine, 0),
    ] {
        let mut facts = facts(image);
        facts.volumes.insert("x".to_owned());
        let resolved = resolved(&spec, &facts).unwrap();
        assert_eq!(resolved.late_devices.len(), late);
        let devices = resolved.create_body["devices"].as_object().unwrap();
        assert_eq!(devices.len(), 2 - late);
    }
}

#[test]
fn a_read_only_mount_is_never_hot_plugged_from_a_writable_source() {
    let mut spec = bare_spec();
    let below_run = RuntimeMount {
        guest_path: "/run/source".to_owned(),
        ..snapshot()
    };
    spec.mounts = vec![below_run];
    let mut facts = facts(InstanceType::Container);
    let refused = resolved(&spec, &facts).unwrap_err();
    assert!(
        matches!(refused, ResolveError::ReadOnlyMountBelowRun { .. }),
        "{refused}"
    );
    let read_only = HostDirFacts {
        exists: true,
        read_only_fs: true,
    };
    facts
        .host_dirs
        .insert(SNAPSHOT_SOURCE.to_owned(), read_only);
    assert_eq!(
        resolved(&spec, &facts).unwrap().late_devices[0].guest_path,
        "/run/source"
    );
    let volume = mount(
        RuntimeMountKind::Cache,
        "cargo-home",
        "/run/source",
        RuntimeMountMode::ReadOnly,
    );
    spec.mounts = vec![volume];
    let refused = resolved(&spec, &facts).unwrap_err();
    assert!(
        matches!(refused, ResolveError::ReadOnlyMountBelowRun { .. }),
        "{refused}"
    );
}

#[test]
fn the_root_disk_is_overridden_only_when_it_must_be() {
    let root = |change: &dyn Fn(&mut RuntimeSpec, &mut ServerFacts)| {
        let (mut spec, mut facts) = (bare_spec(), facts(InstanceType::Container));
        change(&mut spec, &mut facts);
        resolved(&spec, &facts).unwrap().create_body["devices"].clone()
    };
    let disk =
        |name: &str| serde_json::json!({name: {"type": "disk", "path": "/", "pool": "fast"}});
    assert_eq!(root(&|_, _| {}), serde_json::json!({}));
    assert_eq!(
        root(&|spec, _| spec.incus.storage_pool = Some("fast".to_owned())),
        disk("root")
    );
    assert_eq!(
        root(&|_, facts| facts.profile_root_device = None),
        disk("root")
    );
    let renamed = root(&|spec, facts| {
        spec.incus.storage_pool = Some("fast".to_owned());
        facts.profile_root_device = Some("system".to_owned());
    });
    assert_eq!(renamed, disk("system"));
    let sized = root(&|spec, _| spec.resources.root_disk_gib = Some(5));
    assert_eq!(sized["root"]["size"], "5GiB");
}

#[test]
fn a_size_that_isnt_enforced_is_said_when_the_operator_allows_it() {
    let mut spec = bare_spec();
    spec.resources.root_disk_gib = Some(5);
    let mut facts = facts(InstanceType::Container);
    facts.pool.quota_enforced = false;
    facts.pool.driver = "dir".to_owned();
    facts.pool.allow_unenforced_root_size = true;
    let resolved = resolved(&spec, &facts).unwrap();
    assert_eq!(resolved.create_body["devices"]["root"]["size"], "5GiB");
    insta::assert_snapshot!(resolved.notes[1], @"the root disk of 5 GiB is not enforced: the pool `fast` (driver dir) can't, and the operator allows it");
}

#[test]
fn resolving_twice_decides_the_same() {
    let facts = facts(InstanceType::Container);
    assert_eq!(
        resolved(&full_spec(), &facts),
        resolved(&full_spec(), &facts)
    );
}
