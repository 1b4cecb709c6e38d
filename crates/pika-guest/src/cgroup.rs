//! Owns the job's own cgroup: made for one run, counted for out-of-memory kills, ended as a whole, removed.
//!
//! Works on a unified hierarchy, on the hybrid of v1 and v2, and, with less, where there is no cgroup at all: then
//! only the job's process group can be ended, and [`JobCgroup::lacks`] says so. Never touches a cgroup that it did not
//! make. A job that isn't root can't leave it, since the files are root's.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Name of the job's cgroup in each hierarchy.
const NAME: &str = "pika-job";
const PAUSE: Duration = Duration::from_millis(2);
/// How long the killed have to be gone.
const EMPTY_LIMIT: Duration = Duration::from_secs(5);
/// Processes of the guest's limit that a job can't have, so that the runner can still be asked.
const PIDS_RESERVED: u64 = 32;
/// Longest file of a hierarchy that is read, in bytes.
const LIST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The job's cgroup, in as many hierarchies as there are.
#[derive(Debug, Default)]
pub struct JobCgroup {
    unified: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    lacks: Vec<String>,
}

/// Where the hierarchies are mounted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Mounts {
    unified: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
}

impl JobCgroup {
    /// Makes a fresh cgroup, ending what is left in one of an earlier run.
    #[must_use]
    pub fn make(private_dir: &Path) -> JobCgroup {
        let mounts = find_or_mount(private_dir);
        let mut cgroup = JobCgroup::existing(&mounts);
        cgroup.remove();
        let mut lacks = Vec::new();
        let mut make = |dir: &mut Option<PathBuf>, what: &str| {
            let made = match dir.as_deref() {
                Some(dir) => fs::create_dir(dir),
                None => Err(io::Error::new(io::ErrorKind::NotFound, "it is not mounted")),
            };
            if let Err(error) = made {
                lacks.push(format!("{what}: {error}"));
                *dir = None;
            }
        };
        if let Some(root) = &mounts.unified {
            enable_controllers(root);
        }
        make(&mut cgroup.unified, "unified cgroup hierarchy");
        if mounts.memory.is_some() {
            make(&mut cgroup.memory, "memory cgroup hierarchy");
        }
        if mounts.pids.is_some() {
            make(&mut cgroup.pids, "pids cgroup hierarchy");
        }
        cgroup.lacks = lacks;
        cgroup.limit_pids();
        cgroup
    }

    /// The cgroup of a run whose supervisor is gone.
    #[must_use]
    pub fn of_lost_run() -> JobCgroup {
        JobCgroup::existing(&Mounts::find())
    }

    fn existing(mounts: &Mounts) -> JobCgroup {
        let below = |root: &Option<PathBuf>| root.as_ref().map(|root| root.join(NAME));
        JobCgroup {
            unified: below(&mounts.unified),
            memory: below(&mounts.memory),
            pids: below(&mounts.pids),
            lacks: Vec::new(),
        }
    }

    /// What the guest's kernel or mounts don't give.
    #[must_use]
    pub fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// The files that a process writes `0` to, to become a member.
    #[must_use]
    pub fn membership_files(&self) -> Vec<PathBuf> {
        self.dirs().map(|dir| dir.join("cgroup.procs")).collect()
    }

    fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.unified, &self.memory, &self.pids]
            .into_iter()
            .flatten()
    }

    /// How many processes the kernel ended for memory: those of this cgroup, or, where systemd hasn't handed the memory
    /// controller down yet, those of the whole guest. `None` where nothing counts them.
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        let unified = self.unified.as_deref();
        let files = [
            self.memory
                .as_deref()
                .map(|dir| dir.join("memory.oom_control")),
            unified.map(|dir| dir.join("memory.events")),
            unified
                .and_then(Path::parent)
                .map(|dir| dir.join("memory.events")),
        ];
        files
            .into_iter()
            .flatten()
            .find_map(|path| keyed_number(&read(&path)?, "oom_kill"))
    }

    /// The processes in it.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        let mut pids: Vec<i32> = self
            .dirs()
            .filter_map(|dir| read(&dir.join("cgroup.procs")))
            .flat_map(|text| {
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .collect::<Vec<i32>>()
            })
            .collect();
        pids.sort_unstable();
        pids.dedup();
        // A process outside of this namespace shows as 0, which would mean the runner's own group.
        pids.into_iter()
            .filter(|pid| *pid > 1)
            .filter_map(Pid::from_raw)
            .collect()
    }

    /// Sends a signal to each process in it.
    pub fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            // One that is gone by now is what is wanted.
            let _gone = kill_process(pid, signal);
        }
    }

    /// Ends everything in it, and waits until nothing is left. Whether that came about.
    #[must_use]
    pub fn kill(&self) -> bool {
        let deadline = Instant::now() + EMPTY_LIMIT;
        wait::until(deadline, PAUSE, || {
            if self.processes().is_empty() {
                return Some(());
            }
            if let Some(dir) = &self.unified {
                // Kernels before 5.14 have no such file; the signals below do the same in more turns.
                drop(fs::write(dir.join("cgroup.kill"), "1"));
            }
            self.signal(Signal::KILL);
            None
        })
        .is_some()
    }

    /// Ends what is in it and removes it. Directories that the job (as root) made in it go too, as far as they can.
    pub fn remove(&self) {
        if self.dirs().any(|dir| dir.exists()) {
            let _empty = self.kill();
            for dir in self.dirs() {
                remove_tree(dir, 0);
            }
        }
    }

    fn limit_pids(&self) {
        let root_and_dir = self
            .pids
            .as_ref()
            .or(self.unified.as_ref())
            .and_then(|dir| Some((dir.parent()?, dir)));
        let Some((root, dir)) = root_and_dir else {
            return;
        };
        let guest_max =
            read(&root.join("pids.max")).and_then(|text| text.trim().parse::<u64>().ok());
        if let Some(max) = guest_max.filter(|max| *max > 2 * PIDS_RESERVED) {
            // Without it a fork bomb can keep the host from asking the runner, and the host ends the guest.
            drop(fs::write(
                dir.join("pids.max"),
                (max - PIDS_RESERVED).to_string(),
            ));
        }
    }
}

