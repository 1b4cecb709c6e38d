//! A fake Incus: a real HTTP server on a unix socket, with a model of the world and scripted faults.
//!
//! Owns behaviour that was recorded from a real daemon (6.0.4; the recordings are in `recorded/`, and a test
//! compares both). It never starts a process and never touches the host beyond its temporary directory.
//!
//! The daemon's states: serving -> (crash) down -> serving, and serving -> shutting down. The world survives a
//! crash; operations, connections and half-done steps don't.

mod daemon;
mod events;
mod exec;
mod faults;
mod filter;
mod guest;
mod guest_files;
mod handlers;
mod operations;
mod raw;
pub mod recording;
mod reply;
mod route;
mod server;
mod steps;
#[cfg(test)]
mod tests;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use daemon::{CostModel, RequestOutcome, RequestRecord};
pub use exec::{ExecCall, ExecFuture};
pub use faults::{Fault, Faults, When};
pub use guest::{FakeGuest, ScriptedGuest};
pub use guest_files::{GuestEntry, GuestFiles, GuestNode};
pub use steps::STEPS;
pub use world::{
    Alias, DEFAULT_BRIDGE, DEFAULT_IMAGE, GuestNic, Image, Instance, Lease, Named, Pool, Power,
    Project, Root, ServerFacts, Volume, VolumeSnapshot, World,
};

use daemon::Daemon;

/// Alias of the image that a new fake has.
pub const DEFAULT_ALIAS: &str = "pikaci/dev";
/// Alias of the image that managed agents are made from.
pub const AGENT_ALIAS: &str = "pika-agent/dev";

/// A running fake daemon; dropping it ends the server and removes its directory.
#[derive(Debug)]
pub struct FakeIncus {
    daemon: Arc<Daemon>,
    socket: PathBuf,
    // Removed when the fake is dropped, after the server's tasks were ended.
    _dir: tempfile::TempDir,
}

impl FakeIncus {
    /// Starts a fake in a temporary directory, on the current tokio runtime.
    pub async fn start() -> std::io::Result<FakeIncus> {
        let dir = tempfile::Builder::new().prefix("fake-incus-").tempdir()?;
        let socket = dir.path().join("unix.socket");
        let daemon = Daemon::new(socket.clone(), World::new(DEFAULT_ALIAS));
        server::listen(&daemon)?;
        Ok(FakeIncus {
            daemon,
            socket,
            _dir: dir,
        })
    }

    /// Starts a fake that has an image for managed agents too, whose guests are ready so long after their start.
    pub async fn start_for_agents(ready_after: Duration) -> std::io::Result<FakeIncus> {
        let fake = FakeIncus::start().await?;
        fake.world().add_agent_image();
        fake.set_scripted_guest(Some(ScriptedGuest::ready_after(ready_after)));
        Ok(fake)
    }

    /// The unix socket that it serves on.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A client of it, for the default project.
    pub fn client(&self) -> pika_incus::Client {
        pika_incus::Client::unix(&self.socket)
    }

    /// The model, to look at and to change; don't hold it across an await.
    pub fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.daemon.world()
    }

    /// The script of faults.
    pub fn faults(&self) -> &Faults {
        &self.daemon.faults
    }

    /// All requests since the start or since [`clear_requests`](FakeIncus::clear_requests), in order of arrival.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.daemon.requests()
    }

    /// Empties the log of requests.
    pub fn clear_requests(&self) {
        self.daemon.clear_requests();
    }

    /// Names of the model steps that were made since the start, in order.
    pub fn steps(&self) -> Vec<String> {
        self.daemon.steps()
    }

    /// Answers execs whose command starts with these words; the latest fitting handler is asked first.
    pub fn on_exec<F>(&self, command_prefix: &[&str], handler: F)
    where
        F: Fn(ExecCall) -> ExecFuture + Send + Sync + 'static,
    {
        self.daemon.exec_handlers.add(command_prefix, handler);
    }

    /// The guest of an instance of the default project, to make it say things.
    pub fn guest<'a>(&'a self, instance: &'a str) -> FakeGuest<'a> {
        FakeGuest::new(self, instance)
    }

    /// From now on guests of one kind get ready, or fail, by themselves after each start that the daemon makes.
    pub fn set_scripted_guest(&self, script: Option<ScriptedGuest>) {
        self.daemon.set_scripted_guest(script);
    }

    /// What bulk reads cost.
    pub fn set_cost(&self, cost: CostModel) {
        self.daemon.set_cost(cost);
    }

    /// How long an ended operation can still be read (five seconds unless set).
    pub fn set_operation_lifetime(&self, lifetime: Duration) {
        self.daemon.operations().lifetime = Some(lifetime);
    }

    /// Kills the daemon as `kill -9` would: connections drop, operations are forgotten, tasks stop between steps.
    pub fn crash(&self) {
        self.daemon.crash();
    }

    /// Starts it again on the same socket, with the world as it is.
    pub fn restart(&self) -> std::io::Result<()> {
        server::listen(&self.daemon)
    }

    /// From now on (or no longer) every new request is answered as by a daemon that is going down.
    pub fn set_shutting_down(&self, shutting_down: bool) {
        self.daemon.set_shutting_down(shutting_down);
    }
}

impl Drop for FakeIncus {
    fn drop(&mut self) {
        self.daemon.crash();
    }
}
