//! The operator's pages, and everybody's tokens: each form does what the API does.

use reqwest::StatusCode;
use serde_json::json;

use super::{Browser, Page};
use crate::strays;
use crate::support::{Api, Stage};

async fn send(browser: &Browser, path: &str, fields: &[(&str, &str)]) -> Page {
    let csrf = browser.csrf().await;
    let mut all = vec![("csrf", &*csrf)];
    all.extend(fields);
    browser.post(path, &all).await
}

fn secret(page: &Page) -> String {
    let (_, after) = page.text.split_once("id=\"secret\">").unwrap();
    after.split_once('<').unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_brings_an_owner_in_and_out_again() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let operator = Browser::of(&running, &running.operator).await;
    let fields = [("owner_id", "alice"), ("name", "Alice <b>")];
    let page = send(&operator, "/operator/owners", &fields).await;
    assert_eq!(
        (page.status, page.location()),
        (StatusCode::SEE_OTHER, "/operator/owners/alice")
    );
    let page = operator.get("/operator/owners").await;
    assert!(
        page.text.contains("Alice &#60;b&#62;") && page.text.contains("0 of 3"),
        "{}",
        page.text
    );

    let quotas = [
        ("agents", "5"),
        ("vcpu", "6"),
        ("memory_mib", "7000"),
        ("disk_gib", "80"),
        ("backups", "9"),
    ];
    let page = send(&operator, "/operator/owners/alice/quotas", &quotas).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    let page = send(&operator, "/operator/owners/alice/quotas", &quotas[1..]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    assert!(page.text.contains("agents is missing"), "{}", page.text);

    let fields = [("scope", "write"), ("label", "laptop"), ("days", "30")];
    let page = send(&operator, "/operator/owners/alice/tokens", &fields).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let alice = Api::new(&running.server, &secret(&page));
    let (status, owner) = alice.get("/v1/owner").await;
    assert_eq!(status, StatusCode::OK, "{owner}");
    let want = json!({ "agents": 5, "vcpu": 6, "memory_mib": 7000, "disk_gib": 80, "backups": 9 });
    assert_eq!(owner["quotas"], want);
    let page = operator.get("/operator/owners/alice").await;
    assert!(!page.text.contains(alice.token()), "it is shown once");
    let fields = [("scope", "operator")];
    let page = send(&operator, "/operator/owners/alice/tokens", &fields).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);

    let browser = Browser::of(&running, &alice).await;
    let page = send(&operator, "/operator/allow-list/alice/remove", &[]).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    assert_eq!(alice.get("/v1/owner").await.0, StatusCode::FORBIDDEN);
    assert_eq!(browser.get("/agents").await.status, StatusCode::FORBIDDEN);
    let mut again = Browser::new(&running);
    let page = again.sign_in(alice.token(), "/").await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.text.contains("not on the allow-list"), "{}", page.text);
    let fields = [("owner_id", "alice"), ("note", "back again")];
    let page = send(&operator, "/operator/allow-list", &fields).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    assert_eq!(browser.get("/agents").await.status, StatusCode::OK);
    let page = operator.get("/operator/allow-list").await;
    assert!(page.text.contains("back again"), "{}", page.text);

    let page = operator.get("/operator/audit").await;
    for action in ["signed_in", "token_created", "quotas"] {
        assert!(page.text.contains(action), "{action}: {}", page.text);
    }
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_makes_and_revokes_its_own_tokens() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    let browser = Browser::of(&running, &alice).await;
    let page = send(
        &browser,
        "/tokens",
        &[("scope", "read"), ("label", "<i>phone</i>")],
    )
    .await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let made = Api::new(&running.server, &secret(&page));
    assert_eq!(made.get("/v1/owner").await.0, StatusCode::OK);
    let page = browser.get("/tokens").await;
    assert!(page.text.contains("&#60;i&#62;phone") && !page.text.contains(made.token()));
    assert!(!page.text.contains("<option>operator"), "{}", page.text);
    for (scope, status) in [
        ("operator", StatusCode::FORBIDDEN),
        ("all", StatusCode::BAD_REQUEST),
    ] {
        let page = send(&browser, "/tokens", &[("scope", scope)]).await;
        assert_eq!(page.status, status, "{scope}");
    }
    let (_, tokens) = made.get("/v1/tokens").await;
    let found = tokens["tokens"].as_array().unwrap().iter();
    let mut found = found.filter(|token| token["scope"] == "read");
    let id = found.next_back().unwrap()["token_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let page = send(&browser, &format!("/tokens/{id}/revoke"), &[]).await;
    assert_eq!(
        (page.status, page.location()),
        (StatusCode::SEE_OTHER, "/tokens")
    );
    assert_eq!(made.get("/v1/owner").await.0, StatusCode::UNAUTHORIZED);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_agents_are_listed_by_owner_and_state_in_pages() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    for name in ["alice", "bob"] {
        let api = running.tenant(name, "write").await;
        let labels = json!({ "labels": { "name": format!("of {name}") } });
        api.post_and_wait("/v1/agents/ensure", labels).await;
        api.agent_in("me", "ready").await;
    }
    let operator = Browser::of(&running, &running.operator).await;
    let lists = async |query: &str| {
        let page = operator.get(&format!("/operator/agents{query}")).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        (page.text.contains("of alice"), page.text.contains("of bob"))
    };
    assert_eq!(lists("").await, (true, true));
    assert_eq!(lists("?owner=alice&state=&deleted=").await, (true, false));
    assert_eq!(lists("?state=ready").await, (true, true));
    assert_eq!(lists("?state=stopped").await, (false, false));
    let page = operator.get("/operator/agents?state=odd").await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    let page = operator.get("/operator/agents?limit=1&state=ready").await;
    let (_, after) = page
        .text
        .split_once("href=\"/operator/agents?state=ready")
        .unwrap();
    let next = after.split_once('"').unwrap().0.replace("&#38;", "&");
    assert_eq!(lists(&format!("?state=ready{next}")).await, (false, true));

    let page = operator.get("/operator").await;
    assert!(
        page.text.contains("badge ready") && page.text.contains("Strays"),
        "{}",
        page.text
    );
    assert!(page.text.contains("4096 MiB"), "{}", page.text);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stray_instance_is_removed_after_a_question() {
    let stage = Stage::new().await;
    let stray = strays::leave_behind(&stage, "lost.db", "test").await;
    let running = stage.server().await;
    strays::shown(&running.operator, 2).await;
    let operator = Browser::of(&running, &running.operator).await;
    let place = format!("/operator/strays/{stray}/remove");
    let overview = operator.get("/operator").await;
    // Only the instance has a way to go.
    let ways = overview.text.matches("/remove\"").count();
    assert!(
        overview.text.contains(&place) && ways == 1,
        "{}",
        overview.text
    );
    let question = operator.get(&place).await;
    assert!(
        question.text.contains("Its volume, if it has one"),
        "{}",
        question.text
    );
    assert_eq!(stage.counts(), (1, 1));
    let page = operator.submit(&place, &place, &[]).await;
    assert_eq!(
        (page.status, page.location()),
        (StatusCode::SEE_OTHER, "/operator")
    );
    assert_eq!(stage.counts(), (0, 1));
    let overview = operator.get("/operator").await;
    assert!(!overview.text.contains(&place), "{}", overview.text);
    assert_eq!(operator.get(&place).await.status, StatusCode::NOT_FOUND);
    running.server.shut_down().await;
}