impl Mounts {
    fn find() -> Mounts {
        Mounts::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Reads mountinfo: the mounts whose root is this cgroup namespace's root.
    fn parse(mountinfo: &str) -> Mounts {
        let mut mounts = Mounts::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
            let (Some("/"), Some(path)) = (left.next(), left.next()) else {
                continue;
            };
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            let has = |name: &str| options.split(',').any(|option| option == name);
            let place = match kind {
                Some("cgroup2") => &mut mounts.unified,
                Some("cgroup") if has("memory") => &mut mounts.memory,
                Some("cgroup") if has("pids") => &mut mounts.pids,
                _ => continue,
            };
            place.get_or_insert_with(|| PathBuf::from(path));
        }
        mounts
    }
}

/// The hierarchies as systemd mounted them, else mounts of the runner's own in its own directory: the same hierarchies
/// at another place, so a run need not wait for systemd.
fn find_or_mount(private_dir: &Path) -> Mounts {
    let found = Mounts::find();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mount_own = |name: &str, kind: &str, options: Option<&CStr>| {
        let path = private_dir.join(name);
        drop(fs::create_dir(&path));
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("none", &path, kind, flags, options)
            .ok()
            .map(|()| path)
    };
    // Which hierarchies of v1 the kernel has; the others are part of the unified one.
    let v1 = |name: &str| own.contains(&format!(":{name}:"));
    Mounts {
        unified: found
            .unified
            .or_else(|| mount_own("cgroup2", "cgroup2", None)),
        memory: found.memory.or_else(|| {
            v1("memory").then(|| mount_own("cgroup-memory", "cgroup", Some(c"memory")))?
        }),
        pids: found
            .pids
            .or_else(|| v1("pids").then(|| mount_own("cgroup-pids", "cgroup", Some(c"pids")))?),
    }
}

/// On a unified hierarchy a child counts memory only if its parent hands the controller down.
fn enable_controllers(root: &Path) {
    let available = read(&root.join("cgroup.controllers")).unwrap_or_default();
    for controller in ["memory", "pids"]
        .into_iter()
        .filter(|name| available.split_whitespace().any(|it| it == *name))
    {
        // Refused while systemd hasn't moved itself out of the root; it hands them down then by itself.
        drop(fs::write(
            root.join("cgroup.subtree_control"),
            format!("+{controller}"),
        ));
    }
}

fn remove_tree(dir: &Path, depth: usize) {
    const DEPTH_MAX: usize = 16;
    if fs::remove_dir(dir).is_ok() || depth == DEPTH_MAX {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), depth + 1);
        }
    }
    let deadline = Instant::now() + Duration::from_millis(200);
    // A cgroup whose last process just ended is busy for a moment.
    let removed = wait::until(deadline, PAUSE, || match fs::remove_dir(dir) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => None,
        other => Some(other),
    });
    drop(removed);
}

fn read(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(path)
        .ok()?
        .take(LIST_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

fn keyed_number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_guest_has_three_hierarchies() {
        let mountinfo = "\
269 309 0:90 / /sys/fs/cgroup ro,nosuid shared:275 - tmpfs none rw,size=4096k
270 269 0:38 / /sys/fs/cgroup/unified rw,nosuid shared:276 - cgroup2 none rw
271 269 0:37 / /sys/fs/cgroup/systemd rw,nosuid shared:277 - cgroup none rw,xattr,name=systemd
292 269 0:36 / /sys/fs/cgroup/pids rw,nosuid shared:282 - cgroup none rw,pids
293 269 0:32 / /sys/fs/cgroup/memory rw,nosuid shared:283 - cgroup none rw,memory
294 269 0:32 /a /mnt/memory rw,nosuid shared:283 - cgroup none rw,memory";
        let path = |path: &str| Some(PathBuf::from(path));
        let expected = Mounts {
            unified: path("/sys/fs/cgroup/unified"),
            memory: path("/sys/fs/cgroup/memory"),
            pids: path("/sys/fs/cgroup/pids"),
        };
        assert_eq!(Mounts::parse(mountinfo), expected);
    }

    #[test]
    fn a_unified_guest_has_one() {
        let mountinfo = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\nrubbish\n";
        let expected = Mounts {
            unified: Some(PathBuf::from("/sys/fs/cgroup")),
            ..Mounts::default()
        };
        assert_eq!(Mounts::parse(mountinfo), expected);
    }

    #[test]
    fn kills_are_read_by_their_whole_key() {
        let events = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(keyed_number(events, "oom_kill"), Some(3));
        assert_eq!(
            keyed_number("oom_kill_disable 0\nunder_oom 0\n", "oom_kill"),
            None
        );
    }
}
