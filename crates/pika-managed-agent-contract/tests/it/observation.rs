//! The table "state follows observation", row by row, and what holds for every observation.

use pika_cloud::LifecycleState;
use pika_managed_agent_contract::{
    AgentObservation, AgentState, AgentStatus, GuestReport, InstanceSeen, LastKnown, Reason,
    StartupPhase, Target, Work, derive_status,
};
use proptest::prelude::*;
use proptest::sample::select;

const RUNNING: InstanceSeen = InstanceSeen::Running { agent: true };

fn seen(instance: InstanceSeen, work: Work) -> AgentObservation {
    let (target, volume_mounted) = (Target::Running, true);
    AgentObservation {
        target,
        work,
        instance,
        volume_mounted,
        guest: None,
        crash_loop: None,
    }
}

fn guest(state: LifecycleState) -> AgentObservation {
    let report = GuestReport {
        state,
        probe_satisfied: false,
        message: "m".to_owned(),
    };
    AgentObservation {
        guest: Some(report),
        ..seen(RUNNING, Work::None)
    }
}

fn last() -> LastKnown {
    LastKnown {
        state: AgentState::Ready,
        phase: StartupPhase::Ready,
        reason: None,
    }
}

fn row(seen: &AgentObservation) -> (AgentState, StartupPhase, Option<Reason>) {
    let status = derive_status(seen, &last());
    assert!(!status.stale);
    (status.state, status.startup_phase, status.reason)
}

#[test]
fn an_agent_being_made_tells_how_far_it_is() {
    use StartupPhase::{BootingGuest, ProvisioningVm, Requested, WaitingForServiceReady};
    let rows = [
        (seen(InstanceSeen::Absent, Work::Requested), Requested),
        (
            seen(InstanceSeen::Absent, Work::Provisioning),
            ProvisioningVm,
        ),
        (
            seen(InstanceSeen::Starting, Work::Provisioning),
            BootingGuest,
        ),
        (
            seen(InstanceSeen::Running { agent: false }, Work::None),
            BootingGuest,
        ),
        (seen(RUNNING, Work::None), WaitingForServiceReady),
        (guest(LifecycleState::Booted), WaitingForServiceReady),
        (guest(LifecycleState::Starting), WaitingForServiceReady),
    ];
    for (seen, phase) in rows {
        assert_eq!(row(&seen), (AgentState::Creating, phase, None), "{seen:?}");
    }
    let mut probed = guest(LifecycleState::Starting);
    probed.guest.as_mut().unwrap().probe_satisfied = true;
    let phase = StartupPhase::WaitingForKeypackagePublish;
    assert_eq!(row(&probed), (AgentState::Creating, phase, None));
}

#[test]
fn ready_needs_the_volume() {
    let mut ready = guest(LifecycleState::Ready);
    assert_eq!(row(&ready), (AgentState::Ready, StartupPhase::Ready, None));
    ready.volume_mounted = false;
    let phase = StartupPhase::WaitingForServiceReady;
    assert_eq!(
        row(&ready),
        (AgentState::Creating, phase, Some(Reason::VolumeNotMounted))
    );
}

#[test]
fn a_guest_that_failed_or_is_over_is_an_error_with_its_reason() {
    let mut looping = guest(LifecycleState::Starting);
    looping.crash_loop = Some(5);
    let message = || "m".to_owned();
    let rows = [
        (
            guest(LifecycleState::Failed),
            Reason::ServiceFailed(message()),
        ),
        (
            guest(LifecycleState::Completed),
            Reason::ServiceCompleted(message()),
        ),
        (
            looping,
            Reason::CrashLoop {
                count: 5,
                message: message(),
            },
        ),
    ];
    for (seen, reason) in rows {
        assert_eq!(
            row(&seen),
            (AgentState::Error, StartupPhase::Failed, Some(reason))
        );
    }
}

#[test]
fn what_stopped_by_request_is_stopped_and_keeps_its_phase() {
    let mut stopped = seen(InstanceSeen::Stopped, Work::None);
    stopped.target = Target::Stopped;
    assert_eq!(
        row(&stopped),
        (AgentState::Stopped, StartupPhase::Ready, None)
    );
    stopped.instance = InstanceSeen::Absent;
    let gone = (AgentState::Error, StartupPhase::Failed, Some(Reason::Gone));
    assert_eq!(row(&stopped), gone);
    stopped.target = Target::Deleted;
    assert_eq!(
        row(&stopped),
        (AgentState::Deleting, StartupPhase::Ready, None)
    );
}

#[test]
fn what_went_down_unasked_is_recovered_then_an_error() {
    let rows = [
        (InstanceSeen::Stopped, Reason::StoppedUnasked),
        (InstanceSeen::Frozen, Reason::FrozenUnasked),
        (InstanceSeen::Absent, Reason::Gone),
    ];
    for (instance, reason) in rows {
        let (state, phase) = (AgentState::Creating, StartupPhase::BootingGuest);
        let recovering = row(&seen(instance, Work::Recovering));
        assert_eq!(recovering, (state, phase, Some(reason.clone())));
        let (state, phase) = (AgentState::Error, StartupPhase::Failed);
        assert_eq!(
            row(&seen(instance, Work::None)),
            (state, phase, Some(reason))
        );
    }
}

prop_compose! {
    fn any_observation()(
        target in select(vec![Target::Running, Target::Stopped, Target::Deleted]),
        work in select(vec![Work::None, Work::Requested, Work::Provisioning, Work::Recovering]),
        instance in select(vec![
            InstanceSeen::Unreachable, InstanceSeen::Absent, InstanceSeen::Starting, RUNNING,
            InstanceSeen::Running { agent: false }, InstanceSeen::Stopped, InstanceSeen::Frozen,
        ]),
        volume_mounted in any::<bool>(),
        guest in proptest::option::of((select(LifecycleState::ALL.to_vec()), any::<bool>())),
        crash_loop in proptest::option::of(1u32..9),
    ) -> AgentObservation {
        let guest = guest.map(|(state, probe_satisfied)| {
            GuestReport { state, probe_satisfied, message: String::new() }
        });
        AgentObservation { target, work, instance, volume_mounted, guest, crash_loop }
    }
}

proptest! {
    #[test]
    fn the_rules_hold_for_every_observation(
        seen in any_observation(),
        state in select(AgentState::ALL.to_vec()),
        phase in select(StartupPhase::ALL.to_vec()),
    ) {
        let last = LastKnown { state, phase, reason: Some(Reason::Gone) };
        let status = derive_status(&seen, &last);
        if seen.instance == InstanceSeen::Unreachable {
            let kept = AgentStatus {
                state, startup_phase: phase, reason: last.reason, stale: true,
            };
            prop_assert_eq!(status, kept);
            return Ok(());
        }
        prop_assert!(!status.stale);
        let is_ready = status.state == AgentState::Ready;
        let may_be_ready = seen.instance == RUNNING && seen.volume_mounted
            && seen.crash_loop.is_none() && seen.target != Target::Deleted
            && seen.guest.as_ref().is_some_and(|guest| guest.state == LifecycleState::Ready);
        prop_assert_eq!(is_ready, may_be_ready);
        prop_assert_eq!(status.state == AgentState::Deleting, seen.target == Target::Deleted);
        if status.state == AgentState::Error {
            prop_assert_eq!(status.startup_phase, StartupPhase::Failed);
            prop_assert!(status.reason.is_some());
        }
    }
}
