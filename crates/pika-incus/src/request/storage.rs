//! Requests on `/1.0/storage-pools`, their custom volumes and the volumes' snapshots.

use http::Method;
use serde_json::json;

use super::{ApiPath, ApiRequest, InvalidInput};
use crate::types::{Config, ETag, SnapshotExpiry, Volume, VolumeContent, VolumeCopy};

fn pool_path(pool: &str) -> Result<ApiPath, InvalidInput> {
    ApiPath::of("storage-pools").name("storage pool name", pool)
}

fn volumes_path(pool: &str) -> Result<ApiPath, InvalidInput> {
    Ok(pool_path(pool)?.fixed("volumes").fixed("custom"))
}

fn volume_path(pool: &str, volume: &str) -> Result<ApiPath, InvalidInput> {
    volumes_path(pool)?.name("volume name", volume)
}

fn snapshot_path(pool: &str, volume: &str, snapshot: &str) -> Result<ApiPath, InvalidInput> {
    volume_path(pool, volume)?
        .fixed("snapshots")
        .name("snapshot name", snapshot)
}

/// `GET /1.0/storage-pools`
pub fn pools() -> ApiRequest {
    ApiRequest::get(ApiPath::of("storage-pools")).query("recursion", "1")
}

/// `GET /1.0/storage-pools/{pool}`
pub fn pool(pool: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(pool_path(pool)?))
}

/// `GET /1.0/storage-pools/{pool}/resources`
pub fn pool_resources(pool: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(pool_path(pool)?.fixed("resources")))
}

/// `POST /1.0/storage-pools`
pub fn create_pool(name: &str, driver: &str, config: &Config) -> Result<ApiRequest, InvalidInput> {
    pool_path(name)?;
    ApiRequest::new(Method::POST, ApiPath::of("storage-pools"))
        .json(&json!({ "name": name, "driver": driver, "config": config }))
}

/// `DELETE /1.0/storage-pools/{pool}`
pub fn delete_pool(pool: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::new(Method::DELETE, pool_path(pool)?))
}

/// `GET /1.0/storage-pools/{pool}/volumes/custom`
pub fn volumes(project: &str, pool: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(volumes_path(pool)?)
        .query("recursion", "1")
        .project(project))
}

/// `GET /1.0/storage-pools/{pool}/volumes/custom` of those that match.
pub fn volumes_matching(
    project: &str,
    pool: &str,
    expression: &str,
) -> Result<ApiRequest, InvalidInput> {
    Ok(volumes(project, pool)?.query("filter", expression))
}

/// `GET /1.0/storage-pools/{pool}/volumes/custom/{volume}`
pub fn volume(project: &str, pool: &str, volume: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(volume_path(pool, volume)?).project(project))
}

/// `POST /1.0/storage-pools/{pool}/volumes/custom` of an empty volume.
pub fn create_volume(
    project: &str,
    pool: &str,
    volume: &str,
    content: VolumeContent,
    config: &Config,
) -> Result<ApiRequest, InvalidInput> {
    volume_path(pool, volume)?;
    ApiRequest::new(Method::POST, volumes_path(pool)?)
        .project(project)
        .json(&json!({
            "name": volume,
            "type": "custom",
            "content_type": content,
            "config": config,
        }))
}

/// `POST /1.0/storage-pools/{pool}/volumes/custom` of a copy.
pub fn copy_volume(
    project: &str,
    pool: &str,
    copy: &VolumeCopy,
) -> Result<ApiRequest, InvalidInput> {
    volume_path(pool, &copy.name)?;
    let mut source = json!({
        "type": "copy",
        "pool": copy.source_pool,
        "name": copy.source_volume,
        "volume_only": copy.volume_only,
    });
    if let Some(from) = &copy.source_project {
        source["project"] = json!(from);
    }
    ApiRequest::new(Method::POST, volumes_path(pool)?)
        .project(project)
        .json(&json!({
            "name": copy.name,
            "type": "custom",
            "config": copy.config,
            "source": source,
        }))
}

/// `PUT /1.0/storage-pools/{pool}/volumes/custom/{volume}`: replaces configuration and description.
pub fn update_volume(
    project: &str,
    pool: &str,
    volume: &Volume,
    etag: Option<&ETag>,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PUT, volume_path(pool, &volume.name)?)
        .project(project)
        .json(&json!({ "config": volume.config, "description": volume.description }))?
        .if_match(etag)
}

/// `PATCH /1.0/storage-pools/{pool}/volumes/custom/{volume}`: merges keys into the configuration.
pub fn patch_volume(
    project: &str,
    pool: &str,
    volume: &str,
    config: &Config,
    etag: Option<&ETag>,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PATCH, volume_path(pool, volume)?)
        .project(project)
        .json(&json!({ "config": config }))?
        .if_match(etag)
}

/// `GET /1.0/storage-pools/{pool}/volumes/custom/{volume}/state`
pub fn volume_state(project: &str, pool: &str, volume: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(volume_path(pool, volume)?.fixed("state")).project(project))
}

