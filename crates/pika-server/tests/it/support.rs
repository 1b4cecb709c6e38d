//! What the tests share: a fake Incus with an agent's image, servers on it, and a client of their API.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pika_server::{Clock, Config, Server, StartOptions};
use pikahut::fake::FakeIncus;
use pikahut::stack::TestIncus;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Longest wait for something that the server does by itself.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A fake Incus and a folder for databases.
pub(crate) struct Stage {
    pub(crate) fake: FakeIncus,
    folder: tempfile::TempDir,
    pub(crate) database: String,
}

impl Stage {
    /// A fake whose guests are ready shortly after their start, and an SQLite database.
    pub(crate) async fn new() -> Stage {
        let fake = FakeIncus::start_for_agents(Duration::from_millis(20))
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite:{}", folder.path().join("pika.db").display());
        Stage {
            fake,
            folder,
            database,
        }
    }

    /// How many instances and volumes there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let world = self.fake.world();
        (world.instance_count(), world.volume_count())
    }

    /// A configuration with short times.
    pub(crate) fn config(&self) -> Config {
        config(self.fake.socket(), &self.database, self.folder.path())
    }

    /// The file that says the same.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.config();
        self.folder.path().join("server.toml")
    }

    /// Where databases are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A server with the usual configuration.
    pub(crate) async fn server(&self) -> Running {
        Running::start(self.config()).await
    }
}

pub(crate) fn config(socket: &Path, database: &str, folder: &Path) -> Config {
    let file = folder.join("server.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndatabase = {database:?}\nrequests_per_second = 100000\n\
         [incus]\nsocket = {socket:?}\nowner = \"test\"\n\
         [times]\nready_secs = 20\nreconcile_secs = 1\nlease_secs = 5\nrestart_rest_secs = 1\nstop_grace_secs = 1\n\
         recover_cool_down_secs = 0\nunreachable_secs = 1\n"
    );
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), |_| None).unwrap()
}

/// A configuration for agents of the tiny image on a real Incus.
pub(crate) async fn config_of_tiny(incus: &TestIncus, folder: &Path, ready: Duration) -> Config {
    let database = format!("sqlite:{}", folder.join("pika.db").display());
    let mut config = config(&incus.socket(), &database, folder);
    config.incus.owner = incus.owner().parse().unwrap();
    config.agents.incus.image_alias = Some(incus.tiny_agent_image().await);
    config.times.ready = ready;
    config.sizes.disk_gib = 8;
    config
}

/// A clock that can be set ahead, and by how many milliseconds it is.
pub(crate) fn clock_ahead() -> (Clock, Arc<AtomicI64>) {
    let ahead = Arc::new(AtomicI64::new(0));
    let source = Arc::clone(&ahead);
    let clock = Clock::from_source(move || Clock::system().now() + source.load(Ordering::Relaxed));
    (clock, ahead)
}

/// A server that runs in this process, and who talks to it.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) operator: Api,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Running {
        Running::start_with(config, StartOptions::default()).await
    }

    pub(crate) async fn start_with(config: Config, options: StartOptions) -> Running {
        let server = Server::start(config, options).await.unwrap();
        let token = match server.first_token() {
            Some(token) => token.reveal().to_owned(),
            // Another server made it: this one gets its own through the store.
            None => another_token(&server).await,
        };
        let operator = Api::new(&server, &token);
        Running { server, operator }
    }

    /// A tenant of this name with a token of this scope.
    pub(crate) async fn tenant(&self, name: &str, scope: &str) -> Api {
        let (status, _) = self
            .operator
            .post("/v1/owners", json!({ "owner_id": name }))
            .await;
        assert_eq!(status, StatusCode::CREATED);
        let path = format!("/v1/owners/{name}/tokens");
        let (status, made) = self.operator.post(&path, json!({ "scope": scope })).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        Api::new(&self.server, made["secret"].as_str().unwrap())
    }
}

async fn another_token(server: &Server) -> String {
    let secret = pika_server::Secret::token().unwrap();
    let token = pika_store::NewToken {
        id: format!("token-of-{}", server.address().port()),
        owner_id: pika_server::FIRST_OWNER.to_owned(),
        secret_hash: secret.hash(),
        scope: pika_managed_agent_contract::Scope::Operator,
        label: "another server's test".to_owned(),
        created_at: Clock::system().now(),
        expires_at: None,
    };
    server.store().add_token("test", &token).await.unwrap();
    secret.reveal().to_owned()
}

/// A client of one server with one token.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Api {
    pub(crate) fn new(server: &Server, token: &str) -> Api {
        Api::at(&format!("http://{}", server.address()), token)
    }

    /// A caller of the server at this address.
    pub(crate) fn at(base: &str, token: &str) -> Api {
        Api {
            http: reqwest::Client::new(),
            base: base.to_owned(),
            token: token.to_owned(),
        }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The same caller on another server.
    pub(crate) fn on(&self, server: &Server) -> Api {
        Api::new(server, &self.token)
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The header that says who calls.
    pub(crate) fn authorization(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, self.url(path));
        if self.token.is_empty() {
            return request;
        }
        request.bearer_auth(&self.token)
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> (StatusCode, Value) {
        let response = request.send().await.unwrap();
        let status = response.status();
        assert!(response.headers().contains_key("x-request-id"));
        let text = response.text().await.unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        )
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(self.request(Method::POST, path).json(&body))
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Posts, and waits until the operation that comes of it is over; gives that operation.
    pub(crate) async fn post_and_wait(&self, path: &str, body: Value) -> Value {
        let (status, view) = self.post(path, body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{path}: {view}");
        self.operation(view["operation"]["operation_id"].as_str().unwrap())
            .await
    }

    /// Waits until an operation is over.
    pub(crate) async fn operation(&self, id: &str) -> Value {
        self.operation_within(id, LIMIT).await
    }

    pub(crate) async fn operation_within(&self, id: &str, limit: Duration) -> Value {
        let until = Instant::now() + limit;
        loop {
            let (status, operation) = self.get(&format!("/v1/operations/{id}?wait=10")).await;
            assert_eq!(status, StatusCode::OK, "{operation}");
            if ["succeeded", "failed"].contains(&operation["state"].as_str().unwrap()) {
                return operation;
            }
            assert!(Instant::now() < until, "{operation}");
        }
    }

    /// Waits until an agent is in a state.
    pub(crate) async fn agent_in(&self, id: &str, state: &str) -> Value {
        self.agent_within(id, state, LIMIT).await
    }

    pub(crate) async fn agent_within(&self, id: &str, state: &str, limit: Duration) -> Value {
        let until = Instant::now() + limit;
        loop {
            let (status, agent) = self.get(&format!("/v1/agents/{id}")).await;
            assert_eq!(status, StatusCode::OK, "{agent}");
            if agent["state"] == state {
                return agent;
            }
            assert!(Instant::now() < until, "still not {state}: {agent}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
