//! Calls on storage pools, custom volumes and their snapshots: `/1.0/storage-pools`.

use super::{Client, OperationHandle, built};
use crate::error::Error;
use crate::request::{ApiRequest, storage};
use crate::types::{
    Config, ETag, Pool, PoolResources, SnapshotExpiry, Tagged, Volume, VolumeContent, VolumeCopy,
    VolumeSnapshot, VolumeState,
};

impl Client {
    /// Lists storage pools: `GET /1.0/storage-pools`.
    pub async fn pools(&self) -> Result<Vec<Pool>, Error> {
        let listed: Tagged<Option<Vec<Pool>>> = self.fetch(storage::pools()).await?;
        Ok(listed.value.unwrap_or_default())
    }

    /// Reads a storage pool: `GET /1.0/storage-pools/{pool}`.
    pub async fn pool(&self, name: &str) -> Result<Tagged<Pool>, Error> {
        self.fetch(built(storage::pool(name))?).await
    }

    /// Reads how full a pool is: `GET /1.0/storage-pools/{pool}/resources`.
    pub async fn pool_resources(&self, name: &str) -> Result<PoolResources, Error> {
        Ok(self
            .fetch(built(storage::pool_resources(name))?)
            .await?
            .value)
    }

    /// Makes a storage pool: `POST /1.0/storage-pools`.
    pub async fn create_pool(
        &self,
        name: &str,
        driver: &str,
        config: &Config,
    ) -> Result<(), Error> {
        self.execute(built(storage::create_pool(name, driver, config))?)
            .await
    }

    /// Deletes an empty storage pool: `DELETE /1.0/storage-pools/{pool}`.
    pub async fn delete_pool(&self, name: &str) -> Result<(), Error> {
        self.execute(built(storage::delete_pool(name))?).await
    }

    /// Lists a pool's custom volumes: `GET /1.0/storage-pools/{pool}/volumes/custom`. Snapshots are left out.
    pub async fn volumes(&self, pool: &str) -> Result<Vec<Volume>, Error> {
        self.list_volumes(built(storage::volumes(self.project(), pool))?)
            .await
    }

    /// Lists a pool's custom volumes that match an expression of Incus's filter language, such as
    /// `config.user.owner eq me`. Snapshots are left out.
    pub async fn volumes_matching(
        &self,
        pool: &str,
        expression: &str,
    ) -> Result<Vec<Volume>, Error> {
        self.list_volumes(built(storage::volumes_matching(
            self.project(),
            pool,
            expression,
        ))?)
        .await
    }

    async fn list_volumes(&self, request: ApiRequest) -> Result<Vec<Volume>, Error> {
        let mut volumes = Vec::new();
        self.fetch_each(request, |volume: Volume| {
            if !volume.name.contains('/') {
                volumes.push(volume);
            }
        })
        .await?;
        Ok(volumes)
    }

    /// Reads a custom volume: `GET /1.0/storage-pools/{pool}/volumes/custom/{volume}`.
    pub async fn volume(&self, pool: &str, name: &str) -> Result<Tagged<Volume>, Error> {
        self.fetch(built(storage::volume(self.project(), pool, name))?)
            .await
    }

    /// Makes an empty custom volume: `POST /1.0/storage-pools/{pool}/volumes/custom`. It is there when the call
    /// returns.
    pub async fn create_volume(
        &self,
        pool: &str,
        name: &str,
        content: VolumeContent,
        config: &Config,
    ) -> Result<(), Error> {
        self.execute(built(storage::create_volume(
            self.project(),
            pool,
            name,
            content,
            config,
        ))?)
        .await
    }

    /// Replaces a custom volume's configuration and description by those of `volume`, which also names it:
    /// `PUT .../volumes/custom/{volume}`.
    pub async fn update_volume(
        &self,
        pool: &str,
        volume: &Volume,
        etag: Option<&ETag>,
    ) -> Result<(), Error> {
        self.execute(built(storage::update_volume(
            self.project(),
            pool,
            volume,
            etag,
        ))?)
        .await
    }

    /// Merges keys into a custom volume's configuration; an empty value removes the key:
    /// `PATCH .../volumes/custom/{volume}`.
    pub async fn patch_volume(
        &self,
        pool: &str,
        name: &str,
        config: &Config,
        etag: Option<&ETag>,
    ) -> Result<(), Error> {
        self.execute(built(storage::patch_volume(
            self.project(),
            pool,
            name,
            config,
            etag,
        ))?)
        .await
    }

