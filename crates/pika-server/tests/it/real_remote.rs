//! Agents on an Incus that is reached over HTTPS alone, as one of another host is.

use std::path::Path;
use std::time::Duration;

use pika_runtime::incus::{Client, FileMeta};
use pikahut::stack::TestIncus;
use rcgen::generate_simple_self_signed;
use reqwest::StatusCode;
use serde_json::json;

use pika_runtime::incus::types::CertificateRequest;
use pika_server::Config;

use crate::real::ask;
use crate::support::{Running, config_of_tiny};

/// On a machine where everything else runs too.
const LIMIT: Duration = Duration::from_secs(120);
/// Stands for a guest's relay and its gateway: takes a request and answers it.
const RELAY: &str = "#!/bin/bash\nprintf 'connected\\n' >&2\n\
    while read -r line && [ \"$line\" != $'\\r' ]; do :; done\n\
    printf 'HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: 11\\r\\n\\r\\n{\"ok\":true}'\n";

/// Has the daemon listen on a port of its own and trust a new client; the operator's configuration of that.
async fn over_https(client: &Client, config: &mut Config, folder: &Path) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let listens = json!({ "core.https_address": address });
    client.patch_server_config(&listens).await.unwrap();
    let me = generate_simple_self_signed(vec!["pika-server".to_owned()]).unwrap();
    let trusted = CertificateRequest::add("pika-server", me.cert.der());
    client.add_certificate(&trusted).await.unwrap();
    let server = client.server().await.unwrap().environment.certificate;
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().map(str::to_owned)
    };
    config.agents.client_cert_path = file("client.crt", &me.cert.pem());
    config.agents.client_key_path = file("client.key", &me.signing_key.serialize_pem());
    config.agents.server_cert_path = file("server.crt", &server);
    let incus = &mut config.agents.incus;
    incus.endpoint = Some(format!("https://{address}"));
    incus.project = Some("default".to_owned());
    incus.profile = Some("default".to_owned());
    incus.storage_pool = Some(config.incus.pool.clone());
    incus.openclaw_guest_ipv4_cidr = Some("10.77.0.0/24".parse().unwrap());
    incus.openclaw_proxy_host = Some("proxy.example".to_owned());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_another_host_is_made_entered_and_gone() {
    let incus = TestIncus::private("remote").await;
    let client = incus.client().clone();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config_of_tiny(&incus, folder.path(), LIMIT).await;
    over_https(&client, &mut config, folder.path()).await;
    // Nothing is left that could be reached without the network.
    config.incus.socket = folder.path().join("no.socket");
    let running = Running::start(config).await;
    let alice = running.tenant("alice", "write").await;
    let (status, asked) = alice.post("/v1/agents/ensure", json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{asked}");
    let agent = alice.agent_within("me", "ready", LIMIT).await;
    let vm = agent["vm_id"].as_str().unwrap();
    ask(&client, vm, "echo kept > /mnt/pika-state/note").await;

    let page = "/v1/agents/me/web/health";
    let (status, none) = alice.get(page).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{none}");
    let (path, meta) = ("/bin/pika-cloud-lifecycle", FileMeta::root(0o755));
    let pushed = client.file_put(vm, path, RELAY.as_bytes().to_vec(), &meta);
    pushed.await.unwrap();
    let (status, said) = alice.get(page).await;
    assert_eq!((status, said), (StatusCode::OK, json!({ "ok": true })));

    let (_, gone) = alice.delete("/v1/agents/me?purge=true").await;
    let id = gone["operation"]["operation_id"].as_str().unwrap();
    let ended = alice.operation_within(id, LIMIT).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    running.server.shut_down().await;
    incus.assert_nothing_left().await;
}
