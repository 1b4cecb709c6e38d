//! Is a daemon there, and is its bridge? One GET over its socket.
//!
//! Owns readiness, asked for without the asynchronous client so that it also works in a destructor.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest answer that is read; `GET /1.0` has about 20 kB.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Whether the daemon behind this socket answers and trusts us.
pub(crate) fn answers(socket: &Path) -> bool {
    ask(socket, "/1.0").is_ok_and(|answer| {
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"auth\":\"trusted\"")
    })
}

/// Whether the daemon gave up bringing a network up when it started.
pub(crate) fn network_is_unavailable(socket: &Path, network: &str) -> bool {
    ask(socket, &format!("/1.0/networks/{network}"))
        .is_ok_and(|answer| answer.contains("\"status\":\"Unavailable\""))
}

fn ask(socket: &Path, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: incus\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
