//! Who may open which page, which forms are taken, and what every page says to a browser.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Browser, fill};
use crate::support::{Running, Stage};

/// What a session gets for a page.
fn expected(needs: Option<&str>, role: &str) -> &'static [u16] {
    let rank = |scope: &str| {
        ["read", "write", "operator"]
            .iter()
            .position(|word| *word == scope)
    };
    match (needs, role) {
        (None, _) => &[200, 401, 404],
        (Some(_), "nobody" | "forged") => &[303],
        (Some(_), "not allowed") => &[403],
        (Some(needs), role) if rank(role) < rank(needs) => &[403],
        // In: the ids are made up, and the forms are empty but for the session's token.
        (Some(_), _) => &[200, 303, 400, 404],
    }
}

async fn roles(running: &Running) -> Vec<(&'static str, Browser)> {
    let reader = running.tenant("reader", "read").await;
    let writer = running.tenant("writer", "write").await;
    let outsider = running.tenant("outsider", "write").await;
    let outside = Browser::of(running, &outsider).await;
    let (status, _) = running.operator.delete("/v1/allow-list/outsider").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let mut forged = Browser::new(running);
    forged.cookie = format!("pika_session={}", "A".repeat(43));
    vec![
        ("nobody", Browser::new(running)),
        ("forged", forged),
        ("not allowed", outside),
        ("read", Browser::of(running, &reader).await),
        ("write", Browser::of(running, &writer).await),
        ("operator", Browser::of(running, &running.operator).await),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_answers_every_role_as_its_row_says_with_all_its_headers() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let roles = roles(&running).await;
    let mut asked = 0;
    for (method, path, needs) in pika_server::page_routes() {
        if path == "/sign-out" {
            continue;
        }
        for (role, browser) in &roles {
            let csrf = match *role {
                "read" | "write" | "operator" => browser.csrf().await,
                _ => String::new(),
            };
            // Of another address's forms none would be left after this many.
            let request = browser.request(method.clone(), &fill(path));
            let request = match method {
                Method::POST => request.form(&[("csrf", &csrf)]),
                _ => request,
            };
            let page = browser.send(request).await;
            asked += 1;
            let needs = needs.map(|scope| scope.as_str());
            let expected = expected(needs, role);
            let status = page.status.as_u16();
            assert!(
                expected.contains(&status),
                "{method} {path} as {role}: {status}, expected one of {expected:?}: {}",
                page.text
            );
            assert_eq!(
                page.header("x-content-type-options"),
                "nosniff",
                "{path} as {role}"
            );
            assert!(!page.header("x-request-id").is_empty());
            if status == 303 && ["nobody", "forged"].contains(role) {
                assert!(page.location().starts_with("/sign-in"), "{path}: {page:?}");
            }
            let policy = page.header("content-security-policy");
            for part in [
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "frame-ancestors 'none'",
            ] {
                assert!(policy.contains(part), "{method} {path} as {role}: {policy}");
            }
            assert!(!policy.contains("unsafe"));
            assert_eq!(page.header("referrer-policy"), "same-origin");
            assert_eq!(page.header("cache-control"), "no-store", "{path} as {role}");
            if status >= 400 {
                assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
            }
            let lower = page.text.to_lowercase();
            for inline in ["<style", "<script>", " style=", " onclick=", "javascript:"] {
                assert!(!lower.contains(inline), "{path} has {inline}");
            }
        }
    }
    assert!(asked > 100, "{asked}");
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_of_another_site_or_without_the_sessions_token_changes_nothing() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    let bob = running.tenant("bob", "write").await;
    let browser = Browser::of(&running, &alice).await;
    let csrf = browser.csrf().await;
    let of_bob = Browser::of(&running, &bob).await.csrf().await;
    assert_ne!(csrf, of_bob);

    for fields in [
        vec![],
        vec![("csrf", "")],
        vec![("csrf", "wrong")],
        vec![("csrf", &*of_bob)],
    ] {
        let page = browser.post("/agents", &fields).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{fields:?}");
        assert!(page.text.contains("load the page again"), "{}", page.text);
    }
    for (header, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for path in ["/agents", "/sign-in", "/sign-out"] {
            let request = browser.request(Method::POST, path).form(&[("csrf", &csrf)]);
            let page = browser.send(request.header(header, value)).await;
            assert_eq!(
                page.status,
                StatusCode::FORBIDDEN,
                "{path} {header}: {value}"
            );
            assert!(page.text.contains("another site"), "{}", page.text);
        }
    }
    let twice = browser
        .post("/agents", &[("csrf", &csrf), ("name", "a"), ("name", "b")])
        .await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
    let nul = browser
        .post("/agents", &[("csrf", &csrf), ("name", "a\0")])
        .await;
    assert_eq!(nul.status, StatusCode::BAD_REQUEST);
    let long = "x".repeat(100_000);
    let long = browser
        .post("/agents", &[("csrf", &csrf), ("name", &long)])
        .await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
    let request = browser
        .request(Method::POST, "/agents")
        .json(&json!({ "csrf": csrf }));
    assert_eq!(browser.send(request).await.status, StatusCode::BAD_REQUEST);

    assert_eq!(alice.get("/v1/agents").await.1["agents"], json!([]));
    let own = format!("{}/", browser.base);
    let request = browser
        .request(Method::POST, "/agents")
        .form(&[("csrf", &csrf)]);
    let request = request.header("origin", own.trim_end_matches('/'));
    let page = browser
        .send(request.header("sec-fetch-site", "same-origin"))
        .await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_get_errors_as_pages_and_programs_as_documents() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    let browser = Browser::of(&running, &alice).await;
    let page = browser.get("/nothing/here").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.text.contains("<h1>Not found</h1>"), "{}", page.text);
    assert!(page.text.contains(page.header("x-request-id")));
    let page = browser.get("/agents/agent-none").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.text.contains("agent_not_found") && page.text.contains("Sign out"));
    let page = browser.get("/agents?surprise=1").await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    let page = browser.get("/v1/nothing").await;
    assert_eq!(page.header("content-type"), "application/json");
    let (status, body) = alice.get("/nothing/here").await;
    assert_eq!(
        (status, &body["error"]),
        (StatusCode::NOT_FOUND, &json!("not_found"))
    );
    let page = browser.get("/docs").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    assert!(
        page.text.contains("/v1/agents/{agent_id}/exec"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("<style"));

    // What pages load is kept by browsers as long as it is the same.
    let (_, after) = page.text.split_once("href=\"/assets/pika.css").unwrap();
    let query = after.split_once('"').unwrap().0;
    let sheet = browser.get(&format!("/assets/pika.css{query}")).await;
    assert_eq!(sheet.status, StatusCode::OK);
    assert_eq!(sheet.header("content-type"), "text/css; charset=utf-8");
    assert!(sheet.header("cache-control").contains("immutable"));
    let other = browser.get("/assets/pika.css?v=old").await;
    assert_eq!(other.header("cache-control"), "no-cache");
    running.server.shut_down().await;
}
