//! The operator's configuration: which Incus, which host directories and volumes lanes may name, and
//! what a lane gets when it says nothing.
//!
//! Owns the format and its checks. It never looks for a file, never reads the environment and is never
//! taken from a work tree: what a branch writes can't define a mount.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pika_cloud::InstanceType;
use serde::Deserialize;
use toml::Spanned;

use crate::excerpt::{Problem, fmt_problems};
use crate::lanes::{LANE_TIMEOUT_MAX, parse_duration};

/// The socket of a system-wide Incus.
pub const DEFAULT_SOCKET: &str = "/var/lib/incus/unix.socket";
/// How long artifacts are kept where the configuration is silent.
const ARTIFACTS_KEPT_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
/// Longest time that artifacts may be kept.
const ARTIFACTS_KEPT_MAX: Duration = Duration::from_secs(3650 * 86_400);

const KNOWN_KEYS: &[&str] = &[
    "allow_full_cache_copies",
    "allow_unenforced_root_size",
    "artifacts_kept",
    "boot_timeout",
    "concurrent_runs",
    "caches",
    "default_instance_type",
    "defaults",
    "guest_path",
    "incus",
    "memory_mib",
    "mode",
    "mounts",
    "owner",
    "parallel",
    "pool",
    "profile",
    "project",
    "root_disk_gib",
    "scope",
    "socket",
    "source",
    "timeout",
    "vcpu_count",
    "volume",
];

/// The operator's configuration, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorConfig {
    /// How Incus is reached and what instances are made of.
    pub incus: IncusConfig,
    /// Host directories that lanes may name.
    pub mounts: BTreeMap<String, HostMount>,
    /// Cache volumes that lanes may name.
    pub caches: BTreeMap<String, CacheVolume>,
    /// What a lane gets when it says nothing.
    pub defaults: Defaults,
}

/// `[incus]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncusConfig {
    /// Unix socket of the daemon.
    pub socket: PathBuf,
    /// Incus project.
    pub project: String,
    /// Profile of every instance.
    pub profile: String,
    /// Storage pool; the profile's where it is silent.
    pub pool: Option<String>,
    /// What an instance is where the lane doesn't say.
    pub default_instance_type: InstanceType,
    /// Deployment id: the owner label of everything that is created. Made from the run store's path
    /// where it is silent.
    pub owner: Option<String>,
    /// Whether a root disk size that the pool can't enforce is accepted.
    pub allow_unenforced_root_size: bool,
    /// Whether every byte of a cache may be copied for each job, on a pool that can't clone.
    pub allow_full_cache_copies: bool,
}

/// `[mounts.NAME]`: a host directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMount {
    /// Absolute path of the host directory.
    pub source: PathBuf,
    /// Where instances see it.
    pub guest_path: String,
}

/// `[caches.NAME]`: a volume of the pool that outlives the instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheVolume {
    /// The beginning of the volume's name; a digest of whose it is follows.
    pub volume: String,
    /// Where instances see it.
    pub guest_path: String,
    /// Who shares it.
    pub scope: CacheScope,
    /// Whether runs may use it at the same time. Not for build products: those of another tree would
    /// be taken for this one's.
    pub concurrent_runs: bool,
}

/// Who shares a cache volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheScope {
    /// All lanes use one volume.
    #[default]
    Shared,
    /// Each lane has a volume of its own.
    Lane,
}

/// `[defaults]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// CPUs of an instance.
    pub vcpu_count: u8,
    /// Memory of an instance, in MiB.
    pub memory_mib: u32,
    /// Root disk, in GiB; unlimited within the pool where it is silent.
    pub root_disk_gib: Option<u32>,
    /// How long a command may run.
    pub timeout: Duration,
    /// How long an instance may take until its runner answers.
    pub boot_timeout: Duration,
    /// How many lanes run at once; from cores and memory where it is silent.
    pub parallel: Option<usize>,
    /// How long artifacts are kept.
    pub artifacts_kept: Duration,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            vcpu_count: 2,
            memory_mib: 4096,
            root_disk_gib: None,
            timeout: Duration::from_secs(3600),
            boot_timeout: Duration::from_secs(120),
            parallel: None,
            artifacts_kept: ARTIFACTS_KEPT_DEFAULT,
        }
    }
}

