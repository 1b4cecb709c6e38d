//! Signed requests over the API: whose they are, that each counts once, and for what it was signed alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k256::schnorr::SigningKey;
use pika_server::Clock;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Api, Running, Stage};

const OUTSIDE: &str = "https://agents.example";

struct Signer(SigningKey);

impl Signer {
    fn new(byte: u8) -> Signer {
        Signer(SigningKey::from_slice(&[byte; 32]).unwrap())
    }

    fn owner(&self) -> String {
        format!("nostr:{}", hex::encode(self.0.verifying_key().to_bytes()))
    }

    fn header(&self, method: &str, path: &str, body: &str) -> String {
        let pubkey = hex::encode(self.0.verifying_key().to_bytes());
        let created_at = Clock::system().now() / 1000;
        let mut tags = vec![
            json!(["u", format!("{OUTSIDE}{path}")]),
            json!(["method", method]),
        ];
        if !body.is_empty() {
            tags.push(json!(["payload", hex::encode(Sha256::digest(body))]));
        }
        let said = json!([0, pubkey, created_at, 27_235, tags, ""]).to_string();
        let id: [u8; 32] = Sha256::digest(said).into();
        let sig = self.0.sign_raw(&id, &[0; 32]).unwrap();
        let event = json!({
            "id": hex::encode(id), "pubkey": pubkey, "created_at": created_at, "kind": 27_235, "tags": tags,
            "content": "", "sig": hex::encode(sig.to_bytes()),
        });
        format!("Nostr {}", STANDARD.encode(event.to_string()))
    }
}

async fn send(
    api: &Api,
    method: Method,
    path: &str,
    header: &str,
    body: &str,
) -> (StatusCode, Value) {
    let request = api
        .request(method, path)
        .header("authorization", header)
        .body(body.to_owned());
    api.send(request).await
}

async fn start(stage: &Stage) -> (Running, Api) {
    let mut config = stage.config();
    config.external_url = Some(OUTSIDE.to_owned());
    let running = Running::start(config).await;
    let nobody = Api::new(&running.server, "");
    (running, nobody)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_on_the_allow_list_becomes_an_owner_at_its_first_request() {
    let stage = Stage::new().await;
    let (running, nobody) = start(&stage).await;
    let signer = Signer::new(7);
    let path = "/v1/owner";
    let header = signer.header("GET", path, "");
    let (status, answer) = send(&nobody, Method::GET, path, &header, "").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    assert_eq!(answer["error"], "not_whitelisted");
    assert_eq!(
        running.server.store().owner(&signer.owner()).await.unwrap(),
        None
    );

    let allow = format!("/v1/allow-list/{}", signer.owner());
    let request = running.operator.request(Method::PUT, &allow);
    let (status, answer) = running.operator.send(request).await;
    assert_eq!(status, StatusCode::OK, "{answer}");

    let header = signer.header("GET", path, "");
    let (status, answer) = send(&nobody, Method::GET, path, &header, "").await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["owner_id"], signer.owner());
    let (status, answer) = send(&nobody, Method::GET, path, &header, "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
    assert_eq!(answer["message"], "the event was taken before");

    let path = "/v1/tokens";
    let body = json!({ "scope": "read" }).to_string();
    let header = signer.header("POST", path, &body);
    let other = json!({ "scope": "write" }).to_string();
    let (status, answer) = send(&nobody, Method::POST, path, &header, &other).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
    let (status, answer) = send(&nobody, Method::POST, path, &header, &body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");

    let header = signer.header("GET", "/v1/strays", "");
    let (status, answer) = send(&nobody, Method::GET, "/v1/strays", &header, "").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_know_its_url_takes_no_signed_request() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let nobody = Api::new(&running.server, "");
    let header = Signer::new(7).header("GET", "/v1/owner", "");
    let (status, answer) = send(&nobody, Method::GET, "/v1/owner", &header, "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
    assert_eq!(answer["hint"], "the operator sets server.external_url");
    running.server.shut_down().await;
}
