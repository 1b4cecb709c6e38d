//! Tokens, owners, the allow-list, the audit log and strays for people.
//!
//! Lists show days and minutes in UTC; `--output json` has all of it.

use anstyle::Style;
use pika_agent_client::contract::{AllowView, AuditView, OwnerView, Role, StrayView, TokenView};
use pika_cloud::Timestamp;

use crate::output::{BAD, BOLD, Cell, DIM, GOOD, WARN, columns, line, moment, table};

const USUAL: Style = Style::new();

fn cell(text: impl Into<String>) -> Cell {
    (USUAL, text.into())
}

fn day(at: &Timestamp) -> String {
    at.as_str().chars().take("2026-01-01".len()).collect()
}

pub(super) fn tokens(tokens: &[TokenView], now: &Timestamp) -> String {
    if tokens.is_empty() {
        return "no tokens\n".to_owned();
    }
    let rows: Vec<[Cell; 5]> = tokens
        .iter()
        .map(|token| {
            [
                cell(&token.token_id),
                cell(token.scope.as_str()),
                cell(token.last_used_at.as_ref().map_or("never".to_owned(), day)),
                ends(token, now),
                cell(&token.label),
            ]
        })
        .collect();
    table(["TOKEN", "SCOPE", "USED", "ENDS", "LABEL"], &rows)
}

fn ends(token: &TokenView, now: &Timestamp) -> Cell {
    match (&token.revoked_at, &token.expires_at) {
        (Some(_), _) => (BAD, "revoked".to_owned()),
        (None, Some(at)) if at <= now => (BAD, "ended".to_owned()),
        (None, Some(at)) => (WARN, day(at)),
        (None, None) => cell("never"),
    }
}

pub(super) fn made(token: &TokenView) -> String {
    let ends = token.expires_at.as_ref().map_or("never".to_owned(), day);
    let rows = [
        ("owner", token.owner_id.clone()),
        ("scope", token.scope.to_string()),
        ("label", token.label.clone()),
        ("ends", ends),
    ];
    let rows: Vec<(String, String)> = rows
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), line(&value)))
        .collect();
    format!(
        "{BOLD}{}{BOLD:#}  its secret is shown this once\n{}",
        line(&token.token_id),
        columns(&rows, 2)
    )
}

pub(super) fn owners(owners: &[OwnerView]) -> String {
    if owners.is_empty() {
        return "no owners\n".to_owned();
    }
    let rows: Vec<[Cell; 8]> = owners
        .iter()
        .map(|owner| {
            let (used, most) = (&owner.usage, &owner.quotas);
            let part = |used: u32, most: u32| {
                let style = if used >= most { WARN } else { USUAL };
                (style, format!("{used}/{most}"))
            };
            let name = match owner.name == owner.owner_id {
                true => "",
                false => owner.name.as_str(),
            };
            [
                cell(&owner.owner_id),
                cell(owner.role.as_str()),
                access(owner),
                part(used.agents, most.agents),
                part(used.vcpu, most.vcpu),
                part(used.memory_mib, most.memory_mib),
                part(used.disk_gib, most.disk_gib),
                cell(name),
            ]
        })
        .collect();
    let head = [
        "OWNER", "ROLE", "ACCESS", "AGENTS", "VCPU", "MIB", "GIB", "NAME",
    ];
    table(head, &rows)
}

/// Operators need not be on the allow-list.
fn access(owner: &OwnerView) -> Cell {
    match owner.allowed || owner.role == Role::Operator {
        true => (GOOD, "yes".to_owned()),
        false => (BAD, "no".to_owned()),
    }
}

pub(super) fn owner(owner: &OwnerView) -> String {
    let (used, most) = (&owner.usage, &owner.quotas);
    let part = |used: u32, most: u32, unit: &str| format!("{used} of {most}{unit}");
    let access = access(owner);
    let rows = [
        ("name", line(&owner.name)),
        ("access", format!("{}{}{:#}", access.0, access.1, access.0)),
        ("agents", part(used.agents, most.agents, "")),
        ("vCPU", part(used.vcpu, most.vcpu, "")),
        ("memory", part(used.memory_mib, most.memory_mib, " MiB")),
        ("disk", part(used.disk_gib, most.disk_gib, " GiB")),
        ("backups", format!("at most {} of an agent", most.backups)),
        ("created", owner.created_at.to_string()),
    ];
    let rows = rows.map(|(name, value)| (name.to_owned(), value));
    format!(
        "{BOLD}{}{BOLD:#}  {}\n{}",
        line(&owner.owner_id),
        owner.role,
        columns(&rows, 2)
    )
}

