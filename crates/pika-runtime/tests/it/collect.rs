//! Collecting from guests that mean no good: what is safe comes, what isn't is told, and nothing hangs.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use pika_cloud::{OutputCollectionMode, OutputCollectionPolicy, RunEnd};
use pika_incus::StateChange;
use pika_runtime::{CollectError, Collected, CollectedFrom, Runtime};

use crate::support::{Stage, ended};

fn everything() -> OutputCollectionPolicy {
    OutputCollectionPolicy {
        artifact_globs: vec!["**".to_owned()],
        ..OutputCollectionPolicy::default()
    }
}

async fn collect(stage: &Stage, runtime: &Runtime, into: &Path) -> Collected {
    let before = Instant::now();
    let collected = stage
        .runtimes
        .collect(&runtime.id, &everything(), into)
        .await
        .unwrap();
    assert!(
        before.elapsed() < Duration::from_secs(60),
        "{:?}",
        before.elapsed()
    );
    collected
}

fn refused(collected: &Collected) -> BTreeMap<&str, &str> {
    collected
        .refused
        .iter()
        .map(|refused| (refused.name.as_str(), refused.why.as_str()))
        .collect()
}

/// Makes everything that must not be taken, beside things that must.
const HOSTILE: &str = r#"cd /run/pika-cloud/artifacts
mkdir -p deep/er; echo kept > deep/er/file; printf 'bytes' > "$(printf 'not-\377-utf8')"
ln -s /etc/passwd link; ln -s /etc dirlink; mkfifo fifo; truncate -s 20G huge; : > empty
mkdir -p .hidden; echo dot > .hidden/file
exit 7"#;

#[tokio::test]
async fn from_a_running_guest_comes_what_is_regular_and_within_limits() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("hostile")).await;
    let (report, _) = stage.run(&runtime, HOSTILE).await;
    assert_eq!(*ended(&report), RunEnd::Exited { code: 7 });
    stage.sh(runtime.instance_name(), "touch /run/pika-cloud/artifacts/dev && mount --bind /dev/null /run/pika-cloud/artifacts/dev").await;

    let into = tempfile::tempdir().unwrap();
    let collected = collect(&stage, &runtime, into.path()).await;
    assert_eq!(collected.from, CollectedFrom::RunningGuest);
    let read = |name: &[u8]| std::fs::read(into.path().join(std::ffi::OsStr::from_bytes(name)));
    assert_eq!(read(b"artifacts/deep/er/file").unwrap(), b"kept\n");
    assert_eq!(read(b"artifacts/not-\xff-utf8").unwrap(), b"bytes");
    assert_eq!(read(b"artifacts/empty").unwrap(), b"");
    let named = collected
        .files
        .iter()
        .find(|file| file.name == "artifacts/not-\\xff-utf8")
        .unwrap();
    assert!(named.name_hex.is_some());
    assert!(
        String::from_utf8(read(b"result.json").unwrap())
            .unwrap()
            .contains("\"failed\"")
    );
    read(b"logs/guest.log").unwrap();
    let left_out = refused(&collected);
    for name in ["link", "fifo", "huge", "dev"] {
        assert!(
            left_out.keys().any(|left| left.ends_with(name)),
            "{name} is not among {left_out:?}"
        );
        read(format!("artifacts/{name}").as_bytes()).unwrap_err();
    }
    read(b"artifacts/dirlink/passwd").unwrap_err();
    assert!(
        collected.incomplete.is_some(),
        "the huge file was over the limit"
    );
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_hundred_thousand_names_end_at_the_limit() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("many")).await;
    let command = "cd /run/pika-cloud/artifacts && seq 1 100000 | split -l 1 -a 6 - f";
    let (report, log) = stage.run(&runtime, command).await;
    assert_eq!(*ended(&report), RunEnd::Exited { code: 0 }, "{log}");
    let into = tempfile::tempdir().unwrap();
    let collected = collect(&stage, &runtime, into.path()).await;
    let limit = stage.runtimes.config().collect_limits.files_max;
    assert!(
        collected.files.len() as u64 <= limit && collected.files.len() > 1000,
        "{}",
        collected.files.len()
    );
    assert!(collected.incomplete.is_some());
    assert!(collected.refused.len() <= stage.runtimes.config().collect_limits.refusals_listed_max);
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn a_fifo_swapped_in_and_a_guest_that_powers_off_wedge_nothing() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("swap")).await;
    let (report, log) = stage
        .run(&runtime, "cd /run/pika-cloud/artifacts; head -c 50000000 /dev/zero > big; echo x > file; mkfifo .fifo")
        .await;
    assert_eq!(*ended(&report), RunEnd::Exited { code: 0 }, "{log}");
    let swap = "cd /run/pika-cloud/artifacts; while :; do mv -f file .x; mv -f .fifo file; mv -f file .fifo; mv -f .x file; done";
    stage.leave_running(runtime.instance_name(), swap).await;
    let into = tempfile::tempdir().unwrap();
    let (collected, ()) = tokio::join!(
        collect(&stage, &runtime, into.path()),
        stage.end_guest(runtime.instance_name(), "sleep 0.2; systemctl poweroff -ff")
    );
    // The guest went away in the middle, or just after: whole files only, and a reason if it is not all.
    for file in &collected.files {
        assert_eq!(
            std::fs::metadata(into.path().join(&file.name))
                .unwrap()
                .len(),
            file.bytes
        );
    }
    let before = Instant::now();
    stage.destroy(&runtime).await;
    assert!(
        before.elapsed() < Duration::from_secs(20),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test]
