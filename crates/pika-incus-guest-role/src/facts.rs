//! What `images/roles.toml` says, as constants.
//!
//! Owns the generated tables; decides nothing.

/// The registry's own text, for whoever needs to digest it (image inputs).
pub const ROLES_TOML: &str = include_str!("../../../images/roles.toml");

/// What the registry says about one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleFacts {
    /// The role's name, in kebab case.
    pub name: &'static str,
    /// Image alias that the role boots from unless the operator says otherwise.
    pub alias: &'static str,
    /// Nix flake package that builds the role's image.
    pub package_attr: &'static str,
    /// Older package names that stay as aliases of `package_attr`.
    pub legacy_package_attrs: &'static [&'static str],
    /// Whether the agent API may provision this role.
    pub managed: bool,
    /// One line for people; becomes the image's description.
    pub description: &'static str,
    /// Size of the image's disk (virtual machine) in GiB.
    pub disk_size_gib: u32,
    /// Host name inside the image.
    pub hostname: &'static str,
    /// Name of the unprivileged user, whose id is [`GUEST_UID`].
    pub user: &'static str,
    /// Home directory of that user.
    pub home: &'static str,
    /// Guest binaries that belong into `SYSTEM_BIN_DIR`.
    pub binaries: &'static [&'static str],
    /// Debian packages beside [`DEBIAN_PACKAGES`].
    pub debian_packages: &'static [&'static str],
    /// npm packages that the image carries, each `name@version`.
    pub npm_packages: &'static [&'static str],
    /// Those of all npm packages whose own install scripts are run.
    pub npm_scripts: &'static [&'static str],
    /// Packages of nixpkgs for the Nix builder.
    pub nix_packages: &'static [&'static str],
}

impl RoleFacts {
    /// All facts, ordered by the role's name.
    #[must_use]
    pub fn all() -> &'static [RoleFacts] {
        ROLE_FACTS
    }
}

include!(concat!(env!("OUT_DIR"), "/registry.rs"));
