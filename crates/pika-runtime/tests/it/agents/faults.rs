//! Each request in turn is lost, its answer is lost, the daemon fails or dies: asked for again, each change of a volume or
//! an instance ends as it should, and nothing is lost on the way.

use std::time::Duration;

use pika_cloud::OwnedKind;
use pika_runtime::{GuestLookError, Power, SnapshotExpiry, VolumeRestored};
use pikahut::fake::{Fault, STEPS, When};

use super::stage::{Agent, AgentStage, PROJECT, STATE};

const DOWN_FOR: Duration = Duration::from_millis(5);

/// A change that is struck.
#[derive(Clone, Copy, Debug)]
enum Change {
    MakeVolume,
    Snapshot,
    Restore,
    Empty,
    Start,
    Restart,
}

const ALL: [Change; 6] = [
    Change::MakeVolume,
    Change::Snapshot,
    Change::Restore,
    Change::Empty,
    Change::Start,
    Change::Restart,
];

/// A fake with an agent that is as the change wants it: its volume holds `two`, and a snapshot `one`.
async fn set(change: Change) -> (AgentStage, Agent) {
    let stage = AgentStage::fake().await;
    let agent = stage.agent("agent");
    if !matches!(change, Change::MakeVolume) {
        stage.make_volume(&agent).await;
        stage.ensure(&agent, 1).await;
        stage.write(&agent, "one").await;
        let never = SnapshotExpiry::Never;
        let taken =
            stage
                .runtimes
                .snapshot_volume(PROJECT, &stage.pool, &agent.volume, "s1", &never);
        taken.await.unwrap();
        stage.write(&agent, "two").await;
        if !matches!(change, Change::Restart | Change::Snapshot) {
            stage.stop(&agent).await;
        }
    }
    stage.as_fake().unwrap().clear_requests();
    (stage, agent)
}

/// Carries the change out once, however it ends. True if it says that it did.
async fn carry_out(change: Change, stage: &AgentStage, agent: &Agent) -> bool {
    let runtimes = &stage.runtimes;
    let volume = agent.volume.as_str();
    match change {
        Change::MakeVolume => {
            let ownership = stage.ownership(1);
            let new = pika_runtime::NewVolume {
                volume,
                runtime_id: agent.id.runtime_id(),
                ownership: &ownership,
                labels: &Default::default(),
                guest_owner: None,
                size_bytes_max: None,
                snapshots: None,
                with_origin: true,
            };
            runtimes
                .ensure_new_volume(PROJECT, &stage.pool, &new)
                .await
                .is_ok()
        }
        Change::Snapshot => {
            let never = SnapshotExpiry::Never;
            let taken = runtimes.snapshot_volume(PROJECT, &stage.pool, volume, "s2", &never);
            taken.await.is_ok()
        }
        Change::Restore => {
            let restored = runtimes.restore_volume(PROJECT, &stage.pool, volume, "s1", "op");
            restored.await.is_ok()
        }
        Change::Empty => {
            let emptied = runtimes.empty_volume(PROJECT, &stage.pool, volume, "op");
            emptied.await.is_ok()
        }
        Change::Start => runtimes.start(&agent.id).await.is_ok(),
        Change::Restart => {
            let restarted = runtimes.restart_gracefully(&agent.id, Duration::from_secs(5));
            restarted.await.is_ok()
        }
    }
}

