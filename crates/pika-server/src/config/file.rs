//! Reading the configuration: TOML, then the environment over it, then checks.
//!
//! Owns the file's format and the names of all variables. Unknown keys are refused. The variables of agents' parameters
//! lie below the file, as the contract says; all others lie above it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pika_cloud::{DeploymentId, InstanceType};
use pika_managed_agent_contract::{OperatorParams, ParamsError};
use pika_store::{Quotas, Sizes};
use serde::{Deserialize, Serialize};

use super::snapshots::{self, SnapshotsTable};
use super::{Config, DEFAULT_QUOTAS, DEFAULT_SIZES, LocalIncus, Times};

/// Every variable of the server's own, with what it sets. Those of agents' parameters are the contract's.
pub const VARIABLES: &[(&str, &str)] = &[
    ("PIKA_SERVER_CONFIG", "path of the configuration file"),
    ("PIKA_SERVER_LISTEN", "address and port to listen on"),
    (
        "PIKA_SERVER_METRICS_LISTEN",
        "address and port where figures are shown to whoever asks",
    ),
    (
        "PIKA_SERVER_EXTERNAL_URL",
        "how the outside calls the server",
    ),
    ("PIKA_SERVER_DATABASE", "address of the database"),
    ("PIKA_INCUS_SOCKET", "Unix socket of the local Incus"),
    (
        "PIKA_OWNER",
        "deployment id that everything is labelled with",
    ),
    (
        "PIKA_SERVER_SNAPSHOTS_SCHEDULE",
        "when Incus takes backups of agents' volumes by itself",
    ),
    ("PIKA_SERVER_SNAPSHOTS_EXPIRY", "how long those are kept"),
    (
        "PIKA_LOG",
        "what is logged, in the syntax of tracing's filters",
    ),
];

