//! The configuration that the host pushes: what of OpenClaw's own configuration it sets, and the gateway's environment.
//!
//! Owns its shape, its checks, and how it is laid over what is there. Touches no file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The only version of the shape so far.
pub(super) const CONFIG_SCHEMA_VERSION: u32 = 1;
/// Longest configuration, in bytes.
pub(super) const CONFIG_BYTES_MAX: usize = 256 << 10;
/// Longest revision, in bytes.
const REVISION_BYTES_MAX: usize = 128;
/// Names that decide where state lies, or which code the gateway loads.
const RESERVED: &[&str] = &[
    "HOME",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "OPENCLAW_CONFIG_PATH",
    "OPENCLAW_HOME",
    "OPENCLAW_STATE_DIR",
    "PATH",
    "TMPDIR",
];
/// Where the gateway listens, and where its probe asks.
const GATEWAY_PORT: u16 = 18_789;

/// What the host pushes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Always 1.
    pub schema_version: u32,
    /// The host's name for this configuration; told when it has been taken or refused.
    #[serde(default)]
    pub revision: Option<String>,
    /// Laid over `openclaw.json` (RFC 7396: `null` removes a key).
    #[serde(default)]
    pub openclaw: Map<String, Value>,
    /// Environment of the gateway; what was there before is replaced. Silence leaves it.
    #[serde(default)]
    pub environment: Option<BTreeMap<String, String>>,
}

/// A pushed configuration that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No JSON, or not of the right shape.
    #[error("it is no configuration of an agent: {0}")]
    Shape(String),
    /// Of another version.
    #[error("it has schema_version {0}, this guest knows {CONFIG_SCHEMA_VERSION}")]
    Version(u32),
    /// A revision that can't be told.
    #[error("its revision must be printable ASCII of at most {REVISION_BYTES_MAX} bytes")]
    Revision,
    /// No name of an environment variable.
    #[error("`{0}` is no name of an environment variable")]
    Name(String),
    /// A name that is the image's.
    #[error("the environment variable {0} is the image's own: its value decides where state lies")]
    Reserved(String),
    /// A value that can't be in an environment.
    #[error("the value of {0} holds a control character")]
    Value(String),
    /// What is there can't be changed.
    #[error(
        "openclaw.json on the volume is no plain JSON object ({0}): mend it in the guest, or remove it there to begin anew"
    )]
    Existing(String),
}

