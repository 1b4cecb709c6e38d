//! Run records on the disk.

use jerichoci::engine::Capacity;
use jerichoci::outcome::JobOutcome;
use jerichoci::record::{
    JobResult, RUN_RECORD_SCHEMA_VERSION, RunId, RunPlan, RunRecord, RunState, RunStore,
    SelectionRecord, StoreError, Timings,
};

fn record(chance: u32) -> RunRecord {
    let now: jiff::Timestamp = "2026-11-21T09:15:00Z".parse().expect("a timestamp");
    RunRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        run_id: RunId::new(now, chance),
        state: RunState::Running,
        verdict: None,
        started_at: now,
        finished_at: None,
        head: None,
        snapshot: None,
        source: None,
        trusted: false,
        owner: "o".into(),
        section: jerichoci::lanes::Section::Branch,
        optional: Vec::new(),
        rerun_of: None,
        not_begun: None,
        lanes: vec!["a".into()],
        selection: SelectionRecord::default(),
    }
}

fn plan() -> RunPlan {
    RunPlan {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        jobs: Vec::new(),
        capacity: Capacity {
            jobs: 2,
            memory_mib: None,
        },
        keep_going: Some(false),
        allow_untracked: vec!["*.pem".into()],
        keep_failed: None,
    }
}

fn store() -> (tempfile::TempDir, RunStore) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = RunStore::at(dir.path());
    store.prepare().expect("prepared");
    (dir, store)
}

#[test]
fn a_run_reads_back_and_its_lock_tells_that_it_lives() {
    let (_dir, store) = store();
    let written = record(1);
    let (run, lock) = store.create_run(&written, &plan()).expect("made");
    assert_eq!(run.read().expect("read"), written);
    assert_eq!(run.read_plan().expect("read"), Some(plan()));
    assert!(run.is_driven().expect("asked"), "the run lives");
    assert!(run.try_drive().expect("asked").is_none(), "one drives it");
    let driver = run.driver().expect("read").expect("signed");
    assert_eq!(u32::try_from(driver.pid), Ok(std::process::id()));
    drop(lock);
    assert!(!run.is_driven().expect("asked"), "nobody drives it");
    assert!(run.try_drive().expect("asked").is_some());
    let job = run.create_job("a").expect("made");
    assert_eq!(job.read_result().expect("asked"), None);
    let result = JobResult {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        lane: "a".into(),
        attempt: 1,
        outcome: JobOutcome::Failed {
            exit_code: Some(7),
            signal: None,
            out_of_memory: false,
        },
        log_bytes: 12,
        self_reported: false,
        started_at: Some(written.started_at),
        finished_at: written.started_at,
        timings: Timings([("run".to_owned(), 3)].into()),
    };
    job.write_result(&result).expect("written");
    assert_eq!(job.read_result().expect("read"), Some(result));
    insta::assert_snapshot!(std::fs::read_to_string(job.dir().join("result.json")).expect("read"), @r#"
    {
      "schema_version": 1,
      "lane": "a",
      "attempt": 1,
      "outcome": "failed",
      "exit_code": 7,
      "log_bytes": 12,
      "started_at": "2026-11-21T09:15:00Z",
      "finished_at": "2026-11-21T09:15:00Z",
      "timings": {
        "run": 3
      }
    }
    "#);
}

#[test]
fn a_record_from_before_selections_were_kept_reads_back() {
    let (_dir, store) = store();
    let written = record(1);
    let (run, _lock) = store.create_run(&written, &plan()).expect("made");
    let path = run.dir().join("run.json");
    let text = std::fs::read_to_string(&path).expect("read");
    let mut old: serde_json::Value = serde_json::from_str(&text).expect("a document");
    let keys = old.as_object_mut().expect("an object");
    assert!(keys.remove("selection").is_some(), "{text}");
    std::fs::write(&path, old.to_string()).expect("written");
    assert_eq!(run.read().expect("read"), written);
}

#[test]
fn runs_are_found_by_any_clear_part_of_their_id() {
    let (_dir, store) = store();
    assert!(matches!(
        store.find(None),
        Err(StoreError::NoSuchRun { .. })
    ));
    for chance in [0x00a_bcd1, 0x00a_bcd2] {
        store.create_run(&record(chance), &plan()).expect("made");
    }
    assert_eq!(
        store.find(None).expect("found").id.as_str(),
        "20261121-091500-0abcd2"
    );
    assert_eq!(
        store.find(Some("bcd1")).expect("found").id.as_str(),
        "20261121-091500-0abcd1"
    );
    assert!(matches!(
        store.find(Some("20261121")),
        Err(StoreError::Ambiguous { .. })
    ));
    assert!(matches!(
        store.find(Some("zzz")),
        Err(StoreError::NoSuchRun { .. })
    ));
    assert!(matches!(
        store.find(Some("..")),
        Err(StoreError::NoSuchRun { .. })
    ));
}

#[test]
fn a_store_that_a_branch_made_a_link_is_refused() {
    let (dir, elsewhere) = (
        tempfile::tempdir().expect("a dir"),
        tempfile::tempdir().expect("a dir"),
    );
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(".pikaci")).expect("symlink");
    let error = RunStore::at(dir.path()).prepare().expect_err("refused");
    assert!(matches!(error, StoreError::NotADirectory { .. }), "{error}");
    assert!(
        std::fs::read_dir(elsewhere.path())
            .expect("listed")
            .next()
            .is_none()
    );
}

#[test]
fn a_link_that_a_branch_put_in_the_store_is_not_written_through() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = dir.path().join("elsewhere");
    let store_dir = dir.path().join("work/.pikaci");
    std::fs::create_dir_all(&store_dir).expect("made");
    std::os::unix::fs::symlink(&target, store_dir.join(".gitignore")).expect("linked");
    RunStore::at(&dir.path().join("work"))
        .prepare()
        .expect("prepared");
    assert!(!target.exists(), "nothing was written there");
}

#[test]
fn lanes_that_are_no_names_of_folders_are_refused_when_a_record_is_read() {
    let (_dir, store) = store();
    for lane in ["/etc", "../a", "a/b", ".git", ""] {
        let written = RunRecord {
            lanes: vec!["a".into(), lane.into()],
            ..record(7)
        };
        let (run, _lock) = store.create_run(&written, &plan()).expect("made");
        let error = run.read().expect_err("refused");
        let text = jerichoci::engine::chain(&error);
        assert!(text.contains("is no name of a lane"), "{text}");
        std::fs::remove_dir_all(run.dir()).expect("removed");
    }
}

#[test]
fn the_newest_run_is_one_that_has_a_record() {
    let (_dir, store) = store();
    let (begun, _lock) = store.create_run(&record(1), &plan()).expect("made");
    let (cut_off, _lock) = store.create_run(&record(2), &plan()).expect("made");
    std::fs::remove_file(cut_off.dir().join("run.json")).expect("removed");
    assert_eq!(store.find(None).expect("found").id, begun.id);
}

#[test]
fn a_torn_record_is_an_error_and_never_a_result() {
    let (_dir, store) = store();
    let (run, _lock) = store.create_run(&record(1), &plan()).expect("made");
    let job = run.create_job("a").expect("made");
    std::fs::write(
        job.dir().join("result.json"),
        "{\"schema_version\":1,\"outcome\":\"pas",
    )
    .expect("written");
    assert!(job.read_result().is_err());
}
