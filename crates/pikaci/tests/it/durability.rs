//! The program killed with -9 in each phase of a lane, then `pikaci resume`: the right verdict, every byte of the log once,
//! nothing left.

use std::path::PathBuf;

use pikahut::stack::TestIncus;
use pikahut::stack::incus::StateChange;
use serde_json::Value;

use crate::bench_tree::{Tree, lane};
use crate::gate::{At, Gate, Stop};
use crate::program::{LIMIT, kill, start, until_logged};

pub(crate) const CREATE: Stop = Stop {
    at: At::Request,
    method: "POST",
    path: "/1.0/instances?",
    part: "",
};
const EXEC: Stop = Stop {
    path: "/1.0/instances/",
    part: "/exec",
    ..CREATE
};
const STOP: Stop = Stop {
    method: "PUT",
    path: "/1.0/instances/",
    part: "/state",
    ..CREATE
};
pub(crate) const DELETE: Stop = Stop {
    method: "DELETE",
    path: "/1.0/instances/",
    ..CREATE
};

/// Writes lines, and a file that is kept.
const SCRIPT: &str = "seq 1 2000; echo made > $PIKACI_ARTIFACTS_DIR/made.txt";

fn lines(to: u32) -> Vec<u8> {
    let lines: Vec<String> = (1..=to).map(|line| format!("{line}\n")).collect();
    lines.concat().into_bytes()
}

fn read(path: PathBuf) -> Value {
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("a JSON document")
}

/// Kills the program at `stop`, takes the run up, and checks its end.
async fn killed_at(stop: Stop, was_there: &[&str], was_not_there: &[&str]) {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("work", SCRIPT, "artifacts = [\"*.txt\"]")).await;
    let mut gate = Gate::open(incus.socket(), stop);
    let socket = gate.socket();
    let child = start(
        &tree,
        &["run", "work", "--socket", socket.to_str().expect("text")],
    );
    tokio::time::timeout(LIMIT, gate.stopped())
        .await
        .unwrap_or_else(|_| panic!("no request {stop:?}"));
    kill(child).await;
    drop(gate);
    let job = tree.newest_run().join("jobs/work");
    for name in was_there {
        assert!(job.join(name).exists(), "{name} was to be there");
    }
    for name in was_not_there {
        assert!(!job.join(name).exists(), "{name} was not to be there yet");
    }
    taken_up(&incus, &tree).await;
}

/// Takes the newest run up, and checks its end.
async fn taken_up(incus: &TestIncus, tree: &Tree) {
    let job = tree.newest_run().join("jobs/work");
    let resumed = tree.run(&["resume"]).await;
    resumed.assert_code(0);
    assert_eq!(tree.result("work")["outcome"], "passed");
    assert_eq!(tree.result("work")["attempt"], 1);
    assert!(tree.log("work") == lines(2000), "every byte once");
    assert_eq!(tree.result("work")["log_bytes"], tree.log("work").len());
    assert_eq!(tree.record()["state"], "finished");
    assert_eq!(tree.record()["verdict"], "passed");
    let kept = std::fs::read_to_string(job.join("artifacts/made.txt")).expect("kept");
    assert_eq!(kept, "made\n");
    let removal = read(job.join("removal.json"));
    assert!(
        ["destroyed", "gone"].contains(&removal["removal"].as_str().expect("a word")),
        "{removal}"
    );
    incus.assert_nothing_left().await;
    let listed = tree.run(&["list"]).await;
    assert!(!listed.stderr.contains("interrupted"), "{}", listed.stderr);
}

#[tokio::test]
async fn killed_before_the_instance_is_asked_for() {
    killed_at(CREATE, &["job.json"], &["runtime.json", "log"]).await;
}

#[tokio::test]
async fn killed_while_the_instance_is_made() {
    let stop = Stop {
        at: At::Answer,
        ..CREATE
    };
    killed_at(stop, &["job.json"], &["runtime.json", "log"]).await;
}

#[tokio::test]
async fn killed_before_the_runner_waits() {
    killed_at(EXEC, &["job.json"], &["runtime.json", "log"]).await;
}

#[tokio::test]
async fn killed_when_the_runner_waits_and_nothing_says_so() {
    let stop = Stop {
        at: At::Answer,
        ..EXEC
    };
    killed_at(stop, &["job.json"], &["runtime.json", "log"]).await;
}

#[tokio::test]
async fn killed_when_the_command_may_have_started() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("work", SCRIPT, "artifacts = [\"*.txt\"]")).await;
    let child = start(&tree, &["run", "work"]);
    let noted = pikahut::wait::until_async(LIMIT, || async {
        let noted = tree.try_newest_run()?.join("jobs/work/runtime.json");
        noted.exists().then_some(())
    });
    noted.await.expect("the instance is noted");
    kill(child).await;
    taken_up(&incus, &tree).await;
}

