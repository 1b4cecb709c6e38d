//! The volume of a managed agent: who it is, where its gateway keeps its state, how it is configured.
//!
//! Owns the layout of the volume and the order of writes. Whatever process dies in between, the next run ends the same
//! way: the pushed file goes last. The volume's top belongs to root, so that the agent can't put a link in the place of
//! what root writes.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pika_cloud::paths::{AGENT_STATE_GUEST_PATH, GUEST_GID, GUEST_UID};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::config::{self, AgentConfig, CONFIG_BYTES_MAX, ConfigError};
use super::volume;
use crate::clock;
use crate::files::{Dir, FileError};
use crate::wait;

/// What the host pushes, in the directory on tmpfs.
const PUSHED_FILE: &str = "config.json";
/// What became of it, in the same directory.
const RESULT_FILE: &str = "result.json";
const LOCK_FILE: &str = "lock";
/// Who the agent is, at the top of the volume.
const IDENTITY_FILE: &str = "identity.json";
const IDENTITY_BYTES_MAX: usize = 4096;
/// Root's own directory on the volume.
const PRIVATE_DIR: &str = "agent";
const ENVIRONMENT_FILE: &str = "environment";
const APPLIED_FILE: &str = "applied.json";
/// The gateway's state directory on the volume.
const OPENCLAW_DIR: &str = "openclaw";
const OPENCLAW_FILE: &str = "openclaw.json";
const OPENCLAW_BYTES_MAX: usize = 4 << 20;
/// Home of the agent's user on the volume.
const HOME_DIR: &str = "home";
const AGENT: (u32, u32) = (GUEST_UID, GUEST_GID);
/// A file that is being pushed is no JSON until its last byte.
const PUSH_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The volume's mount point.
    pub volume: PathBuf,
    /// The directory on tmpfs that the host pushes into.
    pub pushed: PathBuf,
}

/// What became of a pushed configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// None was there.
    Nothing,
    /// It is what is there already.
    Unchanged,
    /// It was taken.
    Changed,
    /// It was refused, and why.
    Refused(String),
}

/// Why the volume is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The mounts of the guest's init.
    #[error("the guest's own mounts can't be looked at: this must run as root")]
    Namespace {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel's table of mounts.
    #[error("the table of mounts can't be watched")]
    MountTable {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file of the volume or of tmpfs.
    #[error("the agent's files can't be made")]
    File(#[from] FileError),
    /// A random id.
    #[error("no random id can be had")]
    Random(#[source] io::Error),
    /// Somebody else does the same.
    #[error("{} can't be locked", path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The identity is there and can't be read: a new one would be another agent.
    #[error(
        "{IDENTITY_FILE} on the volume is no identity: restore the volume, or remove the file to begin as a new agent"
    )]
    Identity(#[source] serde_json::Error),
    /// A document can't be written down.
    #[error("a document can't be encoded")]
    Encode(#[source] serde_json::Error),
}

/// Who the agent on a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    schema_version: u32,
    /// Random, made on the volume's first boot.
    id: String,
    created_at: pika_cloud::Timestamp,
}

#[derive(Serialize)]
struct Applied<'a> {
    schema_version: u32,
    revision: Option<&'a str>,
    applied: bool,
    reason: Option<&'a str>,
    at: pika_cloud::Timestamp,
}

impl Places {
    /// Where they are in every guest.
    #[must_use]
    pub fn guest() -> Places {
        Places {
            volume: PathBuf::from(AGENT_STATE_GUEST_PATH),
            pushed: PathBuf::from("/run/pika-agent"),
        }
    }
}

/// Waits for the volume, lays it out, and takes what was pushed.
pub(super) fn run(places: &Places) -> Result<Outcome, SetupError> {
    volume::look_as_init()?;
    volume::wait_until_mounted(&places.volume)?;
    let pushed = Dir::ensure(&places.pushed, 0o700)?;
    let lock = pushed.open_append(LOCK_FILE, 0o600)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|errno| SetupError::Lock {
        path: places.pushed.join(LOCK_FILE),
        source: errno.into(),
    })?;
    let volume = Dir::open(&places.volume)?;
    volume.set_owner(0, 0)?;
    volume.set_mode(0o755)?;
    lay_out(&volume, &pushed)
}

