//! Full disks: of the guest, and of the host below the run's records.

use std::path::{Path, PathBuf};
use std::process::Command;

use pikahut::stack::TestIncus;
use serde_json::json;

use crate::bench_tree::{Tree, lane};

/// A file system in memory that takes so much, gone with the value.
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    pub(crate) fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).expect("the folder is made");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(at)
            .status();
        assert!(status.expect("mount runs").success());
        Self { at: at.to_owned() }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, so that it goes even when a failed test left something open in it.
        Command::new("umount").arg("-l").arg(&self.at).status().ok();
    }
}

/// A tree whose records are on a disk that takes this much.
async fn tree_with_small_records(incus: &TestIncus, size: &str, lanes: &str) -> (Tree, SmallDisk) {
    let tree = Tree::on(incus, lanes).await;
    let disk = SmallDisk::mount(&tree.root().join(".pikaci/runs"), size);
    (tree, disk)
}

/// On a daemon of its own: a limit on a root disk turns quotas on in the whole pool, which makes every later snapshot and
/// removal in it slower.
#[tokio::test]
async fn private_a_full_disk_in_the_guest_ends_the_job_with_its_last_words_or_says_that_the_log_is_cut()
 {
    let incus = TestIncus::private("pkdisk").await;
    let small = "resources = { root_disk_gib = 1 }";
    let fills = "cd /var/tmp; head -c 3G /dev/zero > filler; echo ended with $?; echo error: no room; exit 9";
    let lanes = [
        lane("fills", fills, small),
        lane("talks", "echo begun; exec head -c 3G /dev/zero", small),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    tree.run(&["run", "--all", "--output", "json"])
        .await
        .assert_code(1);
    let result = tree.result("fills");
    assert_eq!(
        (&result["outcome"], &result["exit_code"]),
        (&json!("failed"), &json!(9)),
        "{result}"
    );
    let log = String::from_utf8_lossy(&tree.log("fills")).into_owned();
    assert!(log.ends_with("ended with 1\nerror: no room\n"), "{log}");

    let result = tree.result("talks");
    assert_eq!(
        (&result["outcome"], &result["kind"]),
        (&json!("infrastructure"), &json!("runner_failed")),
        "{result}"
    );
    let cause = result["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("the log can't be written: "), "{cause}");
    assert!(tree.log("talks").starts_with(b"begun\n"));
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_full_disk_below_the_records_ends_the_lane_in_words_and_leaves_nothing() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("talks", "head -c 20000000 /dev/zero; echo never kept", ""),
        lane("after", "echo ok", "needs = [\"talks\"]"),
    ];
    let (tree, disk) = tree_with_small_records(&incus, "4m", &lanes.concat()).await;
    let ended = tree.run(&["run", "--all", "--output", "json"]).await;
    ended.assert_code(3);
    let document: serde_json::Value =
        serde_json::from_str(&ended.stdout).expect("one JSON document all the same");
    let talks = &document["lanes"][0];
    assert_eq!(
        (&talks["outcome"], &talks["kind"]),
        (&json!("infrastructure"), &json!("log_not_written")),
        "{talks}"
    );
    let cause = talks["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("No space left on device"), "{cause}");
    assert_eq!(document["lanes"][1]["outcome"], "skipped", "{document}");
    assert!(
        ended.stderr.contains("No space left on device"),
        "{}",
        ended.stderr
    );
    incus.assert_nothing_left().await;
    drop(disk);
    // With room again the next run is as if nothing had been.
    tree.run(&["list"]).await.assert_code(0);
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_start_starts_nothing() {
    let incus = TestIncus::shared().await;
    let (tree, _disk) = tree_with_small_records(&incus, "1m", &lane("one", "true", "")).await;
    let filler = tree.root().join(".pikaci/runs/filler");
    let filled = std::fs::write(&filler, vec![0; 2_000_000]);
    assert!(filled.is_err(), "the disk is full now");
    let ended = tree.run(&["run", "one"]).await;
    ended.assert_code(3);
    assert!(
        ended.stderr.contains("No space left on device"),
        "{}",
        ended.stderr
    );
    incus.assert_nothing_left().await;
}
