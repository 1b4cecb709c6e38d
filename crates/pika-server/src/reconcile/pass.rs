//! One pass: one list of each place, looks into the guests that changed, and what differs written down.
//!
//! Owns which guests are looked into: those that started anew, woke us, or aren't ready. So the number of requests depends
//! on what changes and not on how many agents there are. Those that are ready have their turn after it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::{FutureExt as _, StreamExt as _};
use pika_cloud::OwnedKind;
use pika_managed_agent_contract::{AgentState, InstanceSeen, OperationKind, Target};
use pika_runtime::{OwnedInstance, Power};
use pika_store::{Agent, AgentFilter, Millis, Observed, Operation, Page, StoreError};

use super::wake::Woken;
use super::{Memory, remedy, survey};
use crate::app::App;
use crate::clock::millis;
use crate::fleet::{Fleet, Place};
use crate::metrics::PassSeen;
use crate::observe::{RESTARTS_MAX, Seen, explain, instance_of, look, to_record};

/// Agents read at a time: a page is decoded in a row, and answers wait meanwhile.
const PAGE: i64 = 100;
/// Agents compared in a row, for the same reason.
const IN_A_ROW: usize = 500;
/// Guests looked into at a time.
const LOOKS_AT_ONCE: usize = 16;

/// What a place's list showed, by agent; `None` if it can't be asked.
pub(super) type Listed = Option<BTreeMap<String, OwnedInstance>>;

/// What a pass read and was shown.
pub(super) struct Passed {
    pub(super) agents: Vec<Agent>,
    pub(super) open: BTreeMap<String, Operation>,
    pub(super) places: BTreeMap<Place, Listed>,
    /// Agents whose guests it looked into.
    pub(super) looked_into: BTreeSet<String>,
}

/// Looks at everything once.
pub(super) async fn pass(
    app: &App,
    memory: &mut Memory,
    woken: &Woken,
) -> Result<Passed, StoreError> {
    let began = Instant::now();
    let woken = woken.take();
    // In this order: of an agent that changes after it was read nothing is written, since its revision is another by then.
    let agents = all_agents(app).await?;
    let open = app.store.open_operations().await?;
    let now = app.clock.now();
    let places = list_all(app, memory, &agents, now).await;
    let compared = compare(app, memory, (&agents, &open), (&places, &woken), now).await;
    let Compared {
        mut records,
        to_look,
    } = compared;
    let looked_into = to_look.iter().map(|(agent, _)| agent.id.clone()).collect();
    records.extend(look_inside(app, memory, &open, to_look, now).await);
    let remedies = remedy::plan(
        &agents,
        &open,
        &mut records,
        (now, app.config.times.restart_rest),
    );
    explain(app, &mut records).await?;
    if !app.store.record_observed(now, &records).await?.is_empty() {
        app.signals.something_happened();
    }
    remedy::ask(app, now, &remedies).await?;
    remedy::purge_due(app, now, (&agents, &open)).await?;
    remedy::prune(app, memory, now).await?;
    survey::look(app, memory, (&agents, &open), &places).await;
    let known: BTreeSet<&str> = agents.iter().map(|agent| &*agent.id).collect();
    memory.looked.retain(|id, _| known.contains(&**id));
    let unreachable_places = places.values().filter(|listed| listed.is_none()).count();
    let seen = PassSeen {
        unreachable_places,
        ..seen(&agents, &records)
    };
    app.metrics
        .passed(&seen, app.clock.now() as f64 / 1000.0, began.elapsed());
    Ok(Passed {
        agents,
        open,
        places,
        looked_into,
    })
}

/// What the lists say: what is to be written down, and whose guests have to say more.
#[derive(Default)]
struct Compared<'a> {
    records: Vec<Observed>,
    to_look: Vec<(&'a Agent, Option<&'a OwnedInstance>)>,
}

