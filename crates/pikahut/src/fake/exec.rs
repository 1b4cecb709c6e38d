//! Commands in instances: a table of handlers instead of processes, over the websockets of the real API.
//!
//! Recorded: output is binary frames, an output's end is one empty text frame, connections end without a close
//! frame, `return` in the operation's metadata is the exit status, and a forced stop of the instance ends an exec
//! cleanly with 137.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::daemon::{Daemon, lock};
use super::guest;
use super::handlers::instances::{instance_resources, missing_instance};
use super::operations::OperationRecord;
use super::reply::{ApiError, Reply, accepted};
use super::route::Call;
use super::world::{Power, random_id};

mod builtin;

/// How long an exec waits for its websockets, as the real one does.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Chunks in flight between a handler and a websocket.
const CHANNEL_DEPTH: usize = 64;

/// The exit status, or `None` where the command doesn't exist.
pub type ExecFuture = Pin<Box<dyn Future<Output = Option<i32>> + Send>>;

type Handler = Arc<dyn Fn(ExecCall) -> ExecFuture + Send + Sync>;

/// One command as a handler sees it. The handler is dropped where the instance stops or the client goes away.
#[derive(Debug)]
pub struct ExecCall {
    /// Instance name.
    pub instance: String,
    /// Project name.
    pub project: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment as requested.
    pub environment: HashMap<String, String>,
    /// Whether a terminal was asked for.
    pub interactive: bool,
    stdin: mpsc::Receiver<Bytes>,
    control: mpsc::Receiver<Value>,
    stdout: mpsc::Sender<Bytes>,
    stderr: mpsc::Sender<Bytes>,
}

impl ExecCall {
    /// Writes to standard output; a reader that is gone is no error, as for a process whose pipe is drained.
    pub async fn stdout(&self, bytes: impl Into<Bytes>) {
        write(&self.stdout, bytes.into()).await;
    }

    /// Writes to standard error.
    pub async fn stderr(&self, bytes: impl Into<Bytes>) {
        write(&self.stderr, bytes.into()).await;
    }

    /// The next piece of standard input, `None` at its end.
    pub async fn stdin(&mut self) -> Option<Bytes> {
        self.stdin.recv().await
    }

    /// The next control message, such as `{"command": "signal", "signal": 15}`.
    pub async fn control(&mut self) -> Option<Value> {
        self.control.recv().await
    }
}

async fn write(pipe: &mpsc::Sender<Bytes>, bytes: Bytes) {
    if pipe.send(bytes).await.is_err() {
        tracing::trace!("the reader of an exec is gone");
    }
}

/// Handlers by command prefix.
#[derive(Default)]
pub(crate) struct ExecHandlers {
    table: Mutex<Vec<(Vec<String>, Handler)>>,
}

impl fmt::Debug for ExecHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExecHandlers({})", lock(&self.table).len())
    }
}

impl ExecHandlers {
    pub(crate) fn add<F>(&self, prefix: &[&str], handler: F)
    where
        F: Fn(ExecCall) -> ExecFuture + Send + Sync + 'static,
    {
        let prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        lock(&self.table).push((prefix, Arc::new(handler)));
    }

    fn run(&self, daemon: &Arc<Daemon>, call: ExecCall) -> ExecFuture {
        if guest::is_look(&call.command) {
            return Box::pin(guest::answer_look(Arc::clone(daemon), call));
        }
        let handler = lock(&self.table)
            .iter()
            .rev()
            .find(|(prefix, _)| call.command.starts_with(prefix))
            .map(|(_, handler)| Arc::clone(handler));
        match handler {
            Some(handler) => handler(call),
            None => Box::pin(builtin::run(call)),
        }
    }
}

