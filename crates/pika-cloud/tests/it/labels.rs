//! What is ours.

use std::collections::BTreeMap;

use pika_cloud::labels::{LABEL_GUEST_ROLE, LABEL_INSTANCE_NAME, LABEL_OWNER};
use pika_cloud::{DeploymentId, OwnedKind, instance_labels, is_ours};

use crate::sample::{full_spec, ownership};

fn labels() -> BTreeMap<String, String> {
    instance_labels(
        &ownership(OwnedKind::Ci),
        &full_spec().build_incus_plan().unwrap(),
    )
}

#[test]
fn an_instance_carries_all_labels() {
    insta::assert_json_snapshot!(labels());
}

#[test]
fn a_custom_image_is_not_attributed_to_a_role() {
    let mut plan = full_spec().build_incus_plan().unwrap();
    plan.incus.image_alias = "custom/image".to_owned();
    let labels = instance_labels(&ownership(OwnedKind::Ci), &plan);
    assert_eq!(labels.get(LABEL_GUEST_ROLE), None);
}

#[test]
fn a_specs_label_cant_take_the_place_of_ours() {
    let mut spec = full_spec();
    spec.labels
        .insert("owner".to_owned(), "somebody".to_owned());
    let labels = instance_labels(&ownership(OwnedKind::Ci), &spec.build_incus_plan().unwrap());
    assert_eq!(labels[LABEL_OWNER], "deployment-1");
    assert_eq!(labels["user.pika.label.owner"], "somebody");
}

#[test]
fn ours_means_our_owner_and_its_own_name() {
    let owner = DeploymentId::new("deployment-1").unwrap();
    let other = DeploymentId::new("deployment-2").unwrap();
    let name = "pikaci-6fd8c7b5193e";
    assert!(is_ours(&labels(), name, &owner));
    assert!(!is_ours(&labels(), "a-copy", &owner));
    assert!(!is_ours(&labels(), name, &other));
    assert!(!is_ours(&BTreeMap::new(), name, &owner));
    for key in [LABEL_OWNER, LABEL_INSTANCE_NAME] {
        let mut partial = labels();
        partial.remove(key);
        assert!(!is_ours(&partial, name, &owner), "without {key}");
    }
}

#[test]
fn a_deployments_id_is_short_and_plain() {
    for text in ["", "a b", "a/b", "ä", "a\n", &"a".repeat(64)] {
        assert!(DeploymentId::new(text).is_err(), "{text:?}");
    }
    assert_eq!(
        DeploymentId::new("Host-1.a_b").unwrap().as_str(),
        "Host-1.a_b"
    );
    assert!(serde_json::from_str::<DeploymentId>("\"a b\"").is_err());
}
