//! A run that was recorded: one lane failed, one was skipped for it, one was not selected.

use jerichoci::changes::ChangeBase;
use jerichoci::engine::Capacity;
use jerichoci::lanes::Section;
use jerichoci::outcome::{JobOutcome, RunVerdict};
use jerichoci::record::{
    JobRecord, JobResult, NotSelected, RUN_RECORD_SCHEMA_VERSION, Removal, RemovalRecord, RunDir,
    RunId, RunPlan, RunRecord, RunState, RunStore, SelectionRecord, Timings,
};
use jerichoci::select::Cause;

use crate::bench_tree::Tree;

/// When `code` was taken up.
const STARTED: &str = "2026-11-21T09:15:02Z";

/// A plan of nothing.
pub(crate) fn plan() -> RunPlan {
    RunPlan {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        jobs: Vec::new(),
        capacity: Capacity {
            jobs: 1,
            memory_mib: None,
        },
        keep_going: None,
        allow_untracked: Vec::new(),
        keep_failed: None,
    }
}

pub(crate) fn at(text: &str) -> jiff::Timestamp {
    text.parse().expect("a timestamp")
}

/// A run in which `code` failed, `after` was skipped for it, and `docs` was not selected.
pub(crate) fn write_run(tree: &Tree, selection: SelectionRecord) -> RunDir {
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
        source: None,
        trusted: false,
        owner: "o".into(),
        section: Section::Branch,
        optional: Vec::new(),
        rerun_of: None,
        not_begun: None,
        lanes: vec!["code".into(), "after".into()],
        selection,
    };
    let (run, _lock) = store.create_run(&record, &plan()).expect("made");
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
    let started = at(STARTED);
    code.write_record(&job_record(&record.run_id))
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

pub(crate) fn selection() -> SelectionRecord {
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

/// What was to be done for `code`.
pub(crate) fn job_record(run_id: &RunId) -> JobRecord {
    JobRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        run_id: run_id.clone(),
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
        payload_volumes: Vec::new(),
        nonce: "n".into(),
        started_at: at(STARTED),
        lease_until: None,
    }
}
