//! Images and aliases: `/1.0/images`.

use std::path::Path;

use super::upload::{Chunks, Multipart, Upload, multipart, single};
use super::{CallName, Client, OperationHandle, built};
use crate::error::{Error, ErrorKind};
use crate::request::{ApiRequest, images};
use crate::types::{Alias, Config, ETag, Image, Tagged};

/// What the second file of a split image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageRoot {
    /// A root file system as a tarball or squashfs: a container image.
    FileSystem,
    /// A disk in qcow2 format: a virtual machine image.
    Disk,
}

/// Separates the parts of an upload. Random enough not to occur in an image by accident.
const BOUNDARY: &str = "incus-client-1f0c7bd2e94a4c5fa3d9e6b8-part";

impl Client {
    /// Lists images: `GET /1.0/images`.
    pub async fn images(&self) -> Result<Vec<Image>, Error> {
        let listed: Tagged<Option<Vec<Image>>> = self.fetch(images::list(self.project())).await?;
        Ok(listed.value.unwrap_or_default())
    }

    /// Reads an image: `GET /1.0/images/{fingerprint}`. A unique start of the fingerprint is enough.
    pub async fn image(&self, fingerprint: &str) -> Result<Tagged<Image>, Error> {
        self.fetch(built(images::get(self.project(), fingerprint))?)
            .await
    }

    /// Imports an image of two files: `POST /1.0/images`. The finished operation's metadata holds its
    /// `fingerprint`. No alias is made; an image that is there already fails the operation
    /// ([`Conflict`](ErrorKind::Conflict)). The files are streamed: the whole may take
    /// long, and may not stand still for longer than [`Timeouts::stream_idle`](super::Timeouts::stream_idle).
    pub async fn import_image_split(
        &self,
        metadata: &Path,
        root: &Path,
        kind: ImageRoot,
        properties: &Config,
    ) -> Result<OperationHandle, Error> {
        let field = match kind {
            ImageRoot::FileSystem => "rootfs",
            ImageRoot::Disk => "rootfs.img",
        };
        let named = |content_type: &str| {
            built(images::import(
                self.project(),
                content_type,
                &file_name(root),
                properties,
            ))
        };
        let call = CallName::of(&named("application/octet-stream")?);
        let metadata = Upload::open(metadata)
            .await
            .map_err(|cause| call.error(cause))?;
        let root_upload = Upload::open(root)
            .await
            .map_err(|cause| call.error(cause))?;
        let Multipart {
            chunks,
            content_type,
            length,
        } = multipart(BOUNDARY, vec![("metadata", metadata), (field, root_upload)]);
        self.upload(named(&content_type)?, chunks, length).await
    }

    /// Imports an image of one file (metadata and root together): `POST /1.0/images`. As
    /// [`Client::import_image_split`] otherwise.
    pub async fn import_image_unified(
        &self,
        image: &Path,
        properties: &Config,
    ) -> Result<OperationHandle, Error> {
        let request = built(images::import(
            self.project(),
            "application/octet-stream",
            &file_name(image),
            properties,
        ))?;
        let upload = Upload::open(image)
            .await
            .map_err(|cause| CallName::of(&request).error(cause))?;
        let length = upload.length();
        self.upload(request, single(upload), length).await
    }

    async fn upload(
        &self,
        request: ApiRequest,
        chunks: Chunks,
        length: u64,
    ) -> Result<OperationHandle, Error> {
        let request = built(request.header("content-length", &length.to_string()))?;
        let reply = self.call_streamed(request, chunks).await?;
        self.started(reply)
    }

    /// Deletes an image and its aliases: `DELETE /1.0/images/{fingerprint}`.
    pub async fn delete_image(&self, fingerprint: &str) -> Result<OperationHandle, Error> {
        self.start(built(images::delete(self.project(), fingerprint))?)
            .await
    }

    /// Replaces an image's properties by these: `PATCH /1.0/images/{fingerprint}`.
    pub async fn update_image_properties(
        &self,
        fingerprint: &str,
        properties: &Config,
        etag: Option<&ETag>,
    ) -> Result<(), Error> {
        self.execute(built(images::update_properties(
            self.project(),
            fingerprint,
            properties,
            etag,
        ))?)
        .await
    }

    /// Lists aliases: `GET /1.0/images/aliases`.
    pub async fn aliases(&self) -> Result<Vec<Alias>, Error> {
        let listed: Tagged<Option<Vec<Alias>>> =
            self.fetch(images::aliases(self.project())).await?;
        Ok(listed.value.unwrap_or_default())
    }

    /// Reads an alias, `None` if there is none of that name: `GET /1.0/images/aliases/{name}`.
    pub async fn alias(&self, name: &str) -> Result<Option<Tagged<Alias>>, Error> {
        match self
            .fetch(built(images::alias(self.project(), name))?)
            .await
        {
            Ok(alias) => Ok(Some(alias)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an alias: `POST /1.0/images/aliases`.
    pub async fn create_alias(
        &self,
        name: &str,
        target: &str,
        description: &str,
    ) -> Result<(), Error> {
        self.execute(built(images::create_alias(
            self.project(),
            name,
            target,
            description,
        ))?)
        .await
    }

    /// Points an alias at another image: `PUT /1.0/images/aliases/{name}`. With an `etag` only if it hasn't changed
    /// since ([`PreconditionFailed`](ErrorKind::PreconditionFailed)). Its description becomes empty.
    pub async fn update_alias(
        &self,
        name: &str,
        target: &str,
        etag: Option<&ETag>,
    ) -> Result<(), Error> {
        self.execute(built(images::update_alias(
            self.project(),
            name,
            target,
            "",
            etag,
        ))?)
        .await
    }

    /// Deletes an alias, not its image: `DELETE /1.0/images/aliases/{name}`.
    pub async fn delete_alias(&self, name: &str) -> Result<(), Error> {
        self.execute(built(images::delete_alias(self.project(), name))?)
            .await
    }
}

/// The file's name for the server's listing, reduced to what a header carries.
fn file_name(path: &Path) -> String {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    name.chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '_' })
        .take(200)
        .collect()
}
