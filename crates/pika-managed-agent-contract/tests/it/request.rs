//! What is taken, what is refused, and from whom.

use pika_managed_agent_contract::{
    AgentProvisionRequest, Authority, ErrorCode, IncusProvisionParams, REQUEST_BYTES_MAX,
    RequestError,
};
use proptest::prelude::*;
use serde_json::json;

const FIELDS: [&str; 8] = [
    "endpoint",
    "project",
    "profile",
    "storage_pool",
    "image_alias",
    "insecure_tls",
    "openclaw_guest_ipv4_cidr",
    "openclaw_proxy_host",
];

fn decode(value: serde_json::Value) -> Result<AgentProvisionRequest, RequestError> {
    AgentProvisionRequest::decode(value.to_string().as_bytes())
}

fn full() -> serde_json::Value {
    json!({
        "guest_role": "managed-openclaw", "endpoint": "https://incus:8443", "project": "agents",
        "profile": "agent", "storage_pool": "fast", "image_alias": "own/image",
        "insecure_tls": false, "openclaw_guest_ipv4_cidr": "10.77.0.0/24",
        "openclaw_proxy_host": "proxy.example",
    })
}

#[test]
fn a_body_is_optional_and_strict() {
    for body in ["", " \n", "{}"] {
        let read = AgentProvisionRequest::decode(body.as_bytes()).unwrap();
        assert_eq!(read, AgentProvisionRequest::default());
    }
    let all =
        decode(json!({"incus": full(), "resources": {"vcpu_count": 2}, "labels": {"a": "b"}}));
    assert_eq!(all.unwrap().check(Authority::Operator), Ok(()));
    let refused = [
        json!({"incuss": {}}),
        json!({"incus": {"target": "x"}}),
        json!({"resources": {"gpu": 1}}),
        json!({"resources": {"vcpu_count": 256}}),
        json!({"incus": {"guest_role": "root"}}),
        json!({"incus": {"insecure_tls": "yes"}}),
        json!({"labels": {"a": 1}}),
        json!([1]),
    ];
    for body in refused {
        let error = decode(body.clone()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest, "{body}");
    }
    let long = vec![b' '; REQUEST_BYTES_MAX + 1];
    let error = AgentProvisionRequest::decode(&long).unwrap_err();
    assert_eq!(
        error,
        RequestError::TooLong {
            bytes: REQUEST_BYTES_MAX + 1
        }
    );
}

#[test]
fn a_tenant_sets_role_sizes_and_labels_only() {
    let own = json!({
        "incus": {"guest_role": "managed-openclaw"}, "resources": {"memory_mib": 2048},
        "labels": {"team": "a"},
    });
    assert_eq!(decode(own).unwrap().check(Authority::Tenant), Ok(()));
    for field in FIELDS {
        let request = decode(json!({"incus": {field: full()[field]}})).unwrap();
        assert_eq!(request.check(Authority::Operator), Ok(()), "{field}");
        let error = request.check(Authority::Tenant).unwrap_err();
        assert_eq!(
            error,
            RequestError::OperatorOnly {
                fields: vec![field]
            }
        );
        assert_eq!(error.code(), ErrorCode::Forbidden);
    }
}

#[test]
fn each_rule_broken_alone_is_refused_and_named() {
    let refused = [
        (
            json!({"incus": {"guest_role": "pikaci-runner"}}),
            "guest_role",
        ),
        (json!({"incus": {"project": "a/b"}}), "incus.project"),
        (json!({"incus": {"profile": " "}}), "incus.profile"),
        (
            json!({"incus": {"storage_pool": ".."}}),
            "incus.storage_pool",
        ),
        (json!({"incus": {"image_alias": ""}}), "incus.image_alias"),
        (
            json!({"incus": {"endpoint": "http://incus:8443"}}),
            "endpoint",
        ),
        (
            json!({"incus": {"endpoint": "https://u@incus"}}),
            "endpoint",
        ),
        (
            json!({"incus": {"openclaw_guest_ipv4_cidr": "10.0.0.1/24"}}),
            "cidr",
        ),
        (
            json!({"incus": {"openclaw_guest_ipv4_cidr": "10.0.0.0/31"}}),
            "cidr",
        ),
        (
            json!({"incus": {"openclaw_guest_ipv4_cidr": "10.0.0.0/024"}}),
            "cidr",
        ),
        (
            json!({"incus": {"openclaw_guest_ipv4_cidr": "fd00::/64"}}),
            "cidr",
        ),
        (
            json!({"incus": {"openclaw_proxy_host": "a_b"}}),
            "proxy_host",
        ),
        (json!({"resources": {"vcpu_count": 0}}), "vcpu_count"),
        (json!({"labels": {"a b": "c"}}), "label"),
    ];
    for (body, named) in refused {
        let error = decode(body.clone())
            .unwrap()
            .check(Authority::Operator)
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidRequest, "{body}");
        assert!(error.to_string().contains(named), "{body}: {error}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = AgentProvisionRequest::decode(&body) {
            let written = serde_json::to_vec(&request).unwrap();
            prop_assert_eq!(AgentProvisionRequest::decode(&written).unwrap(), request);
        }
    }

    #[test]
    fn a_network_is_taken_with_its_own_bits_only(address in any::<u32>(), bits in 1u8..=30) {
        let check = |address: u32| {
            let cidr = format!("{}/{bits}", std::net::Ipv4Addr::from_bits(address));
            let openclaw_guest_ipv4_cidr = Some(cidr);
            IncusProvisionParams { openclaw_guest_ipv4_cidr, ..Default::default() }.check()
        };
        let network = address & !(u32::MAX >> bits);
        prop_assert_eq!(check(network), Ok(()));
        prop_assert!(check(network | 1).is_err());
    }
}

#[test]
fn an_array_is_never_taken_for_an_object() {
    for body in [
        "[]",
        "[null, null, null]",
        r#"{"resources": [1, 512]}"#,
        r#"{"incus": []}"#,
    ] {
        let read = AgentProvisionRequest::decode(body.as_bytes());
        assert!(
            matches!(read, Err(RequestError::Unreadable(why)) if why.contains("array")),
            "{body}"
        );
    }
}
