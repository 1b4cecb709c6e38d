//! Calls on instances: `/1.0/instances`.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Client, OperationHandle, built};
use crate::error::Error;
use crate::request::{Filter, instances};
use crate::types::{ETag, Instance, InstanceState, Snapshot, StateChange, Tagged};

impl Client {
    /// Lists instances: `GET /1.0/instances`.
    pub async fn instances(&self, filter: &Filter) -> Result<Vec<Instance>, Error> {
        let mut listed = Vec::new();
        self.each_instance(filter, |instance| listed.push(instance))
            .await?;
        Ok(listed)
    }

    /// Lists instances, `GET /1.0/instances`, and gives one after the other as they arrive, decoded as what the caller needs
    /// of them ([`Instance`], [`crate::InstanceOutline`]): a list of thousands takes no more memory than what is kept of it.
    /// What was given counts only once the call has succeeded.
    pub async fn each_instance<T: DeserializeOwned>(
        &self,
        filter: &Filter,
        each: impl FnMut(T),
    ) -> Result<(), Error> {
        self.fetch_each(instances::list(self.project(), filter), each)
            .await
    }

    /// Reads an instance: `GET /1.0/instances/{name}`.
    pub async fn instance(&self, name: &str) -> Result<Tagged<Instance>, Error> {
        self.fetch(built(instances::get(self.project(), name))?)
            .await
    }

    /// Reads an instance's state: `GET /1.0/instances/{name}/state`. This looks into a running guest.
    pub async fn instance_state(&self, name: &str) -> Result<InstanceState, Error> {
        Ok(self
            .fetch(built(instances::state(self.project(), name))?)
            .await?
            .value)
    }

    /// Makes an instance: `POST /1.0/instances`. With `"start": true` in the body it is started too. A name that is
    /// taken fails the operation, not the call.
    pub async fn create_instance(&self, body: &Value) -> Result<OperationHandle, Error> {
        self.start(built(instances::create(self.project(), body, None))?)
            .await
    }

    /// Makes an instance on a cluster member, or in a cluster group as `@group`.
    pub async fn create_instance_on(
        &self,
        target: &str,
        body: &Value,
    ) -> Result<OperationHandle, Error> {
        self.start(built(instances::create(
            self.project(),
            body,
            Some(target),
        ))?)
        .await
    }

    /// Replaces an instance's configuration, devices, profiles and description: `PUT /1.0/instances/{name}`. With
    /// an `etag` only if nothing changed since it was read.
    pub async fn update_instance(
        &self,
        name: &str,
        body: &Value,
        etag: Option<&ETag>,
    ) -> Result<OperationHandle, Error> {
        self.start(built(instances::update(self.project(), name, body, etag))?)
            .await
    }

    /// Merges configuration and devices into an instance: `PATCH /1.0/instances/{name}`. The change is made when
    /// the call returns.
    pub async fn patch_instance(&self, name: &str, body: &Value) -> Result<(), Error> {
        self.execute(built(instances::patch(self.project(), name, body, None))?)
            .await
    }

    /// Renames a stopped instance: `POST /1.0/instances/{name}`.
    pub async fn rename_instance(
        &self,
        name: &str,
        new_name: &str,
    ) -> Result<OperationHandle, Error> {
        self.start(built(instances::rename(self.project(), name, new_name))?)
            .await
    }

    /// Starts, stops, restarts, freezes or unfreezes an instance: `PUT /1.0/instances/{name}/state`.
    pub async fn set_instance_state(
        &self,
        name: &str,
        change: &StateChange,
    ) -> Result<OperationHandle, Error> {
        self.start(built(instances::set_state(self.project(), name, change))?)
            .await
    }

    /// Deletes a stopped instance: `DELETE /1.0/instances/{name}`. A running one is refused
    /// ([`InUse`](crate::ErrorKind::InUse)).
    pub async fn delete_instance(&self, name: &str) -> Result<OperationHandle, Error> {
        self.start(built(instances::delete(self.project(), name))?)
            .await
    }

    /// Lists an instance's snapshots: `GET /1.0/instances/{name}/snapshots`.
    pub async fn instance_snapshots(&self, name: &str) -> Result<Vec<Snapshot>, Error> {
        let listed: Tagged<Option<Vec<Snapshot>>> = self
            .fetch(built(instances::snapshots(self.project(), name))?)
            .await?;
        Ok(listed.value.unwrap_or_default())
    }

    /// Makes a snapshot of an instance: `POST /1.0/instances/{name}/snapshots`.
    pub async fn create_instance_snapshot(
        &self,
        name: &str,
        snapshot: &str,
    ) -> Result<OperationHandle, Error> {
        self.start(built(instances::create_snapshot(
            self.project(),
            name,
            snapshot,
        ))?)
        .await
    }

    /// Deletes a snapshot of an instance: `DELETE /1.0/instances/{name}/snapshots/{snapshot}`.
    pub async fn delete_instance_snapshot(
        &self,
        name: &str,
        snapshot: &str,
    ) -> Result<OperationHandle, Error> {
        self.start(built(instances::delete_snapshot(
            self.project(),
            name,
            snapshot,
        ))?)
        .await
    }

    /// Puts a snapshot's state back: `PUT /1.0/instances/{name}` with `restore`.
    pub async fn restore_instance_snapshot(
        &self,
        name: &str,
        snapshot: &str,
    ) -> Result<OperationHandle, Error> {
        self.start(built(instances::restore_snapshot(
            self.project(),
            name,
            snapshot,
        ))?)
        .await
    }
}
