//! The event stream: operations and lifecycle changes, as JSON text frames over a websocket.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::watch;

use super::daemon::Daemon;
use super::exec::upgrade;
use super::reply::Reply;
use super::route::Call;
use super::world::now_rfc3339;

impl Daemon {
    pub(crate) fn operation_event(&self, project: &str, rendered: Value) {
        self.emit("operation", project, rendered);
    }

    /// A lifecycle event such as `instance-created`.
    pub(crate) fn lifecycle_event(&self, project: &str, action: &str, name: &str, source: &str) {
        self.emit(
            "lifecycle",
            project,
            json!({
                "action": action, "source": source, "name": name, "project": project,
                "requestor": {"username": "root", "protocol": "unix", "address": "@"},
            }),
        );
    }

    fn emit(&self, kind: &str, project: &str, metadata: Value) {
        let event = json!({
            "type": kind, "timestamp": now_rfc3339(), "metadata": metadata,
            "location": "none", "project": project,
        });
        if self.events.send(event).is_err() {
            tracing::trace!("nobody listens to events of the fake daemon");
        }
    }
}

/// `GET /1.0/events`
pub(crate) async fn subscribe(daemon: &Arc<Daemon>, mut call: Call) -> Reply {
    let types: Option<Vec<String>> = call
        .query
        .get("type")
        .map(|types| types.split(',').map(str::to_owned).collect());
    let project = (!call.query.contains_key("all-projects")).then(|| call.project().to_owned());
    let events = daemon.events.subscribe();
    let life = daemon.life.subscribe();
    let upgrade = upgrade(&mut call).await?;
    Ok(upgrade.on_upgrade(move |socket| forward(socket, events, life, types, project)))
}

async fn forward(
    mut socket: WebSocket,
    mut events: broadcast::Receiver<Value>,
    mut life: watch::Receiver<u64>,
    types: Option<Vec<String>>,
    project: Option<String>,
) {
    life.mark_unchanged();
    loop {
        tokio::select! {
            // The daemon died: the connection ends without a close frame.
            _ = life.changed() => return,
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            event = events.recv() => {
                let Ok(event) = event else { return };
                if !wanted(&event, types.as_deref(), project.as_deref()) {
                    continue;
                }
                if socket.send(Message::text(format!("{event}\n"))).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn wanted(event: &Value, types: Option<&[String]>, project: Option<&str>) -> bool {
    let kind = event["type"].as_str().unwrap_or_default();
    types.is_none_or(|types| types.iter().any(|wanted| wanted == kind))
        && project.is_none_or(|project| event["project"].as_str() == Some(project))
}
