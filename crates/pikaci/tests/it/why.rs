//! `pikaci why`, on records that are written here.

use jerichoci::changes::ChangeBase;
use jerichoci::lanes::Section;
use jerichoci::outcome::{JobOutcome, RunVerdict};
use jerichoci::record::{
    JobRecord, JobResult, NotSelected, RUN_RECORD_SCHEMA_VERSION, Removal, RemovalRecord, RunDir,
    RunId, RunRecord, RunState, RunStore, SelectionRecord, Timings,
};
use jerichoci::select::Cause;

use crate::bench_tree::{Tree, lane, without_daemon};

fn at(text: &str) -> jiff::Timestamp {
    text.parse().expect("a timestamp")
}

/// A run in which `code` failed, `after` was skipped for it, and `docs` was not selected.
fn write_run(tree: &Tree, selection: SelectionRecord) -> RunDir {
    let store = RunStore::at(&tree.root());
    store.prepare().expect("prepared");
    let began = at("2026-11-21T09:15:00Z");
    let record = RunRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        run_id: RunId::new(began, 7),
        state: RunState::Finished,
        verdict: Some(RunVerdict::Failed),
        started_at: began,
        finished_at: Some(at("2026-11-21T09:16:30Z")),
        head: None,
        snapshot: None,
        trusted: false,
        owner: "o".into(),
        section: Section::Branch,
        optional: Vec::new(),
        rerun_of: None,
        lanes: vec!["code".into(), "after".into()],
        selection,
    };
    let (run, _lock) = store.create_run(&record).expect("made");
    let result = |lane: &str, outcome, started_at, timings| JobResult {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        lane: lane.to_owned(),
        attempt: 1,
        outcome,
        log_bytes: 0,
        self_reported: false,
        started_at,
        finished_at: at("2026-11-21T09:16:12Z"),
        timings: Timings(timings),
    };
    let code = run.create_job("code").expect("made");
    let started = at("2026-11-21T09:15:02Z");
    code.write_record(&JobRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        run_id: record.run_id.clone(),
        lane: "code".into(),
        title: "code".into(),
        section: Section::Branch,
        required: true,
        command: vec!["true".into()],
        attempt: 1,
        runtime_id: "r".into(),
        instance_name: "pikaci-0123456789ab".into(),
        project: "default".into(),
        guest_role: None,
        image_alias: "pikaci/dev".into(),
        cache_volumes: Vec::new(),
        nonce: "n".into(),
        started_at: started,
    })
    .expect("written");
    std::fs::write(code.log_path(), "fine\nerror: it broke\n").expect("written");
    let failed = JobOutcome::Failed {
        exit_code: Some(7),
        signal: None,
        out_of_memory: false,
    };
    let timings = [("start".to_owned(), 8000), ("run".to_owned(), 62_000)].into();
    code.write_result(&result("code", failed, Some(started), timings))
        .expect("written");
    code.write_removal(&RemovalRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        removal: Removal::Destroyed,
        at: at("2026-11-21T09:16:14Z"),
    })
    .expect("written");
    let skipped = JobOutcome::Skipped {
        reason: "lane `code`, which it needs, did not pass".into(),
    };
    let after = run.create_job("after").expect("made");
    after
        .write_result(&result("after", skipped, None, [].into()))
        .expect("written");
    store.settle(&record.run_id).expect("settled");
    run
}

fn selection() -> SelectionRecord {
    let path = Cause::Path {
        path: "src/a".into(),
    };
    SelectionRecord {
        base: Some(ChangeBase {
            name: "main".into(),
            merge_base: "0123456789abcdef".into(),
        }),
        reasons: [
            ("code".to_owned(), path),
            ("after".to_owned(), Cause::Always),
        ]
        .into(),
        not_selected: vec![NotSelected {
            lane: "docs".into(),
            reason: "no changed path matches".into(),
        }],
    }
}

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
        "docs   skipped        -  -",
        "docs skipped: no changed path matches",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
