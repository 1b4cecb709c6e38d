//! Tests of the pure plans: from each thing that can be seen, the steps to "running" and to "absent".

use pika_cloud::resolve::{ImageFacts, PoolFacts};
use pika_cloud::{
    IncusRuntimePlan, InstanceType, OwnedKind, Ownership, ResolvedPlan, RuntimeSpec, ServerFacts,
};
use pika_incus::Instance;
use serde_json::{Value, json};

use crate::destroy::{DestroyStep, destroy_points, destroy_steps};
use crate::ensure::{EnsureRefusal, EnsureStep, differences, ensure_points, ensure_steps};
use crate::observe::{InstanceSeen, OperationSeen, OursSeen, Power};

const EPOCH: &str = "1970-01-01T00:00:00Z";
const LATER: &str = "2026-11-21T10:00:00Z";

fn plan(fields: Value) -> IncusRuntimePlan {
    let mut spec = json!({
        "identity": { "runtime_id": "run-1", "instance_name": "box" },
        "incus": { "project": "default", "profile": "default", "image_alias": "pikaci/dev", "instance_type": "container" },
    });
    spec.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    serde_json::from_value::<RuntimeSpec>(spec)
        .unwrap()
        .build_incus_plan()
        .unwrap()
}

fn resolved(fields: Value) -> ResolvedPlan {
    let facts = ServerFacts {
        containers: true,
        virtual_machines: false,
        virtual_machines_problem: None,
        default_instance_type: InstanceType::Auto,
        image: Some(ImageFacts {
            fingerprint: "f".repeat(64),
            instance_type: InstanceType::Container,
            properties: Default::default(),
        }),
        expected_contract_version: None,
        pool: PoolFacts {
            name: "default".to_owned(),
            driver: "btrfs".to_owned(),
            quota_enforced: true,
            allow_unenforced_root_size: false,
        },
        volumes: ["cache".to_owned()].into(),
        host_dirs: Default::default(),
        profile_root_device: Some("root".to_owned()),
    };
    let ownership = Ownership {
        owner: "us".parse().unwrap(),
        kind: OwnedKind::Ci,
        generation: 1,
        guest_role: None,
        deadline: Some(LATER.to_owned()),
    };
    pika_cloud::resolve(&plan(fields), &facts, &ownership).unwrap()
}

/// The instance that a plan would make, as Incus shows it.
fn made(wanted: &ResolvedPlan) -> Instance {
    let mut config = wanted.create_body["config"].clone();
    config["volatile.base_image"] = json!(wanted.image_fingerprint);
    config["image.description"] = json!("an image");
    serde_json::from_value(json!({
        "name": "box", "type": "container", "status_code": 103, "config": config,
        "devices": wanted.create_body["devices"], "profiles": ["default"], "last_used_at": LATER,
    }))
    .unwrap()
}

fn seen(wanted: &ResolvedPlan, power: Power, started: bool, busy: bool) -> InstanceSeen {
    let operation = OperationSeen {
        id: "op".to_owned(),
        description: "Creating instance".to_owned(),
    };
    let mut instance = made(wanted);
    instance.last_used_at = Some(if started { LATER } else { EPOCH }.to_owned());
    InstanceSeen::Ours(OursSeen {
        power,
        busy_with: if busy { vec![operation] } else { Vec::new() },
        started_at: started.then(|| LATER.to_owned()),
        instance: Box::new(instance),
    })
}

fn names(steps: &[EnsureStep]) -> Vec<&'static str> {
    steps.iter().map(|step| step.point().name).collect()
}

#[test]
fn the_way_to_running_from_everything_that_can_be_seen() {
    let wanted = resolved(json!({}));
    let steps = |seen: &InstanceSeen| ensure_steps(seen, &wanted).map(|steps| names(&steps));
    let ours = |power, started, busy| seen(&wanted, power, started, busy);
    assert_eq!(steps(&InstanceSeen::Absent).unwrap(), ["create", "confirm"]);
    assert_eq!(
        steps(&ours(Power::Running, true, false)).unwrap(),
        ["confirm"]
    );
    assert_eq!(
        steps(&ours(Power::Frozen, true, false)).unwrap(),
        ["unfreeze", "confirm"]
    );
    assert_eq!(
        steps(&ours(Power::Stopped, true, false)),
        Err(EnsureRefusal::Ended)
    );
    assert_eq!(
        steps(&ours(Power::Stopped, true, true)).unwrap(),
        ["await-operation"]
    );
    // Half-made and being made: wait. Half-made and abandoned: debris, never started.
    assert_eq!(
        steps(&ours(Power::Stopped, false, true)).unwrap(),
        ["await-operation"]
    );
    assert_eq!(
        steps(&ours(Power::Stopped, false, false)).unwrap(),
        ["remove-debris", "create", "confirm"]
    );
    assert_eq!(
        steps(&ours(Power::Error, false, false)).unwrap(),
        ["remove-debris", "create", "confirm"]
    );
    let theirs = InstanceSeen::NotOurs {
        reason: "it has no owner label".to_owned(),
    };
    assert!(matches!(steps(&theirs), Err(EnsureRefusal::NotOurs { .. })));
}

