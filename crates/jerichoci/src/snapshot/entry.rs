//! What a snapshot is made of: one entry for each file, link and folder, in the byte order of their paths.
//!
//! Pure: it hashes what others read.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rustix::fs::{Stat, Timespec, Timestamps};
use sha2::{Digest, Sha256};

/// SHA-256 of a file's bytes, of a link's target, or of the names in a folder.
pub(super) type Content = [u8; 32];

/// Of a folder with nothing in it.
static EMPTY_CONTENT: LazyLock<Content> = LazyLock::new(|| Sha256::digest([]).into());

/// A time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Time {
    pub(super) secs: i64,
    pub(super) nanos: u32,
}

impl Time {
    /// The clock's time.
    pub(super) fn now() -> Self {
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self::new(clock.tv_sec, clock.tv_nsec)
    }

    /// A second and a fraction as the system tells them.
    pub(super) fn new(secs: i64, nanos: i64) -> Self {
        let nanos = u32::try_from(nanos).unwrap_or(0);
        Self { secs, nanos }
    }

    /// The first time after this one.
    pub(super) fn next(self) -> Self {
        match self.nanos {
            999_999_999.. => Self {
                secs: self.secs.saturating_add(1),
                nanos: 0,
            },
            nanos => Self {
                nanos: nanos + 1,
                ..self
            },
        }
    }

    /// As access and modification time.
    pub(super) fn stamps(self) -> Timestamps {
        let stamp = Timespec {
            tv_sec: self.secs,
            tv_nsec: self.nanos.into(),
        };
        Timestamps {
            last_access: stamp,
            last_modification: stamp,
        }
    }
}

/// What an entry is; the number goes into files and digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File = b'f' as isize,
    Symlink = b'l' as isize,
    Directory = b'd' as isize,
}

impl Kind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::File, Self::Symlink, Self::Directory]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One entry of a snapshot. The root folder's path is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Permission bits; 0 for what has none of its own.
    pub(super) mode: u32,
    /// Bytes of a file or of a link's target.
    pub(super) bytes: u64,
    pub(super) content: Content,
    /// The time that it has in the snapshot.
    pub(super) time: Time,
}

impl Entry {
    pub(super) fn symlink(path: &Path, target: &[u8]) -> Self {
        Self {
            path: path.to_owned(),
            kind: Kind::Symlink,
            mode: 0,
            bytes: target.len() as u64,
            content: Sha256::digest(target).into(),
            time: Time::default(),
        }
    }

    pub(super) fn file(path: &Path, stat: &FileStat, bytes: u64, content: Content) -> Self {
        Self {
            path: path.to_owned(),
            kind: Kind::File,
            mode: stat.permissions(),
            bytes,
            content,
            time: Time::default(),
        }
    }

    /// A folder with nothing in it.
    pub(super) fn directory(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            kind: Kind::Directory,
            mode: 0,
            bytes: 0,
            content: *EMPTY_CONTENT,
            time: Time::default(),
        }
    }

    /// Whether it is what git lists: no folder, or one with nothing in it.
    pub(super) fn is_leaf(&self) -> bool {
        let is_root = self.path.as_os_str().is_empty();
        self.kind != Kind::Directory || (self.content == *EMPTY_CONTENT && !is_root)
    }

    /// Whether two entries of one path differ in nothing but their time.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.kind, self.mode, self.bytes, self.content)
            == (other.kind, other.mode, other.bytes, other.content)
    }

    pub(super) fn key(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }
}

/// What tells that a file was not written since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStat {
    pub(super) bytes: u64,
    pub(super) modified: Time,
    pub(super) changed: Time,
    pub(super) inode: u64,
    pub(super) mode: u32,
}

impl FileStat {
    #[expect(
        clippy::unnecessary_cast,
        reason = "the fields' widths differ between architectures"
    )]
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: Time::new(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: Time::new(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            inode: stat.st_ino as u64,
            mode: stat.st_mode as u32,
        }
    }

    pub(super) fn permissions(&self) -> u32 {
        self.mode & 0o777
    }
}

