//! What a job's JUnit reports said, as it is recorded.

use serde::{Deserialize, Serialize};

/// `reports.json`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportsRecord {
    /// [`super::RUN_RECORD_SCHEMA_VERSION`]
    pub schema_version: u32,
    /// The tests of all reports together.
    pub totals: TestTotals,
    /// The first tests that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedTest>,
    /// Each report. Empty when the job left none.
    #[serde(default)]
    pub files: Vec<ReportFile>,
    /// Reports beyond the most that are read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread_files: u64,
}

/// Tests by how they ended. Those that are in none of the other counts passed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestTotals {
    /// All of them.
    pub tests: u64,
    /// Failed an assertion.
    pub failed: u64,
    /// Ended by an error of another kind.
    pub errors: u64,
    /// Did not run.
    pub skipped: u64,
    /// Their times together, as the reports say.
    pub time_ms: u64,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportFile {
    /// Its name below `artifacts/`.
    pub name: String,
    /// Its tests; none if it can't be used.
    pub totals: TestTotals,
    /// Why it can't be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A test that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTest {
    /// Its name, without control characters and cut where it is long.
    pub name: String,
    /// Its class, module or binary, where the report says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// How it failed.
    pub kind: TestFailureKind,
    /// What the report says about it, cut where it is long; empty if nothing.
    pub message: String,
}

/// How a test failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestFailureKind {
    /// An assertion.
    Failure,
    /// Anything else.
    Error,
}

impl TestTotals {
    /// Adds what another report counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.tests += other.tests;
        self.failed += other.failed;
        self.errors += other.errors;
        self.skipped += other.skipped;
        self.time_ms = self.time_ms.saturating_add(other.time_ms);
    }

    /// Tests that did not pass, errors included.
    pub fn not_passed(&self) -> u64 {
        self.failed + self.errors
    }

    /// Tests that ran and passed.
    pub fn passed(&self) -> u64 {
        self.tests.saturating_sub(self.not_passed() + self.skipped)
    }

    /// The counts in words: `12 tests, 1 failed, 2 skipped`.
    pub fn words(&self) -> String {
        let mut text = match self.tests {
            1 => "1 test".to_owned(),
            count => format!("{count} tests"),
        };
        for (count, word) in [
            (self.failed, "failed"),
            (self.errors, "with errors"),
            (self.skipped, "skipped"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {word}"));
            }
        }
        text
    }
}

impl FailedTest {
    /// Class and name, without saying a class twice that the name begins with.
    pub fn full_name(&self) -> String {
        match &self.class {
            Some(class) if !self.name.starts_with(class.as_str()) => {
                format!("{class} {}", self.name)
            }
            _ => self.name.clone(),
        }
    }

    /// The first line of the message.
    pub fn first_line(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

impl ReportsRecord {
    /// Reports that can't be used, with the reason.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter_map(|file| Some((file.name.as_str(), file.problem.as_deref()?)))
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
