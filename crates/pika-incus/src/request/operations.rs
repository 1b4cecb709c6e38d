//! Requests on `/1.0/operations`.

use std::time::Duration;

use http::Method;

use super::{ApiPath, ApiRequest};
use crate::types::OperationId;

fn operation_path(id: &OperationId) -> ApiPath {
    ApiPath::of("operations")
        .name("operation id", id.as_str())
        .expect("an OperationId holds only hex digits and dashes, which every name check accepts")
}

/// `GET /1.0/operations`
pub fn list(project: &str) -> ApiRequest {
    ApiRequest::get(ApiPath::of("operations"))
        .query("recursion", "1")
        .project(project)
}

/// `GET /1.0/operations/{id}`
pub fn get(id: &OperationId) -> ApiRequest {
    ApiRequest::get(operation_path(id))
}

/// `GET /1.0/operations/{id}/wait`; the server's limit is whole seconds, rounded up, at least one.
/// `None` waits until the operation ends.
pub fn wait(id: &OperationId, limit: Option<Duration>) -> ApiRequest {
    let seconds = match limit {
        None => "-1".to_owned(),
        Some(limit) => wait_secs(limit).to_string(),
    };
    ApiRequest::get(operation_path(id).fixed("wait")).query("timeout", &seconds)
}

/// The whole seconds that the server is asked to wait for a limit.
pub fn wait_secs(limit: Duration) -> u64 {
    let whole = limit.as_secs();
    let rounded = if limit.subsec_nanos() > 0 {
        whole.saturating_add(1)
    } else {
        whole
    };
    rounded.clamp(1, 1 << 31)
}

/// `DELETE /1.0/operations/{id}`: asks a running operation to end.
pub fn cancel(id: &OperationId) -> ApiRequest {
    ApiRequest::new(Method::DELETE, operation_path(id))
}

/// `GET /1.0/operations/{id}/websocket`
pub fn websocket(id: &OperationId, secret: &str) -> ApiRequest {
    ApiRequest::get(operation_path(id).fixed("websocket")).query("secret", secret)
}

#[cfg(test)]
mod tests {
    use super::{wait, wait_secs};
    use std::time::Duration;

    #[test]
    fn the_server_waits_whole_seconds_rounded_up() {
        assert_eq!(wait_secs(Duration::ZERO), 1);
        assert_eq!(wait_secs(Duration::from_millis(1)), 1);
        assert_eq!(wait_secs(Duration::from_secs(30)), 30);
        assert_eq!(wait_secs(Duration::from_millis(30_001)), 31);
        assert_eq!(wait_secs(Duration::MAX), 1 << 31);
        let id = "58632be2-cb11-4d53-ac21-749be5fec02a".parse().unwrap();
        assert!(
            wait(&id, None)
                .path_and_query()
                .ends_with("/wait?timeout=-1")
        );
    }
}
