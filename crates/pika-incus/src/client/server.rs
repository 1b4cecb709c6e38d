//! The server itself and its warnings: `/1.0`, `/1.0/warnings`.

use serde_json::Value;

use super::{Client, built};
use crate::error::Error;
use crate::request::server;
use crate::types::{Server, Tagged, Warning};

impl Client {
    /// Reads facts about the server: `GET /1.0`. An untrusted caller gets an answer too, with little in it.
    pub async fn server(&self) -> Result<Server, Error> {
        Ok(self.fetch(server::get(self.project())).await?.value)
    }

    /// Merges keys into the server's configuration: `PATCH /1.0`.
    pub async fn patch_server_config(&self, config: &Value) -> Result<(), Error> {
        self.execute(built(server::patch_config(config))?).await
    }

    /// Lists the server's warnings: `GET /1.0/warnings`.
    pub async fn warnings(&self) -> Result<Vec<Warning>, Error> {
        let listed: Tagged<Option<Vec<Warning>>> = self.fetch(server::warnings()).await?;
        Ok(listed.value.unwrap_or_default())
    }
}
