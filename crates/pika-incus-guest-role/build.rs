//! Turns `images/roles.toml` into Rust constants at build time, so that nothing of the registry is
//! written twice and no program parses it when it runs.
//!
//! Refuses unknown keys and a wrong schema version; a broken registry fails the build with its line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

const SCHEMA_VERSION: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    schema_version: u32,
    guest: Guest,
    debian: Debian,
    roles: BTreeMap<String, Role>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guest {
    state_dir: String,
    state_backing_dir: String,
    system_bin_dir: String,
    snapshot_path: String,
    workspace_deps_path: String,
    workspace_build_path: String,
    cargo_home: String,
    cargo_target_dir: String,
    agent_state_path: String,
    uid: u32,
    gid: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Debian {
    suite: String,
    packages: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    alias: String,
    package_attr: String,
    legacy_package_attrs: Vec<String>,
    managed: bool,
    description: String,
    disk_size_gib: u32,
    hostname: String,
    user: String,
    home: String,
    binaries: Vec<String>,
    debian_packages: Vec<String>,
    npm_packages: Vec<String>,
    npm_scripts: Vec<String>,
    nix_packages: Vec<String>,
}

fn main() {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let source = manifest.join("../../images/roles.toml");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=build.rs");
    let registry = read(&source);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    std::fs::write(out.join("registry.rs"), render(&registry)).expect("OUT_DIR can be written");
}

fn read(source: &Path) -> Registry {
    let text = std::fs::read_to_string(source)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", source.display()));
    let registry: Registry = toml::from_str(&text)
        .unwrap_or_else(|error| panic!("{} is not a role registry: {error}", source.display()));
    assert_eq!(
        registry.schema_version, SCHEMA_VERSION,
        "images/roles.toml has a schema_version that this build script does not know"
    );
    registry
}

fn render(registry: &Registry) -> String {
    let mut out = String::new();
    render_guest(&mut out, &registry.guest);
    let debian = &registry.debian;
    constant(
        &mut out,
        "DEBIAN_SUITE",
        &debian.suite,
        "Debian suite that the Debian builder takes.",
    );
    line(
        &mut out,
        "/// Debian packages of every image, whatever its role.",
    );
    line(
        &mut out,
        &format!(
            "pub const DEBIAN_PACKAGES: &[&str] = &{:?};",
            debian.packages
        ),
    );
    line(
        &mut out,
        "/// Facts of each role, ordered by the role's name.",
    );
    line(&mut out, "static ROLE_FACTS: &[RoleFacts] = &[");
    for (name, role) in &registry.roles {
        render_role(&mut out, name, role);
    }
    line(&mut out, "];");
    out
}

fn render_guest(out: &mut String, guest: &Guest) {
    let paths = [
        (
            "STATE_DIR",
            &guest.state_dir,
            "Directory of the guest's contract files.",
        ),
        (
            "STATE_BACKING_DIR",
            &guest.state_backing_dir,
            "Directory on the root disk whose per-boot subdirectories are bound to [`STATE_DIR`].",
        ),
        (
            "SYSTEM_BIN_DIR",
            &guest.system_bin_dir,
            "Where bash, node, python3 and the guest binaries resolve in every image.",
        ),
        (
            "SNAPSHOT_GUEST_PATH",
            &guest.snapshot_path,
            "Mount point of the read-only source tree.",
        ),
        (
            "WORKSPACE_DEPS_GUEST_PATH",
            &guest.workspace_deps_path,
            "Mount point of the prepared dependencies payload.",
        ),
        (
            "WORKSPACE_BUILD_GUEST_PATH",
            &guest.workspace_build_path,
            "Mount point of the prepared build payload.",
        ),
        (
            "CARGO_HOME_GUEST_PATH",
            &guest.cargo_home,
            "Mount point of cargo's home cache.",
        ),
        (
            "CARGO_TARGET_GUEST_PATH",
            &guest.cargo_target_dir,
            "Mount point of cargo's target cache.",
        ),
        (
            "AGENT_STATE_GUEST_PATH",
            &guest.agent_state_path,
            "Mount point of an agent's volume.",
        ),
    ];
    for (name, value, doc) in paths {
        constant(out, name, value, doc);
    }
    line(out, "/// User id that a guest's work runs as.");
    line(out, &format!("pub const GUEST_UID: u32 = {};", guest.uid));
    line(out, "/// Group id that a guest's work runs as.");
    line(out, &format!("pub const GUEST_GID: u32 = {};", guest.gid));
    let runner = format!("{}/pikaci-incus-run", guest.system_bin_dir);
    constant(out, "RUNNER_PATH", &runner, "The image-owned guest runner.");
    let lifecycle = format!("{}/pika-cloud-lifecycle", guest.system_bin_dir);
    constant(
        out,
        "LIFECYCLE_PATH",
        &lifecycle,
        "The image-owned publisher of lifecycle files.",
    );
}

fn render_role(out: &mut String, name: &str, role: &Role) {
    line(out, "    RoleFacts {");
    for (field, value) in [
        ("name", name),
        ("alias", role.alias.as_str()),
        ("package_attr", role.package_attr.as_str()),
        ("description", role.description.as_str()),
        ("hostname", role.hostname.as_str()),
        ("user", role.user.as_str()),
        ("home", role.home.as_str()),
    ] {
        line(out, &format!("        {field}: {value:?},"));
    }
    for (field, values) in [
        ("legacy_package_attrs", &role.legacy_package_attrs),
        ("binaries", &role.binaries),
        ("debian_packages", &role.debian_packages),
        ("npm_packages", &role.npm_packages),
        ("npm_scripts", &role.npm_scripts),
        ("nix_packages", &role.nix_packages),
    ] {
        line(out, &format!("        {field}: &{values:?},"));
    }
    line(out, &format!("        managed: {},", role.managed));
    line(
        out,
        &format!("        disk_size_gib: {},", role.disk_size_gib),
    );
    line(out, "    },");
}

fn constant(out: &mut String, name: &str, value: &str, doc: &str) {
    line(out, &format!("/// {doc}"));
    line(out, &format!("pub const {name}: &str = {value:?};"));
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a string cannot fail");
}
