//! Owns the look at a server that resolving a plan needs: what it can run, the image behind the alias, pool, profile,
//! volumes, and the host's directories. Everything is asked for at once as far as answers don't depend on each other.
//! Never decides anything from it: that is `pika_cloud::resolve`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pika_cloud::mount::is_host_directory;
use pika_cloud::resolve::{HostDirFacts, ImageFacts, PoolFacts};
use pika_cloud::{
    IncusRuntimeConfig, IncusRuntimePlan, InstanceType, Ownership, ResolveError, ResolvedPlan,
    ServerFacts,
};
use pika_incus::{Client, ErrorKind, InstanceKind, Profile, Server};

use tokio::sync::OnceCell;

use crate::host_dirs::host_dirs;
use crate::runtimes::Runtimes;
use crate::text::tame;

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

/// How long a pool's driver is known. A pool may be removed, and another one made of its name.
const POOL_KNOWN: Duration = Duration::from_secs(60);

/// What this process knows of a server without asking: what doesn't change while it runs, and what was made just now.
#[derive(Debug, Default)]
pub(crate) struct ServerCache {
    pool_drivers: Mutex<BTreeMap<String, (String, Instant)>>,
    /// Volumes that were made here and that no plan was resolved with yet, by project, pool and name.
    volumes_made: Mutex<BTreeSet<[String; 3]>>,
}

impl ServerCache {
    /// The driver of a pool, if it is known.
    pub(crate) fn pool_driver(&self, pool: &str) -> Option<String> {
        let drivers = lock(&self.pool_drivers);
        let (driver, since) = drivers.get(pool)?;
        (since.elapsed() < POOL_KNOWN).then(|| driver.clone())
    }

    /// A pool is there, and has the driver.
    pub(crate) fn pool_has_driver(&self, pool: &str, driver: &str) {
        let known = (driver.to_owned(), Instant::now());
        lock(&self.pool_drivers).insert(pool.to_owned(), known);
    }

    /// A volume of the name is there now, and whole.
    pub(crate) fn volume_is_made(&self, project: &str, pool: &str, volume: &str) {
        lock(&self.volumes_made).insert([project, pool, volume].map(str::to_owned));
    }

    /// Whether the volume was made here since this was last asked. The first plan that mounts it may count on that; who
    /// comes later looks.
    pub(crate) fn take_made(&self, project: &str, pool: &str, volume: &str) -> bool {
        lock(&self.volumes_made).remove(&[project, pool, volume].map(str::to_owned))
    }
}

/// What a server tells of itself, asked for once by whoever shares this.
#[derive(Debug, Default)]
pub struct ServerOnce(OnceCell<Server>);

impl ServerOnce {
    /// The server's own words: from whoever asked first, or asked for now. An error is not kept.
    ///
    /// # Errors
    /// As [`Client::server`].
    pub async fn get(&self, client: &Client) -> Result<&Server, pika_incus::Error> {
        self.0.get_or_try_init(|| client.server()).await
    }
}

/// What a server is like for every plan with the same project, profile, pool and image. A caller with many such plans
/// looks once, and all of them get the image that the alias pointed to then.
#[derive(Clone, Debug)]
pub struct ServerSeen {
    containers: bool,
    virtual_machines: bool,
    virtual_machines_problem: Option<String>,
    image: Option<ImageFacts>,
    pool: PoolFacts,
    profile_root_device: Option<String>,
}

impl Runtimes {
    /// Looks at the server for one plan.
    ///
    /// # Errors
    /// When the server can't be looked at, or lacks profile or pool.
    pub async fn facts(&self, plan: &IncusRuntimePlan) -> Result<ServerFacts, FactsError> {
        let once = ServerOnce::default();
        let (seen, host_dirs) = tokio::join!(self.see_server(&plan.incus, &once), host_dirs(plan));
        self.facts_of(plan, seen?, host_dirs).await
    }

