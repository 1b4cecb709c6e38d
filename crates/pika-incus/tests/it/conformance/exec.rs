use std::time::Duration;

use futures_util::StreamExt;
use pika_incus::{CaptureLimits, ErrorKind, ExecRequest, ExecStream};

use crate::support::{LIMIT, Subject};

/// Reads a stream to its end.
pub(crate) async fn all(stream: &mut ExecStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.expect("the stream is whole"));
    }
    bytes
}

pub(crate) async fn streams_and_exit_code(s: &Subject) {
    let name = s.instance("a", true).await;
    let output = s.sh(&name, "echo out; echo err >&2; exit 7").await;
    assert_eq!(output.exit_code, 7);
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    assert!(!output.truncated);
    assert_eq!(s.sh(&name, "kill -9 $$").await.exit_code, 137);
    assert_eq!(s.sh(&name, "true").await.exit_code, 0);
    s.remove_instance(&name).await;
}

pub(crate) async fn signal(s: &Subject) {
    let name = s.instance("a", true).await;
    let mut session = s
        .client
        .exec(&name, &ExecRequest::new(["sleep", "1000"]))
        .await
        .expect("exec");
    session
        .control
        .signal(15)
        .await
        .expect("the control socket takes it");
    assert_eq!(
        session.wait(LIMIT).await.expect("the command ends").code,
        143
    );
    assert_eq!(all(&mut session.stdout).await, b"");
    assert_eq!(
        session
            .wait(Duration::ZERO)
            .await
            .expect("the code is kept")
            .code,
        143
    );
    s.remove_instance(&name).await;
}

pub(crate) async fn standard_input(s: &Subject) {
    let name = s.instance("a", true).await;
    let request = ExecRequest {
        stdin: true,
        ..ExecRequest::new(["cat"])
    };
    let mut session = s.client.exec(&name, &request).await.expect("exec");
    let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let writing = async {
        session.stdin.write(sent.clone()).await.expect("cat reads");
        session.stdin.close();
    };
    let ((), received) = tokio::join!(writing, all(&mut session.stdout));
    assert!(
        received == sent,
        "{} bytes came back of {}",
        received.len(),
        sent.len()
    );
    assert_eq!(session.exit.wait(LIMIT).await.expect("cat ends").code, 0);

    let without = s
        .client
        .exec_capture(
            &name,
            &ExecRequest::new(["cat"]),
            CaptureLimits::default(),
            LIMIT,
        )
        .await;
    assert_eq!(without.expect("cat sees the end at once").stdout, b"");
    s.remove_instance(&name).await;
}

pub(crate) async fn environment(s: &Subject) {
    let name = s.instance("a", true).await;
    let mut request = ExecRequest::new(["env"]);
    request
        .env
        .insert("GREETING".to_owned(), "hello".to_owned());
    let output = s
        .client
        .exec_capture(&name, &request, CaptureLimits::default(), LIMIT)
        .await
        .expect("exec");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.lines().any(|line| line == "GREETING=hello"), "{text}");
    s.remove_instance(&name).await;
}

pub(crate) async fn missing_command(s: &Subject) {
    let name = s.instance("a", true).await;
    let request = ExecRequest::new(["no-such-command"]);
    let output = s
        .client
        .exec_capture(&name, &request, CaptureLimits::default(), LIMIT)
        .await
        .expect("an exit code");
    assert_eq!(output.exit_code, 127);
    s.remove_instance(&name).await;
}

pub(crate) async fn not_running(s: &Subject) {
    let name = s.instance("a", false).await;
    let request = ExecRequest::new(["true"]);
    let error = s
        .client
        .exec(&name, &request)
        .await
        .expect_err("it is stopped");
    assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    s.remove_instance(&name).await;
    let error = s
        .client
        .exec(&name, &request)
        .await
        .expect_err("it is gone");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

pub(crate) async fn limits(s: &Subject) {
    let name = s.instance("a", true).await;
    let limits = CaptureLimits {
        stdout_max: 3,
        stderr_max: 3,
    };
    let request = ExecRequest::new(["sh", "-c", "echo abcdef; exit 4"]);
    let output = s
        .client
        .exec_capture(&name, &request, limits, LIMIT)
        .await
        .expect("exec");
    assert_eq!(
        (output.stdout.as_slice(), output.truncated, output.exit_code),
        (&b"abc"[..], true, 4)
    );
    let slow = ExecRequest::new(["sleep", "1000"]);
    let error = s
        .client
        .exec_capture(&name, &slow, limits, Duration::from_millis(300))
        .await
        .expect_err("too slow");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    s.remove_instance(&name).await;
}
