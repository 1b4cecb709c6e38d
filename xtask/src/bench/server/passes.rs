//! Passes of the reconciler over agents on the fake: how many requests each makes, and how much of its time is its own.
//!
//! Owns what counts as the fake's time: while a list is in its hands. What the answer takes on its way, and everything
//! else, is the server's.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use pikahut::fake::{FakeIncus, RequestRecord};
use serde::Serialize;

use super::super::figures::{Figures, figures};
use super::api::Api;

/// Longest pass.
const LIMIT: Duration = Duration::from_secs(300);
/// No request for so long means that a pass, and the turn after it, are over.
const QUIET: Duration = Duration::from_millis(120);

/// What was seen of passes over some number of agents.
#[derive(Clone, Serialize)]
pub(super) struct OfPasses {
    pub(super) agents: u32,
    /// Requests for lists of instances, by pass.
    pub(super) lists: Vec<usize>,
    /// Requests for lists of pools and volumes, by pass that made a survey.
    pub(super) surveys: Vec<usize>,
    /// All requests of a pass and of the turn after it, by pass.
    pub(super) requests: Vec<usize>,
    /// From a pass's start to its end.
    pub(super) whole: Figures,
    /// While the fake made lists.
    pub(super) fake: Figures,
    /// The rest.
    pub(super) own: Figures,
}

/// Measures passes, one after the other, at rest in between; at least so many, and on until one of them made a survey.
pub(super) async fn measure(
    fake: &FakeIncus,
    api: &Api,
    agents: u32,
    passes: u16,
) -> Result<OfPasses> {
    let (mut lists, mut surveys, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    let (mut whole, mut of_fake, mut own) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = api.passes().await?;
    let until = Instant::now() + LIMIT;
    // The first one may have begun before.
    let mut is_first = true;
    while lists.len() < usize::from(passes) || surveys.is_empty() {
        if Instant::now() >= until {
            bail!(
                "{} passes and no survey within {} s",
                lists.len(),
                LIMIT.as_secs()
            );
        }
        quiet(fake).await?;
        fake.clear_requests();
        let after = api.more_passes_than(before.count, LIMIT).await?;
        quiet(fake).await?;
        let made = fake.requests();
        let seconds = after.seconds - before.seconds;
        let is_one = after.count == before.count + 1;
        before = after;
        if std::mem::take(&mut is_first) || !is_one {
            continue;
        }
        let in_hands = time_in_hands(&made).as_secs_f64();
        let of = |kind| {
            made.iter()
                .filter(|record| list(record) == Some(kind))
                .count()
        };
        lists.push(of(List::Instances));
        surveys.extend(Some(of(List::Volumes)).filter(|volumes| *volumes > 0));
        requests.push(made.len());
        whole.push(1000.0 * seconds);
        of_fake.push(1000.0 * in_hands);
        own.push(1000.0 * (seconds - in_hands));
    }
    Ok(OfPasses {
        agents,
        lists,
        surveys,
        requests,
        whole: figures(whole),
        fake: figures(of_fake),
        own: figures(own),
    })
}

/// A request whose answer grows with the number of agents, or of pools.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Instances,
    Volumes,
}

fn list(record: &RequestRecord) -> Option<List> {
    match record.path.strip_prefix("/1.0/")? {
        "instances" => Some(List::Instances),
        "storage-pools" => Some(List::Volumes),
        path if path.starts_with("storage-pools/") && path.ends_with("/volumes/custom") => {
            Some(List::Volumes)
        }
        _ => None,
    }
}

/// How long at least one list was in the fake's hands.
fn time_in_hands(made: &[RequestRecord]) -> Duration {
    let spans = made.iter().filter(|record| list(record).is_some());
    let mut spans: Vec<(Instant, Instant)> = spans
        .filter_map(|record| Some((record.arrived, record.arrived + record.took?)))
        .collect();
    spans.sort_unstable();
    let mut sum = Duration::ZERO;
    let mut until: Option<Instant> = None;
    for (from, to) in spans {
        let from = until.map_or(from, |until| from.max(until));
        sum += to.saturating_duration_since(from);
        until = Some(until.map_or(to, |until| until.max(to)));
    }
    sum
}

/// Waits until nothing is asked.
async fn quiet(fake: &FakeIncus) -> Result<()> {
    let begun = Instant::now();
    let open = || {
        let records = fake.requests();
        let open = records
            .iter()
            .filter(|record| record.took.is_none())
            .count();
        (records.len(), open)
    };
    let (mut seen, mut since) = (open(), Instant::now());
    while seen.1 > 0 || since.elapsed() < QUIET {
        if begun.elapsed() > LIMIT {
            bail!("the server never rests");
        }
        tokio::time::sleep(QUIET / 10).await;
        let now = open();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    Ok(())
}
