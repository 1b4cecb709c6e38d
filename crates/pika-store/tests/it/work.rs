//! Work: an operation has one worker at a time, who is told when it has been taken over and then changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use pika_managed_agent_contract::{ErrorBody, ErrorCode, OperationKind, OperationState};
use pika_store::{AgentChange, Backup, EventScope, Grip, StillHeld, Store};
use serde_json::json;
use tokio::task::JoinSet;

use crate::fixtures::{
    HELD, PLENTY, accept, add_owner, claim, create, create_done, end, new_agent, request,
};
use crate::place::{Place, on_both, race};

on_both!(
    many_workers_never_hold_the_same_operation,
    operations_of_an_agent_come_one_after_the_other,
    an_expired_lease_is_taken_over_and_the_old_worker_changes_nothing,
    a_lease_that_is_renewed_is_not_taken,
    what_is_put_back_waits_and_goes_on_at_its_step,
    a_step_leaves_its_marks_once,
    a_step_that_is_begun_again_can_be_finished,
    a_last_step_that_was_done_is_done_again_and_the_operation_ends,
    a_failure_is_kept_with_its_reason,
    a_worker_and_a_stop_at_the_same_time_both_come_through,
    a_lease_has_one_holder,
);

const NOTHING: AgentChange = AgentChange {
    generation: None,
    volume_made: false,
    deleted_until: None,
    purged: false,
    backup: None,
};

async fn with_agents(place: &Place, count: usize) -> Store {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    for number in 0..count {
        create(&store, 10, &new_agent("o1", &format!("a{number}"))).await;
    }
    store
}

async fn many_workers_never_hold_the_same_operation(place: Place) {
    let store = with_agents(&place, 12).await;
    for number in 0..12 {
        let id = format!("a{number}");
        accept(
            &store,
            11,
            &request(&id, &format!("r{number}"), OperationKind::Restart),
        )
        .await;
    }
    let taken = race(&place, 20, async |store: Store, number| {
        let worker = format!("w{number}");
        let mut taken = Vec::new();
        while let Some(claimed) = store.claim(20, &worker, 1000).await.unwrap() {
            assert_eq!(claimed.operation.worker.as_deref(), Some(&*worker));
            assert_eq!(store.renew(&claimed.grip, 1000).await.unwrap(), HELD);
            end(&store, 21, &claimed).await;
            taken.push((claimed.operation.id, claimed.grip.fence));
        }
        taken
    });
    let mut taken: Vec<(String, i64)> = taken.await.into_iter().flatten().collect();
    // On PostgreSQL a worker leaves what another one just holds; none of it may be left for good.
    while let Some(claimed) = store.claim(22, "last", 1000).await.unwrap() {
        end(&store, 23, &claimed).await;
        taken.push((claimed.operation.id, claimed.grip.fence));
    }
    let ids: BTreeSet<&String> = taken.iter().map(|(id, _)| id).collect();
    assert_eq!((ids.len(), taken.len()), (24, 24), "{taken:?}");
    assert!(taken.iter().all(|(_, fence)| *fence == 1), "{taken:?}");
    let events = store.events_after(EventScope::All, 0, 1000).await.unwrap();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for event in events {
        *kinds.entry(event.kind).or_default() += 1;
    }
    let expected = [
        "operation_finished",
        "operation_requested",
        "operation_started",
    ];
    assert_eq!(kinds, expected.map(|kind| (kind.to_owned(), 24)).into());
}

async fn operations_of_an_agent_come_one_after_the_other(place: Place) {
    let store = with_agents(&place, 1).await;
    accept(
        &store,
        11,
        &request("a0", "restart", OperationKind::Restart),
    )
    .await;
    let first = claim(&store, 20, "w1").await;
    assert_eq!(first.operation.id, "create-a0");
    assert!(store.claim(21, "w2", 200).await.unwrap().is_none());
    let open = store.open_operation("a0").await.unwrap().unwrap();
    assert_eq!(open.id, "create-a0");
    end(&store, 22, &first).await;
    let all = store.open_operations().await.unwrap();
    assert_eq!(all["a0"].id, "restart");
    let second = claim(&store, 23, "w2").await;
    assert_eq!(second.operation.id, "restart");
    end(&store, 24, &second).await;
    assert_eq!(store.open_operation("a0").await.unwrap(), None);
    assert!(store.open_operations().await.unwrap().is_empty());
}

