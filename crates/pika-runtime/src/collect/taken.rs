//! Owns the host's side of a collection: a directory that nothing can be written outside of, and the account
//! of what was taken, refused or cut off. Never opens a path that a guest named other than beneath that
//! directory, and never overwrites.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::archive::ArchiveSink;
use super::limits::show_name;

/// A file that was taken from a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CollectedFile {
    /// Its name below the target directory; control characters, backslashes and bytes that are not UTF-8 are
    /// shown as `\xNN`.
    pub name: String,
    /// The name's bytes in hex, only where `name` is not the name itself. The file on disk has these bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_hex: Option<String>,
    /// Its size in bytes.
    pub bytes: u64,
    /// Digest of its bytes as they were written, in hex.
    pub sha256: String,
}

impl CollectedFile {
    /// Where it is below the target directory, by the name's own bytes.
    pub fn path(&self) -> PathBuf {
        let bytes = self.name_hex.as_ref().and_then(|hex| hex::decode(hex).ok());
        match bytes {
            Some(bytes) => PathBuf::from(OsString::from_vec(bytes)),
            None => PathBuf::from(&self.name),
        }
    }
}

/// Something that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedFile {
    /// Its name, shown like [`CollectedFile::name`].
    pub name: String,
    /// Why.
    pub why: String,
}

/// Files written below one directory, and the account of them.
#[derive(Debug)]
pub(crate) struct Taken {
    root: OwnedFd,
    made: BTreeSet<Vec<u8>>,
    open: Option<OpenFile>,
    refusals_listed_max: usize,
    /// What was written.
    pub files: Vec<CollectedFile>,
    /// The first refusals, as many as the limits list.
    pub refused: Vec<RefusedFile>,
    /// All refusals, listed or not.
    pub refused_count: u64,
}

#[derive(Debug)]
struct OpenFile {
    name: Vec<u8>,
    file: File,
    bytes: u64,
    digest: Sha256,
}

/// Neither a link nor `..` nor a magic link can lead out of the directory.
const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

impl Taken {
    /// Opens `into`, made if it is not there.
    pub(crate) fn open(into: &Path, refusals_listed_max: usize) -> io::Result<Self> {
        std::fs::create_dir_all(into)?;
        let root = rustix::fs::open(
            into,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self {
            root,
            made: BTreeSet::new(),
            open: None,
            refusals_listed_max,
            files: Vec::new(),
            refused: Vec::new(),
            refused_count: 0,
        })
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn make_parents(&mut self, components: &[&[u8]]) -> io::Result<()> {
        for depth in 1..components.len() {
            let parent = components[..depth].join(&b'/');
            if self.made.contains(&parent) {
                continue;
            }
            // The parent of this directory was made or checked in the round before, so that a name in it can't
            // be a way out; a link put there by someone else is caught by the open below.
            match rustix::fs::mkdirat(&self.root, parent.as_slice(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat2(&self.root, parent.as_slice(), flags, Mode::empty(), INSIDE)?;
            self.made.insert(parent);
        }
        Ok(())
    }

    fn create(&mut self, components: &[&[u8]]) -> io::Result<()> {
        self.make_parents(components)?;
        let name = components.join(&b'/');
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(
            &self.root,
            name.as_slice(),
            flags,
            Mode::from_raw_mode(0o644),
            INSIDE,
        )?;
        self.open = Some(OpenFile {
            name,
            file: File::from(file),
            bytes: 0,
            digest: Sha256::new(),
        });
        Ok(())
    }
}

impl ArchiveSink for Taken {
    fn begin(&mut self, components: &[&[u8]], _size: u64) -> Result<(), String> {
        self.create(components).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => "a file of this name was taken already".to_owned(),
            _ => format!("the host can't make the file: {error}"),
        })
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            open.file.write_all(bytes)?;
            open.bytes += bytes.len() as u64;
            open.digest.update(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some(open) = self.open.take() {
            let name = show_name(&open.name);
            let name_hex = (name.as_bytes() != open.name).then(|| hex::encode(&open.name));
            self.files.push(CollectedFile {
                name,
                name_hex,
                bytes: open.bytes,
                sha256: hex::encode(open.digest.finalize()),
            });
        }
        Ok(())
    }

    fn abort(&mut self) {
        if let Some(open) = self.open.take() {
            // Half a file is worse than none; the account never lists it.
            if let Err(error) =
                rustix::fs::unlinkat(&self.root, open.name.as_slice(), AtFlags::empty())
            {
                tracing::warn!(%error, "half a collected file is left");
            }
        }
    }

    fn refused(&mut self, name: &[u8], why: String) {
        self.refused_count += 1;
        if self.refused.len() < self.refusals_listed_max {
            let shown = &name[..name.len().min(1024)];
            self.refused.push(RefusedFile {
                name: show_name(shown),
                why,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn files_land_below_the_directory_with_plain_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let mut taken = Taken::open(&dir.path().join("into"), 10).unwrap();
        taken.begin(&[b"artifacts", b"deep", b"\xff"], 3).unwrap();
        taken.data(b"abc").unwrap();
        taken.end().unwrap();
        let path = dir
            .path()
            .join("into/artifacts/deep")
            .join(std::ffi::OsStr::from_bytes(b"\xff"));
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o644
        );
        assert_eq!(taken.files[0].name, "artifacts/deep/\\xff");
        assert_eq!(
            taken.files[0].name_hex.as_deref(),
            Some("6172746966616374732f646565702fff")
        );
        assert_eq!(dir.path().join("into").join(taken.files[0].path()), path);
        assert_eq!(
            taken.files[0].sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("artifacts")).unwrap();
        symlink(outside.path().join("x"), dir.path().join("y")).unwrap();
        let mut taken = Taken::open(dir.path(), 10).unwrap();
        taken.begin(&[b"artifacts", b"x"], 1).unwrap_err();
        taken.begin(&[b"y"], 1).unwrap_err();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_second_file_of_a_name_is_refused_and_an_aborted_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut taken = Taken::open(dir.path(), 1).unwrap();
        taken.begin(&[b"a"], 0).unwrap();
        taken.end().unwrap();
        assert!(taken.begin(&[b"a"], 0).unwrap_err().contains("already"));
        taken.begin(&[b"half"], 9).unwrap();
        taken.data(b"1234").unwrap();
        taken.abort();
        assert!(!dir.path().join("half").exists());
        taken.refused(b"x", "one".to_owned());
        taken.refused(b"y", "two".to_owned());
        assert_eq!((taken.refused.len(), taken.refused_count), (1, 2));
    }
}
