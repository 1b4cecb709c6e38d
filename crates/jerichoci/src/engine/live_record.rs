//! The record of a run while a process drives it: changed in one place, on the disk whenever it is changed.

use std::sync::{Arc, Mutex, PoisonError};

use crate::record::{RunDir, RunRecord, StoreError};

/// A run's record and its folder. Cheap to clone; clones are one record.
#[derive(Debug, Clone)]
pub(super) struct LiveRecord {
    pub(super) dir: RunDir,
    record: Arc<Mutex<RunRecord>>,
}

impl LiveRecord {
    pub(super) fn new(dir: RunDir, record: RunRecord) -> Self {
        Self {
            dir,
            record: Arc::new(Mutex::new(record)),
        }
    }

    /// The record as it is now.
    pub(super) fn get(&self) -> RunRecord {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.clone()
    }

    /// Changes the record and writes it. Blocks.
    pub(super) fn change(&self, change: impl FnOnce(&mut RunRecord)) -> Result<(), StoreError> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = record.clone();
        change(&mut changed);
        if changed != *record {
            self.dir.write(&changed)?;
            *record = changed;
        }
        Ok(())
    }
}
