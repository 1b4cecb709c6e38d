//! What only this host can tell: kernel limits and LXC's configuration.
//!
//! Owns the checks of files below `/proc/sys` and `/usr/share/lxc`. Reads, never writes.

use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;

/// Below this, about fourteen systemd guests use the limit up.
const INOTIFY_INSTANCES_MIN: u64 = 1024;
const INOTIFY_PATH: &str = "/proc/sys/fs/inotify/max_user_instances";
const LXC_DIRECTORY: &str = "/usr/share/lxc/config";
const SYSTEM_SOCKET: &str = "/var/lib/incus/unix.socket";

/// Checks what concerns the daemon behind `socket`, whose process id on this host is `daemon_pid` if known.
pub(super) fn check(socket: &Path, daemon_pid: Option<i64>) -> Vec<Finding> {
    let mut findings = vec![inotify(&fs::read_to_string(INOTIFY_PATH))];
    // A private daemon brings its own LXC configuration.
    if socket == Path::new(SYSTEM_SOCKET) {
        let directory = daemon_pid
            .and_then(lxc_directory)
            .unwrap_or_else(|| LXC_DIRECTORY.into());
        let path = directory.join("common.conf.d/00-lxcfs.conf");
        findings.push(stop_pause(&path, &fs::read_to_string(&path)));
    }
    findings
}

/// The directory that the daemon was told to take LXC's configuration from.
fn lxc_directory(daemon_pid: i64) -> Option<PathBuf> {
    let environment = fs::read(format!("/proc/{daemon_pid}/environ")).ok()?;
    let variable = b"INCUS_LXC_TEMPLATE_CONFIG=";
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(variable))?;
    Some(PathBuf::from(String::from_utf8(value.to_vec()).ok()?))
}

fn inotify(read: &std::io::Result<String>) -> Finding {
    let check = "inotify limit";
    let instances = match read {
        Ok(text) => text.trim().parse::<u64>().ok(),
        Err(_) => None,
    };
    let Some(instances) = instances else {
        return Finding::not_checked(check, format!("{INOTIFY_PATH} can't be read"));
    };
    if instances >= INOTIFY_INSTANCES_MIN {
        return Finding::good(check, format!("{instances} instances for each user"));
    }
    Finding::problem(check, format!("{instances} instances for each user"))
        .why("a systemd guest takes about 7; past the limit guests degrade or die while their start reports success")
        .remedy(format!("sysctl -w fs.inotify.max_user_instances={INOTIFY_INSTANCES_MIN} (and in /etc/sysctl.d)"))
}

/// Debian's lxcfs adds a hook that sleeps after every stop.
fn stop_pause(path: &Path, read: &std::io::Result<String>) -> Finding {
    let check = "stop hook";
    let pauses = match read {
        Ok(text) => text.lines().any(is_pause),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(_) => return Finding::not_checked(check, format!("{} can't be read", path.display())),
    };
    if !pauses {
        return Finding::good(check, "no pause after a container's stop");
    }
    Finding::warning(check, format!("{} pauses after every stop of a container", path.display()))
        .why("each forced stop takes half a second longer than it must")
        .remedy(
            "copy /usr/share/lxc/config to /etc/incus/lxc-config, take the post-stop hook out of the copy, and let \
             incusd start with Environment=INCUS_LXC_TEMPLATE_CONFIG=/etc/incus/lxc-config (systemctl edit incus)",
        )
}

fn is_pause(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("lxc.hook.post-stop") && line.contains("lxc.reboot.hook")
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;
    use crate::doctor::Health;

    #[test]
    fn a_small_inotify_limit_is_a_problem_and_an_unreadable_one_is_unknown() {
        assert_eq!(inotify(&Ok("1024\n".to_owned())).health, Health::Good);
        assert_eq!(inotify(&Ok("128\n".to_owned())).health, Health::Problem);
        assert_eq!(inotify(&Ok("many".to_owned())).health, Health::NotChecked);
        assert_eq!(
            inotify(&Err(Error::from(ErrorKind::NotFound))).health,
            Health::NotChecked
        );
    }

    #[test]
    fn the_pausing_hook_is_a_warning_and_its_absence_is_good() {
        let health = |text: &str| stop_pause(Path::new("x"), &Ok(text.to_owned())).health;
        let mount = "lxc.hook.mount = /usr/share/lxcfs/lxc.mount.hook\n";
        let stop = "lxc.hook.post-stop = /usr/share/lxcfs/lxc.reboot.hook\n";
        assert_eq!(health(&format!("{mount}{stop}")), Health::Warning);
        assert_eq!(health(mount), Health::Good);
        assert_eq!(health(&format!("# {stop}")), Health::Good);
        let missing = Err(Error::from(ErrorKind::NotFound));
        assert_eq!(stop_pause(Path::new("x"), &missing).health, Health::Good);
        let refused = Err(Error::from(ErrorKind::PermissionDenied));
        assert_eq!(
            stop_pause(Path::new("x"), &refused).health,
            Health::NotChecked
        );
    }
}
