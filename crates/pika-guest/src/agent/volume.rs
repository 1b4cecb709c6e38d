//! Waiting until the agent's volume is mounted: it may come with the instance or at any time later.
//!
//! Owns that one wait, and the point of view from which it is done. The kernel says when a mount changes, so nothing is
//! asked for in vain.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::setup::SetupError;
use crate::mounts;
use crate::wait;

/// Also without word from the kernel a look is taken this often.
const LOOK: Duration = Duration::from_secs(5);

/// Looks at mounts as the guest's init does from here on.
///
/// A unit with restrictions has mounts of its own: there the place of a volume that is missing is a mount too, of the
/// root disk upon itself, and a volume that comes later comes beneath it.
pub(super) fn look_as_init() -> Result<(), SetupError> {
    let failed = |source| SetupError::Namespace { source };
    let mounts = File::open("/proc/1/ns/mnt").map_err(failed)?;
    move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(|errno| failed(errno.into()))
}

/// Returns once something is mounted at `path`.
pub(super) fn wait_until_mounted(path: &Path) -> Result<(), SetupError> {
    let failed = |source| SetupError::MountTable { source };
    let table = File::open("/proc/self/mountinfo").map_err(failed)?;
    let paths = [path.to_string_lossy().into_owned()];
    while mounts::first_missing(&paths).is_some() {
        let mut changed = [PollFd::new(&table, PollFlags::PRI | PollFlags::ERR)];
        wait::poll_until(&mut changed, Some(Instant::now() + LOOK))
            .map_err(|errno| failed(errno.into()))?;
    }
    Ok(())
}
