//! Making the entries of a tree: by a hard link to the same file of another tree of the store, by a clone where the file
//! system can, else by a copy. Nothing here is ever linked to the work tree.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use pika_incus_guest_role::{GUEST_GID, GUEST_UID};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fchmod, fchown, fstat, futimens,
    ioctl_ficlone, linkat, mkdirat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::below::{Below, Root};
use super::entry::{Content, Cursor, Entry, FileStat, Kind, Time};
use super::manifest::Manifest;
use super::source::{Found, Reading};
use super::{SnapshotError, io, workers};

const FOLDER_MODE: u32 = 0o755;

/// Another tree of the store, held for as long as this value lives.
pub(super) struct Donor {
    pub(super) root: Root,
    pub(super) manifest: Manifest,
    pub(super) _held: File,
}

/// What to make of an entry.
pub(super) struct Wanted<'a> {
    pub(super) entry: &'a Entry,
    /// The stat of the file as the scan read it, where that tells its content for good.
    pub(super) settled: Option<FileStat>,
}

/// A tree that is being filled.
pub(super) struct Placing<'a> {
    source: &'a Root,
    target: &'a Root,
    donors: &'a [Donor],
    /// Who the guest's user is here, where we may give files away.
    owner: Option<(Uid, Gid)>,
    /// The time of what is no longer what the scan saw.
    late: Time,
    can_clone: AtomicBool,
}

/// What one thread has open.
struct Hand<'a> {
    source: Reading<'a>,
    target: Below<'a>,
    donors: Vec<(Below<'a>, Cursor<'a, Entry>)>,
}

impl<'a> Placing<'a> {
    pub(super) fn new(
        source: &'a Root,
        target: &'a Root,
        donors: &'a [Donor],
        late: Time,
    ) -> Result<Self, SnapshotError> {
        let placing = Self {
            source,
            target,
            donors,
            owner: rustix::process::geteuid()
                .is_root()
                .then(|| (Uid::from_raw(GUEST_UID), Gid::from_raw(GUEST_GID))),
            late,
            can_clone: AtomicBool::new(true),
        };
        if let Some((uid, gid)) = placing.owner {
            given(rustix::fs::chown(target.path(), Some(uid), Some(gid)))
                .map_err(|errno| io("give away", target.path(), errno.into()))?;
        }
        Ok(placing)
    }

    /// Removes what is not to be there, in the order given.
    pub(super) fn remove<P: AsRef<Path>>(&self, paths: &[P]) -> Result<(), SnapshotError> {
        let mut below = self.target.below();
        for path in paths.iter().map(AsRef::as_ref) {
            let root = below.root();
            let Some((folder, name)) = below.locate(path)? else {
                continue;
            };
            let removed = match unlinkat(folder, name, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => unlinkat(folder, name, AtFlags::REMOVEDIR),
                other => other,
            };
            match removed {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(io("remove", &root.shown(path), errno.into())),
            }
        }
        Ok(())
    }