/// The pipes of an exec that waits for its websockets.
#[derive(Debug)]
pub(crate) struct Ports {
    open: HashMap<String, Port>,
    all_open: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Port {
    Input(mpsc::Sender<Bytes>),
    Output(mpsc::Receiver<Bytes>),
    Control(mpsc::Sender<Value>, oneshot::Sender<()>),
    Terminal(mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>),
}

/// `POST /1.0/instances/NAME/exec`
pub(crate) fn start(daemon: &Arc<Daemon>, name: &str, call: &Call) -> Reply {
    let body = call.json()?;
    let boots = running(daemon, name, call.project())?;
    let websockets = body["wait-for-websocket"].as_bool().unwrap_or(false);
    let interactive = body["interactive"].as_bool().unwrap_or(false);
    let (record, exec, ports, ready) =
        prepare(name, call.project(), &body, websockets, interactive);
    let id = record.id;
    let context = json!({"command": exec.command});
    if let Some(ports) = ports {
        lock(&daemon.exec_ports).insert(id, ports);
    }
    let worker = Arc::clone(daemon);
    let (project, instance) = (call.project().to_owned(), name.to_owned());
    let gone = ready.control_gone;
    let record = daemon.run_operation(record, async move {
        if websockets {
            let connected = tokio::time::timeout(CONNECT_DEADLINE, ready.all_open).await;
            if !matches!(connected, Ok(Ok(()))) {
                lock(&worker.exec_ports).remove(&id);
                return Err(ApiError::new(
                    500,
                    "Timed out waiting for websockets to connect",
                ));
            }
        }
        tracing::trace!(%context, "exec in the fake daemon");
        worker.lifecycle_event(
            &project,
            "instance-exec",
            &instance,
            &format!("/1.0/instances/{instance}"),
        );
        let handler = worker.exec_handlers.run(&worker, exec);
        let status = until_killed(handler, boots, gone).await;
        lock(&worker.exec_ports).remove(&id);
        let mut more = Map::new();
        more.insert("return".to_owned(), status.unwrap_or(127).into());
        worker.operations().merge_metadata(id, &more);
        status
            .map(drop)
            .ok_or_else(|| ApiError::new(400, "Command not found"))
    });
    Ok(accepted(&record))
}

/// A handler runs until it ends, its instance's boot ends, or its control connection is gone; the last two kill it.
async fn until_killed(
    handler: ExecFuture,
    mut boots: watch::Receiver<u64>,
    control_gone: oneshot::Receiver<()>,
) -> Option<i32> {
    let client_gone = async {
        // Dropped without a word: there is no control connection to lose.
        if control_gone.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        status = handler => status,
        _ = boots.changed() => Some(137),
        () = client_gone => Some(137),
    }
}

fn running(
    daemon: &Arc<Daemon>,
    name: &str,
    project: &str,
) -> Result<watch::Receiver<u64>, ApiError> {
    let world = daemon.world();
    let instance = world
        .projects
        .get(project)
        .and_then(|project| project.instances.get(name))
        .ok_or_else(|| missing_instance(name, project))?;
    match instance.power {
        Power::Running => Ok(instance.boots.subscribe()),
        Power::Stopped => Err(ApiError::new(400, "Instance is not running")),
        Power::Frozen => Err(ApiError::new(400, "Instance is frozen")),
    }
}

/// What an exec waits for before and while it runs.
struct Ready {
    all_open: oneshot::Receiver<()>,
    control_gone: oneshot::Receiver<()>,
}

fn prepare(
    name: &str,
    project: &str,
    body: &Value,
    websockets: bool,
    interactive: bool,
) -> (OperationRecord, ExecCall, Option<Ports>, Ready) {
    let command: Vec<String> = serde_json::from_value(body["command"].clone()).unwrap_or_default();
    let environment: HashMap<String, String> =
        serde_json::from_value(body["environment"].clone()).unwrap_or_default();
    let (stdin_tx, stdin) = mpsc::channel(CHANNEL_DEPTH);
    let (stdout, stdout_rx) = mpsc::channel(CHANNEL_DEPTH);
    let (stderr, stderr_rx) = mpsc::channel(CHANNEL_DEPTH);
    let (control_tx, control) = mpsc::channel(CHANNEL_DEPTH);
    let (all_open_tx, all_open) = oneshot::channel();
    let (gone_tx, control_gone) = oneshot::channel();
    let class = if websockets { "websocket" } else { "task" };
    let mut record = OperationRecord::new(
        class,
        "Executing command",
        project,
        instance_resources(name),
    );
    let mut open = HashMap::new();
    if websockets && interactive {
        open.insert("0".to_owned(), Port::Terminal(stdin_tx, stdout_rx));
        open.insert("control".to_owned(), Port::Control(control_tx, gone_tx));
    } else if websockets {
        open.insert("0".to_owned(), Port::Input(stdin_tx));
        open.insert("1".to_owned(), Port::Output(stdout_rx));
        open.insert("2".to_owned(), Port::Output(stderr_rx));
        open.insert("control".to_owned(), Port::Control(control_tx, gone_tx));
    }
    if websockets {
        announce(&mut record, &open, &command, &environment, interactive);
    }
    let exec = ExecCall {
        instance: name.to_owned(),
        project: project.to_owned(),
        command,
        environment,
        interactive,
        stdin,
        control,
        stdout,
        stderr,
    };
    let ports = websockets.then_some(Ports {
        open,
        all_open: Some(all_open_tx),
    });
    (
        record,
        exec,
        ports,
        Ready {
            all_open,
            control_gone,
        },
    )
}

/// Makes a secret for each port and shows them in the operation, as the API does.
fn announce(
    record: &mut OperationRecord,
    open: &HashMap<String, Port>,
    command: &[String],
    environment: &HashMap<String, String>,
    interactive: bool,
) {
    let secret = || format!("{}{}", random_id(), random_id()).replace('-', "");
    let fds: HashMap<String, String> = open.keys().map(|fd| (fd.clone(), secret())).collect();
    record.secrets = fds.iter().map(|(fd, s)| (s.clone(), fd.clone())).collect();
    record.metadata = json!({
        "command": command, "environment": environment, "fds": fds, "interactive": interactive,
    });
}

/// `GET /1.0/operations/ID/websocket?secret=...`
pub(crate) async fn connect(daemon: &Arc<Daemon>, id: &str, mut call: Call) -> Reply {
    let record = daemon.operations().get(id)?;
    let secret = call
        .query
        .get("secret")
        .ok_or_else(|| ApiError::new(500, "missing secret"))?;
    let fd = record
        .secrets
        .get(secret)
        .ok_or_else(|| ApiError::new(403, "Forbidden"))?
        .clone();
    let upgrade = upgrade(&mut call).await?;
    let port = take_port(daemon, record.id, &fd).ok_or_else(|| ApiError::new(403, "Forbidden"))?;
    let life = daemon.life.subscribe();
    Ok(upgrade.on_upgrade(move |socket| carry(socket, port, life)))
}

/// A port is taken once; the exec starts when the last one is.
fn take_port(daemon: &Daemon, id: Uuid, fd: &str) -> Option<Port> {
    let mut all = lock(&daemon.exec_ports);
    let ports = all.get_mut(&id)?;
    let port = ports.open.remove(fd)?;
    if ports.open.is_empty()
        && let Some(all_open) = ports.all_open.take()
        && all_open.send(()).is_err()
    {
        tracing::trace!("an exec gave up before its last websocket came");
    }
    Some(port)
}

pub(crate) async fn upgrade(call: &mut Call) -> Result<WebSocketUpgrade, ApiError> {
    WebSocketUpgrade::from_request_parts(&mut call.parts, &())
        .await
        .map_err(|rejection| ApiError::new(400, rejection.to_string()))
}

async fn carry(mut socket: WebSocket, port: Port, mut life: watch::Receiver<u64>) {
    life.mark_unchanged();
    let work = async {
        match port {
            Port::Input(pipe) => carry_input(&mut socket, &pipe).await,
            Port::Output(mut pipe) => carry_output(&mut socket, &mut pipe).await,
            Port::Control(pipe, gone) => carry_control(&mut socket, &pipe, gone).await,
            Port::Terminal(input, mut output) => {
                carry_terminal(&mut socket, &input, &mut output).await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        _ = life.changed() => {}
    }
}

/// An empty text frame or a close is the end of input.
async fn carry_input(socket: &mut WebSocket, pipe: &mpsc::Sender<Bytes>) {
    loop {
        tokio::select! {
            // The command is gone: so is its standard input.
            () = pipe.closed() => return,
            message = socket.recv() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if pipe.send(bytes).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            }
        }
    }
}

async fn carry_output(socket: &mut WebSocket, pipe: &mut mpsc::Receiver<Bytes>) {
    while let Some(bytes) = pipe.recv().await {
        if socket.send(Message::Binary(bytes)).await.is_err() {
            return;
        }
    }
    end_of_stream(socket).await;
}

async fn end_of_stream(socket: &mut WebSocket) {
    if socket.send(Message::text("")).await.is_err() {
        tracing::trace!("the reader was gone before the end of the stream");
    }
}

async fn carry_terminal(
    socket: &mut WebSocket,
    input: &mpsc::Sender<Bytes>,
    output: &mut mpsc::Receiver<Bytes>,
) {
    loop {
        tokio::select! {
            bytes = output.recv() => match bytes {
                Some(bytes) => {
                    if socket.send(Message::Binary(bytes)).await.is_err() {
                        return;
                    }
                }
                None => return end_of_stream(socket).await,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if input.send(bytes).await.is_err() {
                        tracing::trace!("nothing reads the terminal any more");
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            }
        }
    }
}

/// A lost control connection kills the command.
async fn carry_control(
    socket: &mut WebSocket,
    pipe: &mpsc::Sender<Value>,
    gone: oneshot::Sender<()>,
) {
    loop {
        tokio::select! {
            // The command ended.
            () = pipe.closed() => return,
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    let Ok(value) = serde_json::from_str(&text) else { continue };
                    if pipe.send(value).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    if gone.send(()).is_err() {
                        tracing::trace!("the command had ended already");
                    }
                    return;
                }
            }
        }
    }
}
