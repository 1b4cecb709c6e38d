//! Connections over the daemon's unix socket.

use std::io;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;
use tower::service_fn;

use super::{CONNECT_TIMEOUT, Connection, DialService};
use crate::error::ConnectProblem;

/// A dialer of this socket.
pub(crate) fn dial(socket: PathBuf) -> DialService {
    DialService::new(service_fn(move |()| {
        let socket = socket.clone();
        async move { connect(&socket).await }
    }))
}

async fn connect(socket: &Path) -> Result<Connection, ConnectProblem> {
    let endpoint = || socket.display().to_string();
    match tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(socket)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(source)) => Err(match source.kind() {
            io::ErrorKind::NotFound => ConnectProblem::SocketMissing {
                path: socket.to_owned(),
            },
            io::ErrorKind::ConnectionRefused => ConnectProblem::Refused {
                endpoint: endpoint(),
            },
            io::ErrorKind::PermissionDenied => ConnectProblem::SocketPermission {
                path: socket.to_owned(),
            },
            _ => ConnectProblem::Io {
                endpoint: endpoint(),
                source,
            },
        }),
        Err(_) => Err(ConnectProblem::TimedOut {
            endpoint: endpoint(),
            after: CONNECT_TIMEOUT,
        }),
    }
}
