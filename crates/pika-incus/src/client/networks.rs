//! Calls on networks: `/1.0/networks`.

use super::{Client, built};
use crate::error::Error;
use crate::request::networks;
use crate::types::{ETag, Network, NetworkLease, Tagged};

impl Client {
    /// Lists networks, the host's own interfaces among them: `GET /1.0/networks`.
    pub async fn networks(&self) -> Result<Vec<Network>, Error> {
        let listed: Tagged<Option<Vec<Network>>> =
            self.fetch(networks::list(self.project())).await?;
        Ok(listed.value.unwrap_or_default())
    }

    /// Reads a network: `GET /1.0/networks/{name}`.
    pub async fn network(&self, name: &str) -> Result<Tagged<Network>, Error> {
        self.fetch(built(networks::get(self.project(), name))?)
            .await
    }

    /// Lists the addresses that a network gave to instances of the project: `GET /1.0/networks/{name}/leases`.
    pub async fn network_leases(&self, name: &str) -> Result<Vec<NetworkLease>, Error> {
        let listed: Tagged<Option<Vec<NetworkLease>>> = self
            .fetch(built(networks::leases(self.project(), name))?)
            .await?;
        Ok(listed.value.unwrap_or_default())
    }

    /// Makes a network: `POST /1.0/networks`.
    pub async fn create_network(&self, network: &Network) -> Result<(), Error> {
        self.execute(built(networks::create(self.project(), network))?)
            .await
    }

    /// Replaces a network's configuration: `PUT /1.0/networks/{name}`.
    pub async fn update_network(
        &self,
        network: &Network,
        etag: Option<&ETag>,
    ) -> Result<(), Error> {
        self.execute(built(networks::update(self.project(), network, etag))?)
            .await
    }

    /// Deletes an unused network: `DELETE /1.0/networks/{name}`.
    pub async fn delete_network(&self, name: &str) -> Result<(), Error> {
        self.execute(built(networks::delete(self.project(), name))?)
            .await
    }
}
