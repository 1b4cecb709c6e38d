//! Owns the way into a guest's own loopback address: one connection through Incus itself, carried by a command in the guest.
//!
//! It needs no route to the guest, no port on its host and nothing but Incus's own credentials. Never judges what passes.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt as _;
use pika_cloud::relay;
use pika_incus::{ExecRequest, ExecSession, ExecStdin, ExecStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};

use crate::control::ControlError;
use crate::id::RuntimeId;
use crate::runtimes::Runtimes;
use crate::text::tame;

/// How long a guest may take until it says whether its service took the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Bytes on their way in each direction.
const IN_FLIGHT: usize = 64 * 1024;
/// Most that is read of why a connection did not come about.
const REASON_BYTES_MAX: usize = 4096;
/// Characters of it that are shown.
const REASON_CHARS_MAX: usize = 300;
/// How long the guest's side may go on after the caller's has ended: one that is gone can't be told from one that has only
/// nothing more to say.
const REST: Duration = Duration::from_secs(10);

/// A connection that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// There is no instance of ours that takes a command.
    #[error("the instance can't be used")]
    Instance(#[source] ControlError),
    /// The guest has no relay, or its service takes no connection.
    #[error("instance {instance_name} takes no connection to its port {port}: {reason}")]
    Refused {
        /// The instance.
        instance_name: String,
        /// The port.
        port: u16,
        /// In the guest's own words, where it had any.
        reason: String,
    },
}

impl Runtimes {
    /// A connection to a port of the guest's loopback address. It ends when it is dropped.
    ///
    /// # Errors
    /// When the instance isn't there, isn't ours or takes no command, or nothing in its guest takes the connection.
    pub async fn relay(&self, id: &RuntimeId, port: u16) -> Result<DuplexStream, RelayError> {
        let mut request = ExecRequest::new(relay::command(port));
        request.stdin = true;
        let session = self.enter(id, &request).await;
        let mut session = session.map_err(RelayError::Instance)?;
        let said = tokio::time::timeout(CONNECT_LIMIT, first_line(&mut session.stderr)).await;
        let said =
            said.unwrap_or_else(|_| format!("no word of it in {} s", CONNECT_LIMIT.as_secs()));
        if said != relay::CONNECTED {
            let reason = match said.trim() {
                "" => format!("it has no {} that relays", relay::PROGRAM),
                said => tame(said, REASON_CHARS_MAX),
            };
            return Err(RelayError::Refused {
                instance_name: id.instance_name().to_owned(),
                port,
                reason,
            });
        }
        let (ours, theirs) = tokio::io::duplex(IN_FLIGHT);
        tokio::spawn(carry(session, theirs));
        Ok(ours)
    }
}

/// The first line, with its end where there is one.
async fn first_line(stderr: &mut ExecStream) -> String {
    let mut said = Vec::new();
    while !said.contains(&b'\n') && said.len() < REASON_BYTES_MAX {
        match stderr.next().await {
            Some(Ok(bytes)) => said.extend_from_slice(&bytes),
            // Whatever broke it, no more comes.
            Some(Err(_)) | None => break,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Until the guest's side has ended, or the caller is gone. Dropping the session ends the command.
async fn carry(session: ExecSession, caller: DuplexStream) {
    let ExecSession {
        stdin,
        stdout,
        mut stderr,
        control,
        exit,
    } = session;
    let (from_caller, to_caller) = tokio::io::split(caller);
    let inward = async {
        inward(from_caller, stdin).await;
        tokio::time::sleep(REST).await;
    };
    let outward = outward(stdout, to_caller);
    // Said by nobody who counts, and read so that it holds nothing up.
    let aside = async {
        while let Some(Ok(_)) = stderr.next().await {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
        () = aside => {}
    }
    drop((control, exit));
}

async fn inward(mut caller: ReadHalf<DuplexStream>, mut stdin: ExecStdin) {
    let mut piece = BytesMut::with_capacity(IN_FLIGHT);
    while let Ok(1..) = caller.read_buf(&mut piece).await {
        if stdin.write(piece.split().freeze()).await.is_err() {
            // The outputs tell how the command ended.
            return;
        }
        piece.reserve(IN_FLIGHT);
    }
    stdin.close();
}

/// A stream that broke ends like one that is over: the caller's protocol tells which it was.
async fn outward(mut stdout: ExecStream, mut caller: WriteHalf<DuplexStream>) {
    while let Some(Ok(bytes)) = stdout.next().await {
        if caller.write_all(&bytes).await.is_err() {
            return;
        }
    }
    drop(caller.shutdown().await);
}
