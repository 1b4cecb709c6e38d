//! From spec to plan.

use pika_cloud::{INCUS_READ_ONLY_DISK_IO_BUS, IncusRuntimePlan};

use crate::sample::{cache, full_spec};

#[test]
fn the_plan_keeps_the_spec_and_names_the_devices() {
    let spec = full_spec();
    let plan = spec.build_incus_plan().unwrap();
    assert_eq!(plan.identity, spec.identity);
    assert_eq!(plan.incus, spec.incus);
    assert_eq!(plan.resources, spec.resources);
    assert_eq!(plan.lifecycle_root, spec.lifecycle_root);
    assert_eq!(plan.paths, spec.paths);
    assert_eq!(plan.policies, spec.policies);
    assert_eq!(plan.bootstrap, spec.bootstrap);
    assert_eq!(plan.labels, spec.labels);
    assert_eq!(plan.metadata, spec.metadata);
    insta::assert_json_snapshot!(plan.mounts);
}

#[test]
fn only_read_only_mounts_have_the_bus() {
    let plan = full_spec().build_incus_plan().unwrap();
    for mount in &plan.mounts {
        let expected = mount.read_only.then_some(INCUS_READ_ONLY_DISK_IO_BUS);
        assert_eq!(mount.io_bus.as_deref(), expected, "{}", mount.guest_path);
    }
}

#[test]
fn the_order_of_mounts_is_kept() {
    let mut spec = full_spec();
    spec.mounts = ["/z", "/a", "/m"].map(|path| cache("x", path)).to_vec();
    let plan = spec.build_incus_plan().unwrap();
    let order: Vec<&str> = plan
        .mounts
        .iter()
        .map(|mount| mount.guest_path.as_str())
        .collect();
    assert_eq!(order, ["/z", "/a", "/m"]);
}

#[test]
fn a_plan_is_read_as_it_was_written() {
    let plan = full_spec().build_incus_plan().unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(
        serde_json::from_str::<IncusRuntimePlan>(&text).unwrap(),
        plan
    );
}
