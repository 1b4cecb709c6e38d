//! The end of a run: the verdict is written and told, then removals are waited for and stores are tidied.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::dispatch::Dispatcher;
use super::event::RunEvent;
use super::run::RunSummary;
use super::{EngineError, blocking};
use crate::cache::{CachePolicy, Trust};
use crate::record::{JobResult, RunState};

/// How long removals are waited for when a run is to stop at once.
pub(super) const REMOVAL_WAIT_AT_ONCE: Duration = Duration::from_secs(15);

impl Dispatcher<'_> {
    /// Writes the verdict, tells it, then waits for the removals.
    pub(super) async fn conclude(mut self) -> Result<RunSummary, EngineError> {
        let results: Vec<JobResult> = std::mem::take(&mut self.results).into_values().collect();
        let verdict = self.run.live.get().verdict_of(&results);
        let live = self.run.live.clone();
        let write = move || {
            live.change(|record| {
                record.state = RunState::Finished;
                record.verdict = Some(verdict);
                // One that had its verdict is only wound up.
                record.finished_at.get_or_insert_with(Timestamp::now);
            })
        };
        // Nothing that can't be written keeps the removals from being waited for.
        let wrote = blocking(write).await;
        let is_written = wrote.is_ok();
        self.troubles
            .extend(wrote.err().map(|error| super::chain(&error)));
        self.events.send(RunEvent::Verdict { verdict }).ok();
        let evicting = self.engine.evict_snapshots();
        self.await_removals().await;
        // A kept instance holds what it took; what it holds goes with it.
        let no_payload_is_left = match self.run.live.dir.kept() {
            Ok(kept) if kept.is_empty() => self.remove_payloads().await,
            Ok(_) => false,
            Err(error) => {
                self.troubles.push(super::chain(&error));
                false
            }
        };
        self.evict_caches().await;
        match evicting.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.troubles.push(super::chain(&error)),
            Err(error) => self.troubles.push(error.to_string()),
        }
        let dir = &self.run.live.dir;
        // A run that does not say what it came to is closed by the next command.
        let nothing_to_do = no_payload_is_left && is_written;
        let settled = (dir.is_clean()).and_then(|is_clean| match is_clean && nothing_to_do {
            true => self.engine.store.settle(&dir.id),
            false => Ok(()),
        });
        self.troubles
            .extend(settled.err().map(|error| super::chain(&error)));
        Ok(RunSummary {
            run_id: dir.id.clone(),
            dir: dir.dir().to_owned(),
            verdict,
            results,
            selection: self.run.live.get().selection,
            troubles: self.troubles,
        })
    }

    /// Removes what newer generations made superfluous.
    async fn evict_caches(&mut self) {
        let (Some(caches), Trust::Trusted) = (&self.run.caches, self.run.trust) else {
            return;
        };
        let (policy, pinned) = (CachePolicy::default(), BTreeSet::new());
        match caches.evict(Timestamp::now(), &policy, &pinned).await {
            Ok(report) => self.troubles.extend(report.problems),
            Err(error) => self.troubles.push(super::chain(&error)),
        }
        if let Err(error) = self.engine.evict_manifests(caches).await {
            self.troubles.push(super::chain(&error));
        }
    }

    async fn await_removals(&mut self) {
        let at_once = self.cancel.clone().at_once_for(REMOVAL_WAIT_AT_ONCE);
        let mut at_once = std::pin::pin!(at_once);
        while !self.removals.is_empty() {
            tokio::select! {
                Some(removed) = self.removals.join_next() => self.take_removal(removed),
                () = &mut at_once => {
                    let text = format!("{} instances are still being removed", self.removals.len());
                    self.troubles.push(format!("{text}; the next command looks again"));
                    return;
                }
            }
        }
    }
}
