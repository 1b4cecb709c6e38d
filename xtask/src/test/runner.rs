//! The test runner: nextest, or `cargo test` where nextest can't be had.
//!
//! Owns how tests are listed, run and counted. A test that is listed and did not run is a fault.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::tools;

/// Most tests of one run that may fail first and pass on their second try.
const FLAKY_MAX: usize = 2;

/// How many tests ran, and how many the runner left out by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    ran: usize,
    ignored: usize,
    /// Of those that ran: passed, but not at once.
    flaky: usize,
}

/// A test runner that is there, with the list of what there is to run.
pub(super) struct Runner {
    root: PathBuf,
    nextest: Option<PathBuf>,
    listed: usize,
    ignored: Vec<String>,
}

/// How one run ended.
#[derive(Debug)]
pub(super) struct Outcome {
    status: ExitStatus,
    counts: Counts,
    /// The runner's last words.
    closing: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Listing {
    rust_suites: std::collections::BTreeMap<String, Suite>,
}

#[derive(Deserialize)]
struct Suite {
    #[serde(default)]
    testcases: std::collections::BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    ignored: bool,
}

impl Outcome {
    /// Adds to the sums; an error when a test failed.
    pub(super) fn conclude(self, ran: &mut Counts, closing: &mut Vec<String>) -> Result<String> {
        ran.ran += self.counts.ran;
        ran.ignored += self.counts.ignored;
        let last = self.closing.first().cloned().unwrap_or_default();
        closing.extend(self.closing);
        if !self.status.success() {
            bail!("{last} (the test runner ended with {})", self.status);
        }
        if self.counts.ran == 0 {
            bail!("no test ran");
        }
        match self.counts.flaky {
            0 => Ok(format!("{} ran", self.counts.ran)),
            flaky if flaky > FLAKY_MAX => bail!(
                "{flaky} tests passed only on their second try, more than {FLAKY_MAX}: {last}"
            ),
            flaky => Ok(format!("{} ran, {flaky} FLAKY", self.counts.ran)),
        }
    }
}

impl Runner {
    /// Finds or installs the runner, builds all tests and lists them.
    #[expect(clippy::print_stderr, reason = "a command line talks on stderr")]
    pub(super) fn prepare(root: &Path) -> Result<(Runner, String)> {
        let nextest = match tools::ensure(&tools::CARGO_NEXTEST) {
            Ok(path) => Some(path),
            Err(error) => {
                eprintln!("    no cargo-nextest ({error:#}): `cargo test` it is");
                None
            }
        };
        let mut runner = Runner {
            root: root.to_owned(),
            nextest,
            listed: 0,
            ignored: Vec::new(),
        };
        runner.list()?;
        let note = format!("{} tests", runner.listed);
        Ok((runner, note))
    }

    fn list(&mut self) -> Result<()> {
        let Some(nextest) = &self.nextest else {
            return cargo_test(&self.root, &["--no-run"]).map(drop);
        };
        let output = crate::cargo::command(nextest)
            .args(["nextest", "list", "--workspace", "--message-format", "json"])
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("start cargo-nextest")?;
        if !output.status.success() {
            bail!("the tests can't be built or listed: {}", output.status);
        }
        let listing: Listing =
            serde_json::from_slice(&output.stdout).context("read the list of cargo-nextest")?;
        for (suite, cases) in listing.rust_suites {
            for (name, case) in cases.testcases {
                self.listed += 1;
                if case.ignored {
                    self.ignored.push(format!("{suite} {name}"));
                }
            }
        }
        Ok(())
    }

    /// Runs what this filter of nextest selects.
    pub(super) fn run(&self, filter: &str, environment: &[(&str, OsString)]) -> Result<Outcome> {
        let mut command = match &self.nextest {
            Some(nextest) => {
                let mut command = crate::cargo::command(nextest);
                command.args([
                    "nextest",
                    "run",
                    "--workspace",
                    "--no-fail-fast",
                    "--filterset",
                    filter,
                ]);
                command
            }
            None => cargo_test_command(&self.root, filter),
        };
        command
            .current_dir(&self.root)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        let (status, lines) = run_aloud(&mut command, self.nextest.is_some())?;
        Ok(Outcome {
            status,
            counts: count(&lines),
            closing: closing_lines(&lines),
        })
    }

    /// An error unless everything listed ran.
    pub(super) fn compare(&self, ran: &Counts) -> Result<String> {
        if !self.ignored.is_empty() {
            bail!("ignored tests: {}", self.ignored.join(", "));
        }
        if ran.ignored > 0 {
            bail!("{} tests were ignored", ran.ignored);
        }
        if self.nextest.is_some() && self.listed != ran.ran {
            bail!("{} tests are listed and {} ran", self.listed, ran.ran);
        }
        Ok(format!("{} tests, none skipped", ran.ran))
    }
}

/// Runs the examples in documentation.
pub(super) fn doc_tests(root: &Path) -> Result<String> {
    let lines = cargo_test(root, &["--doc"])?;
    let counts = count(&lines);
    if counts.ignored > 0 {
        bail!("{} doc tests were ignored", counts.ignored);
    }
    Ok(format!("{} ran", counts.ran))
}

fn cargo_test(root: &Path, arguments: &[&str]) -> Result<Vec<String>> {
    let mut command = crate::cargo::command("cargo");
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::null());
    let (status, lines) = run_aloud(&mut command, false)?;
    if !status.success() {
        bail!("`cargo test {}` ended with {status}", arguments.join(" "));
    }
    Ok(lines)
}