    /// Reads how much a custom volume holds, where its pool counts that: `GET .../volumes/custom/{volume}/state`.
    pub async fn volume_state(&self, pool: &str, name: &str) -> Result<VolumeState, Error> {
        Ok(self
            .fetch(built(storage::volume_state(self.project(), pool, name))?)
            .await?
            .value)
    }

    /// Deletes a custom volume that no instance uses, with its snapshots: `DELETE .../volumes/custom/{volume}`.
    pub async fn delete_volume(&self, pool: &str, name: &str) -> Result<(), Error> {
        self.execute(built(storage::delete_volume(self.project(), pool, name))?)
            .await
    }

    /// Makes a volume in `pool` as a copy of another one on the same server: `POST .../volumes/custom` with a
    /// source.
    pub async fn copy_volume(
        &self,
        pool: &str,
        copy: &VolumeCopy,
    ) -> Result<OperationHandle, Error> {
        self.start(built(storage::copy_volume(self.project(), pool, copy))?)
            .await
    }

    /// Lists a custom volume's snapshots: `GET .../volumes/custom/{volume}/snapshots`.
    pub async fn volume_snapshots(
        &self,
        pool: &str,
        name: &str,
    ) -> Result<Vec<VolumeSnapshot>, Error> {
        let listed: Tagged<Option<Vec<VolumeSnapshot>>> = self
            .fetch(built(storage::snapshots(self.project(), pool, name))?)
            .await?;
        let mut snapshots = listed.value.unwrap_or_default();
        for snapshot in &mut snapshots {
            if let Some((_, own)) = snapshot.name.rsplit_once('/') {
                snapshot.name = own.to_owned();
            }
        }
        Ok(snapshots)
    }

    /// Makes a snapshot of a custom volume: `POST .../volumes/custom/{volume}/snapshots`.
    pub async fn create_volume_snapshot(
        &self,
        pool: &str,
        name: &str,
        snapshot: &str,
        expiry: &SnapshotExpiry,
    ) -> Result<OperationHandle, Error> {
        self.start(built(storage::create_snapshot(
            self.project(),
            pool,
            name,
            snapshot,
            expiry,
        ))?)
        .await
    }

    /// Changes the description of a custom volume's snapshot: `PATCH .../snapshots/{snapshot}`.
    pub async fn describe_volume_snapshot(
        &self,
        pool: &str,
        name: &str,
        snapshot: &str,
        description: &str,
    ) -> Result<(), Error> {
        self.execute(built(storage::describe_snapshot(
            self.project(),
            pool,
            name,
            snapshot,
            description,
        ))?)
        .await
    }

    /// Puts a snapshot's content back into a custom volume that no running instance uses, and then gives the volume the
    /// configuration and description of `volume`, which also names it. What the content depends on (`volatile.idmap.*`)
    /// is carried by the caller, from the snapshot's configuration. Bytes may be copied before the call returns.
    pub async fn restore_volume(
        &self,
        pool: &str,
        volume: &Volume,
        snapshot: &str,
        etag: Option<&ETag>,
    ) -> Result<(), Error> {
        self.execute(built(storage::restore_volume(
            self.project(),
            pool,
            volume,
            snapshot,
            etag,
        ))?)
        .await
    }

    /// Deletes a snapshot of a custom volume: `DELETE .../snapshots/{snapshot}`.
    pub async fn delete_volume_snapshot(
        &self,
        pool: &str,
        name: &str,
        snapshot: &str,
    ) -> Result<OperationHandle, Error> {
        self.start(built(storage::delete_snapshot(
            self.project(),
            pool,
            name,
            snapshot,
        ))?)
        .await
    }

    /// Puts a snapshot's content back into a custom volume that no running instance uses: `PUT
    /// .../volumes/custom/{volume}` with `restore`. It is done when the call returns.
    pub async fn restore_volume_snapshot(
        &self,
        pool: &str,
        name: &str,
        snapshot: &str,
    ) -> Result<(), Error> {
        self.execute(built(storage::restore_snapshot(
            self.project(),
            pool,
            name,
            snapshot,
        ))?)
        .await
    }
}
