//! The rule by which interrupted runs are offered.

use super::*;
use crate::engine::past::tests::{intent, result};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn ended(finished_at: &str) -> Past {
    let result = JobResult {
        finished_at: at(finished_at),
        ..result(1)
    };
    Past::Ended {
        result: Box::new(result),
        left: None,
    }
}

fn intended(started_at: &str, lease_until: Option<&str>) -> Past {
    let record = JobRecord {
        started_at: at(started_at),
        lease_until: lease_until.map(at),
        ..intent(1)
    };
    Past::Intended {
        record: Box::new(record),
    }
}

#[test]
fn a_run_is_offered_while_a_lease_lasts_and_a_while_after_its_last_sign() {
    let began = "2026-11-21T09:00:00Z";
    let until = |pasts: &[Past]| offered_until(at(began), pasts).to_string();
    let waits = || Past::waits(1);
    assert_eq!(until(&[waits()]), "2026-11-21T10:00:00Z");
    let over = ended("2026-11-21T12:00:00Z");
    assert_eq!(until(&[over.clone(), waits()]), "2026-11-21T13:00:00Z");
    let leased = intended("2026-11-21T12:00:00Z", Some("2026-11-21T20:00:00Z"));
    assert_eq!(until(&[over.clone(), leased]), "2026-11-21T20:00:00Z");
    let short = intended("2026-11-21T12:00:00Z", Some("2026-11-21T12:10:00Z"));
    assert_eq!(
        until(&[short, over]),
        "2026-11-21T13:00:00Z",
        "what has not begun can still start"
    );
    let before_leases = intended(began, None);
    assert_eq!(until(&[before_leases]), "2026-11-21T10:00:00Z");
}
