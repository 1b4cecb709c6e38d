//! Merging, the group that belongs together, and what an agent keeps.

use std::collections::BTreeMap;

use pika_managed_agent_contract::{
    AgentProvisionRequest, Authority, IncusGuestRole, IncusProvisionParams, OperatorParams,
    ParamsError, RequestError, materialize,
};

const GROUP: [(&str, &str); 6] = [
    ("ENDPOINT", "https://incus:8443"),
    ("PROJECT", "agents"),
    ("PROFILE", "agent"),
    ("STORAGE_POOL", "fast"),
    ("OPENCLAW_GUEST_IPV4_CIDR", "10.77.0.0/24"),
    ("OPENCLAW_PROXY_HOST", "proxy.example"),
];

fn environment(set: &[(&str, &str)]) -> Result<OperatorParams, ParamsError> {
    let set: BTreeMap<String, String> = set
        .iter()
        .map(|(name, value)| (format!("PIKA_AGENT_INCUS_{name}"), (*value).to_owned()))
        .collect();
    OperatorParams::from_environment(|name| set.get(name).cloned())
}

fn merged(set: &[(&str, &str)]) -> Result<OperatorParams, ParamsError> {
    OperatorParams::merge(environment(set)?, OperatorParams::default())
}

fn request(incus: IncusProvisionParams) -> AgentProvisionRequest {
    AgentProvisionRequest {
        incus: Some(incus),
        ..Default::default()
    }
}

#[test]
fn every_variable_is_read() {
    let mut set = GROUP.to_vec();
    set.extend([
        ("GUEST_ROLE", "managed-openclaw"),
        ("IMAGE_ALIAS", "own/image"),
        ("INSECURE_TLS", "true"),
        ("CLIENT_CERT_PATH", "/c"),
        ("CLIENT_KEY_PATH", "/k"),
        ("SERVER_CERT_PATH", "/s"),
    ]);
    let read = serde_json::to_value(merged(&set).unwrap()).unwrap();
    let expected = serde_json::json!({
        "incus": {
            "guest_role": "managed-openclaw", "endpoint": "https://incus:8443",
            "project": "agents", "profile": "agent", "storage_pool": "fast",
            "image_alias": "own/image", "insecure_tls": true,
            "openclaw_guest_ipv4_cidr": "10.77.0.0/24", "openclaw_proxy_host": "proxy.example",
        },
        "client_cert_path": "/c", "client_key_path": "/k", "server_cert_path": "/s",
    });
    assert_eq!(read, expected);
}

#[test]
fn the_group_is_given_whole_or_not_at_all() {
    assert!(merged(&[]).is_ok());
    assert!(merged(&GROUP).is_ok());
    for left_out in 0..GROUP.len() {
        let mut some = GROUP.to_vec();
        let (name, _) = some.remove(left_out);
        let missing = name.to_lowercase();
        let Err(ParamsError::Invalid(RequestError::IncompleteGroup { missing: told })) =
            merged(&some)
        else {
            panic!("{name} is missing and nobody says so");
        };
        assert_eq!(told, [missing.as_str()]);
    }
}

#[test]
fn what_the_environment_says_wrongly_says_what_to_set() {
    let role = merged(&[("GUEST_ROLE", "agent")]).unwrap_err();
    assert!(role.to_string().contains("PIKA_AGENT_INCUS_GUEST_ROLE"));
    let switch = merged(&[("INSECURE_TLS", "maybe")]).unwrap_err();
    assert!(switch.to_string().contains("PIKA_AGENT_INCUS_INSECURE_TLS"));
    let unmanaged = merged(&[("GUEST_ROLE", "pi-sandbox")]).unwrap_err();
    assert!(matches!(
        unmanaged,
        ParamsError::Invalid(RequestError::RoleNotManaged { .. })
    ));
    let half = merged(&[("CLIENT_CERT_PATH", "/c")]).unwrap_err();
    assert_eq!(
        half,
        ParamsError::HalfAKeyPair {
            missing: "client_key_path"
        }
    );
    assert_eq!(
        merged(&[("PROJECT", "  ")]).unwrap(),
        OperatorParams::default()
    );
}

#[test]
fn the_request_wins_over_the_file_and_the_file_over_the_environment() {
    let alias = |alias: &str| IncusProvisionParams {
        image_alias: Some(alias.to_owned()),
        ..Default::default()
    };
    let env = environment(&[("IMAGE_ALIAS", "env/x"), ("INSECURE_TLS", "1")]).unwrap();
    let file = OperatorParams {
        incus: alias("file/x"),
        ..Default::default()
    };
    let operator = OperatorParams::merge(env, file).unwrap();
    let made = |request| {
        materialize(&operator, &request, Authority::Operator)
            .unwrap()
            .incus
    };
    let silent = made(AgentProvisionRequest::default());
    assert_eq!(silent.image_alias.as_deref(), Some("file/x"));
    assert_eq!(silent.insecure_tls, Some(true));
    assert_eq!(
        made(request(alias("asked/x"))).image_alias.as_deref(),
        Some("asked/x")
    );
}

#[test]
fn the_role_is_kept_only_with_its_own_image() {
    let operator = OperatorParams::default();
    let default = AgentProvisionRequest::default();
    let made = materialize(&operator, &default, Authority::Tenant).unwrap();
    assert_eq!(made.incus.guest_role, Some(IncusGuestRole::ManagedOpenclaw));
    assert_eq!(made.incus.image_alias.as_deref(), Some("pika-agent/dev"));
    let custom = request(IncusProvisionParams {
        guest_role: Some(IncusGuestRole::ManagedOpenclaw),
        image_alias: Some("own/image".to_owned()),
        ..Default::default()
    });
    let made = materialize(&operator, &custom, Authority::Operator).unwrap();
    assert_eq!(made.incus.guest_role, None);
    assert!(made.differences(&custom).is_empty());
}

#[test]
fn a_request_that_breaks_the_group_is_refused() {
    let project = IncusProvisionParams {
        project: Some("p".to_owned()),
        ..Default::default()
    };
    let made = materialize(
        &OperatorParams::default(),
        &request(project),
        Authority::Operator,
    );
    assert!(matches!(made, Err(RequestError::IncompleteGroup { missing }) if missing.len() == 5));
}

#[test]
fn only_what_is_asked_for_can_differ() {
    let operator = merged(&GROUP).unwrap();
    let default = AgentProvisionRequest::default();
    let kept = materialize(&operator, &default, Authority::Tenant).unwrap();
    assert!(kept.differences(&default).is_empty());
    let same = AgentProvisionRequest {
        incus: Some(kept.incus.clone()),
        resources: Some(kept.resources.clone()),
        labels: Some(kept.labels.clone()),
    };
    assert!(kept.differences(&same).is_empty());
    let mut other = same;
    other.incus.as_mut().unwrap().project = Some("other".to_owned());
    other.resources.as_mut().unwrap().memory_mib = Some(1);
    assert_eq!(kept.differences(&other), ["project", "resources"]);
}