/// Adds the folders that hold the entries, each with the names in it as its content, and puts all in order. Cargo
/// looks at folders' times too, where a build script watches one.
pub(super) fn with_folders(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut holding: HashSet<PathBuf> = HashSet::from([PathBuf::new()]);
    let mut last = PathBuf::new();
    for entry in &entries {
        let parent = parent_of(&entry.path);
        if parent.as_os_str() == last.as_os_str() {
            continue;
        }
        last = parent.to_owned();
        for folder in parent.ancestors() {
            if !holding.insert(folder.to_owned()) {
                break;
            }
        }
    }
    // A file whose place was taken by a folder while the tree was looked at is no longer there.
    entries.retain(|entry| !holding.contains(&entry.path));
    let mut folders: Vec<Entry> = holding.iter().map(|path| Entry::directory(path)).collect();
    folders.sort_unstable_by(|a, b| a.key().cmp(b.key()));
    entries.append(&mut folders);
    // Two runs that are in order already.
    entries.sort_by(|a, b| a.key().cmp(b.key()));
    name_contents(&mut entries);
    entries
}

/// Gives each folder the digest of what is directly in it.
fn name_contents(entries: &mut [Entry]) {
    let mut hashers: Vec<Sha256> = Vec::new();
    let mut index_of: HashMap<&Path, usize> = HashMap::new();
    let mut last: Option<(&Path, usize)> = None;
    for entry in &*entries {
        let Some(name) = entry.path.file_name() else {
            continue;
        };
        let parent = parent_of(&entry.path);
        let index = match last {
            Some((path, index)) if path.as_os_str() == parent.as_os_str() => index,
            _ => *index_of.entry(parent).or_insert_with(|| {
                hashers.push(Sha256::new());
                hashers.len() - 1
            }),
        };
        last = Some((parent, index));
        let hasher = &mut hashers[index];
        hasher.update([entry.kind as u8]);
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    let mut contents: HashMap<PathBuf, Content> = HashMap::new();
    for (path, index) in index_of {
        contents.insert(path.to_owned(), hashers[index].clone().finalize().into());
    }
    for entry in entries
        .iter_mut()
        .filter(|entry| entry.kind == Kind::Directory)
    {
        if let Some(content) = contents.remove(&entry.path) {
            entry.content = content;
        }
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Over kind, mode, path and content of each entry, every part with its length before it; times don't count.
pub(super) fn content_digest(entries: &[Entry]) -> Content {
    let mut hasher = Sha256::new();
    hasher.update(b"pikaci snapshot 2\0");
    for entry in entries {
        hasher.update([entry.kind as u8]);
        hasher.update(entry.mode.to_le_bytes());
        hasher.update((entry.key().len() as u64).to_le_bytes());
        hasher.update(entry.key());
        hasher.update(entry.content);
    }
    hasher.finalize().into()
}

/// Finds paths in a list that is in byte order. Asked in the same order, each answer is one comparison.
pub(super) struct Cursor<'a, T> {
    list: &'a [T],
    key: fn(&T) -> &[u8],
    next: usize,
}

impl<'a, T> Cursor<'a, T> {
    pub(super) fn new(list: &'a [T], key: fn(&T) -> &[u8]) -> Self {
        Self { list, key, next: 0 }
    }

    pub(super) fn find(&mut self, path: &[u8]) -> Option<&'a T> {
        let index = self.find_index(path)?;
        self.list.get(index)
    }

    pub(super) fn find_index(&mut self, path: &[u8]) -> Option<usize> {
        let is_it = |index: usize| {
            self.list
                .get(index)
                .is_some_and(|item| (self.key)(item) == path)
        };
        // Folders lie between what is asked for.
        if let Some(index) = (self.next..self.next + 2).find(|index| is_it(*index)) {
            self.next = index + 1;
            return Some(index);
        }
        self.next = self.list.partition_point(|item| (self.key)(item) < path);
        is_it(self.next).then_some(self.next)
    }
}

pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
