//! The program as its starter sees it: what it says, what it keeps, what it tells systemd.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::{Api, LIMIT, Stage, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pika-server");
const TOKEN_FILE: &str = "first-operator-token";

/// The program, as started by somebody.
pub(crate) struct Process {
    child: Child,
    /// What it printed until it listened.
    pub(crate) said: Vec<String>,
    log: PathBuf,
    pub(crate) base: String,
}

impl Process {
    /// Starts it and waits until it listens.
    pub(crate) async fn start(stage: &Stage) -> Process {
        let config = stage.config_file();
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(config);
        Process::listening(command, stage.folder()).await
    }

    async fn listening(mut command: Command, folder: &Path) -> Process {
        let log = folder.join("log");
        let file = std::fs::File::create(&log).unwrap();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let base = loop {
            let line = tokio::time::timeout(LIMIT, lines.next_line()).await;
            let Some(line) = line.unwrap().unwrap() else {
                panic!("{said:?}\n{}", std::fs::read_to_string(&log).unwrap());
            };
            if let Some(base) = line.trim_end().strip_prefix("listening on ") {
                break base.to_owned();
            }
            said.push(line.trim_end().to_owned());
        };
        // Nobody who still writes there is to be ended by that.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Process {
            child,
            said,
            log,
            base,
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// A caller with this token.
    pub(crate) fn api(&self, token: &str) -> Api {
        Api::at(&self.base, token)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// How it ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        ended.expect("it ends in time").unwrap()
    }

    /// Ends it in order.
    pub(crate) async fn end(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }
}

/// The token that the first start wrote.
pub(crate) fn token(stage: &Stage) -> String {
    let token = std::fs::read_to_string(stage.folder().join(TOKEN_FILE)).unwrap();
    token.trim().to_owned()
}

async fn readiness(process: &Process) -> (StatusCode, Value) {
    process.api("").get("/readyz").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_start_alone_makes_a_token_and_writes_it_for_its_user() {
    let stage = Stage::new().await;
    let path = stage.folder().join(TOKEN_FILE);

    let process = Process::start(&stage).await;
    let first = token(&stage);
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let said = format!(
        "operator's first token, written this once; keep it, and remove the file: {}",
        path.display()
    );
    assert_eq!(process.said, [said]);
    let (status, _) = process.api(&first).get("/v1/owners").await;
    assert_eq!(status, StatusCode::OK);
    assert!(!process.log().contains(&first), "{}", process.log());
    process.end().await;

    std::fs::remove_file(&path).unwrap();
    let process = Process::start(&stage).await;
    assert_eq!(process.said, Vec::<String>::new());
    assert!(!path.exists());
    process.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_shown_the_token_once_and_its_interrupt_key_ends_the_program() {
    let stage = Stage::new().await;
    for first in [true, false] {
        // Without `exec` a shell may stay in between, and die of the key itself.
        let line = format!("exec {PROGRAM} --config {}", stage.config_file().display());
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let mut process = Process::listening(command, stage.folder()).await;
        let shown = process.said.iter().any(|line| line.starts_with("pika_"));
        assert_eq!(shown, first, "{:?}", process.said);
        assert!(!stage.folder().join(TOKEN_FILE).exists());
        let mut keys = process.child.stdin.take().unwrap();
        keys.write_all(b"\x03").await.unwrap();
        assert_eq!(process.ended().await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_makes_no_token() {
    let stage = Stage::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(PROGRAM)
        .arg("--config")
        .arg(stage.config_file())
        .env("PIKA_SERVER_LISTEN", &address)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!("pika-server: can't listen on {address}: Address already in use");
    assert!(said.contains(&expected), "{said}");

    let process = Process::start(&stage).await;
    let (status, _) = process.api(&token(&stage)).get("/v1/owners").await;
    assert_eq!(status, StatusCode::OK);
    process.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_can_not_be_written_is_not_made() {
    let stage = Stage::new().await;
    let nowhere = stage.folder().join("missing");
    let output = Command::new(PROGRAM)
        .arg("--config")
        .arg(stage.config_file())
        .env("STATE_DIRECTORY", &nowhere)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "pika-server: can't write the operator's first token to {}/{TOKEN_FILE}; no token was made: No such file",
        nowhere.display()
    );
    assert!(said.contains(&expected), "{said}");

    let process = Process::start(&stage).await;
    assert!(token(&stage).starts_with("pika_"));
    process.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_incus_it_starts_says_so_and_is_ready_once_incus_is_there() {
    let stage = Stage::new().await;
    let socket = stage.fake.socket().to_owned();
    stage.fake.crash();
    std::fs::remove_file(&socket).unwrap();

    let process = Process::start(&stage).await;
    let (status, body) = process.api("").get("/healthz").await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &"ok".into()));
    let (status, body) = readiness(&process).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert_eq!(body["status"], "unavailable");
    assert_eq!(body["database"], "ok");
    let why = body["incus"].as_str().unwrap();
    let path = socket.display().to_string();
    assert!(
        why.contains(&format!("there is no socket at {path}")),
        "{why}"
    );
    until("its log says so", || {
        process.log().contains("Incus can't be asked")
    })
    .await;

    stage.fake.restart().unwrap();
    let (status, body) = readiness(&process).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    until("its log says so", || {
        process.log().contains("Incus answers again")
    })
    .await;
    let log = process.log();
    assert_eq!(log.matches("Incus can't be asked").count(), 1, "{log}");
    process.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_when_it_is_ready_that_it_lives_and_when_it_ends() {
    let stage = Stage::new().await;
    let path = stage.folder().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .arg("--config")
        .arg(stage.config_file())
        .env("NOTIFY_SOCKET", &path)
        .env(
            "WATCHDOG_USEC",
            Duration::from_millis(300).as_micros().to_string(),
        );
    let process = Process::listening(command, stage.folder()).await;
    let hear = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    assert_eq!(hear(), "READY=1");
    assert_eq!([hear(), hear(), hear()], ["WATCHDOG=1"; 3]);
    process.end().await;
    let mut last = hear();
    while last == "WATCHDOG=1" {
        last = hear();
    }
    assert_eq!(last, "STOPPING=1");
}
