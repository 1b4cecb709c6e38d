//! From a lane to a job: everything that is chosen before an instance exists.
//!
//! Owns the translation lane -> [`JobSpec`] -> `RuntimeSpec`. Pure: the role override, ids and paths
//! are passed in. It never invents a mount: host directories and volumes come from the operator's
//! configuration, by the names that a lane uses.

mod error;
mod optional;
mod quote;
mod role;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pika_cloud::{
    Deadlines, GuestRequest, IncusRuntimeConfig, InstanceType, OutputCollectionPolicy,
    RuntimeIdentity, RuntimeMount, RuntimeMountKind, RuntimeMountMode, RuntimeResources,
    RuntimeSpec, WorkspaceMode, ci_instance_name,
};
use pika_incus_guest_role::{IncusGuestRole, SNAPSHOT_GUEST_PATH};
use serde::{Deserialize, Serialize};

pub use error::{JobError, JobProblem};
pub use optional::optional_lanes;
pub use quote::shell_join;
pub use role::{GUEST_ROLE_ENV, GuestRoleOverrideError, parse_guest_role_override};

use crate::cache::payload::{Payload, PayloadUse};
use crate::cache::{CacheKey, CacheUse, Trust};
use crate::lanes::{Lane, LaneRunner, Section, Workspace};
use crate::operator::{CacheScope, OperatorConfig};
use crate::record::RunId;

/// Where a job leaves files for the host, in its instance.
pub const ARTIFACTS_GUEST_PATH: &str = "/run/pika-cloud/artifacts";
/// Names that folder in a job's environment.
pub const ARTIFACTS_ENV: &str = "PIKACI_ARTIFACTS_DIR";
/// Tells a job which attempt at it this is, from 1.
pub const ATTEMPT_ENV: &str = "PIKACI_ATTEMPT";

/// How long a lane with caches waits for its network, in seconds.
const NETWORK_WAIT_SECS: u64 = 60;

/// What a lane becomes a job with, beside itself.
#[derive(Debug, Clone, Copy)]
pub struct JobContext<'a> {
    /// The operator's configuration.
    pub operator: &'a OperatorConfig,
    /// The owner of what is created. Caches that several runs may use at once are one volume for each
    /// owner.
    pub owner: &'a str,
    /// Tells run stores apart. A cache that only one run at a time may use is one volume for each store,
    /// since no other store knows of its lock.
    pub store_tag: &'a str,
    /// From the operator's environment; wins over the lane.
    pub role_override: Option<IncusGuestRole>,
}

/// One job: a lane with everything chosen that doesn't depend on the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The lane's id, which is the job's id within a run.
    pub lane: String,
    /// The lane's title.
    pub title: String,
    /// Where in the lanes file the lane stands.
    pub section: Section,
    /// Whether a gate asks for the lane.
    pub required: bool,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Jobs of one group never run at the same time.
    pub concurrency_group: Option<String>,
    /// Jobs that must pass first.
    pub needs: Vec<String>,
    /// Whether other jobs still start after this one failed.
    pub keep_going: bool,
    /// How often it is tried again when it does not pass.
    pub retry: u32,
    /// The role that the instance plays.
    pub guest_role: IncusGuestRole,
    /// The image that it boots.
    pub image_alias: String,
    /// What it is.
    pub instance_type: InstanceType,
    /// How large it is.
    pub resources: RuntimeResources,
    /// How long the command may run.
    pub timeout: Duration,
    /// How long the instance may take until its runner answers.
    pub boot_timeout: Duration,
    /// Environment of the command.
    pub env: BTreeMap<String, String>,
    /// Whether the command runs as root of its instance.
    pub run_as_root: bool,
    /// Host directories mounted beside the snapshot.
    pub mounts: Vec<RuntimeMount>,
    /// Caches, each a clone of its own for the job.
    pub caches: Vec<JobCache>,
    /// Payloads that it makes for other jobs of its run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Payload>,
    /// Payloads that it takes; the jobs that make them are among its needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Payload>,
    /// Whether the command may write into its copy of the source.
    pub workspace: Workspace,
    /// Globs of the files to keep.
    pub artifacts: Vec<String>,
    /// How long they are kept.
    pub artifacts_kept: Duration,
    /// Globs of the JUnit XML reports to read, which are kept too.
    pub reports: Vec<String>,
    /// Incus project, profile and pool.
    project: String,
    profile: String,
    storage_pool: Option<String>,
}

