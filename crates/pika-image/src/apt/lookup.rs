//! The package lookup: which exact packages the machine's sources give for a role.
//!
//! Owns a private apt state (lists, no installed packages) below the cache and the stored result. Never reads
//! or changes the machine's own apt state.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::sources::{self, AptSource, SignedBy, SourcesError, System};
use crate::command::{APT_CONFIG, APT_GET, CommandError};
use crate::digest;

/// A package that will be in the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockedPackage {
    /// Name.
    pub name: String,
    /// Version, with its epoch.
    pub version: String,
    /// Architecture, or `all`.
    pub architecture: String,
    /// SHA-256 of the package file, in hex.
    pub sha256: String,
}

/// The outcome of a lookup, as stored in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageLock {
    /// What was asked: suite, architecture, package names.
    pub asked: Vec<String>,
    /// When the sources were last asked.
    pub looked_up_at: Timestamp,
    /// Newest date that the archives put on their indexes, in seconds since 1970: the time stamp of everything
    /// that the build makes. It stays as it is while the packages stay the same.
    pub epoch_secs: i64,
    /// Every package of the base system, sorted.
    pub packages: Vec<LockedPackage>,
}

/// Why packages could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// No mirror.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// apt did not do it.
    #[error("the package sources of this machine gave no answer for {packages}")]
    Apt {
        /// What was asked.
        packages: String,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// apt's answer has a line of another form.
    #[error(
        "apt-get printed a package without a SHA-256: {line:?}; the mirror's index is incomplete, choose another mirror"
    )]
    Answer {
        /// The line.
        line: String,
    },
    /// An index without a date.
    #[error("no release index with a readable date below {}: run the build again, and check the mirror if it stays", path.display())]
    NoDate {
        /// Where indexes are kept.
        path: PathBuf,
    },
    /// The cache can't be used.
    #[error("can't keep the package lookup")]
    Cache(#[source] std::io::Error),
}

/// A private apt state for one set of sources.
pub(crate) struct AptState {
    directory: PathBuf,
    sources: Vec<AptSource>,
}

impl AptState {
    /// Lays out the state below `cache_dir` for `suite`.
    pub(crate) fn prepare(
        cache_dir: &Path,
        apt_dir: &Path,
        suite: &str,
    ) -> Result<AptState, LookupError> {
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let sources = sources::for_suite(apt_dir, &System::parse(&os_release), suite)?;
        let state = AptState {
            directory: cache_dir.join("apt").join(suite),
            sources,
        };
        state.write().map_err(LookupError::Cache)?;
        Ok(state)
    }

    /// The sources, one a line, with key files that exist.
    pub(crate) fn sources_list(&self) -> PathBuf {
        self.directory.join("sources.list")
    }

    /// The sources as an image may show them: without credentials and without paths of this host.
    pub(crate) fn sources_for_image(&self) -> String {
        self.sources
            .iter()
            .map(|source| {
                let shown = AptSource {
                    uri: sources::without_credentials(&source.uri),
                    signed_by: Some(SignedBy::File(PathBuf::from(IMAGE_KEYRING))),
                    ..source.clone()
                };
                sources::one_line(&shown, |_| PathBuf::from(IMAGE_KEYRING))
            })
            .collect()
    }

    fn lists(&self) -> PathBuf {
        self.directory.join("lists")
    }

    fn config(&self) -> PathBuf {
        self.directory.join("apt.conf")
    }

    fn write(&self) -> std::io::Result<()> {
        for directory in ["lists/partial", "archives/partial", "etc"] {
            fs::create_dir_all(self.directory.join(directory))?;
        }
        let mut list = String::new();
        for (index, source) in self.sources.iter().enumerate() {
            let key_path = self.directory.join(format!("key-{index}.asc"));
            if let Some(SignedBy::Inline(key)) = &source.signed_by {
                fs::write(&key_path, key)?;
            }
            list.push_str(&sources::one_line(source, |_| key_path.clone()));
        }
        fs::write(self.sources_list(), list)?;
        fs::write(self.directory.join("status"), "")?;
        let directory = self.directory.display();
        fs::write(
            self.config(),
            format!(
                "Dir::State \"{directory}\";\nDir::State::lists \"{directory}/lists\";\n\
                 Dir::State::status \"{directory}/status\";\nDir::Cache \"{directory}\";\n\
                 Dir::Cache::archives \"{directory}/archives\";\nDir::Etc \"{directory}/etc\";\n\
                 Dir::Etc::sourcelist \"{directory}/sources.list\";\n\
                 Dir::Etc::sourceparts \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
                 Dir::Etc::preferencesparts \"/dev/null\";\n\
                 Dir::Etc::trusted \"/etc/apt/trusted.gpg\";\nDir::Etc::trustedparts \"/etc/apt/trusted.gpg.d\";\n\
                 APT::Architecture \"{ARCHITECTURE}\";\nAPT::Architectures {{ \"{ARCHITECTURE}\"; }};\n\
                 APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\nAcquire::ForceHash \"SHA256\";\nAcquire::Retries \"3\";\n"
            ),
        )
    }

