//! `kill -9` of the real program on a real Incus, at random moments of random operations. Whoever starts next on the same
//! database ends each operation as it should: the same agent, its volume with all that it held, and nothing else.
//!
//! Guests are the least that an agent can be, so that a kill costs seconds. `PIKA_TEST_KILLS` and `PIKA_TEST_SEED` say how
//! many kills there are and which; `cargo xtask bench server-kills` sets both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pika_managed_agent_contract::OperationKind;
use pikahut::served::Served;
use pikahut::stack::{TestIncus, left_of};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::real::{ask, remove};
use crate::support::Api;

/// Kills of an ordinary run of the tests.
const KILLS: u64 = 6;
/// What they are drawn from.
const SEED: u64 = 4;
/// Latest moment of a kill after the request was taken: most operations take less than twice as long.
const LATEST_MS: u64 = 1_200;
/// Operations wait for the dead server's lease, and then for a machine on which everything else runs too.
const LIMIT: Duration = Duration::from_secs(240);

/// The same numbers from the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        // Splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A server that is killed and started again, with one tenant.
struct Rig {
    incus: TestIncus,
    folder: tempfile::TempDir,
    served: Option<Served>,
    token: String,
}

impl Rig {
    async fn new() -> Rig {
        let incus = TestIncus::shared().await;
        let image = incus.tiny_agent_image().await;
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ndatabase = \"sqlite:{}\"\nrequests_per_second = 100000\n\
             [incus]\nsocket = {:?}\nowner = {:?}\ninstance_type = \"container\"\n\
             [agents.incus]\nimage_alias = {image:?}\n\
             [sizes]\nvcpu = 1\nmemory_mib = 256\ndisk_gib = 1\n[quotas]\nbackups = 1000\n\
             [times]\nready_secs = 120\nreconcile_secs = 1\nlease_secs = 5\nrestart_rest_secs = 3600\n\
             stop_grace_secs = 5\nrecover_cool_down_secs = 0\n",
            folder.path().join("pika.db").display(),
            incus.socket(),
            incus.owner(),
        );
        std::fs::write(folder.path().join("server.toml"), text).unwrap();
        let mut rig = Rig {
            incus,
            folder,
            served: None,
            token: String::new(),
        };
        rig.start().await;
        let operator = rig.first_token();
        let api = Api::at(rig.base(), &operator);
        let made = api.post("/v1/owners", json!({ "owner_id": "alice" })).await;
        assert_eq!(made.0, StatusCode::CREATED, "{made:?}");
        let (_, made) = api
            .post("/v1/owners/alice/tokens", json!({ "scope": "write" }))
            .await;
        rig.token = made["secret"].as_str().unwrap().to_owned();
        rig
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    async fn start(&mut self) {
        let program = Path::new(env!("CARGO_BIN_EXE_pika-server"));
        let config = self.folder.path().join("server.toml");
        let served = Served::start(program, &config, &self.log()).await;
        self.served = Some(served.unwrap());
    }

    async fn kill(&mut self) {
        self.served.take().unwrap().kill().await.unwrap();
    }

    fn base(&self) -> &str {
        self.served.as_ref().unwrap().base()
    }

    fn first_token(&self) -> String {
        let served = self.served.as_ref().unwrap();
        served.first_token().unwrap().to_owned()
    }

    fn api(&self) -> Api {
        Api::at(self.base(), &self.token)
    }

    async fn in_guest(&self, script: &str) -> String {
        let agent = self.api().get("/v1/agents/me").await.1;
        let vm = agent["vm_id"].as_str().unwrap();
        ask(self.incus.client(), vm, script).await
    }

    /// Instances and volumes of this deployment in Incus.
    async fn things(&self) -> (usize, usize) {
        let (owner, prefix) = (self.incus.owner(), self.incus.name("none"));
        let found = left_of(self.incus.client(), &owner, &prefix).await.unwrap();
        let count = |kind: &str| found.iter().filter(|thing| thing.starts_with(kind)).count();
        (count("instance "), count("volume "))
    }

    /// Asks for something and sees it through; what the volume holds is none of its business.
    async fn done(&self, method: Method, path: &str, body: &Value) -> Value {
        let operation = self.asked(method, path, body).await;
        let ended = self.api().operation_within(&operation, LIMIT).await;
        assert_eq!(ended["state"], "succeeded", "{path}: {ended}");
        ended
    }

    /// Asks for something; gives the operation.
    async fn asked(&self, method: Method, path: &str, body: &Value) -> String {
        let api = self.api();
        let request = api.request(method, path).json(body);
        let (status, view) = api.send(request).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{path}: {view}");
        let id = view["operation"]["operation_id"].as_str();
        id.unwrap().to_owned()
    }
}

/// What is sent for a kind, to the agent of this id.
fn request_of(kind: OperationKind, id: &str) -> (Method, String) {
    match kind {
        OperationKind::Create => (Method::POST, "/v1/agents/ensure".to_owned()),
        OperationKind::Delete => (Method::DELETE, "/v1/agents/me?purge=true".to_owned()),
        OperationKind::Backup => (Method::POST, "/v1/agents/me/backups".to_owned()),
        // It is what `me` means only afterwards.
        OperationKind::Undelete => (Method::POST, format!("/v1/agents/{id}/undelete")),
        other => (Method::POST, format!("/v1/agents/me/{other}")),
    }
}

