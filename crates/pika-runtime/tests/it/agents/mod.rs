//! What managed agents need of the runtime: one suite on a real daemon and on the fake, and faults on the fake.
//! What depends on the kind of pool is tested on plain directories too.

mod faults;
mod guests;
mod instances;
mod killed;
mod stage;
mod strays;
mod volumes;

/// Makes one test of each function of the suite, on the stage that `$stage` sets.
macro_rules! suite {
    ($stage:path) => {
        $crate::agents::suite! { $stage;
            instances::{
                all_are_seen_at_once, what_happens_wakes_and_a_look_does_not, one_starts_and_restarts,
                a_generation_is_replaced_on_the_same_volume,
            },
            guests::{
                a_guest_tells_its_state_in_this_boot, a_volume_that_is_not_mounted_is_seen,
                a_hostile_status_is_no_status, a_guest_that_is_not_there_is_told_apart,
            },
            volumes::{
                a_snapshot_is_put_back_once, a_running_guest_is_in_the_way, a_volume_is_emptied_and_keeps_its_snapshots,
                snapshots_expire_as_asked, size_and_schedule_change, a_tombstone_is_set_and_the_volume_purged,
                what_is_not_ours_stays,
            },
            strays::{strays_are_shown_and_reaped},
        }
    };
    ($stage:path; $($module:ident::{$($test:ident),* $(,)?}),* $(,)?) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $test() {
                let stage = $stage().await;
                $crate::agents::$module::$test(&stage).await;
                stage.finish().await;
            })*
        })*
    };
}
use suite;

mod on_the_fake {
    super::suite!(crate::agents::stage::AgentStage::fake);
}

mod on_a_real_daemon {
    super::suite!(crate::agents::stage::AgentStage::real);
}

mod on_plain_directories {
    super::suite!(crate::agents::stage::AgentStage::real_on_dir;
        volumes::{a_snapshot_is_put_back_once, a_running_guest_is_in_the_way, a_volume_is_emptied_and_keeps_its_snapshots},
    );
}
