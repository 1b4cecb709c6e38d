//! The grammar of `pika image`.
//!
//! Owns names and help; what the options mean is pika-image's business.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use pika_image::{Builder, ImageKind};
use pika_incus_guest_role::IncusGuestRole;

use crate::config;

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Make the files of a role's image, or find them in the cache.
    Build(BuildOptions),
    /// Upload an image that was built, and point the alias at it.
    Import {
        /// What `build --output json` printed; `-` reads stdin. Without it the cache is looked in, and built into
        #[arg(long, value_name = "FILE")]
        built: Option<PathBuf>,
        #[command(flatten)]
        build: BuildOptions,
        #[command(flatten)]
        import: ImportOptions,
    },
    /// Make it so that the alias points at an image of today's inputs, doing as little as needed.
    BuildImport {
        #[command(flatten)]
        build: BuildOptions,
        #[command(flatten)]
        import: ImportOptions,
    },
    /// Point the alias back at the image that had it before.
    Rollback {
        /// Role whose alias is meant
        #[arg(long, value_name = "ROLE")]
        role: IncusGuestRole,
        #[command(flatten)]
        import: ImportOptions,
    },
    /// List this project's images on the server.
    List(ServerOptions),
    /// Check that a role's alias points at an image that can be used.
    Check {
        /// Compare with today's inputs too (packages, guest programs, certificate authorities)
        #[arg(long)]
        inputs: bool,
        #[command(flatten)]
        build: BuildOptions,
        #[command(flatten)]
        import: ImportOptions,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BuildOptions {
    /// Role whose image is meant: managed-openclaw, pikaci-runner or pi-sandbox
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: IncusGuestRole,
    /// Kind of instance that boots from it
    #[arg(long = "type", value_name = "container|vm", default_value_t = ImageKind::Container)]
    pub(crate) kind: ImageKind,
    /// What makes it
    #[arg(long, value_name = "debian|nix", default_value_t = Builder::Debian)]
    pub(crate) builder: Builder,
    /// Directory of guest programs that were built before [default: built from the checkout, or the installed ones]
    #[arg(long, value_name = "DIR")]
    pub(crate) guest_binaries: Option<PathBuf>,
    /// Leave the host's local certificate authorities out
    #[arg(long)]
    pub(crate) no_host_ca: bool,
    /// Where builds keep what can be used again [default: ~/.cache/pika/images]
    #[arg(long, value_name = "DIR", env = config::CACHE_VARIABLE, hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// Alias [default: the role's own]
    #[arg(long, value_name = "ALIAS")]
    pub(crate) alias: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ServerOptions {
    /// Incus project [default: default]
    #[arg(long, value_name = "NAME", env = config::PROJECT_VARIABLE, hide_env_values = true)]
    pub(crate) project: Option<String>,
}
