//! What held a lane up before it began, in words.

use std::collections::BTreeMap;

use jerichoci::record::{RunDir, RunPlan, RunRecord, Span, StoreError, Wait, waits};
use jiff::Timestamp;

use crate::view::between;

/// What held `lane` up, by the records of its run. One that was tried again waited for its own rest too, so nothing is
/// told of it.
pub(super) fn of_lane(
    run: &RunDir,
    record: &RunRecord,
    plan: &RunPlan,
    lane: &str,
) -> Result<Vec<Wait>, StoreError> {
    let mut spans = BTreeMap::new();
    for lane in &record.lanes {
        let job = run.job(lane);
        let started_at = job.read_record()?.map(|job| job.started_at);
        let finished_at = job.read_result()?.map(|result| result.finished_at);
        let span = Span {
            started_at,
            finished_at,
        };
        spans.insert(lane.clone(), span);
    }
    let times = (record.started_at, Timestamp::now());
    Ok(waits(plan, &spans, times, lane))
}

/// A sentence about each.
pub(super) fn words(waits: &[Wait], begun: Timestamp) -> Vec<String> {
    let until = |until: &Option<Timestamp>| {
        until.map(|at| format!(" until {} after the run began", between(begun, at)))
    };
    let sentence = |wait: &Wait| match wait {
        Wait::Need { lane, until: at } => match until(at) {
            Some(until) => format!("It waited for `{lane}`, which it needs,{until}."),
            None => format!("It waits for `{lane}`, which it needs."),
        },
        Wait::Group {
            group,
            lane,
            until: at,
        } => match until(at) {
            Some(until) => {
                format!("It waited for `{lane}` of the same concurrency group `{group}`{until}.")
            }
            None => format!("It waits for `{lane}` of the same concurrency group `{group}`."),
        },
        Wait::Slot { slots, until: at } => match until(at) {
            Some(until) => format!("The run had no free place{until} (it has {slots})."),
            None => format!("It waits for a free place in the run, which has {slots}."),
        },
        Wait::Memory {
            budget_mib,
            until: at,
        } => match until(at) {
            Some(until) => {
                format!("Others had too much of the {budget_mib} MiB of memory for it{until}.")
            }
            None => format!("It waits until others leave it enough of {budget_mib} MiB of memory."),
        },
    };
    waits.iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_over_says_until_when() {
        let begun = Timestamp::from_second(1_700_000_000).unwrap();
        let until = Timestamp::from_second(1_700_000_003).unwrap();
        let group = |until| Wait::Group {
            group: "db".to_owned(),
            lane: "b".to_owned(),
            until,
        };
        assert_eq!(
            words(&[group(Some(until)), group(None)], begun),
            [
                "It waited for `b` of the same concurrency group `db` until 3.0s after the run began.",
                "It waits for `b` of the same concurrency group `db`.",
            ]
        );
    }
}
