//! Many jobs: every log complete, every verdict right, every guest alive, nothing left.

use pikahut::stack::TestIncus;

use crate::bench_tree::{Tree, lane};

/// What each guest says about itself: its init, and that the init comes to the end of its boot. A job starts
/// before that, and has the lane's own deadline to see it.
const ALIVE: &str = "cat /proc/1/comm; \
    until state=$(systemctl is-system-running 2>/dev/null); [ $state = running ] || [ $state = degraded ]; \
    do sleep 0.2; done 2>/dev/null; echo $state; echo ok";

/// Runs `count` lanes, `at_once` at a time, every seventh with exit code 7, and checks all of them.
async fn run_many(
    count: usize,
    at_once: usize,
    script: &str,
    expected_log: impl Fn(&str, usize) -> bool,
) {
    let incus = TestIncus::shared().await;
    let lanes: String = (0..count)
        .map(|n| {
            let code = if n % 7 == 3 { 7 } else { 0 };
            lane(
                &format!("job-{n:03}"),
                &format!("{script}; echo number {n}; exit {code}"),
                "resources = { memory_mib = 256 }",
            )
        })
        .collect();
    let tree = Tree::on(&incus, &lanes).await;
    let ended = tree
        .run(&["run", "--all", "--jobs", &at_once.to_string()])
        .await;
    ended.assert_code(1);
    for n in 0..count {
        let name = format!("job-{n:03}");
        let (result, log) = (tree.result(&name), tree.log(&name));
        let log = String::from_utf8(log).expect("text");
        if n % 7 == 3 {
            assert_eq!(
                (&result["outcome"], &result["exit_code"]),
                (&"failed".into(), &7.into()),
                "{name}: {result}"
            );
        } else {
            assert_eq!(result["outcome"], "passed", "{name}: {result}");
        }
        assert!(expected_log(&log, n), "{name}: {log}");
    }
    incus.assert_nothing_left().await;
}

fn is_alive(log: &str, n: usize) -> bool {
    let mut lines = log.lines();
    let init = lines.next();
    let state = lines.next();
    init == Some("systemd")
        && matches!(state, Some("running" | "degraded"))
        && log.ends_with(&format!("ok\nnumber {n}\n"))
}

#[tokio::test]
async fn heavy_a_hundred_in_sequence() {
    run_many(100, 1, "echo ok", |log, n| {
        log == format!("ok\nnumber {n}\n")
    })
    .await;
}

#[tokio::test]
async fn heavy_twenty_at_once() {
    run_many(20, 20, ALIVE, is_alive).await;
}

#[tokio::test]
async fn heavy_forty_at_once() {
    run_many(40, 40, ALIVE, is_alive).await;
}
