//! Calls on projects: `/1.0/projects`.

use super::{Client, built};
use crate::error::Error;
use crate::request::projects;
use crate::types::{ETag, Project, Tagged};

impl Client {
    /// Lists projects: `GET /1.0/projects`.
    pub async fn projects(&self) -> Result<Vec<Project>, Error> {
        let listed: Tagged<Option<Vec<Project>>> = self.fetch(projects::list()).await?;
        Ok(listed.value.unwrap_or_default())
    }

    /// Reads a project, whichever this client is in: `GET /1.0/projects/{name}`.
    pub async fn project_named(&self, name: &str) -> Result<Tagged<Project>, Error> {
        self.fetch(built(projects::get(name))?).await
    }

    /// Makes a project: `POST /1.0/projects`.
    pub async fn create_project(&self, project: &Project) -> Result<(), Error> {
        self.execute(built(projects::create(project))?).await
    }

    /// Replaces a project's configuration: `PUT /1.0/projects/{name}`.
    pub async fn update_project(
        &self,
        project: &Project,
        etag: Option<&ETag>,
    ) -> Result<(), Error> {
        self.execute(built(projects::update(project, etag))?).await
    }

    /// Deletes an empty project: `DELETE /1.0/projects/{name}`.
    pub async fn delete_project(&self, name: &str) -> Result<(), Error> {
        self.execute(built(projects::delete(name))?).await
    }
}