impl Default for IncusConfig {
    fn default() -> Self {
        Self {
            socket: PathBuf::from(DEFAULT_SOCKET),
            project: "default".to_owned(),
            profile: "default".to_owned(),
            pool: None,
            default_instance_type: InstanceType::Auto,
            owner: None,
            allow_unenforced_root_size: false,
            allow_full_cache_copies: false,
        }
    }
}

impl OperatorConfig {
    /// Parses and checks a configuration. `name` is what errors call it, normally its path.
    pub fn parse(name: &str, source: &str) -> Result<Self, OperatorConfigError> {
        let refused = |problems| OperatorConfigError {
            name: name.to_owned(),
            problems,
        };
        let raw: RawConfig = toml::from_str(source)
            .map_err(|error| refused(vec![Problem::from_toml(source, &error, KNOWN_KEYS)]))?;
        let mut checker = Checker {
            source,
            problems: Vec::new(),
        };
        let config = checker.config(raw);
        if checker.problems.is_empty() {
            return Ok(config);
        }
        let mut problems = checker.problems;
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(refused(problems))
    }
}

/// A configuration that can't be used. Its text shows each place with the line and a caret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorConfigError {
    /// What the file was called.
    pub name: String,
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for OperatorConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_problems(f, &self.name, &self.problems)
    }
}

