//! Connections over TLS with a client certificate, to a server whose certificate is pinned.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::service_fn;

use super::{CONNECT_TIMEOUT, Connection, DialService};
use crate::error::ConnectProblem;

/// Port of Incus where a URL names none.
const DEFAULT_PORT: u16 = 8443;

/// Where a server is and how both sides prove who they are.
#[derive(Clone)]
pub struct HttpsConfig {
    /// `https://host` or `https://host:port`.
    pub url: String,
    /// The client's certificate, PEM.
    pub client_cert_pem: String,
    /// Its private key, PEM. Never printed.
    pub client_key_pem: String,
    /// Which server certificate is accepted.
    pub server: ServerTrust,
}

impl fmt::Debug for HttpsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsConfig")
            .field("url", &self.url)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Which server certificate is accepted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ServerTrust {
    /// Exactly this certificate (PEM), whatever names and dates it carries: Incus's own is self-signed.
    Pinned(String),
    /// Exactly the certificate with this SHA-256 fingerprint (hex), as a trust token names it.
    Fingerprint(String),
    /// A certificate for the URL's host that chains to one of these authorities (PEM, one or more). A file such as
    /// `/etc/ssl/certs/ca-certificates.crt` holds the system's.
    Authorities(String),
}

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL isn't one of an HTTPS server.
    #[error("the URL {url:?} {reason}; expected https://host or https://host:port")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A PEM text holds no usable item.
    #[error("the {what} is not usable PEM")]
    Pem {
        /// Which text.
        what: &'static str,
        /// The reader's words.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A fingerprint isn't 64 hex digits.
    #[error("the server's fingerprint is not a SHA-256 in hex (64 digits)")]
    Fingerprint,
    /// The TLS library refuses certificate, key or authorities.
    #[error("the TLS settings are refused")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A dialer and the value of the `Host` header.
pub(crate) fn dial(config: &HttpsConfig) -> Result<(DialService, String), ConfigError> {
    let (host, port) = parse_url(&config.url)?;
    let name = ServerName::try_from(host.clone()).map_err(|_| ConfigError::Url {
        url: config.url.clone(),
        reason: "has a host that is no DNS name or address",
    })?;
    let connector = TlsConnector::from(Arc::new(client_config(config)?));
    let authority = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let target = Arc::new(Target {
        host,
        port,
        name,
        authority: authority.clone(),
        connector,
    });
    let dial = DialService::new(service_fn(move |()| {
        let target = Arc::clone(&target);
        async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, target.connect()).await {
                Ok(result) => result,
                Err(_) => Err(ConnectProblem::TimedOut {
                    endpoint: target.authority.clone(),
                    after: CONNECT_TIMEOUT,
                }),
            }
        }
    }));
    Ok((dial, authority))
}

struct Target {
    host: String,
    port: u16,
    name: ServerName<'static>,
    authority: String,
    connector: TlsConnector,
}

impl Target {
    async fn connect(&self) -> Result<Connection, ConnectProblem> {
        let endpoint = || self.authority.clone();
        let io_problem = |source: io::Error| match source.kind() {
            io::ErrorKind::ConnectionRefused => ConnectProblem::Refused {
                endpoint: endpoint(),
            },
            _ => ConnectProblem::Io {
                endpoint: endpoint(),
                source,
            },
        };
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(io_problem)?;
        tcp.set_nodelay(true).map_err(io_problem)?;
        let tls = self.connector.connect(self.name.clone(), tcp).await;
        match tls {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(match wrong_pin(&error) {
                Some(presented) => ConnectProblem::WrongCertificate {
                    endpoint: endpoint(),
                    presented,
                },
                None => ConnectProblem::Tls {
                    endpoint: endpoint(),
                    source: error.into(),
                },
            }),
        }
    }
}

/// The fingerprint that a pinning verifier refused, if that is what the error says.
fn wrong_pin(error: &io::Error) -> Option<String> {
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = tls else {
        return None;
    };
    other
        .0
        .downcast_ref::<PinMismatch>()
        .map(|mismatch| mismatch.presented.clone())
}

fn parse_url(url: &str) -> Result<(String, u16), ConfigError> {
    let fail = |reason| ConfigError::Url {
        url: url.chars().take(200).collect(),
        reason,
    };
    let uri: http::Uri = url.parse().map_err(|_| fail("is malformed"))?;
    if uri.scheme_str() != Some("https") {
        return Err(fail("is not an https URL"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(fail("has a path or a query"));
    }
    let authority = uri.authority().ok_or_else(|| fail("has no host"))?;
    if authority.as_str().contains('@') {
        return Err(fail("has a user name"));
    }
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    if host.is_empty() {
        return Err(fail("has no host"));
    }
    Ok((
        host.to_owned(),
        authority.port_u16().unwrap_or(DEFAULT_PORT),
    ))
}

fn client_config(config: &HttpsConfig) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = certificates("client certificate", &config.client_cert_pem)?;
    let key =
        PrivateKeyDer::from_pem_slice(config.client_key_pem.as_bytes()).map_err(|source| {
            ConfigError::Pem {
                what: "client key",
                source,
            }
        })?;
    let verifier = verifier(&config.server, Arc::clone(&provider))?;
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Tls(error.into()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(certificates, key)
        .map_err(|error| ConfigError::Tls(error.into()))
}

fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| ConfigError::Pem { what, source })?;
    if all.is_empty() {
        return Err(ConfigError::Pem {
            what,
            source: rustls_pki_types::pem::Error::NoItemsFound,
        });
    }
    Ok(all)
}

fn verifier(
    trust: &ServerTrust,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
    let pinned = match trust {
        ServerTrust::Pinned(pem) => fingerprint(&certificates("server certificate", pem)?[0]),
        ServerTrust::Fingerprint(text) => {
            let mut bytes = [0; 32];
            hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| ConfigError::Fingerprint)?;
            bytes
        }
        ServerTrust::Authorities(pem) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates("authorities", pem)?);
            return Ok(
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| ConfigError::Tls(error.into()))?,
            );
        }
    };
    Ok(Arc::new(PinnedCertificate { pinned, provider }))
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate.as_ref()).into()
}

/// Accepts one certificate, compared byte by byte through its SHA-256. Names, dates and chains are not looked at;
/// that the server holds the certificate's key is still proven by the handshake's signature.
#[derive(Debug)]
struct PinnedCertificate {
    pinned: [u8; 32],
    provider: Arc<CryptoProvider>,
}

/// The server showed another certificate.
#[derive(Debug, thiserror::Error)]
#[error("the server's certificate has SHA-256 {presented}")]
struct PinMismatch {
    presented: String,
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = fingerprint(end_entity);
        if presented == self.pinned {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = PinMismatch {
            presented: hex::encode(presented),
        };
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(
            rustls::OtherError(Arc::new(mismatch)),
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::parse_url;

    #[test]
    fn a_url_names_a_host_and_perhaps_a_port() {
        assert_eq!(parse_url("https://h").unwrap(), ("h".to_owned(), 8443));
        assert_eq!(
            parse_url("https://127.0.0.1:9/").unwrap(),
            ("127.0.0.1".to_owned(), 9)
        );
        assert_eq!(parse_url("https://[::1]:9").unwrap(), ("::1".to_owned(), 9));
        for wrong in [
            "",
            "h",
            "http://h",
            "https://",
            "https://h/1.0",
            "https://u@h",
            "https://h?x",
        ] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }
}
