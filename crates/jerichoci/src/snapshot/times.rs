//! File times of a snapshot: new where the content changed, kept where it did not.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde::{Deserialize, Serialize};

use super::copy::{Entry, Kind};
use super::{SnapshotError, io};
use crate::record::{ReadJsonError, read_json, write_json};

/// Beside the snapshots; what the last one had at each path.
const TIMES_FILE: &str = ".times.json";

#[derive(Default, Serialize, Deserialize)]
struct Times {
    /// Hex of the path's bytes -> what was there.
    files: BTreeMap<String, FileTime>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct FileTime {
    content: String,
    mode: u32,
    secs: i64,
    nanos: u32,
}

/// Gives every file of the snapshot at `dir` its time, and remembers them. The caller holds the lock of
/// `snapshots_dir`.
pub(super) fn settle(
    snapshots_dir: &Path,
    dir: &Path,
    entries: &[Entry],
) -> Result<(), SnapshotError> {
    let record = snapshots_dir.join(TIMES_FILE);
    let last: Times = match read_json(&record) {
        Ok(times) => times,
        // Without a readable record every file is new, which costs a build and is never wrong.
        Err(ReadJsonError::Missing { .. } | ReadJsonError::Malformed { .. }) => Times::default(),
        Err(error) => return Err(error.into()),
    };
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let (now_secs, now_nanos) = (clock.tv_sec, u32::try_from(clock.tv_nsec).unwrap_or(0));
    let mut times = Times::default();
    for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
        let key = hex::encode(entry.path.as_os_str().as_bytes());
        let content = hex::encode(entry.content);
        let kept = last
            .files
            .get(&key)
            .filter(|kept| kept.content == content && kept.mode == entry.mode);
        let time = kept.cloned().unwrap_or(FileTime {
            content,
            mode: entry.mode,
            secs: now_secs,
            nanos: now_nanos,
        });
        let stamp = Timespec {
            tv_sec: time.secs,
            tv_nsec: time.nanos.into(),
        };
        let path = dir.join(&entry.path);
        utimensat(
            CWD,
            &path,
            &Timestamps {
                last_access: stamp,
                last_modification: stamp,
            },
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|errno| io("set the time of", &path, errno.into()))?;
        times.files.insert(key, time);
    }
    if times.files != last.files {
        write_json(&record, &times)?;
    }
    Ok(())
}
