//! Owns the sweep for what a killed process left: instances and volumes of ours whose lease is over. Level-triggered:
//! it takes the time and nothing else, and may be run at any moment by any number of processes. Never touches what
//! isn't ours, what has no deadline label, or what is used.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pika_cloud::labels::{LABEL_DEADLINE, LABEL_OWNER, LABEL_RUNTIME_ID, is_ours};
use pika_incus::{Filter, Instance, Volume};
use serde::Serialize;

use crate::destroy::Destroyed;
use crate::id::RuntimeId;
use crate::runtimes::Runtimes;
use crate::text::chain;
use crate::volumes::{VolumeError, VolumeRemoved};

/// What one sweep found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SweepReport {
    /// Each thing whose lease was over, and what became of it.
    pub swept: Vec<Swept>,
    /// Things of ours that were left because their lease is not over or they have none.
    pub kept: usize,
    /// What could not be looked at.
    pub problems: Vec<String>,
}

impl SweepReport {
    /// Whether everything whose lease was over is gone.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty() && self.swept.iter().all(|swept| swept.end.is_absent())
    }
}

/// One thing whose lease was over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// What it is.
    pub kind: SweptKind,
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// When its lease ended.
    pub deadline: String,
    /// What became of it.
    pub end: Destroyed,
}

/// What kind of thing was swept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SweptKind {
    /// An instance.
    Instance,
    /// A custom volume.
    Volume {
        /// Its pool.
        pool: String,
    },
}

/// Where a lease stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lease {
    None,
    Running,
    Over(String),
}

fn lease(config: &BTreeMap<String, String>, now: Timestamp) -> Lease {
    let Some(text) = config.get(LABEL_DEADLINE) else {
        return Lease::None;
    };
    match text.parse::<Timestamp>() {
        Ok(deadline) if deadline <= now => Lease::Over(text.clone()),
        // A deadline that can't be read is one of ours gone wrong: a person decides, not a guess.
        Ok(_) => Lease::Running,
        Err(_) => Lease::None,
    }
}

impl Runtimes {
    /// Removes every instance and volume of ours whose deadline label is past `now`, in all projects. Instances first,
    /// since they hold volumes.
    pub async fn janitor_sweep(&self, now: Timestamp) -> SweepReport {
        let mut report = SweepReport::default();
        let client = self.client("default");
        let ours = format!("config.{LABEL_OWNER} eq {}", self.config().owner);
        let filter = Filter {
            all_projects: true,
            ..Filter::matching(ours)
        };
        match client.instances(&filter).await {
            Ok(instances) => {
                for instance in instances {
                    self.sweep_instance(instance, now, &mut report).await;
                }
            }
            Err(error) => report
                .problems
                .push(format!("instances can't be listed: {}", chain(&error))),
        }
        match client.projects().await {
            Ok(projects) => {
                for project in projects {
                    self.sweep_volumes(&project.name, now, &mut report).await;
                }
            }
            Err(error) => report
                .problems
                .push(format!("projects can't be listed: {}", chain(&error))),
        }
        report
    }

    async fn sweep_instance(&self, instance: Instance, now: Timestamp, report: &mut SweepReport) {
        if !is_ours(&instance.config, &instance.name, &self.config().owner) {
            return;
        }
        let Lease::Over(deadline) = lease(&instance.config, now) else {
            report.kept += 1;
            return;
        };
        let runtime_id = instance
            .config
            .get(LABEL_RUNTIME_ID)
            .map_or("", String::as_str);
        let id = RuntimeId::new(runtime_id, &instance.name, &instance.project);
        let end = match self.destroy(&id).await {
            Ok(end) => end,
            // It became somebody else's between the list and the look: not ours to speak of any more.
            Err(error) => Destroyed::Unknown {
                why: error.to_string(),
            },
        };
        tracing::info!(
            instance = id.instance_name(),
            project = id.project(),
            ?end,
            "swept"
        );
        let Instance { name, project, .. } = instance;
        report.swept.push(Swept {
            kind: SweptKind::Instance,
            name,
            project,
            deadline,
            end,
        });
    }

