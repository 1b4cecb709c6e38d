//! The package of PostgreSQL without the cluster that it would make and start.
//!
//! Owns one file of settings, which is there while the package is installed and at no other time: whoever makes a
//! cluster of the system's later gets what they would have got. Never touches a cluster that is there.

use std::path::{Path, PathBuf};

/// Settings that the package reads beside its own, where there are any.
pub(super) const CLUSTER_SETTINGS: &str = "/etc/postgresql-common/createcluster.d";

const FILE: &str = "pikahut.conf";
const TEXT: &str =
    "# Only while pikahut installs the server for tests.\ncreate_main_cluster = false\n";

/// The request not to make a cluster; it ends with the value.
#[derive(Debug)]
pub(super) struct NoCluster {
    /// The file, then those of its folders that were not there before, innermost first.
    made: Vec<PathBuf>,
}

impl NoCluster {
    /// Writes the file.
    pub(super) fn ask(folder: &Path) -> std::io::Result<NoCluster> {
        let absent = folder.ancestors().take_while(|path| !path.exists());
        let made = std::iter::once(folder.join(FILE))
            .chain(absent.map(Path::to_owned))
            .collect();
        let request = NoCluster { made };
        fs_err::create_dir_all(folder)?;
        fs_err::write(folder.join(FILE), TEXT)?;
        Ok(request)
    }

    /// Removes the file, and its folders unless the package has put something into them.
    pub(super) fn take_back(mut self) -> std::io::Result<()> {
        remove(&std::mem::take(&mut self.made))
    }
}

impl Drop for NoCluster {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.made) {
            tracing::warn!(%error, "the setting that keeps a cluster of the system's from being made stays");
        }
    }
}

fn remove(made: &[PathBuf]) -> std::io::Result<()> {
    let Some((file, folders)) = made.split_first() else {
        return Ok(());
    };
    fs_err::remove_file(file)?;
    for folder in folders {
        match fs_err::remove_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => break,
            removed => removed?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_leaves_what_was_there_and_what_came_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        let common = root.path().join("postgresql-common");
        let folder = common.join("createcluster.d");
        let request = NoCluster::ask(&folder).unwrap();
        let text = fs_err::read_to_string(folder.join(FILE)).unwrap();
        assert!(text.ends_with("\ncreate_main_cluster = false\n"), "{text}");
        fs_err::write(common.join("createcluster.conf"), "package's").unwrap();
        request.take_back().unwrap();
        assert!(!folder.exists() && common.join("createcluster.conf").exists());

        fs_err::create_dir(&folder).unwrap();
        drop(NoCluster::ask(&folder).unwrap());
        assert!(folder.exists() && !folder.join(FILE).exists());
    }
}
