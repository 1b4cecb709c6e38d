//! The API's own rules: who may what, what is refused and how, and what is never seen.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Api, Stage};

/// What a caller of a role gets for a route that needs a scope.
fn expected(needs: Option<&str>, role: &str) -> &'static [u16] {
    let rank = |scope: &str| {
        ["read", "write", "operator"]
            .iter()
            .position(|word| *word == scope)
    };
    match (needs, role) {
        (None, _) => &[200, 101, 404, 503],
        (Some(_), "nobody" | "expired" | "revoked") => &[401],
        (Some(_), "not allowed") => &[403],
        (Some(needs), role) if rank(role) < rank(needs) => &[403],
        // In: the ids are made up, so it is missing, or the empty request is refused.
        (Some(_), _) => &[200, 201, 202, 204, 400, 404],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tokens_use_is_written_down_at_the_servers_end_at_the_latest() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    assert_eq!(alice.get("/v1/owner").await.0, StatusCode::OK);
    running.server.shut_down().await;
    let running = stage.server().await;
    let (status, list) = alice.on(&running.server).get("/v1/tokens").await;
    assert_eq!(status, StatusCode::OK, "{list}");
    let used = &list["tokens"][0]["last_used_at"];
    assert!(used.is_string(), "{list}");
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_answers_every_role_as_its_row_says() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let reader = running.tenant("reader", "read").await;
    let writer = running.tenant("writer", "write").await;
    let outsider = running.tenant("outsider", "write").await;
    let (status, _) = running.operator.delete("/v1/allow-list/outsider").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let path = "/v1/owners/writer/tokens";
    let (_, made) = running
        .operator
        .post(path, json!({ "scope": "write" }))
        .await;
    let revoked = Api::new(&running.server, made["secret"].as_str().unwrap());
    let token_path = format!("/v1/tokens/{}", made["token_id"].as_str().unwrap());
    assert_eq!(
        running.operator.delete(&token_path).await.0,
        StatusCode::NO_CONTENT
    );
    let (_, made) = running
        .operator
        .post(path, json!({ "scope": "write", "expires_in_secs": 0 }))
        .await;
    let expired = Api::new(&running.server, made["secret"].as_str().unwrap());
    let roles = [
        ("nobody", Api::new(&running.server, "")),
        ("expired", expired),
        ("revoked", revoked),
        ("not allowed", outsider),
        ("read", reader),
        ("write", writer),
        ("operator", running.operator.clone()),
    ];
    let document = pika_server::openapi();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (role, api) in &roles {
                let needs = operation.get("x-needs").and_then(Value::as_str);
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let filled = fill(path);
                let request = api.request(method.clone(), &filled);
                let (status, body) = api.send(request).await;
                asked += 1;
                let expected = expected(needs, role);
                assert!(
                    expected.contains(&status.as_u16()),
                    "{method} {filled} as {role}: {status} {body}, expected one of {expected:?}"
                );
                let documented = &operation["responses"];
                assert!(
                    documented.get(status.as_str()).is_some(),
                    "{method} {path} as {role}: {status} is not documented"
                );
            }
        }
    }
    assert!(asked > 200, "{asked}");
    running.server.shut_down().await;
}

