//! The stream of events over connections that break.

use pika_agent_client::ClientError;

use crate::scripted::{Say, Scripted, answer_of};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

fn event(id: u64) -> String {
    format!(
        "event: state_changed\nid: {id}\ndata: {{\"id\":{id},\"agent_id\":\"a1\",\"at\":\"2026-01-01T00:00:00.000Z\",\
         \"kind\":\"state_changed\",\"data\":{{\"n\":{id}}}}}\n\n"
    )
}

#[tokio::test]
async fn none_is_lost_and_none_repeated_wherever_the_connection_breaks() {
    let whole = format!(": sign of life\n\n{}", event(2).replace('\n', "\r\n"));
    for cut in 0..whole.len() {
        let first = format!("{HEAD}{}{}", event(1), &whole[..cut]);
        // The server repeats one that was seen, as one that lost count would.
        let second = format!("{HEAD}{}{}{}", event(1), event(2), event(3));
        let server = Scripted::start(vec![Say::Bytes(first), Say::Hold(second)]).await;
        let mut stream = server.client.follow_events("me", 0);
        for id in 1..=3 {
            assert_eq!(stream.next().await.unwrap().id, id, "cut at {cut}");
        }
        assert_eq!(stream.last_id(), 3);
        let asked = server.asked();
        assert_eq!(asked[0].header("last-event-id"), Some("0"));
        // Event 2 counts only once its empty line is there, which no cut leaves whole.
        assert_eq!(asked[1].header("last-event-id"), Some("1"), "cut at {cut}");
        assert_eq!(asked.len(), 2);
    }
}

#[tokio::test]
async fn an_event_that_cant_be_read_is_an_error_and_an_endless_one_too() {
    let bad = ["data: {\n\n", "data: {\"id\":\"x\"}\n\n"];
    for text in bad {
        let server = Scripted::start(vec![Say::Hold(format!("{HEAD}{text}"))]).await;
        let error = server
            .client
            .follow_events("me", 0)
            .next()
            .await
            .unwrap_err();
        assert!(error.to_string().contains("event can't be read"), "{error}");
    }
    for piece in ["data: x\n", "x"] {
        let say = Say::Endless(HEAD.to_owned(), piece.repeat(4096));
        let server = Scripted::start(vec![say]).await;
        let error = server
            .client
            .follow_events("me", 0)
            .next()
            .await
            .unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_refused() {
    let server = Scripted::start(vec![answer_of("200 OK", "{}")]).await;
    let error = server
        .client
        .follow_events("me", 0)
        .next()
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_ends_every_stream_at_once_is_given_up() {
    let server = Scripted::start(vec![Say::Bytes(HEAD.to_owned()); 100]).await;
    let error = server
        .client
        .follow_events("me", 0)
        .next()
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    assert!(server.asked().len() < 100);
}
