//! One connection to the server: TCP, TLS or a Unix socket.
//!
//! Owns how it is made. Nothing is pooled: calls are few, and a connection of one's own can't be stale.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::address::Address;
use crate::{Authorities, ClientError, tls};

/// Bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin> Stream for T {}

/// How connections are made.
#[derive(Clone)]
pub(crate) struct Transport {
    pub(crate) address: Address,
    tls: Option<Arc<ClientConfig>>,
}

impl Transport {
    pub(crate) fn new(
        address: Address,
        authorities: &Authorities,
    ) -> Result<Transport, ClientError> {
        let tls = match &address {
            Address::Tcp { tls: true, .. } => Some(Arc::new(tls::config(authorities)?)),
            _ => None,
        };
        Ok(Transport { address, tls })
    }

    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match &self.address {
            Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp { host, port, .. } => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = TlsConnector::from(Arc::clone(config));
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}
