//! Exec and files where only real processes can show it.

use std::time::Duration;

use futures_util::StreamExt;
use pika_incus::{CaptureLimits, ErrorKind, ExecRequest, FileKind, FileMeta};

use crate::conformance::exec::all;
use crate::support::{self, LIMIT, Subject};

/// The highest memory use of this process, in KiB.
fn memory_peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("Linux tells the peak");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

/// Looks until a script in the instance ends with 0.
async fn until(s: &Subject, name: &str, script: &str) {
    let seen = pikahut::wait::until_async(LIMIT, || async {
        (s.sh(name, script).await.exit_code == 0).then_some(())
    });
    assert!(
        seen.await.is_some(),
        "{script} did not come true within {} s",
        LIMIT.as_secs()
    );
}

#[tokio::test]
async fn large_output_arrives_whole_in_little_memory() {
    const BYTES: u64 = 300_000_000;
    let s = support::real().await;
    let name = s.instance("a", true).await;
    let before = memory_peak_kib();
    let request = ExecRequest::new(["head", "-c", &BYTES.to_string(), "/dev/zero"]);
    let mut session = s.client.exec(&name, &request).await.expect("exec");
    let mut received = 0;
    while let Some(chunk) = session.stdout.next().await {
        received += chunk.expect("the stream is whole").len() as u64;
    }
    assert_eq!(received, BYTES);
    assert_eq!(session.wait(LIMIT).await.expect("head ends").code, 0);
    let grown = memory_peak_kib() - before;
    assert!(grown < 32 * 1024, "{grown} KiB for {BYTES} bytes");
    s.remove_instance(&name).await;
    s.finish().await;
}

#[tokio::test]
async fn a_consumer_that_does_not_read_holds_the_command_back() {
    let s = support::real().await;
    let name = s.instance("a", true).await;
    let script = "head -c 50000000 /dev/zero; touch /tmp/done";
    let mut session = s
        .client
        .exec(&name, &ExecRequest::new(["sh", "-c", script]))
        .await
        .expect("exec");
    let first = session
        .stdout
        .next()
        .await
        .expect("output comes")
        .expect("the stream is whole");
    // While nobody reads, the command can't end.
    let early = session
        .wait(Duration::from_secs(1))
        .await
        .expect_err("it waits for its reader");
    assert_eq!(early.kind(), ErrorKind::TimedOut, "{early}");
    assert_eq!(
        s.client
            .file_head(&name, "/tmp/done")
            .await
            .expect_err("not yet")
            .kind(),
        ErrorKind::NotFound
    );
    let rest = all(&mut session.stdout).await;
    assert_eq!(first.len() + rest.len(), 50_000_000);
    assert_eq!(session.wait(LIMIT).await.expect("it ends").code, 0);
    s.client
        .file_head(&name, "/tmp/done")
        .await
        .expect("it came to its end");
    s.remove_instance(&name).await;
    s.finish().await;
}

#[tokio::test]
async fn output_is_whole_when_it_is_read_after_the_end() {
    let s = support::real().await;
    let name = s.instance("a", true).await;
    let mut session = s
        .client
        .exec(
            &name,
            &ExecRequest::new(["sh", "-c", "echo out; echo err >&2"]),
        )
        .await
        .expect("exec");
    assert_eq!(session.wait(LIMIT).await.expect("it ends").code, 0);
    assert_eq!(all(&mut session.stdout).await, b"out\n");
    assert_eq!(all(&mut session.stderr).await, b"err\n");
    s.remove_instance(&name).await;
    s.finish().await;
}

#[tokio::test]
async fn a_dropped_session_kills_its_command_and_a_detached_one_lives() {
    let s = support::real().await;
    let name = s.instance("a", true).await;
    let script = "echo $$ > /tmp/pid; exec sleep 1000";
    let session = s
        .client
        .exec(&name, &ExecRequest::new(["sh", "-c", script]))
        .await
        .expect("exec");
    until(&s, &name, "test -s /tmp/pid && kill -0 $(cat /tmp/pid)").await;
    let pika_incus::ExecSession {
        stdout,
        control,
        exit,
        ..
    } = session;
    drop(exit);
    until(&s, &name, "kill -0 $(cat /tmp/pid)").await;
    drop(control);
    until(&s, &name, "! kill -0 $(cat /tmp/pid)").await;
    drop(stdout);
    s.remove_instance(&name).await;
    s.finish().await;
}

