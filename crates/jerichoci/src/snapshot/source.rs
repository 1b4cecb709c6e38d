//! Looking at entries of the work tree, and reading them. It never writes anything.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::below::{Below, Root};
use super::entry::{Content, Cursor, Entry, FileStat, Kind};
use super::scan::Budget;
use super::{SnapshotError, io, workers};
use crate::git::{ListedKind, ListedPath};
use crate::record::STORE_DIR;

const BUFFER_BYTES: usize = 256 * 1024;

/// What there is at a path.
pub(super) enum Found {
    File(FileStat),
    /// With its target.
    Symlink(Vec<u8>),
    Directory,
}

/// Reads entries of one tree, one after another.
pub(super) struct Reading<'a> {
    below: Below<'a>,
    buffer: Vec<u8>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(root: &'a Root) -> Self {
        Self {
            below: root.below(),
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// `None` for what isn't there, or is neither file nor link nor folder.
    pub(super) fn look(&mut self, path: &Path) -> Result<Option<Found>, SnapshotError> {
        let root = self.below.root();
        let Some((folder, name)) = self.below.locate(path)? else {
            return Ok(None);
        };
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(io("look at", &root.shown(path), errno.into())),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Some(Found::File(FileStat::of(&stat)))),
            FileType::Directory => Ok(Some(Found::Directory)),
            FileType::Symlink => match readlinkat(folder, name, Vec::new()) {
                Ok(target) => Ok(Some(Found::Symlink(target.into_bytes()))),
                // It became something else meanwhile.
                Err(Errno::NOENT | Errno::INVAL) => Ok(None),
                Err(errno) => Err(io("read", &root.shown(path), errno.into())),
            },
            _ => Ok(None),
        }
    }

    /// Opens a regular file. `None` when there is none at the path.
    pub(super) fn open(&mut self, path: &Path) -> Result<Option<(File, FileStat)>, SnapshotError> {
        let root = self.below.root();
        let Some((folder, name)) = self.below.locate(path)? else {
            return Ok(None);
        };
        // Not blocking: between the look and the opening the file may have become a FIFO.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match openat(folder, name, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(io("open", &root.shown(path), errno.into())),
        };
        let stat =
            fstat(&opened).map_err(|errno| io("look at", &root.shown(path), errno.into()))?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(is_file.then(|| (File::from(opened), FileStat::of(&stat))))
    }

    /// Reads an open file to its end, giving each piece to `sink`.
    pub(super) fn copy(
        &mut self,
        path: &Path,
        file: &mut File,
        mut sink: impl FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        loop {
            let count = file
                .read(&mut self.buffer)
                .map_err(|source| io("read", &self.below.root().shown(path), source))?;
            if count == 0 {
                return Ok(());
            }
            sink(&self.buffer[..count])?;
        }
    }

    /// As [`Reading::copy`]; tells how many bytes there were, and their digest.
    pub(super) fn digest(
        &mut self,
        path: &Path,
        file: &mut File,
        mut sink: impl FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(u64, Content), SnapshotError> {
        let mut hasher = Sha256::new();
        let mut count: u64 = 0;
        self.copy(path, file, |bytes| {
            count += bytes.len() as u64;
            hasher.update(bytes);
            sink(bytes)
        })?;
        Ok((count, hasher.finalize().into()))
    }
}

/// What became of a listed path since the last scan.
pub(super) enum Seen {
    /// It is what the last scan saw: the index of its entry there.
    Same(usize),
    /// With the stat of a file when it was read.
    New(Box<(Entry, Option<FileStat>)>),
    /// There is nothing to take.
    Nothing,
}

/// The last scan: its entries, and the stats that tell their contents.
#[derive(Clone, Copy, Default)]
pub(super) struct Before<'a> {
    pub(super) entries: &'a [Entry],
    pub(super) stats: &'a [Option<FileStat>],
}

/// Looks at every listed path; reads what can have changed.
pub(super) fn see_all(
    root: &Root,
    paths: &[ListedPath],
    before: Before<'_>,
    budget: &Budget,
) -> Result<Vec<Seen>, SnapshotError> {
    let begin = || Look {
        reading: Reading::new(root),
        cursor: Cursor::new(before.entries, Entry::key),
        before,
        budget,
    };
    workers::map(paths, begin, Look::see)
}

struct Look<'a> {
    reading: Reading<'a>,
    cursor: Cursor<'a, Entry>,
    before: Before<'a>,
    budget: &'a Budget,
}

impl Look<'_> {
    fn see(&mut self, listed: &ListedPath) -> Result<Seen, SnapshotError> {
        let path = &listed.path;
        if path.starts_with(STORE_DIR) {
            return Ok(Seen::Nothing);
        }
        match self.reading.look(path)? {
            Some(Found::File(stat)) => {
                self.budget.take(stat.bytes)?;
                let index = self.cursor.find_index(path.as_os_str().as_bytes());
                if let Some(index) = index
                    && self.before.entries[index].kind == Kind::File
                    && self.before.stats.get(index) == Some(&Some(stat))
                {
                    return Ok(Seen::Same(index));
                }
                let Some((mut file, stat)) = self.reading.open(path)? else {
                    return Ok(Seen::Nothing);
                };
                let (bytes, content) = self.reading.digest(path, &mut file, |_| Ok(()))?;
                let entry = Entry::file(path, &stat, bytes, content);
                Ok(Seen::New(Box::new((entry, Some(stat)))))
            }
            Some(Found::Symlink(target)) => Ok(self.compare(Entry::symlink(path, &target))),
            // A submodule that isn't checked out: git names the folder itself. A folder in the place of a tracked file
            // is there by its files, if any.
            Some(Found::Directory) if listed.kind == ListedKind::Folder => {
                Ok(self.compare(Entry::directory(path)))
            }
            Some(Found::Directory) | None => Ok(Seen::Nothing),
        }
    }

    fn compare(&mut self, entry: Entry) -> Seen {
        match self.cursor.find_index(entry.key()) {
            Some(index) if self.before.entries[index].is_same(&entry) => Seen::Same(index),
            _ => Seen::New(Box::new((entry, None))),
        }
    }
}
