//! Owns the comparison of an instance with what a resolved plan would create. Pure.

use pika_cloud::ResolvedPlan;
use pika_cloud::labels::LABEL_DEADLINE;
use pika_incus::Instance;
use serde::Serialize;
use serde_json::{Map, Value};

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
    let mut found = Differences(Vec::new());
    found.compare_basics(instance, wanted);
    found.compare_config(
        instance,
        wanted.create_body.get("config").and_then(Value::as_object),
    );
    found.compare_devices(instance, wanted);
    found.0
}

struct Differences(Vec<Difference>);

impl Differences {
    fn compare(&mut self, field: &str, present: Option<String>, wanted: Option<String>) {
        if present != wanted {
            self.0.push(Difference {
                field: field.to_owned(),
                present,
                wanted,
            });
        }
    }

    fn compare_basics(&mut self, instance: &Instance, wanted: &ResolvedPlan) {
        let body = &wanted.create_body;
        let kind = text_of(body.get("type")).unwrap_or_else(|| "container".to_owned());
        self.compare("type", Some(instance.kind.to_string()), Some(kind));
        self.compare(
            "ephemeral",
            Some(instance.ephemeral.to_string()),
            Some(flag(body.get("ephemeral"))),
        );
        let image = instance.config.get("volatile.base_image").cloned();
        self.compare("image", image, Some(wanted.image_fingerprint.clone()));
        let profiles = body.get("profiles").and_then(Value::as_array).map_or_else(
            || "default".to_owned(),
            |profiles| {
                profiles
                    .iter()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            },
        );
        self.compare(
            "profiles",
            Some(instance.profiles.join(", ")),
            Some(profiles),
        );
    }

    fn compare_config(&mut self, instance: &Instance, config: Option<&Map<String, Value>>) {
        for (key, value) in config
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key != LABEL_DEADLINE)
        {
            let present = instance.config.get(key).cloned();
            self.compare(&format!("config.{key}"), present, text_of(Some(value)));
        }
        let own = |key: &str| {
            !key.starts_with("volatile.") && !key.starts_with("image.") && key != LABEL_DEADLINE
        };
        for (key, value) in instance.config.iter().filter(|(key, _)| own(key)) {
            if !config.is_some_and(|config| config.contains_key(key)) {
                self.compare(&format!("config.{key}"), Some(value.clone()), None);
            }
        }
    }

    fn compare_devices(&mut self, instance: &Instance, wanted: &ResolvedPlan) {
        let devices = wanted.create_body.get("devices").and_then(Value::as_object);
        for (name, device) in devices.into_iter().flatten() {
            self.compare(
                &format!("devices.{name}"),
                present_device(instance, name),
                Some(device.to_string()),
            );
        }
        for name in instance.devices.keys() {
            if !devices.is_some_and(|devices| devices.contains_key(name)) {
                let late = wanted
                    .late_devices
                    .iter()
                    .find(|late| &late.device_name == name);
                let late = late.map(|late| canonical(&late.device));
                self.compare(
                    &format!("devices.{name}"),
                    present_device(instance, name),
                    late,
                );
            }
        }
    }
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
