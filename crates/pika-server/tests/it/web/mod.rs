//! Agents' own web interfaces through the server: what passes, what doesn't, and who is never reached.

mod guest;
mod refusals;
mod relay;
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

/// How the server reaches a gateway.
#[derive(Debug, Clone, Copy)]
enum By {
    /// At the guest's own address.
    Address,
    /// On the guest's loopback address, which Incus carries the connection to.
    Relay,
}

/// Both ways: what passes by one passes by the other.
const BOTH: [By; 2] = [By::Address, By::Relay];

/// The same, with a gateway there.
async fn agent(stage: &Stage, running: &Running) -> (Api, String, Guest) {
    agent_by(By::Address, stage, running).await
}

/// The same, with a gateway that is reached in one way alone.
async fn agent_by(by: By, stage: &Stage, running: &Running) -> (Api, String, Guest) {
    let guest = Guest::start().await;
    let address = match by {
        By::Address => guest.address,
        By::Relay => {
            relay::set_up(stage, guest.address);
            guest::listener().await.1
        }
    };
    let (alice, id) = agent_at(stage, running, address).await;
    (alice, id, guest)
}
