//! Owns how a generation is written into the labels of its volume, and read from them. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pika_runtime::OwnedVolume;
use serde::Serialize;

use super::key::CacheKey;

const NAME: &str = "cache";
const WHOSE: &str = "cache_whose";
const LANE: &str = "cache_lane";
const STATE: &str = "cache_state";
const TRUST: &str = "cache_trust";
const BASIS: &str = "cache_basis";
const RUN: &str = "cache_run";
const JOB: &str = "cache_job";
const COMMITTED_AT: &str = "cache_committed_at";
const BYTES: &str = "cache_bytes";

const WORKING: &str = "working";
const COMMITTED: &str = "committed";
const TRUSTED: &str = "trusted";
const UNTRUSTED: &str = "untrusted";

/// Whether what a job writes may be read by other jobs. The caller decides it: a run of a protected branch, or a local
/// run that was said to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// It may, once the job passed.
    Trusted,
    /// It never may.
    Untrusted,
}

/// Where a cache's volume stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CacheState {
    /// A job writes to it, or wrote to it and nobody decided yet.
    Working,
    /// It is a generation, and nobody writes to it.
    Committed {
        /// Since when; later than that of every generation which was there then.
        at: Timestamp,
        /// How much it held then, in bytes, if anybody measured.
        bytes: Option<u64>,
    },
}

/// What a cache's volume says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheLabels {
    /// The cache.
    pub key: CacheKey,
    /// Where it stands.
    pub state: CacheState,
    /// Whether the job that wrote it was trusted.
    pub trust: Trust,
    /// The source snapshot that the job saw.
    pub basis: Option<String>,
    /// The run of that job.
    pub run_id: String,
    /// That job's lane.
    pub job: String,
}

/// Labels that are no generation's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheLabelError {
    /// A label isn't there.
    #[error("it has no label `{0}`")]
    Missing(&'static str),
    /// A label's value means nothing.
    #[error("its label `{label}` is `{value}`, which means nothing here")]
    Unknown {
        /// The label.
        label: &'static str,
        /// Its value.
        value: String,
    },
}

impl CacheLabels {
    /// The labels as they are sent.
    pub fn encode(&self) -> BTreeMap<String, String> {
        let trust = match self.trust {
            Trust::Trusted => TRUSTED,
            Trust::Untrusted => UNTRUSTED,
        };
        let mut labels = BTreeMap::new();
        let mut set = |label: &str, value: &str| labels.insert(label.to_owned(), value.to_owned());
        set(NAME, &self.key.name);
        set(WHOSE, &self.key.whose);
        set(TRUST, trust);
        set(RUN, &self.run_id);
        set(JOB, &self.job);
        if let Some(lane) = &self.key.lane {
            set(LANE, lane);
        }
        // Incus takes an empty value for none.
        if let Some(basis) = self.basis.as_ref().filter(|basis| !basis.is_empty()) {
            set(BASIS, basis);
        }
        match &self.state {
            CacheState::Working => {
                set(STATE, WORKING);
            }
            CacheState::Committed { at, bytes } => {
                set(STATE, COMMITTED);
                set(COMMITTED_AT, &at.to_string());
                if let Some(bytes) = bytes {
                    set(BYTES, &bytes.to_string());
                }
            }
        }
        labels
    }

    /// Reads labels.
    ///
    /// # Errors
    /// When one is missing or means nothing: then nobody knows what the volume is, and nobody may start from it.
    pub fn decode(labels: &BTreeMap<String, String>) -> Result<Self, CacheLabelError> {
        let optional = |label: &str| labels.get(label).cloned();
        let required = |label: &'static str| optional(label).ok_or(CacheLabelError::Missing(label));
        let unknown =
            |label: &'static str, value: String| CacheLabelError::Unknown { label, value };
        let trust = match required(TRUST)? {
            value if value == TRUSTED => Trust::Trusted,
            value if value == UNTRUSTED => Trust::Untrusted,
            value => return Err(unknown(TRUST, value)),
        };
        let state = match required(STATE)? {
            value if value == WORKING => CacheState::Working,
            value if value == COMMITTED => {
                let at = required(COMMITTED_AT)?;
                let bytes = optional(BYTES)
                    .map(|text| text.parse().map_err(|_| unknown(BYTES, text)))
                    .transpose()?;
                CacheState::Committed {
                    at: at.parse().map_err(|_| unknown(COMMITTED_AT, at))?,
                    bytes,
                }
            }
            value => return Err(unknown(STATE, value)),
        };
        Ok(Self {
            key: CacheKey {
                name: required(NAME)?,
                whose: required(WHOSE)?,
                lane: optional(LANE),
            },
            state,
            trust,
            basis: optional(BASIS),
            run_id: required(RUN)?,
            job: required(JOB)?,
        })
    }
}