impl std::error::Error for OperatorConfigError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    incus: RawIncus,
    #[serde(default)]
    mounts: BTreeMap<Spanned<String>, RawMount>,
    #[serde(default)]
    caches: BTreeMap<Spanned<String>, RawCache>,
    #[serde(default)]
    defaults: RawDefaults,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIncus {
    socket: Option<Spanned<String>>,
    project: Option<Spanned<String>>,
    profile: Option<Spanned<String>>,
    pool: Option<Spanned<String>>,
    default_instance_type: Option<InstanceType>,
    owner: Option<Spanned<String>>,
    #[serde(default)]
    allow_unenforced_root_size: bool,
    #[serde(default)]
    allow_full_cache_copies: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMount {
    source: Spanned<String>,
    mode: Spanned<String>,
    guest_path: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCache {
    volume: Option<Spanned<String>>,
    guest_path: Spanned<String>,
    #[serde(default)]
    scope: CacheScope,
    #[serde(default)]
    concurrent_runs: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDefaults {
    vcpu_count: Option<Spanned<u8>>,
    memory_mib: Option<Spanned<u32>>,
    root_disk_gib: Option<Spanned<u32>>,
    timeout: Option<Spanned<String>>,
    boot_timeout: Option<Spanned<String>>,
    parallel: Option<Spanned<usize>>,
    artifacts_kept: Option<Spanned<String>>,
}

struct Checker<'a> {
    source: &'a str,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn config(&mut self, raw: RawConfig) -> OperatorConfig {
        OperatorConfig {
            incus: self.incus(raw.incus),
            mounts: raw
                .mounts
                .into_iter()
                .map(|(name, mount)| self.mount(name, mount))
                .collect(),
            caches: raw
                .caches
                .into_iter()
                .map(|(name, cache)| self.cache(name, cache))
                .collect(),
            defaults: self.defaults(raw.defaults),
        }
    }

    fn incus(&mut self, raw: RawIncus) -> IncusConfig {
        let silent = IncusConfig::default();
        IncusConfig {
            socket: raw
                .socket
                .map_or(silent.socket, |socket| PathBuf::from(self.absolute(socket))),
            project: self.filled(raw.project).unwrap_or(silent.project),
            profile: self.filled(raw.profile).unwrap_or(silent.profile),
            pool: self.filled(raw.pool),
            default_instance_type: raw
                .default_instance_type
                .unwrap_or(silent.default_instance_type),
            owner: self.filled(raw.owner),
            allow_unenforced_root_size: raw.allow_unenforced_root_size,
            allow_full_cache_copies: raw.allow_full_cache_copies,
        }
    }

    fn mount(&mut self, name: Spanned<String>, raw: RawMount) -> (String, HostMount) {
        let name = self.name(name);
        if raw.mode.get_ref() != "read_only" {
            let problem = Problem::at(
                self.source,
                raw.mode.span(),
                "a host directory is only ever mounted read-only",
            )
            .with_help(
                "write mode = \"read_only\"; for a directory that lanes may write, define a cache",
            );
            self.problems.push(problem);
        }
        let guest_path = raw
            .guest_path
            .map_or_else(|| format!("/mnt/{name}"), |path| self.absolute(path));
        let source = PathBuf::from(self.absolute(raw.source));
        (name, HostMount { source, guest_path })
    }

    fn cache(&mut self, name: Spanned<String>, raw: RawCache) -> (String, CacheVolume) {
        let name = self.name(name);
        let volume = raw
            .volume
            .map_or_else(|| format!("pikaci-{name}"), |volume| self.name(volume));
        (
            name,
            CacheVolume {
                volume,
                guest_path: self.absolute(raw.guest_path),
                scope: raw.scope,
                concurrent_runs: raw.concurrent_runs,
            },
        )
    }

    fn defaults(&mut self, raw: RawDefaults) -> Defaults {
        let silent = Defaults::default();
        Defaults {
            vcpu_count: self.positive(raw.vcpu_count).unwrap_or(silent.vcpu_count),
            memory_mib: self.positive(raw.memory_mib).unwrap_or(silent.memory_mib),
            root_disk_gib: self.positive(raw.root_disk_gib),
            timeout: self
                .duration(raw.timeout, LANE_TIMEOUT_MAX)
                .unwrap_or(silent.timeout),
            boot_timeout: self
                .duration(raw.boot_timeout, LANE_TIMEOUT_MAX)
                .unwrap_or(silent.boot_timeout),
            parallel: self.positive(raw.parallel),
            artifacts_kept: self
                .duration(raw.artifacts_kept, ARTIFACTS_KEPT_MAX)
                .unwrap_or(silent.artifacts_kept),
        }
    }

    fn absolute(&mut self, path: Spanned<String>) -> String {
        let text = path.get_ref();
        let normal = Path::new(text).is_absolute()
            && !text.contains('\0')
            && !text
                .split('/')
                .skip(1)
                .any(|part| part == ".." || part == ".");
        if !normal {
            let problem = Problem::at(
                self.source,
                path.span(),
                "a path must be absolute, without `.` or `..`",
            );
            self.problems.push(problem);
        }
        path.into_inner()
    }

    fn filled(&mut self, text: Option<Spanned<String>>) -> Option<String> {
        let text = text?;
        if text.get_ref().trim().is_empty() {
            let problem = Problem::at(
                self.source,
                text.span(),
                "empty; leave the key out for the default",
            );
            self.problems.push(problem);
        }
        Some(text.into_inner())
    }

    fn name(&mut self, name: Spanned<String>) -> String {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.get_ref().is_empty()
            || name.get_ref().len() > 40
            || !name.get_ref().bytes().all(allowed)
        {
            let message = "a name has 1 to 40 letters, digits, `-` and `_`";
            self.problems
                .push(Problem::at(self.source, name.span(), message));
        }
        name.into_inner()
    }

    fn positive<T: Copy + Default + PartialEq>(&mut self, number: Option<Spanned<T>>) -> Option<T> {
        let number = number?;
        if *number.get_ref() == T::default() {
            self.problems.push(Problem::at(
                self.source,
                number.span(),
                "must be at least 1",
            ));
        }
        Some(number.into_inner())
    }

    fn duration(&mut self, text: Option<Spanned<String>>, max: Duration) -> Option<Duration> {
        let text = text?;
        match parse_duration(text.get_ref(), max) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.problems
                    .push(Problem::at(self.source, text.span(), error.to_string()));
                None
            }
        }
    }
}
