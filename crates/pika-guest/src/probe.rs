//! Owns the question whether a workload does its work: an HTTP URL on this guest that answers 2xx, a port that greets
//! with the right words, or a command that exits 0; and, when it does not, what systemd knows of its unit. Bounded in time and in what it reads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error_text::one_line;
use crate::wait;

const ANSWER_BYTES_MAX: u64 = 4096;
const PAUSE: Duration = Duration::from_millis(10);

/// How to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `GET` of a plain HTTP URL.
    Url(ProbeUrl),
    /// The first bytes that a port of this guest sends by itself.
    Banner {
        /// Address and port.
        address: SocketAddr,
        /// How it begins.
        start: String,
    },
    /// A command for `/bin/sh`.
    Command(String),
}

/// A URL that can be asked without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeUrl {
    authority: String,
    path: String,
}

/// A URL that can't be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no URL such as http://127.0.0.1:8080/health")]
pub struct ProbeUrlError(String);

impl std::str::FromStr for ProbeUrl {
    type Err = ProbeUrlError;

    fn from_str(text: &str) -> Result<ProbeUrl, ProbeUrlError> {
        let bad = || ProbeUrlError(one_line(text));
        let rest = text.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || authority.contains('@') || !plain {
            return Err(bad());
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(ProbeUrl {
            authority,
            path: path.to_owned(),
        })
    }
}

impl Probe {
    /// Asks once. The error says why the answer is no.
    pub fn ask(&self, limit: Duration) -> Result<(), String> {
        match self {
            Probe::Url(url) => ask_url(url, limit),
            Probe::Banner { address, start } => ask_banner(*address, start, limit),
            Probe::Command(command) => ask_command(command, limit),
        }
    }
}

fn ask_url(url: &ProbeUrl, limit: Duration) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", url.authority);
    let deadline = Instant::now() + limit;
    let address: SocketAddr = url
        .authority
        .to_socket_addrs()
        .map_err(said)?
        .next()
        .ok_or_else(|| format!("{} has no address", url.authority))?;
    let mut stream = connect(address, limit).map_err(said)?;
    let request = format!(
        "GET {} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n",
        url.path, url.authority
    );
    stream.write_all(request.as_bytes()).map_err(said)?;
    let line = first_line(&mut stream, deadline).map_err(said)?;
    match line.split(' ').nth(1) {
        Some(code) if code.len() == 3 && code.starts_with('2') => Ok(()),
        _ => Err(format!("{} answered `{line}`", url.authority)),
    }
}

fn ask_banner(address: SocketAddr, start: &str, limit: Duration) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{address}: {error}");
    let deadline = Instant::now() + limit;
    let mut stream = connect(address, limit).map_err(said)?;
    let line = first_line(&mut stream, deadline).map_err(said)?;
    match line.starts_with(start) {
        true => Ok(()),
        false => Err(format!("{address} greeted with `{line}`")),
    }
}

fn connect(address: SocketAddr, limit: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}