async fn assert_done(change: Change, stage: &AgentStage, agent: &Agent, after: &str) {
    let listed = stage
        .runtimes
        .list_snapshots(PROJECT, &stage.pool, &agent.volume);
    let snapshots = listed.await.unwrap();
    assert!(
        snapshots.iter().all(|one| one.seen_complete),
        "{after}: {snapshots:?}"
    );
    let whole = {
        let world = stage.as_fake().unwrap().world();
        let key = (PROJECT.to_owned(), agent.volume.clone());
        let volume = &world.pools[&stage.pool].volumes[&key];
        volume.snapshots.values().all(|snapshot| snapshot.whole)
    };
    assert!(whole, "{after}: a snapshot is half there");
    let names: Vec<&str> = snapshots.iter().map(|one| one.name.as_str()).collect();
    let (content, expected): (&str, &[&str]) = match change {
        Change::MakeVolume => ("", &["pika-origin"]),
        Change::Snapshot => ("two", &["pika-origin", "s1", "s2"]),
        Change::Restore => ("one", &["pika-origin", "s1"]),
        Change::Empty => ("", &["pika-origin", "s1"]),
        Change::Start | Change::Restart => ("two", &["pika-origin", "s1"]),
    };
    assert_eq!(names, expected, "{after}");
    assert_eq!(stage.read(agent).await, content, "{after}");
    let volumes = stage
        .runtimes
        .owned_volumes(PROJECT, &stage.pool, OwnedKind::Agent);
    let volumes = volumes.await.unwrap();
    assert!(volumes.iter().all(|volume| !volume.unfinished), "{after}");
    if matches!(change, Change::Start | Change::Restart) {
        let seen = stage.runtimes.observe_all(PROJECT, OwnedKind::Agent).await;
        assert_eq!(seen.unwrap()[0].power, Power::Running, "{after}");
    }
}

/// Strikes, asks again until it is done, and looks. Whether the fault found its place.
async fn strike(change: Change, when: When, fault: Fault) -> bool {
    let (stage, agent) = set(change).await;
    let after = format!("{change:?}, {fault:?} at {when:?}");
    let fake = stage.as_fake().unwrap();
    fake.faults().inject(when, fault);
    let first = carry_out(change, &stage, &agent).await;
    let struck = fake.faults().pending() == 0;
    fake.faults().clear();
    let up = pikahut::wait::until_async(Duration::from_secs(5), || async {
        stage.client.server().await.ok()
    });
    assert!(up.await.is_some(), "{after}: the daemon stayed away");
    if first {
        assert_done(change, &stage, &agent, &after).await;
    }
    let again = carry_out(change, &stage, &agent).await;
    assert!(again, "{after}: asked for again, it is not done");
    assert_done(change, &stage, &agent, &after).await;
    struck
}

async fn strike_every_request(fault: Fault) {
    let mut strikes = 0;
    for change in ALL {
        for nth in 1.. {
            if !strike(change, When::nth_request(nth), fault.clone()).await {
                break;
            }
            strikes += 1;
        }
    }
    assert!(strikes >= 20, "only {strikes} requests were struck");
}

#[tokio::test]
async fn requests_that_never_arrive() {
    strike_every_request(Fault::DropRequest).await;
}

#[tokio::test]
async fn answers_that_are_lost() {
    strike_every_request(Fault::LoseResponse).await;
}

#[tokio::test]
async fn the_daemon_dies_after_a_request() {
    strike_every_request(Fault::CrashAfter { down_for: DOWN_FOR }).await;
}

#[tokio::test]
async fn the_daemon_fails() {
    let message = "database is locked".to_owned();
    strike_every_request(Fault::Status { code: 500, message }).await;
}

#[tokio::test]
async fn the_daemon_dies_after_every_step_of_its_own() {
    let mut struck = std::collections::BTreeSet::new();
    for change in ALL {
        for step in STEPS {
            let crash = Fault::Crash { down_for: DOWN_FOR };
            if strike(change, When::step(step), crash).await {
                struck.insert(step);
            }
        }
    }
    for step in [
        "volume.snapshot.record",
        "volume.snapshot",
        "volume.restore",
        "start.boot",
        "stop.halt",
    ] {
        assert!(
            struck.contains(step),
            "{step} was never reached: {struck:?}"
        );
    }
}

