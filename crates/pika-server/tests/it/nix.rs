//! The NixOS module, evaluated with Debian's nix and without nixpkgs: what the server gets, and what is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pika_server::Config;
use serde_json::Value;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `nix/tests/server.nix` as a value.
fn evaluated() -> Value {
    let output = Command::new("nix-instantiate")
        // No store is needed, so none is made.
        .args(["--store", "dummy://", "--eval", "--strict", "--json"])
        .arg(checkout().join("nix/tests/server.nix"))
        .env("NIX_PATH", "")
        .output()
        .expect("nix-instantiate runs: install it with `apt-get install nix-bin`");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    serde_json::from_slice(&output.stdout).expect("nix was asked for JSON")
}

fn refused(case: &Value) -> Vec<&str> {
    let messages = case["refused"].as_array().unwrap();
    messages.iter().map(|text| text.as_str().unwrap()).collect()
}

/// The server's configuration under the environment of a case.
fn settle(case: &Value) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "").unwrap();
    let lookup = |name: &str| case["environment"][name].as_str().map(str::to_owned);
    Config::load(Some(&file), lookup).unwrap()
}

#[test]
fn a_role_gives_the_image_and_an_alias_is_optional() {
    let all = evaluated();
    let variables = |case: &str| {
        let set = all[case]["environment"].as_object().unwrap();
        set.keys().map(String::as_str).collect::<Vec<_>>()
    };
    assert_eq!(variables("plain"), ["PIKA_SERVER_CONFIG"]);
    let of_role = ["PIKA_AGENT_INCUS_GUEST_ROLE", "PIKA_SERVER_CONFIG"];
    assert_eq!(variables("role"), of_role);
    assert_eq!(variables("host"), of_role);
    let of_alias = ["PIKA_AGENT_INCUS_IMAGE_ALIAS", "PIKA_SERVER_CONFIG"];
    assert_eq!(variables("alias"), of_alias);

    let role = settle(&all["role"]).agents.incus.guest_role.unwrap();
    assert_eq!(role.to_string(), "managed-openclaw");
    let alias = settle(&all["alias"]).agents.incus.image_alias;
    assert_eq!(alias.as_deref(), Some("own/image"));
}

#[test]
fn the_server_understands_every_variable_of_the_module() {
    let all = evaluated();
    let agents = settle(&all["whole"]).agents;
    assert_eq!(
        agents.incus.endpoint.as_deref(),
        Some("https://incus.example:8443")
    );
    assert_eq!(agents.incus.project.as_deref(), Some("agents"));
    assert_eq!(agents.incus.profile.as_deref(), Some("agents"));
    assert_eq!(agents.incus.storage_pool.as_deref(), Some("default"));
    assert_eq!(
        agents.incus.openclaw_guest_ipv4_cidr.as_deref(),
        Some("10.1.0.0/16")
    );
    assert_eq!(
        agents.incus.openclaw_proxy_host.as_deref(),
        Some("proxy.example")
    );
    let credentials = "/run/credentials/pika-server.service";
    let certificate = format!("{credentials}/incus-client.crt");
    let key = format!("{credentials}/incus-client.key");
    assert_eq!(agents.client_cert_path, Some(certificate));
    assert_eq!(agents.client_key_path, Some(key));
    let service = &all["whole"]["serviceConfig"];
    let loaded = serde_json::json!([
        "incus-client.crt:/run/secrets/client.crt",
        "incus-client.key:/run/secrets/client.key"
    ]);
    assert_eq!(service["LoadCredential"], loaded);
    assert_eq!(service["EnvironmentFile"], "/run/secrets/pika-server.env");
}

#[test]
fn half_a_configuration_and_secrets_in_the_store_are_refused() {
    let all = evaluated();
    for fine in ["plain", "role", "alias", "whole", "host"] {
        assert_eq!(refused(&all[fine]), Vec::<&str>::new(), "{fine}");
    }
    for (case, why) in [
        ("half", "a remote Incus needs incusEndpoint"),
        ("inStore", "a secret in the Nix store"),
        ("halfAKeyPair", "incusClientCertFile and incusClientKeyFile"),
    ] {
        let said = refused(&all[case]);
        assert!(said.len() == 1 && said[0].contains(why), "{case}: {said:?}");
    }
}

#[test]
fn the_settings_of_the_example_host_are_a_configuration() {
    let all = evaluated();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    let text = toml::to_string(&all["hostSettings"]).unwrap();
    std::fs::write(&file, text).unwrap();
    let config = Config::load(Some(&file), |_| None).unwrap();
    assert_eq!(
        config.external_url.as_deref(),
        Some("https://agents.example")
    );
    assert!(config.snapshots.is_some());
}

/// What Debian's unit says of the service, apart from where things are.
fn unit() -> BTreeMap<String, Value> {
    let path = checkout().join("packaging/systemd/pika-server.service");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, service) = text.split_once("[Service]").unwrap();
    let (service, _) = service.split_once("[Install]").unwrap();
    let mut words: BTreeMap<String, Value> = BTreeMap::new();
    for line in service.lines().filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = Value::from(value);
        let value = match words.remove(key) {
            None => value,
            Some(Value::Array(mut all)) => {
                all.push(value);
                Value::Array(all)
            }
            Some(first) => Value::Array(vec![first, value]),
        };
        words.insert(key.to_owned(), value);
    }
    words.retain(|key, _| !["ExecStart", "Environment", "EnvironmentFile"].contains(&key.as_str()));
    words
}

#[test]
fn the_service_is_the_same_on_both_systems() {
    let all = evaluated();
    let service = all["plain"]["serviceConfig"].as_object().unwrap();
    let mut nix: BTreeMap<String, Value> = service.clone().into_iter().collect();
    assert_eq!(nix.remove("ExecStart").unwrap(), "/pika/bin/pika-server");
    assert_eq!(nix.remove("LoadCredential").unwrap(), serde_json::json!([]));
    assert_eq!(nix, unit());
}