const SYSTEM_FILE: &str = "/etc/pika/server.toml";
const DEFAULT_LISTEN: &str = "127.0.0.1:8787";
const DEFAULT_DATABASE: &str = "sqlite:/var/lib/pika-server/pika.db";
const DEFAULT_SOCKET: &str = "/var/lib/incus/unix.socket";

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not one.
    #[error("{path} is not a configuration: {problem}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        problem: String,
    },
    /// A value can't be used.
    #[error("`{key}` is `{value}`, which {rule}")]
    Value {
        /// The key or variable.
        key: &'static str,
        /// What was given.
        value: String,
        /// The rule.
        rule: &'static str,
    },
    /// A time can't be used.
    #[error("`{key}` is {secs}, which must be {least} to {SECS_MAX} seconds")]
    Time {
        /// The key.
        key: &'static str,
        /// What was given.
        secs: u64,
        /// The least.
        least: u64,
    },
    /// Parameters of agents can't be used.
    #[error("parameters of agents can't be used")]
    Params(#[from] ParamsError),
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    server: ServerTable,
    incus: IncusTable,
    agents: OperatorParams,
    sizes: SizesTable,
    quotas: QuotasTable,
    times: TimesTable,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshots: Option<SnapshotsTable>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ServerTable {
    listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_url: Option<String>,
    database: Option<String>,
    operations_at_once: Option<usize>,
    requests_per_second: Option<u32>,
    log_json: Option<bool>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct IncusTable {
    socket: Option<PathBuf>,
    project: Option<String>,
    profile: Option<String>,
    pool: Option<String>,
    owner: Option<String>,
    instance_type: Option<InstanceType>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SizesTable {
    vcpu: Option<u8>,
    memory_mib: Option<u32>,
    disk_gib: Option<u32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct QuotasTable {
    agents: Option<u32>,
    vcpu: Option<u32>,
    memory_mib: Option<u32>,
    disk_gib: Option<u32>,
    backups: Option<u32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimesTable {
    ready_secs: Option<u64>,
    operation_secs: Option<u64>,
    unreachable_secs: Option<u64>,
    stop_grace_secs: Option<u64>,
    recover_cool_down_secs: Option<u64>,
    delete_grace_secs: Option<u64>,
    reconcile_secs: Option<u64>,
    lease_secs: Option<u64>,
    restart_rest_secs: Option<u64>,
    history_secs: Option<u64>,
    web_answer_secs: Option<u64>,
}

impl Config {
    /// Settles the configuration from a file (the named one, or the usual one if it is there) and an environment.
    ///
    /// # Errors
    /// Each reason is a variant of its own.
    pub fn load(
        named: Option<&Path>,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        let named = named
            .map(Path::to_owned)
            .or_else(|| lookup("PIKA_SERVER_CONFIG").map(PathBuf::from));
        let file = match named {
            Some(path) => parse(&path, &read(&path)?)?,
            None => match std::fs::read_to_string(SYSTEM_FILE) {
                Ok(text) => parse(Path::new(SYSTEM_FILE), &text)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => File::default(),
                Err(source) => {
                    return Err(ConfigError::Read {
                        path: SYSTEM_FILE.into(),
                        source,
                    });
                }
            },
        };
        settle(file, lookup)
    }

    /// The configuration as a file that says everything, without secrets.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let secs = |duration: Duration| Some(duration.as_secs());
        let times = self.times;
        let file = File {
            server: ServerTable {
                listen: Some(self.listen.to_string()),
                metrics_listen: self.metrics_listen.map(|address| address.to_string()),
                external_url: self.external_url.clone(),
                database: Some(pika_store::without_password(&self.database)),
                operations_at_once: Some(self.operations_at_once),
                requests_per_second: Some(self.requests_per_second),
                log_json: Some(self.log_json),
            },
            incus: IncusTable {
                socket: Some(self.incus.socket.clone()),
                project: Some(self.incus.project.clone()),
                profile: Some(self.incus.profile.clone()),
                pool: Some(self.incus.pool.clone()),
                owner: Some(self.incus.owner.to_string()),
                instance_type: Some(self.incus.instance_type),
            },
            agents: self.agents.clone(),
            sizes: SizesTable {
                vcpu: u8::try_from(self.sizes.vcpu).ok(),
                memory_mib: u32::try_from(self.sizes.memory_mib).ok(),
                disk_gib: u32::try_from(self.sizes.disk_gib).ok(),
            },
            quotas: QuotasTable {
                agents: u32::try_from(self.quotas.agents_max).ok(),
                vcpu: u32::try_from(self.quotas.vcpu_max).ok(),
                memory_mib: u32::try_from(self.quotas.memory_mib_max).ok(),
                disk_gib: u32::try_from(self.quotas.disk_gib_max).ok(),
                backups: u32::try_from(self.quotas.backups_max).ok(),
            },
            times: TimesTable {
                ready_secs: secs(times.ready),
                operation_secs: secs(times.operation),
                unreachable_secs: secs(times.unreachable),
                stop_grace_secs: secs(times.stop_grace),
                recover_cool_down_secs: secs(times.recover_cool_down),
                delete_grace_secs: secs(times.delete_grace),
                reconcile_secs: secs(times.reconcile),
                lease_secs: secs(times.lease),
                restart_rest_secs: secs(times.restart_rest),
                history_secs: secs(times.history),
                web_answer_secs: secs(times.web_answer),
            },
            snapshots: self.snapshots.as_ref().map(SnapshotsTable::of),
        };
        toml::to_string_pretty(&file).expect("every table here is one that TOML can say")
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        problem: error.to_string().trim_end().to_owned(),
    })
}

fn settle(file: File, lookup: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let set = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
    let agents = OperatorParams::merge(OperatorParams::from_environment(&lookup)?, file.agents)?;
    let listen = set("PIKA_SERVER_LISTEN")
        .or(file.server.listen)
        .unwrap_or_else(|| DEFAULT_LISTEN.to_owned());
    let listen = address("server.listen", listen)?;
    let metrics_listen = set("PIKA_SERVER_METRICS_LISTEN")
        .or(file.server.metrics_listen)
        .map(|text| address("server.metrics_listen", text))
        .transpose()?;
    let external_url = set("PIKA_SERVER_EXTERNAL_URL")
        .or(file.server.external_url)
        .map(outside)
        .transpose()?;
    let operations_at_once = file.server.operations_at_once.unwrap_or(32);
    if operations_at_once == 0 {
        return Err(ConfigError::Value {
            key: "server.operations_at_once",
            value: "0".to_owned(),
            rule: "must be at least 1, or nothing would ever be done",
        });
    }
    Ok(Config {
        listen,
        metrics_listen,
        external_url,
        database: set("PIKA_SERVER_DATABASE")
            .or(file.server.database)
            .unwrap_or_else(|| DEFAULT_DATABASE.to_owned()),
        incus: local_incus(file.incus, &set)?,
        agents,
        sizes: sizes(&file.sizes),
        quotas: quotas(&file.quotas),
        times: times(&file.times)?,
        snapshots: snapshots::plan(file.snapshots.unwrap_or_default(), &set)?,
        operations_at_once,
        requests_per_second: file.server.requests_per_second.unwrap_or(100),
        log_json: file.server.log_json.unwrap_or(false),
    })
}

fn address(key: &'static str, value: String) -> Result<SocketAddr, ConfigError> {
    value.parse().map_err(|_| ConfigError::Value {
        key,
        value,
        rule: "must be an address with a port, such as 127.0.0.1:8787",
    })
}

/// Scheme and authority, without the slash at the end.
fn outside(value: String) -> Result<String, ConfigError> {
    let trimmed = value.trim_end_matches('/');
    let parsed: Option<http::Uri> = trimmed.parse().ok();
    let fits = parsed.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.path().trim_start_matches('/').is_empty()
            && uri.query().is_none()
    });
    if fits {
        return Ok(trimmed.to_owned());
    }
    Err(ConfigError::Value {
        key: "server.external_url",
        value,
        rule: "must be http:// or https:// with a host, such as https://agents.example, and no path",
    })
}

fn local_incus(
    table: IncusTable,
    set: &impl Fn(&str) -> Option<String>,
) -> Result<LocalIncus, ConfigError> {
    let owner = set("PIKA_OWNER")
        .or(table.owner)
        .unwrap_or_else(|| "pika".to_owned());
    let name = |value: Option<String>| value.unwrap_or_else(|| "default".to_owned());
    Ok(LocalIncus {
        socket: set("PIKA_INCUS_SOCKET")
            .map(PathBuf::from)
            .or(table.socket)
            .unwrap_or_else(|| DEFAULT_SOCKET.into()),
        project: name(table.project),
        profile: name(table.profile),
        pool: name(table.pool),
        owner: DeploymentId::new(owner.clone()).map_err(|_| ConfigError::Value {
            key: "incus.owner",
            value: owner,
            rule: "must be 1 to 63 letters, digits, `.`, `_` or `-`",
        })?,
        instance_type: table.instance_type.unwrap_or(InstanceType::Auto),
    })
}

fn sizes(table: &SizesTable) -> Sizes {
    Sizes {
        vcpu: table.vcpu.map_or(DEFAULT_SIZES.vcpu, i64::from),
        memory_mib: table.memory_mib.map_or(DEFAULT_SIZES.memory_mib, i64::from),
        disk_gib: table.disk_gib.map_or(DEFAULT_SIZES.disk_gib, i64::from),
    }
}

fn quotas(table: &QuotasTable) -> Quotas {
    Quotas {
        agents_max: table.agents.map_or(DEFAULT_QUOTAS.agents_max, i64::from),
        vcpu_max: table.vcpu.map_or(DEFAULT_QUOTAS.vcpu_max, i64::from),
        memory_mib_max: table
            .memory_mib
            .map_or(DEFAULT_QUOTAS.memory_mib_max, i64::from),
        disk_gib_max: table
            .disk_gib
            .map_or(DEFAULT_QUOTAS.disk_gib_max, i64::from),
        backups_max: table.backups.map_or(DEFAULT_QUOTAS.backups_max, i64::from),
    }
}

/// Longest time that can be configured: ten years.
const SECS_MAX: u64 = 10 * 366 * 86_400;

fn times(table: &TimesTable) -> Result<Times, ConfigError> {
    let defaults = Times::default();
    let pick = |key: &'static str, given: Option<u64>, least: u64, default: Duration| match given {
        None => Ok(default),
        Some(secs) if (least..=SECS_MAX).contains(&secs) => Ok(Duration::from_secs(secs)),
        Some(secs) => Err(ConfigError::Time { key, secs, least }),
    };
    Ok(Times {
        ready: pick("times.ready_secs", table.ready_secs, 1, defaults.ready)?,
        operation: pick(
            "times.operation_secs",
            table.operation_secs,
            1,
            defaults.operation,
        )?,
        unreachable: pick(
            "times.unreachable_secs",
            table.unreachable_secs,
            0,
            defaults.unreachable,
        )?,
        stop_grace: pick(
            "times.stop_grace_secs",
            table.stop_grace_secs,
            0,
            defaults.stop_grace,
        )?,
        recover_cool_down: pick(
            "times.recover_cool_down_secs",
            table.recover_cool_down_secs,
            0,
            defaults.recover_cool_down,
        )?,
        delete_grace: pick(
            "times.delete_grace_secs",
            table.delete_grace_secs,
            0,
            defaults.delete_grace,
        )?,
        reconcile: pick(
            "times.reconcile_secs",
            table.reconcile_secs,
            1,
            defaults.reconcile,
        )?,
        lease: pick("times.lease_secs", table.lease_secs, 5, defaults.lease)?,
        restart_rest: pick(
            "times.restart_rest_secs",
            table.restart_rest_secs,
            1,
            defaults.restart_rest,
        )?,
        history: pick(
            "times.history_secs",
            table.history_secs,
            3600,
            defaults.history,
        )?,
        web_answer: pick(
            "times.web_answer_secs",
            table.web_answer_secs,
            1,
            defaults.web_answer,
        )?,
    })
}
