//! `pika agent` as a shell sees it, against a real server on the fake Incus, and against none.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pika_server::{Config, Server, StartOptions};
use pikahut::fake::FakeIncus;

use crate::shell::{Ended, Shell};

/// Until when a guest must be ready. Longer than the shortest wait of the command line.
const READY_SECS: u32 = 8;

/// A server of this test's own, and who may use it.
pub(crate) struct Stage {
    pub(crate) fake: FakeIncus,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Server,
    pub(crate) token: String,
}

impl Stage {
    pub(crate) async fn new() -> Stage {
        let fake = FakeIncus::start_for_agents(Duration::from_millis(20))
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (server, token) = start(folder.path(), fake.socket()).await;
        Stage {
            fake,
            folder,
            server,
            token,
        }
    }

    /// The same Incus under a server that lost its database.
    pub(crate) async fn without_its_database(self) -> Stage {
        self.server.shut_down().await;
        let folder = tempfile::tempdir().unwrap();
        let (server, token) = start(folder.path(), self.fake.socket()).await;
        Stage {
            fake: self.fake,
            folder,
            server,
            token,
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.server.address())
    }

    pub(crate) fn shell(&self) -> Shell<'_> {
        Shell::new(self.folder.path())
            .with("PIKA_SERVER", self.address())
            .with("PIKA_TOKEN", &self.token)
    }

    fn left(&self) -> (usize, usize) {
        let world = self.fake.world();
        (world.instance_count(), world.volume_count())
    }
}

/// A server on a database of its own, and its operator's token.
async fn start(folder: &Path, socket: &Path) -> (Server, String) {
    let started = Server::start(config(folder, socket), StartOptions::default()).await;
    let server = started.unwrap();
    let token = server.first_token().unwrap().reveal().to_owned();
    (server, token)
}

fn config(folder: &Path, socket: &Path) -> Config {
    let database = format!("sqlite:{}", folder.join("pika.db").display());
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndatabase = {database:?}\n[incus]\nsocket = {socket:?}\nowner = \"test\"\n\
         [times]\nready_secs = {READY_SECS}\nreconcile_secs = 1\nrestart_rest_secs = 1\nstop_grace_secs = 1\n\
         recover_cool_down_secs = 0\n"
    );
    let file = folder.join("server.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), |_| None).unwrap()
}