/// Each call that a worker makes, and what it is told.
async fn calls(store: &Store, grip: &Grip) -> Vec<StillHeld> {
    let error = ErrorBody {
        error: ErrorCode::Internal,
        request_id: String::new(),
        message: "late".to_owned(),
        hint: None,
    };
    let change = AgentChange {
        generation: Some(7),
        volume_made: true,
        ..NOTHING
    };
    vec![
        store.renew(grip, 9000).await.unwrap(),
        store.begin_step(150, grip, "late").await.unwrap(),
        store
            .finish_step(
                151,
                grip,
                ("s1", Some("late")),
                &json!({"late": 1}),
                &change,
            )
            .await
            .unwrap(),
        store.keep_notes(grip, &json!({"late": 2})).await.unwrap(),
        store.put_back(grip, 0).await.unwrap(),
        store.end_operation(152, grip, Ok(())).await.unwrap(),
        store.end_operation(153, grip, Err(&error)).await.unwrap(),
    ]
}

async fn an_expired_lease_is_taken_over_and_the_old_worker_changes_nothing(place: Place) {
    let store = with_agents(&place, 1).await;
    let old = claim(&store, 20, "w1").await;
    assert_eq!(store.begin_step(21, &old.grip, "s1").await.unwrap(), HELD);
    assert!(store.claim(119, "w2", 500).await.unwrap().is_none());
    let new = store.claim(120, "w2", 500).await.unwrap().unwrap();
    assert_eq!(new.operation.id, old.operation.id);
    assert_eq!(new.operation.step.as_deref(), Some("s1"));
    assert_eq!(new.operation.started_at, Some(20), "it was begun once");
    assert!(new.grip.fence > old.grip.fence);

    let before = (
        store.operation("create-a0", None).await.unwrap(),
        store.steps_of("create-a0").await.unwrap(),
        store.agent("a0", None, true).await.unwrap(),
        store.newest_event_id().await.unwrap(),
    );
    assert_eq!(calls(&store, &old.grip).await, [StillHeld::Lost; 7]);
    let unknown = Grip {
        operation_id: "none".to_owned(),
        fence: 1,
    };
    assert_eq!(calls(&store, &unknown).await, [StillHeld::Lost; 7]);
    let after = (
        store.operation("create-a0", None).await.unwrap(),
        store.steps_of("create-a0").await.unwrap(),
        store.agent("a0", None, true).await.unwrap(),
        store.newest_event_id().await.unwrap(),
    );
    assert_eq!(before, after);

    // The new one may; and when it is over, nobody may.
    assert_eq!(store.begin_step(160, &new.grip, "s1").await.unwrap(), HELD);
    end(&store, 161, &new).await;
    assert_eq!(calls(&store, &new.grip).await, [StillHeld::Lost; 7]);
    let steps = store.steps_of("create-a0").await.unwrap();
    let told: Vec<_> = steps
        .iter()
        .map(|step| (&*step.step, step.fence, &*step.worker, step.finished_at))
        .collect();
    assert_eq!(told, [("s1", 1, "w1", None), ("s1", 2, "w2", None)]);
}

async fn a_lease_that_is_renewed_is_not_taken(place: Place) {
    let store = with_agents(&place, 1).await;
    let held = claim(&store, 20, "w1").await;
    for now in [100, 250, 400] {
        assert_eq!(store.renew(&held.grip, now + 200).await.unwrap(), HELD);
        assert!(store.claim(now + 199, "w2", 9000).await.unwrap().is_none());
    }
    let taken = store.claim(600, "w2", 9000).await.unwrap().unwrap();
    assert_eq!(taken.grip.fence, held.grip.fence + 1);
}

async fn what_is_put_back_waits_and_goes_on_at_its_step(place: Place) {
    let store = with_agents(&place, 1).await;
    accept(&store, 11, &request("a0", "behind", OperationKind::Restart)).await;
    let held = claim(&store, 20, "w1").await;
    store.begin_step(21, &held.grip, "s1").await.unwrap();
    let notes = json!({ "tries": 2 });
    let done = store
        .finish_step(
            22,
            &held.grip,
            ("s1", Some("s2")),
            &json!({ "tries": 1 }),
            &NOTHING,
        )
        .await;
    assert_eq!(done.unwrap(), HELD);
    let kept = store.keep_notes(&held.grip, &notes).await;
    assert_eq!(kept.unwrap(), HELD);
    assert_eq!(store.put_back(&held.grip, 500).await.unwrap(), HELD);
    assert_eq!(store.renew(&held.grip, 900).await.unwrap(), StillHeld::Lost);
    // What waits for a while is not passed by what came later.
    assert!(store.claim(499, "w2", 900).await.unwrap().is_none());
    let again = store.claim(500, "w2", 900).await.unwrap().unwrap();
    assert_eq!(again.operation.id, "create-a0");
    assert_eq!(again.operation.step.as_deref(), Some("s2"));
    assert_eq!(again.operation.notes, notes);
    assert_eq!(again.grip.fence, 2);
}

