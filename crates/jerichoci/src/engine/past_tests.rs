//! What is told of a job by the files that a process had written when it died.

use jiff::Timestamp;

use super::*;
use crate::engine::Capacity;
use crate::lanes::Section;
use crate::outcome::RunVerdict;
use crate::record::{
    RUN_RECORD_SCHEMA_VERSION, Removal, RemovalRecord, RunId, RunLock, RunPlan, RunRecord,
    RunState, RunStore, SelectionRecord, Timings,
};

fn run() -> (tempfile::TempDir, RunDir, RunLock) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = RunStore::at(dir.path());
    store.prepare().expect("prepared");
    let began = Timestamp::UNIX_EPOCH;
    let record = RunRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        run_id: RunId::new(began, 1),
        state: RunState::Running,
        verdict: None,
        started_at: began,
        finished_at: None,
        head: None,
        snapshot: None,
        source: None,
        trusted: false,
        owner: "o".into(),
        section: Section::Branch,
        lanes: vec!["a".into()],
        optional: Vec::new(),
        rerun_of: None,
        not_begun: None,
        selection: SelectionRecord::default(),
    };
    let plan = RunPlan {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        jobs: Vec::new(),
        capacity: Capacity {
            jobs: 1,
            memory_mib: None,
        },
        keep_going: None,
        allow_untracked: Vec::new(),
        keep_failed: None,
    };
    let (run, lock) = store.create_run(&record, &plan).expect("made");
    (dir, run, lock)
}

pub(crate) fn intent(attempt: u32) -> JobRecord {
    JobRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        run_id: RunId::new(Timestamp::UNIX_EPOCH, 1),
        lane: "a".into(),
        title: "a".into(),
        section: Section::Branch,
        required: false,
        command: vec!["true".into()],
        attempt,
        runtime_id: "r".into(),
        instance_name: "i".into(),
        project: "default".into(),
        guest_role: None,
        image_alias: "x".into(),
        cache_volumes: Vec::new(),
        payload_volumes: Vec::new(),
        nonce: format!("n{attempt}"),
        started_at: Timestamp::UNIX_EPOCH,
        lease_until: None,
    }
}

pub(crate) fn result(attempt: u32) -> JobResult {
    JobResult {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        lane: "a".into(),
        attempt,
        outcome: JobOutcome::TimedOut {
            deadline: crate::outcome::DeadlineKind::Run,
        },
        log_bytes: 0,
        self_reported: false,
        started_at: None,
        finished_at: Timestamp::UNIX_EPOCH,
        timings: Timings::default(),
    }
}

#[test]
fn each_file_tells_of_one_step_more() {
    let (_dir, run, _lock) = run();
    let past = || Past::read(&run, "a").expect("read");
    assert_eq!(past(), Past::waits(1));
    let job = run.job("a");
    job.write_record(&intent(1)).expect("written");
    let record = Box::new(intent(1));
    assert_eq!(past(), Past::Intended { record });
    job.write_result(&result(1)).expect("written");
    let left = Left {
        record: intent(1),
        runtime: None,
        is_collected: false,
    };
    let ended = |left| Past::Ended {
        result: Box::new(result(1)),
        left,
    };
    assert_eq!(past(), ended(Some(Box::new(left))));
    let until = Timestamp::MAX;
    for removal in [Removal::Kept { until }, Removal::Gone] {
        job.write_removal(&removed(removal)).expect("written");
        assert_eq!(past(), ended(None));
    }
}

fn removed(removal: Removal) -> RemovalRecord {
    RemovalRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        removal,
        at: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn what_is_kept_is_neither_clean_nor_something_to_go_on_with() {
    let (_dir, run, _lock) = run();
    let until = Timestamp::UNIX_EPOCH;
    let job = run.create_job("a").expect("made");
    job.write_record(&intent(1)).expect("written");
    job.write_result(&result(1)).expect("written");
    assert!(run.kept().expect("read").is_empty());
    job.write_removal(&removed(Removal::Kept { until }))
        .expect("written");
    let kept = run.kept().expect("read");
    let kept: Vec<(&str, Timestamp)> = kept
        .iter()
        .map(|(job, until)| (job.lane.as_str(), *until))
        .collect();
    assert_eq!(kept, [("a", until)]);
    assert!(!run.is_clean().expect("read"));
    assert!(!run.is_only_kept().expect("read"), "it has no verdict");
    let mut record = run.read().expect("read");
    record.verdict = Some(RunVerdict::Failed);
    run.write(&record).expect("written");
    assert!(run.is_only_kept().expect("read"));
    job.write_removal(&removed(Removal::Gone)).expect("written");
    assert!(run.is_clean().expect("read"));
    assert!(!run.is_only_kept().expect("read"));
}

#[test]
fn an_attempt_that_was_being_set_aside_is_set_aside_whatever_was_moved() {
    let files = ["log", "result.json", "removal.json", "job.json"];
    for moved in 0..=files.len() {
        let (_dir, run, _lock) = run();
        let job = run.create_job("a").expect("made");
        job.write_record(&intent(1)).expect("written");
        job.write_result(&result(1)).expect("written");
        for name in ["log", "removal.json"] {
            std::fs::write(job.dir().join(name), "x").expect("written");
        }
        let aside = job.attempt_dir(1);
        std::fs::create_dir_all(&aside).expect("made");
        for name in &files[..moved] {
            std::fs::rename(job.dir().join(name), aside.join(name)).expect("moved");
        }
        let past = Past::read(&run, "a").expect("read");
        let last = Some(Box::new(result(1)));
        assert_eq!(past, Past::Waits { attempt: 2, last }, "{moved} moved");
        for name in files {
            assert!(aside.join(name).exists(), "{name} after {moved} moved");
            assert!(!job.dir().join(name).exists(), "{name} after {moved}");
        }
    }
}
