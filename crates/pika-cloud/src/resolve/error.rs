//! Why a plan can't be resolved against a server.
//!
//! Owns the sentences: what is missing, why that matters, and the way out.

use crate::spec::InstanceType;

/// One reason why the plan can't be carried out here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A virtual machine is wanted and can't be had.
    #[error(
        "`{instance_name}` must be a virtual machine, and this server runs none ({problem}): use a \
         server with KVM, or set `incus.instance_type` to `container` or `auto`"
    )]
    VirtualMachinesUnavailable {
        /// The instance.
        instance_name: String,
        /// Why the server runs none.
        problem: String,
    },
    /// A container is wanted and can't be had.
    #[error(
        "`{instance_name}` must be a container, and this server runs none: its Incus lacks the lxc \
         driver; install it, or set `incus.instance_type` to `virtual_machine`"
    )]
    ContainersUnavailable {
        /// The instance.
        instance_name: String,
    },
    /// The alias points to nothing.
    #[error(
        "there is no image `{alias}` in the project `{project}`: import one with \
         `pika image build-import{role_option}`"
    )]
    ImageMissing {
        /// The alias.
        alias: String,
        /// The project.
        project: String,
        /// ` --role ROLE`, or empty when no role belongs to the alias.
        role_option: String,
    },
    /// The image boots as something else.
    #[error(
        "the image `{alias}` is for a {}, and `{instance_name}` must be a {}: change \
         `incus.instance_type`, or import an image of that type",
        words(*.image_type), words(*.instance_type)
    )]
    ImageTypeMismatch {
        /// The instance.
        instance_name: String,
        /// The alias.
        alias: String,
        /// What the image boots as.
        image_type: InstanceType,
        /// What the instance must be.
        instance_type: InstanceType,
    },
    /// The image's guest binaries speak another version of the contract.
    #[error(
        "the image `{alias}` has guest contract version {found}, and this host speaks {expected}: \
         rebuild it with `pika image build-import{role_option}`"
    )]
    StaleImage {
        /// The alias.
        alias: String,
        /// What the image says, or `none`.
        found: String,
        /// What the host speaks.
        expected: u32,
        /// ` --role ROLE`, or empty when no role belongs to the alias.
        role_option: String,
    },
    /// A required mount has no source.
    #[error(
        "the mount at `{guest_path}` is required and {what} `{mount_source}` is not there: create \
         it, or set `required = false`"
    )]
    MountSourceMissing {
        /// The mount point.
        guest_path: String,
        /// "the host directory", or "in the pool `P` the volume".
        what: String,
        /// The source.
        mount_source: String,
    },
    /// A read-only mount could be made writable by the guest's root.
    #[error(
        "the read-only mount at `{guest_path}` lies below /run, which a container hides when it \
         boots, so it would be attached afterwards, and root in the guest could then write to \
         `{mount_source}`: mount it elsewhere, or from a read-only file system"
    )]
    ReadOnlyMountBelowRun {
        /// The mount point.
        guest_path: String,
        /// The source.
        mount_source: String,
    },
    /// The guest's programs keep their files at the contract's own paths.
    #[error(
        "`paths` differs from the contract's own ({wanted} instead of {kept}), and the programs in the guest keep their \
         files there: leave `paths` and `lifecycle_root` out"
    )]
    PathsNotKept {
        /// The first path that differs.
        wanted: String,
        /// Where the guest keeps that file.
        kept: String,
    },
    /// The pool does not keep a root disk to its size.
    #[error(
        "the root disk of {root_disk_gib} GiB would not be enforced by the pool `{pool}` (driver \
         {driver}): use a pool that can (btrfs, zfs, lvm), leave `resources.root_disk_gib` out, or \
         let the operator's configuration allow it (allow_unenforced_root_size)"
    )]
    RootSizeNotEnforced {
        /// The pool.
        pool: String,
        /// Its driver.
        driver: String,
        /// The size that was asked for.
        root_disk_gib: u32,
    },
}

/// An instance type in a sentence.
pub(super) const fn words(instance_type: InstanceType) -> &'static str {
    match instance_type {
        InstanceType::VirtualMachine => "virtual machine",
        InstanceType::Container => "container",
        InstanceType::Auto => "virtual machine or container",
    }
}
