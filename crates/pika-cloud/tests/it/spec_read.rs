//! Reading and writing the spec's shape, older shapes included.

use pika_cloud::{InstanceType, RuntimeSpec, SpecReadError};
use serde_json::{Value, json};

use crate::sample::{bare_spec, full_spec};

fn minimal() -> Value {
    json!({
        "identity": {"runtime_id": "run:job", "instance_name": "pikaci-6fd8c7b5193e"},
        "incus": {"project": "default", "profile": "default", "image_alias": "pikaci/dev"},
    })
}

fn read(document: &Value) -> Result<RuntimeSpec, SpecReadError> {
    RuntimeSpec::from_json("spec.json", &document.to_string())
}

/// The reason behind a refusal, as a person sees it.
fn refusal(document: &Value) -> String {
    let error = read(document).unwrap_err();
    assert_eq!(error.to_string(), "spec.json is not a runtime spec in JSON");
    std::error::Error::source(&error).unwrap().to_string()
}

#[test]
fn a_minimal_document_gets_every_default() {
    let spec = read(&minimal()).unwrap();
    assert_eq!(spec, bare_spec());
    insta::assert_json_snapshot!(spec);
}

#[test]
fn what_is_written_is_read_again() {
    let spec = full_spec();
    let written = serde_json::to_string_pretty(&spec).unwrap();
    insta::assert_snapshot!(written);
    assert_eq!(RuntimeSpec::from_json("x", &written).unwrap(), spec);
}

#[test]
fn toml_is_read_as_json_is() {
    let text = r#"
        lifecycle_root = "/run/pika-cloud"
        provider = "incus"
        entry_command = "/bin/true"
        [identity]
        runtime_id = "run:job"
        instance_name = "pikaci-6fd8c7b5193e"
        [incus]
        project = "default"
        profile = "default"
        image_alias = "pikaci/dev"
        instance_type = "container"
        [resources]
        vcpu_count = 2
        [[mounts]]
        kind = "cache"
        source = "cargo-home"
        guest_path = "/cargo-home"
        mode = "read_write"
        [metadata]
        list = [1, "two", { three = 3.5 }]
    "#;
    let spec: RuntimeSpec = toml::from_str(text).unwrap();
    assert_eq!(spec.incus.instance_type, Some(InstanceType::Container));
    assert_eq!(spec.bootstrap.entry_command.as_deref(), Some("/bin/true"));
    assert!(!spec.mounts[0].required);
    assert_eq!(spec.metadata["list"], json!([1, "two", {"three": 3.5}]));
    let again = RuntimeSpec::from_json("x", &serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(again, spec);
}

#[test]
fn a_top_level_entry_command_moves_into_the_bootstrap() {
    let mut document = minimal();
    document["entry_command"] = json!("/bin/a");
    let spec = read(&document).unwrap();
    assert_eq!(spec.bootstrap.entry_command.as_deref(), Some("/bin/a"));
    let written = serde_json::to_value(&spec).unwrap();
    assert_eq!(written.get("entry_command"), None);
    assert_eq!(written["bootstrap"], json!({"entry_command": "/bin/a"}));
    document["bootstrap"] = json!({"entry_command": "/bin/a"});
    assert_eq!(read(&document).unwrap(), spec);
}

#[test]
fn two_differing_entry_commands_are_an_error() {
    let mut document = minimal();
    document["entry_command"] = json!("/bin/a");
    document["bootstrap"] = json!({"entry_command": "/bin/b"});
    let expected = "`entry_command` is `/bin/a` but `bootstrap.entry_command` is `/bin/b`: keep \
                    the second";
    assert_eq!(refusal(&document), expected);
}

#[test]
fn the_older_provider_is_read_and_no_other() {
    let mut document = minimal();
    document["provider"] = json!("incus");
    let spec = read(&document).unwrap();
    assert_eq!(spec, bare_spec());
    assert_eq!(serde_json::to_value(&spec).unwrap().get("provider"), None);
    document["provider"] = json!("microvm");
    assert!(refusal(&document).contains("unknown variant `microvm`"));
}

#[test]
fn unknown_fields_are_refused_at_every_depth() {
    for pointer in [
        "",
        "/identity",
        "/incus",
        "/resources",
        "/paths",
        "/policies",
        "/policies/output_collection",
        "/policies/deadlines",
        "/bootstrap",
        "/mounts/0",
    ] {
        let mut document = serde_json::to_value(full_spec()).unwrap();
        document.pointer_mut(pointer).unwrap()["surprise"] = json!(1);
        let refusal = refusal(&document);
        assert!(
            refusal.contains("unknown field `surprise`"),
            "{pointer}: {refusal}"
        );
    }
}

#[test]
fn metadata_and_labels_take_any_key() {
    let mut document = minimal();
    document["metadata"] = json!({"anything": {"deep": [1, null]}});
    document["labels"] = json!({"anything": "text"});
    let spec = read(&document).unwrap();
    assert_eq!(
        serde_json::to_value(&spec).unwrap()["metadata"],
        document["metadata"]
    );
    document["labels"] = json!({"anything": 1});
    assert!(refusal(&document).contains("invalid type: integer `1`"));
}

#[test]
fn errors_have_line_and_column() {
    let error = RuntimeSpec::from_json("x", "{\n  \"identity\": 7}").unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("at line 2 column"), "{cause}");
}

#[test]
fn a_document_has_a_limit() {
    let error = RuntimeSpec::from_json("x", &" ".repeat(1024 * 1024 + 1)).unwrap_err();
    insta::assert_snapshot!(error, @"x has 1048577 bytes, more than the limit of 1048576 for a spec");
}

#[test]
fn numbers_beyond_their_type_are_refused() {
    let mut document = minimal();
    document["resources"] = json!({"vcpu_count": 256});
    assert!(refusal(&document).contains("expected u8"));
    document["resources"] = json!({"memory_mib": -1});
    assert!(refusal(&document).contains("expected u32"));
}
