//! Owns the collection from a stopped container, over the files API.
//!
//! Nothing runs there, so what a look shows stays so. A FIFO, a socket and a device look like a file of length 0:
//! nothing of length 0 is ever opened, since opening a FIFO would wedge the daemon. Links are not followed, and every
//! directory on the way is looked at first.

use std::collections::VecDeque;
use std::path::Path;

use futures_util::StreamExt;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use pika_cloud::OutputCollectionPolicy;
use pika_cloud::paths::STATE_BACKING_DIR;
use pika_incus::{Client, ErrorKind, FileContent, FileKind};
use tokio::time::Instant;

use super::archive::ArchiveSink;
use super::limits::{CollectLimits, check_name};
use super::taken::Taken;
use super::{CollectError, Collected, CollectedFrom, RESULT_BYTES_MAX};
use crate::config::RuntimeConfig;
use crate::guest::is_boot_id;
use crate::text::chain;

/// Directory entries that are looked at before the collection stops.
const ENTRIES_MAX: usize = 20_000;
const BOOTS_MAX: usize = 64;

/// Why the walk stopped.
enum Stop {
    Incomplete(String),
    Host(std::io::Error),
}

struct Walk<'a> {
    client: &'a Client,
    instance: &'a str,
    limits: CollectLimits,
    deadline: Instant,
    taken: Taken,
    entries: usize,
    bytes: u64,
}

pub(super) async fn collect(
    client: &Client,
    instance: &str,
    policy: &OutputCollectionPolicy,
    config: &RuntimeConfig,
    into: &Path,
) -> Result<Collected, CollectError> {
    let host = |source| CollectError::Host {
        into: into.to_path_buf(),
        source,
    };
    let globs = globs(&policy.artifact_globs)?;
    let limits = config.collect_limits.clone();
    let mut walk = Walk {
        client,
        instance,
        taken: Taken::open(into, limits.refusals_listed_max).map_err(host)?,
        limits,
        deadline: Instant::now() + config.timeouts.collect,
        entries: 0,
        bytes: 0,
    };
    let incomplete = match walk.everything(policy, &globs).await {
        Ok(()) => None,
        Err(Stop::Incomplete(why)) => Some(why),
        Err(Stop::Host(source)) => return Err(host(source)),
    };
    Ok(Collected::of(
        CollectedFrom::StoppedContainer,
        walk.taken,
        incomplete,
    ))
}

/// Patterns relative to the artifacts directory; `*` stays inside one folder.
fn globs(patterns: &[String]) -> Result<GlobSet, CollectError> {
    let bad = |pattern: &str, why: globset::Error| CollectError::Pattern {
        pattern: pattern.to_owned(),
        why: why.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(
            GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .map_err(|why| bad(pattern, why))?,
        );
    }
    set.build().map_err(|why| bad("", why))
}