async fn compare<'a>(
    app: &App,
    memory: &Memory,
    (agents, open): (&'a [Agent], &BTreeMap<String, Operation>),
    (places, woken): (&'a BTreeMap<Place, Listed>, &BTreeSet<String>),
    now: Millis,
) -> Compared<'a> {
    let mut compared = Compared::default();
    for part in agents.chunks(IN_A_ROW) {
        tokio::task::yield_now().await;
        for agent in part.iter().filter(|agent| agent.deleted_at.is_none()) {
            let place = Fleet::place_of(agent);
            let open = open.get(&agent.id);
            let Some(listed) = places.get(&place).and_then(Option::as_ref) else {
                let record = unreachable(app, memory, (agent, open), &place, now);
                compared.records.extend(record);
                continue;
            };
            let listed = listed.get(&agent.id);
            match from_list(agent, listed, memory, woken) {
                Listing::Enough(seen) => {
                    let times = (now, listed.and_then(started));
                    let record = to_record(agent, open, &seen, times, app.config.times.ready);
                    compared.records.extend(record);
                }
                // The worker that brings it up looks at it itself.
                Listing::LookInside
                    if open.is_some_and(|open| open.kind != OperationKind::Backup) => {}
                Listing::LookInside => compared.to_look.push((agent, listed)),
                Listing::Unchanged => {}
            }
        }
    }
    compared
}

/// How agents are after a pass.
fn seen(agents: &[Agent], records: &[Observed]) -> PassSeen {
    let recorded: BTreeMap<&str, &Observed> = records
        .iter()
        .map(|record| (&*record.agent_id, record))
        .collect();
    let mut seen = PassSeen::default();
    for agent in agents.iter().filter(|agent| agent.deleted_at.is_none()) {
        let (state, stale, restarts) = recorded
            .get(&*agent.id)
            .map_or((agent.state, agent.stale_since, agent.restarts), |record| {
                (record.state, record.stale_since, record.restarts)
            });
        seen.states.push(state);
        seen.stale += usize::from(stale.is_some());
        let given_up = state == AgentState::Error && restarts >= RESTARTS_MAX;
        seen.crash_loops += usize::from(given_up);
    }
    seen
}

async fn all_agents(app: &App) -> Result<Vec<Agent>, StoreError> {
    let filter = AgentFilter {
        owner_id: None,
        deleted: true,
        state: None,
    };
    let mut all: Vec<Agent> = Vec::new();
    loop {
        let page = Page {
            after: all.last().map(|agent| &*agent.id),
            limit: PAGE,
        };
        let page = app.store.agents(filter, page).await?;
        let more = page.len() as i64 == PAGE;
        all.extend(page);
        if !more {
            return Ok(all);
        }
    }
}

/// Every place that agents live in, or may.
pub(crate) async fn places(app: &App) -> Result<BTreeSet<Place>, StoreError> {
    Ok(places_of(app, &all_agents(app).await?))
}

fn places_of(app: &App, agents: &[Agent]) -> BTreeSet<Place> {
    let lived_in = agents.iter().map(Fleet::place_of);
    lived_in.chain([app.fleet.local_place()]).collect()
}

/// The list of each place, and since when those that give none don't.
async fn list_all(
    app: &App,
    memory: &mut Memory,
    agents: &[Agent],
    now: Millis,
) -> BTreeMap<Place, Listed> {
    let all = places_of(app, agents).into_iter();
    let mut places: BTreeMap<Place, Listed> = all.map(|place| (place, None)).collect();
    for (place, listed) in &mut places {
        let endpoint = place.endpoint.as_deref().unwrap_or("local");
        let project = place.project.as_str();
        // Told when it changes: a place that is away for a day is not told of in each pass.
        match list(app, place).await {
            Ok(found) => {
                *listed = Some(found);
                if memory.unreachable.remove(place).is_some() {
                    tracing::info!(endpoint, project, "Incus answers again");
                }
            }
            Err(error) => {
                if let Entry::Vacant(vacant) = memory.unreachable.entry(place.clone()) {
                    vacant.insert(now);
                    tracing::warn!(endpoint, project, error, "Incus can't be asked");
                }
            }
        }
    }
    places
}

