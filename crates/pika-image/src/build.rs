//! From a request to an image on disk.
//!
//! Owns the order: inputs first, all of them, into one digest; then the base system; then packages from npm; then
//! the overlay. An image with the same digest that is already there is the answer. Never talks to Incus.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use jiff::Timestamp;
use pika_cloud::image_contract::IMAGE_SOURCE_REVISION;
use pika_incus_guest_role::{DEBIAN_PACKAGES, DEBIAN_SUITE, IncusGuestRole};
use serde::{Deserialize, Serialize};

use crate::apt::PackageLock;
use crate::apt::lookup::{self, AptState};
use crate::archive::{self, Entry};
use crate::cache::{self, BuildLock, Cache};
use crate::debian::base::{self, BaseBuild, BaseInputs, blocking};
use crate::debian::overlay;
use crate::digest;
use crate::error::BuildError;
use crate::guest_binaries;
use crate::npm::NpmInputs;
use crate::progress::{self, Progress, Running, Step};
use crate::properties;
use crate::request::{BuildRequest, Builder, ImageKind};

/// Raise it when the way in which an image is assembled changes.
const IMAGE_VERSION: u32 = 1;

/// An image on disk, ready to be imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// Whose image.
    pub role: IncusGuestRole,
    /// For which kind of instance.
    pub kind: ImageKind,
    /// Digest of everything that decided its bytes.
    pub input_digest: String,
    /// What Incus will call it: SHA-256 of metadata and root file system.
    pub fingerprint: String,
    /// The metadata archive.
    pub metadata: PathBuf,
    /// The compressed root file system.
    pub rootfs: PathBuf,
    /// Size of the root file system's file, in bytes.
    pub rootfs_bytes: u64,
    /// Properties for the image in Incus; they hold what the bytes don't say too.
    pub properties: BTreeMap<String, String>,
    /// Whether it was there before this build.
    pub reused: bool,
}

/// A request whose inputs are all known.
#[derive(Debug)]
pub struct PreparedBuild {
    request: BuildRequest,
    cache: Cache,
    names: Vec<&'static str>,
    lock: PackageLock,
    lock_is_fresh: bool,
    authorities: BTreeMap<String, Vec<u8>>,
    base: BaseInputs,
    npm: Option<NpmInputs>,
    overlay: Vec<Entry>,
    input_digest: String,
}

#[derive(Serialize)]
struct ImageInputs<'a> {
    version: u32,
    role: IncusGuestRole,
    kind: ImageKind,
    builder: Builder,
    contract_version: u32,
    base: &'a str,
    /// Nothing at all where there is none, so that a role without packages keeps its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    npm: Option<String>,
    overlay: &'a str,
    epoch_secs: i64,
    metadata: BTreeMap<String, String>,
}

/// Finds out everything that decides the image's bytes; builds the guest's programs if they come from a
/// checkout, and nothing else. Takes a fraction of a second when package versions are in the cache.
pub async fn prepare(
    request: &BuildRequest,
    progress: &dyn Progress,
) -> Result<PreparedBuild, BuildError> {
    supported(request)?;
    let max_age = request.packages.max_age;
    prepare_with(request, max_age, progress).await
}

/// Builds the image, or finds it in the cache.
pub async fn build(
    request: &BuildRequest,
    progress: &dyn Progress,
) -> Result<BuiltImage, BuildError> {
    prepare(request, progress).await?.build(progress).await
}

fn supported(request: &BuildRequest) -> Result<(), BuildError> {
    let refuse = |reason| {
        Err(BuildError::Unsupported {
            kind: request.kind,
            builder: request.builder,
            reason,
        })
    };
    match (request.builder, request.kind) {
        (Builder::Debian, ImageKind::Container) => {}
        (_, ImageKind::VirtualMachine) => {
            return refuse(
                "bootable virtual machine images come later; use `--type container` for now",
            );
        }
        (Builder::Nix, ImageKind::Container) => {
            return refuse(
                "the flake's packages hold a virtual machine's disk; use `--builder debian` for containers",
            );
        }
    }
    Ok(())
}

async fn prepare_with(
    request: &BuildRequest,
    max_age: Duration,
    progress: &dyn Progress,
) -> Result<PreparedBuild, BuildError> {
    let facts = request.role.facts();
    let cache = Cache::open(&request.cache_dir)?;
    let programs = [facts.binaries, &[overlay::INIT_BINARY]].concat();
    let binaries = guest_binaries::collect(&request.guest_binaries, &programs, progress).await?;
    let mut names: Vec<&str> = [DEBIAN_PACKAGES, facts.debian_packages].concat();
    names.sort_unstable();
    names.dedup();
    let (lock, lock_is_fresh) = packages(request, &cache, &names, max_age, progress).await?;
    let authorities = if request.host_ca {
        read_authorities(&request.host_ca_dir)?
    } else {
        BTreeMap::new()
    };
    let base = base::fixed_inputs(facts, &lock, &authorities, base::tools().await?);
    let npm = NpmInputs::of(facts)?;
    let overlay = overlay::entries(facts, &binaries);
    let input_digest = digest::of_value(&ImageInputs {
        version: IMAGE_VERSION,
        role: request.role,
        kind: request.kind,
        builder: request.builder,
        contract_version: pika_cloud::GUEST_CONTRACT_VERSION,
        base: &base.digest(),
        npm: npm.as_ref().map(NpmInputs::digest),
        overlay: &overlay::digest(&overlay),
        epoch_secs: lock.epoch_secs,
        metadata: properties::for_metadata(facts, ""),
    });
    Ok(PreparedBuild {
        request: request.clone(),
        cache,
        names,
        lock,
        lock_is_fresh,
        authorities,
        base,
        npm,
        overlay,
        input_digest,
    })
}