#[test]
fn a_kept_instance_that_ended_is_started_again() {
    let wanted = resolved(json!({ "policies": { "restart_policy": "on_failure" } }));
    let steps = ensure_steps(&seen(&wanted, Power::Stopped, true, false), &wanted).unwrap();
    assert_eq!(names(&steps), ["start", "confirm"]);
}

#[test]
fn a_device_below_run_comes_after_the_boot_and_only_if_it_is_missing() {
    let late = json!({ "mounts": [
        { "kind": "cache", "guest_path": "/run/late", "source": "cache", "mode": "read_write" },
    ] });
    let wanted = resolved(late);
    let steps = ensure_steps(&InstanceSeen::Absent, &wanted).unwrap();
    assert_eq!(
        names(&steps),
        ["create", "await-boot", "attach-late", "confirm"]
    );
    let InstanceSeen::Ours(mut ours) = seen(&wanted, Power::Running, true, false) else {
        unreachable!()
    };
    let late = &wanted.late_devices[0];
    ours.instance
        .devices
        .insert(late.device_name.clone(), late.device.clone());
    assert_eq!(
        names(&ensure_steps(&InstanceSeen::Ours(ours), &wanted).unwrap()),
        ["confirm"]
    );
}

#[test]
fn every_difference_is_named_and_what_incus_writes_is_none() {
    let wanted = resolved(json!({ "resources": { "memory_mib": 512 }, "labels": { "a": "b" } }));
    let same = made(&wanted);
    assert_eq!(differences(&same, &wanted), []);
    let change = |change: fn(&mut Instance)| {
        let mut other = same.clone();
        change(&mut other);
        differences(&other, &wanted)
            .into_iter()
            .map(|found| found.field)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        change(|i| drop(i.config.insert("limits.memory".into(), "1GiB".into()))),
        ["config.limits.memory"]
    );
    assert_eq!(
        change(|i| drop(i.config.remove("user.pika.label.a"))),
        ["config.user.pika.label.a"]
    );
    assert_eq!(
        change(|i| drop(i.config.insert("raw.lxc".into(), "x".into()))),
        ["config.raw.lxc"]
    );
    assert_eq!(
        change(|i| drop(i.devices.insert("extra".into(), Default::default()))),
        ["devices.extra"]
    );
    assert_eq!(
        change(|i| drop(i.config.insert("volatile.base_image".into(), "e".into()))),
        ["image"]
    );
    assert_eq!(change(|i| i.profiles.push("more".into())), ["profiles"]);
    assert_eq!(change(|i| i.ephemeral = true), ["ephemeral"]);
    let moved_lease =
        |i: &mut Instance| drop(i.config.insert("user.pika.deadline".into(), EPOCH.into()));
    assert_eq!(change(moved_lease), Vec::<String>::new());
}

#[test]
fn the_way_to_absent_from_everything_that_can_be_seen() {
    let wanted = resolved(json!({}));
    let steps = |power, started, busy| {
        let steps = destroy_steps(&seen(&wanted, power, started, busy));
        steps
            .iter()
            .map(|step| step.point().name)
            .collect::<Vec<_>>()
    };
    for (started, busy) in [(true, false), (true, true)] {
        for power in [Power::Running, Power::Frozen, Power::Error] {
            assert_eq!(steps(power, started, busy), ["stop", "delete"], "{power:?}");
        }
    }
    assert_eq!(steps(Power::Stopped, true, false), ["delete"]);
    assert_eq!(steps(Power::Stopped, false, false), ["delete"]);
    assert_eq!(
        steps(Power::Stopped, false, true),
        ["await-operation", "delete"]
    );
    assert_eq!(
        steps(Power::Changing, true, true),
        ["await-operation", "delete"]
    );
    assert_eq!(steps(Power::Changing, true, false), ["stop", "delete"]);
    assert_eq!(destroy_steps(&InstanceSeen::Absent), []);
    assert_eq!(
        destroy_steps(&InstanceSeen::NotOurs {
            reason: String::new()
        }),
        []
    );
}

#[test]
fn indices_and_names_are_fixed() {
    let ensure: Vec<_> = ensure_points()
        .iter()
        .map(|point| (point.index, point.name))
        .collect();
    let expected = [
        "await-operation",
        "remove-debris",
        "create",
        "start",
        "unfreeze",
        "await-boot",
        "attach-late",
        "confirm",
    ];
    assert_eq!(ensure, expected.into_iter().enumerate().collect::<Vec<_>>());
    let destroy: Vec<_> = destroy_points()
        .iter()
        .map(|point| (point.index, point.name))
        .collect();
    let expected = ["await-operation", "stop", "delete"];
    assert_eq!(
        destroy,
        expected.into_iter().enumerate().collect::<Vec<_>>()
    );
    assert_eq!(DestroyStep::Stop.point(), destroy_points()[1]);
}
