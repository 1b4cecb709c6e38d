//! What stands for a guest's gateway: a small web interface at an address of the fake's bridge.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing;
use futures_util::stream;
use pikahut::fake::DEFAULT_BRIDGE;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::Stage;

/// Where an OpenClaw gateway listens.
pub(super) const PORT: u16 = 18_789;
/// One part of an endless answer.
const PART: usize = 64 * 1024;

/// A gateway that runs until it is dropped.
pub(super) struct Guest {
    pub(super) address: IpAddr,
    pub(super) seen: Arc<Seen>,
    task: JoinHandle<()>,
}

/// What it was asked.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) requests: AtomicUsize,
    /// Of endless answers: parts that were taken off it.
    pub(super) parts: AtomicUsize,
}

impl Guest {
    /// One at an address of its own.
    pub(super) async fn start() -> Guest {
        let (listener, address) = listener().await;
        let seen = Arc::new(Seen::default());
        let router = Router::new()
            .route("/echo", routing::post(echo))
            .route("/endless", routing::get(endless))
            .route("/evil", routing::get(evil))
            .route("/login", routing::get(login))
            .route("/silent", routing::any(std::future::pending::<()>))
            .route("/ws", routing::get(websocket))
            .fallback(tell)
            .with_state(Arc::clone(&seen));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Guest {
            address,
            seen,
            task,
        }
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A listener at an address of the bridge that nobody else has.
pub(super) async fn listener() -> (TcpListener, IpAddr) {
    loop {
        let [a, b, ..] = *uuid::Uuid::new_v4().as_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(127, 77, a, b.clamp(2, 254)));
        let bound = TcpListener::bind(SocketAddr::new(address, PORT)).await;
        match bound {
            Ok(listener) => return (listener, address),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
        }
    }
}

/// Gives the fake's bridge the subnet that the guests' addresses are of.
pub(super) fn set_subnet(stage: &Stage) {
    let mut world = stage.fake.world();
    let networks = &mut world.default_project().networks;
    let config = &mut networks.get_mut(DEFAULT_BRIDGE).unwrap().config;
    config.insert("ipv4.address".to_owned(), "127.77.0.1/16".to_owned());
}

/// Has the one instance that there is ask its bridge for an address.
pub(super) fn lease(stage: &Stage, address: IpAddr) {
    let name = instance(stage);
    stage.fake.world().lease(&name, address);
}

pub(super) fn instance(stage: &Stage) -> String {
    let mut world = stage.fake.world();
    let mut names = world.default_project().instances.keys();
    let name = names.next().unwrap().clone();
    assert!(names.next().is_none());
    name
}

async fn tell(State(seen): State<Arc<Seen>>, request: Request) -> Response {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let headers: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    let told = json!({
        "method": request.method().as_str(), "uri": request.uri().to_string(), "headers": headers,
    });
    (StatusCode::IM_A_TEAPOT, axum::Json(told)).into_response()
}

async fn echo(body: Body) -> Body {
    body
}

async fn endless(State(seen): State<Arc<Seen>>) -> Body {
    let parts = stream::repeat_with(move || {
        seen.parts.fetch_add(1, Ordering::SeqCst);
        Ok::<_, Infallible>(Bytes::from_static(&[b'x'; PART]))
    });
    Body::from_stream(parts)
}

async fn login() -> impl axum::response::IntoResponse {
    (StatusCode::FOUND, [(header::LOCATION, "/home?a=b")])
}

/// What a guest does that wants to be taken for the server.
async fn evil() -> (HeaderMap, &'static str) {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("set-cookie", "pika_session=evil; Path=/"),
        ("set-cookie", "=pika_session=evil; Path=/"),
        (
            "set-cookie",
            "theme=dark; Path=/; Domain=127.0.0.1; HttpOnly",
        ),
        ("strict-transport-security", "max-age=1"),
        ("clear-site-data", "\"*\""),
        ("service-worker-allowed", "/"),
        ("access-control-allow-origin", "*"),
        ("x-accel-redirect", "/secret"),
        ("x-request-id", "evil"),
        ("cache-control", "public, max-age=60"),
        ("content-security-policy", "default-src *"),
        ("content-type", "text/html"),
        ("connection", "x-private"),
        ("x-private", "1"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    (headers, "<script>fetch('/v1/agents')</script>")
}

async fn websocket(headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    assert!(!headers.contains_key(header::AUTHORIZATION));
    assert!(!headers.contains_key(header::COOKIE));
    upgrade
        .protocols(["gateway"])
        .on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                // A close is answered by the next look.
                let closes = matches!(message, Message::Close(_));
                if !closes && socket.send(message).await.is_err() {
                    break;
                }
            }
        })
}
