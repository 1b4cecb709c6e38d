//! The guest request, from both ends.

use pika_cloud::{GuestRequest, WorkspaceMode};
use serde_json::{Value, json};

fn seed() -> Value {
    json!({"schema_version": 2, "command": "cargo test", "timeout_secs": 60, "run_as_root": false})
}

/// What a change of a good request is refused with; causes included.
#[track_caller]
fn refusal(field: &str, value: Value) -> String {
    let mut document = seed();
    document[field] = value;
    let error = GuestRequest::decode(document.to_string().as_bytes()).unwrap_err();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

#[test]
fn the_older_fields_are_enough() {
    let request = GuestRequest::decode(seed().to_string().as_bytes()).unwrap();
    assert_eq!(request, GuestRequest::new("cargo test", 60));
    assert_eq!(serde_json::to_value(&request).unwrap(), seed());
}

#[test]
fn every_field_goes_both_ways() {
    let mut request = GuestRequest::new("echo ok", 1);
    request.run_as_root = true;
    request.nonce = Some("n-1".to_owned());
    request.env.insert("A_1".to_owned(), "x\ny".to_owned());
    request.working_dir = Some("/workspace/snapshot".to_owned());
    request.wait_for_network_secs = Some(30);
    request.workspace = WorkspaceMode::Writable;
    let bytes = request.encode().unwrap();
    assert_eq!(GuestRequest::decode(&bytes).unwrap(), request);
}

#[test]
fn what_cant_be_used_is_refused() {
    let texts = [
        refusal("schema_version", json!(1)),
        refusal("surprise", json!(1)),
        refusal("command", json!("  ")),
        refusal("command", json!("a\0b")),
        refusal("command", json!("x".repeat(120 * 1024 + 1))),
        refusal("timeout_secs", json!(0)),
        refusal("timeout_secs", json!(7 * 24 * 3600 + 1)),
        refusal("timeout_secs", json!(-1)),
        refusal("run_as_root", json!(1)),
        refusal("nonce", json!("")),
        refusal("nonce", json!("a b")),
        refusal("env", json!({"1A": "x"})),
        refusal("env", json!({"A=B": "x"})),
        refusal("env", json!({"A": "x\0"})),
        refusal("working_dir", json!("relative")),
        refusal("working_dir", json!("/a/../b")),
        refusal("wait_for_network_secs", json!(601)),
        refusal("workspace", json!("shared")),
        refusal("workspace", json!(null)),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn the_whole_request_has_a_limit() {
    let error = GuestRequest::decode(&vec![b' '; 1024 * 1024 + 1]).unwrap_err();
    insta::assert_snapshot!(error, @"the guest request's size (bytes) is 1048577, more than the limit of 1048576");
    let mut request = GuestRequest::new("x", 1);
    for index in 0..12 {
        request
            .env
            .insert(format!("V{index}"), "x".repeat(100 * 1024));
    }
    assert!(request.encode().is_err());
}
