//! One module for each noun of the API; each owns how its requests change the world.

pub(crate) mod files;
pub(crate) mod images;
pub(crate) mod instances;
pub(crate) mod named;
pub(crate) mod operations;
pub(crate) mod power;
pub(crate) mod server;
pub(crate) mod storage;

use std::collections::BTreeMap;

use serde_json::Value;

/// A JSON object of strings; other values are shown as the text that Incus would keep.
pub(crate) fn string_map(value: &Value) -> BTreeMap<String, String> {
    let Some(object) = value.as_object() else {
        return BTreeMap::new();
    };
    object
        .iter()
        .map(|(key, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (key.clone(), text)
        })
        .collect()
}

/// Devices: a JSON object of objects of strings.
pub(crate) fn device_map(value: &Value) -> BTreeMap<String, BTreeMap<String, String>> {
    let Some(object) = value.as_object() else {
        return BTreeMap::new();
    };
    object
        .iter()
        .map(|(name, device)| (name.clone(), string_map(device)))
        .collect()
}

/// Merges config as PATCH does: an empty value takes the key away.
pub(crate) fn merge(config: &mut BTreeMap<String, String>, changes: &Value) {
    for (key, value) in string_map(changes) {
        if value.is_empty() {
            config.remove(&key);
        } else {
            config.insert(key, value);
        }
    }
}
