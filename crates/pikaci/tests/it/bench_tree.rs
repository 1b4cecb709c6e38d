//! A repository with lanes, an operator's configuration for a test's daemon, and the program itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pikahut::stack::TestIncus;

/// Longest time that one run of the program may take.
const RUN_LIMIT: Duration = Duration::from_secs(540);

/// A work tree in a temporary directory.
pub(crate) struct Tree {
    dir: tempfile::TempDir,
    config: PathBuf,
}

/// A lane that runs a script.
pub(crate) fn lane(id: &str, script: &str, keys: &str) -> String {
    format!("[[branch.lanes]]\nid = {id:?}\ncommand = [\"bash\", \"-c\", {script:?}]\n{keys}\n")
}

/// A tree for which there is no daemon.
pub(crate) fn without_daemon(lanes: &str) -> Tree {
    Tree::new(Path::new("/nonexistent/incus.socket"), "nobody", lanes)
}

/// What a program printed and how it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Tree {
    /// A repository whose lanes file has these lanes, for a daemon at `socket`.
    pub(crate) fn new(socket: &Path, owner: &str, lanes: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("tree");
        std::fs::create_dir_all(root.join("ci")).expect("create the folders");
        std::fs::write(
            root.join("ci/forge-lanes.toml"),
            format!("version = 1\n{lanes}"),
        )
        .expect("write the lanes");
        std::fs::write(root.join("hello.txt"), "from the work tree\n").expect("write a file");
        let config = dir.path().join("config.toml");
        let text = format!(
            "[incus]\nsocket = {socket:?}\nowner = {owner:?}\ndefault_instance_type = \"container\"\n\
             [defaults]\nmemory_mib = 512\ntimeout = \"2m\"\n"
        );
        std::fs::write(&config, text).expect("write the configuration");
        let tree = Self { dir, config };
        tree.git(&["init", "-q"]);
        tree
    }

    /// The same for a test's daemon, whose image is imported first.
    pub(crate) async fn on(incus: &TestIncus, lanes: &str) -> Self {
        assert_eq!(incus.runner_image().await, "pikaci/dev");
        Self::new(&incus.socket(), &incus.owner(), lanes)
    }

    /// Runs git in the tree.
    pub(crate) fn git(&self, arguments: &[&str]) {
        let status = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(arguments)
            .current_dir(self.root())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .status()
            .expect("git runs");
        assert!(status.success(), "git {arguments:?}");
    }

    /// Commits everything there is to `main`.
    pub(crate) fn commit_to_main(&self) {
        self.git(&["checkout", "-q", "-B", "main"]);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "x"]);
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// The program with arguments, not started yet. Its environment holds nothing of ours.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pikaci"));
        command
            .args(arguments)
            .current_dir(self.root())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("PIKACI_CONFIG", &self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        let child = tokio::process::Command::from(self.command(arguments))
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(RUN_LIMIT, child)
            .await
            .expect("ends in time")
            .expect("starts");
        Ended::of(output)
    }

    /// A job's result file of the newest run.
    pub(crate) fn result(&self, lane: &str) -> serde_json::Value {
        let path = self
            .newest_run()
            .join("jobs")
            .join(lane)
            .join("result.json");
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).expect("a JSON document")
    }

    /// The newest run's `run.json`.
    pub(crate) fn record(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.newest_run().join("run.json")).expect("there");
        serde_json::from_str(&text).expect("a JSON document")
    }

    /// The newest run's id.
    pub(crate) fn newest_id(&self) -> String {
        let run = self.newest_run();
        let name = run.file_name().expect("a name");
        name.to_string_lossy().into_owned()
    }

    pub(crate) fn log(&self, lane: &str) -> Vec<u8> {
        std::fs::read(self.newest_run().join("jobs").join(lane).join("log")).unwrap_or_default()
    }

    /// Adds to the operator's configuration.
    pub(crate) fn configure(&self, text: &str) {
        let mut all = std::fs::read_to_string(&self.config).expect("readable");
        all.push_str(text);
        std::fs::write(&self.config, all).expect("writable");
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Gives everything to another user.
    pub(crate) fn give_to(&self, uid: u32) {
        let status = Command::new("chown")
            .args(["-R", &format!("{uid}:{uid}")])
            .arg(self.dir.path())
            .status()
            .expect("chown runs");
        assert!(status.success());
    }

    /// A copy of the program where every user can reach it.
    pub(crate) fn program_for_everybody(&self) -> PathBuf {
        let copy = self.dir.path().join("pikaci");
        std::fs::copy(env!("CARGO_BIN_EXE_pikaci"), &copy).expect("copied");
        copy
    }

    pub(crate) fn try_newest_run(&self) -> Option<PathBuf> {
        let runs = std::fs::read_dir(self.root().join(".pikaci/runs")).ok()?;
        runs.map(|entry| entry.expect("an entry").path()).max()
    }

    pub(crate) fn newest_run(&self) -> PathBuf {
        self.try_newest_run().expect("at least one run")
    }
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}