fn first_line(stream: &mut TcpStream, deadline: Instant) -> std::io::Result<String> {
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    // Only the first line is wanted; who drips bytes has no longer than the others.
    while !answer.contains(&b'\n')
        && (answer.len() as u64) < ANSWER_BYTES_MAX
        && Instant::now() < deadline
    {
        match stream.read(&mut buffer)? {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    Ok(one_line(text.lines().next().unwrap_or_default()))
}

fn ask_command(command: &str, limit: Duration) -> Result<(), String> {
    use std::os::unix::process::CommandExt as _;
    let said = |error: std::io::Error| format!("the probe can't run: {error}");
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(said)?;
    let ended = wait::until(Instant::now() + limit, PAUSE, || {
        child.try_wait().transpose()
    });
    match ended {
        Some(Ok(status)) if status.success() => Ok(()),
        Some(Ok(status)) => Err(format!("the probe ended with {status}")),
        Some(Err(error)) => Err(said(error)),
        None => {
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let _gone = group.map(|group| kill_process_group(group, Signal::KILL));
            drop(child.wait());
            Err(format!("the probe took longer than {limit:?}"))
        }
    }
}

/// What systemd knows of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// `active`, `activating`, `failed` and so on.
    pub active: String,
    /// `running`, `auto-restart`, `dead` and so on.
    pub sub: String,
    /// Why it ended last: `exit-code`, `signal`, `oom-kill` and so on; `success` while it is being started again.
    pub result: String,
    /// How often systemd has started it again.
    pub restarts: u64,
    /// How its main process ended last, in words; empty if it never did.
    pub ending: String,
}

impl UnitState {
    /// Asks systemd.
    pub fn of(unit: &str) -> Result<UnitState, String> {
        let output = Command::new("systemctl")
            .args([
                "show",
                "--property=ActiveState,SubState,Result,NRestarts,ExecMainCode,ExecMainStatus",
                "--",
                unit,
            ])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("systemctl can't be run: {error}"))?;
        if !output.status.success() {
            return Err(one_line(&String::from_utf8_lossy(&output.stderr)));
        }
        Ok(UnitState::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn parse(text: &str) -> UnitState {
        let value = |name: &str| {
            let found = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            one_line(found.unwrap_or_default())
        };
        UnitState {
            active: value("ActiveState"),
            sub: value("SubState"),
            result: value("Result"),
            restarts: value("NRestarts").parse().unwrap_or_default(),
            // The kernel's CLD_EXITED, CLD_KILLED and CLD_DUMPED.
            ending: match value("ExecMainCode").as_str() {
                "1" => format!("exit status {}", value("ExecMainStatus")),
                "2" | "3" => format!("signal {}", value("ExecMainStatus")),
                _ => String::new(),
            },
        }
    }

    /// Whether systemd has given up on it, or starts it again and again.
    #[must_use]
    pub fn is_crash_loop(&self, restarts_max: u64) -> bool {
        self.active == "failed" || self.restarts > restarts_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn url(text: &str) -> Probe {
        Probe::Url(text.parse().unwrap())
    }

    /// A server for one request, on a thread of the test's own.
    fn serve(answer: &'static str) -> (String, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/health", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            assert!(request[..count].starts_with(b"GET /health HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        (url, server)
    }

    #[test]
    fn a_url_is_ready_when_it_answers_2xx() {
        for (answer, ready) in [
            ("HTTP/1.1 200 OK\r\n\r\n{}", true),
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 503 Not yet\r\n\r\n", false),
            ("rubbish", false),
            ("", false),
        ] {
            let (address, server) = serve(answer);
            assert_eq!(
                url(&address).ask(Duration::from_secs(5)).is_ok(),
                ready,
                "{answer}"
            );
            server.join().unwrap();
        }
    }

    #[test]
    fn what_is_no_plain_url_is_refused() {
        for text in [
            "https://a/",
            "http://",
            "http:///x",
            "http://u@h/",
            "http://h/ x",
            "ftp://h/",
        ] {
            assert!(text.parse::<ProbeUrl>().is_err(), "{text}");
        }
        assert_eq!("http://h".parse::<ProbeUrl>().unwrap().authority, "h:80");
    }

    #[test]
    fn a_command_is_ready_when_it_exits_0_in_time() {
        let ask = |command: &str, millis| {
            Probe::Command(command.into()).ask(Duration::from_millis(millis))
        };
        assert!(ask("true", 20_000).is_ok());
        assert!(
            ask("exit 3", 20_000)
                .unwrap_err()
                .contains("exit status: 3")
        );
        assert!(
            ask("sleep 100 & sleep 100", 50)
                .unwrap_err()
                .contains("longer than")
        );
    }

    #[test]
    fn a_unit_that_starts_again_and_again_is_a_crash_loop() {
        let state = UnitState::parse(
            "Result=exit-code\nNRestarts=4\nActiveState=activating\nSubState=auto-restart\n",
        );
        assert_eq!((state.result.as_str(), state.restarts), ("exit-code", 4));
        assert!(state.is_crash_loop(3) && !state.is_crash_loop(4));
        assert!(UnitState::parse("ActiveState=failed\n").is_crash_loop(100));
        assert!(!UnitState::parse("").is_crash_loop(0));
    }

    #[test]
    fn how_a_unit_ended_is_told() {
        let ending = |text: &str| UnitState::parse(text).ending;
        assert_eq!(
            ending("ExecMainCode=1\nExecMainStatus=78\n"),
            "exit status 78"
        );
        assert_eq!(ending("ExecMainCode=2\nExecMainStatus=9\n"), "signal 9");
        assert_eq!(ending("ExecMainCode=0\nExecMainStatus=0\n"), "");
    }

    #[test]
    fn a_port_is_ready_when_it_greets_with_the_right_words() {
        for (greeting, ready) in [
            ("SSH-2.0-OpenSSH_9\r\n", true),
            ("HTTP/1.1 200 OK\r\n", false),
            ("", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let probe = Probe::Banner {
                address: listener.local_addr().unwrap(),
                start: "SSH-2.0-".into(),
            };
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(greeting.as_bytes()).unwrap();
            });
            let answer = probe.ask(Duration::from_secs(5));
            assert_eq!(answer.is_ok(), ready, "{greeting}: {answer:?}");
            server.join().unwrap();
        }
    }
}
