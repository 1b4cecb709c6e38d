//! Owns the names and indices of the steps that change Incus, and the hook that is told about each.
//!
//! A step is shaped "make it so": it can be run again after a crash at any point. The hook exists so that
//! a crash at every step index can be tested from outside without any test code in here. Never decides
//! what a step does.

use std::fmt;

use serde::Serialize;

/// An operation whose steps are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOperation {
    /// Bring an instance to "running as planned".
    Ensure,
    /// Bring an instance to "absent".
    Destroy,
}

impl fmt::Display for StepOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ensure => "ensure",
            Self::Destroy => "destroy",
        })
    }
}

/// One named, numbered step of an operation. The index is fixed for the name: it does not depend on which
/// other steps this pass needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct StepPoint {
    /// The operation that the step belongs to.
    pub operation: StepOperation,
    /// Place in the operation's full list, from 0.
    pub index: usize,
    /// The step's name, kebab-case.
    pub name: &'static str,
}

impl fmt::Display for StepPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} step {} ({})", self.operation, self.index, self.name)
    }
}

/// Which side of a step the hook is called on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepMoment {
    /// Nothing of the step was sent yet.
    Before,
    /// The step was carried out, and nothing was done about its result yet.
    After,
}

/// What the hook wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepVerdict {
    /// Go on.
    Continue,
    /// Return at once, as if the process had been killed here: nothing is cleaned up.
    Abandon,
}

/// Told before and after each step. Production code has none; tests use it to stop, to count, or to kill
/// the daemon at a chosen point.
pub trait StepHook: Send + Sync {
    /// Called synchronously at `moment` of `point`.
    fn reached(&self, point: StepPoint, moment: StepMoment) -> StepVerdict;
}
