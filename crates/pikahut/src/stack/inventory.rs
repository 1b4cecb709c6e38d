//! What is there of one owner: instances, volumes, images and running operations of a daemon.
//!
//! Owns the list. Never removes anything: what a test left is the test's fault.

use std::collections::BTreeSet;

use pika_incus::types::Config;
use pika_incus::{Client, Error, Filter, OperationStatus};

/// Everything in a daemon but its images: instances and volumes of every owner, running operations. In words.
pub async fn left_in(client: &Client) -> Result<Vec<String>, Error> {
    // Every name starts with nothing.
    let left = left_of(client, "", "").await?;
    Ok(left
        .into_iter()
        .filter(|thing| !thing.starts_with("image "))
        .collect())
}

/// Everything with this owner id in its configuration or with a name that starts with the prefix, in words.
pub async fn left_of(client: &Client, owner: &str, prefix: &str) -> Result<Vec<String>, Error> {
    let ours = |name: &str, config: &Config| {
        config.values().any(|value| value == owner) || name.starts_with(prefix)
    };
    let (mut left, mut instances) = (Vec::new(), Vec::new());
    let everywhere = Filter {
        all_projects: true,
        ..Filter::all()
    };
    for instance in client.instances(&everywhere).await? {
        if ours(&instance.name, &instance.config) {
            left.push(format!("instance {} ({})", instance.name, instance.status));
            instances.push(instance.name);
        }
    }
    for project in client.projects().await? {
        let client = client.with_project(&project.name);
        left.extend(left_in_project(&client, &ours, (prefix, &instances)).await?);
    }
    // A project without volumes or images of its own shows those of the default one.
    let mut seen = BTreeSet::new();
    left.retain(|thing| seen.insert(thing.clone()));
    Ok(left)
}

/// Volumes, images and running operations that a project shows.
async fn left_in_project(
    client: &Client,
    ours: impl Fn(&str, &Config) -> bool,
    (prefix, instances): (&str, &[String]),
) -> Result<Vec<String>, Error> {
    let mut left = Vec::new();
    for pool in client.pools().await? {
        for volume in client.volumes(&pool.name).await? {
            if volume.kind == "custom" && ours(&volume.name, &volume.config) {
                left.push(format!("volume {} in pool {}", volume.name, pool.name));
            }
        }
    }
    for image in client.images().await? {
        if ours(&image.fingerprint, &image.properties) {
            left.push(format!("image {}", image.fingerprint));
        }
    }
    for operation in client.operations().await? {
        let about_ours = operation.resources.values().flatten().any(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let name = name.split('?').next().unwrap_or(name);
            name.starts_with(prefix) || instances.iter().any(|instance| instance == name)
        });
        if about_ours && operation.status == OperationStatus::Running {
            left.push(format!(
                "operation {} ({})",
                operation.id.as_str(),
                operation.description
            ));
        }
    }
    Ok(left)
}
