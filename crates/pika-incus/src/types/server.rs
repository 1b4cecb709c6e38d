//! The server itself: `GET /1.0`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::nullable;

/// What `GET /1.0` says. An untrusted caller gets only `auth`, `api_extensions` and `auth_methods`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Server {
    /// `trusted` or `untrusted`.
    #[serde(default, deserialize_with = "nullable")]
    pub auth: String,
    /// Names of the API extensions that the server has.
    #[serde(default, deserialize_with = "nullable")]
    pub api_extensions: Vec<String>,
    /// `1.0`.
    #[serde(default, deserialize_with = "nullable")]
    pub api_version: String,
    /// Ways to authenticate, such as `tls`.
    #[serde(default, deserialize_with = "nullable")]
    pub auth_methods: Vec<String>,
    /// Who the server takes the caller for.
    #[serde(default, deserialize_with = "nullable")]
    pub auth_user_name: String,
    /// How it knows: `unix` or `tls`.
    #[serde(default, deserialize_with = "nullable")]
    pub auth_user_method: String,
    /// The server's configuration; values may be of any JSON type.
    #[serde(default, deserialize_with = "nullable")]
    pub config: BTreeMap<String, serde_json::Value>,
    /// Facts about the server and its host.
    #[serde(default, deserialize_with = "nullable")]
    pub environment: ServerEnvironment,
}

impl Server {
    /// Whether the server has an API extension.
    pub fn has_extension(&self, name: &str) -> bool {
        self.api_extensions
            .iter()
            .any(|extension| extension == name)
    }

    /// Whether the server takes the caller as trusted.
    pub fn is_trusted(&self) -> bool {
        self.auth == "trusted"
    }
}

/// Facts about the server and its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ServerEnvironment {
    /// Instance drivers, `lxc`, `qemu` or `lxc | qemu`; see [`ServerEnvironment::has_driver`].
    #[serde(deserialize_with = "nullable")]
    pub driver: String,
    /// Their versions, in the same form.
    #[serde(deserialize_with = "nullable")]
    pub driver_version: String,
    /// Version of Incus.
    #[serde(deserialize_with = "nullable")]
    pub server_version: String,
    /// Name of the server (in a cluster, of the member).
    #[serde(deserialize_with = "nullable")]
    pub server_name: String,
    /// Process id of the daemon.
    pub server_pid: i64,
    /// Whether the server is a cluster's member.
    pub server_clustered: bool,
    /// Architectures that instances may have.
    #[serde(deserialize_with = "nullable")]
    pub architectures: Vec<String>,
    /// Addresses that the server listens on.
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<String>,
    /// The server's certificate, PEM.
    #[serde(deserialize_with = "nullable")]
    pub certificate: String,
    /// SHA-256 of the certificate, hex.
    #[serde(deserialize_with = "nullable")]
    pub certificate_fingerprint: String,
    /// `Linux`.
    #[serde(deserialize_with = "nullable")]
    pub kernel: String,
    /// Kernel version.
    #[serde(deserialize_with = "nullable")]
    pub kernel_version: String,
    /// Kernel features, name to `true` or `false`.
    #[serde(deserialize_with = "nullable")]
    pub kernel_features: BTreeMap<String, String>,
    /// Operating system's name.
    #[serde(deserialize_with = "nullable")]
    pub os_name: String,
    /// Operating system's version.
    #[serde(deserialize_with = "nullable")]
    pub os_version: String,
    /// `nftables` or `xtables`.
    #[serde(deserialize_with = "nullable")]
    pub firewall: String,
    /// The caller's project.
    #[serde(deserialize_with = "nullable")]
    pub project: String,
    /// Storage drivers in use, joined by ` | `.
    #[serde(deserialize_with = "nullable")]
    pub storage: String,
    /// Storage drivers that the server could use.
    #[serde(deserialize_with = "nullable")]
    pub storage_supported_drivers: Vec<StorageDriver>,
}

impl ServerEnvironment {
    /// Whether the server runs instances with this driver: `lxc` for containers, `qemu` for virtual machines.
    pub fn has_driver(&self, name: &str) -> bool {
        self.driver.split('|').any(|driver| driver.trim() == name)
    }

    /// The driver of every storage pool, where all have the same.
    pub fn only_storage_driver(&self) -> Option<&str> {
        let driver = self.storage.trim();
        let is_one = !driver.is_empty() && !driver.contains('|');
        is_one.then_some(driver)
    }
}

/// A storage driver of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StorageDriver {
    /// Its name, such as `btrfs`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether its storage is shared between cluster members.
    pub remote: bool,
}

#[cfg(test)]
mod tests {
    use super::ServerEnvironment;

    #[test]
    fn a_driver_is_the_only_one_where_no_other_is_named() {
        let only = |storage: &str| {
            let environment = ServerEnvironment {
                storage: storage.to_owned(),
                ..ServerEnvironment::default()
            };
            environment.only_storage_driver().map(str::to_owned)
        };
        assert_eq!(only("btrfs"), Some("btrfs".to_owned()));
        assert_eq!(only("btrfs | dir"), None);
        assert_eq!(only(""), None, "no pool yet");
    }
}