/// Brings an agent with a note on its volume to where the operation makes sense; gives the request's body.
async fn prepare(rig: &Rig, kind: OperationKind, note: &str) -> Value {
    let (status, agent) = rig.api().get("/v1/agents/me").await;
    if kind == OperationKind::Create {
        if status == StatusCode::OK {
            let (method, path) = request_of(OperationKind::Delete, "me");
            rig.done(method, &path, &json!({})).await;
        }
        return json!({});
    }
    if agent["state"] != "ready" {
        let path = match agent["state"].as_str() {
            Some("stopped") => "/v1/agents/me/start",
            _ => "/v1/agents/ensure",
        };
        rig.done(Method::POST, path, &json!({})).await;
    }
    let agent = rig.api().agent_within("me", "ready", LIMIT).await;
    rig.in_guest(&format!("echo {note} > /mnt/pika-state/note"))
        .await;
    match kind {
        OperationKind::Start => {
            rig.done(Method::POST, "/v1/agents/me/stop", &json!({}))
                .await;
        }
        OperationKind::Recover => {
            remove(rig.incus.client(), agent["vm_id"].as_str().unwrap()).await;
            rig.api().agent_within("me", "error", LIMIT).await;
        }
        OperationKind::Restore => {
            let (method, path) = request_of(OperationKind::Backup, "me");
            rig.done(method, &path, &json!({})).await;
            rig.in_guest("echo later > /mnt/pika-state/note").await;
            let (_, backups) = rig.api().get("/v1/agents/me/backups").await;
            // The newest is the first.
            return json!({ "backup": backups["backups"][0]["name"] });
        }
        OperationKind::Undelete => {
            rig.done(Method::DELETE, "/v1/agents/me", &json!({})).await;
        }
        _ => {}
    }
    json!({})
}

/// One kill; whether it came in the middle.
async fn killed(rig: &mut Rig, kind: OperationKind, delay: Duration, note: &str) -> bool {
    let body = prepare(rig, kind, note).await;
    let before = rig.api().get("/v1/agents?deleted=true").await.1["agents"][0].clone();
    let (method, path) = request_of(kind, before["agent_id"].as_str().unwrap_or_default());
    let operation = rig.asked(method, &path, &body).await;
    tokio::time::sleep(delay).await;
    let (_, seen) = rig.api().get(&format!("/v1/operations/{operation}")).await;
    rig.kill().await;
    rig.start().await;
    let ended = rig.api().operation_within(&operation, LIMIT).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    check_end(rig, kind, &before, note).await;
    ["pending", "running"].contains(&seen["state"].as_str().unwrap_or_default())
}

async fn check_end(rig: &Rig, kind: OperationKind, before: &Value, note: &str) {
    if kind == OperationKind::Delete {
        assert_eq!(rig.things().await, (0, 0));
        let (status, agent) = rig.api().get("/v1/agents/me").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{agent}");
        return;
    }
    if kind == OperationKind::Stop {
        rig.api().agent_within("me", "stopped", LIMIT).await;
        assert_eq!(rig.things().await, (1, 1));
        rig.done(Method::POST, "/v1/agents/me/start", &json!({}))
            .await;
    }
    let agent = rig.api().agent_within("me", "ready", LIMIT).await;
    assert_eq!(rig.things().await, (1, 1), "{agent}");
    let agents = rig.api().get("/v1/agents").await.1;
    assert_eq!(agents["agents"].as_array().unwrap().len(), 1, "{agents}");
    if kind != OperationKind::Create {
        assert_eq!(agent["agent_id"], before["agent_id"]);
        let expected = if kind == OperationKind::Reset {
            ""
        } else {
            note
        };
        let found = rig.in_guest("cat /mnt/pika-state/note").await;
        assert_eq!(found, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the seed makes a failure happen again")]
async fn random_kills_of_the_real_program_lose_and_leave_nothing() {
    let kills = number("PIKA_TEST_KILLS").unwrap_or(KILLS);
    let seed = number("PIKA_TEST_SEED").unwrap_or(SEED);
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut rig = Rig::new().await;
    let mut in_the_middle = 0;
    for number in 1..=kills {
        let kinds = OperationKind::ALL;
        let kind = kinds[usize::try_from(dice.below(kinds.len() as u64)).unwrap()];
        let delay = Duration::from_millis(dice.below(LATEST_MS));
        println!("{number}: {kind} killed after {} ms", delay.as_millis());
        let hit = killed(&mut rig, kind, delay, &format!("note-{number}")).await;
        in_the_middle += u32::from(hit);
    }
    println!("{kills} kills, {in_the_middle} of them in the middle of an operation");
    if rig.api().get("/v1/agents/me").await.0 == StatusCode::OK {
        let (method, path) = request_of(OperationKind::Delete, "me");
        rig.done(method, &path, &json!({})).await;
    }
    rig.served.take().unwrap().end().await.unwrap();
    rig.incus.assert_nothing_left().await;
}
