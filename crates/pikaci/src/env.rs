//! Every environment variable that `pikaci` reads. docs/reference/environment.md lists the same ones.

use std::path::PathBuf;

/// Path of the operator's configuration.
pub(crate) const CONFIG: &str = "PIKACI_CONFIG";
/// Socket of the Incus daemon; wins over the configuration.
pub(crate) const SOCKET: &str = "PIKACI_INCUS_SOCKET";
/// Incus's own: its socket, where neither flag, [`SOCKET`] nor configuration names one.
pub(crate) const INCUS_SOCKET: &str = "INCUS_SOCKET";
/// Incus's own: its directory, with the socket in it; after [`INCUS_SOCKET`].
pub(crate) const INCUS_DIR: &str = "INCUS_DIR";
/// Filter of the diagnostics on stderr, such as `pika_runtime=debug`.
pub(crate) const LOG: &str = "PIKACI_LOG";
/// Overrides every job's guest role.
pub(crate) use jerichoci::job::GUEST_ROLE_ENV as GUEST_ROLE;

/// What kind of terminal a shell in an instance is told that it has.
const TERM: &str = "TERM";

/// The kind of this terminal.
pub(crate) fn terminal_kind() -> String {
    let kind = std::env::var(TERM).ok().filter(|kind| !kind.is_empty());
    kind.unwrap_or_else(|| "xterm".to_owned())
}

/// A variable's value as a path, if it is set to something.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Where a configuration is looked for when nothing names one, in this order.
pub(crate) fn config_candidates() -> Vec<PathBuf> {
    let xdg = path("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute());
    let user = xdg.or_else(|| path("HOME").map(|home| home.join(".config")));
    user.into_iter()
        .chain([PathBuf::from("/etc")])
        .map(|dir| dir.join("pikaci/config.toml"))
        .collect()
}