#[tokio::test]
async fn killed_with_the_result_and_before_the_instance_is_removed() {
    killed_at(STOP, &["result.json", "artifacts.json"], &["removal.json"]).await;
}

#[tokio::test]
async fn killed_before_the_stopped_instance_is_deleted() {
    killed_at(DELETE, &["result.json"], &["removal.json"]).await;
}

#[tokio::test]
async fn killed_when_the_instance_is_deleted_and_nothing_says_so() {
    let stop = Stop {
        at: At::Answer,
        ..DELETE
    };
    killed_at(stop, &["result.json"], &["removal.json"]).await;
}

#[tokio::test]
async fn killed_twice_with_output_flowing() {
    let incus = TestIncus::shared().await;
    let script =
        "for i in $(seq 1 6000); do echo $i; [ $((i % 50)) != 0 ] || sleep 0.05; done; exit 7";
    let lanes = [
        lane("flows", script, ""),
        lane("beside", "echo beside", ""),
        lane("after", "true", "needs = [\"flows\"]"),
        lane(
            "later",
            "echo later",
            "needs = [\"beside\"]\nconcurrency_group = \"g\"",
        ),
        lane("holds", "sleep 5", "concurrency_group = \"g\""),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let child = start(&tree, &["run", "--all", "--jobs", "3"]);
    until_logged(&tree, "flows", "\n500\n").await;
    kill(child).await;
    let first = tree.log("flows").len();
    let child = start(&tree, &["resume"]);
    until_logged(&tree, "flows", "\n2500\n").await;
    kill(child).await;
    assert!(first < tree.log("flows").len(), "it went on");
    let resumed = tree.run(&["resume"]).await;
    resumed.assert_code(1);
    let result = tree.result("flows");
    assert_eq!(
        (&result["outcome"], &result["exit_code"]),
        (&"failed".into(), &7.into())
    );
    assert!(tree.log("flows") == lines(6000), "every byte once");
    assert_eq!(tree.log("beside"), b"beside\n");
    assert_eq!(tree.log("later"), b"later\n");
    assert_eq!(tree.result("after")["outcome"], "skipped");
    assert_eq!(tree.record()["verdict"], "failed");
    incus.assert_nothing_left().await;
    let over = tree.run(&["resume", &tree.newest_id()]).await;
    assert!(
        over.assert_code(2).stderr.contains("is over"),
        "{}",
        over.stderr
    );
    tree.run(&["resume"]).await.assert_code(2);
}

#[tokio::test]
async fn what_ended_while_nobody_followed_has_its_real_verdict() {
    let incus = TestIncus::shared().await;
    let keys = "timeout = \"4s\"";
    let lanes = [
        lane("fails", "echo ready; sleep 2; echo done; exit 7", ""),
        lane("late", "echo ready; sleep 600", keys),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let child = start(&tree, &["run", "--all", "--jobs", "2"]);
    until_logged(&tree, "fails", "ready").await;
    until_logged(&tree, "late", "ready").await;
    kill(child).await;
    for lane in ["fails", "late"] {
        until_over_in_guest(&incus, &tree, lane).await;
    }
    let resumed = tree.run(&["resume"]).await;
    resumed.assert_code(1);
    assert_eq!(tree.result("fails")["exit_code"], 7);
    assert_eq!(tree.log("fails"), b"ready\ndone\n");
    assert_eq!(tree.result("late")["deadline"], "run");
    incus.assert_nothing_left().await;
}

/// Waits until the guest itself has written the result of its run.
async fn until_over_in_guest(incus: &TestIncus, tree: &Tree, lane: &str) {
    let job = read(tree.newest_run().join("jobs").join(lane).join("job.json"));
    let instance = job["instance_name"].as_str().expect("a name").to_owned();
    let over = pikahut::wait::until_async(LIMIT, || async {
        let path = "/run/pika-cloud/result.json";
        incus.client().file_head(&instance, path).await.ok()
    });
    over.await
        .unwrap_or_else(|| panic!("the guest of {lane} has no result"));
}

#[tokio::test]
async fn the_next_run_offers_an_interrupted_one_and_leaves_its_instances() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane(
            "waits",
            "echo ready; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo went",
            "",
        ),
        lane("other", "true", ""),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let child = start(&tree, &["run", "waits"]);
    until_logged(&tree, "waits", "ready").await;
    kill(child).await;
    let (run, id) = (tree.newest_run(), tree.newest_id());
    let next = tree.run(&["run", "other"]).await;
    next.assert_code(0);
    for words in [
        format!("run {id} was interrupted"),
        format!("pikaci resume {id}"),
    ] {
        assert!(next.stderr.contains(&words), "{words}: {}", next.stderr);
    }
    assert_eq!(read(run.join("run.json"))["state"], "interrupted");
    assert!(
        !run.join("jobs/waits/result.json").exists(),
        "it is not over"
    );
    // The snapshot that the instance has mounted stays, though other runs came after it.
    let source = read(run.join("run.json"))["source"]["manifest"].clone();
    let snapshot = tree
        .root()
        .join(".pikaci/snapshots")
        .join(source.as_str().expect("an id"));
    assert!(snapshot.join("hello.txt").exists());
    let instance = read(run.join("jobs/waits/job.json"))["instance_name"].clone();
    let instance = instance.as_str().expect("a name");
    incus
        .client()
        .instance(instance)
        .await
        .expect("the next run left it");
    expire(&run, "waits");
    let listed = tree.run(&["list"]).await;
    assert!(
        listed
            .assert_code(0)
            .stderr
            .contains("was interrupted; 1 instance was left and is removed"),
        "{}",
        listed.stderr
    );
    assert_eq!(read(run.join("run.json"))["verdict"], "infrastructure");
    assert_eq!(
        read(run.join("jobs/waits/result.json"))["kind"],
        "interrupted"
    );
    incus.assert_nothing_left().await;
    tree.run(&["resume", &id]).await.assert_code(2);
    let again = tree.run(&["list"]).await;
    assert!(!again.stderr.contains("interrupted"), "{}", again.stderr);
}

/// Makes it so that the run began, and its leases ended, long ago.
pub(crate) fn expire(run: &std::path::Path, lane: &str) {
    let change = |path: PathBuf, key: &str| {
        let mut record = read(path.clone());
        record[key] = "2026-01-01T00:00:00Z".into();
        std::fs::write(path, record.to_string()).expect("written");
    };
    change(run.join("run.json"), "started_at");
    change(run.join("jobs").join(lane).join("job.json"), "lease_until");
}

#[tokio::test]
async fn an_instance_that_went_while_nobody_followed_is_no_verdict() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("gone", "echo ready; sleep 600", ""),
        lane("restarted", "echo ready; sleep 600", ""),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let child = start(&tree, &["run", "--all", "--jobs", "2"]);
    let mut instances = Vec::new();
    for lane in ["gone", "restarted"] {
        until_logged(&tree, lane, "ready").await;
        let job = read(tree.newest_run().join("jobs").join(lane).join("job.json"));
        instances.push(job["instance_name"].as_str().expect("a name").to_owned());
    }
    kill(child).await;
    let client = incus.client();
    let stop = StateChange::force_stop();
    for instance in &instances {
        let stopped = client
            .set_instance_state(instance, &stop)
            .await
            .expect("asked");
        stopped.wait(LIMIT).await.expect("stopped");
    }
    let deleted = client.delete_instance(&instances[0]).await.expect("asked");
    deleted.wait(LIMIT).await.expect("deleted");
    let started = client
        .set_instance_state(&instances[1], &StateChange::start())
        .await
        .expect("asked");
    started.wait(LIMIT).await.expect("started");
    let resumed = tree.run(&["resume"]).await;
    resumed.assert_code(3);
    assert_eq!(tree.result("gone")["kind"], "guest_gone");
    assert_eq!(tree.result("restarted")["kind"], "guest_restarted");
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn records_that_a_branch_brings_along_are_not_taken_up() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("waits", "echo ready; sleep 600", "")).await;
    let child = start(&tree, &["run", "waits"]);
    until_logged(&tree, "waits", "ready").await;
    kill(child).await;
    tree.git(&["add", "-f", ".pikaci/runs"]);
    let refused = tree.run(&["resume"]).await;
    assert!(
        refused.assert_code(2).stderr.contains("git tracks files"),
        "{}",
        refused.stderr
    );
    tree.git(&["rm", "-r", "-f", "-q", "--cached", ".pikaci"]);
    tree.run(&["cancel"]).await.assert_code(0);
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn killed_between_two_attempts() {
    let incus = TestIncus::shared().await;
    let script = "echo attempt $PIKACI_ATTEMPT; [ $PIKACI_ATTEMPT = 2 ]";
    let tree = Tree::on(&incus, &lane("flaky", script, "retry = 3")).await;
    let child = start(&tree, &["run", "flaky"]);
    let failed = pikahut::wait::until_async(LIMIT, || async {
        let job = tree.try_newest_run()?.join("jobs/flaky");
        job.join("result.json").exists().then_some(job)
    });
    let job = failed.await.expect("the first attempt ends");
    kill(child).await;
    tree.run(&["resume"]).await.assert_code(0);
    assert_eq!(tree.result("flaky")["attempt"], 2);
    assert_eq!(tree.log("flaky"), b"attempt 2\n");
    let first = std::fs::read(job.join("attempts/1/log")).expect("kept");
    assert_eq!(first, b"attempt 1\n");
    incus.assert_nothing_left().await;
}
