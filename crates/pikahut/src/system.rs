//! A project of our own in a system's daemon, for a demo that is told to use it.
//!
//! Owns that one project, marked with the checkout that it belongs to. Never touches another project, and a project
//! without the mark never at all.

use std::path::PathBuf;
use std::time::Duration;

use pika_incus::types::{Config, Devices};
use pika_incus::{Client, Error, ErrorKind, Filter, Profile, Project, StateChange, WaitError};

/// Key of the mark in a project's configuration.
const MARK: &str = "user.pikahut.checkout";
/// Longest time for one instance to stop or go.
const REMOVE_LIMIT: Duration = Duration::from_secs(60);

/// Why a project could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The daemon refused a request, or there is none.
    #[error("the system's Incus: is it running, and may this user reach its socket?")]
    Incus(#[source] Error),
    /// Something did not go away.
    #[error(
        "{what} can't be removed from project {project}: `incus delete --force {what} --project {project}`, then clean again"
    )]
    Remove {
        /// The thing.
        what: String,
        /// The project.
        project: String,
        /// How the operation ended.
        #[source]
        source: WaitError,
    },
    /// The default profile has no root disk to take the pool from.
    #[error(
        "the default profile of the system's Incus has no root disk: run `incus admin init` once, or leave out --system"
    )]
    NoRootDisk,
    /// A project of this name belongs to somebody else.
    #[error(
        "the project {project} was not made for this checkout and is not touched: its {MARK} is {found:?}"
    )]
    NotOurs {
        /// The project.
        project: String,
        /// Its mark.
        found: Option<String>,
    },
}

/// A project that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemProject {
    /// Pool of its profile's root disk.
    pub pool: String,
}

/// Where the system's daemon is: `INCUS_DIR` if it is set, else the usual place.
pub fn directory() -> PathBuf {
    std::env::var_os("INCUS_DIR").map_or_else(|| PathBuf::from("/var/lib/incus"), PathBuf::from)
}

/// Makes it so that the project is there, with the devices of the default profile.
pub async fn ensure_project(
    client: &Client,
    name: &str,
    mark: &str,
) -> Result<SystemProject, SystemError> {
    let profile = client
        .with_project("default")
        .profile("default")
        .await
        .map_err(SystemError::Incus)?
        .value;
    let pool = root_pool(&profile.devices).ok_or(SystemError::NoRootDisk)?;
    match client.project_named(name).await {
        Ok(found) => check_mark(&found.value, mark)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let features =
                ["images", "profiles", "storage.volumes"].map(|feature| (feature, "true"));
            let mut config: Config = features
                .into_iter()
                .chain([("networks", "false")])
                .map(|(feature, value)| (format!("features.{feature}"), value.to_owned()))
                .collect();
            config.insert(MARK.to_owned(), mark.to_owned());
            client
                .create_project(&Project {
                    name: name.to_owned(),
                    config,
                    ..Project::default()
                })
                .await
                .map_err(SystemError::Incus)?;
        }
        Err(error) => return Err(SystemError::Incus(error)),
    }
    let own = Profile {
        name: "default".to_owned(),
        devices: profile.devices,
        ..Profile::default()
    };
    client
        .with_project(name)
        .update_profile(&own, None)
        .await
        .map_err(SystemError::Incus)?;
    Ok(SystemProject { pool })
}

/// Makes it so that the project is gone with everything in it.
pub async fn remove_project(client: &Client, name: &str, mark: &str) -> Result<(), SystemError> {
    match client.project_named(name).await {
        Ok(found) => check_mark(&found.value, mark)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SystemError::Incus(error)),
    }
    let inside = client.with_project(name);
    remove_instances(&inside).await?;
    for image in inside.images().await.map_err(SystemError::Incus)? {
        let handle = inside
            .delete_image(&image.fingerprint)
            .await
            .map_err(SystemError::Incus)?;
        finish(&image.fingerprint, name, handle.wait(REMOVE_LIMIT).await)?;
    }
    for pool in inside.pools().await.map_err(SystemError::Incus)? {
        for volume in inside
            .volumes(&pool.name)
            .await
            .map_err(SystemError::Incus)?
        {
            if volume.kind == "custom" {
                inside
                    .delete_volume(&pool.name, &volume.name)
                    .await
                    .map_err(SystemError::Incus)?;
            }
        }
    }
    for profile in inside.profiles().await.map_err(SystemError::Incus)? {
        if profile.name != "default" {
            inside
                .delete_profile(&profile.name)
                .await
                .map_err(SystemError::Incus)?;
        }
    }
    client
        .delete_project(name)
        .await
        .map_err(SystemError::Incus)
}

async fn remove_instances(client: &Client) -> Result<(), SystemError> {
    for instance in client
        .instances(&Filter::all())
        .await
        .map_err(SystemError::Incus)?
    {
        let name = &instance.name;
        if instance.status.is_running() {
            let stop = client
                .set_instance_state(name, &StateChange::force_stop())
                .await
                .map_err(SystemError::Incus)?;
            finish(name, client.project(), stop.wait(REMOVE_LIMIT).await)?;
        }
        let gone = client
            .delete_instance(name)
            .await
            .map_err(SystemError::Incus)?;
        finish(name, client.project(), gone.wait(REMOVE_LIMIT).await)?;
    }
    Ok(())
}

fn finish<T>(what: &str, project: &str, ended: Result<T, WaitError>) -> Result<(), SystemError> {
    ended.map(drop).map_err(|source| SystemError::Remove {
        what: what.to_owned(),
        project: project.to_owned(),
        source,
    })
}

fn check_mark(project: &Project, mark: &str) -> Result<(), SystemError> {
    let found = project.config.get(MARK);
    if found.is_some_and(|found| found == mark) {
        return Ok(());
    }
    Err(SystemError::NotOurs {
        project: project.name.clone(),
        found: found.cloned(),
    })
}

fn root_pool(devices: &Devices) -> Option<String> {
    let root = devices.values().find(|device| {
        device.get("type").is_some_and(|kind| kind == "disk")
            && device.get("path").is_some_and(|path| path == "/")
    })?;
    root.get("pool").cloned()
}
