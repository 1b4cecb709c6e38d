//! The directory where lookups, base systems and finished images are kept between builds.
//!
//! Owns its layout, the lock that lets one build run at a time, and its bound. What is in it can be deleted at
//! any time; only a build's speed is lost.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;

use crate::error::BuildError;
use crate::progress::{Progress, Running, Step};

/// Finished images that are kept, for each role.
const IMAGES_PER_ROLE_MAX: usize = 2;
/// Base systems that are kept.
const BASES_MAX: usize = 3;

/// Layers of npm packages that are kept.
const NPM_LAYERS_MAX: usize = 2;

/// The cache of one user or one stack.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// Held while a build runs.
pub(crate) struct BuildLock {
    _file: std::fs::File,
}

impl Cache {
    /// Opens the cache, making the directory if it isn't there.
    pub(crate) fn open(root: &Path) -> Result<Cache, BuildError> {
        fs::create_dir_all(root).map_err(BuildError::work)?;
        let root = fs::canonicalize(root).map_err(BuildError::work)?;
        Ok(Cache { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lookup(&self, role: &str) -> PathBuf {
        self.root.join("packages").join(format!("{role}.json"))
    }

    pub(crate) fn base(&self, digest: &str) -> PathBuf {
        self.bases().join(format!("{digest}.tar.zst"))
    }

    pub(crate) fn image(&self, role: &str, digest: &str) -> PathBuf {
        self.root.join("images").join(role).join(digest)
    }

    pub(crate) fn npm_layer(&self, digest: &str) -> PathBuf {
        self.npm_layers().join(format!("{digest}.tar.zst"))
    }

    fn npm_layers(&self) -> PathBuf {
        self.root.join("npm")
    }

    fn bases(&self) -> PathBuf {
        self.root.join("bases")
    }

    /// Waits until no other build uses the cache.
    pub(crate) async fn lock(&self, progress: &dyn Progress) -> Result<BuildLock, BuildError> {
        let path = self.root.join("lock");
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(BuildError::work)?
            .into_parts()
            .0;
        match file.try_lock() {
            Ok(()) => return Ok(BuildLock { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(BuildError::Work(error)),
        }
        let running = Running::start(progress, Step::WaitForBuild, path.display().to_string());
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file))
            .await
            .map_err(|error| BuildError::Work(std::io::Error::other(error)))?;
        let file = locked.map_err(BuildError::Work)?;
        running.finish("");
        Ok(BuildLock { _file: file })
    }

    /// A directory for one build, on the cache's file system. Whoever holds the lock is alone, so what an
    /// interrupted build left is removed first.
    pub(crate) fn work(&self, _lock: &BuildLock) -> Result<tempfile::TempDir, BuildError> {
        let path = self.root.join("work");
        if path.exists() {
            fs::remove_dir_all(&path).map_err(BuildError::work)?;
        }
        fs::create_dir_all(&path).map_err(BuildError::work)?;
        tempfile::TempDir::new_in(&path).map_err(BuildError::work)
    }

    /// Deletes the oldest images, base systems and layers beyond the bound.
    pub(crate) fn prune(&self, role: &str, _lock: &BuildLock) -> Result<(), BuildError> {
        keep_newest(&self.root.join("images").join(role), IMAGES_PER_ROLE_MAX)
            .and_then(|()| keep_newest(&self.bases(), BASES_MAX))
            .and_then(|()| keep_newest(&self.npm_layers(), NPM_LAYERS_MAX))
            .map_err(BuildError::work)
    }
}

/// Marks a file or directory as used now, so that it's pruned last.
pub(crate) fn touch(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.set_modified(SystemTime::now())
}

fn keep_newest(directory: &Path, count_max: usize) -> std::io::Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        found.push((entry.metadata()?.modified()?, entry.path()));
    }
    found.sort();
    let surplus = found.len().saturating_sub(count_max);
    for (_, path) in found.into_iter().take(surplus) {
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use std::time::Duration;

    #[tokio::test]
    async fn the_last_used_stay() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        for (age_secs, digest) in [(50, "oldest"), (40, "b"), (30, "c"), (20, "d")] {
            fs::create_dir_all(cache.base(digest).parent().unwrap()).unwrap();
            fs::write(cache.base(digest), "x").unwrap();
            std::fs::File::open(cache.base(digest))
                .unwrap()
                .set_modified(SystemTime::now() - Duration::from_secs(age_secs))
                .unwrap();
        }
        touch(&cache.base("oldest")).unwrap();
        let lock = cache.lock(&Silent).await.unwrap();
        cache.prune("role", &lock).unwrap();
        assert!(cache.base("oldest").exists());
        assert!(!cache.base("b").exists());
        assert!(cache.base("c").exists() && cache.base("d").exists());
    }

    #[tokio::test]
    async fn a_second_build_waits_for_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let first = cache.lock(&Silent).await.unwrap();
        let (waiting, seen) = std::sync::mpsc::channel();
        let waiting = std::sync::Mutex::new(waiting);
        let second = cache.clone();
        let task = tokio::spawn(async move {
            let progress = move |event: &crate::progress::ProgressEvent| {
                waiting.lock().unwrap().send(format!("{event:?}")).unwrap();
            };
            second.lock(&progress).await.map(drop)
        });
        let event = tokio::task::spawn_blocking(move || {
            let event = seen.recv_timeout(Duration::from_secs(10));
            (event, seen)
        })
        .await
        .unwrap();
        assert!(event.0.unwrap().contains("WaitForBuild"));
        assert!(!task.is_finished());
        drop(first);
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_an_interrupted_build_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let left = directory.path().join("work/left/base.tar");
        fs::create_dir_all(left.parent().unwrap()).unwrap();
        fs::write(&left, "half").unwrap();
        let lock = cache.lock(&Silent).await.unwrap();
        let work = cache.work(&lock).unwrap();
        assert!(!left.exists());
        assert!(work.path().is_dir());
    }
}
