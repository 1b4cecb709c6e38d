//! Where things are: every path of the API, once, for the server's router and for clients.
//!
//! Owns the paths. Ids in paths are escaped here; what a route does and who may use it is the server's.

/// Readiness of the server itself: its database and Incus.
pub const READYZ: &str = "/readyz";
/// That the server runs.
pub const HEALTHZ: &str = "/healthz";
/// Figures for Prometheus.
pub const METRICS: &str = "/metrics";
/// The OpenAPI document.
pub const OPENAPI: &str = "/openapi.json";
/// A page to try the API.
pub const API_PAGE: &str = "/docs";

/// POST: the caller's default agent, made or brought back.
pub const ENSURE: &str = "/v1/agents/ensure";
/// GET: a page of agents. POST: one more agent.
pub const AGENTS: &str = "/v1/agents";
/// GET: an agent. DELETE: its end. `me` stands for the caller's default agent here and below.
pub const AGENT: &str = "/v1/agents/{agent_id}";
/// POST: runs again after a stop.
pub const START: &str = "/v1/agents/{agent_id}/start";
/// POST: stops, and keeps everything.
pub const STOP: &str = "/v1/agents/{agent_id}/stop";
/// POST: stops and starts.
pub const RESTART: &str = "/v1/agents/{agent_id}/restart";
/// POST: brought back by the mildest means that works.
pub const RECOVER: &str = "/v1/agents/{agent_id}/recover";
/// POST: the volume as it was in a chosen backup.
pub const RESTORE: &str = "/v1/agents/{agent_id}/restore";
/// POST: a new root and an empty volume.
pub const RESET: &str = "/v1/agents/{agent_id}/reset";
/// POST: a new root on the same volume.
pub const REBUILD: &str = "/v1/agents/{agent_id}/rebuild";
/// POST: a deleted agent, back on its volume while that is kept.
pub const UNDELETE: &str = "/v1/agents/{agent_id}/undelete";
/// GET: all backups. POST: one more.
pub const BACKUPS: &str = "/v1/agents/{agent_id}/backups";
/// GET: a page of operations, the newest first.
pub const AGENT_OPERATIONS: &str = "/v1/agents/{agent_id}/operations";
/// GET: what happened, as a page of JSON or, with `Accept: text/event-stream`, as a stream that can be resumed.
pub const AGENT_EVENTS: &str = "/v1/agents/{agent_id}/events";
/// GET: the end of the service's log, as text.
pub const LOGS: &str = "/v1/agents/{agent_id}/logs";
/// GET, upgraded to a websocket: a command in the guest.
pub const EXEC: &str = "/v1/agents/{agent_id}/exec";
/// GET: on to [`WEB_ROOT`].
pub const WEB: &str = "/v1/agents/{agent_id}/web";
/// Anything: the front of the agent's own web interface.
pub const WEB_ROOT: &str = "/v1/agents/{agent_id}/web/";
/// Anything: whatever else is there.
pub const WEB_PATH: &str = "/v1/agents/{agent_id}/web/{*path}";
/// GET: an operation; `?wait=SECONDS` answers when it is over, or then.
pub const OPERATION: &str = "/v1/operations/{operation_id}";
/// GET: events of all the caller's agents.
pub const EVENTS: &str = "/v1/events";
/// GET: the caller, its quotas and what it uses.
pub const OWNER: &str = "/v1/owner";
/// GET: the caller's tokens. POST: one more.
pub const TOKENS: &str = "/v1/tokens";
/// DELETE: revokes a token.
pub const TOKEN: &str = "/v1/tokens/{token_id}";
/// GET: all owners. POST: one more. For operators.
pub const OWNERS: &str = "/v1/owners";
/// PUT: what an owner may have. For operators.
pub const QUOTAS: &str = "/v1/owners/{owner_id}/quotas";
/// POST: a token for an owner. For operators.
pub const OWNER_TOKENS: &str = "/v1/owners/{owner_id}/tokens";
/// GET: who may use the API. For operators.
pub const ALLOW_LIST: &str = "/v1/allow-list";
/// PUT and DELETE: one entry. For operators.
pub const ALLOWED: &str = "/v1/allow-list/{owner_id}";
/// GET: who changed what. For operators.
pub const AUDIT: &str = "/v1/audit";
/// GET: what carries our label in Incus and belongs to no agent. For operators.
pub const STRAYS: &str = "/v1/strays";
/// DELETE: one stray instance. For operators.
pub const STRAY: &str = "/v1/strays/{name}";

/// The path with the id in place of its one parameter.
#[must_use]
pub fn with_id(route: &str, id: &str) -> String {
    let Some((before, rest)) = route.split_once('{') else {
        return route.to_owned();
    };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    format!("{before}{}{after}", escape(id))
}

/// A text as one segment of a path.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~.".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    // A segment of dots alone would be resolved away.
    if !escaped.is_empty() && escaped.bytes().all(|byte| byte == b'.') {
        return escaped.replace('.', "%2E");
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_one_segment() {
        assert_eq!(with_id(AGENT, "me"), "/v1/agents/me");
        assert_eq!(
            with_id(RESTORE, "../a b/ü?"),
            "/v1/agents/..%2Fa%20b%2F%C3%BC%3F/restore"
        );
        assert_eq!(with_id(AGENT, ".."), "/v1/agents/%2E%2E");
        assert_eq!(with_id(AGENTS, "x"), AGENTS);
    }
}