#[tokio::test]
async fn a_restore_whose_answer_was_lost_is_not_done_twice() {
    let (stage, agent) = set(Change::Restore).await;
    let path = "/1.0/storage-pools/*/volumes/custom/*";
    let fake = stage.as_fake().unwrap();
    fake.faults()
        .inject(When::request("PUT", path), Fault::LoseResponse);
    let restore = async || {
        let restored =
            stage
                .runtimes
                .restore_volume(PROJECT, &stage.pool, &agent.volume, "s1", "op");
        restored.await.unwrap()
    };
    assert_eq!(restore().await, VolumeRestored::Restored);
    assert_eq!(fake.faults().pending(), 0);
    stage.write(&agent, "written since").await;
    assert_eq!(restore().await, VolumeRestored::AlreadyRestored);
    assert_eq!(stage.read(&agent).await, "written since");
}

#[tokio::test]
async fn a_pool_that_would_give_up_later_snapshots_is_refused() {
    let (stage, agent) = set(Change::Snapshot).await;
    let take = stage.runtimes.snapshot_volume(
        PROJECT,
        &stage.pool,
        &agent.volume,
        "s2",
        &SnapshotExpiry::Never,
    );
    take.await.unwrap();
    stage.stop(&agent).await;
    let fake = stage.as_fake().unwrap();
    fake.world().pools.get_mut(&stage.pool).unwrap().driver = "zfs".to_owned();
    // What is known of the pool from before does not count.
    let fresh = pika_runtime::Runtimes::new(stage.client.clone(), stage.runtimes.config().clone());
    let restore = async |snapshot: &str| {
        let restored = fresh.restore_volume(PROJECT, &stage.pool, &agent.volume, snapshot, "op");
        restored.await
    };
    let error = restore("s1").await.unwrap_err();
    let pika_runtime::VolumeError::LaterSnapshots { later, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(later, &["s2"]);
    assert_eq!(restore("s2").await.unwrap(), VolumeRestored::Restored);
}

/// One look at ten thousand, of which a few are somebody else's, is one request.
#[tokio::test]
async fn ten_thousand_agents_are_one_request() {
    let stage = AgentStage::fake().await;
    let fake = stage.as_fake().unwrap();
    {
        let mut world = fake.world();
        for number in 0..10_000 {
            let name = format!("pika-agent-{number:020}");
            let volume = format!("{name}-state");
            let owner = match number % 100 {
                0 => "somebody-else",
                _ => stage.owner(),
            };
            let id = number.to_string();
            let instance = pikahut::fake::Instance::running_container(
                &[
                    ("user.pika.owner", owner),
                    ("user.pika.kind", "agent"),
                    ("user.pika.runtime_id", &id),
                    ("user.pika.instance_name", &name),
                    ("user.pika.generation", "3"),
                ],
                &[(
                    "state",
                    &[
                        ("type", "disk"),
                        ("pool", &stage.pool),
                        ("source", &volume),
                        ("path", "/mnt/pika-state"),
                    ],
                )],
            );
            world.default_project().instances.insert(name, instance);
        }
    }
    let seen = stage.runtimes.observe_all(PROJECT, OwnedKind::Agent).await;
    let seen = seen.unwrap();
    assert_eq!((seen.len(), fake.requests().len()), (9_900, 1));
    let is_whole = |one: &pika_runtime::OwnedInstance| {
        one.generation == 3 && one.power == Power::Running && one.volume_devices.len() == 1
    };
    assert!(seen.iter().all(is_whole));
}

#[tokio::test]
async fn a_daemon_that_goes_away_says_nothing_about_a_guest() {
    let mut strikes = 0;
    for nth in 1.. {
        let (stage, agent) = set(Change::Restart).await;
        let fake = stage.as_fake().unwrap();
        let down_for = DOWN_FOR;
        fake.faults()
            .inject(When::nth_request(nth), Fault::CrashAfter { down_for });
        let looked = stage.runtimes.guest_look(&agent.id, STATE).await;
        if fake.faults().pending() > 0 {
            break;
        }
        strikes += 1;
        assert!(
            matches!(
                looked,
                Ok(_) | Err(GuestLookError::Lost { .. } | GuestLookError::Instance(_))
            ),
            "request {nth}: {looked:?}"
        );
    }
    assert!(strikes >= 3, "only {strikes} requests were struck");
}
