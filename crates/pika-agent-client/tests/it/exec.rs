//! Commands over a websocket.

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use pika_agent_client::contract::exec::{ExecStart, TerminalSize};
use pika_agent_client::{AgentClient, ClientError, ExecMessage, Token};

use crate::scripted::{Scripted, refusal};

/// A server whose websocket answers with these after it got that many messages; gives back what it got.
async fn server(
    takes: usize,
    says: Vec<Message>,
) -> (AgentClient, tokio::sync::oneshot::Receiver<Vec<Message>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = tokio::sync::oneshot::channel();
    let state = std::sync::Arc::new(std::sync::Mutex::new(Some((says, tell))));
    let route = get(move |upgrade: WebSocketUpgrade| async move {
        let (says, tell) = state.lock().unwrap().take().unwrap();
        upgrade.on_upgrade(move |mut socket: WebSocket| async move {
            let mut got = Vec::new();
            while got.len() < takes {
                got.push(socket.recv().await.unwrap().unwrap());
            }
            for message in says {
                socket.send(message).await.unwrap();
            }
            tell.send(got).unwrap();
        })
    });
    let app = Router::new().route("/v1/agents/{id}/exec", route);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = AgentClient::new(&address, Token::new("t").unwrap()).unwrap();
    (client, told)
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(bytes.to_vec().into())
}

#[tokio::test]
async fn bytes_words_and_the_exit_code_go_through() {
    let says = vec![
        binary(b"\x01out"),
        binary(b"\x02err"),
        Message::Text(r#"{"exited":7}"#.into()),
    ];
    let (client, told) = server(6, says).await;
    let start = ExecStart {
        command: vec!["cat".to_owned()],
        ..ExecStart::default()
    };
    let mut session = client.exec("me", &start).await.unwrap();
    // Longer than one message may be.
    session.input.write(&[b'x'; 64 * 1024]).await.unwrap();
    let size = TerminalSize {
        columns: 9,
        rows: 8,
    };
    session.input.resize(size).await.unwrap();
    session.input.signal(2).await.unwrap();
    session.input.end().await.unwrap();
    let mut got = Vec::new();
    while got.len() < 3 {
        got.push(session.output.next().await.unwrap());
    }
    let out = |text: &'static str| text.as_bytes().into();
    let expected = [
        ExecMessage::Stdout(out("out")),
        ExecMessage::Stderr(out("err")),
        ExecMessage::Exited(7),
    ];
    assert_eq!(got, expected);
    let sent = told.await.unwrap();
    let first: ExecStart = serde_json::from_str(sent[0].to_text().unwrap()).unwrap();
    assert_eq!(first, start);
    let lengths = [
        sent[1].clone().into_data().len(),
        sent[2].clone().into_data().len(),
    ];
    assert_eq!(lengths, [64 * 1024, 2]);
    let words: Vec<_> = sent[3..]
        .iter()
        .map(|word| word.to_text().unwrap())
        .collect();
    assert_eq!(
        words,
        [
            r#"{"resize":{"columns":9,"rows":8}}"#,
            r#"{"signal":2}"#,
            r#""stdin_end""#
        ]
    );
}

#[tokio::test]
async fn a_session_without_the_commands_status_is_never_a_status() {
    let failed = r#"{"failed":{"error":"unavailable","request_id":"r","message":"gone"}}"#;
    let cases: [(Vec<Message>, &str); 5] = [
        (Vec::new(), "lost"),
        (vec![Message::Close(None)], "lost"),
        (
            vec![Message::Text(failed.into())],
            "gone (unavailable, request r)",
        ),
        (vec![Message::Text("{}".into())], "end can't be read"),
        (vec![binary(b"\x09x")], "names no stream"),
    ];
    for (says, words) in cases {
        let (client, _told) = server(1, says).await;
        let mut session = client.exec("me", &ExecStart::default()).await.unwrap();
        let error = session.output.next().await.unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_session() {
    let (client, _told) = server(1, vec![binary(&[1; 128 * 1024])]).await;
    let mut session = client.exec("me", &ExecStart::default()).await.unwrap();
    let error = session.output.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_refused_session_says_why() {
    let server = Scripted::start(vec![refusal("404 Not Found", "agent_not_found")]).await;
    let error = server
        .client
        .exec("me", &ExecStart::default())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ClientError::Api { status: 404, .. }),
        "{error:?}"
    );
    assert_eq!(
        server.asked()[0].header("authorization"),
        Some("Bearer secret-token")
    );
}
