//! Requests on `/1.0/instances/{name}/exec`, and the messages of its control socket.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::instances::instance_path;
use super::{ApiRequest, InvalidInput};

/// A command to run in an instance.
///
/// Command line and environment of a running exec can be read by others through the operations API in some
/// versions of Incus: no secret belongs in either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments; looked up in the guest's `PATH`.
    pub command: Vec<String>,
    /// Environment, on top of the instance's own `environment.*`.
    pub env: BTreeMap<String, String>,
    /// User id in the guest.
    pub user: u32,
    /// Group id in the guest.
    pub group: u32,
    /// Working directory; the user's home if `None`.
    pub cwd: Option<String>,
    /// Whether the caller will write to standard input; if not, the command sees its end at once.
    pub stdin: bool,
    /// Columns and rows of a terminal. With a terminal, standard error goes to standard output.
    pub interactive: Option<(u16, u16)>,
}

impl ExecRequest {
    /// Runs this command as root, without a terminal, with empty input.
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// `POST /1.0/instances/{name}/exec`, with websockets for the streams.
pub fn exec(project: &str, name: &str, request: &ExecRequest) -> Result<ApiRequest, InvalidInput> {
    if request.command.is_empty() {
        return Err(InvalidInput::new("exec command", "", "is empty"));
    }
    let nul = |text: &String| text.contains('\0');
    if request.command.iter().any(nul)
        || request
            .env
            .iter()
            .any(|(key, value)| nul(key) || nul(value))
    {
        return Err(InvalidInput::new(
            "exec command or environment",
            &request.command[0],
            "has a NUL byte",
        ));
    }
    let (width, height) = request.interactive.unwrap_or((0, 0));
    let body = json!({
        "command": request.command,
        "environment": request.env,
        "wait-for-websocket": true,
        "record-output": false,
        "interactive": request.interactive.is_some(),
        "width": width,
        "height": height,
        "user": request.user,
        "group": request.group,
        "cwd": request.cwd.as_deref().unwrap_or(""),
    });
    ApiRequest::new(Method::POST, instance_path(name)?.fixed("exec"))
        .project(project)
        .json(&body)
}

/// Control message that sends a signal to the command.
pub fn signal_message(signal: i32) -> Value {
    json!({ "command": "signal", "signal": signal })
}

/// Control message that changes the terminal's size.
pub fn resize_message(columns: u16, rows: u16) -> Value {
    json!({ "command": "window-resize", "args": { "width": columns.to_string(), "height": rows.to_string() } })
}

#[cfg(test)]
mod tests {
    use super::{ExecRequest, exec};

    #[test]
    fn an_exec_asks_for_websockets_and_leaves_nothing_recorded() {
        let request = exec("p", "c1", &ExecRequest::new(["sh", "-c", "true"])).unwrap();
        assert_eq!(request.path_and_query(), "/1.0/instances/c1/exec?project=p");
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["command"], serde_json::json!(["sh", "-c", "true"]));
        assert_eq!(body["wait-for-websocket"], true);
        assert_eq!(body["record-output"], false);
        assert_eq!(body["interactive"], false);
    }

    #[test]
    fn an_empty_command_and_a_nul_are_refused() {
        assert!(exec("p", "c1", &ExecRequest::default()).is_err());
        assert!(exec("p", "c1", &ExecRequest::new(["a\0b"])).is_err());
    }
}