    /// Looks at the server as far as it is the same for every plan with these settings.
    ///
    /// # Errors
    /// When the server can't be looked at, or lacks profile or pool.
    pub async fn see_server(
        &self,
        incus: &IncusRuntimeConfig,
        server: &ServerOnce,
    ) -> Result<ServerSeen, FactsError> {
        let client = self.client(&incus.project);
        let (server, image, profile) = tokio::join!(
            server.get(&client),
            image(&client, &incus.image_alias),
            client.profile(&incus.profile),
        );
        let server = server.map_err(cant_look)?;
        if !server.is_trusted() {
            return Err(FactsError::Untrusted);
        }
        let profile = profile
            .map(|tagged| tagged.value)
            .map_err(|source| match source.kind() {
                ErrorKind::NotFound => FactsError::ProfileMissing {
                    project: incus.project.clone(),
                    profile: incus.profile.clone(),
                },
                _ => cant_look(source),
            })?;
        let root = root_device(&profile);
        let pool = async {
            let of_profile = root.as_ref().and_then(|(_, pool)| pool.as_deref());
            let pool = incus.storage_pool.as_deref().or(of_profile);
            let pool = pool.ok_or_else(|| FactsError::PoolUnknown {
                profile: incus.profile.clone(),
            })?;
            // A pool that a profile's disk is in can't be removed, so it is there.
            if of_profile == Some(pool)
                && let Some(driver) = server.environment.only_storage_driver()
            {
                self.server_cache.pool_has_driver(pool, driver);
            }
            self.pool(&client, pool).await
        };
        let problem = async {
            match incus.instance_type {
                // Why there are no virtual machines is of no interest then.
                Some(InstanceType::Container) => None,
                _ => virtual_machines_problem(&client, server).await,
            }
        };
        let (pool, problem) = tokio::join!(pool, problem);
        Ok(ServerSeen {
            containers: server.environment.has_driver("lxc"),
            virtual_machines: server.environment.has_driver("qemu"),
            virtual_machines_problem: problem,
            image: image?,
            pool: pool?,
            profile_root_device: root.map(|(name, _)| name),
        })
    }

    /// What is of one plan alone, added to what was seen.
    async fn facts_of(
        &self,
        plan: &IncusRuntimePlan,
        seen: ServerSeen,
        host_dirs: BTreeMap<String, HostDirFacts>,
    ) -> Result<ServerFacts, FactsError> {
        let volumes = self.volumes_there(plan, &seen.pool.name).await?;
        Ok(ServerFacts {
            containers: seen.containers,
            virtual_machines: seen.virtual_machines,
            virtual_machines_problem: seen.virtual_machines_problem,
            default_instance_type: self.config().default_instance_type,
            image: seen.image,
            expected_contract_version: self.config().expected_contract_version,
            pool: seen.pool,
            volumes,
            host_dirs,
            profile_root_device: seen.profile_root_device,
        })
    }

    /// As [`Runtimes::resolve`], on a server that was looked at before.
    pub(crate) async fn resolve_on(
        &self,
        plan: &IncusRuntimePlan,
        ownership: &Ownership,
        seen: ServerSeen,
    ) -> Result<ResolvedPlan, ResolvePlanError> {
        let facts = self
            .facts_of(plan, seen, host_dirs(plan).await)
            .await
            .map_err(ResolvePlanError::Facts)?;
        pika_cloud::resolve(plan, &facts, ownership).map_err(ResolvePlanError::Plan)
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

    /// Which of the volumes that a plan mounts are in the pool. Each is asked for by its name: a list of all would have
    /// Incus look for the users of each.
    async fn volumes_there(
        &self,
        plan: &IncusRuntimePlan,
        pool: &str,
    ) -> Result<BTreeSet<String>, FactsError> {
        let project = &plan.incus.project;
        let client = self.client(project);
        let mounted: BTreeSet<&str> = plan
            .mounts
            .iter()
            .map(|mount| mount.source.as_str())
            .filter(|source| !is_host_directory(source))
            .collect();
        let looks = mounted.into_iter().map(async |volume| {
            let is_there = self.server_cache.take_made(project, pool, volume)
                || is_there(&client, pool, volume).await?;
            Ok(is_there.then(|| volume.to_owned()))
        });
        let looked = futures_util::future::try_join_all(looks).await?;
        Ok(looked.into_iter().flatten().collect())
    }

    async fn pool(&self, client: &Client, name: &str) -> Result<PoolFacts, FactsError> {
        let driver = match self.server_cache.pool_driver(name) {
            Some(driver) => driver,
            None => {
                let pool = client
                    .pool(name)
                    .await
                    .map_err(|source| match source.kind() {
                        ErrorKind::NotFound => FactsError::PoolMissing {
                            pool: name.to_owned(),
                        },
                        _ => cant_look(source),
                    })?;
                let driver = pool.value.driver;
                self.server_cache.pool_has_driver(name, &driver);
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

fn cant_look(source: pika_incus::Error) -> FactsError {
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
    let Some(alias) = client.alias(alias).await.map_err(cant_look)? else {
        return Ok(None);
    };
    let image = match client.image(&alias.value.target).await {
        Ok(tagged) => tagged.value,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cant_look(error)),
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

async fn is_there(client: &Client, pool: &str, volume: &str) -> Result<bool, FactsError> {
    match client.volume(pool, volume).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(cant_look(error)),
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
    about_drivers.map(|warning| tame(&warning.last_message, 300))
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
