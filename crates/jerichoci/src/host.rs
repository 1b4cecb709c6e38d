//! What this machine can run at once.

use std::fs;

use crate::engine::Capacity;

/// The limit on inotify instances for one user: each systemd guest takes a few.
pub const INOTIFY_INSTANCES_PATH: &str = "/proc/sys/fs/inotify/max_user_instances";
/// How many of them one guest takes, rounded up.
pub const INOTIFY_INSTANCES_PER_GUEST: u64 = 8;

/// Facts about this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFacts {
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory that could be used now, in MiB.
    pub memory_available_mib: Option<u64>,
    /// The limit on inotify instances, where it can be read.
    pub inotify_instances: Option<u64>,
}

impl HostFacts {
    /// Looks at this machine.
    pub fn look() -> Self {
        let memory = fs::read_to_string("/proc/meminfo").ok();
        let inotify = fs::read_to_string(INOTIFY_INSTANCES_PATH).ok();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_available_mib: memory.as_deref().and_then(memory_available_mib),
            inotify_instances: inotify.and_then(|text| text.trim().parse().ok()),
        }
    }

    /// How much may run at once. `wanted` is a number that somebody asked for and is then only bounded by
    /// what guests need to live; otherwise cores and memory decide.
    pub fn capacity(&self, wanted: Option<usize>) -> Capacity {
        let guests_max = self.guests_max().unwrap_or(usize::MAX).max(1);
        match wanted {
            Some(jobs) => Capacity {
                jobs: jobs.clamp(1, guests_max),
                memory_mib: None,
            },
            None => Capacity {
                jobs: self.cores.clamp(1, guests_max),
                // The rest is for the host itself and for what guests use beyond their limit's count.
                memory_mib: self.memory_available_mib.map(|available| available / 5 * 4),
            },
        }
    }

    /// How many systemd guests can live at once under the inotify limit.
    pub fn guests_max(&self) -> Option<usize> {
        let guests = self.inotify_instances? / INOTIFY_INSTANCES_PER_GUEST;
        usize::try_from(guests).ok()
    }
}

fn memory_available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_follows_the_machine_or_the_wish() {
        let host = HostFacts {
            cores: 4,
            memory_available_mib: Some(10_000),
            inotify_instances: Some(128),
        };
        assert_eq!(
            host.capacity(None),
            Capacity {
                jobs: 4,
                memory_mib: Some(8000)
            }
        );
        assert_eq!(
            host.capacity(Some(40)),
            Capacity {
                jobs: 16,
                memory_mib: None
            }
        );
        assert_eq!(host.capacity(Some(0)).jobs, 1);
        assert_eq!(
            memory_available_mib("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"),
            Some(2)
        );
    }
}