fn lay_out(volume: &Dir, pushed: &Dir) -> Result<Outcome, SetupError> {
    ensure_identity(volume)?;
    let private = volume.ensure_dir(PRIVATE_DIR, 0o700)?;
    for name in [OPENCLAW_DIR, HOME_DIR] {
        volume
            .ensure_dir(name, 0o700)?
            .set_owner(AGENT.0, AGENT.1)?;
    }
    let openclaw = volume.dir(OPENCLAW_DIR)?;
    ensure_openclaw(&openclaw)?;
    let (revision, outcome) = match read_pushed(pushed)? {
        None => return Ok(Outcome::Nothing),
        Some(Err(why)) => (None, Outcome::Refused(why.to_string())),
        Some(Ok(config)) => {
            let outcome = take(&config, &openclaw, &private)?;
            (config.revision, outcome)
        }
    };
    let reason = match &outcome {
        Outcome::Refused(why) => Some(why.as_str()),
        _ => None,
    };
    let result = encoded(&Applied {
        schema_version: 1,
        revision: revision.as_deref(),
        applied: reason.is_none(),
        reason,
        at: clock::now(),
    })?;
    if reason.is_none() {
        private.write(APPLIED_FILE, &result, 0o600)?;
    }
    pushed.write_unsynced(RESULT_FILE, &result, 0o600)?;
    pushed.remove(PUSHED_FILE)?;
    Ok(outcome)
}

fn take(config: &AgentConfig, openclaw: &Dir, private: &Dir) -> Result<Outcome, SetupError> {
    let existing = openclaw.read(OPENCLAW_FILE, OPENCLAW_BYTES_MAX)?;
    let merged = match config::merged(&existing.unwrap_or_default(), &config.openclaw) {
        Ok(merged) => merged,
        Err(why) => return Ok(Outcome::Refused(why.to_string())),
    };
    let mut outcome = Outcome::Unchanged;
    if let Some(document) = merged {
        openclaw.write_owned(OPENCLAW_FILE, &encoded(&document)?, 0o600, AGENT)?;
        outcome = Outcome::Changed;
    }
    if let Some(text) = config.environment_file() {
        let existing = private.read(ENVIRONMENT_FILE, 2 * CONFIG_BYTES_MAX)?;
        if existing.as_deref() != Some(text.as_bytes()) {
            private.write(ENVIRONMENT_FILE, text.as_bytes(), 0o600)?;
            outcome = Outcome::Changed;
        }
    }
    Ok(outcome)
}

/// Gives the gateway a configuration where it has none, with a token that nobody else knows.
fn ensure_openclaw(openclaw: &Dir) -> Result<(), SetupError> {
    if openclaw.open_file(OPENCLAW_FILE)?.is_some() {
        return Ok(());
    }
    let mut token = String::new();
    for _ in 0..2 {
        token.push_str(&clock::random_id().map_err(SetupError::Random)?);
    }
    let document = config::default_openclaw(&token.replace('-', ""));
    Ok(openclaw.write_owned(OPENCLAW_FILE, &encoded(&document)?, 0o600, AGENT)?)
}

/// The pushed file, whole: none if there is none.
fn read_pushed(pushed: &Dir) -> Result<Option<Result<AgentConfig, ConfigError>>, SetupError> {
    let deadline = Instant::now() + PUSH_LIMIT;
    let mut last = None;
    let settled = wait::until(deadline, PAUSE, || {
        match pushed.read(PUSHED_FILE, CONFIG_BYTES_MAX) {
            Err(error) => Some(Err(error)),
            Ok(None) => Some(Ok(None)),
            Ok(Some(bytes)) => match AgentConfig::parse(&bytes) {
                // It may be that its end has not come yet.
                Err(why @ ConfigError::Shape(_)) => {
                    last = Some(why);
                    None
                }
                parsed => Some(Ok(Some(parsed))),
            },
        }
    });
    match settled {
        Some(Ok(found)) => Ok(found),
        // A file of another kind or size is refused like one of another shape.
        Some(Err(error)) => {
            let why = crate::error_text::chain(&error);
            Ok(Some(Err(ConfigError::Shape(why))))
        }
        None => Ok(last.map(Err)),
    }
}

fn ensure_identity(volume: &Dir) -> Result<Identity, SetupError> {
    if let Some(bytes) = volume.read(IDENTITY_FILE, IDENTITY_BYTES_MAX)? {
        return serde_json::from_slice(&bytes).map_err(SetupError::Identity);
    }
    let identity = Identity {
        schema_version: 1,
        id: clock::random_id().map_err(SetupError::Random)?,
        created_at: clock::now(),
    };
    volume.write(IDENTITY_FILE, &encoded(&identity)?, 0o644)?;
    Ok(identity)
}

