//! Owns the look at a server that resolving a plan needs: what it can run, the image behind the alias, pool, profile,
//! volumes, and the host's directories. Everything is asked for at once as far as answers don't depend on each other.
//! Never decides anything from it: that is `pika_cloud::resolve`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use pika_cloud::mount::is_host_directory;
use pika_cloud::resolve::{ImageFacts, PoolFacts};
use pika_cloud::{
    IncusRuntimePlan, InstanceType, Ownership, ResolveError, ResolvedPlan, ServerFacts,
};
use pika_incus::{Client, ErrorKind, InstanceKind, Profile, Server};

use crate::host_dirs::host_dirs;
use crate::runtimes::Runtimes;

/// A server that can't be looked at, or lacks what no plan can do without.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Incus does not answer, or refuses.
    #[error("can't learn what the server is like{}", .source.remedy().map(|remedy| format!(" ({remedy})")).unwrap_or_default())]
    Incus {
        /// The call that failed.
        #[source]
        source: pika_incus::Error,
    },
    /// The plan's profile is not there.
    #[error(
        "project {project} has no profile {profile}; make it, or set incus.profile to one of: incus profile list --project {project}"
    )]
    ProfileMissing {
        /// The project.
        project: String,
        /// The profile.
        profile: String,
    },
    /// No pool is named and the profile has no root disk that names one.
    #[error("profile {profile} has no root disk, so the pool is unknown; set incus.storage_pool")]
    PoolUnknown {
        /// The profile.
        profile: String,
    },
    /// The pool is not there.
    #[error(
        "there is no storage pool {pool}; set incus.storage_pool to one of: incus storage list"
    )]
    PoolMissing {
        /// The pool.
        pool: String,
    },
    /// The server does not trust this client.
    #[error(
        "the server does not trust this client; add its certificate to the server's trust store"
    )]
    Untrusted,
}

/// A plan that could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolvePlanError {
    /// The server could not be looked at.
    #[error("the server could not be looked at")]
    Facts(#[source] FactsError),
    /// The plan does not fit the server.
    #[error(transparent)]
    Plan(ResolveError),
}

/// What doesn't change while a server runs.
#[derive(Debug, Default)]
pub(crate) struct ServerCache {
    pool_drivers: Mutex<BTreeMap<String, String>>,
}

impl Runtimes {
    /// Looks at the server for one plan.
    ///
    /// # Errors
    /// When the server can't be looked at, or lacks profile or pool.
    pub async fn facts(&self, plan: &IncusRuntimePlan) -> Result<ServerFacts, FactsError> {
        let client = self.client(&plan.incus.project);
        let volume_mounts = plan
            .mounts
            .iter()
            .any(|mount| !is_host_directory(&mount.source));
        let early_pool = plan.incus.storage_pool.as_deref();
        let (server, image, profile, host_dirs) = tokio::join!(
            client.server(),
            image(&client, &plan.incus.image_alias),
            client.profile(&plan.incus.profile),
            host_dirs(plan),
        );
        let server = server.map_err(incus)?;
        if !server.is_trusted() {
            return Err(FactsError::Untrusted);
        }
        let profile = profile
            .map(|tagged| tagged.value)
            .map_err(|source| match source.kind() {
                ErrorKind::NotFound => FactsError::ProfileMissing {
                    project: plan.incus.project.clone(),
                    profile: plan.incus.profile.clone(),
                },
                _ => incus(source),
            })?;
        let root = root_device(&profile);
        let pool = early_pool.or(root.as_ref().and_then(|(_, pool)| pool.as_deref()));
        let pool = pool.ok_or_else(|| FactsError::PoolUnknown {
            profile: plan.incus.profile.clone(),
        })?;
        let (pool, volumes, problem) = tokio::join!(
            self.pool(&client, pool),
            volumes(&client, pool, volume_mounts),
            virtual_machines_problem(&client, &server),
        );
        Ok(ServerFacts {
            containers: server.environment.has_driver("lxc"),
            virtual_machines: server.environment.has_driver("qemu"),
            virtual_machines_problem: problem,
            default_instance_type: self.config().default_instance_type,
            image: image?,
            expected_contract_version: self.config().expected_contract_version,
            pool: pool?,
            volumes: volumes?,
            host_dirs,
            profile_root_device: root.map(|(name, _)| name),
        })
    }

