//! The relay into a guest's own loopback address: what the host runs in the guest, and what the guest says first.
//!
//! Owns both words. The connection itself is carried over the command's stdin and stdout.

/// The guest's program; found by its name, as images put it in different places.
pub const PROGRAM: &str = "pika-cloud-lifecycle";
/// Its subcommand, which takes `--port N`.
pub const COMMAND: &str = "relay";
/// The first line on stderr, once the service took the connection. Anything else is why it did not.
pub const CONNECTED: &str = "connected\n";

/// The command that relays to a port.
#[must_use]
pub fn command(port: u16) -> Vec<String> {
    [PROGRAM, COMMAND, "--port", &port.to_string()]
        .map(str::to_owned)
        .to_vec()
}
