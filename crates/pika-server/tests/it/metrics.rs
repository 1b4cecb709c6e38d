//! The figures: who may read them, and that they tell of what was done.

use std::net::SocketAddr;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Api, Stage};

fn text(answer: Value) -> String {
    answer.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_way_to_ready_is_timed_and_requests_are_counted_by_route() {
    let stage = Stage::new().await;
    let running = stage.server().await;
    let operator = &running.operator;
    let operation = operator.post_and_wait("/v1/agents", json!({})).await;
    assert_eq!(operation["state"], "succeeded", "{operation}");
    let (status, _) = operator.get("/v1/agents/agent-that-is-not-there").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let guesser = Api::new(&running.server, "a-guess");
    let (status, _) = guesser.get("/v1/agents").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, _) = guesser.get("/no/such/route-at-all").await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let (status, figures) = operator.get("/metrics").await;
    assert_eq!(status, StatusCode::OK, "{figures}");
    let figures = text(figures);
    for line in [
        "pika_agent_phase_seconds_count{phase=\"claimed\"} 1\n",
        "pika_agent_phase_seconds_count{phase=\"volume_ensured\"} 1\n",
        "pika_agent_phase_seconds_count{phase=\"instance_running\"} 1\n",
        "pika_agent_phase_seconds_count{phase=\"ready\"} 1\n",
        "pika_operation_seconds_count{kind=\"create\",end=\"succeeded\"} 1\n",
        "pika_operation_step_seconds_count{kind=\"create\",step=\"ensure_volume\",end=\"done\"} 1\n",
        "pika_http_request_seconds_count{route=\"/v1/agents/{agent_id}\",method=\"GET\",status=\"404\"} 1\n",
        "pika_http_request_seconds_count{route=\"none\",method=\"GET\",status=\"404\"} 1\n",
        "pika_auth_failures_total{by=\"bearer\"} 1\n",
    ] {
        assert!(figures.contains(line), "{line} is not in:\n{figures}");
    }
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/server.md");
    let reference = std::fs::read_to_string(reference).unwrap();
    let named: Vec<&str> = figures
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(
            reference.contains(&format!("`{name}`")),
            "{name} is not in docs/reference/server.md"
        );
    }
    assert!(!figures.contains("not-there") && !figures.contains("route-at-all"));
    running.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_an_operators_or_stand_at_an_address_of_their_own() {
    let stage = Stage::new().await;
    let mut config = stage.config();
    config.metrics_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let running = crate::support::Running::start(config).await;
    let tenant = running.tenant("tenant", "write").await;
    assert_eq!(tenant.get("/metrics").await.0, StatusCode::FORBIDDEN);
    let nobody = Api::new(&running.server, "");
    assert_eq!(nobody.get("/metrics").await.0, StatusCode::UNAUTHORIZED);

    let base = format!("http://{}", running.server.metrics_address().unwrap());
    let answer = reqwest::get(format!("{base}/metrics")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().contains("pika_build{"));
    let other = reqwest::get(format!("{base}/v1/agents")).await.unwrap();
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    running.server.shut_down().await;
}
