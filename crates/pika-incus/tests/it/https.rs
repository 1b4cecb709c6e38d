//! HTTPS with a client certificate and a pinned server certificate, against a real daemon and against impostors.

use std::sync::Arc;

use pika_incus::types::CertificateRequest;
use pika_incus::{
    CaptureLimits, Client, ConnectProblem, ErrorKind, EventKind, ExecRequest, Filter, HttpsConfig,
    ServerTrust, TrustToken,
};
use pikahut::stack::TestIncus;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio_rustls::rustls;

use crate::conformance::events::action_on;
use crate::support::{self, LIMIT, Subject};

fn identity() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(vec!["client".to_owned()]).expect("a certificate")
}

fn client_of(url: &str, identity: &CertifiedKey<KeyPair>, server: ServerTrust) -> Client {
    Client::https(HttpsConfig {
        url: url.to_owned(),
        client_cert_pem: identity.cert.pem(),
        client_key_pem: identity.signing_key.serialize_pem(),
        server,
    })
    .expect("a usable configuration")
}

/// A port that is free a moment before it is used.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[tokio::test]
async fn a_pinned_server_and_a_trusted_client_do_everything() {
    let s = support::on(TestIncus::private("https").await).await;
    let port = free_port();
    s.client
        .patch_server_config(&json!({ "core.https_address": format!("127.0.0.1:{port}") }))
        .await
        .expect("listen");
    let facts = s.client.server().await.expect("server").environment;
    let (url, me) = (format!("https://127.0.0.1:{port}"), identity());
    let remote = client_of(&url, &me, ServerTrust::Pinned(facts.certificate.clone()));

    // Not trusted yet: an answer with little in it, and nothing else.
    let server = remote.server().await.expect("the handshake works");
    assert!(!server.is_trusted() && server.environment.server_version.is_empty());
    let error = remote
        .instances(&Filter::all())
        .await
        .expect_err("not trusted");
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.connect_problem().is_none());

    // Trust by token, on a connection that knows the server by the token's fingerprint.
    let token = TrustToken::parse(
        s.client
            .create_trust_token("me")
            .await
            .expect("token")
            .expose(),
    )
    .expect("a token");
    assert_eq!(token.fingerprint, facts.certificate_fingerprint);
    assert!(
        !format!("{token:?}").contains(&token.expose()[..20]),
        "a token isn't printed"
    );
    let first = client_of(
        &url,
        &me,
        ServerTrust::Fingerprint(token.fingerprint.clone()),
    );
    first
        .add_certificate(&CertificateRequest::with_token("me", &token))
        .await
        .expect("the token is taken");
    assert!(remote.server().await.expect("server").is_trusted());

    requests_websockets_and_streams_work(&s, &remote).await;

    // Trust taken back.
    let mine = remote
        .certificates()
        .await
        .expect("list")
        .into_iter()
        .find(|one| one.name == "me")
        .expect("mine");
    s.client
        .delete_certificate(&mine.fingerprint)
        .await
        .expect("delete");
    let error = remote
        .instances(&Filter::all())
        .await
        .expect_err("no longer trusted");
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");

    // The other way to be trusted: a trusted caller adds the certificate.
    s.client
        .add_certificate(&CertificateRequest::add("me", me.cert.der()))
        .await
        .expect("add");
    assert!(remote.server().await.expect("server").is_trusted());

    a_wrong_certificate_is_refused(&url, &me, &facts.certificate_fingerprint).await;
    s.finish().await;
}

async fn requests_websockets_and_streams_work(s: &Subject, remote: &Client) {
    let mut events = remote
        .events(&[EventKind::Lifecycle])
        .await
        .expect("events");
    let name = s.instance("a", true).await;
    assert_eq!(
        action_on(&mut events, &format!("/1.0/instances/{name}")).await,
        "instance-created"
    );
    let script = "head -c 20000000 /dev/zero; echo end >&2; exit 5";
    let limits = CaptureLimits {
        stdout_max: 30_000_000,
        stderr_max: 100,
    };
    let output = remote
        .exec_capture(
            &name,
            &ExecRequest::new(["sh", "-c", script]),
            limits,
            LIMIT,
        )
        .await;
    let output = output.expect("exec over TLS");
    assert_eq!(
        (
            output.exit_code,
            output.stdout.len(),
            output.stderr.as_slice()
        ),
        (5, 20_000_000, &b"end\n"[..])
    );
    remote
        .file_put(
            &name,
            "/tmp/f",
            vec![7; 1_000_000],
            &pika_incus::FileMeta::root(0o600),
        )
        .await
        .expect("put");
    assert_eq!(
        remote
            .file_read(&name, "/tmp/f", 2_000_000)
            .await
            .expect("read"),
        vec![7; 1_000_000]
    );
    s.remove_instance(&name).await;
}

