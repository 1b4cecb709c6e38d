//! What a machine needs before a private daemon can run: Incus and its helpers, and a large enough inotify limit.
//!
//! Owns the list of packages. They come from the package sources that the machine already has, by its own package
//! manager; this module names no mirror. Never starts, stops or configures a system daemon.

mod apt;
mod cluster;
mod inotify;

use std::path::{Path, PathBuf};

pub use inotify::{
    INSTANCES_MIN, INSTANCES_PATH as INOTIFY_INSTANCES, InotifyError, InotifyLimit, ensure_inotify,
};

use crate::daemon::incusd;
use crate::postgres;
use crate::program::{self, ProgramError};
use cluster::{CLUSTER_SETTINGS, NoCluster};

/// What is installed where it is missing. Containers only: virtual machines need more.
pub const PACKAGES: &[&str] = &[
    "incus-base",
    "incus-client",
    "btrfs-progs",
    "dnsmasq-base",
    "nftables",
    "iproute2",
    "attr",
    "rsync",
    "squashfs-tools",
    "mmdebstrap",
    "zstd",
    "jq",
];

/// What only tests need beside them.
const TEST_PACKAGES: &[TestPackage] = &[
    TestPackage {
        name: "nix-bin",
        is_there: || program::find("nix-instantiate").is_some(),
    },
    TestPackage {
        name: POSTGRES_PACKAGE,
        is_there: postgres::is_installed,
    },
    // Fetches what the image of managed agents carries. A machine whose npm came another way keeps that one.
    TestPackage {
        name: "npm",
        is_there: || program::find("npm").is_some(),
    },
    // Drives the browser that the pages of the server are tried in; it brings the browser.
    TestPackage {
        name: "chromium-driver",
        is_there: || program::find("chromedriver").is_some(),
    },
    TestPackage {
        name: "openssh-client",
        is_there: || program::find("ssh").is_some(),
    },
    // Judges the unit of the Debian package.
    TestPackage {
        name: "systemd",
        is_there: || program::find("systemd-analyze").is_some(),
    },
];

/// The newest server of the system, with its programs.
const POSTGRES_PACKAGE: &str = "postgresql";

/// Programs by which a machine without Debian's packages shows that it has what is needed.
const PROGRAMS: &[&str] = &[
    "incus",
    "mkfs.btrfs",
    "dnsmasq",
    "nft",
    "ip",
    "setfattr",
    "rsync",
    "mksquashfs",
    "mmdebstrap",
    "zstd",
    "setsid",
    "unshare",
    "nsenter",
    "losetup",
];

/// A package, and whether what it has is there, from whichever package.
struct TestPackage {
    name: &'static str,
    is_there: fn() -> bool,
}

/// What was found and done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// Where the daemon's program is.
    pub incusd: PathBuf,
    /// Packages that were installed just now.
    pub installed: Vec<String>,
    /// The limit on inotify instances.
    pub inotify: InotifyLimit,
}

/// Why the machine can't run a private daemon.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Not root.
    #[error("installing packages and running Incus needs root: run the same command as root")]
    NotRoot,
    /// A system whose packages are not known here, and programs are missing.
    #[error("{system} is not a system whose packages are known here, and these programs are missing: {}; install Incus 6.0 or later and them, then run this again", missing.join(", "))]
    UnknownSystem {
        /// Its name as /etc/os-release has it.
        system: String,
        /// Programs that were not found.
        missing: Vec<String>,
    },
    /// The machine's package sources lack the suite that has Incus.
    #[error(
        "can't add the suite {suite}: no package source of this machine in /etc/apt has the suite {codename} with component main to take mirror and key from"
    )]
    NoSource {
        /// The suite that is wanted.
        suite: String,
        /// The suite that was looked for.
        codename: String,
    },
    /// No package of that name.
    #[error(
        "the package sources of this machine have no package {package}: on Ubuntu enable the component universe, on Debian use 12 with backports or 13, then run this again"
    )]
    NoPackage {
        /// The package.
        package: String,
    },
    /// A file of apt could not be read or written.
    #[error("can't prepare the package sources in /etc/apt")]
    Files(#[source] std::io::Error),
    /// What keeps the package from starting a server of its own could not be written or removed.
    #[error("can't keep the package postgresql from making a cluster of the system's")]
    Cluster(#[source] std::io::Error),
    /// apt failed.
    #[error(
        "can't install packages: look at the machine's network and package sources, then run this again"
    )]
    Program(#[source] ProgramError),
    /// The inotify limit is too small and can't be raised.
    #[error("this machine's inotify limit is too small")]
    Inotify(#[source] InotifyError),
    /// Packages are installed and the daemon's program is still not there.
    #[error("the packages are installed and there is no incusd: expected it in /usr/libexec/incus")]
    NoDaemon,
}

/// Makes it so that this machine has Incus with its helpers and a large enough inotify limit.
///
/// `progress` is told what is about to be done, before each step that takes time. A second call is done in
/// milliseconds and says nothing.
pub fn ensure_host(progress: &mut dyn FnMut(&str)) -> Result<HostReport, InstallError> {
    if !rustix::process::geteuid().is_root() {
        return Err(InstallError::NotRoot);
    }
    let installed = ensure_packages(progress)?;
    let inotify = ensure_inotify(Path::new(INOTIFY_INSTANCES)).map_err(InstallError::Inotify)?;
    if inotify.before != inotify.now {
        progress(&format!(
            "raised fs.inotify.max_user_instances from {} to {} until the next boot",
            inotify.before, inotify.now
        ));
    }
    Ok(HostReport {
        incusd: incusd().ok_or(InstallError::NoDaemon)?,
        installed,
        inotify,
    })
}

/// Installs what only tests need, and gives the names of what was missing.
pub fn ensure_test_packages(progress: &mut dyn FnMut(&str)) -> Result<Vec<String>, InstallError> {
    let missing: Vec<String> = TEST_PACKAGES
        .iter()
        .filter(|package| !(package.is_there)())
        .map(|package| package.name.to_owned())
        .collect();
    if missing.is_empty() {
        return Ok(missing);
    }
    let wants_postgres = missing.iter().any(|package| package == POSTGRES_PACKAGE);
    let no_cluster = wants_postgres.then(|| NoCluster::ask(Path::new(CLUSTER_SETTINGS)));
    let no_cluster = no_cluster.transpose().map_err(InstallError::Cluster)?;
    let installed = apt::install(&missing, progress)?;
    if let Some(no_cluster) = no_cluster {
        no_cluster.take_back().map_err(InstallError::Cluster)?;
    }
    Ok(installed)
}

fn ensure_packages(progress: &mut dyn FnMut(&str)) -> Result<Vec<String>, InstallError> {
    if program::find("dpkg-query").is_some() && program::find("apt-get").is_some() {
        let missing = apt::missing(PACKAGES);
        if !missing.is_empty() && !everything_is_there() {
            return apt::install(&missing, progress);
        }
        return Ok(Vec::new());
    }
    if everything_is_there() {
        return Ok(Vec::new());
    }
    Err(InstallError::UnknownSystem {
        system: apt::os_release("PRETTY_NAME").unwrap_or_else(|| "this system".to_owned()),
        missing: PROGRAMS
            .iter()
            .filter(|name| program::find(name).is_none())
            .map(|name| (*name).to_owned())
            .collect(),
    })
}

/// Whether all programs are there, whichever package they came from.
fn everything_is_there() -> bool {
    incusd().is_some() && PROGRAMS.iter().all(|name| program::find(name).is_some())
}