async fn packages(
    request: &BuildRequest,
    cache: &Cache,
    names: &[&str],
    max_age: Duration,
    progress: &dyn Progress,
) -> Result<(PackageLock, bool), BuildError> {
    let path = cache.lookup(request.role.as_str());
    if let Some(lock) = lookup::stored(&path, names, max_age, Timestamp::now()) {
        progress::reused(
            progress,
            Step::Packages,
            format!("looked up at {:.0}", lock.looked_up_at),
        );
        return Ok((lock, false));
    }
    let guard = cache.lock(progress).await?;
    // Whoever held the lock before may have asked the same.
    if let Some(lock) = lookup::stored(&path, names, max_age, Timestamp::now()) {
        return Ok((lock, true));
    }
    let running = Running::start(progress, Step::Packages, format!("Debian {DEBIAN_SUITE}"));
    let state = AptState::prepare(cache.root(), &request.apt_dir, DEBIAN_SUITE)?;
    let proxies = lookup::proxy_options().await.map_err(BuildError::Tools)?;
    let lock = lookup::store(&path, state.look_up(names, &proxies).await?)?;
    drop(guard);
    running.finish(format!("{} packages", lock.packages.len()));
    Ok((lock, true))
}

/// The `.crt` files of the host's own certificate authorities, as `update-ca-certificates` takes them.
fn read_authorities(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>, BuildError> {
    let unreadable = |source| BuildError::CertificateAuthority {
        path: directory.to_owned(),
        source,
    };
    let mut found = BTreeMap::new();
    if !directory.is_dir() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            let bytes =
                std::fs::read(&path).map_err(|source| BuildError::CertificateAuthority {
                    path: path.clone(),
                    source,
                })?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            found.insert(name.into_owned(), bytes);
        }
    }
    Ok(found)
}

impl PreparedBuild {
    /// Digest of everything that decides the image's bytes.
    #[must_use]
    pub fn input_digest(&self) -> &str {
        &self.input_digest
    }

    /// Whose image it will be.
    #[must_use]
    pub fn role(&self) -> IncusGuestRole {
        self.request.role
    }

    /// The exact packages of its base system.
    #[must_use]
    pub fn packages(&self) -> &PackageLock {
        &self.lock
    }

    /// Properties that the image has in Incus.
    #[must_use]
    pub fn properties(&self) -> BTreeMap<String, String> {
        let mut all = properties::for_metadata(self.request.role.facts(), &self.input_digest);
        if let Some(revision) = &self.request.source_revision {
            all.insert(IMAGE_SOURCE_REVISION.to_owned(), revision.clone());
        }
        all
    }

    /// Builds the image, or finds it in the cache. One build runs at a time; a second caller waits.
    pub async fn build(&self, progress: &dyn Progress) -> Result<BuiltImage, BuildError> {
        if let Some(found) = self.cached()? {
            progress::reused(progress, Step::Assemble, found.rootfs.display().to_string());
            return Ok(found);
        }
        match self.build_locked(progress).await {
            // The stored lookup was of another day: ask again, once.
            Err(BuildError::PackagesMoved { .. }) if !self.lock_is_fresh => {
                let fresh = prepare_with(&self.request, Duration::ZERO, progress).await?;
                fresh.build_locked(progress).await
            }
            other => other,
        }
    }

    fn cached(&self) -> Result<Option<BuiltImage>, BuildError> {
        let directory = self
            .cache
            .image(self.request.role.as_str(), &self.input_digest);
        let Ok(bytes) = fs::read(directory.join(IMAGE_JSON)) else {
            return Ok(None);
        };
        let Ok(mut image) = serde_json::from_slice::<BuiltImage>(&bytes) else {
            return Ok(None);
        };
        image.metadata = directory.join(METADATA);
        image.rootfs = directory.join(ROOTFS);
        let whole = fs::metadata(&image.rootfs)
            .is_ok_and(|metadata| metadata.len() == image.rootfs_bytes)
            && fs::metadata(&image.metadata).is_ok_and(|metadata| metadata.len() > 0);
        if !whole {
            return Ok(None);
        }
        cache::touch(&directory).map_err(BuildError::work)?;
        image.properties = self.properties();
        image.reused = true;
        Ok(Some(image))
    }