/// Clients that expect another certificate than the server's send nothing.
async fn a_wrong_certificate_is_refused(url: &str, me: &CertifiedKey<KeyPair>, fingerprint: &str) {
    // Another certificate than the pinned one.
    let wrong = client_of(url, me, ServerTrust::Pinned(identity().cert.pem()));
    let error = wrong.server().await.expect_err("another server");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(!error.outcome_unknown(), "nothing was sent");
    let Some(ConnectProblem::WrongCertificate { presented, .. }) = error.connect_problem() else {
        panic!("a wrong certificate was expected: {error:?}");
    };
    assert_eq!(presented, fingerprint);
    // Nor is a self-signed one good enough for those who trust authorities.
    let strict = client_of(url, me, ServerTrust::Authorities(identity().cert.pem()));
    let error = strict.server().await.expect_err("no authority vouches");
    assert!(
        matches!(error.connect_problem(), Some(ConnectProblem::Tls { .. })),
        "{error:?}"
    );
}

/// Shows a certificate whose key it doesn't have.
#[derive(Debug)]
struct Impostor(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Impostor {
    fn resolve(
        &self,
        _hello: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A TLS server that shows `shown`'s certificate and signs with `key`'s key; gives its URL.
async fn tls_server(shown: &CertifiedKey<KeyPair>, key: &CertifiedKey<KeyPair>) -> String {
    let provider = rustls::crypto::ring::default_provider();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let signing = rustls::crypto::ring::sign::any_supported_type(&der).expect("a usable key");
    let certified = rustls::sign::CertifiedKey::new(vec![shown.cert.der().clone()], signing);
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Impostor(Arc::new(certified))));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!(
        "https://127.0.0.1:{}",
        listener.local_addr().expect("an address").port()
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The handshake is what counts; nobody answers after it.
            drop(acceptor.accept(stream).await);
        }
    });
    url
}

#[tokio::test]
async fn the_pinned_certificate_without_its_key_is_refused() {
    let (server, other) = (identity(), identity());
    let pin = || ServerTrust::Pinned(server.cert.pem());
    let honest = client_of(&tls_server(&server, &server).await, &other, pin());
    let error = honest.server().await.expect_err("it answers nothing");
    assert!(
        error.connect_problem().is_none(),
        "the handshake itself is fine: {error:?}"
    );
    assert!(error.outcome_unknown());
    let impostor = client_of(&tls_server(&server, &other).await, &other, pin());
    let error = impostor.server().await.expect_err("the signature is wrong");
    assert!(
        matches!(error.connect_problem(), Some(ConnectProblem::Tls { .. })),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_unreachable() {
    let me = identity();
    let client = client_of(
        &format!("https://127.0.0.1:{}", free_port()),
        &me,
        ServerTrust::Pinned(me.cert.pem()),
    );
    let error = client.server().await.expect_err("nobody listens");
    assert!(
        matches!(
            error.connect_problem(),
            Some(ConnectProblem::Refused { .. })
        ),
        "{error:?}"
    );
}

#[test]
fn unusable_settings_are_refused_before_anything_is_sent() {
    let me = identity();
    let good = HttpsConfig {
        url: "https://h".to_owned(),
        client_cert_pem: me.cert.pem(),
        client_key_pem: me.signing_key.serialize_pem(),
        server: ServerTrust::Pinned(me.cert.pem()),
    };
    assert!(Client::https(good.clone()).is_ok());
    assert!(
        !format!("{good:?}").contains("PRIVATE"),
        "a key isn't printed"
    );
    let cases = [
        HttpsConfig {
            url: "http://h".to_owned(),
            ..good.clone()
        },
        HttpsConfig {
            client_cert_pem: String::new(),
            ..good.clone()
        },
        HttpsConfig {
            client_key_pem: "-----BEGIN X-----".to_owned(),
            ..good.clone()
        },
        HttpsConfig {
            client_key_pem: identity().signing_key.serialize_pem(),
            ..good.clone()
        },
        HttpsConfig {
            server: ServerTrust::Pinned("x".to_owned()),
            ..good.clone()
        },
        HttpsConfig {
            server: ServerTrust::Fingerprint("abc".to_owned()),
            ..good.clone()
        },
        HttpsConfig {
            server: ServerTrust::Authorities(String::new()),
            ..good
        },
    ];
    for (at, case) in cases.into_iter().enumerate() {
        assert!(Client::https(case).is_err(), "case {at}");
    }
}