    /// Looks at the server and resolves a plan against what was seen.
    ///
    /// # Errors
    /// When the server can't be looked at, or the plan does not fit it: a missing or stale image says which command
    /// mends it.
    pub async fn resolve(
        &self,
        plan: &IncusRuntimePlan,
        ownership: &Ownership,
    ) -> Result<ResolvedPlan, ResolvePlanError> {
        let facts = self.facts(plan).await.map_err(ResolvePlanError::Facts)?;
        pika_cloud::resolve(plan, &facts, ownership).map_err(ResolvePlanError::Plan)
    }

    async fn pool(&self, client: &Client, name: &str) -> Result<PoolFacts, FactsError> {
        let known = lock(&self.server_cache.pool_drivers).get(name).cloned();
        let driver = match known {
            Some(driver) => driver,
            None => {
                let pool = client
                    .pool(name)
                    .await
                    .map_err(|source| match source.kind() {
                        ErrorKind::NotFound => FactsError::PoolMissing {
                            pool: name.to_owned(),
                        },
                        _ => incus(source),
                    })?;
                let driver = pool.value.driver;
                lock(&self.server_cache.pool_drivers).insert(name.to_owned(), driver.clone());
                driver
            }
        };
        Ok(PoolFacts {
            name: name.to_owned(),
            quota_enforced: enforces_quota(&driver),
            allow_unenforced_root_size: self.config().allow_unenforced_root_size,
            driver,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind it is a cache: a panic elsewhere can't have left it wrong.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn incus(source: pika_incus::Error) -> FactsError {
    FactsError::Incus { source }
}

/// Whether a driver keeps a root disk to its size. `dir` does only where its file system has project quotas, which
/// the API doesn't tell, and otherwise ignores the size with a warning in the daemon's log.
fn enforces_quota(driver: &str) -> bool {
    matches!(
        driver,
        "btrfs"
            | "zfs"
            | "lvm"
            | "lvmcluster"
            | "ceph"
            | "cephfs"
            | "powerflex"
            | "truenas"
            | "linstor"
    )
}

async fn image(client: &Client, alias: &str) -> Result<Option<ImageFacts>, FactsError> {
    let Some(alias) = client.alias(alias).await.map_err(incus)? else {
        return Ok(None);
    };
    let image = match client.image(&alias.value.target).await {
        Ok(tagged) => tagged.value,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(incus(error)),
    };
    let instance_type = match image.kind {
        InstanceKind::VirtualMachine => InstanceType::VirtualMachine,
        InstanceKind::Container | InstanceKind::Unknown => InstanceType::Container,
    };
    Ok(Some(ImageFacts {
        fingerprint: image.fingerprint,
        instance_type,
        properties: image.properties,
    }))
}

/// Names of the pool's custom volumes; not asked for if no mount needs them.
async fn volumes(
    client: &Client,
    pool: &str,
    needed: bool,
) -> Result<BTreeSet<String>, FactsError> {
    if !needed {
        return Ok(BTreeSet::new());
    }
    match client.volumes(pool).await {
        Ok(volumes) => Ok(volumes
            .into_iter()
            .filter(|v| v.kind == "custom")
            .map(|v| v.name)
            .collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(incus(error)),
    }
}

/// Incus's own words for why it runs no virtual machines, from its warnings.
async fn virtual_machines_problem(client: &Client, server: &Server) -> Option<String> {
    if server.environment.has_driver("qemu") {
        return None;
    }
    let warnings = client.warnings().await.ok()?;
    let about_drivers = warnings
        .iter()
        .find(|warning| warning.last_message.contains("qemu"));
    about_drivers.map(|warning| {
        warning
            .last_message
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect()
    })
}

/// The profile's root disk: the device's name, and its pool.
fn root_device(profile: &Profile) -> Option<(String, Option<String>)> {
    let is_root = |device: &BTreeMap<String, String>| {
        device.get("type").is_some_and(|kind| kind == "disk")
            && device.get("path").is_some_and(|path| path == "/")
    };
    let found = profile.devices.iter().find(|(_, device)| is_root(device));
    found.map(|(name, device)| (name.clone(), device.get("pool").cloned()))
}