fn encoded(value: &impl Serialize) -> Result<Vec<u8>, SetupError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(SetupError::Encode)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A volume and a directory for pushes, without mounts.
    struct Bench {
        folder: tempfile::TempDir,
        volume: Dir,
        pushed: Dir,
    }

    impl Bench {
        fn new() -> Bench {
            let folder = tempfile::tempdir().unwrap();
            let root = Dir::open(&folder.path().canonicalize().unwrap()).unwrap();
            let volume = root.ensure_dir("volume", 0o755).unwrap();
            let pushed = root.ensure_dir("pushed", 0o700).unwrap();
            Bench {
                folder,
                volume,
                pushed,
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn push(&self, text: &str) -> Outcome {
            self.pushed
                .write(PUSHED_FILE, text.as_bytes(), 0o600)
                .unwrap();
            self.run()
        }

        fn run(&self) -> Outcome {
            let outcome = lay_out(&self.volume, &self.pushed).unwrap();
            assert!(!self.path("pushed/config.json").exists());
            outcome
        }

        fn json(&self, name: &str) -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
        }
    }

    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn an_empty_volume_gets_an_identity_and_a_gateway_with_a_token_of_its_own() {
        let (one, two) = (Bench::new(), Bench::new());
        assert_eq!(one.run(), Outcome::Nothing);
        let (identity, config) = (
            one.json("volume/identity.json"),
            one.json("volume/openclaw/openclaw.json"),
        );
        assert_eq!(config["gateway"]["bind"], "loopback");
        assert_eq!(mode(&one.path("volume/openclaw/openclaw.json")), 0o600);
        assert_eq!(one.run(), Outcome::Nothing);
        assert_eq!(one.json("volume/identity.json"), identity);
        assert_eq!(one.json("volume/openclaw/openclaw.json"), config);
        assert_eq!(two.run(), Outcome::Nothing);
        assert_ne!(two.json("volume/identity.json")["id"], identity["id"]);
        let token = |config: &serde_json::Value| {
            config["gateway"]["auth"]["token"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(token(&config).len(), 64);
        assert_ne!(
            token(&two.json("volume/openclaw/openclaw.json")),
            token(&config)
        );
    }

    #[test]
    fn a_pushed_configuration_is_taken_once_and_told() {
        let bench = Bench::new();
        let text = r#"{"schema_version":1,"revision":"r7","openclaw":{"gateway":{"auth":{"token":"t"}}},"environment":{"KEY":"secret"}}"#;
        assert_eq!(bench.push(text), Outcome::Changed);
        assert_eq!(
            bench.json("volume/openclaw/openclaw.json")["gateway"]["auth"]["token"],
            "t"
        );
        let environment = bench.path("volume/agent/environment");
        assert_eq!(
            std::fs::read_to_string(&environment).unwrap(),
            "KEY=\"secret\"\n"
        );
        assert_eq!(
            (mode(&environment), mode(&bench.path("volume/agent"))),
            (0o600, 0o700)
        );
        for place in ["pushed/result.json", "volume/agent/applied.json"] {
            let told = bench.json(place);
            assert_eq!(
                (&told["revision"], &told["applied"]),
                (&"r7".into(), &true.into())
            );
        }
        assert_eq!(bench.push(text), Outcome::Unchanged);
        // Without a word of the environment it stays.
        assert_eq!(bench.push(r#"{"schema_version":1}"#), Outcome::Unchanged);
        assert!(environment.exists());
    }

    #[test]
    fn a_refused_configuration_changes_nothing_and_the_reason_is_told() {
        let bench = Bench::new();
        bench.push(r#"{"schema_version":1,"revision":"r1","environment":{"KEY":"one"}}"#);
        let refused = bench.push(r#"{"schema_version":1,"environment":{"HOME":"/root"}}"#);
        assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
        let told = bench.json("pushed/result.json");
        assert_eq!(told["applied"], false);
        assert!(told["reason"].as_str().unwrap().contains("HOME"), "{told}");
        assert_eq!(bench.json("volume/agent/applied.json")["revision"], "r1");
    }

    #[test]
    fn a_configuration_of_the_agents_own_making_is_left_alone() {
        let bench = Bench::new();
        bench.run();
        std::fs::write(
            bench.path("volume/openclaw/openclaw.json"),
            "{ /* mine */ }",
        )
        .unwrap();
        assert_eq!(bench.run(), Outcome::Nothing);
        let refused = bench.push(r#"{"schema_version":1,"openclaw":{"a":1}}"#);
        assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
        let text = std::fs::read_to_string(bench.path("volume/openclaw/openclaw.json")).unwrap();
        assert_eq!(text, "{ /* mine */ }");
    }

    #[test]
    fn a_link_in_a_files_place_is_not_followed() {
        let bench = Bench::new();
        bench.run();
        let (victim, config) = (
            bench.path("victim"),
            bench.path("volume/openclaw/openclaw.json"),
        );
        std::fs::write(&victim, "{}").unwrap();
        std::fs::remove_file(&config).unwrap();
        std::os::unix::fs::symlink(&victim, &config).unwrap();
        assert!(lay_out(&bench.volume, &bench.pushed).is_err());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "{}");
    }

    #[test]
    fn an_identity_that_can_not_be_read_is_never_replaced() {
        let bench = Bench::new();
        bench.volume.write(IDENTITY_FILE, b"{", 0o644).unwrap();
        let error = lay_out(&bench.volume, &bench.pushed).unwrap_err();
        assert!(matches!(error, SetupError::Identity(_)), "{error}");
    }
}
