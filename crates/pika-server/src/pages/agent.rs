//! The customer's pages: their values.

use std::collections::BTreeMap;

use askama::Template;
use pika_store::Sizes;

use super::{Frame, When};

/// The list of agents.
#[derive(Debug, Template)]
#[template(path = "agents.html")]
pub(crate) struct AgentsPage {
    pub(crate) frame: Frame,
    pub(crate) agents: Vec<Line>,
    pub(crate) may_change: bool,
    pub(crate) next: Option<String>,
}

/// An agent in a list, and at the head of its own pages.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) href: String,
    /// Its label `name`, or its id.
    pub(crate) name: String,
    /// Whether it has a name besides its id.
    pub(crate) named: bool,
    pub(crate) owner_id: String,
    /// Where its owner's page is, for operators.
    pub(crate) owner_href: String,
    /// Of a deleted one: when its volume goes too.
    pub(crate) gone: Option<When>,
    pub(crate) state: &'static str,
    pub(crate) phase: &'static str,
    pub(crate) phase_text: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) stale: Option<When>,
    pub(crate) busy: Option<Busy>,
    pub(crate) role: String,
    pub(crate) sizes: String,
    pub(crate) changed: When,
}

/// An operation that waits or runs.
#[derive(Debug)]
pub(crate) struct Busy {
    pub(crate) title: String,
    /// Which step, from 1.
    pub(crate) step: usize,
    pub(crate) steps: usize,
    /// Steps that are behind it.
    pub(crate) done: usize,
    pub(crate) step_text: String,
    pub(crate) waiting: bool,
    pub(crate) created: When,
    pub(crate) deadline: When,
}

/// Why a form was not taken.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// The form for one more agent, with what was typed before.
#[derive(Debug, Template)]
#[template(path = "new_agent.html")]
pub(crate) struct NewAgentPage {
    pub(crate) frame: Frame,
    pub(crate) csrf: String,
    pub(crate) key: String,
    pub(crate) refused: Option<Refused>,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) roles: Vec<&'static str>,
    pub(crate) vcpu: String,
    pub(crate) memory_mib: String,
    pub(crate) disk_gib: String,
    pub(crate) defaults: Sizes,
    /// What is left of the quota.
    pub(crate) left: String,
}

/// One agent.
#[derive(Debug, Template)]
#[template(path = "agent.html")]
pub(crate) struct AgentPage {
    pub(crate) frame: Frame,
    pub(crate) tab: &'static str,
    pub(crate) csrf: String,
    pub(crate) agent: Line,
    pub(crate) vm: Option<String>,
    pub(crate) generation: u64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) created: When,
    /// Why its last operation failed, if it did.
    pub(crate) failed: Option<String>,
    pub(crate) may_change: bool,
    pub(crate) deleting: bool,
    pub(crate) keys: Keys,
    pub(crate) actions: Vec<Act>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) backups: Vec<BackupLine>,
    pub(crate) events: Vec<EventLine>,
}

/// Keys of the forms that stand on the page besides the actions.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) backup: String,
}

/// An action that is done at once.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) word: &'static str,
    pub(crate) text: &'static str,
    pub(crate) about: &'static str,
    pub(crate) primary: bool,
    pub(crate) key: String,
}

/// An action that asks first.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) word: &'static str,
    pub(crate) text: &'static str,
    pub(crate) about: &'static str,
    pub(crate) loses: bool,
}

/// A backup.
#[derive(Debug)]
pub(crate) struct BackupLine {
    pub(crate) name: String,
    pub(crate) reason: String,
    pub(crate) taken: When,
    /// Where its restore is asked for.
    pub(crate) restore: String,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) struct EventLine {
    pub(crate) at: When,
    pub(crate) kind: String,
    pub(crate) details: String,
}

/// What an action costs, before it is done.
#[derive(Debug, Template)]
#[template(path = "confirm.html")]
pub(crate) struct ConfirmPage {
    pub(crate) frame: Frame,
    pub(crate) csrf: String,
    pub(crate) key: String,
    /// The agent's name.
    pub(crate) name: String,
    /// Where to when it isn't done.
    pub(crate) back: String,
    /// Where the form goes to.
    pub(crate) action: String,
    pub(crate) about: &'static str,
    pub(crate) loses: Vec<String>,
    pub(crate) keeps: Vec<String>,
    /// Whether the name has to be typed.
    pub(crate) typed: bool,
    pub(crate) button: &'static str,
    pub(crate) backup: Option<String>,
    /// A neighbouring action.
    pub(crate) instead: Option<(String, &'static str)>,
    pub(crate) refused: Option<String>,
}

/// A shell in an agent's guest.
#[derive(Debug, Template)]
#[template(path = "terminal.html")]
pub(crate) struct TerminalPage {
    pub(crate) frame: Frame,
    pub(crate) tab: &'static str,
    pub(crate) agent: Line,
    pub(crate) may_change: bool,
    /// Where the API's websocket is.
    pub(crate) exec: String,
}

/// The end of an agent's log.
#[derive(Debug, Template)]
#[template(path = "logs.html")]
pub(crate) struct LogsPage {
    pub(crate) frame: Frame,
    pub(crate) tab: &'static str,
    pub(crate) agent: Line,
    pub(crate) may_change: bool,
    pub(crate) lines: u32,
    pub(crate) log: Result<String, String>,
}
