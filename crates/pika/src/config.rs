//! The operator's configuration, and all environment variables.
//!
//! Owns the order of precedence (flag, environment, file, default) and the file's format. Unknown keys are
//! refused. The tables `mounts`, `caches` and `defaults` of the same file belong to pikaci and are left to it.

use std::path::{Path, PathBuf};

use pika_cloud::{DeploymentId, InstanceType};
use pika_runtime::incus::Client;
use pika_runtime::{RuntimeConfig, Runtimes};
use serde::Deserialize;

use crate::cli::Global;
use crate::exit::{CommandError, Exit};

/// Path of the configuration file.
pub(crate) const CONFIG_VARIABLE: &str = "PIKA_CONFIG";
/// Unix socket of the Incus daemon.
pub(crate) const SOCKET_VARIABLE: &str = "PIKA_INCUS_SOCKET";
/// Incus project.
pub(crate) const PROJECT_VARIABLE: &str = "PIKA_INCUS_PROJECT";
/// Incus profile.
pub(crate) const PROFILE_VARIABLE: &str = "PIKA_INCUS_PROFILE";
/// Deployment id.
pub(crate) const OWNER_VARIABLE: &str = "PIKA_OWNER";
/// `human` or `json`.
pub(crate) const OUTPUT_VARIABLE: &str = "PIKA_OUTPUT";
/// What is logged to stderr, in the syntax of tracing's filters.
pub(crate) const LOG_VARIABLE: &str = "PIKA_LOG";
/// Address of the agents' server.
pub(crate) const SERVER_VARIABLE: &str = "PIKA_SERVER";
/// Token that is shown to it.
pub(crate) const TOKEN_VARIABLE: &str = "PIKA_TOKEN";
/// Certificate authorities that its certificate may be signed by.
pub(crate) const CA_FILE_VARIABLE: &str = "PIKA_CA_FILE";
/// Kind of the terminal, which a command with one is told.
pub(crate) const TERM_VARIABLE: &str = "TERM";
/// Where image builds keep what can be used again.
pub(crate) const CACHE_VARIABLE: &str = "PIKA_CACHE_DIR";
/// Incus' own variable: the socket of its daemon, when nothing else names one.
const INCUS_SOCKET_VARIABLE: &str = "INCUS_SOCKET";
/// Incus' own variable: the directory of its daemon, whose socket is taken when nothing else names one.
const INCUS_DIR_VARIABLE: &str = "INCUS_DIR";

/// The configuration that holds when no user's own is there.
const SYSTEM_FILE: &str = "/etc/pika/config.toml";
const DEFAULT_SOCKET: &str = "/var/lib/incus/unix.socket";
const DEFAULT_OWNER: &str = "pika";
const DEFAULT_NAME: &str = "default";

/// What holds for this call.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Unix socket of the daemon.
    pub(crate) socket: PathBuf,
    /// Incus project, where no spec names one.
    pub(crate) project: String,
    /// Incus profile, where no spec names one.
    pub(crate) profile: String,
    /// Who owns what is made.
    pub(crate) owner: DeploymentId,
    /// What a spec that says nothing gets.
    pub(crate) default_instance_type: InstanceType,
    /// Whether a root disk size that the pool can't enforce is accepted.
    pub(crate) allow_unenforced_root_size: bool,
    /// The file that was read, if there was one.
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    incus: IncusTable,
    #[serde(default)]
    agent: AgentSettings,
    /// Read by pikaci.
    #[serde(default, rename = "mounts")]
    _mounts: toml::Table,
    /// Read by pikaci.
    #[serde(default, rename = "caches")]
    _caches: toml::Table,
    /// Read by pikaci.
    #[serde(default, rename = "defaults")]
    _defaults: toml::Table,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IncusTable {
    socket: Option<PathBuf>,
    project: Option<String>,
    profile: Option<String>,
    /// Read by pikaci; a spec names its own.
    #[serde(rename = "pool")]
    _pool: Option<String>,
    owner: Option<String>,
    default_instance_type: Option<InstanceType>,
    #[serde(default)]
    allow_unenforced_root_size: bool,
}

/// Where the agents' server is, as far as the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentSettings {
    /// Its address.
    pub(crate) server: Option<String>,
    /// File that holds the token.
    pub(crate) token_file: Option<PathBuf>,
    /// File of the certificate authorities that are trusted instead of this host's.
    pub(crate) ca_file: Option<PathBuf>,
}

impl AgentSettings {
    /// What the file says.
    pub(crate) fn load(global: &Global) -> Result<AgentSettings, CommandError> {
        read_file(global.config.as_deref()).map(|(file, _)| file.agent)
    }
}

