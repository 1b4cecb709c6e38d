//! Tokens, owners, the allow-list, the audit log and strays as a shell sees them, against a real server.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agent::{Stage, json};
use crate::shell::{Ended, Shell};

/// How long a server's first look may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Somebody else's way to the server of a stage.
fn shell_of<'a>(stage: &'a Stage, token: &str) -> Shell<'a> {
    Shell::new(stage.folder.path())
        .with("PIKA_SERVER", stage.address())
        .with("PIKA_TOKEN", token)
}

fn agent(shell: &Shell<'_>, arguments: &[&str]) -> Ended {
    shell.pika(&[&["agent"], arguments].concat())
}

fn data(shell: &Shell<'_>, arguments: &[&str]) -> Value {
    json(&agent(shell, &[&["--output", "json"], arguments].concat()))
}

#[track_caller]
fn refused(ended: &Ended, code: i32, words: &str) {
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""));
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}

/// A token's secret, alone on stdout, and its id, on stderr.
#[track_caller]
fn made(ended: &Ended) -> (String, String) {
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let secret = ended.stdout.strip_suffix('\n').unwrap().to_owned();
    assert!(secret.starts_with("pika_") && !secret.contains(char::is_whitespace));
    assert!(!ended.stderr.contains(&secret), "{}", ended.stderr);
    let id = ended.stderr.split(' ').next().unwrap().to_owned();
    assert!(id.starts_with("token-"), "{}", ended.stderr);
    (secret, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_made_used_listed_and_revoked() {
    let stage = Stage::new().await;
    let first = stage.shell();
    let (secret, id) = made(&agent(
        &first,
        &["token", "new", "--label", "laptop", "--days", "30"],
    ));
    let second = shell_of(&stage, &secret);
    let listed = data(&second, &["token", "list"]);
    let mine = listed.as_array().unwrap().iter();
    let mine = mine.clone().find(|token| token["token_id"] == *id).unwrap();
    assert_eq!(
        (&mine["scope"], &mine["label"]),
        (&json!("write"), &json!("laptop"))
    );
    assert!(mine["expires_at"].is_string() && !listed.to_string().contains(&secret));

    // A token of scope write makes none of scope operator, and reads no one else's things.
    refused(
        &agent(&second, &["token", "new", "--scope", "operator"]),
        6,
        "forbidden",
    );
    let narrow = data(&second, &["token", "new", "--scope", "read"]);
    let reader = shell_of(&stage, narrow["secret"].as_str().unwrap());
    refused(&agent(&reader, &["token", "new"]), 6, "forbidden");

    let human = agent(&second, &["token", "list"]).stdout;
    assert!(human.starts_with("TOKEN "), "{human}");
    let line = human.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(
        line.contains("  write ") && line.ends_with("  laptop"),
        "{line}"
    );

    let revoked = agent(&second, &["token", "revoke", &id]);
    assert_eq!((revoked.code, revoked.stdout.as_str()), (0, ""));
    assert_eq!(revoked.stderr, format!("{id} is revoked\n"));
    refused(&agent(&second, &["token", "list"]), 6, "unauthorized");
    // Revoked is revoked, and what is not there can't be.
    assert_eq!(agent(&first, &["token", "revoke", &id]).code, 0);
    refused(
        &agent(&first, &["token", "revoke", "token-0"]),
        8,
        "not_found",
    );
    let human = agent(&first, &["token", "list"]).stdout;
    let line = human.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.contains("  revoked  laptop"), "{line}");
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_can_t_be_written_is_told_with_what_takes_its_token_back() {
    let stage = Stage::new().await;
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_pika"))
        .args(["agent", "token", "new", "--label", "lost"])
        .env_clear()
        .env("HOME", stage.folder.path())
        .env("PIKA_SERVER", stage.address())
        .env("PIKA_TOKEN", &stage.token)
        .stdout(full)
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{said}");
    let remedy: Vec<&str> = said.split('`').nth(1).unwrap().split(' ').collect();
    let revoked = stage.shell().pika(&remedy[1..]);
    assert_eq!(revoked.code, 0, "{said}\n{}", revoked.stderr);
    let tokens = data(&stage.shell(), &["token", "list"]);
    let lost = tokens.as_array().unwrap().iter();
    let lost = lost.clone().find(|token| token["label"] == "lost").unwrap();
    assert!(lost["revoked_at"].is_string(), "{lost}");
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_makes_an_owner_gives_it_a_token_and_sets_its_quotas() {
    let stage = Stage::new().await;
    let operator = stage.shell();
    let alice = data(&operator, &["owner", "add", "alice", "--name", "Alice A."]);
    assert_eq!(
        (&alice["role"], &alice["allowed"], &alice["name"]),
        (&json!("tenant"), &json!(true), &json!("Alice A."))
    );
    // The same again changes nothing; another one of that id is refused with what to do.
    assert_eq!(
        data(&operator, &["owner", "add", "alice"])["name"],
        "Alice A."
    );
    let other = agent(&operator, &["owner", "add", "alice", "--role", "operator"]);
    refused(&other, 6, "`pika agent owner set`");
    let part = agent(&operator, &["owner", "add", "bob", "--agents", "1"]);
    refused(&part, 2, "--memory-mib");
    refused(
        &agent(&operator, &["owner", "show", "bob"]),
        8,
        "no owner bob",
    );
    let bob = [
        "owner",
        "add",
        "bob",
        "--agents",
        "1",
        "--vcpu",
        "2",
        "--memory-mib",
        "2048",
        "--disk-gib",
        "20",
        "--backups",
        "3",
    ];
    let quotas = json!({"agents": 1, "vcpu": 2, "memory_mib": 2048, "disk_gib": 20, "backups": 3});
    assert_eq!(data(&operator, &bob)["quotas"], quotas);

    let set = data(&operator, &["owner", "set", "alice", "--agents", "2"]);
    assert_eq!(set["quotas"]["agents"], 2);
    assert_eq!(set["quotas"]["vcpu"], alice["quotas"]["vcpu"]);
    assert_eq!(data(&operator, &["owner", "show", "alice"]), set);
    refused(&agent(&operator, &["owner", "set", "alice"]), 2, "--agents");
    refused(
        &agent(&operator, &["owner", "set", "nobody", "--agents", "1"]),
        8,
        "no owner nobody",
    );

    let (secret, _) = made(&agent(&operator, &["token", "new", "--for", "alice"]));
    let tenant = shell_of(&stage, &secret);
    assert_eq!(data(&tenant, &["owner", "show"]), set);
    assert_eq!(data(&tenant, &["ensure"])["state"], "ready");
    for command in [
        vec!["owner", "list"],
        vec!["owner", "show", "bob"],
        vec!["owner", "set", "alice", "--agents", "9"],
        vec!["token", "new", "--for", "alice"],
        vec!["allow", "list"],
        vec!["audit"],
        vec!["strays"],
    ] {
        refused(&agent(&tenant, &command), 6, "forbidden");
    }
    let listed = agent(&operator, &["owner", "list"]).stdout;
    let lines: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        [
            "OWNER", "ROLE", "ACCESS", "AGENTS", "VCPU", "MIB", "GIB", "NAME"
        ]
    );
    assert_eq!(lines[1][..4], ["alice", "tenant", "yes", "1/2"], "{listed}");
    assert_eq!(lines[2][3..], ["0/1", "0/2", "0/2048", "0/20"], "{listed}");
    let shown = agent(&tenant, &["owner", "show"]).stdout;
    assert!(shown.starts_with("alice  tenant\n"), "{shown}");
    assert!(shown.contains("\n  agents   1 of 2\n"), "{shown}");
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_says_who_may_and_reads_who_did_what() {
    let stage = Stage::new().await;
    let operator = stage.shell();
    let carol = ["allow", "add", "npub1carol", "--note", "asked for it"];
    assert_eq!(data(&operator, &carol)["note"], "asked for it");
    let listed = agent(&operator, &["allow", "list"]).stdout;
    let line = listed.lines().find(|line| line.starts_with("npub1carol"));
    assert!(line.unwrap().ends_with("  asked for it"), "{listed}");
    let removed = agent(&operator, &["allow", "remove", "npub1carol"]);
    assert_eq!(
        (
            removed.code,
            removed.stdout.as_str(),
            removed.stderr.as_str()
        ),
        (0, "", "npub1carol may not use the API any more\n")
    );
    let again = agent(&operator, &["allow", "remove", "npub1carol"]);
    refused(&again, 8, "not_found");
    refused(
        &agent(&operator, &["allow", "add", "a b"]),
        2,
        "invalid_request",
    );

    let all = data(&operator, &["audit"]);
    let all = all.as_array().unwrap();
    assert_eq!(
        (&all[0]["action"], &all[1]["action"], &all[1]["subject"]),
        (
            &json!("disallowed"),
            &json!("allowed"),
            &json!("npub1carol")
        )
    );
    assert_eq!(data(&operator, &["audit", "-n", "1"]), json!([all[0]]));
    let before = all[0]["id"].to_string();
    let older = data(&operator, &["audit", "-n", "1", "--before", &before]);
    assert_eq!(older, json!([all[1]]));
    let human = agent(&operator, &["audit", "-n", "2"]).stdout;
    assert!(human.starts_with("ID "), "{human}");
    assert!(human.contains("  disallowed  npub1carol\n"), "{human}");
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_removes_a_stray_instance_and_its_volume_stays() {
    let stage = Stage::new().await;
    let lost = data(&stage.shell(), &["ensure"]);
    let name = lost["vm_id"].as_str().unwrap();
    let stage = stage.without_its_database().await;
    let operator = stage.shell();
    let until = Instant::now() + LIMIT;
    // The server's first look finds them.
    let found = loop {
        let found = data(&operator, &["strays"]);
        if found != json!([]) {
            break found;
        }
        assert!(Instant::now() < until, "no strays");
    };
    assert_eq!(found, data(&operator, &["strays", "list"]));
    let kinds: Vec<&Value> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kind"])
        .collect();
    assert_eq!(kinds, ["instance", "volume"]);

    let unsure = agent(&operator, &["strays", "remove", name]);
    refused(&unsure, 2, "its volume stays");
    assert_eq!(stage.fake.world().instance_count(), 1);
    let removed = agent(&operator, &["strays", "remove", name, "--yes"]);
    assert_eq!(
        (removed.code, removed.stdout, removed.stderr),
        (0, String::new(), format!("{name} is gone\n"))
    );
    assert_eq!(stage.fake.world().instance_count(), 0);
    assert_eq!(stage.fake.world().volume_count(), 1);
    refused(
        &agent(&operator, &["strays", "remove", name, "--yes"]),
        8,
        "not_found",
    );
    stage.server.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_log_of_many_pages_is_read_as_far_as_it_is_asked_for() {
    let stage = Stage::new().await;
    let client = pika_agent_client::AgentClient::new(
        &stage.address(),
        pika_agent_client::Token::new(&stage.token).unwrap(),
    )
    .unwrap();
    for number in 0..520 {
        let owner = format!("owner-{number}");
        client.allow(&owner, &Default::default()).await.unwrap();
    }
    let entries = data(&stage.shell(), &["audit", "-n", "510"]);
    let subjects: Vec<&str> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["subject"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = (10..520).rev().map(|n| format!("owner-{n}")).collect();
    assert_eq!(subjects, expected);
    let allowed = data(&stage.shell(), &["allow", "list"]);
    assert!(allowed.as_array().unwrap().len() >= 520);
    stage.server.shut_down().await;
}
