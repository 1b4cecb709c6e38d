//! The janitor: takes what is ours and over, and nothing else.

use jiff::Timestamp;
use pika_cloud::Ownership;
use pika_incus::InstanceStatus;
use pika_runtime::{Destroyed, SweptKind};

use crate::support::Stage;

fn until(stage: &Stage, deadline: &str) -> Ownership {
    Ownership {
        deadline: Some(deadline.to_owned()),
        ..stage.ownership()
    }
}

#[tokio::test]
async fn only_what_is_ours_and_over_is_swept() {
    let stage = Stage::tiny().await;
    let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    let ensure = async |what: &str, ownership: Ownership| {
        stage
            .runtimes
            .ensure(&stage.plan(what), &ownership)
            .await
            .unwrap()
    };
    let over = ensure("over", until(&stage, "2026-11-21T09:00:00Z")).await;
    let leased = ensure("leased", until(&stage, "2026-11-21T11:00:00Z")).await;
    let forever = ensure("forever", stage.ownership()).await;
    let theirs = Ownership {
        owner: "somebody-else".parse().unwrap(),
        ..until(&stage, "2026-11-21T09:00:00Z")
    };
    let theirs_plan = stage.plan("theirs");
    let body = stage
        .runtimes
        .resolve(&theirs_plan, &theirs)
        .await
        .unwrap()
        .create_body;
    stage
        .client()
        .create_instance(&body)
        .await
        .unwrap()
        .wait(crate::support::LIMIT)
        .await
        .unwrap();
    let volume = stage.incus.name("old");
    let lease = until(&stage, "2026-11-21T09:00:00Z");
    stage
        .runtimes
        .ensure_volume(over.project(), "default", &volume, "v", &lease)
        .await
        .unwrap();

    let report = stage.runtimes.janitor_sweep(now).await;
    assert!(report.is_clean(), "{report:?}");
    let names: Vec<&str> = report
        .swept
        .iter()
        .map(|swept| swept.name.as_str())
        .collect();
    assert_eq!(names, [over.instance_name(), volume.as_str()]);
    assert!(
        report
            .swept
            .iter()
            .all(|swept| swept.end == Destroyed::Destroyed),
        "{report:?}"
    );
    assert_eq!(
        report.swept[1].kind,
        SweptKind::Volume {
            pool: "default".to_owned()
        }
    );
    assert_eq!(report.kept, 2);
    let theirs_name = theirs_plan.identity.instance_name;
    for name in [
        leased.instance_name(),
        forever.instance_name(),
        &theirs_name,
    ] {
        assert_eq!(stage.status(name).await, InstanceStatus::Running, "{name}");
    }
    let again = stage.runtimes.janitor_sweep(now).await;
    assert_eq!((again.swept.len(), again.kept), (0, 2));

    stage.remove_foreign(&theirs_name).await;
    for runtime in [&leased, &forever] {
        assert!(
            stage
                .runtimes
                .destroy(&runtime.id)
                .await
                .unwrap()
                .is_absent()
        );
    }
    stage.incus.assert_nothing_left().await;
}
