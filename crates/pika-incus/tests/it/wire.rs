//! What the client makes of sockets that are missing, closed, silent or wrong; no daemon is needed.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pika_incus::{Client, ConnectProblem, ErrorCause, ErrorKind, Filter, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Answers every connection by this function, until the test ends.
fn serve<F, R>(answer: F) -> (tempfile::TempDir, Client)
where
    F: Fn(UnixStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("unix.socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    let timeouts = Timeouts {
        call: Duration::from_millis(500),
        ..Timeouts::default()
    };
    (dir, Client::unix(socket).with_timeouts(timeouts))
}

/// Reads the request's head away, and answers these bytes.
async fn reply(mut stream: UnixStream, bytes: impl AsRef<[u8]>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request comes"));
    }
    // A client that has seen enough may be gone.
    drop(stream.write_all(bytes.as_ref()).await);
}

fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_missing_socket_is_unreachable_and_says_what_to_do() {
    let error = Client::unix("/nonexistent/unix.socket")
        .server()
        .await
        .expect_err("nothing is there");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(
        matches!(
            error.connect_problem(),
            Some(ConnectProblem::SocketMissing { .. })
        ),
        "{error:?}"
    );
    assert!(
        error
            .remedy()
            .expect("a remedy")
            .contains("systemctl start incus")
    );
    assert!(!error.outcome_unknown(), "nothing was sent");
}

#[tokio::test]
async fn a_socket_without_a_listener_is_unreachable() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("unix.socket");
    drop(UnixListener::bind(&socket).expect("a socket"));
    let error = Client::unix(&socket)
        .server()
        .await
        .expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(
        matches!(
            error.connect_problem(),
            Some(ConnectProblem::Refused { .. })
        ),
        "{error:?}"
    );
    assert!(!error.outcome_unknown());
}

#[tokio::test]
async fn a_socket_of_others_is_forbidden_and_says_which_group() {
    let (dir, client) = serve(|stream| reply(stream, json("200 OK", "{}")));
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(dir.path(), mode(0o711)).expect("chmod");
    std::fs::set_permissions(dir.path().join("unix.socket"), mode(0o660)).expect("chmod");
    // Another user for one thread alone; the thread ends with it.
    let asking = std::thread::spawn(move || {
        let (nobody, nogroup) = (
            rustix::process::Uid::from_raw(65534),
            rustix::process::Gid::from_raw(65534),
        );
        rustix::thread::set_thread_groups(&[]).expect("the tests run as root");
        rustix::thread::set_thread_res_gid(nogroup, nogroup, nogroup)
            .expect("the tests run as root");
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("the tests run as root");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async { client.server().await.expect_err("this user may not") })
    });
    let error = tokio::task::spawn_blocking(|| asking.join().expect("the thread ends"))
        .await
        .expect("joined");
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error:?}");
    assert!(
        matches!(
            error.connect_problem(),
            Some(ConnectProblem::SocketPermission { .. })
        ),
        "{error:?}"
    );
    assert!(error.remedy().expect("a remedy").contains("incus-admin"));
}

#[tokio::test]
async fn a_silent_server_is_timed_out_with_unknown_outcome() {
    let (_dir, client) = serve(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    });
    let error = client.server().await.expect_err("no answer comes");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
    assert!(error.outcome_unknown());
    let events = client
        .events(&[pika_incus::EventKind::Lifecycle])
        .await
        .expect_err("no answer comes");
    assert_eq!(events.kind(), ErrorKind::TimedOut, "{events:?}");
}

