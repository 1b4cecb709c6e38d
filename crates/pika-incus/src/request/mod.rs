//! Request builders without I/O: a value in, an [`ApiRequest`] out.
//!
//! Owns: paths, query parameters, headers and JSON bodies of the Incus REST API, with every name percent-encoded
//! and checked, so that no name can lead to another path. Never: sockets, clocks, waiting.

pub mod certificates;
pub mod events;
pub mod exec;
pub mod files;
pub mod images;
pub mod instances;
pub mod networks;
pub mod operations;
pub mod profiles;
pub mod projects;
pub mod server;
pub mod storage;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH};
use http::{Method, Request, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::types::ETag;

/// Everything but the unreserved characters of RFC 3986 is escaped, in path segments and in query values.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Longest name that is put into a path, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest file path inside an instance, in bytes (`PATH_MAX` of Linux).
pub const FILE_PATH_BYTES_MAX: usize = 4096;

/// A name or value that can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {reason}")]
pub struct InvalidInput {
    /// What it is, such as `instance name`.
    pub what: &'static str,
    /// The start of the value.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl InvalidInput {
    pub(crate) fn new(what: &'static str, value: &str, reason: &'static str) -> Self {
        Self {
            what,
            value: value.chars().take(100).collect(),
            reason,
        }
    }
}

/// A request that is ready to be sent, without host and connection.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiRequest {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
}

impl ApiRequest {
    pub(crate) fn new(method: Method, path: ApiPath) -> Self {
        Self {
            method,
            path: path.0,
            query: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn get(path: ApiPath) -> Self {
        Self::new(Method::GET, path)
    }

    /// Adds a query parameter; both parts are escaped.
    pub(crate) fn query(mut self, key: &str, value: &str) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(key);
        self.query.push('=');
        self.query.extend(utf8_percent_encode(value, ESCAPED));
        self
    }

    /// Says which project the request is for.
    pub(crate) fn project(self, project: &str) -> Self {
        self.query("project", project)
    }

    pub(crate) fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Result<Self, InvalidInput> {
        let json = serde_json::to_vec(body).map_err(|_| {
            InvalidInput::new("request body", &self.path, "can't be written as JSON")
        })?;
        self.body = json.into();
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(self)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Result<Self, InvalidInput> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            InvalidInput::new(
                "header value",
                value,
                "has characters that a header can't carry",
            )
        })?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    /// Makes the request conditional: the server answers 412 if the object has changed since.
    pub(crate) fn if_match(mut self, etag: Option<&ETag>) -> Result<Self, InvalidInput> {
        if let Some(etag) = etag {
            let value = HeaderValue::from_str(etag.as_str()).map_err(|_| {
                InvalidInput::new("ETag", etag.as_str(), "can't be sent in a header")
            })?;
            self.headers.insert(IF_MATCH, value);
        }
        Ok(self)
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path, escaped, without the query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Path and query, as they go into the request line.
    pub fn path_and_query(&self) -> String {
        if self.query.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, self.query)
        }
    }

    /// The headers, without `Host`.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body; empty for requests whose body is streamed.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The request as the `http` crate has it, with a relative target.
    pub fn into_http(self) -> Result<Request<Bytes>, InvalidInput> {
        let target = self.path_and_query();
        let uri: Uri = target.parse().map_err(|_| {
            InvalidInput::new("request target", &target, "is too long or malformed")
        })?;
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

/// A path below `/1.0`, built segment by segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiPath(String);

impl ApiPath {
    /// `/1.0`
    pub(crate) fn root() -> Self {
        Self("/1.0".to_owned())
    }

    /// `/1.0/{collection}`; only for literals of this crate.
    pub(crate) fn of(collection: &'static str) -> Self {
        Self::root().fixed(collection)
    }

    /// Adds a literal of this crate.
    pub(crate) fn fixed(mut self, part: &'static str) -> Self {
        self.0.push('/');
        self.0.push_str(part);
        self
    }

    /// Adds a name as one escaped segment. Slashes are refused.
    pub(crate) fn name(self, what: &'static str, name: &str) -> Result<Self, InvalidInput> {
        if name.contains('/') {
            return Err(InvalidInput::new(what, name, "must not contain a slash"));
        }
        self.name_with_slashes(what, name)
    }

    /// Adds a name that may hold slashes (image aliases) as one escaped segment.
    pub(crate) fn name_with_slashes(
        mut self,
        what: &'static str,
        name: &str,
    ) -> Result<Self, InvalidInput> {
        check_name(what, name)?;
        self.0.push('/');
        self.0.extend(utf8_percent_encode(name, ESCAPED));
        Ok(self)
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), InvalidInput> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 255 bytes"
    } else if name == "." || name == ".." {
        "is a relative path"
    } else if name.chars().any(char::is_control) {
        "has control characters"
    } else {
        return Ok(());
    };
    Err(InvalidInput::new(what, name, reason))
}

