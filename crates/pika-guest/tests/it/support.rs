//! One container of a test, and the runner in it, driven as the host drives it: by exec.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use pika_cloud::lifecycle::{decode_events, decode_result, decode_status};
use pika_cloud::paths::RUNNER_PATH;
use pika_cloud::{
    GuestRequest, LifecycleEvent, LifecycleResult, LifecycleStatus, RunEnd, TerminalRecord,
    decode_terminal_record,
};
use pikahut::stack::TestIncus;
use pikahut::wait;

/// Follows what was read, so that output which was lost on its way shows.
const END_OF_FILE: &str = "END-OF-FILE";
/// Longer than anything here takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A running container with the runner in it. Deleted when it is dropped.
pub(crate) struct Guest {
    dir: PathBuf,
    project: String,
    pub(crate) name: String,
}

/// What a run said.
pub(crate) struct Run {
    pub(crate) log: Vec<u8>,
    pub(crate) record: TerminalRecord,
}

impl Run {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.log).into_owned()
    }
}

/// A request for a command as the unprivileged user, in a directory that is always there.
pub(crate) fn request(command: &str) -> GuestRequest {
    let mut request = GuestRequest::new(command, 60);
    request.working_dir = Some("/tmp".to_owned());
    request
}

/// As [`request`], as root.
pub(crate) fn root_request(command: &str) -> GuestRequest {
    GuestRequest {
        run_as_root: true,
        ..request(command)
    }
}

impl Guest {
    async fn named(incus: &TestIncus, what: &str) -> (Guest, String) {
        let image = incus.runner_image().await;
        let guest = Guest {
            dir: incus.dir().to_owned(),
            project: incus.client().project().to_owned(),
            name: incus.name(what),
        };
        (guest, image)
    }

    /// With a directory of this host at the source's place, as the runtime mounts it: read-only, from the start.
    pub(crate) async fn with_snapshot(incus: &TestIncus, what: &str, snapshot: &Path) -> Guest {
        let (guest, image) = Guest::named(incus, what).await;
        let body = serde_json::json!({
            "name": guest.name, "type": "container", "profiles": ["default"], "start": true,
            "source": { "type": "image", "alias": image },
            "config": { "user.pika.owner": incus.owner() },
            "devices": { "snapshot": {
                "type": "disk", "source": snapshot, "path": "/workspace/snapshot",
                "readonly": "true", "shift": "true",
            } },
        });
        let made = incus.client().create_instance(&body).await.unwrap();
        // A busy daemon may have forgotten an operation by the time that its end is asked for: the runner tells.
        drop(made.wait(LIMIT).await);
        guest.wait_for_runner();
        guest
    }

    pub(crate) async fn launch(incus: &TestIncus, what: &str, config: &[&str]) -> Guest {
        let (guest, image) = Guest::named(incus, what).await;
        let owner = format!("user.pika.owner={}", incus.owner());
        let mut launch = guest.incus(&["launch", &image, &guest.name, "-c", &owner]);
        for pair in config {
            launch.args(["-c", pair]);
        }
        let output = launch.output().unwrap();
        assert!(output.status.success(), "launch: {output:?}");
        guest.wait_for_runner();
        guest
    }

    /// The `incus` program on this guest's daemon.
    pub(crate) fn incus(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("incus");
        command
            .env("INCUS_DIR", &self.dir)
            .args(["--project", &self.project])
            .args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// A command in the guest, as root.
    pub(crate) fn exec(&self, arguments: &[&str]) -> Command {
        let mut command = self.incus(&["exec", &self.name, "-T", "--"]);
        command.args(arguments);
        command
    }

    pub(crate) fn runner(&self, arguments: &[&str]) -> Command {
        let mut command = self.exec(&[RUNNER_PATH]);
        command.args(arguments);
        command
    }

    /// What a call of the runner that may be repeated said. On a busy machine the `incus` program was seen to end with 0
    /// and without some of the output: then it is asked again.
    pub(crate) fn until_whole(
        &self,
        arguments: &[&str],
        is_whole: impl Fn(&Output) -> bool,
    ) -> Output {
        let said = wait::until(LIMIT, || {
            let output = self.runner(arguments).output().unwrap();
            (!output.status.success() || is_whole(&output)).then_some(output)
        });
        said.unwrap_or_else(|| panic!("{arguments:?} never came whole"))
    }

    /// What a shell script in the guest prints.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.exec(&["/bin/sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn wait_for_runner(&self) {
        let there = || {
            let output = self
                .runner(&["state-dir"])
                .output()
                .expect("the incus program is there");
            output.status.success().then_some(())
        };
        wait::until(LIMIT, there).expect("the runner answers once the guest is up");
    }