#[track_caller]
pub(crate) fn json(ended: &Ended) -> serde_json::Value {
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (0, ""),
        "{}",
        ended.stdout
    );
    ended.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_lives_from_the_command_line() {
    let stage = Stage::new().await;
    let shell = stage.shell();
    let agent =
        |arguments: &[&str]| shell.pika(&[&["agent", "--output", "json"], arguments].concat());
    let gone = agent(&["me"]);
    assert_eq!(
        (gone.code, gone.stdout.as_str()),
        (8, ""),
        "{}",
        gone.stderr
    );

    let ready = json(&agent(&["ensure", "--label", "team=a"]));
    assert_eq!(
        (&ready["state"], &ready["labels"]["team"]),
        (&"ready".into(), &"a".into())
    );
    let id = ready["agent_id"].as_str().unwrap();
    let differs = agent(&["ensure", "--vcpu", "2"]);
    assert_eq!(differs.code, 6, "{}", differs.stderr);
    assert!(
        differs.stderr.contains("agent_exists"),
        "{}",
        differs.stderr
    );
    assert_eq!(json(&agent(&["list"]))[0]["agent_id"], id);
    assert_eq!(json(&agent(&["stop"]))["state"], "stopped");
    assert_eq!(json(&agent(&["start"]))["state"], "ready");
    assert_eq!(json(&agent(&["rebuild", id]))["generation"], 2);

    let asked = json(&agent(&["backups", "--create", "--no-wait"]));
    let operation = asked["operation"]["operation_id"].as_str().unwrap();
    assert_eq!(json(&agent(&["wait", operation]))["state"], "succeeded");
    let backups = json(&agent(&["backups"]));
    let newest = backups["backups"][0]["name"].as_str().unwrap();

    // What loses something wants to be meant.
    for command in [
        vec!["reset", id],
        vec!["restore", id, newest],
        vec!["delete", "me"],
    ] {
        let asked = agent(&command);
        assert_eq!((asked.code, asked.stdout.as_str()), (2, ""), "{command:?}");
        assert!(
            asked.stderr.contains("--yes") && asked.stderr.contains(id),
            "{}",
            asked.stderr
        );
    }
    assert_eq!(
        json(&agent(&["restore", id, newest, "--yes"]))["generation"],
        2
    );
    let unknown = agent(&["restore", id, "nosuch", "--yes"]);
    assert_eq!(unknown.code, 8, "{}", unknown.stderr);

    let events = agent(&["events"]);
    let lines: Vec<serde_json::Value> = events
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines.len() > 3 && lines.iter().all(|event| event["agent_id"] == id),
        "{}",
        events.stdout
    );
    let human = shell.pika(&["agent", "show"]).stdout;
    assert!(human.starts_with(&format!("{id}  ready\n")), "{human}");

    assert_eq!(
        json(&agent(&["delete", id, "--purge", "--yes"]))["state"],
        "succeeded"
    );
    assert_eq!(json(&agent(&["list"])), serde_json::json!([]));
    assert_eq!(stage.left(), (0, 0));
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_agent_is_listed_and_comes_back_on_its_volume() {
    let stage = Stage::new().await;
    let shell = stage.shell();
    let human = |arguments: &[&str]| shell.pika(&[&["agent"], arguments].concat());
    let agent = |arguments: &[&str]| human(&[&["--output", "json"], arguments].concat());
    let made = json(&agent(&["ensure"]));
    let id = made["agent_id"].as_str().unwrap();
    let still_there = agent(&["undelete", id]);
    assert_eq!(still_there.code, 6, "{}", still_there.stderr);

    assert_eq!(agent(&["delete", id, "--yes"]).code, 0);
    assert_eq!(stage.left(), (0, 1));
    assert_eq!(json(&agent(&["list"])), serde_json::json!([]));
    let deleted = json(&agent(&["list", "--deleted"]));
    assert_eq!(deleted[0]["agent_id"], id);
    let listed = human(&["list", "--deleted"]).stdout;
    let until = deleted[0]["purge_after"].as_str().unwrap();
    let until = until[..19].replace('T', " ");
    assert!(
        listed.contains(&format!("deleted; its volume is kept until {until}")),
        "{listed}"
    );

    let back = json(&agent(&["undelete", id]));
    assert_eq!(
        (&back["state"], &back["agent_id"]),
        (&"ready".into(), &id.into())
    );
    assert_eq!(stage.left(), (1, 1));
    assert_eq!(agent(&["delete", id, "--yes", "--purge"]).code, 0);
    let nothing_left = agent(&["undelete", id]);
    assert_eq!(nothing_left.code, 8, "{}", nothing_left.stderr);
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_in_a_guest_gets_input_and_gives_output_and_its_code() {
    let stage = Stage::new().await;
    stage.fake.on_exec(&["say"], |mut call| {
        Box::pin(async move {
            let word = call.environment.get("WORD").cloned().unwrap_or_default();
            call.stderr(format!("{:?} {word}\n", call.command)).await;
            while let Some(bytes) = call.stdin().await {
                call.stdout(bytes).await;
            }
            Some(7)
        })
    });
    let shell = stage.shell();
    json(&shell.pika(&["agent", "new", "--output", "json"]));
    let agents = json(&shell.pika(&["agent", "list", "--output", "json"]));
    let id = agents[0]["agent_id"].as_str().unwrap();
    let command = [
        "agent",
        "exec",
        id,
        "--env",
        "WORD=here",
        "--",
        "say",
        "--hello",
    ];
    let long = "a line\n".repeat(50_000);
    let ended = shell.pika_with_stdin(&command, &long);
    assert_eq!(ended.code, 7, "{}", ended.stderr);
    assert_eq!(ended.stderr, "[\"say\", \"--hello\"] here\n");
    assert_eq!(ended.stdout.len(), long.len());
    assert!(ended.stdout == long);
    let shell_without = shell.pika(&["agent", "ssh", id]);
    assert_eq!(shell_without.code, 2, "{}", shell_without.stderr);
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_too_short_is_exit_4_and_a_failed_operation_exit_1() {
    let stage = Stage::new().await;
    stage.fake.set_scripted_guest(None);
    let shell = stage.shell();
    let late = shell.pika(&["agent", "ensure", "--timeout", "1"]);
    assert_eq!(
        (late.code, late.stdout.as_str()),
        (4, ""),
        "{}",
        late.stderr
    );
    let words: Vec<&str> = late.stderr.split('`').collect();
    let again: Vec<&str> = words[1].split(' ').skip(1).take(3).collect();
    assert_eq!(again[..2], ["agent", "wait"], "{}", late.stderr);
    let failed = shell.pika(&again);
    assert_eq!(
        (failed.code, failed.stdout.as_str()),
        (1, ""),
        "{}",
        failed.stderr
    );
    assert!(
        failed.stderr.contains("the create of agent"),
        "{}",
        failed.stderr
    );
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dogfood_script_goes_through_all_of_it_and_leaves_nothing() {
    let stage = Stage::new().await;
    let script =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/incus-dogfood-check.sh");
    let ended = Command::new(script)
        .env("PIKA", env!("CARGO_BIN_EXE_pika"))
        .env("PIKA_SERVER", stage.address())
        .env("PIKA_TOKEN", &stage.token)
        .env("INCUS_SOCKET", stage.fake.socket())
        .env("HOME", stage.folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{text}\n{said}");
    let firsts: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let expected = [
        "create", "agent", "restart", "recover", "backup", "backups", "restore", "delete", "list",
        "nothing",
    ];
    assert_eq!(firsts, expected, "{text}");
    assert!(text.contains("and Incus has nothing of"), "{text}");
    assert_eq!(stage.left(), (0, 0));
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_comes_from_a_flag_over_the_environment_over_the_file_and_a_wrong_one_is_exit_6() {
    let stage = Stage::new().await;
    let dir = stage.folder.path();
    std::fs::write(dir.join("good"), format!("{}\n", stage.token)).unwrap();
    std::fs::write(dir.join("bad"), "pika_wrong\n").unwrap();
    let text = format!(
        "[agent]\nserver = {:?}\ntoken_file = {:?}\n",
        stage.address(),
        dir.join("good")
    );
    std::fs::write(dir.join("c.toml"), text).unwrap();
    let code = |shell: &Shell<'_>, arguments: &[&str]| {
        let ended = shell.pika(&[&["agent", "list"], arguments].concat());
        assert!(!ended.all().contains(&stage.token));
        ended.code
    };
    let file = Shell::new(dir).with("PIKA_CONFIG", "c.toml");
    assert_eq!(code(&file, &[]), 0);
    let environment = Shell::new(dir)
        .with("PIKA_CONFIG", "c.toml")
        .with("PIKA_TOKEN", "pika_wrong");
    assert_eq!(code(&environment, &[]), 6);
    assert_eq!(code(&environment, &["--token-file", "good"]), 0);
    assert_eq!(code(&file, &["--token-file", "bad"]), 6);
    // Options of every command are taken, though these mean nothing to a server.
    assert_eq!(code(&file, &["--socket", "/nowhere", "--owner", "x"]), 0);
    stage.server.shut_down().await;
}

#[test]
fn without_a_server_or_a_token_the_error_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty"), "\n").unwrap();
    let bare = Shell::new(dir.path());
    let named = Shell::new(dir.path()).with("PIKA_SERVER", "unix:/nowhere/pika.socket");
    let both = Shell::new(dir.path())
        .with("PIKA_SERVER", "unix:/nowhere/pika.socket")
        .with("PIKA_TOKEN", "secret-word");
    let texts = [
        bare.pika(&["agent", "list"]).all(),
        named.pika(&["agent", "list"]).all(),
        named
            .pika(&["agent", "list", "--token-file", "absent"])
            .all(),
        named
            .pika(&["agent", "list", "--token-file", "empty"])
            .all(),
        both.pika(&["agent", "list", "--server", "http://agents.example.org"])
            .all(),
        both.pika(&["agent", "list"]).all(),
    ];
    assert!(!texts.concat().contains("secret-word"));
    insta::assert_snapshot!(texts.join("\n"));
}
