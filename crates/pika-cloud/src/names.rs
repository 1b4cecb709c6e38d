//! Names of what the project makes in Incus.
//!
//! Owns how names come from ids: without a registry, the same id always gives the same name.

use sha2::{Digest as _, Sha256};

/// What every CI instance's name begins with.
pub const CI_INSTANCE_PREFIX: &str = "pikaci-";
/// What every agent instance's name begins with.
pub const AGENT_INSTANCE_PREFIX: &str = "pika-agent-";

/// Longest instance name, in characters.
pub const INSTANCE_NAME_CHARS_MAX: usize = 63;

/// Name of a CI job's instance. Attempts count from 1; the first one's name does not depend on it.
#[must_use]
pub fn ci_instance_name(run_id: &str, job_id: &str, attempt: u32) -> String {
    let seed = if attempt <= 1 {
        format!("{run_id}:{job_id}")
    } else {
        format!("{run_id}:{job_id}:{attempt}")
    };
    format!("{CI_INSTANCE_PREFIX}{}", hex_digest::<6>(&seed))
}

/// Name of a managed agent's instance; all generations of the agent share it.
#[must_use]
pub fn agent_instance_name(agent_id: &str) -> String {
    format!("{AGENT_INSTANCE_PREFIX}{}", hex_digest::<10>(agent_id))
}

/// Name of the volume that holds an agent's state.
#[must_use]
pub fn agent_volume_name(instance_name: &str) -> String {
    format!("{instance_name}-state")
}

/// Why Incus would refuse an instance's name, if it would.
#[must_use]
pub fn instance_name_problem(name: &str) -> Option<&'static str> {
    if name.chars().count() > INSTANCE_NAME_CHARS_MAX {
        return Some("must not be longer than 63 characters");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Some("must contain only ASCII letters, digits and `-`");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Some("must begin with a letter");
    }
    name.ends_with('-').then_some("must not end with `-`")
}

/// The first `BYTES` bytes of the SHA-256 of a text, in hex.
fn hex_digest<const BYTES: usize>(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    hex::encode(&digest[..BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ci_names_are_the_known_ones() {
        assert_eq!(ci_instance_name("run", "job", 1), "pikaci-6fd8c7b5193e");
        assert_eq!(ci_instance_name("run", "job", 0), "pikaci-6fd8c7b5193e");
        let second = ci_instance_name("run", "job", 2);
        assert_eq!(second, format!("pikaci-{}", hex_digest::<6>("run:job:2")));
        assert_ne!(second, ci_instance_name("run", "job", 3));
    }

    #[test]
    fn agent_names_have_twenty_hex_digits_and_a_volume() {
        let name = agent_instance_name("agent-1");
        let digits = name.strip_prefix(AGENT_INSTANCE_PREFIX).unwrap();
        assert_eq!(digits.len(), 20);
        assert!(
            digits
                .chars()
                .all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase())
        );
        assert_eq!(agent_volume_name(&name), format!("{name}-state"));
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_incus_takes(
            run in any::<String>(), job in any::<String>(), attempt in any::<u32>()
        ) {
            prop_assert_eq!(instance_name_problem(&ci_instance_name(&run, &job, attempt)), None);
            prop_assert_eq!(instance_name_problem(&agent_instance_name(&run)), None);
        }
    }
}
