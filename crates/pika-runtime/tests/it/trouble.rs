//! What an operator gets wrong: each with a typed outcome and a text that says what to do.

use std::os::unix::fs::PermissionsExt;

use pika_cloud::ResolveError;
use pika_incus::ErrorKind;
use pika_runtime::{
    Destroyed, EnsureError, FactsError, ResolvePlanError, RuntimeConfig, Runtimes, Timeouts,
};
use pikahut::stack::told;
use serde_json::json;

use crate::support::{Stage, client_at, config, id_of};

fn facts(error: &EnsureError) -> &FactsError {
    match error {
        EnsureError::Resolve(ResolvePlanError::Facts(error)) => error,
        other => panic!("{}", told(other)),
    }
}

#[tokio::test]
async fn a_missing_image_says_which_command_makes_it() {
    let stage = Stage::tiny().await;
    let incus = json!({ "project": "default", "profile": "default", "image_alias": "pikaci/nothing", "instance_type": "container" });
    let plan = stage.plan_with("image", json!({ "incus": incus }));
    let error = stage
        .runtimes
        .ensure(&plan, &stage.ownership())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            EnsureError::Resolve(ResolvePlanError::Plan(ResolveError::ImageMissing { .. }))
        ),
        "{error:?}"
    );
    assert!(
        told(&error).contains("pika image build-import"),
        "{}",
        told(&error)
    );
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_stale_image_says_which_command_mends_it() {
    let stage = Stage::tiny().await;
    // An image without a contract version is as stale as one with another version.
    let strict = Runtimes::new(stage.client().clone(), config(&stage.incus));
    let error = strict
        .ensure(&stage.plan("stale"), &stage.ownership())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            EnsureError::Resolve(ResolvePlanError::Plan(ResolveError::StaleImage { .. }))
        ),
        "{error:?}"
    );
    assert!(
        told(&error).contains("pika image build-import"),
        "{}",
        told(&error)
    );
    stage.incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_virtual_machine_that_can_not_be_had_says_why() {
    let stage = Stage::tiny().await;
    let incus = json!({ "project": "default", "profile": "default", "image_alias": stage.image, "instance_type": "virtual_machine" });
    let plan = stage.plan_with("vm", json!({ "incus": incus }));
    let error = stage
        .runtimes
        .ensure(&plan, &stage.ownership())
        .await
        .unwrap_err();
    let text = told(&error);
    let plan_error = matches!(
        error,
        EnsureError::Resolve(ResolvePlanError::Plan(
            ResolveError::VirtualMachinesUnavailable { .. }
                | ResolveError::ImageTypeMismatch { .. }
        ))
    );
    assert!(plan_error && text.contains("container"), "{text}");
}

#[tokio::test]
async fn a_missing_profile_or_pool_is_named() {
    let stage = Stage::tiny().await;
    let with = |profile: &str, pool: &str| {
        let incus = json!({ "project": "default", "profile": profile, "image_alias": stage.image, "storage_pool": pool });
        stage.plan_with("names", json!({ "incus": incus }))
    };
    let error = stage
        .runtimes
        .ensure(&with("no-such", "default"), &stage.ownership())
        .await
        .unwrap_err();
    assert!(
        matches!(facts(&error), FactsError::ProfileMissing { .. }),
        "{}",
        told(&error)
    );
    let error = stage
        .runtimes
        .ensure(&with("default", "no-such"), &stage.ownership())
        .await
        .unwrap_err();
    assert!(
        matches!(facts(&error), FactsError::PoolMissing { .. }),
        "{}",
        told(&error)
    );
    assert!(
        told(&error).contains("incus storage list"),
        "{}",
        told(&error)
    );
}

#[tokio::test]
async fn no_daemon_is_unreachable_with_a_remedy_and_destroy_says_unknown() {
    let stage = Stage::tiny().await;
    let nowhere = tempfile::tempdir().unwrap();
    let timeouts = Timeouts {
        reconnect: std::time::Duration::from_millis(300),
        ..Timeouts::default()
    };
    let config = RuntimeConfig {
        timeouts,
        ..config(&stage.incus)
    };
    let runtimes = Runtimes::new(client_at(&nowhere.path().join("unix.socket")), config);
    let plan = stage.plan("nobody");
    let error = runtimes
        .ensure(&plan, &stage.ownership())
        .await
        .unwrap_err();
    let FactsError::Incus { source } = facts(&error) else {
        panic!("{error:?}")
    };
    assert_eq!(source.kind(), ErrorKind::Unreachable);
    assert!(told(&error).contains("start Incus"), "{}", told(&error));

    let end = runtimes.destroy(&id_of(&plan)).await.unwrap();
    let Destroyed::Unknown { why } = end else {
        panic!("{end:?}")
    };
    assert!(why.contains("there is no socket"), "{why}");
}

/// Runs as a user without rights to the socket: the test starts itself again as that user.
#[tokio::test]
async fn no_permission_on_the_socket_is_forbidden_with_a_remedy() {
    const SOCKET: &str = "PIKA_RUNTIME_TEST_SOCKET";
    if let Some(socket) = std::env::var_os(SOCKET) {
        let runtimes = Runtimes::new(
            client_at(socket.as_ref()),
            RuntimeConfig::new("test-nobody".parse().unwrap()),
        );
        let id = pika_runtime::RuntimeId::new("r", "nobody", "default");
        let end = runtimes.destroy(&id).await.unwrap();
        let Destroyed::Unknown { why } = end else {
            panic!("{end:?}")
        };
        assert!(
            why.contains("incus-admin") || why.contains("may not open"),
            "{why}"
        );
        return;
    }
    let stage = Stage::tiny().await;
    let copy = tempfile::tempdir().unwrap();
    std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = copy.path().join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args([
            "--exact",
            "trouble::no_permission_on_the_socket_is_forbidden_with_a_remedy",
        ])
        .env(SOCKET, stage.incus.socket())
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