fn fill(path: &str) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        filled.push_str("made-up");
        rest = after.split_once('}').unwrap().1;
    }
    filled + rest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenant_sees_anything_of_another() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    let mallory = running.tenant("mallory", "write").await;
    let operation = alice.post_and_wait("/v1/agents/ensure", json!({})).await;
    let operation = operation["operation_id"].as_str().unwrap();
    let agent = alice.agent_in("me", "ready").await["agent_id"]
        .as_str()
        .unwrap()
        .to_owned();

    assert_eq!(
        mallory.get(&format!("/v1/operations/{operation}")).await.0,
        StatusCode::NOT_FOUND
    );
    for tail in [
        "",
        "/backups",
        "/operations",
        "/events",
        "/logs",
        "/exec",
        "/web",
        "/web/",
        "/web/x",
    ] {
        let (status, body) = mallory.get(&format!("/v1/agents/{agent}{tail}")).await;
        assert_eq!(
            (status, &body["error"]),
            (StatusCode::NOT_FOUND, &json!("agent_not_found")),
            "{tail}"
        );
        // The answer is the one for what isn't there at all.
        let (_, missing) = mallory.get(&format!("/v1/agents/agent-none{tail}")).await;
        assert_eq!(
            (&missing["message"], &missing["hint"]),
            (&body["message"], &body["hint"]),
            "{tail}"
        );
    }
    for action in [
        "start", "stop", "restart", "recover", "reset", "rebuild", "backups",
    ] {
        let (status, _) = mallory
            .post(&format!("/v1/agents/{agent}/{action}"), json!({}))
            .await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{action}");
    }
    assert_eq!(
        mallory
            .delete(&format!("/v1/agents/{agent}?purge=true"))
            .await
            .0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(mallory.get("/v1/agents").await.1["agents"], json!([]));
    assert_eq!(mallory.get("/v1/events").await.1["events"], json!([]));
    assert_eq!(
        mallory.get("/v1/agents?owner=alice").await.0,
        StatusCode::FORBIDDEN
    );
    let (_, tokens) = alice.get("/v1/tokens").await;
    let token = tokens["tokens"][0]["token_id"].as_str().unwrap();
    assert_eq!(
        mallory.delete(&format!("/v1/tokens/{token}")).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(alice.get("/v1/agents/me").await.0, StatusCode::OK);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_is_refused_with_its_reason_and_changes_nothing() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("alice", "write").await;
    let refused = [
        ("{", 400, "invalid_request"),
        ("[]", 400, "invalid_request"),
        (r#"{"surprise": 1}"#, 400, "invalid_request"),
        (
            r#"{"resources": {"vcpu_count": "two"}}"#,
            400,
            "invalid_request",
        ),
        (
            r#"{"resources": {"vcpu_count": 0}}"#,
            400,
            "invalid_request",
        ),
        (
            r#"{"incus": {"guest_role": "pikaci-runner"}}"#,
            400,
            "invalid_request",
        ),
        (
            r#"{"incus": {"guest_role": "no-role"}}"#,
            400,
            "invalid_request",
        ),
        (r#"{"incus": {"project": "other"}}"#, 403, "forbidden"),
        (r#"{"incus": {"image_alias": "evil"}}"#, 403, "forbidden"),
        (
            r#"{"resources": {"vcpu_count": 200}}"#,
            429,
            "quota_exceeded",
        ),
    ];
    for (body, status, code) in refused {
        for path in ["/v1/agents/ensure", "/v1/agents"] {
            let request = api.request(Method::POST, path).body(body);
            let (got, answer) = api.send(request).await;
            assert_eq!(
                (got.as_u16(), &answer["error"]),
                (status, &json!(code)),
                "{path} {body}: {answer}"
            );
            assert!(
                answer["message"]
                    .as_str()
                    .is_some_and(|text| text.len() > 8),
                "{answer}"
            );
            assert!(answer["request_id"].is_string());
        }
    }
    let large = api
        .request(Method::POST, "/v1/agents/ensure")
        .body("x".repeat(100_000));
    let (status, answer) = api.send(large).await;
    assert_eq!(
        (status.as_u16(), &answer["error"]),
        (413, &json!("payload_too_large"))
    );
    let (status, _) = api.get("/v1/agents?limit=0").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = api.get("/v1/agents?surprise=1").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, answer) = api.send(api.request(Method::PATCH, "/v1/agents")).await;
    assert_eq!(
        (status.as_u16(), &answer["error"]),
        (405, &json!("invalid_request"))
    );
    let (status, answer) = api.get("/v1/nothing").await;
    assert_eq!(
        (status.as_u16(), &answer["error"]),
        (404, &json!("not_found"))
    );
    assert_eq!(api.get("/v1/agents").await.1["agents"], json!([]));
    assert_eq!(stage.counts(), (0, 0));

    api.post_and_wait("/v1/agents/ensure", json!({})).await;
    let (status, answer) = api
        .post("/v1/agents/me/restore", json!({ "backup": "none" }))
        .await;
    assert_eq!(
        (status.as_u16(), &answer["error"]),
        (404, &json!("not_found"))
    );
    let (status, answer) = api
        .post("/v1/agents/me/restart", json!({ "surprise": 1 }))
        .await;
    assert_eq!(
        (status.as_u16(), &answer["error"]),
        (400, &json!("invalid_request"))
    );
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_makes_a_request_count_once() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("alice", "write").await;
    let ask = |key: &str, body: Value| {
        let request = api
            .request(Method::POST, "/v1/agents")
            .header("Idempotency-Key", key)
            .json(&body);
        api.send(request)
    };
    let (status, first) = ask("k1", json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (status, second) = ask("k1", json!({})).await;
    assert_eq!(
        (status, &second["agent_id"]),
        (StatusCode::ACCEPTED, &first["agent_id"])
    );
    let (status, reused) = ask("k1", json!({ "labels": { "a": "b" } })).await;
    assert_eq!(
        (status, &reused["error"]),
        (StatusCode::CONFLICT, &json!("conflict"))
    );
    let (status, bad) = ask(&"k".repeat(300), json!({})).await;
    assert_eq!(
        (status, &bad["error"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_request"))
    );
    assert_eq!(
        api.get("/v1/agents").await.1["agents"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    running.server.shut_down().await;
}

#[test]
fn the_document_is_the_one_that_is_checked_in() {
    let kept = include_str!("../../../../docs/reference/openapi.json");
    let have = serde_json::to_string_pretty(&pika_server::openapi()).unwrap() + "\n";
    assert!(
        have == kept,
        "the API changed: cargo run -p pika-server -- --print-openapi > docs/reference/openapi.json"
    );
}
