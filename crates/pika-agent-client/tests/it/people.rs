//! Calls about people: their routes and bodies, and which of them are never made twice.

use pika_agent_client::contract::{AllowBody, NewTokenBody, QuotaBody, Scope};
use pika_agent_client::{ClientError, Page};

use crate::scripted::{Say, Scripted, answer_of, refusal};

const MADE: &str = r#"{"token_id":"t1","owner_id":"o1","scope":"write","label":"",
    "created_at":"2026-01-01T00:00:00.000Z","secret":"pika_secret"}"#;

fn asked() -> NewTokenBody {
    NewTokenBody {
        scope: Scope::Write,
        label: String::new(),
        expires_in_secs: None,
    }
}

fn lost() -> Say {
    Say::Bytes(String::new())
}

fn gone() -> Say {
    Say::Bytes("HTTP/1.1 204 No Content\r\n\r\n".to_owned())
}

#[tokio::test]
async fn a_token_is_not_made_twice_because_an_answer_was_lost() {
    let server = Scripted::start(vec![lost()]).await;
    let error = server.client.add_token(&asked()).await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    let error = server
        .client
        .add_token_for("o/1", &asked())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["POST /v1/tokens HTTP/1.1", ""]);
}

#[tokio::test]
async fn a_token_is_asked_for_again_where_none_was_made() {
    let server = Scripted::start(vec![
        refusal("503 Service Unavailable", "unavailable"),
        answer_of("201 Created", MADE),
    ])
    .await;
    let made = server.client.add_token_for("o/1", &asked()).await.unwrap();
    assert_eq!(made.secret, "pika_secret");
    assert!(!format!("{made:?}").contains("pika_secret"));
    let asked = server.asked();
    assert_eq!(asked[1].line, "POST /v1/owners/o%2F1/tokens HTTP/1.1");
    assert_eq!(asked[1].body, r#"{"scope":"write","label":""}"#);
    assert_eq!(
        asked[0].header("idempotency-key"),
        asked[1].header("idempotency-key")
    );
}

#[tokio::test]
async fn a_revocation_is_repeated_and_a_disallowance_is_not() {
    let server = Scripted::start(vec![lost(), gone(), lost()]).await;
    server.client.revoke_token("t1").await.unwrap();
    let error = server.client.disallow("o1").await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(
        lines,
        [
            "DELETE /v1/tokens/t1 HTTP/1.1",
            "DELETE /v1/tokens/t1 HTTP/1.1",
            "DELETE /v1/allow-list/o1 HTTP/1.1"
        ]
    );
}

#[tokio::test]
async fn lists_go_through_all_pages() {
    let page = |id: &str, next: &str| {
        let body = format!(
            r#"{{"entries":[{{"owner_id":"{id}","note":"","added_by":"op","added_at":"2026-01-01T00:00:00.000Z"}}]{next}}}"#
        );
        answer_of("200 OK", &body)
    };
    let server = Scripted::start(vec![page("a", r#","next":"a &b""#), page("c", "")]).await;
    let all = server.client.all_allowed().await.unwrap();
    let ids: Vec<&str> = all.iter().map(|entry| entry.owner_id.as_str()).collect();
    assert_eq!(ids, ["a", "c"]);
    let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/allow-list HTTP/1.1",
            "GET /v1/allow-list?after=a%20%26b HTTP/1.1"
        ]
    );
}

#[tokio::test]
async fn what_is_put_has_its_route_and_its_body() {
    let refused = || refusal("404 Not Found", "not_found");
    let server = Scripted::start(vec![refused(), refused(), refused()]).await;
    let quotas = QuotaBody {
        agents: 1,
        vcpu: 2,
        memory_mib: 3,
        disk_gib: 4,
        backups: 5,
    };
    let client = &server.client;
    client.set_quotas("o1", &quotas).await.unwrap_err();
    let note = "why".to_owned();
    client.allow("o1", &AllowBody { note }).await.unwrap_err();
    let page = Page {
        after: Some("7".to_owned()),
        limit: Some(3),
    };
    client.audit(&page).await.unwrap_err();
    let asked: Vec<(String, String)> = server
        .asked()
        .into_iter()
        .map(|asked| (asked.line, asked.body))
        .collect();
    let expected = [
        (
            "PUT /v1/owners/o1/quotas HTTP/1.1",
            r#"{"agents":1,"vcpu":2,"memory_mib":3,"disk_gib":4,"backups":5}"#,
        ),
        ("PUT /v1/allow-list/o1 HTTP/1.1", r#"{"note":"why"}"#),
        ("GET /v1/audit?after=7&limit=3 HTTP/1.1", ""),
    ];
    assert_eq!(
        asked,
        expected.map(|(line, body)| (line.to_owned(), body.to_owned()))
    );
}
