//! `GET /1.0`: what the daemon says about itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::fake::daemon::Daemon;
use crate::fake::reply::{Reply, sync_tagged};
use crate::fake::route::{Call, not_implemented};

/// `GET /1.0`
pub(crate) fn root(daemon: &Arc<Daemon>, call: &Call) -> Reply {
    if call.parts.method != http::Method::GET {
        return Err(not_implemented());
    }
    let world = daemon.world();
    let server = &world.server;
    let drivers: Vec<Value> = server
        .storage_drivers
        .iter()
        .map(|name| json!({"Name": name, "Version": "1", "Remote": false}))
        .collect();
    let in_use: BTreeSet<&str> = world.pools.values().map(|pool| &*pool.driver).collect();
    let in_use: Vec<&str> = in_use.into_iter().collect();
    let body = json!({
        "config": server.config, "api_extensions": server.extensions, "api_status": "stable",
        "api_version": "1.0", "auth": "trusted", "public": false, "auth_methods": ["tls"],
        "auth_user_name": "root", "auth_user_method": "unix",
        "environment": {
            "addresses": [], "architectures": ["x86_64", "i686"], "certificate": "",
            "certificate_fingerprint": "", "driver": server.driver, "driver_version": "5.0.2",
            "firewall": "nftables", "kernel": "Linux", "kernel_architecture": "x86_64",
            "kernel_features": {}, "kernel_version": "6.18.0", "lxc_features": {},
            "os_name": "Debian GNU/Linux", "os_version": "12", "project": call.project(),
            "server": "incus", "server_clustered": false, "server_event_mode": "full-mesh",
            "server_name": "fake", "server_pid": 1, "server_version": server.version,
            "storage": in_use.join(" | "), "storage_version": "6.2", "storage_supported_drivers": drivers,
        },
    });
    Ok(sync_tagged(&body, &json!(server.config)))
}
