//! Headers on their way between a caller and an agent's own web interface.
//!
//! Owns what passes in which direction. Nothing that proves who calls goes in; nothing comes out that could change how a
//! browser treats this server's own pages, which have the same origin.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::cookies;
use crate::http::auth::CSRF_HEADER;

/// Of one connection alone (RFC 9110, 7.6.1), besides those that `Connection` names.
const OF_CONNECTION: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// For this server alone: who calls, and what the server itself says on the way or has already answered.
const FOR_THE_SERVER: [&str; 7] = [
    "authorization",
    CSRF_HEADER,
    "cookie",
    "expect",
    "forwarded",
    "host",
    "x-real-ip",
];
/// What a browser, or a proxy in front, applies to more than the one answer; and answers that only the server gives.
const FOR_ALL_PAGES: [&str; 26] = [
    "accept-ch",
    "activate-storage-access",
    "alt-svc",
    "cdn-cache-control",
    "clear-site-data",
    "critical-ch",
    "expect-ct",
    "nel",
    "no-vary-search",
    "origin-agent-cluster",
    "origin-trial",
    "public-key-pins",
    "public-key-pins-report-only",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "set-cookie",
    "set-login",
    "speculation-rules",
    "strict-transport-security",
    "surrogate-control",
    "surrogate-key",
    "use-as-dictionary",
    "www-authenticate",
    "x-request-id",
    "x-sendfile",
];
/// The same, by how the name begins: what other sites may read, and orders to nginx.
const FAMILIES_FOR_ALL_PAGES: [&str; 2] = ["access-control-", "x-accel-"];
/// A page of an agent's is no page of this server's to a browser, wherever it comes from: it has an origin of its own, and
/// neither sends the visitor's session along nor reads what it opens.
const SANDBOX: &str = "sandbox allow-scripts allow-forms";
/// What an answer depends on besides its address.
const DEPENDS_ON: &str = "authorization, cookie";

/// How the outside calls an agent's web interface.
#[derive(Debug, Clone)]
pub(super) struct Outside {
    /// The path that stands for the guest's `/`, without the slash at its end.
    pub(super) prefix: String,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// Host, with the port where there is one.
    pub(super) host: HeaderValue,
    /// Address of the caller, as this server sees it.
    pub(super) from: String,
}

/// Whether a request asks for a websocket.
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    let named = tokens(headers, &header::CONNECTION);
    let kinds = tokens(headers, &header::UPGRADE);
    named.iter().any(|name| name == "upgrade") && kinds.iter().any(|kind| kind == "websocket")
}

