//! Where agents' web interfaces are, and how many connections each has.
//!
//! Owns both, in memory. An address is known for a short while, and for as long as nothing about its agent changes: a new
//! boot or another instance is looked at anew.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use pika_managed_agent_contract::ErrorCode;
use pika_runtime::AddressError;
use pika_store::Agent;
use tokio::net::TcpStream;
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
/// How long an address is known.
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
    address: IpAddr,
    until: Instant,
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
    ) -> Result<(TcpStream, SocketAddr), ApiError> {
        if let Some(address) = self.recall(agent) {
            let address = SocketAddr::new(address, GATEWAY_PORT);
            if let Ok(stream) = guest::connect(address).await {
                return Ok((stream, address));
            }
        }
        let address = self.look(app, agent).await?;
        let address = SocketAddr::new(address, GATEWAY_PORT);
        let stream = guest::connect(address).await;
        let stream = stream.map_err(|error| no_answer(&error))?;
        Ok((stream, address))
    }

    fn recall(&self, agent: &Agent) -> Option<IpAddr> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&agent.id)?;
        let counts = known.revision == agent.revision && Instant::now() < known.until;
        counts.then_some(known.address)
    }

    async fn look(&self, app: &App, agent: &Agent) -> Result<IpAddr, ApiError> {
        let runtimes = app.fleet.runtimes_of(agent)?;
        let found = runtimes.guest_address(&runtime_id(agent)).await;
        let address = found.map_err(|error| no_address(&error))?.address;
        let now = Instant::now();
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > AGENTS_MAX {
            all.retain(|_, known| now < known.until);
        }
        let known = Known {
            revision: agent.revision,
            address,
            until: now + KNOWN,
        };
        all.insert(agent.id.clone(), known);
        Ok(address)
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
    let hint = match error {
        GuestError::Connect { .. } => {
            "its gateway must listen on the guest's own address, not on loopback alone; the agent's log tells how it is"
        }
        GuestError::Silent { .. } | GuestError::Broken(_) => {
            "the agent's log tells how its gateway is"
        }
    };
    ApiError::new(
        ErrorCode::BadGateway,
        format!("the agent's web interface can't be used: {}", chain(error)),
    )
    .hint(hint)
}
