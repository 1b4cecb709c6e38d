//! A pool that is full when an agent is made or backed up: a reason that says so, nothing lost, and all of it works once
//! there is room again.

use std::time::Duration;

use pikahut::daemon::Pool;
use pikahut::stack::TestIncus;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::real::ask;
use crate::support::{Api, Running, config_of_tiny};

/// On a machine where everything else runs too.
const LIMIT: Duration = Duration::from_secs(240);
/// Fills whatever is left, in big pieces and then in small ones: on the root disk, which no backup keeps.
const FILL: &str =
    "dd if=/dev/zero of=/fill bs=1M 2>/dev/null; dd if=/dev/zero of=/fill2 bs=4k oflag=sync 2>&1";
const FREE: &str = "rm -f /fill /fill2 && echo freed";
const NOTE: &str = "cat /mnt/pika-state/note";

/// What an operation that failed says, with everything that belongs to it.
fn assert_says_full(failed: &Value) {
    assert_eq!(failed["state"], "failed", "{failed}");
    let message = failed["error"]["message"].as_str().unwrap();
    let words = message.to_lowercase();
    assert!(words.contains("no space left on device"), "{failed}");
}

async fn ended(api: &Api, path: &str) -> Value {
    let (status, view) = api.post(path, json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{path}: {view}");
    let id = view["operation"]["operation_id"].as_str().unwrap();
    api.operation_within(id, LIMIT).await
}

/// The pool clears freed pieces away by and by: until it has, the same may be told again, and nothing else.
async fn succeeds_in_the_end(api: &Api, path: &str) -> Value {
    let until = Instant::now() + LIMIT;
    loop {
        let end = ended(api, path).await;
        if end["state"] == "succeeded" {
            return end;
        }
        assert_says_full(&end);
        assert!(Instant::now() < until, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_private_pool_is_told_and_nothing_is_lost() {
    let change = |config| pikahut::daemon::PrivateIncusConfig {
        pool: Pool::Btrfs { size_gib: 1 },
        ..config
    };
    let incus = TestIncus::private_with("full", change).await;
    let client = incus.client().clone();
    let folder = tempfile::tempdir().unwrap();
    let config = config_of_tiny(&incus, folder.path(), LIMIT).await;
    let running = Running::start(config).await;
    let first = running.tenant("first", "write").await;
    let second = running.tenant("second", "write").await;

    let made = ended(&first, "/v1/agents/ensure").await;
    assert_eq!(made["state"], "succeeded", "{made}");
    let made = first.agent_within("me", "ready", LIMIT).await;
    let vm = made["vm_id"].as_str().unwrap();
    ask(&client, vm, "echo kept > /mnt/pika-state/note").await;
    let filled = ask(&client, vm, FILL).await;
    assert!(filled.contains("No space left on device"), "{filled}");

    // A second agent finds no room: that is what its owner is told.
    let failed = ended(&second, "/v1/agents/ensure").await;
    assert_says_full(&failed);
    let agent = second.agent_within("me", "error", LIMIT).await;
    let reason = agent["reason"].as_str().unwrap_or_default().to_lowercase();
    assert!(reason.contains("no space left on device"), "{agent}");
    // A backup takes next to nothing on this kind of pool: it is made, or says the same.
    let backup = ended(&first, "/v1/agents/me/backups").await;
    if backup["state"] != "succeeded" {
        assert_says_full(&backup);
    }
    assert_eq!(ask(&client, vm, NOTE).await, "kept");

    // With room again, everything that was asked for comes about, for the same agents.
    assert_eq!(ask(&client, vm, FREE).await, "freed");
    let again = succeeds_in_the_end(&second, "/v1/agents/ensure").await;
    let agent_now = second.agent_within("me", "ready", LIMIT).await;
    assert_eq!(agent_now["agent_id"], agent["agent_id"], "{again}");
    succeeds_in_the_end(&first, "/v1/agents/me/backups").await;
    succeeds_in_the_end(&first, "/v1/agents/me/rebuild").await;
    assert_eq!(ask(&client, vm, NOTE).await, "kept");

    for api in [&first, &second] {
        let (status, gone) = api.delete("/v1/agents/me?purge=true").await;
        assert_eq!(status, StatusCode::ACCEPTED, "{gone}");
        let id = gone["operation"]["operation_id"].as_str().unwrap();
        let gone = api.operation_within(id, LIMIT).await;
        assert_eq!(gone["state"], "succeeded", "{gone}");
    }
    running.server.shut_down().await;
    incus.assert_nothing_left().await;
}