impl Walk<'_> {
    async fn everything(
        &mut self,
        policy: &OutputCollectionPolicy,
        globs: &GlobSet,
    ) -> Result<(), Stop> {
        let Some(state) = newest_boot(self.client, self.instance)
            .await
            .map_err(Stop::Incomplete)?
        else {
            return Ok(());
        };
        if policy.include_result {
            for name in ["result.json", "status.json", "events.jsonl"] {
                self.file(&format!("{state}/{name}"), name).await?;
            }
        }
        if policy.include_logs {
            self.tree(&format!("{state}/logs"), "logs", |_| true)
                .await?;
        }
        if !globs.is_empty() {
            self.tree(&format!("{state}/artifacts"), "artifacts", |name| {
                globs.is_match(name)
            })
            .await?;
        }
        Ok(())
    }

    /// Takes the files below a directory whose names, relative to it, are wanted.
    async fn tree(
        &mut self,
        root: &str,
        label: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), Stop> {
        let mut waiting = VecDeque::from([String::new()]);
        while let Some(relative) = waiting.pop_front() {
            let path = if relative.is_empty() {
                root.to_owned()
            } else {
                format!("{root}/{relative}")
            };
            let Some(entries) = self.list(&path).await? else {
                continue;
            };
            for entry in entries {
                self.entries += 1;
                if self.entries > ENTRIES_MAX {
                    return Err(Stop::Incomplete(format!("more than {ENTRIES_MAX} entries")));
                }
                let name = if relative.is_empty() {
                    entry
                } else {
                    format!("{relative}/{entry}")
                };
                let shown = format!("{label}/{name}");
                if name.contains('\u{fffd}') {
                    self.taken.refused(
                        shown.as_bytes(),
                        "a name that is not UTF-8, mangled by the files API".to_owned(),
                    );
                    continue;
                }
                if let Err(why) = check_name(shown.as_bytes(), &self.limits) {
                    self.taken.refused(shown.as_bytes(), why.to_string());
                    continue;
                }
                match self.kind(&format!("{root}/{name}")).await? {
                    Some(FileKind::Directory) => waiting.push_back(name),
                    Some(FileKind::Symlink) if wanted(&name) => {
                        self.taken
                            .refused(shown.as_bytes(), "a symbolic link".to_owned());
                    }
                    Some(FileKind::File) if wanted(&name) => {
                        self.file(&format!("{root}/{name}"), &shown).await?
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn in_time(&self) -> Result<(), Stop> {
        if Instant::now() < self.deadline {
            Ok(())
        } else {
            Err(Stop::Incomplete("it took too long".to_owned()))
        }
    }

    async fn kind(&self, path: &str) -> Result<Option<FileKind>, Stop> {
        self.in_time()?;
        match self.client.file_head(self.instance, path).await {
            Ok(facts) => Ok(Some(facts.kind)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Stop::Incomplete(chain(&error))),
        }
    }

    async fn list(&self, path: &str) -> Result<Option<Vec<String>>, Stop> {
        if self.kind(path).await? != Some(FileKind::Directory) {
            return Ok(None);
        }
        match self.client.file_get(self.instance, path).await {
            Ok(FileContent::Directory { entries, .. }) => Ok(Some(entries)),
            Ok(_) => Ok(None),
            Err(error) => Err(Stop::Incomplete(chain(&error))),
        }
    }

    /// Takes one file; refuses what is none.
    async fn file(&mut self, path: &str, name: &str) -> Result<(), Stop> {
        self.in_time()?;
        let facts = match self.client.file_head(self.instance, path).await {
            Ok(facts) => facts,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Stop::Incomplete(chain(&error))),
        };
        let size = facts.size.unwrap_or(0);
        if facts.kind != FileKind::File || size == 0 {
            let why =
                "not a regular file, or empty: the files API can't tell a FIFO from an empty file";
            self.taken.refused(name.as_bytes(), why.to_owned());
            return Ok(());
        }
        if size > self.limits.file_bytes_max {
            let max = self.limits.file_bytes_max;
            self.taken.refused(
                name.as_bytes(),
                format!("{size} bytes, over the limit of {max} for a file"),
            );
            return Ok(());
        }
        if self.bytes.saturating_add(size) > self.limits.total_bytes_max {
            return Err(Stop::Incomplete(
                "a limit was reached: bytes in all".to_owned(),
            ));
        }
        if self.taken.files.len() as u64 >= self.limits.files_max {
            return Err(Stop::Incomplete(
                "a limit was reached: number of files".to_owned(),
            ));
        }
        self.bytes += size;
        self.copy(path, name, size).await
    }

    async fn copy(&mut self, path: &str, name: &str, size: u64) -> Result<(), Stop> {
        let components = check_name(name.as_bytes(), &self.limits)
            .map_err(|why| Stop::Incomplete(why.to_string()))?;
        if let Err(why) = self.taken.begin(&components, size) {
            self.taken.refused(name.as_bytes(), why);
            return Ok(());
        }
        let read = self
            .client
            .file_read_range(self.instance, path, 0, Some(size))
            .await;
        let mut stream = match read {
            Ok(stream) => stream,
            Err(error) => {
                self.taken.abort();
                return Err(Stop::Incomplete(chain(&error)));
            }
        };
        let mut left = size;
        while let Some(chunk) = stream.next().await {
            let chunk = match chunk {
                Ok(chunk) if chunk.len() as u64 <= left => chunk,
                Ok(_) => {
                    self.taken.abort();
                    return Err(Stop::Incomplete(format!("{name} is longer than it was")));
                }
                Err(error) => {
                    self.taken.abort();
                    return Err(Stop::Incomplete(chain(&error)));
                }
            };
            left -= chunk.len() as u64;
            self.taken.data(&chunk).map_err(Stop::Host)?;
        }
        if left > 0 {
            self.taken.abort();
            return Err(Stop::Incomplete(format!("{name} is shorter than it was")));
        }
        self.taken.end().map_err(Stop::Host)
    }
}

/// The state directory of the last boot, on the root disk.
async fn newest_boot(client: &Client, instance: &str) -> Result<Option<String>, String> {
    let boots = match client.file_head(instance, STATE_BACKING_DIR).await {
        Ok(facts) if facts.kind == FileKind::Directory => {
            match client
                .file_get(instance, STATE_BACKING_DIR)
                .await
                .map_err(|error| chain(&error))?
            {
                FileContent::Directory { entries, .. } => entries,
                _ => return Ok(None),
            }
        }
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(chain(&error)),
    };
    if boots.len() > BOOTS_MAX {
        return Err(format!(
            "{} directories where there is one for each boot",
            boots.len()
        ));
    }
    let mut newest: Option<(String, String)> = None;
    for boot in boots.iter().filter(|boot| is_boot_id(boot)) {
        let path = format!("{STATE_BACKING_DIR}/{boot}");
        let facts = client
            .file_head(instance, &path)
            .await
            .map_err(|error| chain(&error))?;
        let later = newest
            .as_ref()
            .is_none_or(|(found, _)| facts.modified > *found);
        if facts.kind == FileKind::Directory && later {
            newest = Some((facts.modified, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// The bytes of `result.json`, if there is one.
pub(super) async fn result_bytes(
    client: &Client,
    instance: &str,
    boot_id: Option<&str>,
) -> Result<Option<Vec<u8>>, String> {
    let state = match boot_id.filter(|boot| is_boot_id(boot)) {
        Some(boot) => Some(format!("{STATE_BACKING_DIR}/{boot}")),
        None => newest_boot(client, instance).await?,
    };
    let Some(state) = state else { return Ok(None) };
    match client
        .file_read(instance, &format!("{state}/result.json"), RESULT_BYTES_MAX)
        .await
    {
        Ok(bytes) => Ok((!bytes.is_empty()).then_some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(chain(&error)),
    }
}