impl Settings {
    /// Settles every setting.
    pub(crate) fn load(global: &Global) -> Result<Settings, CommandError> {
        let (file, path) = read_file(global.config.as_deref())?;
        let incus = file.incus;
        let owner = global
            .owner
            .clone()
            .or(incus.owner)
            .unwrap_or_else(|| DEFAULT_OWNER.to_owned());
        let owner =
            DeploymentId::new(owner).map_err(|error| CommandError::new(Exit::Usage, &error))?;
        Ok(Settings {
            socket: global
                .socket
                .clone()
                .or(incus.socket)
                .unwrap_or_else(default_socket),
            project: incus.project.unwrap_or_else(|| DEFAULT_NAME.to_owned()),
            profile: incus.profile.unwrap_or_else(|| DEFAULT_NAME.to_owned()),
            owner,
            default_instance_type: incus.default_instance_type.unwrap_or(InstanceType::Auto),
            allow_unenforced_root_size: incus.allow_unenforced_root_size,
            file: path,
        })
    }

    /// A client of the daemon, in the configured project.
    pub(crate) fn client(&self) -> Client {
        Client::unix(&self.socket).with_project(&self.project)
    }

    /// The runtime library on that client.
    pub(crate) fn runtimes(&self) -> Runtimes {
        let mut config = RuntimeConfig::new(self.owner.clone());
        config.default_instance_type = self.default_instance_type;
        config.allow_unenforced_root_size = self.allow_unenforced_root_size;
        Runtimes::new(self.client(), config)
    }
}

/// A variable's value as a path, if it is set to something.
pub(crate) fn path_in(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The daemon that Incus' own client would take.
fn default_socket() -> PathBuf {
    path_in(INCUS_SOCKET_VARIABLE)
        .or_else(|| path_in(INCUS_DIR_VARIABLE).map(|dir| dir.join("unix.socket")))
        .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
}

/// Where image builds keep what can be used again, unless something else is named.
pub(crate) fn default_cache_dir() -> PathBuf {
    let own = path_in("XDG_CACHE_HOME").or_else(|| path_in("HOME").map(|home| home.join(".cache")));
    own.unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("pika/images")
}

/// A file that was named must be there; one that is only usual need not.
fn read_file(named: Option<&Path>) -> Result<(File, Option<PathBuf>), CommandError> {
    if let Some(path) = named {
        return parse_file(path, &read_to_string(path)?).map(|file| (file, Some(path.to_owned())));
    }
    for path in usual_files() {
        match std::fs::read_to_string(&path) {
            Ok(text) => return parse_file(&path, &text).map(|file| (file, Some(path))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(cant_read(&path, &error)),
        }
    }
    Ok((File::default(), None))
}

fn usual_files() -> Vec<PathBuf> {
    let base =
        path_in("XDG_CONFIG_HOME").or_else(|| path_in("HOME").map(|home| home.join(".config")));
    let own = base.map(|base| base.join("pika/config.toml"));
    own.into_iter()
        .chain([PathBuf::from(SYSTEM_FILE)])
        .collect()
}

fn read_to_string(path: &Path) -> Result<String, CommandError> {
    std::fs::read_to_string(path).map_err(|error| cant_read(path, &error))
}

fn cant_read(path: &Path, error: &std::io::Error) -> CommandError {
    let message = format!("can't read the configuration {}", path.display());
    CommandError {
        exit: Exit::Usage,
        message,
        causes: vec![error.to_string()],
        hint: None,
    }
}

fn parse_file(path: &Path, text: &str) -> Result<File, CommandError> {
    toml::from_str(text).map_err(|error| CommandError {
        exit: Exit::Usage,
        message: format!("{} is not a configuration", path.display()),
        causes: vec![error.to_string().trim_end().to_owned()],
        hint: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_documented() {
        let page = include_str!("../../../docs/reference/environment.md");
        for variable in [
            CONFIG_VARIABLE,
            SOCKET_VARIABLE,
            PROJECT_VARIABLE,
            PROFILE_VARIABLE,
            OWNER_VARIABLE,
            OUTPUT_VARIABLE,
            LOG_VARIABLE,
            CACHE_VARIABLE,
            SERVER_VARIABLE,
            TOKEN_VARIABLE,
            CA_FILE_VARIABLE,
            TERM_VARIABLE,
            INCUS_SOCKET_VARIABLE,
            INCUS_DIR_VARIABLE,
        ] {
            assert!(
                page.contains(&format!("`{variable}`")),
                "{variable} is not in docs/reference/environment.md"
            );
        }
    }
}