/// What a guest is sent of a caller's headers.
pub(super) fn to_guest(from: &HeaderMap, outside: &Outside) -> HeaderMap {
    let passes = |name: &HeaderName| {
        !FOR_THE_SERVER.contains(&name.as_str()) && !name.as_str().starts_with("x-forwarded-")
    };
    let mut headers = passed(from, passes);
    if let Some(cookie) = cookies::to_guest(from) {
        headers.insert(header::COOKIE, cookie);
    }
    headers.insert(header::HOST, outside.host.clone());
    let said = [
        ("x-forwarded-for", HeaderValue::from_str(&outside.from).ok()),
        ("x-forwarded-host", Some(outside.host.clone())),
        (
            "x-forwarded-proto",
            Some(HeaderValue::from_static(outside.scheme)),
        ),
        (
            "x-forwarded-prefix",
            HeaderValue::from_str(&outside.prefix).ok(),
        ),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if is_websocket(from) {
        become_websocket(&mut headers);
    }
    headers
}

/// What a caller is sent of a guest's headers.
pub(super) fn to_caller(from: &HeaderMap, outside: &Outside, guest: &str) -> HeaderMap {
    let passes = |name: &HeaderName| {
        let name = name.as_str();
        let family = FAMILIES_FOR_ALL_PAGES
            .iter()
            .any(|family| name.starts_with(family));
        !FOR_ALL_PAGES.contains(&name) && !family
    };
    let mut headers = passed(from, passes);
    for cookie in cookies::to_caller(from, &outside.prefix) {
        headers.append(header::SET_COOKIE, cookie);
    }
    if let Some(place) = headers.get(header::LOCATION) {
        let place = relocated(place, outside, guest);
        headers.insert(header::LOCATION, place);
    }
    let caching = private(&headers);
    headers.insert(header::CACHE_CONTROL, caching);
    headers.append(header::VARY, HeaderValue::from_static(DEPENDS_ON));
    // Beside a policy of the guest's own: both hold.
    let policy = HeaderValue::from_static(SANDBOX);
    headers.append(header::CONTENT_SECURITY_POLICY, policy);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    headers
}

/// Makes headers those of a change to a websocket, which is of one connection too.
pub(super) fn become_websocket(headers: &mut HeaderMap) {
    let values = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
    ];
    for (name, value) in values {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn passed(from: &HeaderMap, passes: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let named = tokens(from, &header::CONNECTION);
    let mut headers = HeaderMap::with_capacity(from.len());
    for (name, value) in from {
        let of_connection = OF_CONNECTION.contains(&name.as_str())
            || named.iter().any(|token| token == name.as_str());
        if !of_connection && passes(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// The elements of a list in a header, in lower case.
fn tokens(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .collect()
}

/// A place below the guest's `/` as a place below the agent's prefix; any other as it is.
fn relocated(place: &HeaderValue, outside: &Outside, guest: &str) -> HeaderValue {
    let Ok(text) = place.to_str() else {
        return place.clone();
    };
    let host = outside.host.to_str().unwrap_or_default();
    let own = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .and_then(|rest| rest.strip_prefix(host).or_else(|| rest.strip_prefix(guest)))
        .filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let path = match own {
        Some("") => "/",
        Some(path) => path,
        None if text.starts_with('/') && !text.starts_with("//") => text,
        None => return place.clone(),
    };
    let inside = path
        .strip_prefix(&outside.prefix)
        .is_some_and(|rest| rest.starts_with('/'));
    let prefix = if inside { "" } else { &outside.prefix };
    HeaderValue::from_str(&format!("{prefix}{path}")).unwrap_or_else(|_| place.clone())
}

/// Who calls decides about every answer, so none is for a cache that several callers share.
fn private(headers: &HeaderMap) -> HeaderValue {
    let shared = |directive: &String| {
        let name = directive.split('=').next().unwrap_or_default();
        !["", "public", "private", "s-maxage"].contains(&name.trim())
    };
    let given = tokens(headers, &header::CACHE_CONTROL);
    let mut kept: Vec<String> = given.into_iter().filter(shared).collect();
    kept.insert(0, "private".to_owned());
    HeaderValue::from_str(&kept.join(", ")).unwrap_or(HeaderValue::from_static("no-store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside() -> Outside {
        Outside {
            prefix: "/v1/agents/a-1/web".to_owned(),
            scheme: "https",
            host: HeaderValue::from_static("pika.example"),
            from: "192.0.2.7".to_owned(),
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<String> = headers.iter().map(line).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn a_guest_is_told_how_it_is_called_and_not_who_calls() {
        let sent = headers(&[
            ("host", "elsewhere.example"),
            ("authorization", "Bearer pika_secret"),
            ("x-csrf-token", "secret"),
            ("cookie", "pika_session=secret; theme=dark"),
            ("cookie", "__Host-pika_session=secret"),
            ("connection", "keep-alive, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "5"),
            ("proxy-authorization", "Basic secret"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("forwarded", "for=evil"),
            ("x-forwarded-for", "evil"),
            ("x-forwarded-user", "evil"),
            ("x-real-ip", "evil"),
            ("accept", "text/html"),
            ("x-own", "1"),
        ]);
        assert_eq!(
            lines(&to_guest(&sent, &outside())),
            [
                "accept: text/html",
                "cookie: theme=dark",
                "host: pika.example",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: pika.example",
                "x-forwarded-prefix: /v1/agents/a-1/web",
                "x-forwarded-proto: https",
                "x-own: 1",
            ]
        );
    }

    #[test]
    fn a_websocket_is_asked_for_anew_and_nothing_else_is_changed_to() {
        let sent = headers(&[
            ("connection", "Keep-Alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "k"),
        ]);
        let sent = lines(&to_guest(&sent, &outside()));
        for line in [
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-key: k",
        ] {
            assert!(sent.contains(&line.to_owned()), "{sent:?}");
        }
        for other in [
            headers(&[("connection", "upgrade"), ("upgrade", "h2c")]),
            headers(&[("upgrade", "websocket")]),
        ] {
            assert!(!is_websocket(&other));
            assert!(!to_guest(&other, &outside()).contains_key("upgrade"));
        }
    }

    #[test]
    fn a_caller_gets_nothing_that_holds_for_more_than_the_answer() {
        let mut evil: Vec<(&'static str, &str)> = FOR_ALL_PAGES
            .iter()
            .chain(&OF_CONNECTION)
            .map(|name| (*name, "evil"))
            .collect();
        evil.extend([
            ("access-control-allow-origin", "*"),
            ("x-accel-redirect", "/etc/passwd"),
            ("connection", "x-private"),
            ("x-private", "1"),
            ("content-type", "text/html"),
            ("content-security-policy", "default-src 'none'"),
            ("x-content-type-options", "evil"),
            ("etag", "\"1\""),
        ]);
        assert_eq!(
            lines(&to_caller(&headers(&evil), &outside(), "10.0.0.2:18789")),
            [
                "cache-control: private",
                "content-security-policy: default-src 'none'",
                "content-security-policy: sandbox allow-scripts allow-forms",
                "content-type: text/html",
                "etag: \"1\"",
                "vary: authorization, cookie",
                "x-content-type-options: nosniff",
            ]
        );
    }

    #[test]
    fn no_shared_cache_keeps_an_answer() {
        for (given, becomes) in [
            ("public, max-age=60", "private, max-age=60"),
            ("s-maxage=60", "private"),
            ("Public=\"x\", No-Store", "private, no-store"),
            ("private", "private"),
        ] {
            let given = headers(&[("cache-control", given)]);
            assert_eq!(private(&given), becomes);
        }
    }

    #[test]
    fn a_redirect_stays_below_the_prefix() {
        for (given, becomes) in [
            ("/login?a=b", "/v1/agents/a-1/web/login?a=b"),
            ("http://pika.example/login", "/v1/agents/a-1/web/login"),
            ("https://pika.example", "/v1/agents/a-1/web/"),
            ("http://10.0.0.2:18789/x", "/v1/agents/a-1/web/x"),
            ("/v1/agents/a-1/web/x", "/v1/agents/a-1/web/x"),
            (
                "/v1/agents/a-1/webs",
                "/v1/agents/a-1/web/v1/agents/a-1/webs",
            ),
            ("login", "login"),
            ("//other.example/x", "//other.example/x"),
            ("https://pika.example.evil/x", "https://pika.example.evil/x"),
            ("https://other.example/x", "https://other.example/x"),
        ] {
            let value = HeaderValue::from_static(given);
            let place = relocated(&value, &outside(), "10.0.0.2:18789");
            assert_eq!(place, becomes, "{given}");
        }
    }
}
