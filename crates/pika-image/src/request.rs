//! What a caller asks for: role, kind of image, builder, and where its parts come from.
//!
//! Owns the request types; reads no environment and no file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use pika_incus_guest_role::IncusGuestRole;
use serde::{Deserialize, Serialize};

/// What kind of instance an image is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// A root file system for containers.
    #[default]
    Container,
    /// A bootable disk for virtual machines.
    #[serde(rename = "vm")]
    VirtualMachine,
}

/// A name that is none of the known ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no {what}: use {allowed}")]
pub struct UnknownName {
    what: &'static str,
    given: String,
    allowed: &'static str,
}

impl FromStr for ImageKind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<ImageKind, UnknownName> {
        match text {
            "container" => Ok(ImageKind::Container),
            "vm" => Ok(ImageKind::VirtualMachine),
            _ => Err(UnknownName {
                what: "image type",
                given: text.to_owned(),
                allowed: "container or vm",
            }),
        }
    }
}

impl fmt::Display for ImageKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            ImageKind::Container => "container",
            ImageKind::VirtualMachine => "vm",
        })
    }
}

/// What makes the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Builder {
    /// mmdebstrap, from the machine's own package sources.
    #[default]
    Debian,
    /// The flake of this repository.
    Nix,
}

impl FromStr for Builder {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Builder, UnknownName> {
        match text {
            "debian" => Ok(Builder::Debian),
            "nix" => Ok(Builder::Nix),
            _ => Err(UnknownName {
                what: "image builder",
                given: text.to_owned(),
                allowed: "debian or nix",
            }),
        }
    }
}

impl fmt::Display for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Builder::Debian => "debian",
            Builder::Nix => "nix",
        })
    }
}

/// Where the programs inside the guest come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestBinaries {
    /// A directory that holds them, built before.
    Directory(PathBuf),
    /// cargo builds them from this checkout.
    Checkout(PathBuf),
}

/// How old the lookup of package versions may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageLookup {
    /// A stored lookup older than this is made again. Zero asks the package sources every time.
    pub max_age: Duration,
}

impl Default for PackageLookup {
    fn default() -> PackageLookup {
        PackageLookup {
            max_age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Everything that a build needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildRequest {
    /// Which role's image.
    pub role: IncusGuestRole,
    /// For which kind of instance.
    pub kind: ImageKind,
    /// With which builder.
    pub builder: Builder,
    /// Where the guest's programs come from.
    pub guest_binaries: GuestBinaries,
    /// Whether the host's local certificate authorities go into the image.
    pub host_ca: bool,
    /// Where the host keeps its local certificate authorities.
    pub host_ca_dir: PathBuf,
    /// Where finished images, base systems and package lookups are kept between builds.
    pub cache_dir: PathBuf,
    /// How old the lookup of package versions may be.
    pub packages: PackageLookup,
    /// The machine's apt configuration, where mirror and keys are read.
    pub apt_dir: PathBuf,
    /// Recorded beside the image: the revision that it was built from.
    pub source_revision: Option<String>,
}

impl BuildRequest {
    /// A container image of `role` by the Debian builder, with the host's certificate authorities.
    #[must_use]
    pub fn new(
        role: IncusGuestRole,
        guest_binaries: GuestBinaries,
        cache_dir: impl Into<PathBuf>,
    ) -> BuildRequest {
        BuildRequest {
            role,
            kind: ImageKind::Container,
            builder: Builder::Debian,
            guest_binaries,
            host_ca: true,
            host_ca_dir: PathBuf::from("/usr/local/share/ca-certificates"),
            cache_dir: cache_dir.into(),
            packages: PackageLookup::default(),
            apt_dir: PathBuf::from("/etc/apt"),
            source_revision: None,
        }
    }
}
