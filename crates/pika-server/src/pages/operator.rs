//! The operator's pages, and everybody's tokens: their values.

use askama::Template;
use pika_managed_agent_contract::{QuotaBody, StrayView, UsageView};
use pika_store::Sizes;

use super::{Frame, Line, When};

/// What there is, in numbers.
#[derive(Debug, Template)]
#[template(path = "operator.html")]
pub(crate) struct OverviewPage {
    pub(crate) frame: Frame,
    pub(crate) states: Vec<StateLine>,
    pub(crate) total: StateLine,
    pub(crate) strays: Vec<StrayLine>,
}

/// A stray.
#[derive(Debug)]
pub(crate) struct StrayLine {
    pub(crate) view: StrayView,
    /// Where its removal is asked for; nowhere for a volume.
    pub(crate) remove: Option<String>,
}

/// The agents in one state.
#[derive(Debug, Default)]
pub(crate) struct StateLine {
    pub(crate) state: &'static str,
    pub(crate) agents: i64,
    pub(crate) sizes: Sizes,
}

/// Everybody's agents.
#[derive(Debug, Template)]
#[template(path = "all_agents.html")]
pub(crate) struct AllAgentsPage {
    pub(crate) frame: Frame,
    pub(crate) owner: String,
    pub(crate) state: String,
    pub(crate) states: Vec<&'static str>,
    pub(crate) deleted: bool,
    pub(crate) agents: Vec<Line>,
    pub(crate) next: Option<String>,
}

/// All owners.
#[derive(Debug, Template)]
#[template(path = "owners.html")]
pub(crate) struct OwnersPage {
    pub(crate) frame: Frame,
    pub(crate) csrf: String,
    pub(crate) owners: Vec<OwnerLine>,
    pub(crate) next: Option<String>,
}

/// An owner.
#[derive(Debug)]
pub(crate) struct OwnerLine {
    pub(crate) id: String,
    pub(crate) href: String,
    pub(crate) name: String,
    pub(crate) role: &'static str,
    pub(crate) allowed: bool,
    pub(crate) quotas: QuotaBody,
    pub(crate) usage: UsageView,
    pub(crate) known: When,
}

/// One owner.
#[derive(Template)]
#[template(path = "owner.html")]
pub(crate) struct OwnerPage {
    pub(crate) frame: Frame,
    pub(crate) csrf: String,
    pub(crate) owner: OwnerLine,
    /// Where its agents are listed.
    pub(crate) agents: String,
    pub(crate) scopes: Vec<&'static str>,
    /// A token's secret that was just made.
    pub(crate) secret: Option<String>,
}

/// The caller's own tokens.
#[derive(Template)]
#[template(path = "tokens.html")]
pub(crate) struct TokensPage {
    pub(crate) frame: Frame,
    pub(crate) csrf: String,
    pub(crate) tokens: Vec<TokenLine>,
    pub(crate) scopes: Vec<&'static str>,
    pub(crate) may_change: bool,
    /// A token's secret that was just made.
    pub(crate) secret: Option<String>,
    pub(crate) next: Option<String>,
}

/// A token.
#[derive(Debug)]
pub(crate) struct TokenLine {
    pub(crate) id: String,
    pub(crate) href: String,
    pub(crate) label: String,
    pub(crate) scope: &'static str,
    pub(crate) made: When,
    pub(crate) used: Option<When>,
    pub(crate) revoked: bool,
    /// What ended or ends it, and when.
    pub(crate) end: Option<(&'static str, When)>,
}

/// Who may use the API.
#[derive(Debug, Template)]
#[template(path = "allow_list.html")]
pub(crate) struct AllowListPage {
    pub(crate) frame: Frame,
    pub(crate) csrf: String,
    pub(crate) entries: Vec<AllowLine>,
    pub(crate) next: Option<String>,
}

/// One who may.
#[derive(Debug)]
pub(crate) struct AllowLine {
    pub(crate) owner_id: String,
    pub(crate) href: String,
    pub(crate) note: String,
    pub(crate) added_by: String,
    pub(crate) added: When,
}

/// Who changed what.
#[derive(Debug, Template)]
#[template(path = "audit.html")]
pub(crate) struct AuditPage {
    pub(crate) frame: Frame,
    pub(crate) entries: Vec<AuditLine>,
    pub(crate) next: Option<String>,
}

/// One change.
#[derive(Debug)]
pub(crate) struct AuditLine {
    pub(crate) at: When,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) detail: String,
}
