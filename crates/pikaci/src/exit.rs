//! Exit codes and errors of commands. docs/reference/exit-codes.md describes the same ones.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use jerichoci::changes::ChangesError;
use jerichoci::engine::{CancelRunError, EngineError, KeptError, RunSummary, chain};
use jerichoci::outcome::RunVerdict;
use jerichoci::record::StoreError;
use jerichoci::snapshot::SnapshotError;

use crate::style;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every lane ran and passed; or the command did what it was asked.
    Passed,
    /// A lane failed.
    Failed,
    /// Wrong arguments, configuration or lanes file; nothing ran.
    Usage,
    /// Incus, an instance, the disk: a lane has no result of its own, or something was left behind.
    Infrastructure,
    /// A lane ran out of time, and none failed.
    TimedOut,
    /// A lane did not run, and no other one ended badly; or changed paths selected no lane.
    NothingRan,
    /// Stopped by Ctrl-C or a signal.
    Cancelled,
    /// What a command that a person ran in an instance ended with. Never a lane's.
    Command(u8),
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Infrastructure => 3,
            Self::TimedOut => 4,
            Self::NothingRan => 5,
            Self::Cancelled => 130,
            Self::Command(code) => code,
        }
    }

    /// The exit of a run that came to its end.
    pub(crate) fn of_run(summary: &RunSummary) -> Self {
        match summary.verdict {
            RunVerdict::Passed if summary.troubles.is_empty() => Self::Passed,
            RunVerdict::Passed | RunVerdict::Infrastructure => Self::Infrastructure,
            RunVerdict::Failed => Self::Failed,
            RunVerdict::TimedOut => Self::TimedOut,
            RunVerdict::NothingRan if summary.troubles.is_empty() => Self::NothingRan,
            RunVerdict::NothingRan => Self::Infrastructure,
            RunVerdict::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) exit: Exit,
    message: String,
    hint: Option<String>,
}

impl CommandError {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn usage(error: &dyn Error) -> Self {
        Self::new(Exit::Usage, chain(error))
    }

    pub(crate) fn infrastructure(what: &str, error: &dyn Error) -> Self {
        Self::new(Exit::Infrastructure, format!("{what}: {}", chain(error)))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells what happened and, apart from it, what to do.
    pub(crate) fn print(&self) {
        let mut err = anstream::stderr().lock();
        let (bad, hint) = (style::BAD, style::HINT);
        writeln!(err, "{bad}error:{bad:#} {}", self.message).ok();
        if let Some(text) = &self.hint {
            writeln!(err, "{hint}hint:{hint:#} {text}").ok();
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let exit = match error {
            StoreError::NoSuchRun { .. }
            | StoreError::Ambiguous { .. }
            | StoreError::NotADirectory { .. } => Exit::Usage,
            _ => Exit::Infrastructure,
        };
        Self::new(exit, chain(&error))
    }
}

impl From<ChangesError> for CommandError {
    fn from(error: ChangesError) -> Self {
        let told = Self::usage(&error);
        match error.remedy() {
            Some(remedy) => told.with_hint(remedy),
            None => told,
        }
    }
}

impl From<EngineError> for CommandError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::Owner(_)
            | EngineError::Git(_)
            | EngineError::PathNotText { .. }
            | EngineError::Resume(_) => Self::usage(&error),
            EngineError::CancelRun(CancelRunError::Over { .. } | CancelRunError::NothingOpen) => {
                Self::usage(&error)
            }
            EngineError::Snapshot(SnapshotError::Secrets { .. }) => {
                Self::usage(&error).with_hint("--allow-untracked GLOB takes them all the same")
            }
            EngineError::Snapshot(SnapshotError::BadPattern { .. }) => Self::usage(&error),
            EngineError::CancelledEarly => Self::new(Exit::Cancelled, error.to_string()),
            EngineError::Incus { .. } => Self::new(Exit::Infrastructure, chain(&error))
                .with_hint("`pikaci doctor` looks at everything that a run needs"),
            EngineError::Kept(KeptError::Nothing { .. } | KeptError::Over { .. }) => {
                Self::usage(&error)
            }
            _ => Self::new(Exit::Infrastructure, chain(&error)),
        }
    }
}
