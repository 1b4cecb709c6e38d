//! `--check`: whether a server with this configuration could work.

use pika_store::Store;

use crate::config::Config;
use crate::fleet::Fleet;
use crate::trouble::chain;

/// Looks at each thing that the server needs. Makes nothing in Incus; opens, and so brings up to date, its database.
pub async fn check(config: &Config) -> Vec<(&'static str, Result<String, String>)> {
    let database = match Store::open(&config.database).await {
        Ok(store) => {
            let kind = format!("{:?} answers", store.backend());
            store.close().await;
            Ok(kind)
        }
        Err(error) => Err(chain(&error)),
    };
    let fleet = Fleet::new(config);
    let incus = match fleet.runtimes_at(&fleet.local_place()) {
        Ok(runtimes) => match runtimes.reachable().await {
            Ok(()) => Ok(format!("answers; everything is labelled {}", fleet.owner())),
            Err(error) => Err(chain(&error)),
        },
        Err(trouble) => Err(trouble.to_string()),
    };
    vec![("database", database), ("incus", incus)]
}
