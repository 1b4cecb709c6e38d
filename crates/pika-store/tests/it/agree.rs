//! SQLite and PostgreSQL against each other: whatever is called in whatever order, both give the same answers.

use pika_managed_agent_contract::{
    AgentState, ErrorBody, ErrorCode, OperationKind, Scope, StartupPhase,
};
use pika_store::{
    AgentChange, AgentFilter, AllowEntry, Backup, Claimed, EventScope, Grip, NewSession, NewToken,
    Observed, OperationRequest, Page, Quotas, Sizes, Store, StoreError,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::fixtures::{key, new_agent, new_operation, new_token, owner};
use crate::place::Place;

/// Sequences that are tried; each has two fresh databases.
const CASES: u32 = 16;
const CALLS_MAX: usize = 60;

/// Names that sort and compare differently where a database cares for more than their bytes.
const NAMES: [&str; 5] = ["a", "B", "ä", "a-b", "ab'\""];

/// One call, with numbers that choose among what there is.
#[derive(Debug, Clone)]
enum Call {
    EnsureOwner(usize),
    SetQuotas(usize, i64),
    Allow(usize),
    Disallow(usize),
    AddToken(usize, usize, Option<i64>),
    PresentToken(usize),
    RevokeToken(usize, Option<usize>),
    AddSession(usize, usize),
    Session(usize),
    TakeSignature(usize, i64),
    Create(usize, usize, bool, Option<usize>),
    Request(usize, Option<usize>, OperationKind, usize, Option<usize>),
    Claim(usize, i64),
    Renew(usize, i64),
    BeginStep(usize, usize),
    FinishStep(usize, usize, usize),
    KeepNotes(usize, usize),
    End(usize, bool),
    PutBack(usize, i64),
    HoldLease(usize, i64),
    GiveLeaseBack(usize),
    Observe(usize, i64, usize),
    SetBackups(usize, usize),
    PruneEvents(i64, i64),
    PruneOperations(i64),
    Pages(Option<usize>, i64),
}

fn call() -> impl Strategy<Value = Call> {
    let few = || 0..NAMES.len();
    let maybe = || proptest::option::of(0..NAMES.len());
    let kind = proptest::sample::select(OperationKind::ALL.to_vec());
    let owners = prop_oneof![
        few().prop_map(Call::EnsureOwner),
        (few(), 0..4_i64).prop_map(|(owner, max)| Call::SetQuotas(owner, max)),
        few().prop_map(Call::Allow),
        few().prop_map(Call::Disallow),
    ];
    let access = prop_oneof![
        (few(), few(), proptest::option::of(0..90_000_i64))
            .prop_map(|(owner, id, until)| Call::AddToken(owner, id, until)),
        few().prop_map(Call::PresentToken),
        (few(), maybe()).prop_map(|(id, owner)| Call::RevokeToken(id, owner)),
        (few(), few()).prop_map(|(owner, token)| Call::AddSession(owner, token)),
        few().prop_map(Call::Session),
        (few(), 0..90_000_i64).prop_map(|(id, until)| Call::TakeSignature(id, until)),
    ];
    let intents = prop_oneof![
        2 => (few(), few(), any::<bool>(), maybe())
            .prop_map(|(owner, id, default, key)| Call::Create(owner, id, default, key)),
        3 => (few(), maybe(), kind, 0..3_usize, maybe())
            .prop_map(|(agent, owner, kind, arguments, key)| Call::Request(agent, owner, kind, arguments, key)),
    ];
    let lease = || 0..3_000_i64;
    let work = prop_oneof![
        4 => (few(), lease()).prop_map(|(worker, until)| Call::Claim(worker, until)),
        1 => (few(), lease()).prop_map(|(grip, until)| Call::Renew(grip, until)),
        2 => (few(), 0..3_usize).prop_map(|(grip, step)| Call::BeginStep(grip, step)),
        2 => (few(), 0..3_usize, 0..5_usize).prop_map(|(grip, step, change)| Call::FinishStep(grip, step, change)),
        1 => (few(), few()).prop_map(|(grip, what)| Call::KeepNotes(grip, what)),
        2 => (few(), any::<bool>()).prop_map(|(grip, well)| Call::End(grip, well)),
        1 => (few(), lease()).prop_map(|(grip, after)| Call::PutBack(grip, after)),
    ];
    let rest = prop_oneof![
        (few(), lease()).prop_map(|(holder, until)| Call::HoldLease(holder, until)),
        few().prop_map(Call::GiveLeaseBack),
        (few(), 0..6_i64, 0..5_usize)
            .prop_map(|(agent, revision, state)| Call::Observe(agent, revision, state)),
        (few(), 0..4_usize).prop_map(|(agent, count)| Call::SetBackups(agent, count)),
        (0..90_000_i64, 0..5_i64).prop_map(|(before, keep)| Call::PruneEvents(before, keep)),
        (0..90_000_i64).prop_map(Call::PruneOperations),
        (maybe(), 0..4_i64).prop_map(|(after, limit)| Call::Pages(after, limit)),
    ];
    prop_oneof![2 => owners, 2 => access, 4 => intents, 5 => work, 3 => rest]
}

/// One database and what a caller has of it.
struct Side {
    store: Store,
    grips: Vec<Grip>,
    now: i64,
    made: usize,
}

impl Side {
    /// What a call gives, as text.
    async fn answer(&mut self, call: &Call) -> String {
        self.now += 700;
        self.made += 1;
        match call {
            Call::Claim(..)
            | Call::Renew(..)
            | Call::BeginStep(..)
            | Call::FinishStep(..)
            | Call::KeepNotes(..)
            | Call::End(..)
            | Call::PutBack(..) => self.work(call).await,
            Call::AddToken(..)
            | Call::PresentToken(..)
            | Call::RevokeToken(..)
            | Call::AddSession(..)
            | Call::Session(..)
            | Call::TakeSignature(..) => self.access(call).await,
            Call::Create(..) | Call::Request(..) => self.intent(call).await,
            Call::Pages(after, limit) => self.pages(*after, *limit).await,
            _ => self.other(call).await,
        }
    }

    async fn access(&self, call: &Call) -> String {
        let (store, now) = (&self.store, self.now);
        match call {
            Call::AddToken(whose, id, until) => {
                let token = NewToken {
                    expires_at: *until,
                    created_at: now,
                    ..new_token(NAMES[*whose], NAMES[*id])
                };
                told(store.add_token("boss", &token).await)
            }
            Call::PresentToken(id) => told(
                store
                    .present_token(now, &format!("hash-of-{}", NAMES[*id]))
                    .await,
            ),
            Call::RevokeToken(id, whose) => {
                let whose = whose.map(|whose| NAMES[whose]);
                told(store.revoke_token(now, "boss", NAMES[*id], whose).await)
            }
            Call::AddSession(whose, token) => {
                let session = NewSession {
                    secret_hash: format!("{}-{}", NAMES[*whose], NAMES[*token]),
                    owner_id: NAMES[*whose].to_owned(),
                    token_id: token.checked_sub(1).map(|token| NAMES[token].to_owned()),
                    scope: Scope::Read,
                    csrf_token: "csrf".to_owned(),
                    created_at: now,
                    expires_at: now + 5_000,
                };
                told(store.add_session(&session).await)
            }
            Call::Session(id) => {
                let mut all = String::new();
                for token in NAMES {
                    let hash = format!("{}-{token}", NAMES[*id]);
                    all += &told(store.session(now, &hash).await);
                }
                all
            }
            Call::TakeSignature(id, until) => {
                told(store.take_signature(now, NAMES[*id], *until).await)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn intent(&self, call: &Call) -> String {
        let (store, now) = (&self.store, self.now);
        let key_of = |owner: usize, key_number: &Option<usize>, fingerprint: String| {
            key_number.map(|number| key(NAMES[owner], NAMES[number], &fingerprint))
        };
        match call {
            Call::Create(whose, id, is_default, key) => {
                let mut agent = new_agent(NAMES[*whose], NAMES[*id]);
                agent.is_default = *is_default;
                agent.sizes = Sizes {
                    vcpu: *id as i64,
                    ..agent.sizes
                };
                let operation = new_operation(&format!("op{}", self.made), OperationKind::Create);
                let key = key_of(*whose, key, format!("create {is_default}"));
                told(
                    store
                        .create_agent(now, &agent, &operation, key.as_ref())
                        .await,
                )
            }
            Call::Request(agent, whose, kind, arguments, key) => {
                let mut operation = new_operation(&format!("op{}", self.made), *kind);
                operation.arguments = json!({ "n": arguments, "text": NAMES[*arguments] });
                let request = OperationRequest {
                    agent_id: NAMES[*agent],
                    owner_id: whose.map(|whose| NAMES[whose]),
                    operation,
                    key: key_of(whose.unwrap_or(0), key, format!("{agent} {kind}")),
                    recover_cool_down: 2_000,
                };
                told(store.request_operation(now, &request).await)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn work(&mut self, call: &Call) -> String {
        let (store, now) = (&self.store, self.now);
        if let Call::Claim(worker, until) = call {
            let claimed = store.claim(now, NAMES[*worker], now + until).await;
            if let Ok(Some(Claimed { grip, .. })) = &claimed {
                self.grips.push(grip.clone());
            }
            return told(claimed);
        }
        let (Call::Renew(number, _)
        | Call::BeginStep(number, _)
        | Call::FinishStep(number, ..)
        | Call::KeepNotes(number, _)
        | Call::End(number, _)
        | Call::PutBack(number, _)) = call
        else {
            panic!("{call:?}")
        };
        // The newest ones, which may still count, and some that don't.
        let Some(grip) = self.grips.iter().rev().nth(*number) else {
            return "nothing held".to_owned();
        };
        match call {
            Call::Renew(_, until) => told(store.renew(grip, now + until).await),
            Call::BeginStep(_, step) => told(store.begin_step(now, grip, NAMES[*step]).await),
            Call::FinishStep(_, step, what) => {
                let next = (NAMES[*step], NAMES.get(step + 1).copied());
                let notes = json!({ "at": now, "what": what });
                told(
                    store
                        .finish_step(now, grip, next, &notes, &change(now, *what))
                        .await,
                )
            }
            Call::KeepNotes(_, what) => told(store.keep_notes(grip, &json!(NAMES[*what])).await),
            Call::End(_, true) => told(store.end_operation(now, grip, Ok(())).await),
            Call::End(_, false) => {
                let error = ErrorBody {
                    error: ErrorCode::Internal,
                    request_id: String::new(),
                    message: "ä\n\"".to_owned(),
                    hint: None,
                };
                told(store.end_operation(now, grip, Err(&error)).await)
            }
            Call::PutBack(_, after) => told(store.put_back(grip, now + after).await),
            other => panic!("{other:?}"),
        }
    }

    async fn other(&self, call: &Call) -> String {
        let (store, now) = (&self.store, self.now);
        match call {
            Call::EnsureOwner(id) => told(
                store
                    .ensure_owner("boss", &owner(NAMES[*id], quotas(3)))
                    .await,
            ),
            Call::SetQuotas(id, max) => told(
                store
                    .set_quotas(now, "boss", NAMES[*id], quotas(*max))
                    .await,
            ),
            Call::Allow(id) => {
                let entry = AllowEntry {
                    owner_id: NAMES[*id].to_owned(),
                    note: "ä".to_owned(),
                    added_by: "boss".to_owned(),
                    added_at: now,
                };
                told(store.allow(&entry).await)
            }
            Call::Disallow(id) => told(store.disallow(now, "boss", NAMES[*id]).await),
            Call::HoldLease(holder, until) => told(
                store
                    .hold_lease(now, "look", NAMES[*holder], now + until)
                    .await,
            ),
            Call::GiveLeaseBack(holder) => {
                told(store.give_lease_back("look", NAMES[*holder]).await)
            }
            Call::Observe(agent, revision, state) => {
                let one = |agent: &str| Observed {
                    agent_id: agent.to_owned(),
                    revision: *revision,
                    state: AgentState::ALL[*state],
                    startup_phase: StartupPhase::ALL[*state],
                    reason: state.is_multiple_of(2).then(|| "because".to_owned()),
                    stale_since: (*state == 3).then_some(now),
                    restarts: *revision,
                    restart_after: None,
                };
                told(
                    store
                        .record_observed(now, &[one(NAMES[*agent]), one(NAMES[0])])
                        .await,
                )
            }
            Call::SetBackups(agent, count) => {
                let seen: Vec<Backup> = (0..*count).map(|number| backup(now, number)).collect();
                told(store.set_backups(NAMES[*agent], &seen, now - 2_000).await)
            }
            Call::PruneEvents(before, keep) => told(store.prune_events(*before, *keep).await),
            Call::PruneOperations(before) => told(store.prune_operations(*before).await),
            other => panic!("{other:?}"),
        }
    }

    /// All that can be read, in pages from `after`.
    async fn pages(&self, after: Option<usize>, limit: i64) -> String {
        let (store, after) = (&self.store, after.map(|after| NAMES[after]));
        let mut all = vec![
            told(store.owners(after, limit).await),
            told(store.allow_list(after, limit).await),
            told(store.audit_log(None, limit).await),
            told(store.open_operations().await),
            told(store.events_after(EventScope::All, limit, limit).await),
            told(store.newest_event_id().await),
            told(store.has_operator_token(self.now).await),
        ];
        for name in NAMES {
            let filter = AgentFilter {
                owner_id: Some(name),
                deleted: limit == 1,
                state: None,
            };
            all.extend([
                told(store.agents(filter, Page { after, limit }).await),
                told(store.agent(name, after, limit == 1).await),
                told(store.default_agent(name).await),
                told(store.usage(name).await),
                told(store.tokens(name, after, limit).await),
                told(store.operations_of(name, None, limit).await),
                told(store.open_operation(name).await),
                told(store.backups(name).await),
                told(store.newest_events(name, limit).await),
                told(store.events_after(EventScope::Owner(name), 2, limit).await),
                told(store.events_after(EventScope::Agent(name), 2, limit).await),
            ]);
        }
        for number in 0..=self.made {
            let id = format!("op{number}");
            all.push(told(store.operation(&id, after).await));
            all.push(told(store.steps_of(&id).await));
        }
        all.join("\n")
    }
}

fn quotas(max: i64) -> Quotas {
    Quotas {
        agents_max: max,
        vcpu_max: 2 * max,
        memory_mib_max: 4096,
        disk_gib_max: 1000,
        backups_max: max,
    }
}

fn backup(now: i64, number: usize) -> Backup {
    Backup {
        name: NAMES[number].to_owned(),
        reason: if number == 0 { "requested" } else { "found" }.to_owned(),
        created_at: now,
    }
}

fn change(now: i64, what: usize) -> AgentChange {
    AgentChange {
        generation: (what == 1).then_some(now.unsigned_abs()),
        volume_made: what == 2,
        deleted_until: (what == 3).then_some(now + 1_000),
        purged: what == 4,
        backup: (what == 1).then(|| backup(now, 0)),
    }
}

/// Databases word their errors differently; that there is one, and for what, is the same.
fn told<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn both_databases_give_the_same_answers() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    });
    let calls = proptest::collection::vec(call(), 1..CALLS_MAX);
    let outcome = runner.run(&calls, |calls| {
        let (sqlite, postgres) = runtime.block_on(both(&calls));
        for (one, other) in sqlite.iter().zip(&postgres) {
            prop_assert_eq!(one, other);
        }
        Ok(())
    });
    outcome.unwrap();
}

/// The answers of both to all calls, each with its call, and to a look at everything after them.
async fn both(calls: &[Call]) -> (Vec<String>, Vec<String>) {
    let places = [Place::sqlite().await, Place::postgres().await];
    let mut answers = Vec::new();
    for place in &places {
        let store = place.open().await;
        let mut side = Side {
            store,
            grips: Vec::new(),
            now: 0,
            made: 0,
        };
        let mut all = Vec::new();
        for id in [0, 1] {
            side.answer(&Call::EnsureOwner(id)).await;
        }
        for call in calls.iter().chain([&Call::Pages(None, 1000)]) {
            all.push(format!("{call:?}: {}", side.answer(call).await));
        }
        side.store.close().await;
        answers.push(all);
    }
    let postgres = answers.pop().unwrap();
    (answers.pop().unwrap(), postgres)
}