/// `cargo test` for the same tests as the filter: unit tests have their own targets.
fn cargo_test_command(root: &Path, filter: &str) -> Command {
    let mut command = crate::cargo::command("cargo");
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(root);
    if filter == super::DAEMON_FILTER {
        command.args(["--test", "*"]);
    } else {
        command.args(["--lib", "--bins"]);
    }
    command
}

/// Runs a command with its output shown as it comes, and gives the lines: of stderr for nextest, else of stdout.
#[expect(clippy::print_stderr, reason = "a command line talks on stderr")]
fn run_aloud(command: &mut Command, words_on_stderr: bool) -> Result<(ExitStatus, Vec<String>)> {
    if words_on_stderr {
        command.stderr(Stdio::piped());
    } else {
        command.stdout(Stdio::piped());
    }
    let mut child = command
        .spawn()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    let stream: Box<dyn std::io::Read> = match (child.stderr.take(), child.stdout.take()) {
        (Some(stream), _) => Box::new(stream),
        (_, Some(stream)) => Box::new(stream),
        (None, None) => bail!("{:?} has no output", command.get_program()),
    };
    let mut lines = Vec::new();
    for line in BufReader::new(stream).split(b'\n') {
        let line =
            String::from_utf8_lossy(&line.context("read the test runner's words")?).into_owned();
        eprintln!("{line}");
        lines.push(line);
    }
    Ok((child.wait().context("wait for the test runner")?, lines))
}

/// Sums of the runner's own summaries: nextest's one, or one for each binary of `cargo test`.
fn count(lines: &[String]) -> Counts {
    let mut counts = Counts::default();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let before = |marks: &[&str]| {
            words.windows(2).find_map(|pair| {
                let mark = pair[1].trim_end_matches([':', ';', ',']);
                marks
                    .contains(&mark)
                    .then(|| pair[0].parse::<usize>().ok())?
            })
        };
        if line.trim_start().starts_with("Summary [") {
            counts.ran += before(&["tests", "test"]).unwrap_or(0);
            counts.flaky += before_flaky(line).unwrap_or(0);
        } else if line.starts_with("test result:") {
            counts.ran += before(&["passed"]).unwrap_or(0) + before(&["failed"]).unwrap_or(0);
            counts.ignored += before(&["ignored"]).unwrap_or(0);
        }
    }
    counts
}

/// The number in `passed (1 slow, 2 flaky)`.
fn before_flaky(summary: &str) -> Option<usize> {
    let (before, _) = summary.split_once(" flaky")?;
    let digits = before.rsplit(['(', ' ']).next()?;
    digits.parse().ok()
}

/// The summary and what follows it.
fn closing_lines(lines: &[String]) -> Vec<String> {
    let start = lines
        .iter()
        .position(|line| line.trim_start().starts_with("Summary ["));
    match start {
        Some(start) => lines[start..]
            .iter()
            .map(|line| line.trim().to_owned())
            .collect(),
        None => lines
            .iter()
            .filter(|line| line.starts_with("test result:"))
            .cloned()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn nextest_is_counted_by_its_summary() {
        let text = lines(
            "        PASS [   0.010s] (1/21) a b\n     Summary [  14.8s] 21 tests run: 20 passed, 1 failed, 4 skipped\n  \
             TRY 1 FAIL",
        );
        assert_eq!(
            count(&text),
            Counts {
                ran: 21,
                ..Counts::default()
            }
        );
        assert_eq!(closing_lines(&text).len(), 2);
        assert_eq!(
            count(&lines(" Summary [ 0.1s] 1 test run: 1 passed, 0 skipped")).ran,
            1
        );
    }

    #[test]
    fn tests_that_passed_on_a_second_try_are_counted_and_bounded() {
        let of = |summary: &str| count(&lines(summary)).flaky;
        let some = "     Summary [  9.1s] 21 tests run: 21 passed (2 slow, 2 flaky), 0 skipped";
        assert_eq!(of(some), 2);
        assert_eq!(
            of(" Summary [ 9.1s] 21 tests run: 21 passed (3 flaky), 0 skipped"),
            3
        );
        assert_eq!(
            of(" Summary [ 9.1s] 21 tests run: 21 passed (2 slow), 0 skipped"),
            0
        );
        let concluded = |text: &str| {
            let counts = count(&lines(text));
            let outcome = Outcome {
                status: ExitStatus::default(),
                counts,
                closing: lines(text),
            };
            outcome.conclude(&mut Counts::default(), &mut Vec::new())
        };
        let note = concluded(some).expect("two may be flaky");
        assert_eq!(note, "21 ran, 2 FLAKY");
        let error = concluded(" Summary [ 9.1s] 21 tests run: 21 passed (3 flaky), 0 skipped");
        assert!(error.is_err(), "three may not");
    }

    #[test]
    fn cargo_test_is_counted_over_all_binaries() {
        let text = lines(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\nrunning\n\
             test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        let expected = Counts {
            ran: 6,
            ignored: 1,
            flaky: 0,
        };
        assert_eq!(count(&text), expected);
        assert_eq!(closing_lines(&text).len(), 2);
    }
}
