//! Owns the look at the mounts that a run requires, before anything of the run is started.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, StatxAttributes, StatxFlags, accessat, statx};

/// The first of these paths at which nothing is mounted, or what is mounted can't be read.
///
/// Something is mounted where the file system is another one than the parent's. A pool on a plain directory shares its
/// device with the root: there the kernel's own word counts.
#[must_use]
pub fn first_missing(paths: &[String]) -> Option<&str> {
    paths
        .iter()
        .map(String::as_str)
        .find(|path| !is_mounted(Path::new(path)))
}

fn is_mounted(path: &Path) -> bool {
    let Ok(own) = std::fs::metadata(path) else {
        return false;
    };
    let differs = path
        .parent()
        .and_then(|parent| std::fs::metadata(parent).ok())
        .is_some_and(|parent| parent.dev() != own.dev());
    (differs || is_mount_root(path))
        && accessat(CWD, path, Access::READ_OK, AtFlags::empty()).is_ok()
}

fn is_mount_root(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes()) else {
        return false;
    };
    statx(CWD, &path, AtFlags::empty(), StatxFlags::empty()).is_ok_and(|facts| {
        facts
            .stx_attributes_mask
            .contains(StatxAttributes::MOUNT_ROOT)
            && facts.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_told_from_a_folder_and_from_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap().to_owned();
        let paths = ["/proc".to_owned(), folder.clone(), "/no/such".to_owned()];
        assert_eq!(first_missing(&paths), Some(folder.as_str()));
        assert_eq!(first_missing(&paths[2..]), Some("/no/such"));
        assert_eq!(first_missing(&paths[..1]), None);
    }
}