#[tokio::test]
async fn user_group_and_directory_are_the_asked_ones() {
    let s = support::real().await;
    let name = s.instance("a", true).await;
    let request = ExecRequest {
        user: 1000,
        group: 100,
        cwd: Some("/tmp".to_owned()),
        ..ExecRequest::new(["sh", "-c", "echo $(id -u) $(id -g) $(pwd)"])
    };
    let output = s
        .client
        .exec_capture(&name, &request, CaptureLimits::default(), LIMIT)
        .await
        .expect("exec");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000 100 /tmp\n");
    s.remove_instance(&name).await;
    s.finish().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_that_changes() {
    let s = support::real().await;
    let name = s.instance("a", true).await;
    let script = "shopt -s checkwinsize; while :; do (:;:); echo size $COLUMNS $LINES; read -r line; \
                  test \"$line\" = end && exit 3; done";
    let request = ExecRequest {
        stdin: true,
        interactive: Some((80, 24)),
        ..ExecRequest::new(["bash", "-c", script])
    };
    let mut session = s.client.exec(&name, &request).await.expect("exec");
    let mut text = String::new();
    let mut resized = false;
    let reading = async {
        while let Some(chunk) = session.stdout.next().await {
            text.push_str(&String::from_utf8_lossy(
                &chunk.expect("the stream is whole"),
            ));
            if text.contains("size 100 40") {
                session
                    .stdin
                    .write("end\n")
                    .await
                    .expect("the terminal takes input");
            } else if text.contains("size 80 24") {
                if !resized {
                    session.control.resize(100, 40).await.expect("resize");
                    resized = true;
                }
                session
                    .stdin
                    .write("again\n")
                    .await
                    .expect("the terminal takes input");
            }
        }
    };
    tokio::time::timeout(LIMIT, reading)
        .await
        .expect("the new size is seen");
    assert_eq!(session.exit.wait(LIMIT).await.expect("it ends").code, 3);
    assert_eq!(all(&mut session.stderr).await, b"");
    s.remove_instance(&name).await;
    s.finish().await;
}

#[tokio::test]
async fn a_forced_stop_ends_an_exec() {
    let s = support::real().await;
    let name = s.instance("a", true).await;
    let script = "echo up; exec sleep 1000";
    let mut session = s
        .client
        .exec(&name, &ExecRequest::new(["sh", "-c", script]))
        .await
        .expect("exec");
    let first = session
        .stdout
        .next()
        .await
        .expect("output comes")
        .expect("the stream is whole");
    assert_eq!(&first[..], b"up\n");
    s.remove_instance(&name).await;
    let ended = session.wait(LIMIT).await.expect("a code comes even so");
    assert_eq!(
        ended.code, 137,
        "which is why an exec's code alone is no verdict"
    );
    s.finish().await;
}

#[tokio::test]
async fn a_fifo_is_looked_at_and_never_opened() {
    let s = support::real().await;
    let name = s.instance("a", true).await;
    assert_eq!(s.sh(&name, "mkfifo -m 640 /tmp/fifo").await.exit_code, 0);
    let facts = s.client.file_head(&name, "/tmp/fifo").await.expect("head");
    assert_eq!(
        (facts.kind, facts.size, facts.mode),
        (FileKind::File, Some(0), 0o640)
    );
    let read = tokio::time::timeout(
        Duration::from_secs(10),
        s.client.file_read(&name, "/tmp/fifo", 100),
    );
    assert_eq!(read.await.expect("nothing hangs").expect("read"), b"");
    s.remove_instance(&name).await;
    s.finish().await;
}

#[tokio::test]
async fn a_large_file_is_streamed_both_ways() {
    const CHUNKS: usize = 400;
    const CHUNK_BYTES: usize = 256 * 1024;
    let s = support::real().await;
    let name = s.instance("a", true).await;
    let before = memory_peak_kib();
    let chunks = futures_util::stream::iter((0..CHUNKS).map(|n| {
        Ok(bytes::Bytes::from(vec![
            u8::try_from(n % 251)
                .expect("below 251");
            CHUNK_BYTES
        ]))
    }));
    s.client
        .file_put_stream(&name, "/tmp/large", chunks, &FileMeta::root(0o600))
        .await
        .expect("put");
    let mut stream = s
        .client
        .file_read_range(&name, "/tmp/large", 0, None)
        .await
        .expect("get");
    assert_eq!(stream.total_bytes(), Some((CHUNKS * CHUNK_BYTES) as u64));
    let mut at = 0_usize;
    while let Some(chunk) = stream.next().await {
        for byte in chunk.expect("the stream is whole") {
            assert_eq!(usize::from(byte), at / CHUNK_BYTES % 251, "byte {at}");
            at += 1;
        }
    }
    assert_eq!(at, CHUNKS * CHUNK_BYTES);
    let grown = memory_peak_kib() - before;
    assert!(grown < 32 * 1024, "{grown} KiB for {at} bytes");
    s.remove_instance(&name).await;
    s.finish().await;
}
