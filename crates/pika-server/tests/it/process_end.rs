//! How the program ends: in order when it is asked once, at once when it is asked twice, and never only when others let it.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use pikahut::fake::{Fault, When};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::process::{Process, token};
use crate::support::{Api, LIMIT, Stage, until};

fn authority(process: &Process) -> &str {
    process.base.strip_prefix("http://").unwrap()
}

/// A command that runs until its websocket ends; it has already said something.
async fn command_under_way(
    process: &Process,
    stage: &Stage,
    token: &str,
) -> WebSocketStream<TcpStream> {
    stage.fake.on_exec(&["stay"], |call| {
        Box::pin(async move {
            call.stdout("here").await;
            std::future::pending().await
        })
    });
    let stream = TcpStream::connect(authority(process)).await.unwrap();
    let mut request = format!("ws://{}/v1/agents/me/exec", authority(process))
        .into_client_request()
        .unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = client_async(request, stream).await.unwrap();
    let start = json!({ "command": ["stay"] }).to_string();
    socket.send(Message::text(start)).await.unwrap();
    let said = socket.next().await.unwrap().unwrap();
    assert_eq!(said, Message::binary(b"\x01here".to_vec()));
    socket
}

/// Sends something on a connection of its own, and waits until the server has read it: what nobody has taken in when the
/// end comes is never answered.
async fn sent(process: &Process, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(authority(process)).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let ends = [stream.local_addr().unwrap(), stream.peer_addr().unwrap()];
    let ports = ends.map(|end| format!(":{:04X}", end.port()));
    until("the server has read it", || everything_was_read(&ports)).await;
    stream
}

/// Whether nothing lies in the queues of both ends of a connection.
fn everything_was_read([one, other]: &[String; 2]) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| {
            let is =
                |here: &str, there: &str| words[1].ends_with(here) && words[2].ends_with(there);
            is(one, other) || is(other, one)
        });
    let queues: Vec<&str> = ends.map(|words| words[4]).collect();
    queues == ["00000000:00000000"; 2]
}

/// A request whose body is still on its way: the second half is given back.
async fn half_a_request(process: &Process, token: &str) -> (TcpStream, String) {
    let body = json!({ "owner_id": "bob" }).to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let head = format!(
        "POST /v1/owners HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{first}",
        authority(process),
        body.len()
    );
    (sent(process, &head).await, second.to_owned())
}

/// A caller that waits for an operation's end.
async fn waiting_for(process: &Process, token: &str, operation: &str) -> TcpStream {
    let head = format!(
        "GET /v1/operations/{operation}?wait=30 HTTP/1.1\r\nhost: {}\r\n\
         authorization: Bearer {token}\r\n\r\n",
        authority(process)
    );
    sent(process, &head).await
}

/// Head and body of what comes back until the server closes.
async fn answer(mut stream: TcpStream) -> (String, Value) {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), serde_json::from_str(body).unwrap())
}

/// An operation in the middle of a step that doesn't end.
async fn operation_under_way(stage: &Stage, api: &Api) -> String {
    let state = When::request("PUT", "/1.0/instances/*/state").nth(0);
    stage.fake.faults().inject(state, Fault::Hang);
    stage.fake.clear_requests();
    let (status, view) = api.post("/v1/agents/me/restart", json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{view}");
    until("its step is under way", || {
        let requests = stage.fake.requests();
        requests
            .iter()
            .any(|request| request.method == "PUT" && request.path.ends_with("/state"))
    })
    .await;
    view["operation"]["operation_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn refuses_connections(process: &Process) {
    let until = Instant::now() + LIMIT;
    while TcpStream::connect(authority(process)).await.is_ok() {
        assert!(Instant::now() < until, "it still takes connections");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn goodbye(mut socket: WebSocketStream<TcpStream>) {
    let last = socket.next().await.unwrap().unwrap();
    let last: Value = serde_json::from_str(last.to_text().unwrap()).unwrap();
    assert_eq!(last["failed"]["error"], "unavailable", "{last}");
    assert_eq!(
        last["failed"]["message"],
        "the server ends, and the command with it"
    );
    let Some(Ok(Message::Close(Some(close)))) = socket.next().await else {
        panic!("no close frame");
    };
    assert_eq!(close.code, CloseCode::Away);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_end_it_lets_everybody_go_in_order() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage).await;
    let token = token(&stage);
    let api = process.api(&token);
    let made = api.post_and_wait("/v1/agents/ensure", json!({})).await;
    assert_eq!(made["state"], "succeeded", "{made}");

    let socket = command_under_way(&process, &stage, &token).await;
    let events = api
        .request(Method::GET, "/v1/events")
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(events.status(), StatusCode::OK);
    let events = tokio::spawn(events.text());
    let operation = operation_under_way(&stage, &api).await;
    let waiting = waiting_for(&process, &token, &operation).await;
    let (mut slow, rest) = half_a_request(&process, &token).await;

    process.signal(Signal::TERM);
    refuses_connections(&process).await;
    goodbye(socket).await;
    let events = events.await.unwrap().unwrap();
    assert!(events.contains("event: "), "{events}");
    let last = events.trim_end().rsplit("\n\n").next().unwrap();
    assert_eq!(
        last,
        ": the server ends; come back with the last id\nretry: 2000"
    );
    let (head, view) = answer(waiting).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let state = view["state"].as_str().unwrap();
    assert!(["running", "pending"].contains(&state), "{view}");

    slow.write_all(rest.as_bytes()).await.unwrap();
    let (head, made) = answer(slow).await;
    assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
    assert_eq!(made["owner_id"], "bob", "{made}");
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.log());
    let log = process.log();
    assert!(!log.contains("ERROR") && log.contains(" ended"), "{log}");

    // What was under way goes on with the next start.
    stage.fake.faults().clear();
    let process = Process::start(&stage).await;
    let ended = process.api(&token).operation(&operation).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(stage.counts(), (1, 1));
    process.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_never_ends_is_dropped() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage).await;
    let (_slow, _) = half_a_request(&process, &token(&stage)).await;
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.log());
    let log = process.log();
    assert!(
        log.contains("requests that were still under way are dropped"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_twice_it_ends_at_once() {
    let stage = Stage::new().await;
    let mut process = Process::start(&stage).await;
    let (_slow, _) = half_a_request(&process, &token(&stage)).await;
    process.signal(Signal::TERM);
    until("it is ending", || process.log().contains("asked to end")).await;
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(1), "{}", process.log());
    assert!(process.log().contains("asked again: ends at once"));
}
