//! Calls on networks: `/1.0/networks`.

use super::{Client, built};
use crate::error::Error;
use crate::request::networks;
use crate::types::{ETag, Network, Tagged};

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