async fn a_step_leaves_its_marks_once(place: Place) {
    let store = with_agents(&place, 1).await;
    let held = claim(&store, 20, "w1").await;
    store.begin_step(21, &held.grip, "s1").await.unwrap();
    let backup = Backup {
        name: "snap".to_owned(),
        reason: "before".to_owned(),
        created_at: 22,
    };
    let change = AgentChange {
        generation: Some(3),
        volume_made: true,
        backup: Some(backup.clone()),
        ..NOTHING
    };
    let finish = async |now| {
        let next = ("s1", Some("s2"));
        store
            .finish_step(now, &held.grip, next, &json!({}), &change)
            .await
    };
    assert_eq!(finish(22).await.unwrap(), HELD);
    let agent = store.agent("a0", None, false).await.unwrap().unwrap();
    assert_eq!(
        (agent.generation, agent.volume_made_at, agent.revision),
        (3, Some(22), 2)
    );
    assert_eq!(store.backups("a0").await.unwrap(), [backup]);
    let events = store.newest_event_id().await.unwrap();

    // Of a step that is done nothing is written again; one that was never begun is not done.
    assert_eq!(finish(23).await.unwrap(), HELD);
    let next = ("never", None);
    let never = store
        .finish_step(24, &held.grip, next, &json!({"x": 1}), &change)
        .await;
    never.unwrap_err();
    assert_eq!(
        store.agent("a0", None, false).await.unwrap().unwrap(),
        agent
    );
    assert_eq!(store.newest_event_id().await.unwrap(), events);
    let operation = store.operation("create-a0", None).await.unwrap().unwrap();
    assert_eq!(
        (operation.step.as_deref(), operation.notes),
        (Some("s2"), json!({}))
    );
}

/// A worker that dies between its last step and the operation's end leaves that step to be done again.
async fn a_last_step_that_was_done_is_done_again_and_the_operation_ends(place: Place) {
    let store = with_agents(&place, 1).await;
    let dead = claim(&store, 20, "w1").await;
    store.begin_step(21, &dead.grip, "last").await.unwrap();
    let change = AgentChange {
        volume_made: true,
        ..NOTHING
    };
    let finish = async |now, grip: &Grip| {
        let last = ("last", None);
        store
            .finish_step(now, grip, last, &json!({}), &change)
            .await
            .unwrap()
    };
    assert_eq!(finish(22, &dead.grip).await, HELD);
    let next = claim(&store, 120, "w2").await;
    assert_eq!(next.operation.step.as_deref(), Some("last"));
    store.begin_step(121, &next.grip, "last").await.unwrap();
    let before = store.newest_event_id().await.unwrap();
    assert_eq!(finish(122, &next.grip).await, HELD);
    assert_eq!(store.newest_event_id().await.unwrap(), before);
    end(&store, 123, &next).await;
    let steps = store.steps_of("create-a0").await.unwrap();
    let told: Vec<_> = steps
        .iter()
        .map(|step| (step.fence, step.finished_at))
        .collect();
    assert_eq!(told, [(1, Some(22)), (2, None)]);
    let agent = store.agent("a0", None, false).await.unwrap().unwrap();
    assert_eq!((agent.volume_made_at, agent.revision), (Some(22), 2));
}

async fn a_step_that_is_begun_again_can_be_finished(place: Place) {
    let store = with_agents(&place, 1).await;
    let held = claim(&store, 20, "w1").await;
    for now in [21, 22] {
        assert_eq!(store.begin_step(now, &held.grip, "s1").await.unwrap(), HELD);
    }
    let next = ("s1", Some("s2"));
    let done = store
        .finish_step(23, &held.grip, next, &json!({}), &NOTHING)
        .await;
    assert_eq!(done.unwrap(), HELD);
    let steps = store.steps_of("create-a0").await.unwrap();
    let told: Vec<_> = steps
        .iter()
        .map(|step| (step.started_at, step.finished_at))
        .collect();
    assert_eq!(told, [(21, None), (22, Some(23))]);
}