/// A cache that a job uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCache {
    /// What it is known by.
    pub key: CacheKey,
    /// What the names of its volumes begin with.
    pub volume_prefix: String,
    /// Where the job sees it.
    pub guest_path: String,
    /// Whether runs may use it at the same time.
    pub concurrent_runs: bool,
}

/// What a use of a job's caches goes by, beside the job itself.
#[derive(Debug, Clone)]
pub struct CacheTerms {
    /// Whether what the job leaves may be read by others.
    pub trust: Trust,
    /// The manifest of the source that the job sees.
    pub basis: Option<String>,
    /// When a janitor may take the working volumes, if nobody else did.
    pub deadline: jiff::Timestamp,
}

impl JobSpec {
    /// Chooses everything for `lane`.
    pub fn new(section: Section, lane: &Lane, context: &JobContext<'_>) -> Result<Self, JobError> {
        let operator = context.operator;
        let mut problems = not_supported_yet(lane);
        let mounts = named_mounts(lane, context, &mut problems);
        let caches = named_caches(lane, context, &mut problems);
        let guest_role = context
            .role_override
            .or(lane.guest_role)
            .unwrap_or(IncusGuestRole::PikaciRunner);
        let silent = &operator.defaults;
        let job = Self {
            lane: lane.id.clone(),
            title: lane.title.clone(),
            section,
            required: lane.required,
            command: lane.command.clone(),
            concurrency_group: lane.concurrency_group.clone(),
            needs: lane.needs.clone(),
            keep_going: lane.keep_going,
            retry: lane.retry,
            guest_role,
            image_alias: lane
                .image
                .clone()
                .unwrap_or_else(|| guest_role.default_image_alias().to_owned()),
            instance_type: lane
                .instance_type
                .unwrap_or(operator.incus.default_instance_type),
            resources: RuntimeResources {
                vcpu_count: Some(lane.resources.vcpu_count.unwrap_or(silent.vcpu_count)),
                memory_mib: Some(lane.resources.memory_mib.unwrap_or(silent.memory_mib)),
                root_disk_gib: lane.resources.root_disk_gib.or(silent.root_disk_gib),
            },
            timeout: lane.timeout.unwrap_or(silent.timeout),
            boot_timeout: silent.boot_timeout,
            env: lane.env.clone(),
            run_as_root: lane.run_as_root,
            mounts,
            caches,
            outputs: lane.outputs.clone(),
            inputs: lane.inputs.clone(),
            workspace: lane.workspace,
            artifacts: lane.artifacts.clone(),
            artifacts_kept: silent.artifacts_kept,
            reports: lane.reports.clone(),
            project: operator.incus.project.clone(),
            profile: operator.incus.profile.clone(),
            storage_pool: operator.incus.pool.clone(),
        };
        if let Err(source) = job.probe().validate() {
            problems.push(JobProblem::Spec {
                source: Box::new(source),
            });
        }
        if problems.is_empty() {
            Ok(job)
        } else {
            Err(JobError {
                lane: lane.id.clone(),
                problems,
            })
        }
    }

    /// What in the job the operator's configuration doesn't say any more. A job that was written down is not to bring
    /// along what only that configuration may give: host directories, a project, a profile, a pool.
    pub fn departs_from(&self, operator: &OperatorConfig) -> Option<String> {
        let incus = &operator.incus;
        let foreign = self.mounts.iter().find(|mount| {
            !operator.mounts.values().any(|known| {
                mount.mode == RuntimeMountMode::ReadOnly
                    && known.guest_path == mount.guest_path
                    && known.source.as_os_str() == mount.source.as_str()
            })
        });
        if let Some(mount) = foreign {
            return Some(format!("the mount at {}", mount.guest_path));
        }
        let foreign = self.caches.iter().find(|cache| {
            let known = operator.caches.get(&cache.key.name);
            !known.is_some_and(|known| {
                known.volume == cache.volume_prefix && known.guest_path == cache.guest_path
            })
        });
        if let Some(cache) = foreign {
            return Some(format!("the cache {}", cache.key.name));
        }
        let placed = [
            ("the project", self.project == incus.project),
            ("the profile", self.profile == incus.profile),
            ("the pool", self.storage_pool == incus.pool),
        ];
        let moved = placed.into_iter().find(|(_, same)| !same);
        moved.map(|(what, _)| what.to_owned())
    }

