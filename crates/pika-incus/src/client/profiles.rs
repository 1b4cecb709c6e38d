//! Calls on profiles: `/1.0/profiles`.

use super::{Client, built};
use crate::error::Error;
use crate::request::profiles;
use crate::types::{ETag, Profile, Tagged};

impl Client {
    /// Lists profiles: `GET /1.0/profiles`.
    pub async fn profiles(&self) -> Result<Vec<Profile>, Error> {
        let listed: Tagged<Option<Vec<Profile>>> =
            self.fetch(profiles::list(self.project())).await?;
        Ok(listed.value.unwrap_or_default())
    }

    /// Reads a profile: `GET /1.0/profiles/{name}`.
    pub async fn profile(&self, name: &str) -> Result<Tagged<Profile>, Error> {
        self.fetch(built(profiles::get(self.project(), name))?)
            .await
    }

    /// Makes a profile: `POST /1.0/profiles`.
    pub async fn create_profile(&self, profile: &Profile) -> Result<(), Error> {
        self.execute(built(profiles::create(self.project(), profile))?)
            .await
    }

    /// Replaces a profile's content: `PUT /1.0/profiles/{name}`. Instances that use it change with it.
    pub async fn update_profile(
        &self,
        profile: &Profile,
        etag: Option<&ETag>,
    ) -> Result<(), Error> {
        self.execute(built(profiles::update(self.project(), profile, etag))?)
            .await
    }

    /// Deletes an unused profile: `DELETE /1.0/profiles/{name}`.
    pub async fn delete_profile(&self, name: &str) -> Result<(), Error> {
        self.execute(built(profiles::delete(self.project(), name))?)
            .await
    }
}
