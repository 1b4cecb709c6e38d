//! The flake, evaluated with Debian's nix and without nixpkgs: what it names, and what goes into a package.

use std::path::{Path, PathBuf};
use std::process::Command;

use pika_cloud::GUEST_CONTRACT_VERSION;
use pika_incus_guest_role::{GUEST_UID, IncusGuestRole, RUNNER_PATH, RoleFacts};
use serde_json::Value;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `nix/tests/eval.nix` as a value.
fn evaluated() -> Value {
    let output = Command::new("nix-instantiate")
        // No store is needed, so none is made.
        .args(["--store", "dummy://", "--eval", "--strict", "--json"])
        .arg(checkout().join("nix/tests/eval.nix"))
        .env("NIX_PATH", "")
        .output()
        .expect("nix-instantiate runs: install it with `apt-get install nix-bin`");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("nix was asked for JSON")
}

fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value
        .as_array()
        .expect("a list")
        .iter()
        .map(|name| name.as_str().expect("a name"))
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn every_role_is_a_package_under_its_name_and_its_older_ones() {
    let found = evaluated();
    let mut expected = vec!["pika-guest", "pika-server"];
    for facts in RoleFacts::all() {
        expected.push(facts.package_attr);
        expected.extend(facts.legacy_package_attrs);
    }
    expected.sort_unstable();
    assert_eq!(names(&found["packages"]), expected);
    assert!(expected.contains(&"pika-agent-incus-dev-image"));
    let modules = serde_json::json!({ "pika-builder": true, "pika-server": true });
    assert_eq!(found["modules"], modules);
    // An older name is the same package.
    assert_eq!(
        found["images"]["pikaci-incus-dev-image"],
        found["images"]["pikaci-runner-incus-image"]
    );
}

#[test]
fn nix_reads_the_registry_as_rust_does() {
    let found = evaluated();
    for role in IncusGuestRole::ALL {
        let (facts, nix) = (role.facts(), &found["roles"][role.as_str()]);
        assert_eq!(nix["alias"], facts.alias);
        assert_eq!(nix["packageAttr"], facts.package_attr);
        assert_eq!(nix["description"], facts.description);
        assert_eq!(nix["diskSizeMiB"], facts.disk_size_gib * 1024);
        assert_eq!(nix["hostname"], facts.hostname);
        assert_eq!(nix["user"], facts.user);
        assert_eq!(nix["managed"], facts.managed);
        assert_eq!(names(&nix["binaries"]), facts.binaries);
        assert_eq!(names(&nix["nixPackages"]), facts.nix_packages);
    }
}

#[test]
fn a_package_holds_metadata_disk_and_readme() {
    let found = evaluated();
    for role in IncusGuestRole::ALL {
        let package = &found["images"][role.flake_package_attr()];
        let script = package["script"].as_str().expect("a build script");
        for file in ["metadata.tar.xz", "disk.qcow2", "README.txt"] {
            assert!(script.contains(&format!("$out/{file}")), "{role}: {file}");
        }
        let properties = &package["metadata"]["properties"];
        assert_eq!(properties["pika.guest_role"], role.as_str());
        assert_eq!(
            properties["pika.contract_version"],
            GUEST_CONTRACT_VERSION.to_string()
        );
        assert_eq!(properties["pika.source_revision"], "0123");
        assert_eq!(package["disk"]["format"], "qcow2-compressed");
        let readme = package["readme"].as_str().expect("a text");
        assert!(readme.contains(role.default_image_alias()), "{readme}");
    }
}

#[test]
fn the_runners_system_has_its_user_paths_and_programs() {
    let found = evaluated();
    let modules = &found["images"]["pikaci-runner-incus-image"]["config"];
    let base = &modules[0];
    let facts = IncusGuestRole::PikaciRunner.facts();
    assert_eq!(base["users"]["users"][facts.user]["uid"], GUEST_UID);
    assert_eq!(base["networking"]["hostName"], facts.hostname);
    let rules = names(&base["systemd"]["tmpfiles"]["rules"]);
    assert!(rules.contains(&"d /workspace/snapshot - - - -"));
    assert!(rules.contains(&"d /cargo-target 0755 1000 1000 -"));
    // NixOS links the programs of systemPackages into the directory that hosts name.
    assert_eq!(
        base["environment"]["systemPackages"][0],
        "/nix/store/stub-pika-guest"
    );
    let runner = Path::new(RUNNER_PATH)
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a program's path has a name");
    let start = base["systemd"]["services"]["pika-state-dir"]["serviceConfig"]["ExecStart"]
        .as_str()
        .expect("the runner's image makes the state directory");
    assert!(start.contains(runner), "{start}");
    assert_eq!(modules[1]["services"]["openssh"]["enable"], false);
}