    /// Makes the folders among `wanted`, then the rest. Gives what there is now for each entry that isn't a folder, in
    /// order; `None` for what the work tree no longer has.
    pub(super) fn make(&self, wanted: &[Wanted<'_>]) -> Result<Vec<Option<Entry>>, SnapshotError> {
        let mut below = self.target.below();
        for wanted in wanted.iter().filter(|wanted| is_folder(wanted.entry)) {
            self.make_folder(&mut below, &wanted.entry.path)?;
        }
        let rest: Vec<&Wanted<'_>> = wanted
            .iter()
            .filter(|wanted| !is_folder(wanted.entry))
            .collect();
        let begin = || Hand {
            source: Reading::new(self.source),
            target: self.target.below(),
            donors: self
                .donors
                .iter()
                .map(|donor| (donor.root.below(), donor.manifest.cursor()))
                .collect(),
        };
        workers::map(&rest, begin, |hand, wanted| self.place(hand, wanted))
    }

    /// Gives every folder its time; what happens in one changes it.
    pub(super) fn settle_folders(&self, entries: &[Entry]) -> Result<(), SnapshotError> {
        let mut below = self.target.below();
        for entry in entries.iter().filter(|entry| is_folder(entry)) {
            let root = below.root();
            let Some(folder) = below.folder(&entry.path)? else {
                return Err(io("open", &root.shown(&entry.path), Errno::NOENT.into()));
            };
            utimensat(folder, c".", &entry.time.stamps(), AtFlags::empty())
                .map_err(|errno| io("set the time of", &root.shown(&entry.path), errno.into()))?;
        }
        Ok(())
    }

    fn make_folder(&self, below: &mut Below<'_>, path: &Path) -> Result<(), SnapshotError> {
        let root = below.root();
        // The root is there.
        let Some((folder, name)) = below.locate(path)? else {
            return Ok(());
        };
        let mode = Mode::from_raw_mode(FOLDER_MODE);
        mkdirat(folder, name, mode)
            // Whatever this process' umask.
            .and_then(|()| chmodat(folder, name, mode, AtFlags::empty()))
            .and_then(|()| match self.owner {
                Some((uid, gid)) => given(chownat(
                    folder,
                    name,
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )),
                None => Ok(()),
            })
            .map_err(|errno| io("create", &root.shown(path), errno.into()))
    }

    fn place(
        &self,
        hand: &mut Hand<'a>,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Entry>, SnapshotError> {
        let expected = wanted.entry;
        if expected.kind == Kind::File && link(hand, expected)? {
            return Ok(Some(expected.clone()));
        }
        if let Some((file, stat)) = hand.source.open(&expected.path)? {
            return self.copy(hand, wanted, file, stat).map(Some);
        }
        match hand.source.look(&expected.path)? {
            Some(Found::Symlink(target)) => self.make_symlink(hand, expected, &target).map(Some),
            // What became a folder is there by the files in it that the scan saw.
            Some(Found::File(_) | Found::Directory) | None => Ok(None),
        }
    }

    /// The time of what is there now.
    fn timed(&self, expected: &Entry, mut there: Entry) -> Entry {
        there.time = if there.is_same(expected) {
            expected.time
        } else {
            self.late
        };
        there
    }

    fn make_symlink(
        &self,
        hand: &mut Hand<'_>,
        expected: &Entry,
        target: &[u8],
    ) -> Result<Entry, SnapshotError> {
        let path = &expected.path;
        let root = self.target;
        let entry = self.timed(expected, Entry::symlink(path, target));
        let Some((folder, name)) = hand.target.locate(path)? else {
            return Err(io("create", &root.shown(path), Errno::NOENT.into()));
        };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        symlinkat(target, folder, name)
            .and_then(|()| match self.owner {
                Some((uid, gid)) => given(chownat(folder, name, Some(uid), Some(gid), flags)),
                None => Ok(()),
            })
            .and_then(|()| utimensat(folder, name, &entry.time.stamps(), flags))
            .map_err(|errno| io("create", &root.shown(path), errno.into()))?;
        Ok(entry)
    }

    /// The file's time is set last: a file that has it is whole.
    fn copy(
        &self,
        hand: &mut Hand<'_>,
        wanted: &Wanted<'_>,
        mut source: File,
        stat: FileStat,
    ) -> Result<Entry, SnapshotError> {
        let path = &wanted.entry.path;
        let root = self.target;
        let Some((folder, name)) = hand.target.locate(path)? else {
            return Err(io("create", &root.shown(path), Errno::NOENT.into()));
        };
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(folder, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| io("create", &root.shown(path), errno.into()))?;
        let mut target = File::from(made);
        let write = |bytes: &[u8]| {
            let written = (&target).write_all(bytes);
            written.map_err(|source| io("write", &root.shown(path), source))
        };
        let is_settled = wanted.settled == Some(stat);
        let known = if self.clone_file(&source, &target, path)? {
            known_content(wanted, &source, &stat, self.source)?
        } else if is_settled {
            hand.source.copy(path, &mut source, write)?;
            known_content(wanted, &source, &stat, self.source)?
        } else {
            Some(hand.source.digest(path, &mut source, write)?)
        };
        let (bytes, content) = match known {
            Some(known) => known,
            // Written meanwhile: what counts is what was taken.
            None => {
                let back = target.seek(SeekFrom::Start(0));
                back.map_err(|source| io("read", &root.shown(path), source))?;
                hand.source.digest(path, &mut target, |_| Ok(()))?
            }
        };
        let entry = self.timed(wanted.entry, Entry::file(path, &stat, bytes, content));
        let settle = || -> Result<(), Errno> {
            if let Some((uid, gid)) = self.owner {
                given(fchown(&target, Some(uid), Some(gid)))?;
            }
            fchmod(&target, Mode::from_raw_mode(entry.mode))?;
            futimens(&target, &entry.time.stamps())
        };
        settle().map_err(|errno| io("settle", &root.shown(path), errno.into()))?;
        Ok(entry)
    }

    /// Whether the target now shares the source's content. A file system that can't is asked once.
    fn clone_file(&self, source: &File, target: &File, path: &Path) -> Result<bool, SnapshotError> {
        if !self.can_clone.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match ioctl_ficlone(target, source) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
                self.can_clone.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(errno) => Err(io("clone into", &self.target.shown(path), errno.into())),
        }
    }
}

