//! PostgreSQL's own programs: where they are, and as whom they run.
//!
//! Owns the search. No PostgreSQL library is linked; what is asked of a server is asked through `psql`. Never hands the
//! caller's environment on, whose `PG...` variables could name another server.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program;

/// Where Debian and Ubuntu have a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Users that a server may run as, best first: it refuses root.
const USERS: &[&str] = &["postgres", "nobody"];

/// The programs of one version, and the user that a server runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    folder: PathBuf,
    user: User,
}

/// A user of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Programs {
    /// Those of the newest version that is installed.
    pub(super) fn find() -> Option<Programs> {
        let accounts = fs_err::read_to_string("/etc/passwd").ok()?;
        let folder = newest(Path::new(VERSIONS)).or_else(|| {
            let initdb = program::find("initdb")?;
            fs_err::canonicalize(initdb)
                .ok()?
                .parent()
                .map(Path::to_owned)
        })?;
        Some(Programs {
            folder,
            user: USERS.iter().find_map(|name| user(&accounts, name))?,
        })
    }

    pub(super) fn user(&self) -> &User {
        &self.user
    }

    /// A program of the folder, run as whoever calls.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        scrub(&mut command);
        command
    }

    /// Adds a program of the folder, run as the server's user, to a command that takes one.
    pub(super) fn add_as_user<'a>(&self, command: &'a mut Command, name: &str) -> &'a mut Command {
        scrub(command);
        command
            .arg("setpriv")
            .arg(format!("--reuid={}", self.user.uid))
            .arg(format!("--regid={}", self.user.gid))
            .args(["--clear-groups", "--"])
            .arg(self.folder.join(name))
    }
}

/// Whether a server can be started with what is installed.
pub fn is_installed() -> bool {
    Programs::find().is_some()
}

fn scrub(command: &mut Command) {
    command
        .env_clear()
        .env("PATH", program::path_with_system_folders())
        .env("LC_ALL", "C")
        .current_dir("/");
}

/// The folder of the newest version that has a server.
fn newest(versions: &Path) -> Option<PathBuf> {
    let (_, folder) = fs_err::read_dir(versions)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            let is_whole = ["initdb", "postgres", "pg_ctl", "psql"]
                .iter()
                .all(|name| folder.join(name).is_file());
            is_whole.then_some((version, folder))
        })
        .max()?;
    Some(folder)
}

/// A user of this name in the text of /etc/passwd.
fn user(accounts: &str, name: &str) -> Option<User> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        Some(User {
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_version_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let versions = folder.path();
        assert_eq!(newest(versions), None);
        for (version, programs) in [
            ("9", &["initdb", "postgres", "pg_ctl", "psql"][..]),
            ("15", &["initdb", "postgres", "pg_ctl", "psql"]),
            ("17", &["psql"]),
            ("old", &["initdb", "postgres", "pg_ctl", "psql"]),
        ] {
            let bin = versions.join(version).join("bin");
            fs_err::create_dir_all(&bin).unwrap();
            for program in programs {
                fs_err::write(bin.join(program), "").unwrap();
            }
        }
        assert_eq!(newest(versions), Some(versions.join("15/bin")));
    }

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let accounts = "root:x:0:0:root:/root:/bin/bash\npostgresql:x:7:8::/:\npostgres:x:101:104:A,,,:/var:/bin/bash\n";
        let found = user(accounts, "postgres");
        assert_eq!(found, Some(User { uid: 101, gid: 104 }));
        assert_eq!(user(accounts, "nobody"), None);
    }
}
