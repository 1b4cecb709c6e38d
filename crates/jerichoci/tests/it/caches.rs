//! Caches on a real daemon: what a job starts from, what is committed, what is thrown away.

#![expect(
    clippy::print_stdout,
    reason = "figures that a test measured, shown by --success-output"
)]

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use jerichoci::cache::rules::CommitRefusal;
use jerichoci::cache::{
    CacheError, CachePolicy, CacheUse, Committed, Discarded, EvictReason, FullCopy, StartedFrom,
    Trust, rows, rules,
};
use jiff::{SignedDuration, Timestamp};
use pika_runtime::VolumeRemoved;

use crate::cache_stage::Stage;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(ended: Result<T, CacheError>) -> CommitRefusal {
    match ended {
        Err(CacheError::Refused { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_an_untrusted_job_wrote_is_never_seen_by_a_trusted_one() {
    let stage = Stage::new().await;
    let first = stage.job(1, Trust::Trusted);
    let prepared = stage.prepare(&first).await;
    assert_eq!(prepared.started_from, StartedFrom::Nothing);
    let owner = stage
        .sh("first", &first.volume(), "stat -c %u:%g .; echo good >lib")
        .await;
    assert_eq!(owner, "1000:1000\n");
    assert_eq!(
        stage.commit(&first, "2026-11-26T10:00:00Z").await,
        Committed::Now {
            number: 1,
            at: time("2026-11-26T10:00:00Z")
        }
    );

    // The attacker starts from what trusted jobs left, and passes.
    let poison = stage.job(2, Trust::Untrusted);
    stage.prepare(&poison).await;
    let seen = stage
        .sh(
            "poison",
            &poison.volume(),
            "cat lib; echo evil >lib; echo evil >more",
        )
        .await;
    assert_eq!(seen, "good\n");
    assert_eq!(
        rules::at_end(poison.trust, true),
        rules::AtEnd::Discard {
            reason: rules::DiscardReason::Untrusted
        }
    );
    let now = time("2026-11-26T11:00:00Z");
    assert_eq!(
        refusal(stage.caches.commit(&poison, now, None).await),
        CommitRefusal::Untrusted
    );
    // Nor by a process that takes the job for a trusted one: the volume itself says what it is.
    let forged = CacheUse {
        trust: Trust::Trusted,
        ..poison.clone()
    };
    assert_eq!(
        refusal(stage.caches.commit(&forged, now, None).await),
        CommitRefusal::Untrusted
    );
    let taken = stage.caches.prepare(&forged).await.unwrap_err();
    assert!(matches!(taken, CacheError::Taken { .. }), "{taken}");

    // Its volume is still there when the next trusted job starts, as after a crash.
    let second = stage.job(3, Trust::Trusted);
    let prepared = stage.prepare(&second).await;
    assert_eq!(
        prepared.started_from,
        StartedFrom::Generation {
            volume: first.volume(),
            committed_at: Some(time("2026-11-26T10:00:00Z")),
            basis: Some("manifest-1".to_owned()),
        }
    );
    let look = "cat *; ls; echo better >lib";
    assert_eq!(
        stage.sh("second", &second.volume(), look).await,
        "good\nlib\n"
    );
    assert_eq!(
        stage.caches.discard(&poison).await.unwrap(),
        Discarded::Removed
    );
    assert_eq!(
        stage.caches.discard(&poison).await.unwrap(),
        Discarded::Gone
    );
    stage.commit(&second, "2026-11-26T12:00:00Z").await;
    let third = stage.job(4, Trust::Untrusted);
    stage.prepare(&third).await;
    assert_eq!(
        stage.sh("third", &third.volume(), "cat *").await,
        "better\n"
    );
    stage.remove_all("default").await;
}

#[tokio::test]
async fn a_commit_waits_for_its_instance_and_can_be_repeated() {
    let stage = Stage::new().await;
    let job = stage.job(1, Trust::Trusted);
    stage.prepare(&job).await;
    let runtime = stage.instance("holds", &job.volume()).await;
    let now = time("2026-11-26T10:00:00Z");
    let refused = refusal(stage.caches.commit(&job, now, None).await);
    assert!(matches!(refused, CommitRefusal::InUse(_)), "{refused}");
    assert!(matches!(
        stage.caches.discard(&job).await.unwrap(),
        Discarded::InUse { .. }
    ));
    stage.destroy(&runtime).await;
    assert!(matches!(
        stage.caches.commit(&job, now, None).await.unwrap(),
        Committed::Now { number: 1, .. }
    ));
    assert_eq!(
        stage.caches.commit(&job, now, None).await.unwrap(),
        Committed::Already
    );
    assert_eq!(
        stage.caches.discard(&job).await.unwrap(),
        Discarded::IsCommitted
    );
    // No janitor takes a generation.
    let sweep = stage
        .caches
        .runtimes
        .janitor_sweep(time("2040-01-01T00:00:00Z"))
        .await;
    assert!(sweep.swept.is_empty(), "{sweep:?}");
    let gone = stage.job(2, Trust::Trusted);
    assert_eq!(
        stage.caches.commit(&gone, now, None).await.unwrap(),
        Committed::Gone
    );
    stage.remove_all("default").await;
}

#[tokio::test]
async fn a_clone_cut_off_is_never_committed_and_is_made_again() {
    let stage = Stage::new().await;
    let first = stage.job(1, Trust::Trusted);
    stage.prepare(&first).await;
    stage.sh("fill", &first.volume(), "echo whole >f").await;
    stage.commit(&first, "2026-11-26T10:00:00Z").await;
    let second = stage.job(2, Trust::Trusted);
    stage.prepare(&second).await;
    stage.sh("half", &second.volume(), "rm f").await;
    // As a process leaves it that is killed between the copy and the label that says that it is whole.
    let unfinished = [("user.pika.unfinished".to_owned(), "true".to_owned())];
    let client = stage.incus.client();
    client
        .patch_volume("default", &second.volume(), &unfinished.into(), None)
        .await
        .unwrap();
    let now = time("2026-11-26T11:00:00Z");
    assert_eq!(
        refusal(stage.caches.commit(&second, now, None).await),
        CommitRefusal::Unfinished
    );
    stage.prepare(&second).await;
    assert_eq!(
        stage
            .sh("again", &second.volume(), "cat f; echo more >>f")
            .await,
        "whole\n"
    );
    // One that is whole stays as it is for a process that takes the run up again.
    stage.prepare(&second).await;
    assert_eq!(
        stage.sh("kept", &second.volume(), "cat f").await,
        "whole\nmore\n"
    );
    // What nobody came back for is a janitor's after its lease.
    let sweep = stage
        .caches
        .runtimes
        .janitor_sweep(time("2040-01-01T00:00:00Z"))
        .await;
    let names: Vec<&str> = sweep
        .swept
        .iter()
        .map(|swept| swept.name.as_str())
        .collect();
    assert_eq!(names, [second.volume().as_str()]);
    stage.remove_all("default").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_jobs_that_commit_at_once_each_leaves_a_generation_and_one_is_the_newest() {
    const JOBS: u32 = 6;
    let stage = Stage::new().await;
    stage.generation(0, "2026-11-26T10:00:00Z").await;
    let mut tasks = Vec::new();
    for number in 1..=JOBS {
        let (caches, job) = (stage.caches.clone(), stage.job(number, Trust::Trusted));
        tasks.push(tokio::spawn(async move {
            caches.prepare(&job).await.unwrap();
            // Each later than the one before, though they come in any order.
            let now = time("2026-11-26T11:00:00Z") + SignedDuration::from_secs(number.into());
            caches.commit(&job, now, None).await.unwrap()
        }));
    }
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Committed::Now { .. }));
    }
    let listed = stage.caches.list().await.unwrap();
    assert_eq!(listed.len() as u32, JOBS + 1);
    assert!(listed.iter().all(rules::may_be_read));
    let newest = rules::newest(&stage.key(), &listed).unwrap();
    let latest = listed
        .iter()
        .filter_map(|generation| generation.committed_at())
        .max();
    assert_eq!(newest.committed_at(), latest);
    let of_two = [
        stage.job(10, Trust::Trusted),
        stage.job(11, Trust::Untrusted),
    ];
    for job in &of_two {
        let from = stage.prepare(job).await.started_from;
        assert!(
            matches!(&from, StartedFrom::Generation { volume, .. } if *volume == newest.volume),
            "{from:?}"
        );
    }
    stage.remove_all("default").await;
}

#[tokio::test]
async fn eviction_keeps_its_bounds_and_what_is_held() {
    let stage = Stage::new().await;
    let mut made = Vec::new();
    for number in 1..=6 {
        let now = format!("2026-11-2{number}T10:00:00Z");
        made.push(stage.generation(number, &now).await.volume());
    }
    let working = stage.job(7, Trust::Trusted);
    stage.prepare(&working).await;
    let holder = stage.instance("holder", &made[1]).await;
    let policy = CachePolicy {
        generations_max: NonZeroUsize::new(2).unwrap(),
        age_max: Some(SignedDuration::from_hours(24)),
        bytes_max: None,
    };
    let now = time("2026-11-26T12:00:00Z");
    let pinned = BTreeSet::from([made[2].clone()]);
    let report = stage.caches.evict(now, &policy, &pinned).await.unwrap();
    assert_eq!(report.problems, [""; 0]);
    let gone: Vec<_> = report
        .evicted
        .iter()
        .map(|gone| {
            (
                gone.eviction.volume.as_str(),
                gone.eviction.reason,
                &gone.end,
            )
        })
        .collect();
    let superseded = EvictReason::Superseded { kept: 2 };
    let too_old = EvictReason::TooOld {
        age_secs: 26 * 3600,
        max_secs: 24 * 3600,
    };
    assert_eq!(
        gone,
        [
            (made[4].as_str(), too_old, &VolumeRemoved::Removed),
            (made[3].as_str(), superseded, &VolumeRemoved::Removed),
            (made[0].as_str(), superseded, &VolumeRemoved::Removed),
        ]
    );
    let listed = stage.caches.list().await.unwrap();
    let shown: Vec<_> = rows(now, &listed)
        .into_iter()
        .map(|row| (row.volume, row.newest, row.number, row.age_secs))
        .collect();
    assert_eq!(
        shown,
        [
            (made[5].clone(), true, 6, Some(2 * 3600)),
            (made[2].clone(), false, 3, Some((3 * 24 + 2) * 3600)),
            (made[1].clone(), false, 2, Some((4 * 24 + 2) * 3600)),
            (working.volume(), false, 7, None),
        ]
    );
    stage.destroy(&holder).await;
    let bounded = CachePolicy {
        bytes_max: Some(0),
        ..policy
    };
    let report = stage
        .caches
        .evict(now, &bounded, &BTreeSet::new())
        .await
        .unwrap();
    assert_eq!(report.evicted.len(), 3);
    let left = stage.caches.list().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].volume, working.volume());
    stage.remove_all("default").await;
}

