//! What can be wrong with a spec.
//!
//! Owns the variants and their sentences; [`super::validate`] finds the problems.

/// One problem of a spec. Every variant says what is wrong where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeSpecError {
    /// A required text is empty or only white space.
    #[error("`{field}` is empty: give it a value")]
    EmptyField {
        /// Dotted name of the field.
        field: &'static str,
    },
    /// A path breaks a rule.
    #[error("`{field}` is `{}`, which {reason}", .path.escape_debug())]
    InvalidPath {
        /// Dotted name of the field.
        field: &'static str,
        /// The path as given.
        path: String,
        /// The rule, one of [`crate::paths::reason`].
        reason: &'static str,
    },
    /// `lifecycle_root` and `paths.state_dir` differ.
    #[error(
        "`lifecycle_root` is `{lifecycle_root}` but `paths.state_dir` is `{state_dir}`: \
         they must be the same directory"
    )]
    MismatchedStateRoot {
        /// The spec's `lifecycle_root`.
        lifecycle_root: String,
        /// The spec's `paths.state_dir`.
        state_dir: String,
    },
    /// Two mounts have one mount point.
    #[error("two mounts have the guest path `{guest_path}`: give each its own")]
    DuplicateMountGuestPath {
        /// The mount point, in normal form.
        guest_path: String,
    },
    /// The bootstrap's request file isn't the one of `paths`.
    #[error(
        "`bootstrap.guest_request_path` is `{bootstrap_path}` but `paths.guest_request_path` is \
         `{runtime_path}`: leave the first out or make them equal"
    )]
    MismatchedGuestRequestPath {
        /// The bootstrap's path.
        bootstrap_path: String,
        /// The path of `paths`.
        runtime_path: String,
    },
    /// Incus would refuse the instance name.
    #[error(
        "`identity.instance_name` is `{}`, which {reason}", .instance_name.escape_debug()
    )]
    InvalidInstanceName {
        /// The name as given.
        instance_name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A name would be refused by Incus, or could be mistaken for another.
    #[error("`{field}` is `{}`, which {reason}", .value.escape_debug())]
    InvalidName {
        /// Dotted name of the field.
        field: &'static str,
        /// The value as given.
        value: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A size or a deadline is zero.
    #[error("`{field}` is 0: leave it out for the default, or give at least 1")]
    ZeroValue {
        /// Dotted name of the field.
        field: &'static str,
    },
    /// A text, list or number is beyond its limit.
    #[error("`{field}` has {actual}, more than the limit of {max}")]
    LimitExceeded {
        /// Dotted name of the field, with the unit of the figures.
        field: &'static str,
        /// What was given.
        actual: u64,
        /// What is allowed.
        max: u64,
    },
    /// A mount point would hide the contract's files or the whole guest.
    #[error(
        "a mount at `{guest_path}` would hide `{hidden}`: mount below the state directory (such as \
         its artifacts) or elsewhere"
    )]
    MountHidesState {
        /// The mount point.
        guest_path: String,
        /// What the guest would no longer see.
        hidden: String,
    },
    /// A mount point is a parent of one that is mounted before it.
    #[error(
        "the mount at `{guest_path}` would hide the earlier one at `{hidden_guest_path}`: list the \
         parent first"
    )]
    MountHidesEarlierMount {
        /// The later mount's path.
        guest_path: String,
        /// The earlier mount's path.
        hidden_guest_path: String,
    },
    /// A read-only snapshot asks to be written.
    #[error(
        "the `read_only_snapshot` at `{guest_path}` has mode `read_write`: use `read_only`, or \
         another kind"
    )]
    WritableSnapshot {
        /// The mount point.
        guest_path: String,
    },
    /// A persistent volume's source is a host directory.
    #[error(
        "the `persistent_volume` at `{guest_path}` has the host directory `{source_path}` as its \
         source: name a storage volume"
    )]
    PersistentVolumeNotAVolume {
        /// The mount point.
        guest_path: String,
        /// The source as given.
        source_path: String,
    },
    /// A mount's source is neither a normal absolute path nor a volume's name.
    #[error(
        "the mount at `{guest_path}` has the source `{}`, which {reason}",
        .mount_source.escape_debug()
    )]
    InvalidMountSource {
        /// The mount point.
        guest_path: String,
        /// The source as given.
        mount_source: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// Two of the contract's files or directories have one path, or one lies inside a file.
    #[error("`{first}` and `{second}` share the path `{path}`: give each its own")]
    DuplicateLifecyclePath {
        /// Dotted name of the first field.
        first: &'static str,
        /// Dotted name of the second field.
        second: &'static str,
        /// The path of the second.
        path: String,
    },
    /// Two mounts get the same device name.
    #[error(
        "the mounts at `{first_guest_path}` and `{second_guest_path}` both get the device name \
         `{device_name}`: change one of their guest paths"
    )]
    DeviceNameCollision {
        /// The name that both would have.
        device_name: String,
        /// Guest path of the earlier mount.
        first_guest_path: String,
        /// Guest path of the later mount.
        second_guest_path: String,
    },
    /// A label can't be kept in an instance's configuration.
    #[error("the label `{}` {reason}", .key.escape_debug())]
    InvalidLabel {
        /// The label's key.
        key: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A pattern of artifacts can leave the artifacts directory.
    #[error("the artifact pattern `{}` {reason}", .glob.escape_debug())]
    InvalidArtifactGlob {
        /// The pattern as given.
        glob: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
}
