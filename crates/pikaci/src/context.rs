//! What every command starts from: the repository, the operator's configuration, the engine.

use std::path::{Path, PathBuf};

use jerichoci::engine::{Engine, RunEvent};
use jerichoci::git::Repository;
use jerichoci::job::{JobContext, parse_guest_role_override};
use jerichoci::lanes::{LANES_FILE_BYTES_MAX, LANES_FILE_PATH, LanesFile};
use jerichoci::operator::OperatorConfig;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::cli::Global;
use crate::env;
use crate::exit::{CommandError, Exit};
use crate::view::talk;

/// The engine, and where its configuration came from.
pub(crate) struct Context {
    pub(crate) repository: Repository,
    pub(crate) engine: Engine,
    pub(crate) config_path: Option<PathBuf>,
}

impl Context {
    pub(crate) fn open(global: &Global) -> Result<Self, CommandError> {
        let dir = match &global.repo {
            Some(dir) => dir.clone(),
            None => std::env::current_dir().map_err(|error| {
                CommandError::infrastructure("the current directory can't be told", &error)
            })?,
        };
        let repository = Repository::discover(&dir).map_err(|error| CommandError::usage(&error))?;
        let (mut operator, config_path) = operator_config(global)?;
        operator.incus.socket = socket(global, &operator, config_path.as_deref());
        let engine = Engine::new(repository.clone(), operator)?;
        Ok(Self {
            repository,
            engine,
            config_path,
        })
    }

    /// The repository's lanes.
    pub(crate) fn lanes(&self) -> Result<LanesFile, CommandError> {
        let source = read_lanes(self.repository.root()).map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let refused = CommandError::new(
                Exit::Usage,
                format!("{LANES_FILE_PATH} can't be read: {error}"),
            );
            if missing {
                refused.with_hint("docs/reference/lanes.md shows how such a file looks")
            } else {
                refused
            }
        })?;
        LanesFile::parse(LANES_FILE_PATH, &source).map_err(|error| {
            CommandError::new(
                Exit::Usage,
                format!("the lanes file can't be used\n\n{error}\n"),
            )
        })
    }

    /// What lanes become jobs with.
    pub(crate) fn job_context<'a>(
        &'a self,
        store_tag: &'a str,
    ) -> Result<JobContext<'a>, CommandError> {
        let value = match std::env::var(env::GUEST_ROLE) {
            Ok(value) => Some(value),
            Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(value)) => {
                Some(value.to_string_lossy().into_owned())
            }
        };
        let role_override = parse_guest_role_override(value.as_deref())
            .map_err(|error| CommandError::usage(&error))?;
        Ok(JobContext {
            operator: self.engine.operator(),
            owner: self.engine.owner().as_str(),
            store_tag,
            role_override,
        })
    }

    /// Settles runs whose process died: offers those that can be taken up, and removes what the others left. Says so on
    /// stderr.
    pub(crate) async fn settle_interrupted_runs(&self) {
        let unsettled = match self.engine.needs_recovery() {
            Ok(unsettled) => unsettled,
            Err(error) => return talk::warn(&jerichoci::engine::chain(&error)),
        };
        if !unsettled {
            return;
        }
        let (events, _unheard) = mpsc::unbounded_channel::<RunEvent>();
        match self.engine.recover(Timestamp::now(), &events).await {
            Ok(recovered) => recovered.iter().for_each(talk::recovered),
            Err(error) => return talk::warn(&jerichoci::engine::chain(&error)),
        }
        self.settle_shells().await;
    }

    /// Removes what shells left whose process died, and says so on stderr.
    pub(crate) async fn settle_shells(&self) {
        let (events, _unheard) = mpsc::unbounded_channel::<RunEvent>();
        match self.engine.recover_shells(&events).await {
            Ok(recovered) => recovered.iter().for_each(talk::recovered_shell),
            Err(error) => talk::warn(&jerichoci::engine::chain(&error)),
        }
    }
}

fn operator_config(global: &Global) -> Result<(OperatorConfig, Option<PathBuf>), CommandError> {
    let named = global.config.clone().or_else(|| env::path(env::CONFIG));
    let is_named = named.is_some();
    for path in named.map_or_else(env::config_candidates, |path| vec![path]) {
        match read_text(&path) {
            Ok(source) => {
                let name = path.display().to_string();
                let config = OperatorConfig::parse(&name, &source).map_err(|error| {
                    CommandError::new(
                        Exit::Usage,
                        format!("the configuration can't be used\n\n{error}\n"),
                    )
                })?;
                return Ok((config, Some(path)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => {}
            Err(error) => {
                let message = format!(
                    "the configuration {} can't be read: {error}",
                    path.display()
                );
                return Err(CommandError::new(Exit::Usage, message));
            }
        }
    }
    Ok((OperatorConfig::default(), None))
}

/// Flag over environment over file over Incus's own variables over the default.
fn socket(global: &Global, operator: &OperatorConfig, config: Option<&Path>) -> PathBuf {
    let configured = operator.incus.socket.clone();
    let named_in_file = config.is_some() && configured != OperatorConfig::default().incus.socket;
    let ambient = || {
        env::path(env::INCUS_SOCKET)
            .or_else(|| Some(env::path(env::INCUS_DIR)?.join("unix.socket")))
    };
    global
        .socket
        .clone()
        .or_else(|| env::path(env::SOCKET))
        .or_else(|| if named_in_file { None } else { ambient() })
        .unwrap_or(configured)
}

/// Reads a text of bounded size.
fn read_text(path: &Path) -> std::io::Result<String> {
    read_bounded(std::fs::File::open(path)?)
}

fn read_bounded(file: std::fs::File) -> std::io::Result<String> {
    use std::io::Read;
    let mut source = String::new();
    let limit = LANES_FILE_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_string(&mut source)?;
    Ok(source)
}

/// Reads the lanes file of the work tree at `root`. Who wrote the repository may be anybody: no link leads to a file
/// elsewhere, whose lines would be told as errors, and nothing that isn't a file is waited for.
fn read_lanes(root: &Path) -> std::io::Result<String> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, directory, Mode::empty())?;
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let opened = openat2(root, LANES_FILE_PATH, how, Mode::empty(), beneath);
    let file = std::fs::File::from(opened.map_err(|error| match error {
        rustix::io::Errno::LOOP => std::io::Error::other(
            "a symbolic link leads to it; lanes are read from the repository's own file",
        ),
        other => other.into(),
    })?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    read_bounded(file)
}
