//! Owns what names a cache, and the names of its volumes. All names are chosen before anything exists.

use jiff::Timestamp;
use pika_cloud::{DeploymentId, OwnedKind, Ownership};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::labels::{CacheLabels, CacheState, Trust};
use crate::record::RunId;

/// What a cache is known by: two jobs with one key share its generations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CacheKey {
    /// The name in the operator's configuration.
    pub name: String,
    /// Whose it is: the deployment's, or one run store's.
    pub whose: String,
    /// The lane that has it alone; all lanes share it where there is none.
    pub lane: Option<String>,
}

impl CacheKey {
    /// A short digest of the whole key, for names.
    pub(crate) fn digest(&self) -> String {
        short_digest(
            &[&self.name, &self.whose, self.lane.as_deref().unwrap_or("")],
            4,
        )
    }
}

/// One job's use of a cache. It decides the name of the job's working volume, so a process that takes a run up again
/// finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheUse {
    /// The cache.
    pub key: CacheKey,
    /// What the volume's name begins with, at most 40 bytes.
    pub volume_prefix: String,
    /// The run.
    pub run_id: RunId,
    /// The job's lane.
    pub lane: String,
    /// The job's attempt, from 1.
    pub attempt: u32,
    /// Whether what it leaves may be read by others.
    pub trust: Trust,
    /// The source snapshot that the job sees, in the words of whoever made it.
    pub basis: Option<String>,
    /// When a janitor may take the working volume, if nobody else did.
    pub deadline: Timestamp,
}

impl CacheUse {
    /// The name of the working volume; of at most 63 bytes.
    pub fn volume(&self) -> String {
        let attempt = self.attempt.to_string();
        let of_use = [self.run_id.as_str(), &self.lane, &attempt, &self.key.name];
        format!(
            "{}-{}-{}",
            self.volume_prefix,
            self.key.digest(),
            short_digest(&of_use, 6)
        )
    }

    /// The labels of the working volume.
    pub fn labels(&self) -> CacheLabels {
        CacheLabels {
            key: self.key.clone(),
            state: CacheState::Working,
            trust: self.trust,
            basis: self.basis.clone(),
            run_id: self.run_id.to_string(),
            job: self.lane.clone(),
        }
    }

    /// Whose the working volume is, with its lease.
    pub(super) fn ownership(&self, owner: &DeploymentId, number: u64) -> Ownership {
        Ownership {
            owner: owner.clone(),
            kind: OwnedKind::Cache,
            generation: number,
            guest_role: None,
            deadline: Some(self.deadline.to_string()),
        }
    }
}

/// The first bytes of a digest over parts of which none can run into the next.
pub(super) fn short_digest(parts: &[&str], bytes: usize) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hex::encode(&hasher.finalize()[..bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_use() -> CacheUse {
        CacheUse {
            key: CacheKey {
                name: "target".into(),
                whose: "me".into(),
                lane: None,
            },
            volume_prefix: "pikaci-target".into(),
            run_id: RunId::new(Timestamp::UNIX_EPOCH, 7),
            lane: "check".into(),
            attempt: 1,
            trust: Trust::Trusted,
            basis: None,
            deadline: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_use_has_a_name_of_its_own_that_is_the_same_each_time() {
        let one = a_use();
        assert_eq!(one.volume(), a_use().volume());
        let mut others = vec![one.clone(); 6];
        others[0].attempt = 2;
        others[1].lane = "test".into();
        others[2].key.lane = Some("check".into());
        others[3].key.whose = "you".into();
        others[4].run_id = RunId::new(Timestamp::UNIX_EPOCH, 8);
        others[5].key.name = "targe".into();
        let mut names: Vec<String> = others.iter().map(CacheUse::volume).collect();
        names.push(one.volume());
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 7);
    }

    #[test]
    fn the_longest_prefix_still_makes_a_name() {
        let long = CacheUse {
            volume_prefix: "p".repeat(40),
            ..a_use()
        };
        assert!(long.volume().len() <= 63);
    }

    #[test]
    fn parts_of_a_digest_do_not_run_into_each_other() {
        assert_ne!(short_digest(&["ab", "c"], 6), short_digest(&["a", "bc"], 6));
        assert_ne!(short_digest(&["a", ""], 6), short_digest(&["a"], 6));
    }
}
