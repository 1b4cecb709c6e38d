//! Scripted faults: which request or model step, which occurrence of it, and what goes wrong there.
//!
//! Owns the script and the counting; carrying a fault out is the server's work.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where a fault strikes.
#[derive(Debug, Clone)]
pub struct When {
    target: Target,
    nth: usize,
}

#[derive(Debug, Clone)]
enum Target {
    Request { method: String, path: String },
    AnyRequest,
    Step(String),
}

impl When {
    /// A request by method (`*` for any) and path; in the path `*` stands for one segment and a last `**` for any rest.
    pub fn request(method: &str, path: &str) -> When {
        When {
            target: Target::Request {
                method: method.to_owned(),
                path: path.to_owned(),
            },
            nth: 1,
        }
    }

    /// The nth request of any kind from now on, the first being 1.
    pub fn nth_request(nth: usize) -> When {
        When {
            target: Target::AnyRequest,
            nth,
        }
    }

    /// A step of the model by name, struck after the step was made; see [`STEPS`](super::STEPS).
    pub fn step(name: &str) -> When {
        When {
            target: Target::Step(name.to_owned()),
            nth: 1,
        }
    }

    /// Strikes at the nth match from now on (the first is 1, which is also the default); 0 strikes at every match.
    #[must_use]
    pub fn nth(mut self, nth: usize) -> When {
        self.nth = nth;
        self
    }
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The answer takes this much longer.
    Delay(Duration),
    /// The request is not carried out; this status and message come back. At a model step the operation fails so.
    Status {
        /// HTTP status, and `error_code` of the body.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The request is carried out, then the connection is dropped without an answer.
    LoseResponse,
    /// The connection is dropped and nothing is carried out.
    DropRequest,
    /// The connection stays open and silent, and nothing is carried out.
    Hang,
    /// The request is carried out; the body breaks off after so many bytes.
    Truncate {
        /// Bytes of the body that still arrive.
        bytes: usize,
    },
    /// The daemon dies before it carries the request out (at a step: right after it), and is back after `down_for`.
    Crash {
        /// How long connections are refused.
        down_for: Duration,
    },
    /// The request is carried out as far as its synchronous part goes, then the daemon dies.
    CrashAfter {
        /// How long connections are refused.
        down_for: Duration,
    },
}

#[derive(Debug)]
struct Rule {
    when: When,
    fault: Fault,
    seen: usize,
    spent: bool,
}

/// The script of faults of one fake daemon.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
}

impl Faults {
    /// Adds a fault; several may be waiting, and the first that matches strikes.
    pub fn inject(&self, when: When, fault: Fault) {
        self.lock().push(Rule {
            when,
            fault,
            seen: 0,
            spent: false,
        });
    }

    /// Forgets all faults that have not struck.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How many faults wait that have not struck yet: a test can tell that its fault found its place.
    pub fn pending(&self) -> usize {
        self.lock().iter().filter(|rule| !rule.spent).count()
    }

    pub(crate) fn at_request(&self, method: &str, path: &str) -> Option<Fault> {
        self.strike(|target| match target {
            Target::Request {
                method: wanted,
                path: glob,
            } => (wanted == "*" || wanted == method) && path_matches(glob, path),
            Target::AnyRequest => true,
            Target::Step(_) => false,
        })
    }

    pub(crate) fn at_step(&self, name: &str) -> Option<Fault> {
        self.strike(|target| matches!(target, Target::Step(wanted) if wanted == name))
    }

    fn strike(&self, matches: impl Fn(&Target) -> bool) -> Option<Fault> {
        let mut struck = None;
        for rule in self.lock().iter_mut() {
            if rule.spent || !matches(&rule.when.target) {
                continue;
            }
            rule.seen += 1;
            if struck.is_none() && (rule.when.nth == 0 || rule.seen == rule.when.nth) {
                rule.spent = rule.when.nth != 0;
                struck = Some(rule.fault.clone());
            }
        }
        struck
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a path matches a glob of segments.
fn path_matches(glob: &str, path: &str) -> bool {
    let mut wanted = glob.trim_matches('/').split('/');
    let mut have = path.trim_matches('/').split('/');
    loop {
        match (wanted.next(), have.next()) {
            (Some("**"), _) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Faults, When, path_matches};

    #[test]
    fn globs_match_by_segment() {
        assert!(path_matches("/1.0/instances/*", "/1.0/instances/a"));
        assert!(!path_matches("/1.0/instances/*", "/1.0/instances/a/state"));
        assert!(path_matches("/1.0/**", "/1.0/instances/a/state"));
        assert!(!path_matches("/1.0/instances", "/1.0/instances/a"));
    }

    #[test]
    fn the_nth_match_is_struck_and_only_once() {
        let faults = Faults::default();
        faults.inject(When::request("GET", "/1.0").nth(2), Fault::DropRequest);
        assert!(faults.at_request("GET", "/1.0").is_none());
        assert!(faults.at_request("PUT", "/1.0").is_none());
        assert_eq!(faults.pending(), 1);
        assert!(faults.at_request("GET", "/1.0").is_some());
        assert!(faults.at_request("GET", "/1.0").is_none());
        assert_eq!(faults.pending(), 0);
    }
}