/// How much of each object a listing holds: `recursion` of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// The objects.
    #[default]
    Objects,
    /// For instances also their state, snapshots and backups (one look into each guest: slower).
    WithState,
}

/// Which objects a listing holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// How much of each.
    pub detail: Detail,
    /// Whether to list all projects instead of the client's own.
    pub all_projects: bool,
    /// An expression of Incus's filter language, such as `config.user.owner eq me`; applied by the server.
    pub expression: Option<String>,
}

impl Filter {
    /// Everything in the client's project.
    pub fn all() -> Self {
        Self::default()
    }

    /// Everything in the client's project, with the state of each.
    pub fn with_state() -> Self {
        Self {
            detail: Detail::WithState,
            ..Self::default()
        }
    }

    /// What matches an expression of Incus's filter language.
    pub fn matching(expression: impl Into<String>) -> Self {
        Self {
            expression: Some(expression.into()),
            ..Self::default()
        }
    }

    pub(crate) fn apply(&self, request: ApiRequest, project: &str) -> ApiRequest {
        let recursion = match self.detail {
            Detail::Objects => "1",
            Detail::WithState => "2",
        };
        let request = request.query("recursion", recursion);
        let request = if self.all_projects {
            request.query("all-projects", "true")
        } else {
            request.project(project)
        };
        match &self.expression {
            Some(expression) => request.query("filter", expression),
            None => request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiPath, ApiRequest, Filter};
    use proptest::prelude::*;

    #[test]
    fn a_name_cannot_leave_its_segment() {
        let path = ApiPath::of("instances")
            .name_with_slashes("alias", "a/../b?c#d%2f&e")
            .unwrap();
        assert_eq!(path.0, "/1.0/instances/a%2F..%2Fb%3Fc%23d%252f%26e");
        for name in ["", ".", "..", "a/b", "a\nb", "a\0b"] {
            assert!(
                ApiPath::of("instances")
                    .name("instance name", name)
                    .is_err(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_filter_becomes_a_query() {
        let request = Filter::matching("config.user.x eq \"a b\"")
            .apply(ApiRequest::get(ApiPath::of("instances")), "p&q");
        assert_eq!(
            request.path_and_query(),
            "/1.0/instances?recursion=1&project=p%26q&filter=config.user.x%20eq%20%22a%20b%22"
        );
    }

    proptest! {
        #[test]
        fn any_accepted_name_is_exactly_one_segment(name in "\\PC{1,80}") {
            if let Ok(path) = ApiPath::of("instances").name("instance name", &name) {
                let request = ApiRequest::get(path).into_http().unwrap();
                prop_assert_eq!(request.uri().path().split('/').count(), 4);
                prop_assert!(request.uri().query().is_none());
                let segment = request.uri().path().rsplit('/').next().unwrap();
                let decoded = percent_encoding::percent_decode_str(segment).decode_utf8().unwrap();
                prop_assert_eq!(decoded.as_ref(), name.as_str());
            }
        }
    }
}
