//! The private servers below one folder: which there are, whose they are, and their removal.
//!
//! Owns the names of directories that belong to one process, and what becomes of them when it is gone. Never touches a
//! directory that neither kind of server has its record in.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{BASE, told};
use crate::keeper::Keeper;
use crate::{daemon, postgres};

/// First word of the names of Incus daemons that belong to one process.
pub(crate) const INCUS: &str = "p";
/// First word of the names of PostgreSQL servers that belong to one process.
pub(crate) const POSTGRES: &str = "g";

/// What a private server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An Incus daemon.
    Incus,
    /// A PostgreSQL server.
    Postgres,
}

/// A directory that has the record of a private server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The directory.
    pub dir: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Processes of it are there.
    pub runs: bool,
}

/// All private servers of this machine, by directory.
pub fn servers() -> Vec<Server> {
    let mut found: Vec<Server> = directories()
        .into_iter()
        .filter_map(|dir| {
            Some(Server {
                kind: kind(&dir)?,
                runs: Keeper::find(&dir).is_some(),
                dir,
            })
        })
        .collect();
    found.sort_by(|one, other| one.dir.cmp(&other.dir));
    found
}

/// Removes the private server of a directory, of whichever kind, and everything that it left; done already is a
/// success.
pub fn clean(dir: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    match kind(dir) {
        Some(Kind::Postgres) => postgres::clean(dir)?,
        // A directory that is gone may have left a bridge.
        Some(Kind::Incus) | None => daemon::clean(dir)?,
    }
    Ok(())
}

/// Cleans what killed test processes left: directories below [`BASE`] whose process is gone. Gives what was cleaned.
pub fn sweep() -> Vec<PathBuf> {
    directories()
        .into_iter()
        .filter(|dir| is_orphan(dir))
        .filter(|dir| match clean(dir) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(dir = %dir.display(), error = %told(&*error), "an orphan stays");
                false
            }
        })
        .collect()
}

/// A directory below [`BASE`] that belongs to this process, and that no other value of it has.
pub(crate) fn dir_of_process(kind: &str, name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Path::new(BASE).join(format!("{kind}-{name}-{}-{next}", std::process::id()))
}

fn directories() -> Vec<PathBuf> {
    fs_err::read_dir(BASE).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect()
        },
    )
}

fn kind(dir: &Path) -> Option<Kind> {
    if daemon::has_record(dir) {
        return Some(Kind::Incus);
    }
    postgres::has_record(dir).then_some(Kind::Postgres)
}

/// `KIND-NAME-PID-N`, and no process has that number.
fn is_orphan(dir: &Path) -> bool {
    let name = dir.file_name().and_then(|name| name.to_str());
    let Some((INCUS | POSTGRES, rest)) = name.and_then(|name| name.split_once('-')) else {
        return false;
    };
    rest.rsplit('-')
        .nth(1)
        .and_then(|pid| pid.parse::<u32>().ok())
        .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_dead_processes_are_orphans() {
        let own = std::process::id();
        assert!(!is_orphan(Path::new(&format!("/x/p-kill-{own}-0"))));
        assert!(is_orphan(Path::new("/x/p-kill-it-4194399-12")));
        assert!(is_orphan(Path::new("/x/g-run-4194399-0")));
        assert!(!is_orphan(Path::new("/x/demo-1a2b3c4d")));
        assert!(!is_orphan(Path::new("/x/p-nonsense")));
    }
}