async fn list(app: &App, place: &Place) -> Result<BTreeMap<String, OwnedInstance>, String> {
    let runtimes = app
        .fleet
        .runtimes_at(place)
        .map_err(|trouble| trouble.to_string())?;
    app.metrics.listed();
    let listed = runtimes
        .observe_all(&place.project, OwnedKind::Agent)
        .await
        .map_err(|error| crate::trouble::chain(&error))?;
    Ok(listed
        .into_iter()
        .map(|instance| (instance.id.runtime_id().to_owned(), instance))
        .collect())
}

/// An agent whose server can't be asked is as it was last known, and shown as stale after a while.
fn unreachable(
    app: &App,
    memory: &Memory,
    (agent, open): (&Agent, Option<&Operation>),
    place: &Place,
    now: Millis,
) -> Option<Observed> {
    let since = memory.unreachable.get(place).copied().unwrap_or(now);
    let limit = millis(app.config.times.unreachable);
    if now - since < limit {
        return None;
    }
    let seen = Seen::without_guest(InstanceSeen::Unreachable);
    to_record(agent, open, &seen, (now, None), app.config.times.ready).map(|record| Observed {
        stale_since: Some(since),
        ..record
    })
}

/// What the list says of an agent.
enum Listing {
    /// All that can be said.
    Enough(Seen),
    /// Its guest has to say the rest.
    LookInside,
    /// It is ready, and nothing about it changed.
    Unchanged,
}

fn from_list(
    agent: &Agent,
    listed: Option<&OwnedInstance>,
    memory: &Memory,
    woken: &BTreeSet<String>,
) -> Listing {
    let Some(listed) = listed else {
        return Listing::Enough(Seen::without_guest(InstanceSeen::Absent));
    };
    if listed.power != Power::Running {
        return Listing::Enough(Seen::without_guest(instance_of(listed.power)));
    }
    let same_start = memory.looked.get(&agent.id) == Some(&listed.started_at);
    let settled = agent.state == AgentState::Ready
        && agent.target == Target::Running
        && agent.stale_since.is_none();
    if settled && same_start && !woken.contains(&agent.instance_name) && has_volume(agent, listed) {
        return Listing::Unchanged;
    }
    Listing::LookInside
}

/// The host's half of "its volume is mounted": no guest can forge it.
fn has_volume(agent: &Agent, listed: &OwnedInstance) -> bool {
    listed
        .volume_device(&agent.volume_name)
        .is_some_and(|device| device.pool == agent.pool && !device.read_only)
}

fn started(listed: &OwnedInstance) -> Option<Millis> {
    let text = listed.started_at.as_deref()?;
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(at.as_millisecond())
}

/// Looks into guests, a few at a time; gives what differs from what is written down.
pub(super) async fn look_inside(
    app: &App,
    memory: &mut Memory,
    open: &BTreeMap<String, Operation>,
    to_look: Vec<(&Agent, Option<&OwnedInstance>)>,
    now: Millis,
) -> Vec<Observed> {
    let mut looks = Vec::with_capacity(to_look.len());
    for (agent, listed) in to_look {
        app.metrics.looked_inside();
        looks.push(async move { (agent, listed, look(app, agent).await) }.boxed());
    }
    let looks = futures_util::stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE);
    let looked: Vec<_> = looks.collect().await;
    let mut records = Vec::new();
    for (agent, listed, seen) in looked {
        let mut seen = match seen {
            Ok(seen) => seen,
            Err(trouble) => {
                tracing::debug!(agent_id = agent.id, %trouble, "an agent can't be looked at");
                continue;
            }
        };
        seen.guest.volume_mounted &= listed.is_some_and(|listed| has_volume(agent, listed));
        let start = listed.and_then(|listed| listed.started_at.clone());
        memory.looked.insert(agent.id.clone(), start);
        let since = listed.and_then(started);
        let open = open.get(&agent.id);
        records.extend(to_record(
            agent,
            open,
            &seen,
            (now, since),
            app.config.times.ready,
        ));
    }
    records
}