#[tokio::test]
async fn a_server_that_stops_in_its_answer_is_timed_out_too() {
    let (_dir, client) = serve(|stream| async move {
        let mut stream = stream;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
            .await
            .expect("written");
        std::future::pending::<()>().await;
    });
    assert_eq!(
        client.server().await.expect_err("half an answer").kind(),
        ErrorKind::TimedOut
    );
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_the_outcome_unknown() {
    let (_dir, closed) = serve(|stream| reply(stream, ""));
    let (_dir2, cut) = serve(|stream| {
        reply(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"type\":",
        )
    });
    for client in [closed, cut] {
        let error = client
            .delete_instance("c1")
            .await
            .expect_err("the connection breaks");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        assert!(error.outcome_unknown(), "{error:?}");
        assert!(error.connect_problem().is_none());
    }
}

#[tokio::test]
async fn what_is_no_answer_of_incus_is_a_protocol_error() {
    for body in [
        "",
        "[]",
        "{}",
        "{\"type\":\"sync\",\"metadata\":7}",
        "{\"type\":\"other\"}",
        "<html>",
    ] {
        let (_dir, client) = serve(move |stream| reply(stream, json("200 OK", body)));
        let error = client.server().await.expect_err("no such answer");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{body}: {error:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let (_dir, client) = serve(|mut stream| async move {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
        let spaces = vec![b' '; 1 << 20];
        if stream.write_all(head.as_bytes()).await.is_ok() {
            while stream.write_all(&spaces).await.is_ok() {}
        }
    });
    let patient = client.with_timeouts(Timeouts::default());
    let error = patient.server().await.expect_err("too large");
    assert!(
        matches!(error.cause(), ErrorCause::TooLarge { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_list_that_is_none_or_breaks_off_is_an_error() {
    for body in [
        r#"{"type":"sync","metadata":[{}]}"#,
        r#"{"type":"sync","metadata":[7,]}"#,
        r#"{"type":"sync","metadata":{}}"#,
        r#"{"type":"sync","metadata":["#,
        r#"{"type":"sync","metadata":[]"#,
        r#"{"type":"other","metadata":[]}"#,
        r#"{"metadata":[]}"#,
        "[]",
    ] {
        let (_dir, client) = serve(move |stream| reply(stream, json("200 OK", body)));
        let error = client.instances(&Filter::all()).await.expect_err(body);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{body}: {error:?}");
    }
    let refused = r#"{"type":"error","error":"no","error_code":500,"metadata":[]}"#;
    let (_dir, client) = serve(move |stream| reply(stream, json("200 OK", refused)));
    let error = client.volumes("default").await.expect_err("an error");
    assert_eq!(error.server_message(), Some("no"));
    for none in ["null", "[]", " [ ] "] {
        let body = format!(r#"{{"metadata":{none},"type":"sync"}}"#);
        let (_dir, client) = serve(move |stream| reply(stream, json("200 OK", &body)));
        assert_eq!(client.instances(&Filter::all()).await.expect(none), []);
    }
}

#[tokio::test]
async fn an_item_that_never_ends_is_cut_off() {
    let (_dir, client) = serve(|mut stream| async move {
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"metadata\":[{\"name\":\"";
        let name = vec![b'n'; 1 << 20];
        if stream.write_all(head.as_bytes()).await.is_ok() {
            while stream.write_all(&name).await.is_ok() {}
        }
    });
    let patient = client.with_timeouts(Timeouts::default());
    let error = patient
        .instances(&Filter::all())
        .await
        .expect_err("too large");
    assert!(
        matches!(error.cause(), ErrorCause::TooLarge { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn server_errors_keep_their_words() {
    let cases = [
        (
            "503 Service Unavailable",
            "Shutting down",
            ErrorKind::ShuttingDown,
        ),
        ("403 Forbidden", "not authorized", ErrorKind::Forbidden),
        (
            "401 Unauthorized",
            "not authenticated",
            ErrorKind::Unauthorized,
        ),
        (
            "500 Internal Server Error",
            "disk on fire",
            ErrorKind::Server,
        ),
    ];
    for (status, words, kind) in cases {
        let body = format!(
            "{{\"type\":\"error\",\"error\":\"{words}\",\"error_code\":{}}}",
            &status[..3]
        );
        let (_dir, client) = serve(move |stream| reply(stream, json(status, &body)));
        let error = client.server().await.expect_err("an error");
        assert_eq!((error.kind(), error.server_message()), (kind, Some(words)));
        assert!(!error.outcome_unknown());
        let text = error.to_string();
        assert!(
            text.starts_with("GET /1.0: ") && text.contains(words),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_in_the_middle_says_why() {
    let body = r#"{"type":"error","error":"not authorized","error_code":403}"#;
    let (_dir, client) = serve(move |stream| reply(stream, json("403 Forbidden", body)));
    let chunks =
        futures_util::stream::iter((0..100).map(|_| Ok(bytes::Bytes::from(vec![0; 1 << 20]))));
    let meta = pika_incus::FileMeta::root(0o600);
    let error = client
        .file_put_stream("c1", "/f", chunks, &meta)
        .await
        .expect_err("refused");
    assert_eq!(
        (error.kind(), error.server_message()),
        (ErrorKind::Forbidden, Some("not authorized")),
        "{error:?}"
    );
}

#[tokio::test]
async fn streams_that_stand_still_are_given_up() {
    let quick = |client: Client| {
        client.with_timeouts(Timeouts {
            stream_idle: Duration::from_millis(200),
            ..Timeouts::default()
        })
    };
    let (_dir, deaf) = serve(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    });
    let endless = futures_util::stream::repeat_with(|| Ok(bytes::Bytes::from_static(&[0; 65536])));
    let meta = pika_incus::FileMeta::root(0o600);
    let error = quick(deaf)
        .file_put_stream("c1", "/f", endless, &meta)
        .await
        .expect_err("nobody reads");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
    assert!(error.outcome_unknown());

    let (_dir, mute) = serve(|mut stream| async move {
        let head = "HTTP/1.1 200 OK\r\nx-incus-type: file\r\ncontent-length: 10\r\n\r\nab";
        stream.write_all(head.as_bytes()).await.expect("written");
        std::future::pending::<()>().await;
    });
    let stream = quick(mute)
        .file_read_range("c1", "/f", 0, None)
        .await
        .expect("it begins");
    let error = stream.read_to_end(100).await.expect_err("it stands still");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
}
