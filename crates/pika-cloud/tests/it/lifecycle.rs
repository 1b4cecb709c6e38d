//! The lifecycle files, as a guest may write them and as it may not.

use pika_cloud::lifecycle::{
    decode_events, decode_result, decode_status, encode_event, encode_result, encode_status,
};
use pika_cloud::{
    EventKind, LifecycleDecodeError, LifecycleEvent, LifecycleResult, LifecycleState,
    LifecycleStatus, ResultStatus, Timestamp,
};
use serde_json::json;

fn now() -> Timestamp {
    "2026-11-21T08:59:46.123Z".parse().unwrap()
}

fn event(seq: u64, boot_id: &str) -> LifecycleEvent {
    LifecycleEvent {
        schema_version: 1,
        seq,
        timestamp: now(),
        kind: EventKind::State(LifecycleState::Starting),
        message: "starting".to_owned(),
        boot_id: Some(boot_id.to_owned()),
        details: None,
    }
}

fn stream(events: &[LifecycleEvent]) -> Vec<u8> {
    events
        .iter()
        .flat_map(|event| encode_event(event).unwrap())
        .collect()
}

fn result(status: &str, exit_code: Option<i32>) -> Result<LifecycleResult, LifecycleDecodeError> {
    let mut document = json!({
        "schema_version": 1, "status": status, "finished_at": now(), "message": "over",
    });
    if let Some(code) = exit_code {
        document["exit_code"] = json!(code);
    }
    decode_result("result.json", document.to_string().as_bytes())
}

/// An error and what caused it, as a person sees them.
fn told(error: &LifecycleDecodeError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

#[test]
fn the_written_shapes_are_these() {
    let status = LifecycleStatus {
        schema_version: 1,
        state: LifecycleState::Ready,
        updated_at: now(),
        message: "gateway answers".to_owned(),
        boot_id: Some("b".to_owned()),
        details: Some(json!({"port": 18789})),
    };
    let result = LifecycleResult {
        schema_version: 1,
        status: ResultStatus::Failed,
        finished_at: now(),
        message: "exit code 7".to_owned(),
        exit_code: Some(7),
        details: None,
    };
    let status_bytes = encode_status(&status).unwrap();
    let result_bytes = encode_result(&result).unwrap();
    let text = [&status_bytes[..], &result_bytes, &stream(&[event(1, "b")])].concat();
    insta::assert_snapshot!(String::from_utf8(text).unwrap());
    assert_eq!(decode_status("s", &status_bytes).unwrap(), status);
    assert_eq!(decode_result("r", &result_bytes).unwrap(), result);
}

#[test]
fn kinds_and_states_have_one_vocabulary() {
    let words: Vec<&str> = LifecycleState::ALL.map(LifecycleState::as_str).to_vec();
    let expected = "requested provisioning booted unreachable stopped destroyed starting ready \
                    failed completed";
    assert_eq!(words.join(" "), expected);
    for state in LifecycleState::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), json!(state.as_str()));
        assert_eq!(
            state.as_str().parse::<EventKind>().unwrap(),
            EventKind::State(state)
        );
        let by_guest = ["starting", "ready", "failed", "completed"].contains(&state.as_str());
        assert_eq!(state.is_guest_emitted(), by_guest);
    }
    for word in ["progress", "probe", "log"] {
        assert_eq!(word.parse::<EventKind>().unwrap().as_str(), word);
    }
    assert!("passed".parse::<EventKind>().is_err());
}

#[test]
fn completed_if_and_only_if_the_exit_code_is_zero() {
    assert!(result("completed", Some(0)).is_ok());
    assert!(result("failed", Some(7)).is_ok());
    assert!(result("failed", None).is_ok());
    for (status, code) in [
        ("completed", Some(7)),
        ("completed", None),
        ("failed", Some(0)),
    ] {
        let error = result(status, code).unwrap_err();
        assert_eq!(
            error.to_string(),
            "result.json: status is `completed` if and only if exit_code is 0"
        );
    }
}

#[test]
fn passed_is_not_a_status() {
    let text = told(&result("passed", Some(0)).unwrap_err());
    assert!(
        text.contains("unknown variant `passed`, expected `completed` or `failed`"),
        "{text}"
    );
}

#[test]
fn another_schema_version_is_told_before_anything_else() {
    let bytes = br#"{"schema_version": 2, "entirely": "different"}"#;
    let expected = "status.json: schema_version is 2, this host reads 1: update the host or \
                    rebuild the image";
    assert_eq!(
        decode_status("status.json", bytes).unwrap_err().to_string(),
        expected
    );
    let line = [&stream(&[event(1, "b")])[..], bytes, b"\n"].concat();
    let error = decode_events("events.jsonl", &line).unwrap_err();
    assert_eq!(error.place().line, Some(2));
}