impl AgentConfig {
    /// Reads and checks a pushed file.
    pub fn parse(bytes: &[u8]) -> Result<AgentConfig, ConfigError> {
        let config: AgentConfig =
            serde_json::from_slice(bytes).map_err(|error| ConfigError::Shape(error.to_string()))?;
        if config.schema_version != CONFIG_SCHEMA_VERSION {
            return Err(ConfigError::Version(config.schema_version));
        }
        let tellable = |text: &String| {
            text.len() <= REVISION_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !config.revision.as_ref().is_none_or(tellable) {
            return Err(ConfigError::Revision);
        }
        for (name, value) in config.environment.iter().flatten() {
            check_variable(name, value)?;
        }
        Ok(config)
    }

    /// The gateway's environment as systemd reads it from a file; none where it stays as it is.
    #[must_use]
    pub fn environment_file(&self) -> Option<String> {
        let environment = self.environment.as_ref()?;
        let mut text = String::new();
        for (name, value) in environment {
            text.push_str(name);
            text.push_str("=\"");
            for c in value.chars() {
                if matches!(c, '"' | '\\' | '$' | '`') {
                    text.push('\\');
                }
                text.push(c);
            }
            text.push_str("\"\n");
        }
        Some(text)
    }
}

fn check_variable(name: &str, value: &str) -> Result<(), ConfigError> {
    let shaped = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty();
    if !shaped {
        return Err(ConfigError::Name(crate::error_text::one_line(name)));
    }
    if RESERVED.contains(&name) {
        return Err(ConfigError::Reserved(name.to_owned()));
    }
    if value.chars().any(char::is_control) {
        return Err(ConfigError::Value(name.to_owned()));
    }
    Ok(())
}

/// The gateway's configuration where there is none: only this guest reaches it, and it asks for `token`.
pub(super) fn default_openclaw(token: &str) -> Value {
    json!({ "gateway": {
        "mode": "local",
        "bind": "loopback",
        "port": GATEWAY_PORT,
        "auth": { "mode": "token", "token": token },
    } })
}

/// What `openclaw.json` shall be: what is there, with the host's part laid over it. None if that is the same.
pub(super) fn merged(
    existing: &[u8],
    pushed: &Map<String, Value>,
) -> Result<Option<Value>, ConfigError> {
    let before: Value = serde_json::from_slice(existing)
        .map_err(|error| ConfigError::Existing(error.to_string()))?;
    if !before.is_object() {
        return Err(ConfigError::Existing("it is another value".to_owned()));
    }
    let mut document = before.clone();
    patch(&mut document, &Value::Object(pushed.clone()));
    Ok((document != before).then_some(document))
}

/// RFC 7396.
fn patch(target: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        target.clone_from(change);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in change {
        if value.is_null() {
            target.remove(key);
        } else {
            patch(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AgentConfig, ConfigError> {
        AgentConfig::parse(text.as_bytes())
    }

    fn laid_over(existing: &Value, pushed: &Value) -> Option<Value> {
        let existing = serde_json::to_vec(existing).unwrap();
        merged(&existing, pushed.as_object().unwrap()).unwrap()
    }

    #[test]
    fn the_least_configuration_changes_nothing() {
        let config = parse(r#"{"schema_version":1}"#).unwrap();
        assert_eq!(config.environment_file(), None);
        let pushed = Value::Object(config.openclaw);
        assert_eq!(
            laid_over(&json!({ "gateway": { "port": 1 } }), &pushed),
            None
        );
    }

    #[test]
    fn the_hosts_part_is_laid_over_what_is_there() {
        let pushed = json!({ "gateway": { "auth": { "token": "new" }, "bind": null }, "ui": [1] });
        let merged = laid_over(&default_openclaw("old"), &pushed).unwrap();
        assert_eq!(
            merged["gateway"]["auth"],
            json!({ "mode": "token", "token": "new" })
        );
        assert!(merged["gateway"].get("bind").is_none());
        assert_eq!(merged["gateway"]["port"], 18_789);
        assert_eq!(merged["ui"], json!([1]));
    }

    #[test]
    fn what_is_there_and_no_json_is_not_overwritten() {
        for text in ["{ // mine\n}", "[]", ""] {
            let error = merged(text.as_bytes(), &Map::new()).unwrap_err();
            assert!(matches!(error, ConfigError::Existing(_)), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_refused_with_its_reason() {
        for (text, why) in [
            ("", "no configuration"),
            (r#"{"schema_version":1"#, "no configuration"),
            (r#"{"schema_version":1,"x":1}"#, "unknown field"),
            (r#"{"schema_version":2}"#, "schema_version 2"),
            (r#"{"schema_version":1,"revision":"a b"}"#, "revision"),
            (r#"{"schema_version":1,"environment":{"1A":""}}"#, "`1A`"),
            (r#"{"schema_version":1,"environment":{"A=B":""}}"#, "`A=B`"),
            (
                r#"{"schema_version":1,"environment":{"A":"x\ny"}}"#,
                "value of A",
            ),
            (
                r#"{"schema_version":1,"environment":{"OPENCLAW_STATE_DIR":"/"}}"#,
                "the image's own",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn values_are_quoted_for_systemd() {
        let config = parse(r#"{"schema_version":1,"environment":{"A":"x \"y\" $z \\ `","B":""}}"#);
        assert_eq!(
            config.unwrap().environment_file().unwrap(),
            "A=\"x \\\"y\\\" \\$z \\\\ \\`\"\nB=\"\"\n"
        );
    }
}
