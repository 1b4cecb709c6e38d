//! Each outcome of a lane, seen from the outside: exit code, record, log, nothing left.

use pikahut::stack::TestIncus;
use serde_json::json;

use crate::bench_tree::{Tree, lane};

#[tokio::test]
async fn a_lane_that_passes() {
    let incus = TestIncus::shared().await;
    let script = "cat hello.txt; echo to-stderr >&2; id -un; pwd; cat /proc/1/comm";
    let tree = Tree::on(&incus, &lane("hello", script, "")).await;
    let ended = tree.run(&["run", "hello"]).await;
    ended.assert_code(0);
    for line in [
        "from the work tree",
        "to-stderr",
        "pikaci",
        "/workspace/snapshot",
        "systemd",
    ] {
        assert!(
            ended.stdout.contains(&format!("hello | {line}\n")),
            "{line}: {}",
            ended.stdout
        );
    }
    assert!(ended.stdout.contains("1 of 1 passed"), "{}", ended.stdout);
    assert_eq!(tree.result("hello")["outcome"], "passed");
    assert_eq!(tree.result("hello")["log_bytes"], tree.log("hello").len());
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn every_other_end_has_its_own_outcome_and_exit_code() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("seven", "echo error: broken; exit 7", ""),
        lane("killed", "kill -9 $$", ""),
        lane(
            "late",
            "trap '' TERM; echo begun; while :; do sleep 1; done",
            "timeout = \"2s\"",
        ),
        lane("code-124", "exit 124", ""),
        lane("code-137", "exit 137", ""),
        lane("after", "true", "needs = [\"seven\"]"),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let ended = tree.run(&["run", "--all", "--jobs", "3"]).await;
    ended.assert_code(1);
    for (lane, expected) in [
        ("seven", json!({"outcome": "failed", "exit_code": 7})),
        ("killed", json!({"outcome": "failed", "signal": 9})),
        ("late", json!({"outcome": "timed_out", "deadline": "run"})),
        ("code-124", json!({"outcome": "failed", "exit_code": 124})),
        ("code-137", json!({"outcome": "failed", "exit_code": 137})),
        ("after", json!({"outcome": "skipped"})),
    ] {
        let result = tree.result(lane);
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(&result[key], value, "{lane}: {result}");
        }
    }
    assert!(
        ended.stdout.contains("  error: broken\n"),
        "the first useful line: {}",
        ended.stdout
    );
    assert_eq!(String::from_utf8_lossy(&tree.log("late")), "begun\n");
    let alone = tree.run(&["run", "late"]).await;
    alone.assert_code(4);
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_lane_is_tried_again_in_a_new_instance_and_every_attempt_is_kept() {
    let incus = TestIncus::shared().await;
    let script =
        "echo attempt $PIKACI_ATTEMPT in $(cat /proc/sys/kernel/hostname); [ $PIKACI_ATTEMPT = 2 ]";
    let lanes = [
        lane("flaky", script, "retry = 3"),
        lane("after", "true", "needs = [\"flaky\"]"),
        lane("hopeless", "exit 3", "retry = 1"),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    tree.run(&["run", "after"]).await.assert_code(0);
    let (first, second) = (
        std::fs::read_to_string(tree.newest_run().join("jobs/flaky/attempts/1/log")).expect("kept"),
        String::from_utf8_lossy(&tree.log("flaky")).into_owned(),
    );
    assert!(first.starts_with("attempt 1 in pikaci-"), "{first}");
    assert!(second.starts_with("attempt 2 in pikaci-"), "{second}");
    assert_ne!(first[9..], second[9..], "each attempt has its own instance");
    assert_eq!(tree.result("flaky")["attempt"], 2);
    let ended = tree.run(&["run", "hopeless"]).await;
    ended.assert_code(1);
    assert_eq!(tree.result("hopeless")["attempt"], 2);
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_matrix_runs_each_variant() {
    let incus = TestIncus::shared().await;
    let script = "echo {{matrix.color}} $PIKACI_MATRIX_COLOR";
    let keys = "matrix = { color = [\"red\", \"blue\"] }";
    let tree = Tree::on(&incus, &lane("paint", script, keys)).await;
    tree.run(&["run", "paint"]).await.assert_code(0);
    for color in ["red", "blue"] {
        let log = tree.log(&format!("paint@color={color}"));
        assert_eq!(String::from_utf8_lossy(&log), format!("{color} {color}\n"));
    }
    tree.run(&["run", "paint@color=red"]).await.assert_code(0);
    assert!(!tree.newest_run().join("jobs/paint@color=blue").exists());
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn the_log_is_the_bytes_that_were_written() {
    let incus = TestIncus::shared().await;
    let script = r"printf 'a\xff\x00b\r\n\x1b[31mred\x1b[0m\n'; head -c 3000000 /dev/zero | tr '\0' x; printf end";
    let tree = Tree::on(&incus, &lane("bytes", script, "")).await;
    let ended = tree.run(&["run", "bytes", "--output", "json"]).await;
    ended.assert_code(0);
    let mut expected = b"a\xff\x00b\r\n\x1b[31mred\x1b[0m\n".to_vec();
    expected.extend(std::iter::repeat_n(b'x', 3_000_000));
    expected.extend(b"end");
    assert!(
        tree.log("bytes") == expected,
        "{} bytes",
        tree.log("bytes").len()
    );
    let document: serde_json::Value =
        serde_json::from_str(&ended.stdout).expect("one JSON document on stdout");
    assert_eq!(
        (&document["verdict"], &document["exit_code"]),
        (&json!("passed"), &json!(0))
    );
    let logs = tree.command(&["logs"]).output().expect("runs");
    assert!(
        logs.stdout == expected,
        "`logs` of one lane gives its bytes"
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn what_a_lane_says_comes_before_what_is_said_of_it() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("counts", "seq 50000; printf end", "")).await;
    let shown = tree.root().join("../shown");
    let file = std::fs::File::create(&shown).expect("created");
    let mut command = tree.command(&["run", "counts"]);
    command
        .stdout(file.try_clone().expect("cloned"))
        .stderr(file);
    let status = tokio::process::Command::from(command).status().await;
    assert!(status.expect("runs").success());
    let shown = std::fs::read_to_string(shown).expect("read");
    let of_lane = shown
        .lines()
        .filter_map(|line| line.strip_prefix("counts | "));
    let expected: Vec<String> = (1..=50_000).map(|n| n.to_string()).collect();
    let said: Vec<&str> = of_lane.collect();
    assert!(
        said[..50_000] == expected[..] && said[50_000..] == ["end"],
        "{} lines",
        said.len()
    );
    let (_, after) = shown.split_once("counts | end\n").expect("it ends");
    assert!(after.starts_with("+ counts passed"), "{after}");
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn artifacts_are_kept_by_their_globs() {
    let incus = TestIncus::shared().await;
    let script = "cd $PIKACI_ARTIFACTS_DIR; mkdir d; echo one > d/keep.txt; echo two > drop.bin; ln -s /etc/passwd d/link.txt; exit 3";
    let tree = Tree::on(&incus, &lane("makes", script, "artifacts = [\"**/*.txt\"]")).await;
    tree.run(&["run", "makes"]).await.assert_code(1);
    let kept = tree.newest_run().join("jobs/makes/artifacts");
    assert_eq!(
        std::fs::read_to_string(kept.join("d/keep.txt")).expect("kept"),
        "one\n"
    );
    assert!(!kept.join("drop.bin").exists() && !kept.join("d/link.txt").exists());
    let listed = tree.run(&["artifacts"]).await;
    assert!(
        listed.assert_code(0).stdout.contains("d/keep.txt"),
        "{}",
        listed.stdout
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn the_snapshot_is_read_only_and_of_the_moment() {
    let incus = TestIncus::shared().await;
    let script = "touch new 2>&1; echo x >> hello.txt; [ -z \"$(ls -A .git 2>/dev/null)\" ] && cat extra.txt";
    let tree = Tree::on(&incus, &lane("reads", script, "")).await;
    std::fs::write(tree.root().join("extra.txt"), "untracked\n").expect("written");
    tree.run(&["run", "reads"]).await.assert_code(0);
    let log = String::from_utf8_lossy(&tree.log("reads")).into_owned();
    assert!(
        log.contains("Read-only file system") && log.ends_with("untracked\n"),
        "{log}"
    );
    assert_eq!(
        std::fs::read_to_string(tree.root().join("hello.txt")).expect("there"),
        "from the work tree\n"
    );
    assert!(!tree.root().join("new").exists());
    incus.assert_nothing_left().await;
}
