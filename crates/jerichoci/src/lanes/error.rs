//! Why a lanes file was refused.

use std::fmt;

use crate::excerpt::{Problem, fmt_problems};

/// A lanes file that can't be used. Its text shows each place with the line and a caret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanesError {
    /// What the file was called.
    pub name: String,
    /// What is wrong, in the order of the file; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for LanesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_problems(f, &self.name, &self.problems)
    }
}

impl std::error::Error for LanesError {}
