//! The API against its own document: everything that the document allows, and much that it forbids, is sent to a server.
//! Each answer is one that the document has, and none is a failure of the server.

use pikahut::wheel;
use reqwest::StatusCode;
use tokio::process::Command;

use crate::support::Stage;

/// What is checked of each answer. Left out: that all which fits the schemas is taken, as a number such as `2.0` is an
/// integer there and none to us, and an agent that is being deleted takes nothing at all.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method,\
                      ignored_auth";
/// No answer may be a failure of the server but the one that says that Incus, or a guest that is just being stopped, can't
/// be asked now. Where it is documented is checked as of any other.
const SETTINGS: &str =
    "[checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", \"503\"]\n";
/// Random requests to each route, besides those that the schemas' limits suggest.
const EXAMPLES: &str = "8";
/// The one route that answers with a websocket, which is no answer of HTTP.
const WEBSOCKETS: &str = "/exec$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuzzed_by_its_own_document_the_api_fails_nowhere_and_answers_nothing_else() {
    let program = tokio::task::spawn_blocking(|| wheel::ensure(&wheel::SCHEMATHESIS));
    let program = program.await.unwrap().unwrap();
    let stage = Stage::new().await;
    let running = stage.server().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("schemathesis.toml");
    std::fs::write(&settings, SETTINGS).unwrap();
    let output = Command::new(program)
        .arg("--config-file")
        .arg(&settings)
        .args(["run", &running.operator.url("/openapi.json")])
        .args(["--header", &running.operator.authorization()])
        .args(["--exclude-path-regex", WEBSOCKETS, "--checks", CHECKS])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", EXAMPLES, "--generation-deterministic"])
        .args(["--suppress-health-check", "all", "--request-timeout", "120"])
        .args(["--continue-on-failure", "--no-color", "--warnings", "off"])
        // What it keeps for its next run goes with this one.
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{words}");
    // Neither the credential nor the quotas were lost on the way: the requests went through to Incus.
    let (status, owner) = running.operator.get("/v1/owner").await;
    assert_eq!(status, StatusCode::OK, "{owner}");
    let reached = |method: &str, path: &str| {
        let requests = stage.fake.requests();
        requests
            .iter()
            .any(|request| request.method == method && request.path == path)
    };
    assert!(reached("POST", "/1.0/instances"), "{said}");
}
