//! A guest's file system as the files API sees it: enough kinds and attributes to lie like the real one.

use std::collections::BTreeMap;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestNode {
    /// A regular file.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(String),
    /// A named pipe: HEAD calls it a file of length 0, GET never answers.
    Fifo,
}

/// A node with its attributes.
#[derive(Debug, Clone)]
pub struct GuestEntry {
    /// Kind and content.
    pub node: GuestNode,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Why a change was refused, in the daemon's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FilesError {
    NotFound,
    NotEmpty,
    Exists,
}

/// Directories that every guest has.
const DIRECTORIES: [&str; 10] = [
    "/", "/etc", "/home", "/mnt", "/root", "/run", "/tmp", "/usr", "/var", "/var/lib",
];

/// Everything in a guest that isn't in `DIRECTORIES`.
#[derive(Debug, Clone, Default)]
pub struct GuestFiles {
    entries: BTreeMap<String, GuestEntry>,
}

impl GuestFiles {
    /// Puts a node there, whatever was there before; parents are not needed.
    pub fn put(&mut self, path: &str, node: GuestNode, mode: u32, uid: u32) {
        self.entries.insert(
            normal(path),
            GuestEntry {
                node,
                mode,
                uid,
                gid: uid,
            },
        );
    }

    /// The entry at a path, without following links.
    pub fn get(&self, path: &str) -> Option<GuestEntry> {
        let path = normal(path);
        if let Some(entry) = self.entries.get(&path) {
            return Some(entry.clone());
        }
        DIRECTORIES.contains(&path.as_str()).then_some(GuestEntry {
            node: GuestNode::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
        })
    }

    /// Names in a directory.
    pub fn list(&self, path: &str) -> Vec<String> {
        let path = normal(path);
        let prefix = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        let built_in = DIRECTORIES.iter().copied();
        let mut names: Vec<String> = self
            .entries
            .keys()
            .map(String::as_str)
            .chain(built_in)
            .filter_map(|entry| entry.strip_prefix(prefix.as_str()))
            .filter(|rest| !rest.is_empty() && !rest.contains('/'))
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        names
    }

    pub(crate) fn write(&mut self, path: &str, mut entry: GuestEntry) -> Result<(), FilesError> {
        let path = normal(path);
        self.need_parent(&path)?;
        if let Some(old) = self.get(&path) {
            match (&old.node, &entry.node) {
                (GuestNode::Directory, GuestNode::Directory) => return Ok(()),
                (GuestNode::Directory, _) => return Err(FilesError::Exists),
                (GuestNode::File(_), GuestNode::File(_)) => {}
                _ => entry.node = entry.node.clone(),
            }
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    pub(crate) fn append(&mut self, path: &str, more: &[u8]) -> Result<bool, FilesError> {
        match self.entries.get_mut(&normal(path)) {
            Some(GuestEntry {
                node: GuestNode::File(content),
                ..
            }) => {
                content.extend_from_slice(more);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    pub(crate) fn remove(&mut self, path: &str, recursive: bool) -> Result<(), FilesError> {
        let path = normal(path);
        if self.get(&path).is_none() {
            return Err(FilesError::NotFound);
        }
        if !recursive && !self.list(&path).is_empty() {
            return Err(FilesError::NotEmpty);
        }
        let below = format!("{path}/");
        self.entries
            .retain(|entry, _| *entry != path && !entry.starts_with(&below));
        Ok(())
    }

    /// A stop empties `/run` and `/tmp`, which are tmpfs.
    pub(crate) fn forget_tmpfs(&mut self) {
        self.entries
            .retain(|path, _| !path.starts_with("/run/") && !path.starts_with("/tmp/"));
    }

    fn need_parent(&self, path: &str) -> Result<(), FilesError> {
        let parent = match path.rfind('/') {
            Some(0) | None => "/",
            Some(end) => &path[..end],
        };
        match self.get(parent) {
            Some(GuestEntry {
                node: GuestNode::Directory,
                ..
            }) => Ok(()),
            _ => Err(FilesError::NotFound),
        }
    }
}

fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}