    async fn sweep_volumes(&self, project: &str, now: Timestamp, report: &mut SweepReport) {
        let client = self.client(project);
        let pools = match client.pools().await {
            Ok(pools) => pools,
            Err(error) => {
                return report
                    .problems
                    .push(format!("pools can't be listed: {}", chain(&error)));
            }
        };
        for pool in pools {
            match client.volumes(&pool.name).await {
                Ok(volumes) => {
                    for volume in volumes.into_iter().filter(|volume| volume.kind == "custom") {
                        self.sweep_volume(project, &pool.name, volume, now, report)
                            .await;
                    }
                }
                Err(error) => {
                    report.problems.push(format!(
                        "volumes of pool {} can't be listed: {}",
                        pool.name,
                        chain(&error)
                    ));
                }
            }
        }
    }

    /// Removes a volume if its lease is over as it stands now: whoever keeps a volume takes its lease off, and the list
    /// may be minutes old. `None` if it is kept.
    async fn sweep_seen(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        now: Timestamp,
    ) -> Result<Option<VolumeRemoved>, VolumeError> {
        let client = self.client(project);
        let Some(found) = self.our_volume(&client, pool, volume).await? else {
            return Ok(Some(VolumeRemoved::Gone));
        };
        match lease(&found.config, now) {
            Lease::Over(_) => {
                let removed = self.remove_seen_volume(&client, pool, found).await?;
                Ok(Some(removed))
            }
            _ => Ok(None),
        }
    }

    async fn sweep_volume(
        &self,
        project: &str,
        pool: &str,
        volume: Volume,
        now: Timestamp,
        report: &mut SweepReport,
    ) {
        // A project without volumes of its own shows those of the default project, which is swept itself.
        let elsewhere = !volume.project.is_empty() && volume.project != project;
        if elsewhere || !is_ours(&volume.config, &volume.name, &self.config().owner) {
            return;
        }
        let Lease::Over(deadline) = lease(&volume.config, now) else {
            report.kept += 1;
            return;
        };
        let remedy = format!(
            "incus storage volume delete --project {project} {pool} {}",
            volume.name
        );
        let end = match self.sweep_seen(project, pool, &volume.name, now).await {
            Ok(None) => {
                report.kept += 1;
                return;
            }
            Ok(Some(VolumeRemoved::Removed)) => Destroyed::Destroyed,
            Ok(Some(VolumeRemoved::Gone)) => Destroyed::Gone,
            Ok(Some(VolumeRemoved::InUse { used_by })) => Destroyed::Stuck {
                why: format!("it is used by {}", used_by.join(", ")),
                remedy,
            },
            Err(error) if error.is_refusal() => Destroyed::Stuck {
                why: chain(&error),
                remedy,
            },
            // It became somebody else's since the list, or Incus doesn't answer.
            Err(error) => Destroyed::Unknown { why: chain(&error) },
        };
        let kind = SweptKind::Volume {
            pool: pool.to_owned(),
        };
        report.swept.push(Swept {
            kind,
            name: volume.name,
            project: project.to_owned(),
            deadline,
            end,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(deadline: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL_DEADLINE.to_owned(), deadline.to_owned())])
    }

    #[test]
    fn a_lease_is_over_only_when_its_time_is_read_and_past() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(
            lease(&labelled("2026-11-21T09:59:59.999Z"), now),
            Lease::Over("2026-11-21T09:59:59.999Z".into())
        );
        assert_eq!(
            lease(&labelled("2026-11-21T12:30:00+02:00"), now),
            Lease::Running
        );
        assert_eq!(
            lease(&labelled("2026-11-21T10:00:01Z"), now),
            Lease::Running
        );
        assert_eq!(lease(&labelled("tomorrow"), now), Lease::None);
        assert_eq!(lease(&BTreeMap::new(), now), Lease::None);
    }
}
