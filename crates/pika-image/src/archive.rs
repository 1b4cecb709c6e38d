//! Reproducible tar archives and their compression.
//!
//! Owns the archive's bytes: sorted entries, fixed times and owners, and joining a base system with what is
//! laid over it. Never follows a link and never reads what it was not given.

use std::io::{self, Seek as _, SeekFrom, Write};
use std::path::{Component, Path};

use fs_err as fs;

/// Size of a tar block in bytes.
const BLOCK_BYTES: u64 = 512;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Directory,
    File(Vec<u8>),
    Symlink(String),
}

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Path inside the archive, without a leading slash.
    pub(crate) path: String,
    pub(crate) content: Content,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
}

impl Entry {
    pub(crate) fn directory(path: &str, mode: u32) -> Entry {
        Entry::new(path, Content::Directory, mode)
    }

    pub(crate) fn file(path: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Entry {
        Entry::new(path, Content::File(bytes.into()), mode)
    }

    pub(crate) fn symlink(path: &str, target: &str) -> Entry {
        Entry::new(path, Content::Symlink(target.to_owned()), 0o777)
    }

    pub(crate) fn owned_by(mut self, uid: u64, gid: u64) -> Entry {
        self.uid = uid;
        self.gid = gid;
        self
    }

    fn new(path: &str, content: Content, mode: u32) -> Entry {
        Entry {
            path: path.trim_start_matches('/').to_owned(),
            content,
            mode,
            uid: 0,
            gid: 0,
        }
    }
}

/// Writes the entries, sorted by path, all with the time `epoch_secs`, and the end of the archive.
pub(crate) fn write(target: impl Write, entries: &[Entry], epoch_secs: i64) -> io::Result<()> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut stream = Stream::new(target, epoch_secs);
    for entry in sorted {
        stream.append(entry)?;
    }
    stream.finish()
}

/// An archive that is written entry by entry, in the order in which they come, all with one time.
pub(crate) struct Stream<W: Write> {
    builder: tar::Builder<W>,
    epoch_secs: u64,
}

impl<W: Write> Stream<W> {
    pub(crate) fn new(target: W, epoch_secs: i64) -> Stream<W> {
        Stream {
            builder: tar::Builder::new(target),
            epoch_secs: epoch_secs.unsigned_abs(),
        }
    }

    pub(crate) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.uid);
        header.set_gid(entry.gid);
        header.set_mtime(self.epoch_secs);
        header.set_size(0);
        match &entry.content {
            Content::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                let path = format!("{}/", entry.path);
                self.builder.append_data(&mut header, path, io::empty())
            }
            Content::File(bytes) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(bytes.len() as u64);
                self.builder
                    .append_data(&mut header, &entry.path, bytes.as_slice())
            }
            Content::Symlink(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                self.builder.append_link(&mut header, &entry.path, target)
            }
        }
    }

    /// A file of root's with the content of a file of this machine, which is not held in memory.
    pub(crate) fn append_file(&mut self, path: &str, source: &Path, mode: u32) -> io::Result<()> {
        let file = fs::File::open(source)?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.epoch_secs);
        header.set_size(file.metadata()?.len());
        self.builder.append_data(&mut header, path, file)
    }

    /// Writes the end of the archive.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.builder.into_inner()?.flush()
    }
}

/// A relative path without `.` and `..`, as text.
pub(crate) fn plain(path: &Path) -> io::Result<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::CurDir => {}
            _ => {
                let reason = format!("{} leads out of its folder", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
    }
    Ok(parts.join("/"))
}

/// Cuts the end-of-archive blocks off, so that more entries can follow.
///
/// The true end is where the last entry's data ends: a file's own content may be zeros.
pub(crate) fn cut_end(path: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut end = 0;
    {
        let mut archive = tar::Archive::new(&mut file);
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let data_end = entry.raw_file_position() + entry.size();
            end = data_end.next_multiple_of(BLOCK_BYTES);
        }
    }
    if end == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} holds no entry", path.display()),
        ));
    }
    file.seek(SeekFrom::Start(0))?;
    file.set_len(end)
}

/// Joins files into one, byte by byte: compressed frames one after the other are one stream.
pub(crate) fn join(parts: &[impl AsRef<Path>], target: &Path) -> io::Result<()> {
    let mut output = fs::File::create(target)?;
    for part in parts {
        io::copy(&mut fs::File::open(part.as_ref())?, &mut output)?;
    }
    output.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bytes: &[u8]) -> Vec<String> {
        tar::Archive::new(bytes)
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .map(|name| name.trim_start_matches("./").to_owned())
            .collect()
    }

    #[test]
    fn the_order_of_the_entries_does_not_change_the_bytes() {
        let entries = [
            Entry::directory("/etc", 0o755),
            Entry::file("etc/b", "two", 0o644),
            Entry::symlink("etc/a", "b"),
        ];
        let reversed: Vec<_> = entries.iter().rev().cloned().collect();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        write(&mut one, &entries, 1_700_000_000).unwrap();
        write(&mut two, &reversed, 1_700_000_000).unwrap();
        assert_eq!(one, two);
        assert_eq!(names(&one), ["etc/", "etc/a", "etc/b"]);
    }

    #[test]
    fn an_archive_without_its_end_takes_more_entries() {
        let directory = tempfile::tempdir().unwrap();
        let (base, over, joined) = (
            directory.path().join("base"),
            directory.path().join("over"),
            directory.path().join("joined"),
        );
        // Ends in zeros, as an end of archive would, and is longer than a block.
        let zeros = vec![0; 1500];
        let long = "d/".repeat(80) + "file";
        write(
            fs::File::create(&base).unwrap(),
            &[
                Entry::file("a", zeros.clone(), 0o644),
                Entry::file(&long, zeros, 0o644),
            ],
            0,
        )
        .unwrap();
        write(
            fs::File::create(&over).unwrap(),
            &[Entry::file("z", "last", 0o644)],
            0,
        )
        .unwrap();
        cut_end(&base).unwrap();
        join(&[&base, &over], &joined).unwrap();
        let bytes = fs::read(&joined).unwrap();
        assert_eq!(names(&bytes), ["a".to_owned(), long, "z".to_owned()]);
    }

    #[test]
    fn a_path_that_leads_out_of_its_folder_is_refused() {
        assert_eq!(plain(Path::new("a/./b")).unwrap(), "a/b");
        assert!(plain(Path::new("a/../../b")).is_err());
        assert!(plain(Path::new("/a")).is_err());
    }

    #[test]
    fn an_empty_archive_has_no_end_to_cut() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.reopen().unwrap(), &[], 0).unwrap();
        assert_eq!(
            cut_end(file.path()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
