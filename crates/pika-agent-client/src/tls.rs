//! Whom the client trusts over `https`, and why a connection was not trusted.
//!
//! Owns the certificate authorities. There is no way to trust a server without a check: whoever has a private authority
//! names its certificate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::ClientError;

/// Certificate authorities that a server's certificate may be signed by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authorities {
    /// Those of this host.
    #[default]
    Host,
    /// Those in this file, in PEM, and no others.
    File(PathBuf),
}

/// Why a connection over TLS was not trusted. Its text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsProblem {
    /// None of the authorities signed the server's certificate.
    UnknownAuthority,
    /// The certificate is for other names than the address has.
    OtherName,
    /// The certificate is no longer valid, or not yet.
    NotValidNow,
    /// The certificate is at fault in another way.
    Certificate,
    /// What answers speaks no TLS, or none that both sides know.
    Protocol,
}

impl TlsProblem {
    /// The problem of a connection that failed, if TLS is why.
    pub(crate) fn of(error: &io::Error) -> Option<TlsProblem> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        let Error::InvalidCertificate(certificate) = error else {
            return Some(TlsProblem::Protocol);
        };
        Some(match certificate {
            // An authority of the same name with another key, as one that was made anew has, shows as a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsProblem::UnknownAuthority
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsProblem::OtherName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsProblem::NotValidNow,
            _ => TlsProblem::Certificate,
        })
    }
}

impl std::fmt::Display for TlsProblem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            TlsProblem::UnknownAuthority => {
                "no authority that is trusted here signed its certificate; trust the one that did, if it is yours"
            }
            TlsProblem::OtherName => {
                "its certificate is for other names; use an address that it is for, or have one made for this address"
            }
            TlsProblem::NotValidNow => {
                "its certificate is not valid now; have it renewed, and check this host's clock"
            }
            TlsProblem::Certificate => {
                "its certificate can't be accepted; have the server's operator make another one"
            }
            TlsProblem::Protocol => {
                "what answers there does not speak TLS as it should; check the address and its port"
            }
        })
    }
}

pub(crate) fn config(authorities: &Authorities) -> Result<ClientConfig, ClientError> {
    let roots = match authorities {
        Authorities::Host => of_host()?,
        Authorities::File(path) => of_file(path)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| ClientError::NoAuthorities)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn of_host() -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    let (added, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match added {
        0 => Err(ClientError::NoAuthorities),
        _ => Ok(roots),
    }
}

/// All of a file's certificates must be good: one that is left out would be missed later and elsewhere.
fn of_file(path: &Path) -> Result<RootCertStore, ClientError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::AuthoritiesFile {
        path: path.to_owned(),
        source,
    };
    let pem = std::fs::read(path).map_err(|error| failed(error.into()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| failed(error.into()))?;
        roots
            .add(certificate)
            .map_err(|error| failed(error.into()))?;
    }
    match roots.is_empty() {
        true => Err(failed("there is no certificate in it".into())),
        false => Ok(roots),
    }
}
