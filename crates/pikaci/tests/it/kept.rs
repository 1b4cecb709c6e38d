//! Instances of lanes that did not pass, kept for people to look into: entered, released, and gone when their time is over.

use pikahut::stack::TestIncus;

use crate::bench_tree::{Tree, lane};
use crate::caches::{CACHE, volumes};
use crate::gate::{At, Gate, Stop};
use crate::program::{LIMIT, kill, start};

/// What a process's command can tell of what it was given.
const FACTS: &str = "env | grep -v '^_=\\|^SHLVL=' | sort; id; pwd; umask; ulimit -c";
const MOVE_LEASE: Stop = Stop {
    at: At::Request,
    method: "PATCH",
    path: "/1.0/instances/",
    part: "",
};

fn removal(tree: &Tree, lane: &str) -> serde_json::Value {
    let path = tree
        .newest_run()
        .join("jobs")
        .join(lane)
        .join("removal.json");
    let text = std::fs::read_to_string(path).expect("noted");
    serde_json::from_str(&text).expect("a JSON document")
}

#[tokio::test]
async fn a_failed_lane_is_kept_entered_and_released() {
    let incus = TestIncus::shared().await;
    let keys = "caches = [\"note\"]\nworkspace = \"writable\"\nenv = { LANES_OWN = \"a b\" }";
    let script = format!("{FACTS}; echo mine > left; echo poison > /cache/note; exit 7");
    let lanes = [lane("bad", &script, keys), lane("good", "true", "")].concat();
    let tree = Tree::on(&incus, &lanes).await;
    tree.configure(CACHE);
    let ran = tree
        .run(&["run", "--all", "--keep-going", "--trusted", "--keep-failed"])
        .await;
    ran.assert_code(1);
    let run = tree.newest_id();
    for told in [
        format!("pikaci shell --run {run} bad"),
        format!("pikaci release {run} bad"),
    ] {
        assert!(ran.stdout.contains(&told), "{}", ran.stdout);
    }
    assert_eq!(removal(&tree, "bad")["removal"], "kept");
    assert_eq!(removal(&tree, "good")["removal"], "destroyed");

    let of_lane = String::from_utf8(tree.log("bad")).expect("text");
    assert!(of_lane.contains("LANES_OWN=a b"), "{of_lane}");
    assert!(of_lane.contains("PIKACI_ATTEMPT=1"), "{of_lane}");
    let enter = |script: String| {
        let (tree, run) = (&tree, &run);
        async move {
            let arguments = ["shell", "--run", run, "bad", "--", "bash", "-c", &script];
            tree.run(&arguments).await
        }
    };
    let entered = enter(FACTS.to_owned()).await;
    entered.assert_code(0);
    assert_eq!(entered.stdout, of_lane);
    // It stays, with what the job and whoever entered it left.
    let again = enter("cat left; exit 9".to_owned()).await;
    again.assert_code(9);
    assert_eq!(again.stdout, "mine\n");
    tree.run(&["shell", "--run", &run, "good"])
        .await
        .assert_code(2);
    tree.run(&["resume"]).await.assert_code(2);
    tree.run(&["resume", &run]).await.assert_code(2);
    tree.run(&["gc"]).await.assert_code(0);
    let why = tree.run(&["why", "bad"]).await.stdout;
    assert!(why.contains("is kept until"), "{why}");

    tree.run(&["release", &run, "good"]).await.assert_code(2);
    tree.run(&["release", &run, "bad"]).await.assert_code(0);
    assert_eq!(removal(&tree, "bad")["removal"], "destroyed");
    assert!(volumes(&incus).await.is_empty(), "nothing is committed");
    tree.run(&["release", &run]).await.assert_code(2);
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn what_is_kept_goes_with_the_first_command_past_its_time() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("bad", "false", "")).await;
    tree.run(&["run", "bad", "--keep-failed=1s"])
        .await
        .assert_code(1);
    let gone = pikahut::wait::until_async(LIMIT, || async {
        tree.run(&["status"]).await.assert_code(0);
        (removal(&tree, "bad")["removal"] == "destroyed").then_some(())
    });
    gone.await.expect("it goes when its time is over");
    incus.assert_nothing_left().await;
    for wrong in ["--keep-failed=25h", "--keep-failed=0s", "--keep-failed=x"] {
        tree.run(&["run", "bad", wrong]).await.assert_code(2);
    }
}

/// A run that is killed at `stop`, when the result is there and nothing says what becomes of the instance.
async fn killed_at(incus: &TestIncus, stop: Stop) -> Tree {
    let tree = Tree::on(incus, &lane("bad", "false", "")).await;
    let mut gate = Gate::open(incus.socket(), stop);
    let socket = gate.socket();
    let socket = socket.to_str().expect("text");
    let child = start(&tree, &["run", "bad", "--keep-failed", "--socket", socket]);
    tokio::time::timeout(LIMIT, gate.stopped())
        .await
        .unwrap_or_else(|_| panic!("no request {stop:?}"));
    kill(child).await;
    drop(gate);
    let job = tree.newest_run().join("jobs/bad");
    assert!(job.join("result.json").exists());
    assert!(!job.join("removal.json").exists());
    tree
}

#[tokio::test]
async fn killed_before_it_is_noted_as_kept_it_is_kept_by_who_takes_the_run_up() {
    let incus = TestIncus::shared().await;
    for at in [At::Request, At::Answer] {
        let tree = killed_at(&incus, Stop { at, ..MOVE_LEASE }).await;
        tree.run(&["resume"]).await.assert_code(1);
        assert_eq!(removal(&tree, "bad")["removal"], "kept");
        tree.run(&["release", &tree.newest_id()])
            .await
            .assert_code(0);
        incus.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn killed_before_it_is_noted_as_kept_it_goes_with_a_run_that_is_cancelled() {
    let incus = TestIncus::shared().await;
    for at in [At::Request, At::Answer] {
        let tree = killed_at(&incus, Stop { at, ..MOVE_LEASE }).await;
        tree.run(&["cancel"]).await.assert_code(0);
        assert_eq!(removal(&tree, "bad")["removal"], "destroyed");
        incus.assert_nothing_left().await;
    }
}
