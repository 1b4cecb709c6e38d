//! The words, statuses and bodies that applications know.

use pika_managed_agent_contract::{AgentState, ErrorBody, ErrorCode, KnownAgentBody, StartupPhase};
use serde_json::json;

#[test]
fn states_and_phases_have_these_words() {
    let states = AgentState::ALL.map(AgentState::as_str);
    assert_eq!(
        states,
        ["creating", "ready", "error", "stopped", "deleting"]
    );
    let phases = StartupPhase::ALL.map(StartupPhase::as_str);
    let expected = [
        "requested",
        "provisioning_vm",
        "booting_guest",
        "waiting_for_service_ready",
        "waiting_for_keypackage_publish",
        "ready",
        "failed",
    ];
    assert_eq!(phases, expected);
    for state in AgentState::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), json!(state.as_str()));
    }
    for phase in StartupPhase::ALL {
        assert_eq!(serde_json::to_value(phase).unwrap(), json!(phase.as_str()));
    }
}

#[test]
fn every_error_has_its_word_and_status() {
    let expected = [
        ("unauthorized", 401),
        ("not_whitelisted", 403),
        ("forbidden", 403),
        ("invalid_request", 400),
        ("agent_exists", 409),
        ("agent_not_found", 404),
        ("recover_failed", 503),
        ("quota_exceeded", 429),
        ("not_found", 404),
        ("conflict", 409),
        ("payload_too_large", 413),
        ("rate_limited", 429),
        ("unavailable", 503),
        ("bad_gateway", 502),
        ("internal", 500),
    ];
    for (code, (word, status)) in ErrorCode::ALL.into_iter().zip(expected) {
        assert_eq!(serde_json::to_value(code).unwrap(), json!(word));
        assert_eq!(code.as_str(), word);
        assert_eq!(code.status(), status);
    }
}

#[test]
fn bodies_have_the_known_fields() {
    let body = KnownAgentBody {
        agent_id: "a".to_owned(),
        vm_id: None,
        state: AgentState::Creating,
        startup_phase: StartupPhase::Requested,
    };
    let expected = json!({"agent_id": "a", "state": "creating", "startup_phase": "requested"});
    assert_eq!(serde_json::to_value(&body).unwrap(), expected);
    let mut newer = expected;
    newer["vm_id"] = json!("pika-agent-1");
    newer["of_tomorrow"] = json!(1);
    let read: KnownAgentBody = serde_json::from_value(newer).unwrap();
    assert_eq!(read.vm_id.as_deref(), Some("pika-agent-1"));
    let error = ErrorBody {
        error: ErrorCode::AgentNotFound,
        request_id: "r".to_owned(),
        message: "m".to_owned(),
        hint: None,
    };
    let expected = json!({"error": "agent_not_found", "request_id": "r", "message": "m"});
    assert_eq!(serde_json::to_value(error).unwrap(), expected);
}
