//! The customer's pages: what they show, and that each action does what the API's does.

use std::time::Duration;

use pika_cloud::LifecycleState;
use pikahut::fake::ScriptedGuest;
use reqwest::StatusCode;
use serde_json::json;

use super::{Browser, Page};
use crate::support::{Api, Running, Stage, until};

const HOSTILE: &str = "<script>alert(\"x\")</script><img src=x onerror='alert(1)'>";

/// Waits until no operation is open for an agent.
async fn settled(api: &Api, id: &str) -> serde_json::Value {
    let (_, list) = api.get(&format!("/v1/agents/{id}/operations")).await;
    api.operation(list["operations"][0]["operation_id"].as_str().unwrap())
        .await
}

async fn make(browser: &Browser, api: &Api, fields: &[(&str, &str)]) -> String {
    let page = browser.submit("/agents/new", "/agents", fields).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    let id = page.location().strip_prefix("/agents/").unwrap().to_owned();
    api.agent_in(&id, "ready").await;
    settled(api, &id).await;
    id
}

fn shows(page: &Page, texts: &[&str]) {
    assert_eq!(page.status, StatusCode::OK);
    for text in texts {
        assert!(page.text.contains(text), "no {text:?} in {}", page.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_goes_through_everything_that_its_page_offers() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("alice", "write").await;
    let browser = Browser::of(&running, &api).await;
    shows(
        &browser.get("/agents").await,
        &["No agent yet", "Make the first one"],
    );
    shows(
        &browser.get("/agents/new").await,
        &["3 of 3 agents", "managed-openclaw"],
    );

    let id = make(&browser, &api, &[("name", "Robin"), ("memory_mib", "1024")]).await;
    let place = format!("/agents/{id}");
    let (_, me) = api.get("/v1/agents/me").await;
    assert_eq!(
        me["agent_id"],
        json!(id),
        "the first one is the default one"
    );
    assert_eq!(me["labels"], json!({ "name": "Robin" }));
    assert_eq!(me["resources"]["memory_mib"], 1024);
    shows(
        &browser.get("/agents").await,
        &["Robin", "badge ready", &id],
    );
    let page = browser.get(&place).await;
    shows(
        &page,
        &[
            "<h1>Robin</h1>",
            "badge ready",
            "2 CPUs, 1024 MiB, 16 GiB",
            "State changed",
            &id,
        ],
    );
    assert!(
        page.text
            .contains(&format!("data-events=\"/v1/agents/{id}/events?after="))
    );
    assert!(!page.text.contains("/start\""), "it runs already");

    let submit = async |shown: &str, action: &str, more: &[(&str, &str)]| {
        let (shown, action) = (format!("{place}{shown}"), format!("{place}{action}"));
        let page = browser.submit(&shown, &action, more).await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
        let operation = settled(&api, &id).await;
        assert_eq!(operation["state"], "succeeded", "{operation}");
        (page.location().to_owned(), operation["kind"].clone())
    };
    let done = |kind: &str| (place.clone(), json!(kind));
    assert_eq!(submit("", "/stop", &[]).await, done("stop"));
    api.agent_in(&id, "stopped").await;
    assert_eq!(submit("", "/start", &[]).await, done("start"));
    api.agent_in(&id, "ready").await;
    assert_eq!(submit("", "/restart", &[]).await, done("restart"));
    api.agent_in(&id, "ready").await;
    assert_eq!(submit("/recover", "/recover", &[]).await, done("recover"));
    assert_eq!(submit("", "/backups", &[]).await, done("backup"));
    let (_, backups) = api.get(&format!("/v1/agents/{id}/backups")).await;
    let backup = backups["backups"][0]["name"].as_str().unwrap();
    shows(
        &browser.get(&place).await,
        &[backup, "Requested", &format!("restore?backup={backup}")],
    );
    let asking = format!("/restore?backup={backup}");
    shows(
        &browser.get(&format!("{place}{asking}")).await,
        &[
            "Every change on the volume",
            backup,
            "a backup that is taken first",
        ],
    );
    assert_eq!(
        submit(&asking, "/restore", &[("backup", backup)]).await,
        done("restore")
    );
    api.agent_in(&id, "ready").await;
    shows(
        &browser.get(&format!("{place}/rebuild")).await,
        &[
            "This is lost",
            "everything outside of /mnt/pika-state",
            "This stays",
        ],
    );
    assert_eq!(submit("/rebuild", "/rebuild", &[]).await, done("rebuild"));
    assert_eq!(api.agent_in(&id, "ready").await["generation"], 2);
    assert_eq!(
        submit("/reset", "/reset", &[("typed", "Robin")]).await,
        done("reset")
    );
    assert_eq!(api.agent_in(&id, "ready").await["generation"], 3);
    assert_eq!(stage.counts(), (1, 1));
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_taken_back_wants_the_agents_name_and_names_all_that_goes() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("alice", "write").await;
    let browser = Browser::of(&running, &api).await;
    let id = make(&browser, &api, &[("name", "Robin")]).await;
    let place = format!("/agents/{id}");
    browser
        .submit(&place, &format!("{place}/backups"), &[])
        .await;
    settled(&api, &id).await;
    let (_, backups) = api.get(&format!("/v1/agents/{id}/backups")).await;
    let backup = backups["backups"][0]["name"].as_str().unwrap();

    for word in ["reset", "purge"] {
        let asking = format!("{place}/{word}");
        let page = browser.get(&asking).await;
        shows(
            &page,
            &[
                "Type <code>Robin</code>",
                "The volume with everything on it (/mnt/pika-state)",
                backup,
            ],
        );
        for typed in ["", "robin", &id] {
            let page = browser.submit(&asking, &asking, &[("typed", typed)]).await;
            assert_eq!(page.status, StatusCode::BAD_REQUEST, "{word} {typed}");
            assert!(page.text.contains("Nothing was done"), "{}", page.text);
        }
    }
    let (_, list) = api.get(&format!("/v1/agents/{id}/operations")).await;
    assert_eq!(list["operations"][0]["kind"], "backup", "{list}");

    let asking = format!("{place}/delete");
    shows(
        &browser.get(&asking).await,
        &["After 7 days", "a last backup of it", "/purge\""],
    );
    let page = browser.submit(&asking, &asking, &[]).await;
    assert_eq!(
        (page.status, page.location()),
        (StatusCode::SEE_OTHER, "/agents")
    );
    until("the instance is gone", || stage.counts() == (0, 1)).await;
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_takes_the_volume_too_also_of_an_agent_that_is_deleted() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("alice", "write").await;
    let browser = Browser::of(&running, &api).await;
    let first = make(&browser, &api, &[("name", "Robin")]).await;
    let asking = format!("/agents/{first}/purge");
    let page = browser
        .submit(&asking, &asking, &[("typed", " Robin ")])
        .await;
    assert_eq!(
        (page.status, page.location()),
        (StatusCode::SEE_OTHER, "/agents")
    );
    until("instance and volume are gone", || stage.counts() == (0, 0)).await;

    let second = make(&browser, &api, &[]).await;
    let asking = format!("/agents/{second}/delete");
    browser.submit(&asking, &asking, &[]).await;
    until("the instance is gone", || stage.counts() == (0, 1)).await;
    let operator = Browser::of(&running, &running.operator).await;
    let wait = tokio::time::Instant::now() + crate::support::LIMIT;
    let asking = format!("/agents/{second}/purge");
    loop {
        let page = operator
            .get("/operator/agents?deleted=true&owner=alice&state=")
            .await;
        if page.text.contains(&format!("{asking}\"")) {
            break;
        }
        assert!(tokio::time::Instant::now() < wait, "{}", page.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shows(
        &operator.get(&asking).await,
        &["Its instance is gone already"],
    );
    let page = operator
        .submit(&asking, &asking, &[("typed", &second)])
        .await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    until("the volume is gone", || stage.counts() == (0, 0)).await;
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_agent_is_brought_back_by_an_operator() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("alice", "write").await;
    let browser = Browser::of(&running, &api).await;
    let id = make(&browser, &api, &[]).await;
    let (_, gone) = api.delete("/v1/agents/me").await;
    let operation = gone["operation"]["operation_id"].as_str().unwrap();
    assert_eq!(api.operation(operation).await["state"], "succeeded");
    let operator = Browser::of(&running, &running.operator).await;
    let asking = format!("/agents/{id}/undelete");
    let page = operator.get("/operator/agents?deleted=true").await;
    shows(&page, &[&format!("{asking}\"")]);
    shows(
        &operator.get(&asking).await,
        &["The same agent", "This stays"],
    );
    let page = operator.submit(&asking, &asking, &[]).await;
    let place = format!("/agents/{id}");
    assert_eq!(
        (page.status, page.location()),
        (StatusCode::SEE_OTHER, &*place)
    );
    assert_eq!(api.agent_in("me", "ready").await["agent_id"], json!(id));
    assert_eq!(stage.counts(), (1, 1));
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_that_is_sent_twice_counts_once() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("alice", "write").await;
    let browser = Browser::of(&running, &api).await;
    let form = browser.get("/agents/new").await;
    let (csrf, key) = (
        form.input_of("/agents", "csrf"),
        form.input_of("/agents", "key"),
    );
    let fields = [("csrf", &*csrf), ("key", &*key), ("name", "Robin")];
    let first = browser.post("/agents", &fields).await;
    let second = browser.post("/agents", &fields).await;
    assert_eq!(first.status, StatusCode::SEE_OTHER, "{}", first.text);
    assert_eq!(first.location(), second.location(), "{}", second.text);
    let (_, list) = api.get("/v1/agents").await;
    assert_eq!(list["agents"].as_array().unwrap().len(), 1);

    let id = first.location().strip_prefix("/agents/").unwrap();
    api.agent_in(id, "ready").await;
    settled(&api, id).await;
    let page = browser.get(first.location()).await;
    let action = format!("/agents/{id}/backups");
    let key = page.input_of(&action, "key");
    for _ in 0..2 {
        let page = browser
            .post(&action, &[("csrf", &csrf), ("key", &key)])
            .await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
        settled(&api, id).await;
    }
    let (_, backups) = api.get(&format!("/v1/agents/{id}/backups")).await;
    assert_eq!(backups["backups"].as_array().unwrap().len(), 1, "{backups}");

    // Another form is another request.
    let page = browser.submit("/agents/new", "/agents", &[]).await;
    assert_ne!(page.location(), first.location());
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_form_asks_too_much_for_is_said_on_the_form_with_what_was_typed() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let api = running.tenant("alice", "write").await;
    let browser = Browser::of(&running, &api).await;
    for (name, value, status, says) in [
        ("vcpu", "200", 429, "the quota of"),
        ("vcpu", "many", 400, "must be a number"),
        ("vcpu", "0", 400, "vcpu"),
        ("role", "no-role", 400, "the role can&#39;t be taken"),
        ("role", "pikaci-runner", 400, "pikaci-runner"),
        ("name", "a\u{7}b", 400, "label"),
    ] {
        let page = browser
            .submit(
                "/agents/new",
                "/agents",
                &[(name, value), ("disk_gib", "7")],
            )
            .await;
        assert_eq!(
            page.status.as_u16(),
            status,
            "{name} {value}: {}",
            page.text
        );
        assert!(page.text.contains(says), "{name} {value}: {}", page.text);
        assert!(page.text.contains("name=\"disk_gib\"") && page.text.contains("value=\"7\""));
    }
    assert_eq!(api.get("/v1/agents").await.1["agents"], json!([]));
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_of_an_agent_is_ever_markup() {
    let stage = Stage::new().await;
    stage.fake.on_exec(&["journalctl"], |call| {
        Box::pin(async move {
            call.stdout(format!("a line {HOSTILE}\n")).await;
            Some(0)
        })
    });
    let running = stage.server().await;
    let api = running.tenant("alice", "write").await;
    let browser = Browser::of(&running, &api).await;
    let id = make(&browser, &api, &[("name", HOSTILE)]).await;
    stage.fake.set_scripted_guest(Some(ScriptedGuest {
        state: LifecycleState::Failed,
        details: json!({ "reason": HOSTILE, "result": HOSTILE, "unit": HOSTILE }),
        ..ScriptedGuest::ready_after(Duration::from_millis(5))
    }));
    let operator = Browser::of(&running, &running.operator).await;
    let pages = [
        "", "/logs", "/delete", "/purge", "/reset", "/rebuild", "/recover",
    ];
    for tail in pages {
        let page = browser.get(&format!("/agents/{id}{tail}")).await;
        assert_eq!(page.status, StatusCode::OK, "{tail}: {}", page.text);
        assert!(!page.text.contains("<script>"), "{tail}: {}", page.text);
        assert!(!page.text.contains("<img"), "{tail}");
        assert!(
            page.text.contains("&#60;script&#62;"),
            "{tail}: {}",
            page.text
        );
    }
    for path in ["/agents", "/operator/agents"] {
        let page = operator.get(path).await;
        assert!(!page.text.contains("<script>"), "{path}");
    }
    running.server.shut_down().await;
}

async fn two_tenants(running: &Running) -> (Api, Browser, Browser) {
    let alice = running.tenant("alice", "write").await;
    let mallory = running.tenant("mallory", "write").await;
    let of_alice = Browser::of(running, &alice).await;
    let of_mallory = Browser::of(running, &mallory).await;
    (alice, of_alice, of_mallory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenant_opens_anothers_pages_or_sends_their_forms() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (alice, browser, mallory) = two_tenants(&running).await;
    let id = make(&browser, &alice, &[("name", "Robin")]).await;
    let csrf = mallory.csrf().await;
    for (method, path, _) in pika_server::page_routes() {
        let Some((_, tail)) = path.split_once("{agent_id}") else {
            continue;
        };
        let query = if tail == "/restore" { "?backup=b" } else { "" };
        let of = |id: &str| format!("/agents/{id}{tail}{query}");
        let ask = async |id: &str| {
            let request = mallory.request(method.clone(), &of(id));
            let fields = [("csrf", &*csrf), ("typed", "Robin"), ("backup", "b")];
            match method.as_str() {
                "POST" => mallory.send(request.form(&fields)).await,
                _ => mallory.send(request).await,
            }
        };
        let (hers, none) = (ask(&id).await, ask("agent-none").await);
        assert_eq!(hers.status, StatusCode::NOT_FOUND, "{method} {path}");
        assert!(!hers.text.contains("Robin"), "{path}");
        // The page is the one for what isn't there at all.
        let same = |page: &Page| page.text.replace(page.header("x-request-id"), "");
        assert_eq!(same(&hers), same(&none), "{path}");
    }
    shows(&mallory.get("/agents").await, &["No agent yet"]);
    assert_eq!(alice.get("/v1/agents/me").await.1["state"], "ready");
    let operator = Browser::of(&running, &running.operator).await;
    shows(&operator.get("/agents").await, &["No agent yet"]);
    shows(&operator.get("/operator/agents").await, &["Robin", "alice"]);
    shows(&operator.get(&format!("/agents/{id}")).await, &["Robin"]);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_look_is_offered_nothing_to_press() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let alice = running.tenant("alice", "write").await;
    alice.post_and_wait("/v1/agents/ensure", json!({})).await;
    let id = alice.agent_in("me", "ready").await["agent_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let reader = running.tenant("alice", "read").await;
    let browser = Browser::of(&running, &reader).await;
    for path in [
        "/agents".to_owned(),
        format!("/agents/{id}"),
        format!("/agents/{id}/logs"),
    ] {
        let page = browser.get(&path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert_eq!(
            page.text.matches("<form").count(),
            1,
            "signing out alone: {}",
            page.text
        );
        assert!(!page.text.contains("/agents/new"), "{path}");
    }
    running.server.shut_down().await;
}