/// A cache's volume as it was seen: a committed generation, or a working one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// The volume's name.
    pub volume: String,
    /// Its number, from 1: one more than the newest of its time. Two that were committed at once may share one.
    pub number: u64,
    /// What it says about itself.
    pub labels: CacheLabels,
    /// Whether it was ever filled wholly.
    pub whole: bool,
    /// The generation that it was cloned from.
    pub cloned_from: Option<String>,
    /// What uses it now.
    pub used_by: Vec<String>,
    /// When a janitor may take it.
    pub deadline: Option<String>,
    /// How much it takes up now, in bytes, where its pool counts that.
    pub pool_bytes: Option<u64>,
}

impl Generation {
    /// What a volume of ours is.
    ///
    /// # Errors
    /// When its labels are no generation's.
    pub fn of(volume: &OwnedVolume) -> Result<Self, CacheLabelError> {
        Ok(Self {
            volume: volume.name.clone(),
            number: volume.generation,
            labels: CacheLabels::decode(&volume.labels)?,
            whole: !volume.unfinished,
            cloned_from: volume.cloned_from.clone(),
            used_by: volume.used_by.clone(),
            deadline: volume.deadline.clone(),
            pool_bytes: None,
        })
    }

    /// Since when it is committed.
    pub fn committed_at(&self) -> Option<Timestamp> {
        match self.labels.state {
            CacheState::Working => None,
            CacheState::Committed { at, .. } => Some(at),
        }
    }

    /// How much it holds, in bytes: what was measured at its commit or what the pool counts, whichever is more. A pool
    /// that clones counts only what no other volume shares.
    pub fn bytes(&self) -> Option<u64> {
        let measured = match self.labels.state {
            CacheState::Working => None,
            CacheState::Committed { bytes, .. } => bytes,
        };
        measured.max(self.pool_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_labels() -> impl Strategy<Value = CacheLabels> {
        let text = "[ -~é]{1,20}";
        let state = prop_oneof![
            Just(CacheState::Working),
            (0_i64..4_000_000_000_000, any::<Option<u64>>()).prop_map(|(ms, bytes)| {
                let at = Timestamp::from_millisecond(ms).expect("it is in range");
                CacheState::Committed { at, bytes }
            }),
        ];
        let key = (text, text, proptest::option::of(text))
            .prop_map(|(name, whose, lane)| CacheKey { name, whose, lane });
        let trust = prop_oneof![Just(Trust::Trusted), Just(Trust::Untrusted)];
        (key, state, trust, proptest::option::of(text), text, text).prop_map(
            |(key, state, trust, basis, run_id, job)| CacheLabels {
                key,
                state,
                trust,
                basis,
                run_id,
                job,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(labels in any_labels()) {
            prop_assert_eq!(CacheLabels::decode(&labels.encode()), Ok(labels));
        }

        #[test]
        fn one_label_less_is_never_another_trust_or_state(labels in any_labels(), at in any::<prop::sample::Index>()) {
            let mut encoded = labels.encode();
            let gone = at.get(&encoded.keys().cloned().collect::<Vec<_>>()).clone();
            encoded.remove(&gone);
            if let Ok(read) = CacheLabels::decode(&encoded) {
                prop_assert_eq!(read.trust, labels.trust);
                prop_assert_eq!(
                    matches!(read.state, CacheState::Working),
                    matches!(labels.state, CacheState::Working)
                );
            }
        }
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        let good = CacheLabels {
            key: CacheKey {
                name: "target".into(),
                whose: "me".into(),
                lane: None,
            },
            state: CacheState::Committed {
                at: Timestamp::UNIX_EPOCH,
                bytes: Some(1),
            },
            trust: Trust::Trusted,
            basis: None,
            run_id: "r".into(),
            job: "check".into(),
        }
        .encode();
        for (label, value) in [
            (TRUST, "Trusted"),
            (STATE, ""),
            (COMMITTED_AT, "tomorrow"),
            (BYTES, "-1"),
        ] {
            let mut bad = good.clone();
            bad.insert(label.to_owned(), value.to_owned());
            let error = CacheLabels::decode(&bad).unwrap_err();
            assert!(error.to_string().contains(label), "{error}");
        }
        assert_eq!(
            CacheLabels::decode(&BTreeMap::new()),
            Err(CacheLabelError::Missing(TRUST))
        );
    }
}