    async fn apt_get(
        &self,
        arguments: Vec<OsString>,
        proxies: &[String],
    ) -> Result<Vec<u8>, CommandError> {
        let mut all: Vec<OsString> = vec!["-qq".into()];
        for proxy in proxies {
            all.push("-o".into());
            all.push(proxy.into());
        }
        all.extend(arguments);
        APT_GET.output(&all, &[("APT_CONFIG", self.config())]).await
    }

    /// Asks the sources which packages `names` and their dependencies are now.
    pub(crate) async fn look_up(
        &self,
        names: &[&str],
        proxies: &[String],
    ) -> Result<PackageLock, LookupError> {
        let apt = |source| LookupError::Apt {
            packages: names.join(" "),
            source,
        };
        self.apt_get(vec!["update".into()], proxies)
            .await
            .map_err(apt)?;
        let mut arguments: Vec<OsString> = vec![
            "--print-uris".into(),
            "install".into(),
            "?essential".into(),
            "apt".into(),
        ];
        arguments.extend(names.iter().map(OsString::from));
        let printed = self.apt_get(arguments, proxies).await.map_err(apt)?;
        let mut packages = String::from_utf8_lossy(&printed)
            .lines()
            .filter(|line| line.starts_with('\''))
            .map(parse_printed)
            .collect::<Result<Vec<_>, _>>()?;
        packages.sort();
        Ok(PackageLock {
            asked: names.iter().map(|&name| name.to_owned()).collect(),
            looked_up_at: Timestamp::now(),
            epoch_secs: self.newest_index_date()?,
            packages,
        })
    }

    fn newest_index_date(&self) -> Result<i64, LookupError> {
        let mut newest = None;
        for entry in fs::read_dir(self.lists()).map_err(LookupError::Cache)? {
            let path = entry.map_err(LookupError::Cache)?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.ends_with("InRelease") || name.ends_with("_Release") {
                let text = fs::read_to_string(&path).map_err(LookupError::Cache)?;
                newest = newest.max(index_date(&text));
            }
        }
        newest.ok_or_else(|| LookupError::NoDate { path: self.lists() })
    }
}

/// Debian architecture that images are built for.
pub(crate) const ARCHITECTURE: &str = "amd64";
/// Where Debian keeps its archive keys, inside the image.
const IMAGE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Seconds since 1970 of an index's `Date` line.
fn index_date(index: &str) -> Option<i64> {
    let date = index.lines().find_map(|line| line.strip_prefix("Date: "))?;
    // Debian writes the zone as UTC, which RFC 2822 spells as an offset.
    let date = date.trim().replace("UTC", "+0000");
    jiff::fmt::rfc2822::parse(&date)
        .ok()
        .map(|zoned| zoned.timestamp().as_second())
}

/// `'URI' name_version_architecture.deb size SHA256:hex`
fn parse_printed(line: &str) -> Result<LockedPackage, LookupError> {
    let malformed = || LookupError::Answer {
        line: line.to_owned(),
    };
    let mut words = line.split_whitespace().skip(1);
    let file = words.next().ok_or_else(malformed)?;
    let hash = words.nth(1).ok_or_else(malformed)?;
    let sha256 = hash.strip_prefix("SHA256:").ok_or_else(malformed)?;
    let mut parts = file
        .strip_suffix(".deb")
        .ok_or_else(malformed)?
        .splitn(3, '_');
    let mut part = || parts.next().map(str::to_owned).ok_or_else(malformed);
    Ok(LockedPackage {
        name: part()?,
        version: part()?.replace("%3a", ":"),
        architecture: part()?,
        sha256: sha256.to_owned(),
    })
}