async fn a_failure_is_kept_with_its_reason(place: Place) {
    let store = with_agents(&place, 1).await;
    let held = claim(&store, 20, "w1").await;
    let error = ErrorBody {
        error: ErrorCode::RecoverFailed,
        request_id: String::new(),
        message: "\"it\" didn't boot – again".to_owned(),
        hint: Some("look".to_owned()),
    };
    let ended = store.end_operation(21, &held.grip, Err(&error)).await;
    assert_eq!(ended.unwrap(), HELD);
    let operation = store.operation("create-a0", None).await.unwrap().unwrap();
    assert_eq!(operation.state, OperationState::Failed);
    assert_eq!(operation.error, Some(error));
    assert_eq!((operation.worker, operation.lease_until), (None, None));
    assert_eq!(operation.finished_at, Some(21));
}

/// A worker's steps and an owner's stops touch the same two rows; neither may make the other fail.
async fn a_worker_and_a_stop_at_the_same_time_both_come_through(place: Place) {
    let store = place.open().await;
    add_owner(&store, "o1", PLENTY).await;
    let mut tasks = JoinSet::new();
    for number in 0..40 {
        let agent = format!("a{number}");
        create_done(&store, 10, &new_agent("o1", &agent)).await;
        accept(
            &store,
            11,
            &request(&agent, &format!("r{number}"), OperationKind::Restart),
        )
        .await;
        let held = claim(&store, 20, "w").await;
        store.begin_step(21, &held.grip, "s1").await.unwrap();
        let (worker, asker) = (store.clone(), store.clone());
        tasks.spawn(async move {
            let next = ("s1", None);
            let done = worker
                .finish_step(22, &held.grip, next, &json!({}), &NOTHING)
                .await;
            assert!(matches!(done.unwrap(), StillHeld::Yes { .. }));
            end(&worker, 23, &held).await;
        });
        tasks.spawn(async move {
            accept(
                &asker,
                22,
                &request(&agent, &format!("s{number}"), OperationKind::Stop),
            )
            .await;
        });
        if number % 4 == 3 {
            while let Some(outcome) = tasks.join_next().await {
                outcome.unwrap();
            }
            while let Some(claimed) = store.claim(30, "w", 100).await.unwrap() {
                end(&store, 31, &claimed).await;
            }
        }
    }
    assert_eq!(
        place
            .number("SELECT COUNT(*) FROM operations WHERE state = 'succeeded'")
            .await,
        120
    );
}

async fn a_lease_has_one_holder(place: Place) {
    let store = place.open().await;
    let held = race(&place, 20, async |store: Store, number| {
        let holder = format!("h{number}");
        let lease = store.hold_lease(10, "look", &holder, 100).await.unwrap();
        lease.map(|lease| (holder, lease.fence))
    });
    let held: Vec<(String, i64)> = held.await.into_iter().flatten().collect();
    let [(holder, fence)] = &*held else {
        panic!("{held:?}")
    };
    // Kept by who has it, refused to others until its end, then another's with a larger number.
    let kept = store
        .hold_lease(50, "look", holder, 200)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((kept.fence, kept.until), (*fence, 200));
    assert_eq!(
        store.hold_lease(199, "look", "other", 900).await.unwrap(),
        None
    );
    let taken = store
        .hold_lease(200, "look", "other", 300)
        .await
        .unwrap()
        .unwrap();
    assert!(taken.fence > kept.fence);
    assert_eq!(
        store.hold_lease(201, "look", holder, 900).await.unwrap(),
        None
    );
    // Only its holder gives it back.
    store.give_lease_back("look", holder).await.unwrap();
    assert_eq!(
        store.hold_lease(202, "look", holder, 900).await.unwrap(),
        None
    );
    store.give_lease_back("look", "other").await.unwrap();
    let again = store
        .hold_lease(203, "look", holder, 900)
        .await
        .unwrap()
        .unwrap();
    assert!(again.fence > taken.fence);
    assert!(
        store
            .hold_lease(204, "another", "x", 900)
            .await
            .unwrap()
            .is_some()
    );
}
