//! `pikaci why`, on records that are written here.

use jerichoci::record::SelectionRecord;

use crate::bench_tree::{Tree, lane, without_daemon};
use crate::written_run::{selection, write_run};

async fn told(tree: &Tree, lane: &str) -> String {
    tree.run(&["why", lane]).await.assert_code(0).stdout.clone()
}

#[tokio::test]
async fn a_lane_that_failed_says_everything_in_sentences() {
    let tree = without_daemon(&lane("code", "true", ""));
    write_run(&tree, selection());
    insta::assert_snapshot!(told(&tree, "code").await, @r"
    code in run 20261121-091500-000007
    Chosen: the changed path src/a matched; compared with main (merge base 0123456789ab).
    It was taken up at 2026-11-21 09:15:02 UTC, 2.0s after the run began.
    It took 1m 10s: 8.0s until its instance was ready, then 1m 02s for its command.
    It failed: exit code 7.
    Its instance pikaci-0123456789ab was removed at 2026-11-21 09:16:14 UTC.
      error: it broke
    ");
    insta::assert_snapshot!(told(&tree, "after").await, @r"
    after in run 20261121-091500-000007
    Chosen: it has no path rules, so any change selects it; compared with main (merge base 0123456789ab).
    It did not run. It was skipped: lane `code`, which it needs, did not pass.
    ");
    insta::assert_snapshot!(told(&tree, "docs").await, @r"
    docs in run 20261121-091500-000007
    Skipped: no changed path matches; compared with main (merge base 0123456789ab).
    ");
    let document = tree
        .run(&["why", "code", "000007", "--output", "json"])
        .await;
    let document: serde_json::Value =
        serde_json::from_str(&document.assert_code(0).stdout).expect("a document");
    assert_eq!(document["reason"]["because"], "path");
    assert_eq!(document["result"]["exit_code"], 7);
    assert_eq!(document["removal"]["removal"], "destroyed");
    assert_eq!(document["error_lines"][0], "error: it broke");
}

#[tokio::test]
async fn a_run_without_reasons_and_a_lane_of_no_run_are_said_to_be_so() {
    let tree = without_daemon(&lane("code", "true", ""));
    let ended = tree.run(&["why", "code"]).await;
    ended.assert_code(2);
    assert!(ended.stderr.contains("no run yet"), "{}", ended.stderr);
    write_run(&tree, SelectionRecord::default());
    let text = told(&tree, "code").await;
    assert!(
        text.contains("does not say why the lane was chosen"),
        "{text}"
    );
    for lane in ["docs", "../code", ""] {
        let ended = tree.run(&["why", lane]).await;
        ended.assert_code(2);
        assert!(
            ended.stderr.contains("hint: the run has: code, after"),
            "{}",
            ended.stderr
        );
    }
}

#[tokio::test]
async fn status_shows_lanes_that_were_not_selected() {
    let tree = without_daemon(&lane("code", "true", ""));
    write_run(&tree, selection());
    let status = tree.run(&["status"]).await;
    let shown = &status.assert_code(0).stdout;
    for part in [
        "base      main (merge base 0123456789ab)",
        "docs   skipped        -\n",
        "docs skipped: no changed path matches",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
