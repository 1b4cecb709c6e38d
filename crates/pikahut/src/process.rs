//! What a process takes of the machine, sample by sample, for tests and benches of what does not grow.

use std::time::Duration;

/// Time between two samples.
const PAUSE: Duration = Duration::from_millis(20);
/// More than anything that is sampled lives.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What a process has taken at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Memory that is in RAM, in KiB.
    pub rss_kib: u64,
    /// The most that it ever was, in KiB.
    pub peak_kib: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Taken {
    /// By the process of this number; `None` once it has ended.
    pub fn by(pid: u32) -> Option<Self> {
        let status = fs_err::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kib = |key: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self {
            rss_kib: kib("VmRSS:")?,
            peak_kib: kib("VmHWM:")?,
            descriptors: fs_err::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
        })
    }

    /// The most of each.
    pub fn most(samples: &[Self]) -> Self {
        samples.iter().fold(Self::default(), |most, one| Self {
            rss_kib: most.rss_kib.max(one.rss_kib),
            peak_kib: most.peak_kib.max(one.peak_kib),
            descriptors: most.descriptors.max(one.descriptors),
        })
    }
}

/// Samples a process until it has ended; `meanwhile` is called with each sample.
pub async fn samples(pid: u32, mut meanwhile: impl FnMut()) -> Vec<Taken> {
    let mut samples = Vec::new();
    let begun = tokio::time::Instant::now();
    while let Some(taken) = Taken::by(pid)
        && begun.elapsed() < LIMIT
    {
        samples.push(taken);
        meanwhile();
        tokio::time::sleep(PAUSE).await;
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something_and_one_that_is_not_there_nothing() {
        let before = Taken::by(std::process::id()).unwrap();
        assert!(before.rss_kib > 0 && before.peak_kib >= before.rss_kib);
        let _open: Vec<_> = (0..50)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        let after = Taken::by(std::process::id()).unwrap();
        assert!(after.descriptors >= before.descriptors + 40);
        assert_eq!(Taken::most(&[before, after]).descriptors, after.descriptors);
        assert_eq!(Taken::by(u32::MAX), None);
    }
}
