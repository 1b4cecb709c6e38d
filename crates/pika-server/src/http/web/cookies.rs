//! Cookies on their way between a browser and an agent's own web interface.
//!
//! Owns the line between the server's cookies and an agent's: both are of one host name, so an agent's are confined to
//! its own path and can't have a name of the server's.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::http::auth::SESSION_COOKIES;

/// Most cookies that are taken of one answer: a browser that has too many of a host forgets the others.
const COOKIES_MAX: usize = 20;
/// Longest cookie, in bytes; browsers take no longer ones.
const COOKIE_BYTES_MAX: usize = 4096;
/// Attributes that a guest may choose.
const ATTRIBUTES: [&str; 6] = [
    "expires",
    "httponly",
    "max-age",
    "partitioned",
    "samesite",
    "secure",
];

/// The cookies that a browser sends, without those of the server.
pub(super) fn to_guest(headers: &HeaderMap) -> Option<HeaderValue> {
    let all = headers.get_all(header::COOKIE).into_iter();
    let theirs: Vec<&str> = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .map(str::trim)
        .filter(|pair| !pair.is_empty() && !is_ours(name_of(pair)))
        .collect();
    if theirs.is_empty() {
        return None;
    }
    HeaderValue::from_str(&theirs.join("; ")).ok()
}

/// The cookies that a guest sets, each for the agent's path alone.
pub(super) fn to_caller(headers: &HeaderMap, prefix: &str) -> Vec<HeaderValue> {
    let all = headers.get_all(header::SET_COOKIE).into_iter();
    all.filter_map(|value| confined(value, prefix))
        .take(COOKIES_MAX)
        .collect()
}

fn name_of(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default().trim()
}

fn is_ours(name: &str) -> bool {
    SESSION_COOKIES
        .iter()
        .any(|ours| name.eq_ignore_ascii_case(ours))
}

/// Written anew from what is known of it. One that would be of the whole host, or that a browser could send as another
/// one's name (it has none of its own), is left out.
fn confined(value: &HeaderValue, prefix: &str) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let mut parts = text.split(';').map(str::trim);
    let pair = parts.next()?;
    let (name, value) = pair.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let whole_host = name.to_ascii_lowercase().starts_with("__host-");
    if !is_name(name) || is_ours(name) || whole_host {
        return None;
    }
    let mut cookie = format!("{name}={value}; Path={prefix}/");
    for attribute in parts {
        if ATTRIBUTES.contains(&&*name_of(attribute).to_ascii_lowercase()) {
            cookie.push_str("; ");
            cookie.push_str(attribute);
        }
    }
    let fits = cookie.len() <= COOKIE_BYTES_MAX;
    fits.then(|| HeaderValue::from_str(&cookie).ok()).flatten()
}

/// A token (RFC 9110, 5.6.2).
fn is_name(text: &str) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || special.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cookies: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie.parse().unwrap());
        }
        let kept = to_caller(&headers, "/p");
        let kept = kept.iter().map(|value| value.to_str().unwrap().to_owned());
        kept.collect()
    }

    #[test]
    fn a_guests_cookie_is_for_its_own_path() {
        assert_eq!(
            set(&[
                "a=b=c; Path=/; Domain=example; HttpOnly; SameSite=None; Secure",
                "a = b ;path=/v1;PATH=/;Max-Age=5;x=y",
                "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            ]),
            [
                "a=b=c; Path=/p/; HttpOnly; SameSite=None; Secure",
                "a=b; Path=/p/; Max-Age=5",
                "a=; Path=/p/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            ]
        );
    }

    #[test]
    fn a_guest_sets_no_cookie_of_the_server() {
        let none: [&str; 0] = [];
        for evil in [
            "pika_session=x",
            "PIKA_SESSION=x",
            " pika_session =x",
            "__Host-pika_session=x; Path=/; Secure",
            "__host-other=x",
            "=pika_session=x",
            "pika_session",
            "",
            "a b=c",
        ] {
            assert_eq!(set(&[evil]), none, "{evil}");
        }
        let long = format!("a={}", "b".repeat(5000));
        assert_eq!(set(&[&long]), none);
        let many: Vec<String> = (0..100).map(|number| format!("c{number}=1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(set(&many).len(), COOKIES_MAX);
    }

    #[test]
    fn the_servers_cookies_stay_with_the_server() {
        let mut headers = HeaderMap::new();
        assert_eq!(to_guest(&headers), None);
        let sent = "a=b;pika_session=secret; =pika; __Host-pika_session=secret;c";
        headers.append(header::COOKIE, sent.parse().unwrap());
        headers.append(header::COOKIE, "d=e".parse().unwrap());
        assert_eq!(to_guest(&headers).unwrap(), "a=b; =pika; c; d=e");
        headers.clear();
        headers.append(header::COOKIE, "pika_session=secret".parse().unwrap());
        assert_eq!(to_guest(&headers), None);
    }
}
