//! Signing in and out, and what ends a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pika_server::{Clock, StartOptions};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::Browser;
use crate::support::{Running, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_begins_a_session_whose_cookie_no_script_and_no_other_site_has() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    let mut browser = Browser::new(&running);

    let page = browser.get("/agents/some?x=1").await;
    assert_eq!(
        (page.status, page.location()),
        (
            StatusCode::SEE_OTHER,
            "/sign-in?next=%2Fagents%2Fsome%3Fx%3D1"
        )
    );
    let page = browser.get(page.location()).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.input("next"), "/agents/some?x=1");

    let page = browser.sign_in("pika_wrong", "/agents").await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    assert!(
        page.text.contains("not known, expired or revoked"),
        "{}",
        page.text
    );
    assert!(!page.headers.contains_key("set-cookie"));
    assert!(
        !page.text.contains("pika_wrong"),
        "a token is not shown again"
    );

    let page = browser.sign_in(alice.token(), "/agents/some?x=1").await;
    assert_eq!(
        (page.status, page.location()),
        (StatusCode::SEE_OTHER, "/agents/some?x=1")
    );
    let cookie = page.header("set-cookie");
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("pika_session="), "{cookie}");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=43200");
    assert!(!cookie.contains(alice.token()));

    // Another one each time, and the one before is over.
    let first = browser.clone();
    browser.sign_in(alice.token(), "/agents").await;
    assert_ne!(browser.cookie, first.cookie);
    assert_eq!(browser.get("/agents").await.status, StatusCode::OK);
    assert_eq!(first.get("/agents").await.status, StatusCode::SEE_OTHER);

    // The same session is taken by the API, which wants the session's token for each change.
    let request = browser.request(Method::GET, "/v1/owner");
    let page = browser.send(request).await;
    assert_eq!(page.status, StatusCode::OK);
    let request = browser.request(Method::POST, "/v1/agents/ensure");
    assert_eq!(browser.send(request).await.status, StatusCode::FORBIDDEN);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_to_go_on_to_is_a_place_of_this_server() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    for evil in [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/sign-in",
    ] {
        let mut browser = Browser::new(&running);
        let page = browser.sign_in(alice.token(), evil).await;
        assert_eq!(
            (page.status, page.location()),
            (StatusCode::SEE_OTHER, "/agents"),
            "{evil}"
        );
    }
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_by_signing_out_with_its_token_and_by_itself() {
    let stage = Stage::new().await;
    let now = Arc::new(AtomicI64::new(Clock::system().now()));
    let source = Arc::clone(&now);
    let options = StartOptions {
        clock: Clock::from_source(move || source.load(Ordering::SeqCst)),
        ..StartOptions::default()
    };
    let running = Running::start_with(stage.config(), options).await;
    running.tenant("alice", "write").await;
    let path = "/v1/owners/alice/tokens";
    let (_, made) = running
        .operator
        .post(path, json!({ "scope": "write" }))
        .await;
    let secret = made["secret"].as_str().unwrap();

    let mut browser = Browser::new(&running);
    browser.sign_in(secret, "/agents").await;
    let old = browser.clone();
    let csrf = browser.csrf().await;
    let page = browser.post("/sign-out", &[("csrf", "wrong")]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.get("/agents").await.status, StatusCode::OK);
    let page = browser.post("/sign-out", &[("csrf", &csrf)]).await;
    assert_eq!(
        (page.status, page.location()),
        (StatusCode::SEE_OTHER, "/sign-in")
    );
    assert!(page.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(
        old.get("/agents").await.location(),
        "/sign-in?next=%2Fagents"
    );

    // By itself.
    browser.sign_in(secret, "/agents").await;
    now.fetch_add(12 * 3_600_000 - 1, Ordering::SeqCst);
    assert_eq!(browser.get("/agents").await.status, StatusCode::OK);
    now.fetch_add(1, Ordering::SeqCst);
    assert_eq!(browser.get("/agents").await.status, StatusCode::SEE_OTHER);

    // With its token: at its end, and when it is revoked.
    let body = json!({ "scope": "write", "expires_in_secs": 60 });
    let (_, short) = running.operator.post(path, body).await;
    let page = browser
        .sign_in(short["secret"].as_str().unwrap(), "/agents")
        .await;
    assert!(page.header("set-cookie").contains("Max-Age=60"), "{page:?}");
    now.fetch_add(60_000, Ordering::SeqCst);
    assert_eq!(browser.get("/agents").await.status, StatusCode::SEE_OTHER);
    browser.sign_in(secret, "/agents").await;
    assert_eq!(browser.get("/agents").await.status, StatusCode::OK);
    let token = format!("/v1/tokens/{}", made["token_id"].as_str().unwrap());
    assert_eq!(
        running.operator.delete(&token).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(browser.get("/agents").await.status, StatusCode::SEE_OTHER);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_tls_the_cookie_goes_over_tls_alone() {
    let stage = Stage::new().await;
    let mut config = stage.config();
    config.external_url = Some("https://agents.example".to_owned());
    let running = Running::start(config).await;
    let mut browser = Browser::new(&running);
    let page = browser.sign_in(running.operator.token(), "/agents").await;
    let cookie = page.header("set-cookie");
    assert!(cookie.starts_with("__Host-pika_session="), "{cookie}");
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    assert_eq!(browser.get("/agents").await.status, StatusCode::OK);
    // The name without the prefix, which a neighbour of the host name could set, is not taken.
    let mut other = browser.clone();
    other.cookie = browser.cookie.replace("__Host-", "");
    assert_eq!(other.get("/agents").await.status, StatusCode::SEE_OTHER);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_tokens_is_slowed_down_and_who_has_one_gets_in() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let mut browser = Browser::new(&running);
    let mut statuses = Vec::new();
    for guess in 0..40 {
        let page = browser.sign_in(&format!("pika_{guess}"), "/").await;
        statuses.push(page.status);
        if page.status == StatusCode::TOO_MANY_REQUESTS {
            assert!(page.text.contains("wait a minute") && page.text.contains("rate_limited"));
        }
    }
    let refused = |status: &&StatusCode| **status == StatusCode::UNAUTHORIZED;
    assert!(statuses.iter().filter(refused).count() >= 10);
    assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS));
    let page = browser.sign_in(running.operator.token(), "/").await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    running.server.shut_down().await;
}