#[test]
fn unknown_fields_are_ignored() {
    let mut document = serde_json::to_value(event(1, "b")).unwrap();
    document["newer"] = json!(true);
    let decoded = decode_events("e", format!("{document}\n").as_bytes()).unwrap();
    assert_eq!(decoded.events, [event(1, "b")]);
}

#[test]
fn numbers_rise_by_one_within_a_boot_and_begin_again_with_the_next() {
    let good = [event(1, "a"), event(2, "a"), event(1, "b"), event(2, "b")];
    assert_eq!(decode_events("e", &stream(&good)).unwrap().events, good);
    let tail = [event(41, "a"), event(42, "a")];
    assert_eq!(decode_events("e", &stream(&tail)).unwrap().events, tail);
    for (bad, expected) in [
        (
            [event(1, "a"), event(3, "a")],
            "events.jsonl, line 2: seq is 3, expected 2",
        ),
        (
            [event(1, "a"), event(1, "a")],
            "events.jsonl, line 2: seq is 1, expected 2",
        ),
        (
            [event(1, "a"), event(2, "b")],
            "events.jsonl, line 2: seq is 2, expected 1",
        ),
    ] {
        let error = decode_events("events.jsonl", &stream(&bad)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let zero = serde_json::to_string(&event(0, "a")).unwrap() + "\n";
    let error = decode_events("e", zero.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "e, line 1: seq is 0, expected 1");
}

#[test]
fn a_torn_last_line_is_left_for_later_at_every_byte() {
    let whole = stream(&[event(1, "a"), event(2, "a")]);
    let first = stream(&[event(1, "a")]).len();
    for length in first..whole.len() {
        let decoded = decode_events("e", &whole[..length]).unwrap();
        let json_is_whole = length == whole.len() - 1;
        let expected = if json_is_whole { 2 } else { 1 };
        assert_eq!(decoded.events.len(), expected, "{length}");
        assert_eq!(decoded.consumed_bytes + decoded.torn_bytes, length);
        let again = decode_events("e", &whole[decoded.consumed_bytes..]).unwrap();
        assert_eq!(decoded.events.len() + again.events.len(), 2);
    }
}

#[test]
fn a_broken_line_in_the_middle_is_named() {
    for broken in [
        "not json\n",
        "\0\0\0\n",
        "{}\n",
        "[1]\n",
        "{\"schema_version\": 1}\n",
    ] {
        let bytes = [&stream(&[event(1, "a")])[..], b"\n", broken.as_bytes()].concat();
        let error = decode_events("events.jsonl", &bytes).unwrap_err();
        assert!(
            error.to_string().starts_with("events.jsonl, line 3: "),
            "{error}"
        );
    }
}

#[test]
fn every_size_is_bounded() {
    let long = event(1, &"b".repeat(129));
    let line = serde_json::to_string(&long).unwrap() + "\n";
    let mut message = event(1, "b");
    message.message = "m".repeat(8 * 1024 + 1);
    let message_line = serde_json::to_string(&message).unwrap() + "\n";
    let texts = [
        told(&decode_status("status.json", &vec![b' '; 128 * 1024 + 1]).unwrap_err()),
        told(&decode_result("result.json", &vec![b' '; 128 * 1024 + 1]).unwrap_err()),
        told(&decode_events("events.jsonl", &vec![b'x'; 128 * 1024 + 1]).unwrap_err()),
        told(&decode_events("events.jsonl", &vec![b'\n'; 16 * 1024 * 1024 + 1]).unwrap_err()),
        told(&decode_events("events.jsonl", line.as_bytes()).unwrap_err()),
        told(&decode_events("events.jsonl", message_line.as_bytes()).unwrap_err()),
    ];
    insta::assert_snapshot!(texts.join("\n"));
    assert!(encode_event(&message).is_err());
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    let bytes = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    let document = format!("{{\"schema_version\":1,\"details\":{}}}", &bytes[..60_000]);
    assert!(decode_status("s", document.as_bytes()).is_err());
}

#[test]
fn a_time_in_another_spelling_is_refused() {
    let document = json!({
        "schema_version": 1, "state": "ready", "updated_at": "2026-11-21T08:59:46Z", "message": "",
    });
    let error = decode_status("status.json", document.to_string().as_bytes()).unwrap_err();
    insta::assert_snapshot!(told(&error), @"status.json: not the JSON that belongs here: `2026-11-21T08:59:46Z` is not a time such as 2026-11-21T08:59:46.123Z (UTC, milliseconds) at line 1 column 85");
}
