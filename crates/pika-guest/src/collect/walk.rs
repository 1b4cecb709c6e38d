//! Owns the walk through the artifacts: by descriptors, depth first, without following anything.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir as Entries, FileType, Mode, OFlags, ResolveFlags, fstat, openat2, statat,
};

use super::{Archive, CollectError, NAMES_MAX};
use crate::files::Dir;
use crate::glob::Glob;
use crate::layout::ARTIFACTS_DIR;

/// Directories below each other that are entered, at most. Each costs a descriptor.
const DEPTH_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 4096;

/// Nothing above, no links of any kind, no other file system.
const STRICT: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Adds every regular file that a pattern chooses.
pub(super) fn walk<W: Write>(
    artifacts: &Dir,
    globs: &[Glob],
    archive: &mut Archive<W>,
) -> Result<(), CollectError> {
    let root = match Entries::read_from(artifacts) {
        Ok(root) => root,
        Err(error) => {
            archive.refuse(
                ARTIFACTS_DIR.as_bytes(),
                &io::Error::from(error).to_string(),
            );
            return Ok(());
        }
    };
    let mut walk = Walk {
        globs,
        archive,
        path: Vec::new(),
        stack: vec![root],
        names_left: NAMES_MAX,
    };
    while let Some(entries) = walk.stack.last_mut() {
        match entries.next() {
            Some(Ok(entry)) => walk.visit(entry.file_name())?,
            Some(Err(error)) => {
                walk.refuse_path(&io::Error::from(error).to_string());
                walk.leave();
            }
            None => walk.leave(),
        }
        if walk.names_left == 0 || walk.archive.is_full() {
            walk.archive.summary.truncated = true;
            break;
        }
    }
    Ok(())
}

struct Walk<'a, W: Write> {
    globs: &'a [Glob],
    archive: &'a mut Archive<W>,
    path: Vec<Vec<u8>>,
    stack: Vec<Entries>,
    names_left: u64,
}

impl<W: Write> Walk<'_, W> {
    fn leave(&mut self) {
        self.stack.pop();
        self.path.pop();
    }

    fn visit(&mut self, name: &CStr) -> Result<(), CollectError> {
        let bytes = name.to_bytes();
        if bytes == b"." || bytes == b".." {
            return Ok(());
        }
        self.names_left -= 1;
        self.path.push(bytes.to_vec());
        let entered = self.visit_last(name)?;
        if !entered {
            self.path.pop();
        }
        Ok(())
    }

    /// Looks at the name that the path ends with. Whether it is a directory that was entered.
    fn visit_last(&mut self, name: &CStr) -> Result<bool, CollectError> {
        let Some(parent) = self.stack.last() else {
            return Ok(false);
        };
        let looked = parent
            .fd()
            .and_then(|parent| statat(parent, name, AtFlags::SYMLINK_NOFOLLOW));
        let kind = match looked {
            Ok(facts) => FileType::from_raw_mode(facts.st_mode),
            // Removed since it was listed.
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            Err(error) => {
                self.refuse_path(&io::Error::from(error).to_string());
                return Ok(false);
            }
        };
        if kind == FileType::Directory {
            return Ok(self.enter(name));
        }
        if !self.is_wanted() {
            return Ok(false);
        }
        match kind {
            FileType::RegularFile => self.add(name)?,
            FileType::Symlink => self.refuse_path("it is a symlink"),
            FileType::Fifo => self.refuse_path("it is a FIFO"),
            FileType::Socket => self.refuse_path("it is a socket"),
            FileType::CharacterDevice | FileType::BlockDevice => self.refuse_path("it is a device"),
            _ => self.refuse_path("it is no regular file"),
        }
        Ok(false)
    }

    fn enter(&mut self, name: &CStr) -> bool {
        if self.stack.len() >= DEPTH_MAX {
            self.archive.summary.truncated = true;
            self.refuse_path("it is too deep");
            return false;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entries = self
            .open(name, flags)
            .and_then(|fd| Entries::read_from(&fd));
        match entries {
            Ok(entries) => {
                self.stack.push(entries);
                true
            }
            Err(error) => {
                self.refuse_path(&io::Error::from(error).to_string());
                false
            }
        }
    }

    fn open(&self, name: &CStr, flags: OFlags) -> rustix::io::Result<rustix::fd::OwnedFd> {
        let parent = self.stack.last().ok_or(rustix::io::Errno::NOENT)?;
        openat2(parent.fd()?, name, flags, Mode::empty(), STRICT)
    }

    /// Opens what was a regular file a moment ago; what it is now is looked at again.
    fn add(&mut self, name: &CStr) -> Result<(), CollectError> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = self
            .open(name, flags)
            .and_then(|fd| fstat(&fd).map(|facts| (fd, facts)));
        let (fd, facts) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.refuse_path(&io::Error::from(error).to_string());
                return Ok(());
            }
        };
        if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
            self.refuse_path(
                "it was swapped while it was collected, and is no regular file any more",
            );
            return Ok(());
        }
        let path = self.archive_path();
        if path.len() > PATH_BYTES_MAX {
            self.refuse_path("its path is too long");
            return Ok(());
        }
        self.archive
            .add(File::from(fd), Path::new(OsStr::from_bytes(&path)))
    }

    fn is_wanted(&self) -> bool {
        let path: Vec<&[u8]> = self.path.iter().map(Vec::as_slice).collect();
        self.globs.iter().any(|glob| glob.matches(&path))
    }

    fn refuse_path(&mut self, why: &str) {
        let path = self.archive_path();
        self.archive.refuse(&path, why);
    }

    fn archive_path(&self) -> Vec<u8> {
        let mut path = ARTIFACTS_DIR.as_bytes().to_vec();
        for name in &self.path {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }
}
