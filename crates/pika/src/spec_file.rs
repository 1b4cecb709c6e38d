//! Reading a spec that the command line names.
//!
//! Owns which of JSON and TOML a document is, and its size limit. Nothing is executed or followed: a spec
//! is text.

use std::io::Read as _;
use std::path::Path;

use pika_cloud::spec::SPEC_BYTES_MAX;
use pika_cloud::{IncusRuntimePlan, RuntimeSpec};

use crate::exit::{CommandError, Exit};

/// Reads the spec in `path`; `-` is stdin.
///
/// The name's ending decides between JSON and TOML; without one, `{` as the first character means JSON.
pub(crate) fn read(path: &Path) -> Result<RuntimeSpec, CommandError> {
    let origin = if path.as_os_str() == "-" {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    };
    let text = read_text(path, &origin)?;
    if is_json(path, &text) {
        return RuntimeSpec::from_json(&origin, &text)
            .map_err(|error| CommandError::new(Exit::Usage, &error));
    }
    toml::from_str(&text).map_err(|error| CommandError {
        exit: Exit::Usage,
        message: format!("{origin} is not a runtime spec in TOML"),
        causes: vec![error.to_string().trim_end().to_owned()],
        hint: None,
    })
}

/// Reads the spec and plans it; the first problem is the error.
pub(crate) fn read_plan(path: &Path) -> Result<IncusRuntimePlan, CommandError> {
    let spec = read(path)?;
    spec.build_incus_plan().map_err(|error| {
        CommandError::new(Exit::Usage, &error)
            .with_hint("`pika runtime validate` tells every problem of a spec at once")
    })
}

fn read_text(path: &Path, origin: &str) -> Result<String, CommandError> {
    let failed = |error: std::io::Error| CommandError {
        exit: Exit::Usage,
        message: format!("can't read the spec {origin}"),
        causes: vec![error.to_string()],
        hint: None,
    };
    let limit = SPEC_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if origin == "stdin" {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() > SPEC_BYTES_MAX {
        let message =
            format!("{origin} is longer than the {SPEC_BYTES_MAX} bytes that a spec may have");
        return Err(CommandError::plain(Exit::Usage, message));
    }
    String::from_utf8(bytes)
        .map_err(|_| CommandError::plain(Exit::Usage, format!("{origin} is not UTF-8 text")))
}

fn is_json(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => true,
        Some("toml") => false,
        _ => text.trim_start().starts_with('{'),
    }
}
