//! Why an image could not be built.
//!
//! Owns the error of building; errors of importing are beside the import.

use std::path::PathBuf;

use crate::apt::LookupError;
use crate::command::CommandError;
use crate::request::{Builder, ImageKind};

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not yet.
    #[error("{kind} images can't be built by the {builder} builder yet: {reason}")]
    Unsupported {
        /// What was asked for.
        kind: ImageKind,
        /// With which builder.
        builder: Builder,
        /// Why not, and what to do instead.
        reason: &'static str,
    },
    /// cargo did not build the guest's programs.
    #[error("can't build the programs of the guest from {}", checkout.display())]
    GuestBinaries {
        /// Where from.
        checkout: PathBuf,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// A program of the guest is not where it should be.
    #[error("no usable {name} at {}: {reason}; build it with `cargo build -p pika-guest --profile guest`, or name another directory with --guest-binaries", path.display())]
    GuestBinary {
        /// Which program.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No answer about packages.
    #[error(transparent)]
    Packages(#[from] LookupError),
    /// A helper program.
    #[error("a program that the build needs did not work")]
    Tools(#[source] CommandError),
    /// npm.
    #[error(
        "the npm packages could not be installed: look at this machine's npm configuration (`npm config list`) and network, then build again"
    )]
    Npm(#[source] CommandError),
    /// The registry of roles and a lock file say different things.
    #[error(
        "the lock file of {role}'s npm packages can't be used: {reason}; bring package.json and package-lock.json in images/npm/{role} in line with images/roles.toml"
    )]
    NpmLock {
        /// Which role.
        role: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// mmdebstrap.
    #[error("the base system could not be made")]
    Bootstrap(#[source] CommandError),
    /// The mirror changed under the build.
    #[error(
        "the mirror changed while the base system was made ({package} differs from what it offered before): build again"
    )]
    PackagesMoved {
        /// A package that differs.
        package: String,
    },
    /// A certificate authority of the host is unreadable.
    #[error("can't read the host's certificate authority {}: make it readable, or build with --no-host-ca", path.display())]
    CertificateAuthority {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The cache or the work directory.
    #[error("can't write the image: check space and permissions of the cache directory")]
    Work(#[source] std::io::Error),
}

impl BuildError {
    pub(crate) fn work(source: std::io::Error) -> BuildError {
        BuildError::Work(source)
    }
}
