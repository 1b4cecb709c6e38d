//! Background operations: created running, ended once, gone some seconds after their end or with a crash.
//!
//! States: running -> success | failure. Nothing here knows what an operation does.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::reply::ApiError;
use super::world::now_rfc3339;

/// How long an ended operation can still be read, as recorded (5.07 s, with the real daemon).
pub(crate) const ENDED_OPERATION_LIFETIME: Duration = Duration::from_secs(5);

/// What became of an operation.
#[derive(Debug, Clone)]
pub(crate) enum OperationState {
    Running,
    Success,
    Failure(ApiError),
}

/// One operation as the API shows it.
#[derive(Debug, Clone)]
pub(crate) struct OperationRecord {
    pub(crate) id: Uuid,
    pub(crate) class: &'static str,
    pub(crate) description: &'static str,
    pub(crate) project: String,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
    pub(crate) state: OperationState,
    pub(crate) resources: Value,
    pub(crate) metadata: Value,
    /// Secret to descriptor name, for operations with websockets.
    pub(crate) secrets: HashMap<String, String>,
    ended: Option<Instant>,
    done: watch::Sender<bool>,
}

impl OperationRecord {
    pub(crate) fn new(
        class: &'static str,
        description: &'static str,
        project: &str,
        resources: Value,
    ) -> OperationRecord {
        let now = now_rfc3339();
        OperationRecord {
            id: Uuid::new_v4(),
            class,
            description,
            project: project.to_owned(),
            created_at: now.clone(),
            updated_at: now,
            state: OperationState::Running,
            resources,
            metadata: Value::Null,
            secrets: HashMap::new(),
            ended: None,
            done: watch::Sender::new(false),
        }
    }

    pub(crate) fn render(&self) -> Value {
        let (status, code, err) = match &self.state {
            OperationState::Running => ("Running", 103, ""),
            OperationState::Success => ("Success", 200, ""),
            OperationState::Failure(error) => ("Failure", 400, error.message.as_str()),
        };
        json!({
            "id": self.id.to_string(), "class": self.class, "description": self.description,
            "created_at": self.created_at, "updated_at": self.updated_at,
            "status": status, "status_code": code, "resources": self.resources,
            "metadata": self.metadata, "may_cancel": false, "err": err, "location": "none",
        })
    }

    pub(crate) fn ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.done.subscribe()
    }
}

/// All operations that can still be read.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    table: HashMap<Uuid, OperationRecord>,
    /// Replaces [`ENDED_OPERATION_LIFETIME`] where a test wants operations to vanish at once.
    pub(crate) lifetime: Option<Duration>,
}

impl Operations {
    pub(crate) fn insert(&mut self, record: OperationRecord) {
        self.forget_old();
        self.table.insert(record.id, record);
    }

    pub(crate) fn get(&mut self, id: &str) -> Result<OperationRecord, ApiError> {
        self.forget_old();
        Uuid::parse_str(id)
            .ok()
            .and_then(|id| self.table.get(&id).cloned())
            .ok_or_else(|| ApiError::new(404, "Operation not found"))
    }

    pub(crate) fn end(&mut self, id: Uuid, result: Result<(), ApiError>) -> Option<Value> {
        let record = self.table.get_mut(&id)?;
        if record.ended() {
            return None;
        }
        record.state = match result {
            Ok(()) => OperationState::Success,
            Err(error) => OperationState::Failure(error),
        };
        record.updated_at = now_rfc3339();
        record.ended = Some(Instant::now());
        record.done.send_replace(true);
        Some(record.render())
    }

    pub(crate) fn merge_metadata(&mut self, id: Uuid, more: &Map<String, Value>) {
        let Some(record) = self.table.get_mut(&id) else {
            return;
        };
        let mut merged = record.metadata.as_object().cloned().unwrap_or_default();
        merged.extend(more.clone());
        record.metadata = Value::Object(merged);
    }

    /// Everything of a project, by status, as `GET /1.0/operations` shows it.
    pub(crate) fn list(&mut self, project: Option<&str>, full: bool) -> Value {
        self.forget_old();
        let mut by_status: Map<String, Value> = Map::new();
        for record in self.table.values() {
            if project.is_some_and(|project| project != record.project) {
                continue;
            }
            let status = match record.state {
                OperationState::Running => "running",
                OperationState::Success => "success",
                OperationState::Failure(_) => "failure",
            };
            let entry = if full {
                record.render()
            } else {
                Value::String(format!("/1.0/operations/{}", record.id))
            };
            if let Value::Array(list) = by_status
                .entry(status)
                .or_insert_with(|| Value::Array(Vec::new()))
            {
                list.push(entry);
            }
        }
        Value::Object(by_status)
    }

    /// A crash of the daemon forgets all of them.
    pub(crate) fn forget_all(&mut self) {
        self.table.clear();
    }

    fn forget_old(&mut self) {
        let lifetime = self.lifetime.unwrap_or(ENDED_OPERATION_LIFETIME);
        self.table
            .retain(|_, record| record.ended.is_none_or(|end| end.elapsed() < lifetime));
    }
}
