//! Looks into guests, honest and hostile.

use pika_cloud::LifecycleState;
use pika_runtime::{
    ControlError, GuestLook, GuestLookError, GuestStatus, MountSeen, Power, RuntimeId,
};
use pikahut::fake::{GuestNode, ScriptedGuest};
use serde_json::json;

use super::stage::{Agent, AgentStage, PROJECT, STATE};

async fn look(stage: &AgentStage, agent: &Agent) -> GuestLook {
    stage.runtimes.guest_look(&agent.id, STATE).await.unwrap()
}

pub(super) async fn a_guest_tells_its_state_in_this_boot(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    let first = look(stage, &agent).await;
    assert_eq!(first.status, GuestStatus::Missing);
    let boot = first.boot_id.clone().expect("a boot has an id");
    let MountSeen::Mounted(mount) = &first.mount else {
        panic!("{first:?}");
    };
    assert!(
        mount.root.ends_with(&agent.volume) && !mount.read_only,
        "{mount:?}"
    );
    assert!(!first.is_ready());

    stage.say(&agent, "ready", None).await;
    let ready = look(stage, &agent).await;
    assert!(ready.is_ready(), "{ready:?}");
    assert_eq!(ready.boot_id.as_ref(), Some(&boot));

    // A word from another boot says nothing of this one.
    stage.say(&agent, "ready", Some("0-another-boot")).await;
    let stale = look(stage, &agent).await;
    let of_another = GuestStatus::OfAnotherBoot {
        boot_id: "0-another-boot".to_owned(),
    };
    assert_eq!(stale.status, of_another);
    assert!(!stale.is_ready());
    let seen = stage.runtimes.inspect(&agent.id).await.unwrap();
    assert_eq!(seen.state, LifecycleState::Booted);

    stage.runtimes.restart(&agent.id).await.unwrap();
    let again = look(stage, &agent).await;
    assert_ne!(again.boot_id.expect("a boot has an id"), boot);
    if let Some(fake) = stage.as_fake() {
        let name = agent.id.instance_name();
        let details = json!({ "crash_loop": true, "unit": "u", "restarts": 5, "result": "signal" });
        assert!(fake.guest(name).says(LifecycleState::Failed, details));
        let failed = look(stage, &agent).await;
        assert_eq!(failed.crash_loop.and_then(|found| found.restarts), Some(5));
        let after = std::time::Duration::from_millis(20);
        fake.set_scripted_guest(Some(ScriptedGuest::ready_after(after)));
        stage.runtimes.restart(&agent.id).await.unwrap();
        crate::support::until("the scripted guest is ready", || async {
            look(stage, &agent).await.is_ready()
        })
        .await;
    }
    stage.remove(&agent).await;
}

pub(super) async fn a_volume_that_is_not_mounted_is_seen(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    stage.say(&agent, "ready", None).await;
    let name = agent.id.instance_name();
    match stage.as_fake() {
        Some(fake) => assert!(fake.guest(name).unmounts(STATE)),
        // A file system over the parent directory hides it as well.
        None => drop(
            stage
                .sh(&agent, "mount -t tmpfs none /mnt; mkdir /mnt/pika-state")
                .await,
        ),
    }
    let hidden = look(stage, &agent).await;
    assert_eq!(hidden.mount, MountSeen::NotMounted);
    assert!(matches!(hidden.status, GuestStatus::Said(_)));
    assert!(!hidden.is_ready(), "whatever it says");
    let elsewhere = stage.runtimes.guest_look(&agent.id, "/run").await.unwrap();
    assert_eq!(elsewhere.mount, MountSeen::NotMounted);
    if let Some(fake) = stage.as_fake() {
        assert!(fake.guest(name).shows_mounts(&"x".repeat(1 << 20)));
        let endless = look(stage, &agent).await;
        assert!(
            matches!(endless.mount, MountSeen::Unknown { .. }),
            "{endless:?}"
        );
    }
    stage.remove(&agent).await;
}

pub(super) async fn a_hostile_status_is_no_status(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    let name = agent.id.instance_name();
    let hostile = [
        (GuestNode::Fifo, "mkfifo status.json"),
        (
            GuestNode::Symlink("/dev/zero".to_owned()),
            "ln -s /dev/zero status.json",
        ),
        (GuestNode::Directory, "mkdir status.json"),
        (
            GuestNode::File(vec![b' '; 300_000]),
            "head -c 300000 /dev/zero >status.json",
        ),
        (
            GuestNode::File(b"\xff{nonsense".to_vec()),
            "echo '{nonsense' >status.json",
        ),
        (
            GuestNode::Symlink("/nowhere".to_owned()),
            "ln -s /nowhere status.json",
        ),
    ];
    for (node, script) in hostile {
        match stage.as_fake() {
            Some(fake) => assert!(fake.guest(name).has_in_place_of_status(node)),
            None => {
                let fresh = "rm -rf /run/pika-cloud; mkdir -p /run/pika-cloud; cd /run/pika-cloud";
                stage.sh(&agent, &format!("{fresh}; {script}")).await;
            }
        }
        let seen = look(stage, &agent).await;
        assert!(
            matches!(seen.status, GuestStatus::Unreadable { .. }),
            "{script}: {seen:?}"
        );
        assert!(seen.boot_id.is_some() && !seen.is_ready());
    }
    stage.remove(&agent).await;
}

pub(super) async fn a_guest_that_is_not_there_is_told_apart(stage: &AgentStage) {
    let agent = stage.running("agent").await;
    stage.stop(&agent).await;
    let look = async |id: &RuntimeId| stage.runtimes.guest_look(id, STATE).await.unwrap_err();
    let stopped = look(&agent.id).await;
    assert!(
        matches!(
            stopped,
            GuestLookError::NotRunning {
                power: Power::Stopped,
                ..
            }
        ),
        "{stopped}"
    );
    let gone = look(&stage.agent("gone").id).await;
    assert!(
        matches!(gone, GuestLookError::Instance(ControlError::Gone { .. })),
        "{gone}"
    );
    let theirs = stage.foreign("theirs", json!({}), true).await;
    let not_ours = look(&RuntimeId::new("x", &theirs, PROJECT)).await;
    assert!(
        matches!(
            not_ours,
            GuestLookError::Instance(ControlError::NotOurs { .. })
        ),
        "{not_ours}"
    );
    stage.remove_foreign(&theirs).await;
    stage.remove(&agent).await;
}
