//! A typed client of the agent API.
//!
//! Owns the connection (TCP, TLS or a Unix socket), the token, limits, and the one layer that tries again. Never follows
//! a redirect, prints a token, or takes an answer of unbounded length. What an answer means is the contract's.
//!
//! ```no_run
//! # async fn example() -> Result<(), pika_agent_client::ClientError> {
//! use std::time::Duration;
//! use pika_agent_client::{AgentClient, Token};
//!
//! let client = AgentClient::new("https://agents.example.org", Token::new("...")?)?;
//! let agent = client.ensure(&Default::default()).await?;
//! if let Some(operation) = &agent.operation {
//!     client
//!         .wait(&operation.operation_id, Duration::from_secs(600), |seen| {
//!             if let Some(step) = &seen.step {
//!                 println!("{step}");
//!             }
//!         })
//!         .await?;
//! }
//! # Ok(())
//! # }
//! ```

mod address;
mod call;
mod client;
mod error;
mod events;
mod exec;
mod people;
mod tls;
mod token;
mod transport;

pub use client::{AgentClient, ME, Page};
pub use error::ClientError;
pub use events::EventStream;
pub use exec::{ExecInput, ExecMessage, ExecOutput, ExecSession};
pub use pika_managed_agent_contract as contract;
pub use tls::{Authorities, TlsProblem};
pub use token::Token;
