//! A real daemon is killed with -9 at random moments of a create and of a delete: what is left ends ready, gone, or
//! stuck with a remedy that works.
//!
//! The moments come from a seed, which is printed; `PIKA_FAULT_SEED` gives the same ones again.

#![expect(
    clippy::print_stdout,
    reason = "the seed and what came of each moment are for the reader of a failure"
)]

use std::path::Path;
use std::time::Duration;

use pika_cloud::IncusRuntimePlan;
use pika_incus::InstanceStatus;
use pika_runtime::{Destroyed, EnsureError, Runtime, RuntimeConfig, Runtimes};
use pikahut::stack::{TestIncus, told};
use tokio::time::Instant;

use crate::support::{Stage, config, id_of};

/// Kills of each kind.
const MOMENTS: usize = 20;
/// Gives the seed of an earlier run.
const SEED_VARIABLE: &str = "PIKA_FAULT_SEED";

/// A sequence of moments that a seed repeats (xorshift64).
struct Moments(u64);

impl Moments {
    fn new(what: &str) -> Moments {
        let given = std::env::var(SEED_VARIABLE)
            .ok()
            .map(|text| text.parse().expect("PIKA_FAULT_SEED is a number"));
        let seed = given.unwrap_or_else(|| getrandom::u64().expect("the system has randomness"));
        println!("{what}: {SEED_VARIABLE}={seed}");
        Moments(seed | 1)
    }

    /// From 0 to 1, early moments more often than late ones: that is where records without volumes are.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let even =
            f64::from(u32::try_from(self.0 >> 32).expect("32 bits are left")) / 4_294_967_296.0;
        even * even
    }
}

/// A daemon that may be killed.
async fn stage(name: &str) -> Stage {
    let incus = TestIncus::private(name).await;
    let image = incus.tiny_image().await;
    let config = RuntimeConfig {
        expected_contract_version: None,
        ..config(&incus)
    };
    Stage {
        runtimes: Runtimes::new(incus.client().clone(), config),
        incus,
        image,
    }
}

/// Kills the daemon after a while, and starts it again.
async fn kill_after(stage: &Stage, moment: Duration) {
    tokio::time::sleep(moment).await;
    tokio::task::block_in_place(|| {
        assert!(
            stage.incus.daemon().kill9_blocking(),
            "the daemon can't be killed"
        );
        stage.incus.daemon().restart_blocking().unwrap();
    });
}

/// Destroys; where it is stuck, does what the runbook says, and destroys again. Says which of it happened.
async fn removed(stage: &Stage, plan: &IncusRuntimePlan) -> &'static str {
    let end = stage.runtimes.destroy(&id_of(plan)).await.unwrap();
    let (why, remedy) = match end {
        Destroyed::Destroyed => return "destroyed",
        Destroyed::Gone => return "gone",
        Destroyed::Unknown { why } => panic!("the daemon answers, and yet: {why}"),
        Destroyed::Stuck { why, remedy } => (why, remedy),
    };
    let name = &plan.identity.instance_name;
    assert!(remedy.contains(name.as_str()), "{remedy}");
    assert!(
        why.contains("Not a Btrfs subvolume"),
        "stuck for a reason unknown to the runbook: {why}"
    );
    remove_empty_folder(stage, name);
    let again = stage.runtimes.destroy(&id_of(plan)).await.unwrap();
    assert!(again.is_absent(), "after the remedy: {again:?}");
    "stuck, mended by the remedy"
}

/// The runbook's remedy for a create that died between the folder of its volume and the volume.
fn remove_empty_folder(stage: &Stage, name: &str) {
    let daemon = stage.incus.daemon();
    let folder = Path::new("storage-pools/default/containers").join(name);
    let mut rmdir = daemon
        .command_inside("rmdir")
        .expect("the daemon has namespaces");
    let ended = rmdir.arg(daemon.dir().join(folder)).status().unwrap();
    assert!(ended.success(), "the folder is not empty");
}

async fn is_ready(stage: &Stage, runtime: &Runtime) -> bool {
    stage.status(runtime.instance_name()).await == InstanceStatus::Running
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_is_killed_in_the_middle_of_a_create() {
    let stage = stage("kc").await;
    let mut moments = Moments::new("create");
    // The first of an image unpacks it, which takes longer than all of the later ones.
    let mut whole = Duration::ZERO;
    for warm in ["cold", "warm"] {
        let begun = Instant::now();
        let runtime = stage.ensure(&stage.plan(warm)).await;
        whole = begun.elapsed();
        stage.runtimes.destroy(&runtime.id).await.unwrap();
    }
    for number in 0..MOMENTS {
        let moment = whole.mul_f64(moments.next());
        let plan = stage.plan(&format!("c{number}"));
        let ownership = stage.ownership();
        let ((), under_way) = tokio::join!(
            kill_after(&stage, moment),
            stage.runtimes.ensure(&plan, &ownership)
        );
        let under_way = match under_way {
            Ok(runtime) => {
                assert!(is_ready(&stage, &runtime).await, "{number}: not ready");
                "ready".to_owned()
            }
            Err(error) => told(&error),
        };
        // Every other time a new process goes on from there; else it gives up.
        let further = if number % 2 == 0 {
            match stage.runtimes.ensure(&plan, &ownership).await {
                Ok(runtime) => {
                    assert!(is_ready(&stage, &runtime).await, "{number}: not ready");
                    "ready".to_owned()
                }
                // It came up and went down with the daemon: it may have run something, so it is never started again.
                Err(EnsureError::Ended { .. }) => "ended".to_owned(),
                Err(error) => told(&error),
            }
        } else {
            "-".to_owned()
        };
        let end = removed(&stage, &plan).await;
        println!(
            "create killed after {moment:?}: {under_way}; a further ensure: {further}; removed: {end}"
        );
        let stuck = end.starts_with("stuck");
        assert!(
            ["ready", "ended", "-"].contains(&further.as_str()) || stuck,
            "{number}: {further}"
        );
    }
    stage.incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_is_killed_in_the_middle_of_a_delete() {
    let stage = stage("kd").await;
    let mut moments = Moments::new("delete");
    let first = stage.ensure(&stage.plan("first")).await;
    let begun = Instant::now();
    stage.runtimes.destroy(&first.id).await.unwrap();
    let whole = begun.elapsed();
    for number in 0..MOMENTS {
        let moment = whole.mul_f64(moments.next());
        let plan = stage.plan(&format!("d{number}"));
        let runtime = stage.ensure(&plan).await;
        let ((), under_way) = tokio::join!(
            kill_after(&stage, moment),
            stage.runtimes.destroy(&runtime.id)
        );
        let under_way = under_way.unwrap();
        let end = removed(&stage, &plan).await;
        println!("delete killed after {moment:?}: {under_way:?}; a further destroy: {end}");
        if under_way.is_absent() {
            assert_eq!(end, "gone", "{number}: it was said to be gone");
        }
    }
    stage.incus.assert_nothing_left().await;
}