    /// The spec with ids of no run, to find what is wrong before anything starts.
    pub(crate) fn probe(&self) -> RuntimeSpec {
        let mut spec = self.runtime_spec(
            &RunId::new(jiff::Timestamp::UNIX_EPOCH, 0),
            1,
            Path::new("/snapshot"),
        );
        let inputs = self.inputs.iter();
        let inputs = inputs.map(|payload| payload.input_mount(payload.as_str()));
        spec.mounts.extend(inputs);
        spec
    }

    /// The runtime of one attempt at the job, with the snapshot at `snapshot_dir`. What it takes from other jobs is not
    /// part of it: the volumes are known once those have passed.
    pub fn runtime_spec(&self, run_id: &RunId, attempt: u32, snapshot_dir: &Path) -> RuntimeSpec {
        let runtime_id = self.runtime_id(run_id, attempt);
        let mut spec = self.spec(
            runtime_id,
            ci_instance_name(run_id.as_str(), &self.lane, attempt),
            snapshot_dir,
        );
        let terms = CacheTerms {
            trust: Trust::Untrusted,
            basis: None,
            deadline: jiff::Timestamp::UNIX_EPOCH,
        };
        // Names depend on run, job and attempt alone.
        let uses = self.cache_uses(run_id, attempt, &terms);
        let caches = self.caches.iter().zip(uses);
        spec.mounts.extend(caches.map(|(cache, of)| RuntimeMount {
            kind: RuntimeMountKind::Cache,
            guest_path: cache.guest_path.clone(),
            source: of.volume(),
            mode: RuntimeMountMode::ReadWrite,
            required: true,
        }));
        let outputs = self.payload_uses(run_id, attempt, jiff::Timestamp::UNIX_EPOCH);
        spec.mounts
            .extend(outputs.iter().map(PayloadUse::output_mount));
        spec
    }

    /// One attempt's making of each of the job's outputs. `deadline` is when a janitor may take the volumes.
    pub fn payload_uses(
        &self,
        run_id: &RunId,
        attempt: u32,
        deadline: jiff::Timestamp,
    ) -> Vec<PayloadUse> {
        let of = |payload: &Payload| PayloadUse {
            payload: *payload,
            run_id: run_id.clone(),
            lane: self.lane.clone(),
            attempt,
            deadline,
        };
        self.outputs.iter().map(of).collect()
    }

    /// One attempt's use of each of the job's caches.
    pub fn cache_uses(&self, run_id: &RunId, attempt: u32, terms: &CacheTerms) -> Vec<CacheUse> {
        let of = |cache: &JobCache| CacheUse {
            key: cache.key.clone(),
            volume_prefix: cache.volume_prefix.clone(),
            run_id: run_id.clone(),
            lane: self.lane.clone(),
            attempt,
            trust: terms.trust,
            basis: terms.basis.clone(),
            deadline: terms.deadline,
        };
        self.caches.iter().map(of).collect()
    }

    /// Globs of everything that is taken from the instance.
    pub fn collected_globs(&self) -> Vec<String> {
        self.artifacts
            .iter()
            .chain(&self.reports)
            .cloned()
            .collect()
    }

    /// The runtime's id: run, job, and the attempt from the second on.
    pub fn runtime_id(&self, run_id: &RunId, attempt: u32) -> String {
        match attempt {
            0 | 1 => format!("{run_id}:{}", self.lane),
            _ => format!("{run_id}:{}:{attempt}", self.lane),
        }
    }

    pub(crate) fn incus_config(&self) -> IncusRuntimeConfig {
        IncusRuntimeConfig {
            project: self.project.clone(),
            profile: self.profile.clone(),
            image_alias: self.image_alias.clone(),
            instance_type: Some(self.instance_type),
            storage_pool: self.storage_pool.clone(),
            target: None,
        }
    }