/// What a clone or copy holds, if the file was not written since the scan read it.
fn known_content(
    wanted: &Wanted<'_>,
    source: &File,
    stat: &FileStat,
    root: &Root,
) -> Result<Option<(u64, Content)>, SnapshotError> {
    let after = fstat(source)
        .map_err(|errno| io("look at", &root.shown(&wanted.entry.path), errno.into()))?;
    let settled = wanted.settled.as_ref();
    let is_unwritten = settled == Some(stat) && *stat == FileStat::of(&after);
    Ok(is_unwritten.then_some((wanted.entry.bytes, wanted.entry.content)))
}

/// Links the file of a donor that has the same content, mode and time. Files of a snapshot are never written, so two
/// trees can share one.
fn link(hand: &mut Hand<'_>, entry: &Entry) -> Result<bool, SnapshotError> {
    let Hand { target, donors, .. } = hand;
    for (donor, known) in donors {
        if known.find(entry.key()) != Some(entry) {
            continue;
        }
        let (Some((from, name)), Some((to, _))) =
            (donor.locate(&entry.path)?, target.locate(&entry.path)?)
        else {
            continue;
        };
        // A tree of another boot may have lost what was not on the disk yet.
        let is_as_noted = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| is_as_noted(&stat, entry));
        // Where a link can't be made, such as beyond the file system's most for one file, a copy can.
        if is_as_noted && linkat(from, name, to.as_fd(), name, AtFlags::empty()).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what lies in a tree is what its manifest says, by everything that a stat tells.
pub(super) fn is_as_noted(stat: &rustix::fs::Stat, entry: &Entry) -> bool {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Symlink,
        FileType::Directory => Kind::Directory,
        _ => return false,
    };
    let there = FileStat::of(stat);
    kind == entry.kind
        && match kind {
            Kind::Directory => true,
            Kind::Symlink => (there.bytes, there.modified) == (entry.bytes, entry.time),
            Kind::File => {
                (there.bytes, there.modified, there.permissions())
                    == (entry.bytes, entry.time, entry.mode)
            }
        }
}

pub(super) fn is_folder(entry: &Entry) -> bool {
    entry.kind == Kind::Directory
}

/// Where files can't be given away, such as inside a user namespace that has no such user, the modes decide who reads
/// them.
fn given(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::PERM | Errno::INVAL) => Ok(()),
        other => other,
    }
}
