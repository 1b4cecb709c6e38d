//! Calling cargo from a program that cargo runs.
//!
//! Owns the environment of the inner cargo. `cargo run` tells its program about the package that it runs, and build
//! scripts that watch such variables (ring's does) would be run again each time, with everything that depends on them.

use std::ffi::OsStr;
use std::process::Command;

/// Beginnings of the names of variables that describe the package that is being run.
const OF_THE_PACKAGE: [&str; 5] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_",
    "CARGO_PRIMARY_",
];

/// A command that is cargo or calls it, in the environment of whoever typed `cargo xtask`.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if is_of_the_package(&name) {
            command.env_remove(name);
        }
    }
    command
}

fn is_of_the_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    OF_THE_PACKAGE.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_this_package_is_kept_from_an_inner_cargo() {
        assert!(
            std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
            "cargo runs tests with it"
        );
        let output = command("env").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains("CARGO_MANIFEST_DIR="), "{text}");
        assert!(text.contains("PATH="), "{text}");
        assert!(!is_of_the_package(OsStr::new("CARGO_HOME")));
    }
}
