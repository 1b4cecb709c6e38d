//! Rules of names, labels and the entry command.
//!
//! Owns what Incus accepts as a name; instance names follow host names, as Incus wants them.

use super::{Problems, check_count, limits};
use crate::names::instance_name_problem;
use crate::spec::{RuntimeSpec, RuntimeSpecError};

pub(super) fn check(spec: &RuntimeSpec, problems: &mut Problems) {
    check_text(
        "identity.runtime_id",
        &spec.identity.runtime_id,
        "",
        problems,
    );
    check_instance_name(&spec.identity.instance_name, problems);
    // Characters that Incus refuses in a project's name.
    check_text("incus.project", &spec.incus.project, "/ '\"*", problems);
    check_text("incus.profile", &spec.incus.profile, "/", problems);
    check_text("incus.image_alias", &spec.incus.image_alias, "", problems);
    if let Some(pool) = &spec.incus.storage_pool {
        check_text("incus.storage_pool", pool, "/", problems);
    }
    if let Some(target) = &spec.incus.target {
        check_text("incus.target", target, "/", problems);
    }
    check_entry_command(spec, problems);
    check_labels(spec, problems);
}

fn check_text(field: &'static str, value: &str, refused: &str, problems: &mut Problems) {
    if value.trim().is_empty() {
        problems.push(RuntimeSpecError::EmptyField { field });
        return;
    }
    if let Some(reason) = text_problem(value, refused) {
        problems.push(RuntimeSpecError::InvalidName {
            field,
            value: value.to_owned(),
            reason,
        });
    }
}

fn text_problem(value: &str, refused: &str) -> Option<&'static str> {
    if value.chars().any(char::is_control) {
        return Some("must not contain control characters");
    }
    if value.trim() != value {
        return Some("must not begin or end with white space");
    }
    if value.len() > limits::NAME_BYTES_MAX {
        return Some("must not be longer than 255 bytes");
    }
    if value == "." || value == ".." {
        return Some("must not be `.` or `..`");
    }
    value
        .contains(|c| refused.contains(c))
        .then_some("contains a character that Incus refuses in such a name")
}

fn check_instance_name(name: &str, problems: &mut Problems) {
    if name.trim().is_empty() {
        problems.push(RuntimeSpecError::EmptyField {
            field: "identity.instance_name",
        });
    } else if let Some(reason) = instance_name_problem(name) {
        let instance_name = name.to_owned();
        problems.push(RuntimeSpecError::InvalidInstanceName {
            instance_name,
            reason,
        });
    }
}

fn check_entry_command(spec: &RuntimeSpec, problems: &mut Problems) {
    let field = "bootstrap.entry_command";
    let Some(command) = &spec.bootstrap.entry_command else {
        return;
    };
    if command.trim().is_empty() {
        problems.push(RuntimeSpecError::EmptyField { field });
    } else if command.contains('\0') {
        let reason = "must not contain NUL";
        problems.push(RuntimeSpecError::InvalidName {
            field,
            value: command.clone(),
            reason,
        });
    }
    check_count(
        field,
        command.len(),
        limits::ENTRY_COMMAND_BYTES_MAX,
        problems,
    );
}

fn check_labels(spec: &RuntimeSpec, problems: &mut Problems) {
    check_count("labels", spec.labels.len(), limits::LABELS_MAX, problems);
    for (key, value) in &spec.labels {
        if let Some(reason) = label_problem(key, value) {
            problems.push(RuntimeSpecError::InvalidLabel {
                key: key.clone(),
                reason,
            });
        }
    }
}

fn label_problem(key: &str, value: &str) -> Option<&'static str> {
    if key.is_empty() || key.len() > limits::LABEL_KEY_BYTES_MAX {
        return Some("must have a key of 1 to 63 bytes");
    }
    if !key
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
    {
        return Some("must have a key of ASCII letters, digits, `.`, `_`, `-` and `/`");
    }
    if value.chars().any(char::is_control) {
        return Some("must not have control characters in its value");
    }
    (value.len() > limits::LABEL_VALUE_BYTES_MAX)
        .then_some("must have a value of at most 1024 bytes")
}
