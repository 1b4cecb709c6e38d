//! `pika agent` over `https`: a server behind a proxy that ends TLS, with a certificate of a private authority.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::agent::Stage;
use crate::authority::Authority;
use crate::shell::Shell;

/// A proxy in front of the stage's server, which runs until the test ends.
async fn in_front(stage: &Stage, acceptor: TlsAcceptor) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server: SocketAddr = stage.server.address();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Whoever breaks a connection off is looked at by the test itself.
                let mut outside = acceptor.accept(stream).await.ok()?;
                let mut inside = TcpStream::connect(server).await.ok()?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside)
                    .await
                    .ok()
            });
        }
    });
    format!("https://127.0.0.1:{port}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_authority_is_named_by_a_flag_over_the_environment_over_the_file() {
    let stage = Stage::new().await;
    stage.fake.on_exec(&["say"], |call| {
        Box::pin(async move {
            call.stdout("said\n").await;
            Some(7)
        })
    });
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let address = in_front(&stage, ours.server(&["127.0.0.1"])).await;
    let dir = stage.folder.path();
    std::fs::write(dir.join("ours.pem"), ours.pem()).unwrap();
    std::fs::write(dir.join("other.pem"), other.pem()).unwrap();
    std::fs::write(dir.join("c.toml"), "[agent]\nca_file = \"ours.pem\"\n").unwrap();
    let bare = || {
        Shell::new(dir)
            .with("PIKA_SERVER", &address)
            .with("PIKA_TOKEN", &stage.token)
    };
    let code = |shell: &Shell<'_>, arguments: &[&str]| {
        shell.pika(&[&["agent", "list"], arguments].concat()).code
    };
    assert_eq!(code(&bare(), &["--ca-file", "ours.pem"]), 0);
    let file = bare().with("PIKA_CONFIG", "c.toml");
    assert_eq!(code(&file, &[]), 0);
    assert_eq!(code(&file, &["--ca-file", "other.pem"]), 3);
    let environment = bare()
        .with("PIKA_CONFIG", "c.toml")
        .with("PIKA_CA_FILE", "other.pem");
    assert_eq!(code(&environment, &[]), 3);
    assert_eq!(code(&environment, &["--ca-file", "ours.pem"]), 0);

    // All of it goes that way, a command in a guest too.
    let made = file.pika(&["agent", "ensure"]);
    assert_eq!(
        (made.code, made.stderr.as_str()),
        (0, ""),
        "{}",
        made.stdout
    );
    let said = file.pika(&["agent", "exec", "me", "--", "say"]);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (7, "said\n"),
        "{}",
        said.stderr
    );
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_trusted_is_told_with_what_to_do() {
    let stage = Stage::new().await;
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let dir = stage.folder.path();
    std::fs::write(dir.join("ours.pem"), ours.pem()).unwrap();
    std::fs::write(dir.join("other.pem"), other.pem()).unwrap();
    std::fs::write(dir.join("empty.pem"), "").unwrap();
    // This host's authorities, for a test that depends on no host.
    let shell = Shell::new(dir)
        .with("PIKA_TOKEN", &stage.token)
        .with("SSL_CERT_FILE", dir.join("other.pem").display().to_string());
    let told = |address: &str, arguments: &[&str]| {
        let ended = shell.pika(&[&["agent", "list", "--server", address], arguments].concat());
        assert!(!ended.all().contains(&stage.token));
        let port = address.rsplit(':').next().unwrap();
        ended.all().replace(port, "PORT")
    };
    let good = in_front(&stage, ours.server(&["127.0.0.1"])).await;
    let elsewhere = in_front(&stage, ours.server(&["agents.example.org"])).await;
    let ended = in_front(&stage, ours.server_until(&["127.0.0.1"], 2001)).await;
    let plain = stage.address().replace("http://", "https://");
    let texts = [
        told(&good, &[]),
        told(&elsewhere, &["--ca-file", "ours.pem"]),
        told(&plain, &["--ca-file", "ours.pem"]),
        told(&good, &["--ca-file", "empty.pem"]),
        told(&good, &["--ca-file", "absent.pem"]),
        told(&good.replace("https://", "http://"), &[]),
    ];
    insta::assert_snapshot!(texts.join("\n"));
    // The time is in this one.
    let late = told(&ended, &["--ca-file", "ours.pem"]);
    assert!(
        late.starts_with("[exit 3]\n--- stdout\n--- stderr\n"),
        "{late}"
    );
    assert!(late.contains("check this host's clock"), "{late}");
    stage.server.shut_down().await;
}

#[test]
fn a_token_in_the_clear_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pika"))
        .args(["agent", "list", "--server", "http://[fd00::1]:8787"])
        .env_clear()
        .env("HOME", dir.path())
        .env("PIKA_TOKEN", "secret-token")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    // Whether somebody is there doesn't matter.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        line.starts_with("warning: the token goes to http://[fd00::1]:8787 in the clear"),
        "{line}"
    );
    assert!(!line.contains("secret-token"));
}