    async fn build_locked(&self, progress: &dyn Progress) -> Result<BuiltImage, BuildError> {
        let lock = self.cache.lock(progress).await?;
        if let Some(found) = self.cached()? {
            return Ok(found);
        }
        let work = self.cache.work(&lock)?;
        let mut layers = vec![self.base(work.path(), &lock, progress).await?];
        layers.extend(self.npm_layer(work.path(), &lock, progress).await?);
        let running = Running::start(progress, Step::Assemble, self.request.role.as_str());
        let image = self.assemble(layers, work.path()).await?;
        running.finish(format!("{} MiB", image.rootfs_bytes >> 20));
        self.cache.prune(self.request.role.as_str(), &lock)?;
        Ok(image)
    }

    async fn base(
        &self,
        work: &Path,
        _lock: &BuildLock,
        progress: &dyn Progress,
    ) -> Result<PathBuf, BuildError> {
        let path = self.cache.base(&self.base.digest());
        if path.is_file() {
            cache::touch(&path).map_err(BuildError::work)?;
            progress::reused(progress, Step::BaseSystem, path.display().to_string());
            return Ok(path);
        }
        let state = AptState::prepare(self.cache.root(), &self.request.apt_dir, &self.base.suite)?;
        let proxies = lookup::proxy_options().await.map_err(BuildError::Tools)?;
        let made = work.join("base.tar.zst");
        BaseBuild {
            inputs: &self.base,
            names: &self.names,
            lock: &self.lock,
            sources_list: &state.sources_list(),
            sources_for_image: state.sources_for_image(),
            proxies: &proxies,
            authorities: &self.authorities,
            work,
        }
        .run(&made, progress)
        .await?;
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(BuildError::work)?;
        fs::rename(&made, &path).map_err(BuildError::work)?;
        Ok(path)
    }

    /// The layer of packages from npm, if the role has any.
    async fn npm_layer(
        &self,
        work: &Path,
        _lock: &BuildLock,
        progress: &dyn Progress,
    ) -> Result<Option<PathBuf>, BuildError> {
        let Some(npm) = &self.npm else {
            return Ok(None);
        };
        let path = self.cache.npm_layer(&npm.digest());
        if path.is_file() {
            cache::touch(&path).map_err(BuildError::work)?;
            progress::reused(progress, Step::NpmPackages, path.display().to_string());
            return Ok(Some(path));
        }
        let made = work.join("npm.tar.zst");
        let facts = self.request.role.facts();
        npm.build(facts, work, &made, progress).await?;
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(BuildError::work)?;
        fs::rename(&made, &path).map_err(BuildError::work)?;
        Ok(Some(path))
    }

    /// Joins the layers and the overlay, and puts the finished directory in place with one rename.
    async fn assemble(
        &self,
        mut layers: Vec<PathBuf>,
        work: &Path,
    ) -> Result<BuiltImage, BuildError> {
        let staging = work.join("image");
        fs::create_dir_all(&staging).map_err(BuildError::work)?;
        let epoch_secs = self.lock.epoch_secs;
        let over = work.join("overlay.tar");
        let file = fs::File::create(&over).map_err(BuildError::work)?;
        archive::write(file, &self.overlay, epoch_secs).map_err(BuildError::work)?;
        let over_compressed = work.join("overlay.tar.zst");
        base::compress(&over, &over_compressed).await?;
        layers.push(over_compressed);
        let metadata = staging.join(METADATA);
        let text = properties::metadata_yaml(
            epoch_secs,
            &properties::for_metadata(self.request.role.facts(), &self.input_digest),
        );
        let file = fs::File::create(&metadata).map_err(BuildError::work)?;
        archive::write(
            file,
            &[Entry::file("metadata.yaml", text, 0o644)],
            epoch_secs,
        )
        .map_err(BuildError::work)?;
        let rootfs = staging.join(ROOTFS);
        let (joined, described) = (rootfs.clone(), metadata.clone());
        let (fingerprint, rootfs_bytes) = blocking(move || {
            archive::join(&layers, &joined).map_err(BuildError::work)?;
            let bytes = fs::metadata(&joined).map_err(BuildError::work)?.len();
            let fingerprint = digest::of_files(&[&described, &joined]).map_err(BuildError::work)?;
            Ok((fingerprint, bytes))
        })
        .await?;
        let target = self
            .cache
            .image(self.request.role.as_str(), &self.input_digest);
        let image = BuiltImage {
            role: self.request.role,
            kind: self.request.kind,
            input_digest: self.input_digest.clone(),
            fingerprint,
            metadata: target.join(METADATA),
            rootfs: target.join(ROOTFS),
            rootfs_bytes,
            properties: self.properties(),
            reused: false,
        };
        digest::write_json(&staging.join(IMAGE_JSON), &image).map_err(BuildError::work)?;
        place(&staging, &target).map_err(BuildError::work)?;
        Ok(image)
    }
}

const METADATA: &str = "metadata.tar";
const ROOTFS: &str = "rootfs.tar.zst";
const IMAGE_JSON: &str = "image.json";

fn place(staging: &Path, target: &Path) -> std::io::Result<()> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    // A directory that is there now is one that could not be used.
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    fs::rename(staging, target)
}
