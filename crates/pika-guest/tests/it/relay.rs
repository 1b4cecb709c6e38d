//! The relay as the host runs it: a connection over a command's streams.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;

use pika_cloud::relay::{COMMAND, CONNECTED};

fn relay(port: u16) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pika-cloud-lifecycle"))
        .args([COMMAND, "--port", &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A service that takes one connection, and its port.
fn service(
    serve: impl FnOnce(std::net::TcpStream) + Send + 'static,
) -> (thread::JoinHandle<()>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = thread::spawn(move || serve(listener.accept().unwrap().0));
    (serving, port)
}

#[test]
fn bytes_go_both_ways_until_each_side_has_ended() {
    let (serving, port) = service(|mut stream| {
        // What has no end of line comes through too, while the input is still open.
        stream.write_all(b"who?").unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        stream.write_all(&said).unwrap();
    });
    let mut child = relay(port);
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut asked = [0; 4];
    stdout.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"who?");
    let long: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let sent = long.clone();
    let sending = thread::spawn(move || stdin.write_all(&sent).unwrap());
    let mut back = Vec::new();
    stdout.read_to_end(&mut back).unwrap();
    sending.join().unwrap();
    serving.join().unwrap();
    assert!(back == long, "{} bytes came back", back.len());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), &*said), (Some(0), CONNECTED));
}

#[test]
fn a_service_that_ends_first_ends_the_relay_whose_input_is_still_open() {
    let (serving, port) = service(|mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    });
    let mut child = relay(port);
    let stdin = child.stdin.take();
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), &*said), (Some(0), "bye"));
    drop(stdin);
    serving.join().unwrap();
}

#[test]
fn a_service_that_is_not_there_is_told_on_stderr() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let ended = relay(port).wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), &*ended.stdout), (Some(2), &b""[..]));
    assert!(said.contains("refused"), "{said}");
    let wrong = Command::new(env!("CARGO_BIN_EXE_pika-cloud-lifecycle"))
        .args([COMMAND, "--port", "65536"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--port"));
}
