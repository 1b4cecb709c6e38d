//! Agents' own web interfaces through the server: what passes, what doesn't, and who is never reached.

mod guest;
mod refusals;
mod sessions;
mod streams;

use std::net::IpAddr;

use serde_json::json;

use crate::support::{Api, Running, Stage};
use guest::{Guest, lease, set_subnet};

/// A tenant with an agent that is ready, whose web interface is at `address`.
async fn agent_at(stage: &Stage, running: &Running, address: IpAddr) -> (Api, String) {
    set_subnet(stage);
    let alice = running.tenant("alice", "write").await;
    alice.post_and_wait("/v1/agents/ensure", json!({})).await;
    let agent = alice.agent_in("me", "ready").await;
    lease(stage, address);
    (alice, agent["agent_id"].as_str().unwrap().to_owned())
}

/// The same, with a gateway there.
async fn agent(stage: &Stage, running: &Running) -> (Api, String, Guest) {
    let guest = Guest::start().await;
    let (alice, id) = agent_at(stage, running, guest.address).await;
    (alice, id, guest)
}
