//! Whom the client trusts: servers with a certificate of a private authority, and impostors.

use std::path::Path;

use pika_agent_client::{AgentClient, Authorities, ClientError, TlsProblem, Token};

use crate::authority::Authority;
use crate::scripted::{AGENT, Scripted, answer_of};

const HERE: &[&str] = &["127.0.0.1"];

/// The authorities in a file of these certificates.
fn trusted(folder: &Path, pem: &str) -> Authorities {
    let path = folder.join("ca.pem");
    std::fs::write(&path, pem).unwrap();
    Authorities::File(path)
}

/// A call to a server that can't be trusted: the problem, and the error's text with its cause.
async fn problem(server: &Scripted) -> (TlsProblem, String) {
    let error = server.client.agent("me").await.unwrap_err();
    let ClientError::Untrusted {
        problem, source, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    let text = format!("{error}; {source}");
    // It is final, and nothing was sent.
    assert_eq!(server.asked().len(), 0, "{text}");
    (*problem, text)
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let both = format!("a comment\n{}{}", other.pem(), ours.pem());
    let server = Scripted::start_tls(
        vec![answer_of("200 OK", AGENT)],
        ours.server(HERE),
        &trusted(folder.path(), &both),
    )
    .await;
    let agent = server.client.agent("me").await.unwrap();
    assert_eq!(agent.known.agent_id, "a1");
    let asked = server.asked();
    assert_eq!(
        asked[0].header("authorization"),
        Some("Bearer secret-token")
    );
}

#[tokio::test]
async fn a_server_of_another_authority_gets_nothing_and_is_not_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let trusted = trusted(folder.path(), &ours.pem());
    // The second one has the same name, as an authority that was made anew has.
    for impostor in [Authority::new("other"), Authority::new("ours")] {
        let server = Scripted::start_tls(Vec::new(), impostor.server(HERE), &trusted).await;
        let (problem, text) = problem(&server).await;
        assert_eq!(problem, TlsProblem::UnknownAuthority, "{text}");
        assert!(text.contains("is not trusted: no authority"), "{text}");
        assert!(server.refused() <= 1, "{}", server.refused());
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_or_time_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let trusted = trusted(folder.path(), &ours.pem());
    let other = ours.server(&["agents.example.org", "127.0.0.2"]);
    let server = Scripted::start_tls(Vec::new(), other, &trusted).await;
    let (other_name, text) = problem(&server).await;
    assert_eq!(other_name, TlsProblem::OtherName, "{text}");
    assert!(text.contains("agents.example.org"), "{text}");

    let ended = ours.server_until(HERE, 2001);
    let server = Scripted::start_tls(Vec::new(), ended, &trusted).await;
    let (not_now, text) = problem(&server).await;
    assert_eq!(not_now, TlsProblem::NotValidNow, "{text}");
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart_and_so_is_one_with_it_where_none_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let text = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            drop(tokio::io::AsyncWriteExt::write_all(&mut stream, text).await);
        }
    });
    let token = || Token::new("secret-token").unwrap();
    let trusted = trusted(folder.path(), &ours.pem());
    let client = AgentClient::trusting(&trusted, &format!("https://{address}"), token()).unwrap();
    let error = client.agent("me").await.unwrap_err();
    let is_protocol = |problem: &TlsProblem| *problem == TlsProblem::Protocol;
    assert!(
        matches!(&error, ClientError::Untrusted { problem, .. } if is_protocol(problem)),
        "{error:?}"
    );

    let secret = Scripted::start_tls(Vec::new(), ours.server(HERE), &trusted).await;
    let plain = secret.address().replace("https://", "http://");
    let client = AgentClient::new(&plain, token()).unwrap();
    let error = client.agent("me").await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
    assert!(error.to_string().contains("https"), "{error}");
}

#[test]
fn a_file_that_holds_no_authorities_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let good = Authority::new("ours").pem();
    let torn = good.replace("-----END CERTIFICATE-----", "");
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let half = format!("{good}{junk}");
    for text in ["", "no certificate\n", &torn, junk, &half] {
        let authorities = trusted(folder.path(), text);
        let token = Token::new("secret-token").unwrap();
        let made = AgentClient::trusting(&authorities, "https://127.0.0.1:1", token.clone());
        let error = made.unwrap_err();
        assert!(
            matches!(error, ClientError::AuthoritiesFile { .. }),
            "{text:?}: {error:?}"
        );
        // Nobody reads it where there is no TLS.
        AgentClient::trusting(&authorities, "http://127.0.0.1:1", token).unwrap();
    }
    let absent = Authorities::File(folder.path().join("absent"));
    let token = Token::new("secret-token").unwrap();
    let error = AgentClient::trusting(&absent, "https://127.0.0.1:1", token).unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}
