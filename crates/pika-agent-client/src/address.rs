//! Where the server is.
//!
//! Owns how an address is read. A token goes in the clear only to this host or into a private network.

use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;

use crate::ClientError;

const RULE: &str =
    "use `https://HOST[:PORT]`, `http://` to this host or a private address, or `unix:/PATH`";

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl Address {
    pub(crate) fn parse(given: &str) -> Result<Address, ClientError> {
        let refused = || ClientError::Address {
            given: given.to_owned(),
            rule: RULE,
        };
        if let Some(path) = given.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Address::Unix(PathBuf::from(path))),
                false => Err(refused()),
            };
        }
        let uri: Uri = given.parse().map_err(|_| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        let bare = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if may_be_plain(&host) => false,
            _ => return Err(refused()),
        };
        if !bare || host.is_empty() {
            return Err(refused());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Address::Tcp { host, port, tls })
    }

    /// Whether bytes leave this host as they are.
    pub(crate) fn is_plain_to_another_host(&self) -> bool {
        match self {
            Address::Tcp {
                host, tls: false, ..
            } => !is_this_host(host),
            Address::Tcp { .. } | Address::Unix(_) => false,
        }
    }

    /// What the `Host` header says.
    pub(crate) fn authority(&self) -> String {
        match self {
            Address::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port, .. } => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Address::Tcp { tls, .. } => {
                let scheme = if *tls { "https" } else { "http" };
                write!(formatter, "{scheme}://{}", self.authority())
            }
        }
    }
}

fn may_be_plain(host: &str) -> bool {
    is_this_host(host)
        || match host.parse() {
            Ok(IpAddr::V4(address)) => address.is_private(),
            Ok(IpAddr::V6(address)) => address.is_unique_local(),
            Err(_) => false,
        }
}

fn is_this_host(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_can_be_used() {
        for (given, shown) in [
            (
                "https://agents.example.org",
                "https://agents.example.org:443",
            ),
            ("http://127.0.0.1:8787/", "http://127.0.0.1:8787"),
            ("http://[::1]:8787", "http://[::1]:8787"),
            ("http://localhost", "http://localhost:80"),
            ("http://10.1.2.3:1", "http://10.1.2.3:1"),
            ("unix:/run/pika.sock", "unix:/run/pika.sock"),
        ] {
            let parsed = Address::parse(given).map(|address| address.to_string());
            assert_eq!(parsed.ok().as_deref(), Some(shown), "{given}");
        }
    }

    #[test]
    fn bytes_that_leave_the_host_as_they_are_are_told() {
        for (given, plain) in [
            ("https://agents.example.org", false),
            ("https://10.1.2.3", false),
            ("http://127.0.0.1:8787", false),
            ("http://[::1]:8787", false),
            ("http://localhost", false),
            ("unix:/run/pika.sock", false),
            ("http://10.1.2.3:1", true),
            ("http://[fd00::1]", true),
        ] {
            let parsed = Address::parse(given).map(|address| address.is_plain_to_another_host());
            assert_eq!(parsed.ok(), Some(plain), "{given}");
        }
    }

    #[test]
    fn a_token_never_goes_in_the_clear_over_a_public_network() {
        for given in [
            "http://agents.example.org",
            "http://192.0.2.1:80",
            "ftp://localhost",
            "https://user@example.org",
            "https://example.org/path",
            "https://example.org/?q",
            "localhost:80",
            "unix:relative",
            "",
        ] {
            let parsed = Address::parse(given);
            assert!(
                matches!(parsed, Err(ClientError::Address { .. })),
                "{given}: {parsed:?}"
            );
        }
    }
}
