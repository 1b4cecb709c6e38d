//! Prepared payloads in words: what a lane makes, and what it takes from which lane.

use jerichoci::cache::payload::Payload;
use serde::Serialize;

/// A payload that a lane takes.
#[derive(Debug, Serialize)]
pub(super) struct Taken {
    payload: Payload,
    /// The lane that makes it, if it is among those that are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<String>,
}

/// Finds who makes what a lane takes, among lanes with their outputs.
pub(super) fn taken<'a, I>(inputs: &[Payload], makers: impl Fn() -> I) -> Vec<Taken>
where
    I: Iterator<Item = (&'a str, &'a [Payload])>,
{
    let of = |payload: &Payload| Taken {
        payload: *payload,
        lane: makers()
            .find(|(_, outputs)| outputs.contains(payload))
            .map(|(lane, _)| lane.to_owned()),
    };
    inputs.iter().map(of).collect()
}

/// Each as the rest of a sentence about the lane.
pub(super) fn words(outputs: &[Payload], inputs: &[Taken]) -> Vec<String> {
    let makes = outputs
        .iter()
        .map(|payload| format!("makes `{payload}` for other lanes"));
    let takes = inputs.iter().map(|Taken { payload, lane }| match lane {
        Some(lane) => format!("takes `{payload}` from lane `{lane}`"),
        None => format!("takes `{payload}`"),
    });
    makes.chain(takes).collect()
}
