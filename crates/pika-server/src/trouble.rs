//! What keeps a step from being done, told apart by what is to be done about it.
//!
//! Owns that one distinction. What an error says comes from whoever failed, with its causes.

use std::error::Error;

use pika_runtime::incus::ErrorKind;
use pika_runtime::{
    ControlError, DestroyError, Destroyed, EnsureError, GuestLookError, LookError,
    ResolvePlanError, VolumeError,
};

/// A step that was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// Incus can't be asked: try again until the operation's deadline.
    #[error("Incus can't be reached: {0}")]
    Unreachable(String),
    /// It failed: try again a few times.
    #[error("{0}")]
    Failed(String),
    /// It can't work as things are: a person has to do something.
    #[error("{0}")]
    Refused(String),
}

impl Trouble {
    pub(crate) fn volume(error: &VolumeError) -> Trouble {
        let refused = matches!(
            error,
            VolumeError::NotOurs { .. }
                | VolumeError::SnapshotMissing { .. }
                | VolumeError::LaterSnapshots { .. }
                | VolumeError::OriginStays { .. }
                | VolumeError::Shrinks { .. }
        );
        by_cause(error, refused)
    }

    pub(crate) fn ensure(error: &EnsureError) -> Trouble {
        let refused = match error {
            EnsureError::NotOurs { .. }
            | EnsureError::Differs { .. }
            | EnsureError::Ended { .. } => true,
            EnsureError::Resolve(error) => matches!(error, ResolvePlanError::Plan(_)),
            _ => false,
        };
        match error {
            EnsureError::Unknown { .. } | EnsureError::Interrupted { .. } => {
                Trouble::Unreachable(chain(error))
            }
            _ => by_cause(error, refused),
        }
    }

    pub(crate) fn control(error: &ControlError) -> Trouble {
        by_cause(error, matches!(error, ControlError::NotOurs { .. }))
    }

    /// A look into a guest during which Incus went away.
    pub(crate) fn lost(error: &GuestLookError) -> Trouble {
        by_cause(error, false)
    }

    pub(crate) fn look(error: &LookError) -> Trouble {
        by_cause(error, false)
    }

    /// What a destroy that left something ended as.
    pub(crate) fn destroy(end: Result<Destroyed, DestroyError>) -> Result<(), Trouble> {
        match end {
            Ok(Destroyed::Destroyed | Destroyed::Gone) => Ok(()),
            Ok(Destroyed::Unknown { why }) => Err(Trouble::Unreachable(why)),
            Ok(Destroyed::Stuck { why, remedy }) => Err(Trouble::Failed(format!(
                "the instance can't be removed: {why}; run: {remedy}"
            ))),
            Err(error) => Err(Trouble::Refused(chain(&error))),
        }
    }
}

/// Whoever can't be reached is somewhere among the causes.
fn by_cause(error: &(dyn Error + 'static), refused: bool) -> Trouble {
    if refused {
        return Trouble::Refused(chain(error));
    }
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(incus) = error.downcast_ref::<pika_runtime::incus::Error>()
            && matches!(
                incus.kind(),
                ErrorKind::Unreachable | ErrorKind::ShuttingDown | ErrorKind::TimedOut
            )
        {
            return Trouble::Unreachable(chain(incus));
        }
        cause = error.source();
    }
    Trouble::Failed(chain(error))
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
