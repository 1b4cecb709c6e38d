//! Whether the server runs, and whether it can work.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use crate::trouble::chain;

/// It runs: it answers.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// It can work: its database answers. Without Incus it still takes requests and shows what it knows, and says so.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    let app = &shared.app;
    let database = app.store.ping().await.map_err(|error| chain(&error));
    let incus = incus(&shared).await;
    let word = |part: &Result<(), String>| match part {
        Ok(()) => json!("ok"),
        Err(why) => json!(why),
    };
    let status = match (&database, app.ending.is_cancelled()) {
        (Ok(()), false) => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = if status == StatusCode::OK {
        "ok"
    } else {
        "unavailable"
    };
    let body = json!({ "status": text, "database": word(&database), "incus": word(&incus) });
    (status, Json(body))
}

async fn incus(shared: &Shared) -> Result<(), String> {
    let fleet = &shared.app.fleet;
    let runtimes = fleet
        .runtimes_at(&fleet.local_place())
        .map_err(|trouble| trouble.to_string())?;
    runtimes.reachable().await.map_err(|error| chain(&error))
}
