//! What any Incus has to do for this client, real or fake. Written against the client alone.

pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod images;
pub(crate) mod instances;
pub(crate) mod objects;
pub(crate) mod storage;

/// Makes one test of each conformance function, on the subject that `$subject` gives.
macro_rules! suite {
    ($subject:path) => {
        $crate::conformance::suite! { $subject;
            instances::{life, not_started, duplicate_create, delete_of_a_running_one, update_with_an_old_tag, hot_config, found_by_label},
            exec::{streams_and_exit_code, signal, standard_input, environment, missing_command, not_running, limits},
            files::{write_and_read, ranges, directories_and_links, missing_paths},
            images::{import_and_alias, alias_switch_is_conditional},
            storage::{
                volume_life, snapshots, snapshot_expiry, restore, volumes_by_label, copy, attached_volume_is_in_use,
            },
            objects::{server_facts, profiles, projects, networks_and_pools},
            errors::{unknown_operation, wait_that_times_out, invalid_names_send_nothing},
            events::{lifecycle},
        }
    };
    ($subject:path; $($module:ident::{$($test:ident),* $(,)?}),* $(,)?) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $test() {
                let subject = $subject().await;
                $crate::conformance::$module::$test(&subject).await;
                subject.finish().await;
            })*
        })*
    };
}
pub(crate) use suite;