#[tokio::test]
async fn without_copy_on_write_a_clone_is_refused_or_its_cost_is_shown() {
    let mut stage = Stage::new().await;
    let pool = stage.incus.name("plain");
    let client = stage.incus.client().clone();
    client
        .create_pool(&pool, "dir", &Default::default())
        .await
        .unwrap();
    stage.caches.pool.clone_from(&pool);
    stage.generation(1, "2026-11-26T10:00:00Z").await;
    let second = stage.job(2, Trust::Trusted);
    let refused = stage.caches.prepare(&second).await.unwrap_err();
    let CacheError::FullCopyNeeded { bytes, driver, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!((*bytes, driver.as_str()), (Some(1000), "dir"));
    assert!(
        refused.to_string().contains("1000 bytes for each job"),
        "{refused}"
    );
    assert_eq!(stage.caches.list().await.unwrap().len(), 1);
    stage.caches.allow_full_copy = true;
    let prepared = stage.prepare(&second).await;
    let took_ms = prepared.took_ms;
    assert_eq!(
        prepared.full_copy,
        Some(FullCopy {
            bytes: Some(1000),
            took_ms
        })
    );
    stage.caches.discard(&second).await.unwrap();
    for generation in stage.caches.list().await.unwrap() {
        client
            .delete_volume(&pool, &generation.volume)
            .await
            .unwrap();
    }
    client.delete_pool(&pool).await.unwrap();
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_cache_of_twenty_thousand_files_is_cloned() {
    const CLONES: u32 = 5;
    let stage = Stage::new().await;
    let first = stage.job(1, Trust::Trusted);
    stage.prepare(&first).await;
    // 200 folders of 100 files of about 8 KiB.
    let fill = "x=$(seq 1000 2640); for d in {1..200}; do mkdir $d; for f in {1..100}; do echo \"$x\" >$d/$f; done; done; ls */* | wc -l";
    assert_eq!(stage.sh("fill", &first.volume(), fill).await, "20000\n");
    stage.commit(&first, "2026-11-26T10:00:00Z").await;
    let mut took = Vec::new();
    for number in 2..2 + CLONES {
        let prepared = stage.prepare(&stage.job(number, Trust::Trusted)).await;
        took.push(prepared.took_ms);
    }
    println!("clones of 20,000 files took {took:?} ms");
    let clone = stage.job(2, Trust::Trusted).volume();
    let look = "ls */* | wc -l; stat -c '%u %s' 200/100";
    assert_eq!(stage.sh("look", &clone, look).await, "20000\n0 8205\n");
    stage.remove_all("default").await;
}
