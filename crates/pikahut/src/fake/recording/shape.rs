//! How much alike two JSON values must be: the same keys and types, and the same values where a client looks.

use serde_json::Value;

/// Maps whose keys belong to the host, the image or the test, not to the API.
const FREE_MAPS: [&str; 16] = [
    "config",
    "expanded_config",
    "expanded_devices",
    "properties",
    "network",
    "fds",
    "environment",
    "disk",
    "memory",
    "cpu",
    "kernel_features",
    "lxc_features",
    "progress",
    "usage",
    "devices",
    "resources",
];

/// Values that must be the same, not only of the same type.
const EXACT: [&str; 13] = [
    "type",
    "status",
    "status_code",
    "error_code",
    "error",
    "err",
    "class",
    "may_cancel",
    "return",
    "ephemeral",
    "name",
    "content_type",
    "interactive",
];

/// Values of an operation that may have moved on, or failed already, between the request and the answer.
const MOVING: [&str; 3] = ["status", "status_code", "err"];

/// Compares what was recorded with what came; `moving` says that the answer shows an operation under way.
pub(super) fn compare(
    at: &str,
    recorded: &Value,
    have: &Value,
    moving: bool,
    found: &mut Vec<String>,
) {
    let key = at.rsplit('.').next().unwrap_or_default();
    match (recorded, have) {
        (Value::Object(_), Value::Object(_)) if FREE_MAPS.contains(&key) => {
            user_keys(at, recorded, have, found);
        }
        (Value::Object(recorded), Value::Object(have)) => {
            for (name, value) in recorded {
                // What a create tells about its progress depends on how long it takes.
                let progress = is_progress(value) || have.get(name).is_some_and(is_progress);
                if at == ".metadata" && name == "metadata" && (moving || progress) {
                    continue;
                }
                match have.get(name) {
                    Some(have) => compare(&format!("{at}.{name}"), value, have, moving, found),
                    // Which lists of operations there are depends on what else runs.
                    None if ["running", "pending", "failure"].contains(&name.as_str()) => {}
                    None => found.push(format!("no key {at}.{name}")),
                }
            }
            for name in have.keys().filter(|name| !recorded.contains_key(*name)) {
                if !["running", "pending", "failure"].contains(&name.as_str()) {
                    found.push(format!("a key {at}.{name} that was never recorded"));
                }
            }
        }
        (Value::Array(recorded), Value::Array(have)) => {
            match (recorded.first(), have.first()) {
                // Other things of the host may come first: only their shape counts.
                (Some(recorded @ Value::Object(_)), Some(have @ Value::Object(_))) => {
                    keys_alike(at, recorded, have, found);
                }
                (Some(_), None) if key != "used_by" && key != "addresses" => {
                    found.push(format!("{at} is empty"));
                }
                _ => {}
            }
        }
        (recorded, have) => scalar(at, key, recorded, have, moving, found),
    }
}

fn is_progress(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|map| map.contains_key("progress"))
}

fn scalar(
    at: &str,
    key: &str,
    recorded: &Value,
    have: &Value,
    moving: bool,
    found: &mut Vec<String>,
) {
    let same_kind = std::mem::discriminant(recorded) == std::mem::discriminant(have);
    if !same_kind {
        found.push(format!("{at} is {have} instead of {recorded}"));
        return;
    }
    let exact = EXACT.contains(&key) && !(moving && MOVING.contains(&key) && at != ".status");
    if exact && without_hashes(recorded) != without_hashes(have) {
        found.push(format!("{at} is {have} instead of {recorded}"));
    }
}

/// Entity tags in error texts belong to the daemon.
fn without_hashes(value: &Value) -> Value {
    let Value::String(text) = value else {
        return value.clone();
    };
    let is_hash = |word: &str| word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit());
    let words: Vec<&str> = text
        .split(' ')
        .map(|word| if is_hash(word) { "HASH" } else { word })
        .collect();
    Value::String(words.join(" "))
}

fn keys_alike(at: &str, recorded: &Value, have: &Value, found: &mut Vec<String>) {
    let keys = |value: &Value| -> Vec<String> {
        value
            .as_object()
            .map(|map| map.keys().cloned().collect())
            .unwrap_or_default()
    };
    let (recorded, have) = (keys(recorded), keys(have));
    if recorded != have {
        found.push(format!("{at}[0] has keys {have:?} instead of {recorded:?}"));
    }
}

/// Of a free map, the keys that a client wrote itself.
fn user_keys(at: &str, recorded: &Value, have: &Value, found: &mut Vec<String>) {
    for (name, value) in recorded.as_object().into_iter().flatten() {
        if name.starts_with("user.") && have.get(name) != Some(value) {
            found.push(format!("{at}.{name} is not {value}"));
        }
    }
}
