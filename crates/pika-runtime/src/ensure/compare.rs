//! Owns the comparison of an instance with what a resolved plan would create. Pure.

use pika_cloud::ResolvedPlan;
use pika_incus::Instance;
use serde::Serialize;
use serde_json::Value;

/// One thing in which an instance differs from its plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What differs, such as `config.limits.memory` or `devices.pk-persis-1234abcd`.
    pub field: String,
    /// What the instance has; `None` if nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<String>,
    /// What the plan wants; `None` if nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(
            f,
            "{}: {} instead of {}",
            self.field,
            text(&self.present),
            text(&self.wanted)
        )
    }
}

/// Everything in which `instance` differs from `wanted`. Left out: what Incus itself writes (`volatile.*`,
/// `image.*`), the deadline label, which each ensure may move, and late devices that are not attached yet.
pub fn differences(instance: &Instance, wanted: &ResolvedPlan) -> Vec<Difference> {
    let body = &wanted.create_body;
    let mut found = Vec::new();
    let mut compare = |field: &str, present: Option<String>, wanted: Option<String>| {
        if present != wanted {
            found.push(Difference {
                field: field.to_owned(),
                present,
                wanted,
            });
        }
    };
    compare(
        "type",
        Some(instance.kind.to_string()),
        text_of(body.get("type")).or(Some("container".to_owned())),
    );
    compare(
        "ephemeral",
        Some(instance.ephemeral.to_string()),
        Some(flag(body.get("ephemeral"))),
    );
    compare(
        "image",
        instance.config.get("volatile.base_image").cloned(),
        Some(wanted.image_fingerprint.clone()),
    );
    let profiles = body.get("profiles").map(|profiles| {
        profiles
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    });
    compare(
        "profiles",
        Some(instance.profiles.join(", ")),
        Some(profiles.unwrap_or_else(|| "default".to_owned())),
    );

    let config = body.get("config").and_then(Value::as_object);
    for (key, value) in config.into_iter().flatten() {
        if key != pika_cloud::labels::LABEL_DEADLINE {
            compare(
                &format!("config.{key}"),
                instance.config.get(key).cloned(),
                text_of(Some(value)),
            );
        }
    }
    for (key, value) in &instance.config {
        let own = !key.starts_with("volatile.")
            && !key.starts_with("image.")
            && key != pika_cloud::labels::LABEL_DEADLINE;
        if own && !config.is_some_and(|config| config.contains_key(key)) {
            compare(&format!("config.{key}"), Some(value.clone()), None);
        }
    }

    let devices = body.get("devices").and_then(Value::as_object);
    for (name, device) in devices.into_iter().flatten() {
        compare(
            &format!("devices.{name}"),
            present_device(instance, name),
            Some(device.to_string()),
        );
    }
    for name in instance.devices.keys() {
        if devices.is_some_and(|devices| devices.contains_key(name)) {
            continue;
        }
        let late = wanted
            .late_devices
            .iter()
            .find(|late| &late.device_name == name);
        compare(
            &format!("devices.{name}"),
            present_device(instance, name),
            late.map(|late| canonical(&late.device)),
        );
    }
    found
}

/// A device as JSON with sorted keys, so that two of them compare as text.
fn present_device(instance: &Instance, name: &str) -> Option<String> {
    instance.devices.get(name).map(canonical)
}

fn canonical(device: &impl Serialize) -> String {
    serde_json::to_value(device).map_or_else(|error| error.to_string(), |value| value.to_string())
}

fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn flag(value: Option<&Value>) -> String {
    value.and_then(Value::as_bool).unwrap_or(false).to_string()
}
