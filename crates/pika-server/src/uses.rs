//! When tokens were used: kept for a moment, and written down together.
//!
//! Owns that moment. So no answer waits for a write, and a database that can't be written to still tells who asks. What a
//! process that dies had not written is lost: a time of last use is one to the minute anyway.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pika_store::{Millis, TokenInfo};

use crate::app::App;
use crate::metrics::Part;
use crate::trouble::chain;

/// How long uses are kept at most.
const PERIOD: Duration = Duration::from_secs(2);

/// Uses that are not written down yet: ids of tokens and when each was used last.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<BTreeMap<String, Millis>>);

impl Uses {
    /// Keeps a use, unless one that is written down says the same.
    pub(crate) fn keep(&self, token: &TokenInfo, now: Millis) {
        if token.use_is_due(now) {
            self.keep_all([(token.id.clone(), now)]);
        }
    }

    fn keep_all(&self, uses: impl IntoIterator<Item = (String, Millis)>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (token, at) in uses {
            let last = kept.entry(token).or_insert(at);
            *last = at.max(*last);
        }
    }

    fn take(&self) -> BTreeMap<String, Millis> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes them down until the server ends; what is kept then is left to the end of the server itself.
pub(crate) async fn run(app: Arc<App>) {
    loop {
        tokio::select! {
            () = app.ending.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => write(&app).await,
        }
    }
}

pub(crate) async fn write(app: &App) {
    let uses = app.uses.take();
    if uses.is_empty() {
        return;
    }
    if let Err(error) = app.store.note_token_uses(&uses).await {
        app.metrics.database_failed(Part::Http);
        tracing::warn!(
            error = chain(&error),
            "uses of tokens can't be written down; tried again"
        );
        app.uses.keep_all(uses);
    }
}

#[cfg(test)]
mod tests {
    use pika_managed_agent_contract::Scope;

    use super::*;

    fn token(last_used_at: Option<Millis>) -> TokenInfo {
        TokenInfo {
            id: "t1".to_owned(),
            owner_id: "o1".to_owned(),
            scope: Scope::Read,
            label: String::new(),
            created_at: 0,
            expires_at: None,
            revoked_at: None,
            last_used_at,
        }
    }

    #[test]
    fn the_latest_use_is_kept_once_and_none_that_is_written_down() {
        let uses = Uses::default();
        uses.keep(&token(None), 2_000);
        uses.keep(&token(None), 1_000);
        uses.keep(&token(Some(5_000)), 64_999);
        assert_eq!(uses.take(), BTreeMap::from([("t1".to_owned(), 2_000)]));
        uses.keep(&token(Some(5_000)), 65_000);
        assert_eq!(uses.take(), BTreeMap::from([("t1".to_owned(), 65_000)]));
        assert_eq!(uses.take(), BTreeMap::new());
    }
}
