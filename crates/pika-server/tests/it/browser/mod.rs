//! The pages in a real browser, Debian's Chromium: with JavaScript they follow what happens, without it they do all the same.

mod driver;
mod visitor;

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Stage, until};
use visitor::Visitor;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_javascript_a_page_follows_what_happens_without_a_reload() {
    let stage = Stage::new().await;
    stage.fake.on_exec(&["/bin/bash", "--login"], |mut call| {
        Box::pin(async move {
            while let Some(line) = call.stdin().await {
                call.stdout([b"heard ".as_slice(), &line].concat()).await;
            }
            Some(0)
        })
    });
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    let visitor = Visitor::new(&running, true).await;
    visitor.sign_in(&alice).await;
    visitor.shows("#agents", "No agent yet").await;
    visitor.press("#agents .primary").await;
    visitor.fill("#name", "Robin").await;
    visitor.press("#make").await;
    visitor.shows("h1", "Robin").await;
    let place = visitor.path().await;
    let id = place.strip_prefix("/agents/").unwrap().to_owned();

    // A reload would lose the mark.
    visitor.script("window.mark = 'kept'; return null").await;
    visitor.shows("#status", "ready").await;
    visitor.shows("#events", "Operation finished").await;
    let focused = "document.getElementById('ask-reset').focus(); return document.activeElement.id";
    assert_eq!(visitor.script(focused).await, json!("ask-reset"));
    let stopped = alice
        .post_and_wait(&format!("/v1/agents/{id}/stop"), json!({}))
        .await;
    assert_eq!(stopped["state"], "succeeded", "{stopped}");
    visitor.shows("#status", "stopped").await;
    visitor.shows("#actions", "Start").await;
    let kept = "return [window.mark, document.activeElement.id]";
    assert_eq!(visitor.script(kept).await, json!(["kept", "ask-reset"]));
    visitor.press("#do-start").await;
    visitor.shows("#status", "ready").await;

    visitor.open(&format!("{place}/terminal")).await;
    visitor.shows("#console-state", "connected").await;
    visitor.fill("#line", "hello guest").await;
    visitor.press("#send").await;
    visitor.shows("#output", "heard hello guest").await;

    visitor.is_a_phone().await;
    for tail in ["", "/logs", "/terminal", "/purge"] {
        visitor.fits(&format!("{place}{tail}")).await;
    }
    for path in ["/agents", "/agents/new", "/tokens", "/docs", "/sign-in"] {
        visitor.fits(path).await;
    }
    visitor.open(&place).await;
    visitor.shows("#status", "ready").await;
    visitor.press("#ask-delete").await;
    visitor
        .shows("main", "everything outside of /mnt/pika-state")
        .await;
    visitor.press("#confirm").await;
    visitor.shows("#agents", "No agent yet").await;
    assert_eq!(stage.counts(), (0, 1));

    // What it sees last is that nobody answers.
    running.server.shut_down().await;
    visitor.shows("#lost", "The connection is lost").await;
    visitor.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_javascript_everything_can_be_done_all_the_same() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    let visitor = Visitor::new(&running, false).await;
    visitor.sign_in(&alice).await;
    visitor.open("/agents/new").await;
    visitor.fill("#name", "Robin").await;
    visitor.press("#make").await;
    visitor.shows("h1", "Robin").await;
    let place = visitor.path().await;
    visitor.shows_when_loaded_again("#status", "ready").await;
    visitor
        .shows_when_loaded_again("#events", "Operation finished")
        .await;
    visitor.press("#do-backup").await;
    visitor.is_at(&place).await;
    visitor
        .shows_when_loaded_again("#backups", "Requested")
        .await;
    visitor.open(&format!("{place}/terminal")).await;
    visitor.shows("noscript", "pika agent exec").await;

    visitor.open(&format!("{place}/purge")).await;
    visitor.fill("#typed", "Rob").await;
    visitor.press("#confirm").await;
    visitor.shows("main", "Nothing was done").await;
    assert_eq!(alice.get("/v1/agents/me").await.0, StatusCode::OK);
    visitor.fill("#typed", "Robin").await;
    visitor.press("#confirm").await;
    visitor.is_at("/agents").await;
    until("instance and volume are gone", || stage.counts() == (0, 0)).await;
    visitor
        .shows_when_loaded_again("#agents", "No agent yet")
        .await;
    visitor.press("#sign-out").await;
    visitor.is_at("/sign-in").await;
    visitor.leave().await;
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_tried_on_its_page_with_a_token_or_signed_in() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    let visitor = Visitor::new(&running, true).await;

    // Nobody's requests are nobody's.
    visitor.open("/docs").await;
    visitor.press("#get_agents_agent_id summary").await;
    visitor.fill("#get_agents_agent_id-agent_id", "me").await;
    visitor
        .shows("#get_agents_agent_id .command", "/v1/agents/me'")
        .await;
    visitor.press("#get_agents_agent_id .send").await;
    visitor
        .shows("#get_agents_agent_id .answer", "unauthorized")
        .await;
    visitor.fill("#token", alice.token()).await;
    visitor.press("#get_agents_agent_id .send").await;
    visitor
        .shows("#get_agents_agent_id .answer", "agent_not_found")
        .await;

    // A session's requests bring what proves that they are its own.
    visitor.sign_in(&alice).await;
    visitor.open("/docs").await;
    visitor.shows("#credential", "alice").await;
    visitor.press("#post_agents_ensure summary").await;
    visitor.press("#post_agents_ensure .send").await;
    visitor.shows("#post_agents_ensure .answer", "202").await;
    let agent = alice.agent_in("me", "ready").await;
    let id = agent["agent_id"].as_str().unwrap();
    visitor.shows("#post_agents_ensure .answer", id).await;

    // A removal is asked for twice.
    visitor.script("window.confirm = () => false").await;
    visitor.press("#delete_agents_agent_id summary").await;
    visitor.fill("#delete_agents_agent_id-agent_id", "me").await;
    visitor.press("#delete_agents_agent_id .send").await;
    let hidden = "return document.querySelector('#delete_agents_agent_id .answer').hidden";
    assert_eq!(visitor.script(hidden).await, json!(true));
    visitor.script("window.confirm = () => true").await;
    visitor.press("#delete_agents_agent_id .send").await;
    visitor
        .shows("#delete_agents_agent_id .answer", "202")
        .await;

    visitor.is_a_phone().await;
    visitor.fits("/docs#put_owners_owner_id_quotas").await;
    visitor.shows("#put_owners_owner_id_quotas", "Body").await;
    visitor.leave().await;
    running.server.shut_down().await;
}
