//! Prepared payloads on a real daemon: made by one job, taken read-only by others, gone with their run.

use jerichoci::cache::payload::{Payload, PayloadError, PayloadStore, PayloadUse, SealRefusal};
use jerichoci::record::RunId;
use pika_runtime::{Runtime, VolumeRemoved};

use crate::cache_stage::Stage;

const AT: &str = "/staged/linux-rust/workspace-deps";

fn payloads_of(stage: &Stage) -> PayloadStore {
    PayloadStore {
        runtimes: stage.caches.runtimes.clone(),
        project: stage.caches.project.clone(),
        pool: stage.caches.pool.clone(),
    }
}

fn making(lane: &str, number: u32) -> PayloadUse {
    PayloadUse {
        payload: Payload::WorkspaceDeps,
        run_id: RunId::new(jiff::Timestamp::now(), number),
        lane: lane.to_owned(),
        attempt: 1,
        deadline: "2030-01-01T00:00:00Z".parse().unwrap(),
    }
}

#[tokio::test]
async fn what_one_job_made_others_read_and_none_changes() {
    let stage = Stage::new().await;
    let payloads = payloads_of(&stage);
    let making = making("prepare", std::process::id());
    let run_id = &making.run_id;
    let volume = payloads.prepare(&making).await.unwrap();
    let maker = stage.instance_with("maker", making.output_mount()).await;
    let made = stage
        .exec(
            &maker,
            &format!("cd {AT}; stat -c %u .; mkdir d; echo built >d/lib; ls"),
        )
        .await;
    assert_eq!(made, "1000\nd\n");
    let not_yet = payloads.find(run_id, making.payload).await.unwrap_err();
    assert!(matches!(not_yet, PayloadError::NotMade { .. }), "{not_yet}");
    let in_use = payloads.seal(&making).await.unwrap_err();
    assert!(
        matches!(
            &in_use,
            PayloadError::Refused {
                source: SealRefusal::InUse(_),
                ..
            }
        ),
        "{in_use}"
    );
    stage.destroy(&maker).await;
    let sealed = payloads.seal(&making).await.unwrap();
    assert_eq!((&sealed.volume, sealed.lane.as_str()), (&volume, "prepare"));
    assert_eq!(payloads.seal(&making).await.unwrap(), sealed);
    assert_eq!(payloads.find(run_id, making.payload).await.unwrap(), sealed);

    let mut takers: Vec<Runtime> = Vec::new();
    for what in ["one", "two"] {
        let mount = making.payload.input_mount(&sealed.volume);
        takers.push(stage.instance_with(what, mount).await);
    }
    let attempts = format!(
        "cd {AT}; exec 2>&1; cat d/lib; echo evil >d/lib; echo evil >new; chmod 777 d
         mount -o remount,rw {AT}; mount -o remount,bind,rw {AT}; echo evil >d/lib
         mkdir -p /m; mount --bind {AT} /m; mount -o remount,bind,rw /m; echo evil >/m/d/lib; echo evil >/proc/1/root{AT}/d/lib
         true"
    );
    let said = stage.exec(&takers[0], &attempts).await;
    assert!(said.starts_with("built\n"), "{said}");
    assert_eq!(said.matches("Read-only file system").count(), 6, "{said}");
    let look = format!("cat {AT}/d/lib; ls {AT}");
    assert_eq!(stage.exec(&takers[1], &look).await, "built\nd\n");
    // A job that takes it doesn't keep it from being given to the next one.
    assert_eq!(payloads.seal(&making).await.unwrap(), sealed);
    // It is no cache, and no cache's eviction sees it.
    assert!(stage.caches.list().await.unwrap().is_empty());

    let held = payloads.remove_run(run_id).await.unwrap();
    assert!(
        matches!(&held[..], [one] if matches!(one.end, VolumeRemoved::InUse { .. })),
        "{held:?}"
    );
    for taker in &takers {
        stage.destroy(taker).await;
    }
    let removed = payloads.remove_run(run_id).await.unwrap();
    assert!(
        matches!(&removed[..], [one] if one.volume == volume && one.end == VolumeRemoved::Removed),
        "{removed:?}"
    );
    let gone = payloads.seal(&making).await.unwrap_err();
    assert!(
        matches!(
            &gone,
            PayloadError::Refused {
                source: SealRefusal::Gone,
                ..
            }
        ),
        "{gone}"
    );
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_payload_of_two_lanes_or_of_another_run_is_nobodys() {
    let stage = Stage::new().await;
    let payloads = payloads_of(&stage);
    let one = making("one", std::process::id() ^ 0x80_0000);
    let two = PayloadUse {
        lane: "two".to_owned(),
        ..one.clone()
    };
    for making in [&one, &two] {
        payloads.prepare(making).await.unwrap();
        payloads.seal(making).await.unwrap();
    }
    let twice = payloads.find(&one.run_id, one.payload).await.unwrap_err();
    assert!(
        matches!(&twice, PayloadError::MadeTwice { lanes, .. } if lanes.len() == 2),
        "{twice}"
    );
    let other = RunId::new(jiff::Timestamp::UNIX_EPOCH, 1);
    for (run_id, payload) in [
        (&other, Payload::WorkspaceDeps),
        (&one.run_id, Payload::WorkspaceBuild),
    ] {
        let none = payloads.find(run_id, payload).await.unwrap_err();
        assert!(matches!(none, PayloadError::NotMade { .. }), "{none}");
    }
    assert_eq!(payloads.remove_run(&other).await.unwrap(), []);
    assert_eq!(payloads.remove_run(&one.run_id).await.unwrap().len(), 2);
    stage.incus.assert_nothing_left().await;
}