/// The proxy settings of the machine's apt, as `-o` options.
pub(crate) async fn proxy_options() -> Result<Vec<String>, CommandError> {
    let dump = APT_CONFIG.output(&["dump".into()], &[]).await?;
    Ok(parse_proxy_options(&String::from_utf8_lossy(&dump)))
}

fn parse_proxy_options(dump: &str) -> Vec<String> {
    dump.lines()
        .filter_map(|line| line.strip_suffix(';'))
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, value)| {
            let name = name.to_ascii_lowercase();
            name.starts_with("acquire::http") && name.contains("::proxy") && *value != "\"\""
        })
        .map(|(name, value)| format!("{name}={}", value.trim_matches('"')))
        .collect()
}

/// A stored lookup that may still be used: it answers the same question and is young enough.
pub(crate) fn stored(
    path: &Path,
    names: &[&str],
    max_age: Duration,
    now: Timestamp,
) -> Option<PackageLock> {
    let lock = read(path, names)?;
    let age = now.duration_since(lock.looked_up_at).unsigned_abs();
    (age <= max_age).then_some(lock)
}

fn read(path: &Path, names: &[&str]) -> Option<PackageLock> {
    let lock: PackageLock = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (lock.asked == names).then_some(lock)
}

/// Stores a lookup. One with the same packages as before keeps the older time stamp of the build, so that the
/// image stays the same.
pub(crate) fn store(path: &Path, mut lock: PackageLock) -> Result<PackageLock, LookupError> {
    let names: Vec<&str> = lock.asked.iter().map(String::as_str).collect();
    if let Some(before) = read(path, &names)
        && before.packages == lock.packages
    {
        lock.epoch_secs = before.epoch_secs;
    }
    digest::write_json(path, &lock).map_err(LookupError::Cache)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(version: &str, epoch_secs: i64) -> PackageLock {
        PackageLock {
            asked: vec!["git".into()],
            looked_up_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            epoch_secs,
            packages: vec![LockedPackage {
                name: "git".into(),
                version: version.into(),
                architecture: "amd64".into(),
                sha256: "00".into(),
            }],
        }
    }

    #[test]
    fn a_printed_package_is_read_with_its_epoch() {
        let package = parse_printed(
            "'http://m.test/pool/g/git_1%3a2.39.5-0%2bdeb12u2_amd64.deb' git_1%3a2.39.5-0+deb12u2_amd64.deb 7256892 SHA256:ab12",
        )
        .unwrap();
        assert_eq!(package.name, "git");
        assert_eq!(package.version, "1:2.39.5-0+deb12u2");
        assert_eq!(package.architecture, "amd64");
        assert_eq!(package.sha256, "ab12");
    }

    #[test]
    fn a_weaker_hash_is_refused() {
        let error =
            parse_printed("'http://m.test/a_1_all.deb' a_1_all.deb 1 MD5Sum:00").unwrap_err();
        assert!(error.to_string().contains("without a SHA-256"));
    }

    #[test]
    fn the_date_of_an_index_is_read() {
        let index = "Origin: Debian\nDate: Sat, 06 Sep 2025 09:59:02 UTC\nSHA256:\n";
        assert_eq!(index_date(index), Some(1_757_152_742));
    }

    #[test]
    fn proxies_of_apt_are_taken_over_and_empty_ones_are_not() {
        let dump = "APT \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://proxy.test:3142\";\n\
                    Acquire::https::Proxy \"\";\nAcquire::Languages \"none\";\n";
        assert_eq!(
            parse_proxy_options(dump),
            ["Acquire::http::Proxy=http://proxy.test:3142"]
        );
    }

    #[test]
    fn an_unchanged_package_set_keeps_the_time_stamp_of_the_build() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock.json");
        store(&path, lock("1", 100)).unwrap();
        assert_eq!(store(&path, lock("1", 200)).unwrap().epoch_secs, 100);
        assert_eq!(store(&path, lock("2", 300)).unwrap().epoch_secs, 300);
    }

    #[test]
    fn a_lookup_is_used_until_it_is_too_old_or_another_question_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock.json");
        let lock = store(&path, lock("1", 100)).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let later = lock.looked_up_at + day;
        assert!(stored(&path, &["git"], day, later).is_some());
        assert!(stored(&path, &["git"], day - Duration::from_secs(1), later).is_none());
        assert!(stored(&path, &["git", "gcc"], day, later).is_none());
    }
}
