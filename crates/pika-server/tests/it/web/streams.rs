//! Requests, bodies and websockets on their way through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Method, StatusCode};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{BOTH, By, agent, agent_by};
use crate::support::{Api, LIMIT, Stage};

/// More than all buffers between a guest and a caller hold, in parts of an endless answer.
const FAR_TOO_MANY_PARTS: usize = 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_reaches_the_guest_as_it_is_but_for_who_calls() {
    for by in BOTH {
        ask_by(by).await;
    }
}

async fn ask_by(by: By) {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (alice, id, _guest) = agent_by(by, &stage, &running).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = format!("/v1/agents/{id}/web/a%2Fb//c%FF?d=%20&e");
        let request = alice
            .request(method.clone(), &path)
            .header("cookie", "pika_session=secret; theme=dark")
            .header("x-csrf-token", "secret")
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-own", "1");
        let (status, told) = alice.send(request).await;
        assert_eq!(status, StatusCode::IM_A_TEAPOT, "{told}");
        assert_eq!(told["method"], method.as_str());
        assert_eq!(told["uri"], "/a%2Fb//c%FF?d=%20&e");
        let headers: Vec<&str> = told["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap())
            .collect();
        for line in [
            "x-own: 1",
            "cookie: theme=dark",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: http",
        ] {
            assert!(headers.contains(&line), "{line} of {headers:?}");
        }
        let prefix = format!("x-forwarded-prefix: /v1/agents/{id}/web");
        assert!(headers.contains(&&*prefix), "{headers:?}");
        let all = headers.join("\n");
        for never in ["authorization", "secret", alice.token(), "10.0.0.1"] {
            assert!(!all.contains(never), "{never} in {all}");
        }
    }
    let head = alice.request(Method::HEAD, &format!("/v1/agents/{id}/web/"));
    assert_eq!(head.send().await.unwrap().status(), StatusCode::IM_A_TEAPOT);
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_go_through_part_by_part_both_ways() {
    for by in BOTH {
        send_bodies_by(by).await;
    }
}

async fn send_bodies_by(by: By) {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (alice, _, _guest) = agent_by(by, &stage, &running).await;
    let (sender, parts) = tokio::sync::mpsc::channel::<Bytes>(1);
    let parts = futures_util::stream::unfold(parts, |mut parts| async {
        let part = parts.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(part), parts))
    });
    let request = alice
        .request(Method::POST, "/v1/agents/me/web/echo")
        .body(reqwest::Body::wrap_stream(parts));
    let sending = tokio::spawn(request.send());
    sender.send(Bytes::from_static(b"one")).await.unwrap();
    let mut answer = timeout(LIMIT, sending).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // Each comes back while the next one was not even sent.
    assert_eq!(
        timeout(LIMIT, answer.chunk())
            .await
            .unwrap()
            .unwrap()
            .unwrap(),
        "one"
    );
    for part in ["two", "three"] {
        sender.send(part.into()).await.unwrap();
        assert_eq!(
            timeout(LIMIT, answer.chunk())
                .await
                .unwrap()
                .unwrap()
                .unwrap(),
            part
        );
    }
    // Longer than any body that the server itself takes.
    let long = Bytes::from(vec![b'x'; 64 * 1024]);
    for _ in 0..64 {
        sender.send(long.clone()).await.unwrap();
        let mut left = long.len();
        while left > 0 {
            left -= timeout(LIMIT, answer.chunk())
                .await
                .unwrap()
                .unwrap()
                .unwrap()
                .len();
        }
    }
    drop(sender);
    assert!(
        timeout(LIMIT, answer.chunk())
            .await
            .unwrap()
            .unwrap()
            .is_none()
    );
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_does_not_read_holds_the_guest_back() {
    for by in BOTH {
        hold_back_by(by).await;
    }
}

