//! Where agents' web interfaces are, and how many connections each has.
//!
//! Owns both, in memory. A way is known for a short while, and for as long as nothing about its agent changes: a new boot or
//! another instance is looked at anew. A guest on this host is reached at its own address; where that takes no connection,
//! and on other hosts, Incus itself carries the connection to the guest's loopback address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use pika_managed_agent_contract::ErrorCode;
use pika_runtime::incus::transport::Connection;
use pika_runtime::{AddressError, RelayError};
use pika_store::Agent;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::guest::{self, GuestError};
use crate::app::App;
use crate::fleet::runtime_id;
use crate::http::error::ApiError;
use crate::trouble::{Trouble, chain};

/// Where an OpenClaw gateway listens in its guest.
const GATEWAY_PORT: u16 = 18_789;
/// Connections to one agent at a time.
const CONNECTIONS_MAX: usize = 64;
/// How long a way is known.
const KNOWN: Duration = Duration::from_secs(5);
/// Agents after which what is over is forgotten.
const AGENTS_MAX: usize = 1000;

/// What is known of agents' web interfaces.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    known: Mutex<HashMap<String, Known>>,
    connections: Mutex<HashMap<String, Weak<Semaphore>>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    revision: i64,
    way: Way,
    until: Instant,
}

/// How a guest's gateway is reached.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// At the address that its bridge gave the guest.
    Address(IpAddr),
    /// On the guest's own loopback address, through Incus.
    Relay,
}

impl Gate {
    /// A place among an agent's connections, until it is dropped.
    pub(super) fn enter(&self, agent: &Agent) -> Result<OwnedSemaphorePermit, ApiError> {
        let mut all = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() > AGENTS_MAX {
            all.retain(|_, places| places.strong_count() > 0);
        }
        let places = all.entry(agent.id.clone()).or_default();
        let open = places.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            *places = Arc::downgrade(&new);
            new
        });
        open.try_acquire_owned().map_err(|_| {
            ApiError::new(
                ErrorCode::RateLimited,
                format!("the agent's web interface has {CONNECTIONS_MAX} connections through this server already"),
            )
            .hint("close some, or try again in a moment")
        })
    }

    /// A connection to an agent, with the address that it goes to.
    pub(super) async fn connect(
        &self,
        app: &App,
        agent: &Agent,
    ) -> Result<(Connection, SocketAddr), ApiError> {
        if is_remote(agent) {
            return by_relay(app, agent).await;
        }
        let known = match self.recall(agent) {
            Some(Way::Address(address)) => by_address(address).await.ok(),
            Some(Way::Relay) => by_relay(app, agent).await.ok(),
            None => None,
        };
        match known {
            Some(connected) => Ok(connected),
            None => self.look(app, agent).await,
        }
    }

    fn recall(&self, agent: &Agent) -> Option<Way> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&agent.id)?;
        let counts = known.revision == agent.revision && Instant::now() < known.until;
        counts.then_some(known.way)
    }

    /// By the first way that works. If none does, the guest's own address is what is told of.
    async fn look(&self, app: &App, agent: &Agent) -> Result<(Connection, SocketAddr), ApiError> {
        let runtimes = app.fleet.runtimes_of(agent)?;
        let refused = match runtimes.guest_address(&runtime_id(agent)).await {
            Ok(found) => match by_address(found.address).await {
                Ok(connected) => {
                    self.keep(agent, Way::Address(found.address));
                    return Ok(connected);
                }
                Err(error) => no_answer(&error),
            },
            Err(error @ AddressError::Unusable { .. }) => no_address(&error),
            Err(error) => return Err(no_address(&error)),
        };
        match by_relay(app, agent).await {
            Ok(connected) => {
                self.keep(agent, Way::Relay);
                Ok(connected)
            }
            Err(error) => {
                tracing::debug!(
                    agent_id = agent.id,
                    error = error.message,
                    "an agent's web interface is not reached through Incus either"
                );
                Err(refused)
            }
        }
    }

    fn keep(&self, agent: &Agent, way: Way) {
        let now = Instant::now();
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > AGENTS_MAX {
            all.retain(|_, known| now < known.until);
        }
        let known = Known {
            revision: agent.revision,
            way,
            until: now + KNOWN,
        };
        all.insert(agent.id.clone(), known);
    }
}

/// Whether an agent lives on an Incus of another host.
fn is_remote(agent: &Agent) -> bool {
    let endpoint = agent.params.incus.endpoint.as_deref();
    endpoint.is_some_and(|endpoint| !endpoint.starts_with('/'))
}

async fn by_address(address: IpAddr) -> Result<(Connection, SocketAddr), GuestError> {
    let address = SocketAddr::new(address, GATEWAY_PORT);
    let stream = guest::connect(address).await?;
    Ok((Box::new(stream), address))
}

async fn by_relay(app: &App, agent: &Agent) -> Result<(Connection, SocketAddr), ApiError> {
    let runtimes = app.fleet.runtimes_of(agent)?;
    let relayed = runtimes.relay(&runtime_id(agent), GATEWAY_PORT).await;
    let stream = relayed.map_err(|error| no_relay(&error))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, GATEWAY_PORT));
    Ok((Box::new(stream), address))
}

fn no_relay(error: &RelayError) -> ApiError {
    match error {
        RelayError::Instance(error) => ApiError::from(Trouble::control(error)),
        RelayError::Refused { .. } => ApiError::new(
            ErrorCode::BadGateway,
            format!("the agent's web interface can't be used: {}", chain(error)),
        )
        .hint("the agent's log tells how its gateway is"),
    }
}

fn no_address(error: &AddressError) -> ApiError {
    match error {
        AddressError::Instance(error) => ApiError::from(Trouble::control(error)),
        AddressError::Look { source, .. } => ApiError::new(
            ErrorCode::Unavailable,
            format!("Incus can't be asked: {}", chain(source)),
        )
        .hint("try again in a moment"),
        AddressError::NotRunning { .. } => {
            ApiError::new(ErrorCode::Unavailable, chain(error)).hint("try again in a moment")
        }
        AddressError::Unusable { .. } => ApiError::new(ErrorCode::Unavailable, chain(error))
            .hint("an agent needs an interface on a bridge that Incus manages, and an address of that bridge"),
    }
}

/// Of a guest that does not answer.
pub(super) fn no_answer(error: &GuestError) -> ApiError {
    ApiError::new(
        ErrorCode::BadGateway,
        format!("the agent's web interface can't be used: {}", chain(error)),
    )
    .hint("the agent's log tells how its gateway is")
}