async fn from_a_stopped_container_come_regular_files_and_no_fifo_is_opened() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("stopped")).await;
    stage.run(&runtime, HOSTILE).await;
    stage
        .change(runtime.instance_name(), StateChange::force_stop())
        .await;
    let into = tempfile::tempdir().unwrap();
    let collected = collect(&stage, &runtime, into.path()).await;
    assert_eq!(collected.from, CollectedFrom::StoppedContainer);
    assert_eq!(
        std::fs::read(into.path().join("artifacts/deep/er/file")).unwrap(),
        b"kept\n"
    );
    std::fs::read(into.path().join("result.json")).unwrap();
    std::fs::read(into.path().join("logs/guest.log")).unwrap_err();
    let left_out = refused(&collected);
    for name in ["artifacts/link", "artifacts/fifo", "artifacts/huge"] {
        assert!(
            left_out.contains_key(name),
            "{name} is not among {left_out:?}"
        );
    }
    stage.destroy(&runtime).await;
}

#[tokio::test]
async fn the_policy_decides_what_is_taken() {
    let stage = Stage::runner().await;
    let runtime = stage.ensure(&stage.plan("policy")).await;
    let into = tempfile::tempdir().unwrap();
    let with = |mode| OutputCollectionPolicy {
        mode,
        ..everything()
    };
    let take = async |at: &str, policy: &OutputCollectionPolicy| {
        stage
            .runtimes
            .collect(&runtime.id, policy, &into.path().join(at))
            .await
            .unwrap()
    };
    stage.run(&runtime, "echo said; echo a > /run/pika-cloud/artifacts/a.xml; echo b > /run/pika-cloud/artifacts/b").await;
    assert_eq!(
        take("none", &with(OutputCollectionMode::None)).await.from,
        CollectedFrom::Nothing
    );
    assert_eq!(
        take("green", &with(OutputCollectionMode::FailureOnly))
            .await
            .from,
        CollectedFrom::Nothing
    );
    let globs = OutputCollectionPolicy {
        include_logs: false,
        include_result: false,
        artifact_globs: vec!["*.xml".to_owned()],
        ..OutputCollectionPolicy::default()
    };
    let names: Vec<String> = take("globs", &globs)
        .await
        .files
        .into_iter()
        .map(|file| file.name)
        .collect();
    assert_eq!(names, ["artifacts/a.xml"]);
    stage.run(&runtime, "exit 1").await;
    let red = take("red", &with(OutputCollectionMode::FailureOnly)).await;
    assert!(
        red.files.iter().any(|file| file.name == "result.json"),
        "{red:?}"
    );
    stage.destroy(&runtime).await;
    let gone = stage
        .runtimes
        .collect(&runtime.id, &everything(), into.path())
        .await
        .unwrap_err();
    assert!(matches!(gone, CollectError::Gone { .. }), "{gone}");
}
