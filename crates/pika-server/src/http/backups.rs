//! Backups of an agent.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use pika_managed_agent_contract::BackupList;

use super::agents::find;
use super::auth::Caller;
use super::body::Id;
use super::error::ApiError;
use super::{Shared, views};

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<BackupList>, ApiError> {
    let agent = find(&shared, &caller, &id).await?;
    let found = crate::backups::of_agent(&shared.app, &agent).await?;
    Ok(Json(BackupList {
        backups: found.iter().map(views::backup).collect(),
    }))
}
