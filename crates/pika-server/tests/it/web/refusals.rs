//! Where nothing is passed on, and why.

use std::net::IpAddr;
use std::time::Duration;

use pikahut::fake::Lease;
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use super::guest::{Guest, instance, lease, listener, set_subnet};
use super::{agent, agent_at};
use crate::support::{Api, LIMIT, Running, Stage};

/// Asks for an agent's front page, which must be refused with this code and these words.
async fn refused(api: &Api, status: StatusCode, code: &str, words: &str) {
    let (was, body) = api.get("/v1/agents/me/web/").await;
    assert_eq!(
        (was, body["error"].as_str()),
        (status, Some(code)),
        "{body}"
    );
    assert!(body["message"].as_str().unwrap().contains(words), "{body}");
    assert!(body["hint"].is_string(), "{body}");
}

/// Has a guest give itself an address, with the scope that its kernel shows.
fn claims(stage: &Stage, name: &str, claim: (IpAddr, &'static str)) {
    let mut world = stage.fake.world();
    let nic = world.instance(name).unwrap().nic.as_mut().unwrap();
    nic.addresses = vec![claim];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_claims_an_address_leads_nowhere() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    set_subnet(&stage);
    let alice = running.tenant("alice", "write").await;
    alice.post_and_wait("/v1/agents/ensure", json!({})).await;
    alice.agent_in("me", "ready").await;
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    refused(&alice, unavailable, "unavailable", "no interface of it").await;

    let victim = Guest::start().await;
    let own: IpAddr = "127.77.3.3".parse().unwrap();
    lease(&stage, own);
    let name = instance(&stage);
    // Another guest has its address, and so does the host; the last ones are nobody's.
    let other = Lease {
        network: pikahut::fake::DEFAULT_BRIDGE.to_owned(),
        hwaddr: "10:66:6a:ff:ff:ff".to_owned(),
        address: victim.address,
    };
    stage.fake.world().leases.push(other);
    for claimed in [
        &*victim.address.to_string(),
        "127.77.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "192.0.2.1",
    ] {
        let claim = (claimed.parse().unwrap(), "global");
        claims(&stage, &name, claim);
        refused(
            &alice,
            unavailable,
            "unavailable",
            "has not taken 127.77.3.3",
        )
        .await;
    }
    // Nor does one that talks its bridge into an address outside of it, or into the host's own.
    for leased in ["127.0.0.1", "127.77.0.1", "127.78.0.9"] {
        let leased: IpAddr = leased.parse().unwrap();
        stage.fake.world().leases.clear();
        lease(&stage, leased);
        refused(&alice, unavailable, "unavailable", "gave it none").await;
    }
    assert_eq!(victim.requests(), 0);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_not_ready_says_so_and_a_new_boot_is_looked_at_anew() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (alice, _, first) = agent(&stage, &running).await;
    let front = "/v1/agents/me/web/";
    assert_eq!(alice.get(front).await.0, StatusCode::IM_A_TEAPOT);
    alice.post_and_wait("/v1/agents/me/stop", json!({})).await;
    alice.agent_in("me", "stopped").await;
    refused(&alice, StatusCode::CONFLICT, "conflict", "stopped").await;

    let second = Guest::start().await;
    lease(&stage, second.address);
    alice.post_and_wait("/v1/agents/me/start", json!({})).await;
    alice.agent_in("me", "ready").await;
    assert_eq!(alice.get(front).await.0, StatusCode::IM_A_TEAPOT);
    assert_eq!((first.requests(), second.requests()), (1, 1));
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_gives_no_answer_is_a_bad_gateway_in_bounded_time() {
    let stage = Stage::new().await;
    let mut config = stage.config();
    config.times.web_answer = Duration::from_secs(1);
    let running = Running::start(config).await;
    let (listener, address) = listener().await;
    let (alice, _) = agent_at(&stage, &running, address).await;
    let bad = StatusCode::BAD_GATEWAY;

    let babble = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"what?\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        drop(stream);
        // Taken, and never answered.
        let (stream, _) = listener.accept().await.unwrap();
        (listener, stream)
    });
    refused(&alice, bad, "bad_gateway", "no answer that can be used").await;
    refused(&alice, bad, "bad_gateway", "no answer that can be used").await;
    let began = Instant::now();
    refused(&alice, bad, "bad_gateway", "within 1 s").await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    drop(babble.await.unwrap());
    refused(&alice, bad, "bad_gateway", "takes no connection").await;
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_takes_its_request_along() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (listener, address) = listener().await;
    let (alice, _) = agent_at(&stage, &running, address).await;
    let asked = tokio::spawn(async move { alice.get("/v1/agents/me/web/").await });
    let (stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    asked.abort();
    // Its end, after the request.
    let mut rest = Vec::new();
    let mut stream = stream;
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
    timeout(LIMIT, read).await.unwrap().unwrap();
    running.server.shut_down().await;
}
