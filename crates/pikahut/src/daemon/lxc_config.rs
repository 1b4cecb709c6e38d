//! LXC's own configuration for a private daemon: the system's, without a pause of half a second.
//!
//! Owns a copy of `/usr/share/lxc/config` in the daemon's directory. Debian's lxcfs adds a hook that sleeps 0.5 s
//! after each stop of a container and mounts lxcfs's files at each start; the copy leaves out the first, and the
//! second where lxcfs doesn't run. The system's files are never changed.

use std::io;
use std::path::{Path, PathBuf};

use super::layout::Layout;

const SYSTEM_FOLDER: &str = "/usr/share/lxc/config";
/// Where lxcfs is mounted when it runs.
const LXCFS: &str = "/var/lib/lxcfs";

/// Environment variable by which incusd is told where LXC's configuration is.
pub(crate) const VARIABLE: &str = "INCUS_LXC_TEMPLATE_CONFIG";

/// Makes the copy; `None` where the system has no such folder and the daemon knows better.
pub(crate) fn prepare(layout: &Layout) -> io::Result<Option<PathBuf>> {
    let system = Path::new(SYSTEM_FOLDER);
    if !system.is_dir() {
        return Ok(None);
    }
    let own = layout.dir().join("lxc-config");
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let has_lxcfs = mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(LXCFS));
    copy(system, &own, &|line| rewrite(line, &own, has_lxcfs))?;
    Ok(Some(own))
}

fn copy(from: &Path, to: &Path, rewrite: &dyn Fn(&str) -> Option<String>) -> io::Result<()> {
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target, rewrite)?;
            continue;
        }
        let text = fs_err::read_to_string(&path)?;
        let lines: Vec<String> = text.lines().filter_map(rewrite).collect();
        fs_err::write(target, lines.join("\n") + "\n")?;
    }
    Ok(())
}

/// A line as the copy has it, or nothing.
fn rewrite(line: &str, own: &Path, has_lxcfs: bool) -> Option<String> {
    let pauses = line.starts_with("lxc.hook.post-stop") && line.contains("/lxcfs/");
    let mounts_lxcfs = line.starts_with("lxc.hook.mount") && line.contains("/lxcfs/");
    if pauses || (mounts_lxcfs && !has_lxcfs) {
        return None;
    }
    Some(line.replace(SYSTEM_FOLDER, &own.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_includes_itself_and_has_no_pause() {
        let own = Path::new("/var/lib/x/lxc-config");
        let line = |text, lxcfs| rewrite(text, own, lxcfs);
        assert_eq!(
            line("lxc.include = /usr/share/lxc/config/common.conf.d/", false).unwrap(),
            "lxc.include = /var/lib/x/lxc-config/common.conf.d/"
        );
        assert_eq!(
            line(
                "lxc.hook.post-stop = /usr/share/lxcfs/lxc.reboot.hook",
                true
            ),
            None
        );
        let mount = "lxc.hook.mount = /usr/share/lxcfs/lxc.mount.hook";
        assert_eq!(line(mount, true).unwrap(), mount);
        assert_eq!(line(mount, false), None);
        assert_eq!(
            line("lxc.mount.auto = proc", false).unwrap(),
            "lxc.mount.auto = proc"
        );
    }
}