/// `DELETE /1.0/storage-pools/{pool}/volumes/custom/{volume}`
pub fn delete_volume(project: &str, pool: &str, volume: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::new(Method::DELETE, volume_path(pool, volume)?).project(project))
}

/// `GET .../{volume}/snapshots`
pub fn snapshots(project: &str, pool: &str, volume: &str) -> Result<ApiRequest, InvalidInput> {
    let path = volume_path(pool, volume)?.fixed("snapshots");
    Ok(ApiRequest::get(path)
        .query("recursion", "1")
        .project(project))
}

/// `POST .../{volume}/snapshots`
pub fn create_snapshot(
    project: &str,
    pool: &str,
    volume: &str,
    snapshot: &str,
    expiry: &SnapshotExpiry,
) -> Result<ApiRequest, InvalidInput> {
    snapshot_path(pool, volume, snapshot)?;
    let mut body = json!({ "name": snapshot });
    match expiry {
        SnapshotExpiry::OfVolume => {}
        // The zero of Incus's times. Without any the volume's own setting would count.
        SnapshotExpiry::Never => body["expires_at"] = json!("0001-01-01T00:00:00Z"),
        SnapshotExpiry::At(time) => body["expires_at"] = json!(time),
    }
    ApiRequest::new(Method::POST, volume_path(pool, volume)?.fixed("snapshots"))
        .project(project)
        .json(&body)
}

/// `PATCH .../{volume}/snapshots/{snapshot}`: its description; all else stays.
pub fn describe_snapshot(
    project: &str,
    pool: &str,
    volume: &str,
    snapshot: &str,
    description: &str,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PATCH, snapshot_path(pool, volume, snapshot)?)
        .project(project)
        .json(&json!({ "description": description }))
}

/// `DELETE .../{volume}/snapshots/{snapshot}`
pub fn delete_snapshot(
    project: &str,
    pool: &str,
    volume: &str,
    snapshot: &str,
) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::new(Method::DELETE, snapshot_path(pool, volume, snapshot)?).project(project))
}

/// `PUT .../{volume}` with `restore`: puts a snapshot's content back.
pub fn restore_snapshot(
    project: &str,
    pool: &str,
    volume: &str,
    snapshot: &str,
) -> Result<ApiRequest, InvalidInput> {
    snapshot_path(pool, volume, snapshot)?;
    ApiRequest::new(Method::PUT, volume_path(pool, volume)?)
        .project(project)
        .json(&json!({ "restore": snapshot }))
}

/// `PUT .../{volume}` with `restore` and what the volume is to be afterwards: puts a snapshot's content back, then
/// replaces configuration and description.
pub fn restore_volume(
    project: &str,
    pool: &str,
    volume: &Volume,
    snapshot: &str,
    etag: Option<&ETag>,
) -> Result<ApiRequest, InvalidInput> {
    snapshot_path(pool, &volume.name, snapshot)?;
    ApiRequest::new(Method::PUT, volume_path(pool, &volume.name)?)
        .project(project)
        .json(&json!({
            "restore": snapshot, "config": volume.config, "description": volume.description,
        }))?
        .if_match(etag)
}

#[cfg(test)]
mod tests {
    use super::{copy_volume, create_snapshot, create_volume, restore_snapshot};
    use crate::types::{Config, SnapshotExpiry, VolumeContent, VolumeCopy};

    #[test]
    fn volume_bodies() {
        let config = Config::from([("size".to_owned(), "1GiB".to_owned())]);
        let request = create_volume("p", "pool", "v1", VolumeContent::Filesystem, &config).unwrap();
        assert_eq!(
            request.path_and_query(),
            "/1.0/storage-pools/pool/volumes/custom?project=p"
        );
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"name": "v1", "type": "custom", "content_type": "filesystem", "config": {"size": "1GiB"}})
        );
        assert!(create_volume("p", "pool", "a/b", VolumeContent::Block, &config).is_err());
        assert!(restore_snapshot("p", "pool", "v1", "../x").is_err());
    }

    #[test]
    fn a_snapshots_expiry_is_said_only_where_it_is_not_the_volumes() {
        let at = "2030-01-01T00:00:00Z";
        for (expiry, expected) in [
            (SnapshotExpiry::OfVolume, serde_json::Value::Null),
            (SnapshotExpiry::Never, "0001-01-01T00:00:00Z".into()),
            (SnapshotExpiry::At(at.to_owned()), at.into()),
        ] {
            let request = create_snapshot("p", "pool", "v1", "s", &expiry).unwrap();
            let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
            assert_eq!(body["expires_at"], expected, "{expiry:?}");
        }
    }

    #[test]
    fn a_copy_names_its_source() {
        let copy = VolumeCopy {
            source_pool: "a".into(),
            source_volume: "v0/s1".into(),
            source_project: Some("q".into()),
            name: "v1".into(),
            config: Config::new(),
            volume_only: true,
        };
        let body: serde_json::Value =
            serde_json::from_slice(copy_volume("p", "b", &copy).unwrap().body()).unwrap();
        assert_eq!(
            body["source"],
            serde_json::json!({"type": "copy", "pool": "a", "name": "v0/s1", "volume_only": true, "project": "q"})
        );
    }
}
