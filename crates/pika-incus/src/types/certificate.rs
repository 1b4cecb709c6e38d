//! Trusted certificates and trust tokens: `/1.0/certificates`.

use std::fmt;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::nullable;

/// A certificate in the server's trust store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Certificate {
    /// SHA-256 of the certificate, hex: its identity.
    pub fingerprint: String,
    /// Name given when it was added.
    pub name: String,
    /// `client`, `server` or `metrics`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it is limited to `projects`.
    pub restricted: bool,
    /// Projects that it may use, if restricted.
    #[serde(deserialize_with = "nullable")]
    pub projects: Vec<String>,
    /// The certificate, PEM.
    #[serde(deserialize_with = "nullable")]
    pub certificate: String,
    /// Free text.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
}

/// What `POST /1.0/certificates` adds to the trust store.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct CertificateRequest {
    /// Name of the entry.
    pub name: String,
    /// Always `client` here.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Whether it is limited to `projects`.
    pub restricted: bool,
    /// Projects that it may use, if restricted.
    pub projects: Vec<String>,
    /// The certificate as base64 of its DER; empty to use the one of the TLS connection.
    certificate: String,
    /// The trust token, where the caller isn't trusted yet.
    trust_token: String,
    /// Whether to make a token instead of adding a certificate.
    token: bool,
}

impl CertificateRequest {
    /// Adds a client certificate, given as DER. The caller must be trusted already.
    pub fn add(name: impl Into<String>, certificate_der: &[u8]) -> Self {
        Self {
            name: name.into(),
            kind: "client",
            certificate: base64::engine::general_purpose::STANDARD.encode(certificate_der),
            ..Self::default()
        }
    }

    /// Adds the certificate of the very TLS connection, with a token that a trusted caller made.
    pub fn with_token(name: impl Into<String>, token: &TrustToken) -> Self {
        Self {
            name: name.into(),
            kind: "client",
            trust_token: token.text.clone(),
            ..Self::default()
        }
    }

    /// Makes a trust token for a client of this name (the answer is an operation that holds it).
    pub(crate) fn new_token(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: "client",
            token: true,
            ..Self::default()
        }
    }

    /// Limits the certificate to these projects.
    pub fn restricted_to(mut self, projects: impl IntoIterator<Item = String>) -> Self {
        self.restricted = true;
        self.projects = projects.into_iter().collect();
        self
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRequest")
            .field("name", &self.name)
            .field("restricted", &self.restricted)
            .field("projects", &self.projects)
            .finish_non_exhaustive()
    }
}

/// A trust token: lets one client add its own certificate, and names the server's certificate to expect.
/// Its secret is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustToken {
    /// Name that the certificate will get.
    pub client_name: String,
    /// SHA-256 of the server's certificate, hex.
    pub fingerprint: String,
    /// Addresses of the server.
    pub addresses: Vec<String>,
    text: String,
}

/// A text that is no trust token.
#[derive(Debug, thiserror::Error)]
#[error("not a trust token: {reason}; make one with `incus config trust add NAME` on the server")]
pub struct TokenError {
    reason: &'static str,
}

#[derive(Serialize, Deserialize)]
struct TokenBody {
    client_name: String,
    fingerprint: String,
    addresses: Vec<String>,
    secret: String,
    expires_at: String,
}

impl TrustToken {
    /// Longest token that is read, in bytes.
    pub const BYTES_MAX: usize = 64 * 1024;

    /// Reads a token as `incus config trust add` prints it.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > Self::BYTES_MAX {
            return Err(TokenError {
                reason: "longer than 64 KiB",
            });
        }
        let json = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|_| TokenError {
                reason: "not base64",
            })?;
        let body: TokenBody = serde_json::from_slice(&json).map_err(|_| TokenError {
            reason: "not the JSON that a token holds",
        })?;
        Ok(Self {
            client_name: body.client_name,
            fingerprint: body.fingerprint,
            addresses: body.addresses,
            text: text.to_owned(),
        })
    }

    /// The token's text, secret included: for handing it to the client that it is for.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Puts a token together from the metadata of the operation that made it.
    pub(crate) fn from_operation(
        metadata: &serde_json::Map<String, serde_json::Value>,
    ) -> Option<Self> {
        let text = |value: Option<&serde_json::Value>| value?.as_str().map(str::to_owned);
        let body = TokenBody {
            client_name: text(
                metadata
                    .get("request")
                    .and_then(|request| request.get("name")),
            )?,
            fingerprint: text(metadata.get("fingerprint"))?,
            addresses: metadata
                .get("addresses")?
                .as_array()?
                .iter()
                .filter_map(|address| text(Some(address)))
                .collect(),
            secret: text(metadata.get("secret"))?,
            expires_at: text(metadata.get("expiresAt"))
                .unwrap_or_else(|| "0001-01-01T00:00:00Z".to_owned()),
        };
        let json = serde_json::to_vec(&body).ok()?;
        Self::parse(&base64::engine::general_purpose::STANDARD.encode(json)).ok()
    }
}

impl fmt::Debug for TrustToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustToken")
            .field("client_name", &self.client_name)
            .field("fingerprint", &self.fingerprint)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}
