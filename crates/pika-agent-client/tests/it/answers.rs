//! Answers, refusals, and what is done about lost ones.

use std::time::Duration;

use pika_agent_client::contract::ErrorCode;
use pika_agent_client::{AgentClient, ClientError, Token};

use crate::scripted::{AGENT, Say, Scripted, answer_of, operation, refusal};

#[tokio::test]
async fn a_call_shows_its_token_and_takes_fields_that_it_does_not_know() {
    let server = Scripted::start(vec![answer_of("200 OK", AGENT)]).await;
    let agent = server.client.agent("x/y").await.unwrap();
    assert_eq!(agent.known.agent_id, "a1");
    let asked = server.asked();
    assert_eq!(asked[0].line, "GET /v1/agents/x%2Fy HTTP/1.1");
    assert_eq!(
        asked[0].header("authorization"),
        Some("Bearer secret-token")
    );
    assert_eq!(asked[0].header("idempotency-key"), None);
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_repeated_with_the_same_key_and_another_call_has_another()
{
    let half = "HTTP/1.1 202 Accepted\r\ncontent-length: 500\r\n\r\n{\"agent_id\"";
    let server = Scripted::start(vec![
        Say::Bytes(String::new()),
        Say::Bytes(half.to_owned()),
        answer_of("202 Accepted", AGENT),
        answer_of("202 Accepted", AGENT),
    ])
    .await;
    server.client.restart("me").await.unwrap();
    server.client.restart("me").await.unwrap();
    let asked = server.asked();
    let keys: Vec<_> = asked
        .iter()
        .map(|asked| asked.header("idempotency-key").unwrap())
        .collect();
    assert_eq!(keys.len(), 4);
    assert!(
        keys[0] == keys[1] && keys[1] == keys[2] && keys[2] != keys[3],
        "{keys:?}"
    );
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_is_final_is_not() {
    let server = Scripted::start(vec![
        refusal("503 Service Unavailable", "unavailable"),
        refusal("429 Too Many Requests", "rate_limited"),
        refusal("429 Too Many Requests", "quota_exceeded"),
    ])
    .await;
    let error = server.client.ensure(&Default::default()).await.unwrap_err();
    let ClientError::Api { status, body, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((*status, body.error), (429, ErrorCode::QuotaExceeded));
    assert_eq!(error.hint(), Some("do this"));
    assert_eq!(
        error.to_string(),
        "POST /v1/agents/ensure: because (quota_exceeded, request r1)"
    );
    assert_eq!(server.asked().len(), 3);
    let final_ones = [
        ("401 Unauthorized", "unauthorized"),
        ("404 Not Found", "agent_not_found"),
        ("503 Service Unavailable", "recover_failed"),
        ("500 Internal Server Error", "internal"),
    ];
    for (status, code) in final_ones {
        let server = Scripted::start(vec![refusal(status, code)]).await;
        let error = server.client.recover("me").await.unwrap_err();
        assert!(matches!(error, ClientError::Api { .. }), "{error:?}");
        assert_eq!(server.asked().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_rest_gets_all_of_it_or_is_not_asked_again() {
    let busy = |secs: u32| {
        let Say::Bytes(text) = refusal("503 Service Unavailable", "unavailable") else {
            unreachable!("a refusal is bytes");
        };
        Say::Bytes(text.replacen("\r\n", &format!("\r\nretry-after: {secs}\r\n"), 1))
    };
    let server = Scripted::start(vec![busy(1), answer_of("200 OK", AGENT)]).await;
    let begun = std::time::Instant::now();
    server.client.agent("me").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let server = Scripted::start(vec![busy(3600)]).await;
    let error = server.client.agent("me").await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_never_answers_well_is_given_up() {
    let server = Scripted::start(Vec::new()).await;
    let error = server.client.agent("me").await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    assert!(server.asked().len() > 1);
}

#[tokio::test]
async fn answers_that_are_none_are_told_apart() {
    let cases = [
        ("200 OK", "{", "can't be read"),
        ("200 OK", r#"{"agent_id":7}"#, "can't be read"),
        (
            "200 OK",
            &AGENT.replace("creating", "dancing"),
            "can't be read",
        ),
        ("502 Bad Gateway", "<html>", "answered 502"),
        ("404 Not Found", "{}", "answered 404"),
        ("302 Found", "", "no redirect is followed"),
    ];
    for (status, body, words) in cases {
        let server = Scripted::start(vec![answer_of(status, body)]).await;
        let error = server.client.agent("me").await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let head = "HTTP/1.1 200 OK\r\n\r\n".to_owned();
    let server = Scripted::start(vec![Say::Endless(head, " ".repeat(64 * 1024))]).await;
    let error = server.client.agent("me").await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/none", dir.path().display());
    let client = AgentClient::new(&address, Token::new("t").unwrap()).unwrap();
    let error = client.agent("me").await.unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn a_wait_tells_each_step_once_and_ends_with_the_operation() {
    let server = Scripted::start(vec![
        answer_of("200 OK", &operation("pending", "volume")),
        answer_of("200 OK", &operation("running", "volume")),
        answer_of("200 OK", &operation("running", "volume")),
        Say::Bytes(String::new()),
        answer_of("200 OK", &operation("running", "instance")),
        answer_of("200 OK", &operation("succeeded", "instance")),
    ])
    .await;
    let mut told = Vec::new();
    let limit = Duration::from_secs(600);
    let seen = |seen: &pika_agent_client::contract::OperationView| {
        told.push(format!("{} {}", seen.state, seen.step.as_deref().unwrap()));
    };
    let ended = server.client.wait("o1", limit, seen).await.unwrap();
    assert_eq!(ended.operation_id, "o1");
    let expected = [
        "pending volume",
        "running volume",
        "running instance",
        "succeeded instance",
    ];
    assert_eq!(told, expected);
    assert_eq!(
        server.asked()[0].line,
        "GET /v1/operations/o1?wait=20 HTTP/1.1"
    );
}

#[tokio::test]
async fn a_wait_ends_with_the_reason_of_a_failure_or_at_its_limit() {
    let server = Scripted::start(vec![answer_of("200 OK", &operation("failed", "x"))]).await;
    let error = server
        .client
        .wait("o1", Duration::from_secs(60), |_| {})
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the create of agent a1 failed: it broke");
    let server = Scripted::start(vec![answer_of("200 OK", &operation("running", "x"))]).await;
    let error = server
        .client
        .wait("o1", Duration::ZERO, |_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NotOver { .. }), "{error:?}");
}

#[tokio::test]
async fn silence_ends_at_the_limit() {
    let server = Scripted::start(vec![Say::Hold("HTTP/1.1 200 OK\r\n".to_owned())]).await;
    let client = server.client.clone().with_limit(Duration::from_secs(1));
    let error = client.agent("me").await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
}