    fn spec(&self, runtime_id: String, instance_name: String, snapshot_dir: &Path) -> RuntimeSpec {
        let mut spec = RuntimeSpec::new(
            RuntimeIdentity {
                runtime_id,
                instance_name,
            },
            self.incus_config(),
        );
        spec.resources = self.resources.clone();
        spec.mounts.push(RuntimeMount {
            kind: RuntimeMountKind::ReadOnlySnapshot,
            guest_path: SNAPSHOT_GUEST_PATH.to_owned(),
            source: snapshot_dir.to_string_lossy().into_owned(),
            mode: RuntimeMountMode::ReadOnly,
            required: true,
        });
        spec.mounts.extend(self.mounts.iter().cloned());
        spec.policies.output_collection = OutputCollectionPolicy {
            artifact_globs: self.collected_globs(),
            ..OutputCollectionPolicy::default()
        };
        spec.policies.deadlines = Deadlines {
            boot_secs: Some(self.boot_timeout.as_secs()),
            run_secs: Some(self.timeout.as_secs()),
            ..Deadlines::default()
        };
        spec.labels.insert("lane".to_owned(), self.lane.clone());
        spec
    }

    /// What the guest is asked to do.
    pub fn guest_request(&self, nonce: &str) -> GuestRequest {
        let mut request = GuestRequest::new(shell_join(&self.command), self.timeout.as_secs());
        request.run_as_root = self.run_as_root;
        request.nonce = Some(nonce.to_owned());
        request.env = self.env.clone();
        // What is in a cache comes from somewhere: such a lane starts with the network up. Others start
        // as soon as the guest does.
        request.wait_for_network_secs = (!self.caches.is_empty()).then_some(NETWORK_WAIT_SECS);
        request.workspace = match self.workspace {
            Workspace::ReadOnly => WorkspaceMode::ReadOnly,
            Workspace::Writable => WorkspaceMode::Writable,
        };
        request
            .env
            .entry(ARTIFACTS_ENV.to_owned())
            .or_insert_with(|| ARTIFACTS_GUEST_PATH.to_owned());
        request
    }
}

/// Keys that are read and that this version of the engine can't act on. A lane that uses one is refused:
/// running it without would be a lie.
fn not_supported_yet(lane: &Lane) -> Vec<JobProblem> {
    let used = [(
        "runner = \"ssh:...\"",
        matches!(lane.runner, LaneRunner::Ssh(_)),
    )];
    used.into_iter()
        .filter(|(_, is_used)| *is_used)
        .map(|(key, _)| JobProblem::NotSupportedYet { key })
        .collect()
}

fn named_mounts(
    lane: &Lane,
    context: &JobContext<'_>,
    problems: &mut Vec<JobProblem>,
) -> Vec<RuntimeMount> {
    let operator = context.operator;
    let mut mounts = Vec::new();
    for name in &lane.mounts {
        let Some(mount) = operator.mounts.get(name) else {
            let known = operator.mounts.keys().cloned().collect();
            problems.push(JobProblem::UnknownMount {
                name: name.clone(),
                known,
            });
            continue;
        };
        mounts.push(RuntimeMount {
            kind: RuntimeMountKind::ReadOnlySnapshot,
            guest_path: mount.guest_path.clone(),
            source: mount.source.to_string_lossy().into_owned(),
            mode: RuntimeMountMode::ReadOnly,
            required: true,
        });
    }
    mounts
}

fn named_caches(
    lane: &Lane,
    context: &JobContext<'_>,
    problems: &mut Vec<JobProblem>,
) -> Vec<JobCache> {
    let operator = context.operator;
    let mut caches = Vec::new();
    for name in &lane.caches {
        let Some(cache) = operator.caches.get(name) else {
            let known = operator.caches.keys().cloned().collect();
            problems.push(JobProblem::UnknownCache {
                name: name.clone(),
                known,
            });
            continue;
        };
        let whose = if cache.concurrent_runs {
            context.owner
        } else {
            context.store_tag
        };
        caches.push(JobCache {
            key: CacheKey {
                name: name.clone(),
                whose: whose.to_owned(),
                lane: match cache.scope {
                    CacheScope::Shared => None,
                    CacheScope::Lane => Some(lane.id.clone()),
                },
            },
            volume_prefix: cache.volume.clone(),
            guest_path: cache.guest_path.clone(),
            concurrent_runs: cache.concurrent_runs,
        });
    }
    caches
}
