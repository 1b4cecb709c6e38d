//! Whether the server runs, and whether it can work.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use crate::trouble::chain;

/// How long Incus may take to say that it is there.
const INCUS_LIMIT: Duration = Duration::from_secs(5);

/// It runs: it answers.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// It can work: its database and the local Incus answer. Without Incus it still takes requests, which wait, and shows what it
/// knows: whoever sends requests elsewhere when this is not 200 loses that.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    let app = &shared.app;
    let database = app.store.ping().await.map_err(|error| chain(&error));
    let incus = incus(&shared).await;
    let word = |part: &Result<(), String>| match part {
        Ok(()) => json!("ok"),
        Err(why) => json!(why),
    };
    let (status, text) = match (&database, &incus) {
        _ if app.ending.is_cancelled() => (StatusCode::SERVICE_UNAVAILABLE, "ending"),
        (Ok(()), Ok(())) => (StatusCode::OK, "ok"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let body = json!({ "status": text, "database": word(&database), "incus": word(&incus) });
    (status, Json(body))
}

async fn incus(shared: &Shared) -> Result<(), String> {
    let fleet = &shared.app.fleet;
    let runtimes = fleet
        .runtimes_at(&fleet.local_place())
        .map_err(|trouble| trouble.to_string())?;
    match tokio::time::timeout(INCUS_LIMIT, runtimes.reachable()).await {
        Ok(answer) => answer.map_err(|error| chain(&error)),
        Err(_) => Err(format!("no answer within {} s", INCUS_LIMIT.as_secs())),
    }
}
