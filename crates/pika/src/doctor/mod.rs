//! `pika doctor`: can this host and its Incus do the work?
//!
//! Owns the list of checks and how a finding reads: what was looked at, what was found, why it matters, what to
//! do. Changes nothing. A check that can't be made because an earlier one failed says so; it is never green.

mod host;
mod server;

use serde::Serialize;

use crate::cli::{DoctorArguments, Global, OutputFormat};
use crate::config::Settings;
use crate::exit::{CommandError, Exit};
use crate::output::{self, BAD, BOLD, DIM, GOOD, WARN, plain};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    /// As it should be.
    Good,
    /// Works, with a drawback.
    Warning,
    /// Does not work.
    Problem,
    /// Could not be looked at.
    NotChecked,
}

/// One check and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: &'static str,
    /// How it is.
    pub(crate) health: Health,
    /// What was found.
    pub(crate) found: String,
    /// Why it matters, unless it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// What to do, unless it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Finding {
    pub(crate) fn good(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            check,
            health: Health::Good,
            found: found.into(),
            why: None,
            remedy: None,
        }
    }

    pub(crate) fn warning(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            health: Health::Warning,
            ..Finding::good(check, found)
        }
    }

    pub(crate) fn problem(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            health: Health::Problem,
            ..Finding::good(check, found)
        }
    }

    pub(crate) fn not_checked(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            health: Health::NotChecked,
            ..Finding::good(check, found)
        }
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Finding {
        self.why = Some(why.into());
        self
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }
}

pub(crate) async fn run(
    arguments: &DoctorArguments,
    global: &Global,
) -> Result<Exit, CommandError> {
    let mut settings = Settings::load(global)?;
    if let Some(project) = &arguments.project {
        settings.project = project.clone();
    }
    if let Some(profile) = &arguments.profile {
        settings.profile = profile.clone();
    }
    let mut findings = vec![configuration(&settings)];
    let (server, daemon_pid) = server::check(&settings, arguments.role).await;
    findings.extend(server);
    findings.extend(host::check(&settings.socket, daemon_pid));
    if global.output == OutputFormat::Json {
        output::print_json(&findings)?;
    } else {
        output::print(&text(&findings))?;
    }
    let healthy = findings
        .iter()
        .all(|finding| matches!(finding.health, Health::Good | Health::Warning));
    Ok(if healthy { Exit::Done } else { Exit::Failed })
}

fn configuration(settings: &Settings) -> Finding {
    let found = match &settings.file {
        Some(path) => format!("{}, owner {}", path.display(), settings.owner),
        None => format!("no file, defaults hold, owner {}", settings.owner),
    };
    Finding::good("configuration", found)
}

/// The findings for people.
fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (style, word) = match finding.health {
            Health::Good => (GOOD, "good   "),
            Health::Warning => (WARN, "warning"),
            Health::Problem => (BAD, "problem"),
            Health::NotChecked => (WARN, "unknown"),
        };
        let (check, found) = (finding.check, plain(&finding.found));
        text.push_str(&format!(
            "{style}{word}{style:#}  {BOLD}{check}{BOLD:#}: {found}\n"
        ));
        for (name, words) in [("why ", &finding.why), ("mend", &finding.remedy)] {
            if let Some(words) = words {
                text.push_str(&format!(
                    "           {DIM}{name}{DIM:#}  {}\n",
                    plain(words)
                ));
            }
        }
    }
    let number = |health| {
        findings
            .iter()
            .filter(|finding| finding.health == health)
            .count() as u64
    };
    let problems = output::count(number(Health::Problem), "problem");
    let warnings = output::count(number(Health::Warning), "warning");
    let unknown = number(Health::NotChecked);
    text.push_str(&format!(
        "\n{problems}, {warnings}, {unknown} not checked\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_read_like_this() {
        let findings = [
            Finding::good("daemon", "Incus 6.0.4"),
            Finding::warning("pool", "driver dir")
                .why("slow")
                .remedy("use btrfs"),
            Finding::problem("image", "\u{1b}[31mnone")
                .why("nothing can boot")
                .remedy("build it"),
            Finding::not_checked("profile", "the daemon does not answer"),
        ];
        let plain = anstream::adapter::strip_str(&text(&findings)).to_string();
        insta::assert_snapshot!(plain);
    }
}