    /// Runs a request to its end, in one exec.
    pub(crate) fn run(&self, nonce: &str, request: &GuestRequest) -> Run {
        let output = self.run_attached(nonce, request);
        if output.status.success() && !has_record(&output) {
            return self.attach(nonce, 0);
        }
        ended(&output)
    }

    pub(crate) fn run_attached(&self, nonce: &str, request: &GuestRequest) -> Output {
        let mut command = self.runner(&["run-attached", "--nonce", nonce, "--request-stdin"]);
        with_stdin(&mut command, &request.encode().unwrap())
    }

    /// Starts a request and leaves it.
    pub(crate) fn start(&self, nonce: &str, request: &GuestRequest) {
        let script = "umask 077; cat > /run/pika-cloud/guest-request.json";
        let output = with_stdin(
            &mut self.exec(&["/bin/sh", "-c", script]),
            &request.encode().unwrap(),
        );
        assert!(output.status.success(), "{output:?}");
        let output = self.runner(&["start", "--nonce", nonce]).output().unwrap();
        assert!(
            output.status.success() && output.stdout.is_empty(),
            "{output:?}"
        );
    }

    /// Attaches until the run is over, from a byte on.
    pub(crate) fn attach(&self, nonce: &str, offset: u64) -> Run {
        let offset = offset.to_string();
        let attach = [
            "attach",
            "--nonce",
            nonce,
            "--offset",
            &offset,
            "--wait-secs",
            "60",
        ];
        ended(&self.until_whole(&attach, has_record))
    }

    pub(crate) fn attach_command(&self, nonce: &str, offset: u64, wait_secs: u64) -> Command {
        let (offset, secs) = (offset.to_string(), wait_secs.to_string());
        self.runner(&[
            "attach",
            "--nonce",
            nonce,
            "--offset",
            &offset,
            "--wait-secs",
            &secs,
        ])
    }

    fn state_file(&self, name: &str) -> Vec<u8> {
        let path = format!("/run/pika-cloud/{name}");
        let script = format!("cat {path} && echo {END_OF_FILE}");
        // As with `until_whole`: the mark tells.
        let read = wait::until(LIMIT, || {
            let output = self.exec(&["/bin/sh", "-c", &script]).output().unwrap();
            assert!(output.status.success(), "{path}: {output:?}");
            let mark = format!("{END_OF_FILE}\n");
            output
                .stdout
                .strip_suffix(mark.as_bytes())
                .map(<[u8]>::to_vec)
        });
        read.unwrap_or_else(|| panic!("{path} never came whole"))
    }

    pub(crate) fn result(&self) -> LifecycleResult {
        decode_result("result.json", &self.state_file("result.json")).unwrap()
    }

    pub(crate) fn status(&self) -> LifecycleStatus {
        decode_status("status.json", &self.state_file("status.json")).unwrap()
    }

    pub(crate) fn events(&self) -> Vec<LifecycleEvent> {
        let decoded = decode_events("events.jsonl", &self.state_file("events.jsonl")).unwrap();
        assert_eq!(decoded.torn_bytes, 0);
        decoded.events
    }

    /// Waits until a shell test holds in the guest.
    pub(crate) fn wait_for(&self, test: &str) {
        let holds = || {
            let output = self.exec(&["/bin/sh", "-c", test]).output().ok()?;
            output.status.success().then_some(())
        };
        assert!(
            wait::until(LIMIT, holds).is_some(),
            "never came true: {test}"
        );
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let output = self.incus(&["delete", "--force", &self.name]).output();
        if !std::thread::panicking() {
            let output = output.unwrap();
            assert!(output.status.success(), "delete: {output:?}");
        }
    }
}

pub(crate) fn with_stdin(command: &mut Command, bytes: &[u8]) -> Output {
    let mut child = piped(command.stdin(Stdio::piped()));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(bytes).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

pub(crate) fn piped(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads `count` bytes of a child's stdout.
pub(crate) fn read_some(child: &mut Child, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut bytes).unwrap();
    bytes
}

/// The record of an exec that ended well, with a log of exactly the length that it says.
fn has_record(output: &Output) -> bool {
    decode_terminal_record(&output.stderr).is_ok_and(|record| record.is_some())
}

pub(crate) fn ended(output: &Output) -> Run {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "exec ended with {:?}: {stderr}",
        output.status
    );
    let record = decode_terminal_record(&output.stderr)
        .unwrap()
        .unwrap_or_else(|| panic!("no record in {stderr}"));
    Run {
        log: output.stdout.clone(),
        record,
    }
}

/// Asserts the end of a run that was received from byte 0.
pub(crate) fn assert_end(run: &Run, end: RunEnd) {
    assert_eq!(run.record.end, end, "log: {}", run.text());
    assert_eq!(run.record.log_bytes, run.log.len() as u64);
}
