//! Named phases of a long command: what runs, how long it took, how it ended.
//!
//! Owns the headings and the closing table. Talk goes to stderr, the table to stdout.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How one phase ended.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    /// What to know of it, or why it failed.
    note: String,
    passed: bool,
    took: Duration,
}

/// The phases so far.
#[derive(Debug)]
pub(crate) struct Phases {
    start: Instant,
    rows: Vec<Row>,
}

impl Phases {
    pub(crate) fn new() -> Phases {
        Phases {
            start: Instant::now(),
            rows: Vec::new(),
        }
    }

    /// Runs a phase and keeps how it ended; its note is what it returns, or its error with all causes.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<String>,
    ) -> bool {
        self.attempt(name, || work().map(|note| ((), note)))
            .is_some()
    }

    /// As [`Phases::run`], for a phase that makes something for the next.
    #[expect(clippy::print_stderr, reason = "a command line talks on stderr")]
    pub(crate) fn attempt<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<(T, String)>,
    ) -> Option<T> {
        eprintln!("==> {name}");
        let start = Instant::now();
        let outcome = work();
        let took = start.elapsed();
        let (value, note, passed) = match outcome {
            Ok((value, note)) => (Some(value), note, true),
            Err(error) => (None, format!("{error:#}"), false),
        };
        let word = if passed { "done" } else { "FAILED" };
        eprintln!("    {word} in {}{}", seconds(took), after_colon(&note));
        self.rows.push(Row {
            name,
            note,
            passed,
            took,
        });
        value
    }

    /// Time since the first phase.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn all_passed(&self) -> bool {
        self.rows.iter().all(|row| row.passed)
    }

    /// The closing table.
    pub(crate) fn table(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|row| row.name.len())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            let word = if row.passed { "ok" } else { "FAILED" };
            let first = row.note.lines().next().unwrap_or("");
            text.push_str(&format!(
                "{word:<6}  {:<width$}  {:>8}  {first}\n",
                row.name,
                seconds(row.took),
            ));
        }
        text.push_str(&format!(
            "{:<6}  {:<width$}  {:>8}\n",
            if self.all_passed() { "ok" } else { "FAILED" },
            "all",
            seconds(self.elapsed()),
        ));
        text
    }
}

/// A duration as people read it.
pub(crate) fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn after_colon(note: &str) -> String {
    if note.is_empty() {
        String::new()
    } else {
        format!(": {note}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_phase_makes_the_whole_red_and_shows_its_first_line() {
        let mut phases = Phases::new();
        assert!(phases.run("format", || Ok(String::new())));
        assert!(phases.all_passed());
        assert!(!phases.run("lints", || anyhow::bail!("two findings\nand more")));
        assert!(!phases.all_passed());
        let table = phases.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("ok      format"), "{table}");
        assert!(lines[1].starts_with("FAILED  lints"), "{table}");
        assert!(lines[1].ends_with("two findings"), "{table}");
        assert!(lines[2].starts_with("FAILED  all"), "{table}");
    }
}