pub(super) fn allow_list(entries: &[AllowView]) -> String {
    if entries.is_empty() {
        return "nobody is on the allow-list\n".to_owned();
    }
    let rows: Vec<[Cell; 4]> = entries
        .iter()
        .map(|entry| {
            [
                cell(&entry.owner_id),
                cell(day(&entry.added_at)),
                cell(&entry.added_by),
                cell(&entry.note),
            ]
        })
        .collect();
    table(["OWNER", "SINCE", "BY", "NOTE"], &rows)
}

pub(super) fn audit(entries: &[AuditView]) -> String {
    if entries.is_empty() {
        return "no entries\n".to_owned();
    }
    let rows: Vec<[Cell; 6]> = entries
        .iter()
        .map(|entry| {
            [
                (DIM, entry.id.to_string()),
                (DIM, moment(entry.at.as_str())),
                cell(&entry.actor),
                (BOLD, entry.action.clone()),
                cell(&entry.subject),
                cell(&entry.detail),
            ]
        })
        .collect();
    table(["ID", "AT (UTC)", "WHO", "DID", "TO", "DETAIL"], &rows)
}

pub(super) fn strays(strays: &[StrayView]) -> String {
    if strays.is_empty() {
        return "no strays\n".to_owned();
    }
    let rows: Vec<[Cell; 4]> = strays
        .iter()
        .map(|stray| {
            [
                cell(&stray.kind),
                cell(moment(stray.created_at.as_deref().unwrap_or_default())),
                cell(&stray.name),
                cell(&stray.agent_id),
            ]
        })
        .collect();
    table(["KIND", "MADE (UTC)", "NAME", "OF AGENT"], &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}"))
    }

    fn stripped(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_token_s_end_is_what_holds_now() {
        let token = |id: &str, more: Value| {
            let mut token = json!({
                "token_id": id, "owner_id": "o", "scope": "read", "label": "a\nb",
                "created_at": "2026-01-01T00:00:00.000Z",
            });
            for (name, value) in more.as_object().into_iter().flatten() {
                token[name] = value.clone();
            }
            read::<TokenView>(token)
        };
        let (past, future) = ("2026-01-02T00:00:00.000Z", "2026-03-01T00:00:00.000Z");
        let listed = [
            token("t1", json!({})),
            token("t2", json!({"expires_at": past})),
            token("t3", json!({"expires_at": future, "last_used_at": past})),
            token("t4", json!({"expires_at": future, "revoked_at": past})),
        ];
        let now: Timestamp = read(json!("2026-02-01T00:00:00.000Z"));
        assert_eq!(
            stripped(&tokens(&listed, &now)),
            "TOKEN  SCOPE  USED        ENDS        LABEL\n\
             t1     read   never       never       a b\n\
             t2     read   never       ended       a b\n\
             t3     read   2026-01-02  2026-03-01  a b\n\
             t4     read   never       revoked     a b\n"
        );
        assert_eq!(tokens(&[], &now), "no tokens\n");
    }

    #[test]
    fn strays_are_listed_and_can_t_paint_the_terminal() {
        let listed = [
            json!({"name": "v\u{1b}[31m", "kind": "volume", "agent_id": "a1",
                "created_at": "2026-01-01T02:03:04.567Z"}),
            json!({"name": "i", "kind": "instance", "agent_id": "a2"}),
        ];
        let listed: Vec<StrayView> = listed.into_iter().map(read).collect();
        assert_eq!(
            stripped(&strays(&listed)),
            "KIND      MADE (UTC)           NAME         OF AGENT\n\
             volume    2026-01-01 02:03:04  v\\u{1b}[31m  a1\n\
             instance                       i            a2\n"
        );
        assert_eq!(strays(&[]), "no strays\n");
    }
}
