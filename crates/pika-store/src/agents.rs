//! Reading agents. What is another owner's is like what isn't there.
//!
//! Owns lookups and pages; a page goes on after the last id that was seen, so rows that come or go in between neither
//! repeat nor hide others.

use pika_managed_agent_contract::AgentState;

use crate::error::{Saying as _, StoreError};
use crate::model::{AGENT_COLUMNS, Agent, Sizes, agent};
use crate::open::Store;
use crate::owners::usage;
use crate::row::word;

/// Which agents are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentFilter<'a> {
    /// Only this owner's.
    pub owner_id: Option<&'a str>,
    /// Also those whose instance was taken away for good and whose volume is still kept.
    pub deleted: bool,
    /// Only those in this state.
    pub state: Option<AgentState>,
}

/// How many agents are in a state, and what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InState {
    /// The state.
    pub state: AgentState,
    /// How many.
    pub agents: i64,
    /// The sum of their sizes.
    pub sizes: Sizes,
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'a> {
    /// What comes after this id.
    pub after: Option<&'a str>,
    /// At most so many.
    pub limit: i64,
}

impl Store {
    /// An agent that is not purged; with `owner_id` only that owner's. One that was deleted is found only by
    /// `deleted`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn agent(
        &self,
        id: &str,
        owner_id: Option<&str>,
        deleted: bool,
    ) -> Result<Option<Agent>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {AGENT_COLUMNS} FROM agents WHERE id = $1 AND purged_at IS NULL"
        )))
        .bind(id.to_owned())
        .fetch_optional(self.reads())
        .await
        .saying("read an agent")?;
        let found = row.as_ref().map(agent).transpose()?;
        Ok(found.filter(|found| {
            owner_id.is_none_or(|owner| found.owner_id == owner)
                && (deleted || found.deleted_at.is_none())
        }))
    }

    /// An owner's default agent, unless it is deleted or being deleted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn default_agent(&self, owner_id: &str) -> Result<Option<Agent>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {AGENT_COLUMNS} FROM agents WHERE owner_id = $1 AND is_default = 1 AND target <> 'deleted'"
        )))
        .bind(owner_id.to_owned())
        .fetch_optional(self.reads())
        .await
        .saying("read an owner's agent")?;
        row.as_ref().map(agent).transpose()
    }

    /// A page of agents, by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn agents(
        &self,
        filter: AgentFilter<'_>,
        page: Page<'_>,
    ) -> Result<Vec<Agent>, StoreError> {
        // Words of ours need no binding; whose it is may be anything.
        let state = match filter.state {
            Some(state) => format!(" AND state = '{state}'"),
            None => String::new(),
        };
        let owner = if filter.owner_id.is_some() {
            " AND owner_id = $3"
        } else {
            ""
        };
        let deleted = if filter.deleted {
            ""
        } else {
            " AND deleted_at IS NULL"
        };
        let mut query = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {AGENT_COLUMNS} FROM agents WHERE id > $1 AND purged_at IS NULL{owner}{deleted}{state} ORDER BY id LIMIT $2"
        )))
        .bind(page.after.unwrap_or_default().to_owned())
        .bind(page.limit);
        if let Some(owner) = filter.owner_id {
            query = query.bind(owner.to_owned());
        }
        let rows = query.fetch_all(self.reads()).await.saying("list agents")?;
        rows.iter().map(agent).collect()
    }

    /// How many agents there are in each state, and what they take; those that are deleted are not in it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn agents_by_state(&self) -> Result<Vec<InState>, StoreError> {
        let rows = sqlx::query(
            "SELECT state, COUNT(*) AS agents, CAST(SUM(vcpu) AS BIGINT) AS vcpu, CAST(SUM(memory_mib) AS BIGINT) AS memory_mib, \
             CAST(SUM(disk_gib) AS BIGINT) AS disk_gib FROM agents WHERE purged_at IS NULL AND deleted_at IS NULL \
             GROUP BY state ORDER BY state",
        )
        .fetch_all(self.reads())
        .await
        .saying("count agents")?;
        let in_state = |row: &sqlx::any::AnyRow| {
            let (agents, sizes) = usage(row)?;
            Ok(InState {
                state: word(row, "state")?,
                agents,
                sizes,
            })
        };
        rows.iter().map(in_state).collect()
    }
}