async fn hold_back_by(by: By) {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (alice, _, guest) = agent_by(by, &stage, &running).await;
    let at_rest = Arc::strong_count(&guest.seen);
    let request = alice.request(Method::GET, "/v1/agents/me/web/endless");
    let mut answer = request.send().await.unwrap();
    let parts = || guest.seen.parts.load(Ordering::SeqCst);
    let until = Instant::now() + LIMIT;
    let mut before = usize::MAX;
    while parts() != before {
        before = parts();
        assert!(before < FAR_TOO_MANY_PARTS, "the guest is not held back");
        assert!(Instant::now() < until, "{before}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // It goes on where the caller does.
    while parts() < before + FAR_TOO_MANY_PARTS {
        timeout(LIMIT, answer.chunk())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
    // And ends where the caller ends: nothing of the answer is left.
    drop(answer);
    let until = Instant::now() + LIMIT;
    while Arc::strong_count(&guest.seen) > at_rest {
        assert!(Instant::now() < until, "the guest still answers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.server.shut_down().await;
}

pub(super) async fn websocket(api: &Api, path: &str) -> WebSocketStream<TcpStream> {
    let url = api.url(path);
    let authority = url.strip_prefix("http://").unwrap();
    let (host, _) = authority.split_once('/').unwrap();
    let mut request = format!("ws://{authority}").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert(
        "authorization",
        format!("Bearer {}", api.token()).parse().unwrap(),
    );
    headers.insert("sec-websocket-protocol", "gateway".parse().unwrap());
    let stream = TcpStream::connect(host).await.unwrap();
    let (socket, answer) = client_async(request, stream).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "gateway");
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_goes_through_and_ends_with_the_server() {
    for by in BOTH {
        open_websockets_by(by).await;
    }
}

async fn open_websockets_by(by: By) {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (alice, id, _guest) = agent_by(by, &stage, &running).await;
    let mut socket = websocket(&alice, "/v1/agents/me/web/ws").await;
    for size in [0, 1, 1000, 3 << 20] {
        let message = Message::binary(vec![7_u8; size]);
        socket.send(message.clone()).await.unwrap();
        let back = timeout(LIMIT, socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(back, message);
    }
    let mut closed = websocket(&alice, "/v1/agents/me/web/ws").await;
    closed.close(None).await.unwrap();
    let last = timeout(LIMIT, closed.next()).await.unwrap();
    assert!(matches!(last, Some(Ok(Message::Close(_)))), "{last:?}");
    let (_, audit) = running.operator.get("/v1/audit").await;
    let opened = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["action"] == "web");
    assert_eq!(opened.clone().count(), 2, "{audit}");
    assert!(
        opened.clone().all(|entry| entry["subject"] == *id),
        "{audit}"
    );

    let began = Instant::now();
    running.server.shut_down().await;
    assert!(
        began.elapsed() < pika_server::REQUESTS_LIMIT,
        "nobody waits for an idle websocket"
    );
    let last = timeout(LIMIT, socket.next()).await.unwrap();
    assert!(!matches!(last, Some(Ok(_))), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_has_a_bounded_number_of_connections_which_are_given_back() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let (alice, _, _guest) = agent(&stage, &running).await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(websocket(&alice, "/v1/agents/me/web/ws").await);
    }
    let mut streams = Vec::new();
    for _ in 0..32 {
        let request = alice.request(Method::GET, "/v1/agents/me/web/endless");
        streams.push(request.send().await.unwrap());
    }
    let (status, refused) = alice.get("/v1/agents/me/web/").await;
    assert_eq!(
        (status, refused["error"].as_str()),
        (StatusCode::TOO_MANY_REQUESTS, Some("rate_limited"))
    );
    open.pop();
    let until = Instant::now() + LIMIT;
    while alice.get("/v1/agents/me/web/").await.0 != StatusCode::IM_A_TEAPOT {
        assert!(Instant::now() < until, "the place was not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop((open, streams));
    running.server.shut_down().await;
}
