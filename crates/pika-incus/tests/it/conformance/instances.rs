use pika_incus::{ErrorKind, Filter, InstanceKind, InstanceStatus, StateChange};
use serde_json::json;

use crate::support::{LIMIT, Subject};

pub(crate) async fn life(s: &Subject) {
    let name = s.instance("a", true).await;
    let found = s.client.instance(&name).await.expect("get").value;
    assert_eq!(found.kind, InstanceKind::Container);
    assert_eq!(found.status, InstanceStatus::Running);
    assert_eq!(found.config.get("user.mark"), Some(&s.prefix));
    assert!(!found.never_started());
    let state = s.client.instance_state(&name).await.expect("state");
    assert!(state.status.is_running() && state.pid > 0, "{state:?}");
    assert!(state.started_at.is_some(), "{state:?}");

    let filter = Filter::matching(format!("config.user.mark eq {}", s.prefix));
    let listed = s.client.instances(&filter).await.expect("list");
    assert_eq!(
        listed
            .iter()
            .map(|one| one.name.as_str())
            .collect::<Vec<_>>(),
        [name.as_str()]
    );
    let with_state = s
        .client
        .instances(&Filter::with_state())
        .await
        .expect("list with state");
    assert!(
        with_state
            .iter()
            .any(|one| one.name == name && one.state.as_ref().is_some_and(|state| state.pid > 0))
    );

    for (change, wanted) in [
        (StateChange::freeze(), InstanceStatus::Frozen),
        (StateChange::unfreeze(), InstanceStatus::Running),
        (StateChange::force_stop(), InstanceStatus::Stopped),
        (StateChange::start(), InstanceStatus::Running),
    ] {
        let operation = s
            .client
            .set_instance_state(&name, &change)
            .await
            .expect("state change");
        operation.wait(LIMIT).await.expect("the change ends");
        assert_eq!(
            s.client.instance(&name).await.expect("get").value.status,
            wanted,
            "{change:?}"
        );
    }
    s.remove_instance(&name).await;
}

pub(crate) async fn not_started(s: &Subject) {
    let name = s.instance("a", false).await;
    let found = s.client.instance(&name).await.expect("get").value;
    assert_eq!(found.status, InstanceStatus::Stopped);
    assert!(found.never_started(), "{:?}", found.last_used_at);
    let state = s.client.instance_state(&name).await.expect("state");
    assert_eq!((state.pid, state.started_at), (0, None));
    s.remove_instance(&name).await;
}

pub(crate) async fn duplicate_create(s: &Subject) {
    let name = s.instance("a", false).await;
    let again = s
        .client
        .create_instance(&s.body(&name, true))
        .await
        .expect("the call itself is accepted");
    let error = again.wait(LIMIT).await.expect_err("the name is taken");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(!error.outcome_unknown(), "{error}");
    let found = s
        .client
        .instance(&name)
        .await
        .expect("the first one is still there")
        .value;
    assert_eq!(found.status, InstanceStatus::Stopped);
    s.remove_instance(&name).await;
}

pub(crate) async fn delete_of_a_running_one(s: &Subject) {
    let name = s.instance("a", true).await;
    let error = s
        .client
        .delete_instance(&name)
        .await
        .expect_err("it is running");
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    assert!(!error.outcome_unknown());
    assert_eq!(
        s.client.instance(&name).await.expect("get").value.status,
        InstanceStatus::Running
    );
    s.remove_instance(&name).await;
}

pub(crate) async fn update_with_an_old_tag(s: &Subject) {
    let name = s.instance("a", false).await;
    let before = s.client.instance(&name).await.expect("get");
    let etag = before.etag.expect("an instance has an ETag");
    let put = |value: &str| {
        let mut config = before.value.config.clone();
        config.insert("user.step".to_owned(), value.to_owned());
        json!({
            "config": config,
            "devices": before.value.devices,
            "profiles": before.value.profiles,
            "architecture": before.value.architecture,
        })
    };
    let first = s
        .client
        .update_instance(&name, &put("1"), Some(&etag))
        .await
        .expect("the tag is fresh");
    first.wait(LIMIT).await.expect("the update ends");
    let error = s
        .client
        .update_instance(&name, &put("2"), Some(&etag))
        .await
        .expect_err("the tag is old");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    let now = s.client.instance(&name).await.expect("get");
    assert_eq!(
        now.value.config.get("user.step").map(String::as_str),
        Some("1")
    );
    assert_ne!(now.etag, Some(etag));
    s.remove_instance(&name).await;
}

pub(crate) async fn hot_config(s: &Subject) {
    let name = s.instance("a", true).await;
    s.client
        .patch_instance(&name, &json!({ "config": { "user.hot": "yes" } }))
        .await
        .expect("patch");
    let found = s.client.instance(&name).await.expect("get").value;
    assert_eq!(
        found.config.get("user.hot").map(String::as_str),
        Some("yes")
    );
    assert_eq!(
        found.config.get("user.mark"),
        Some(&s.prefix),
        "a patch leaves the other keys"
    );
    s.remove_instance(&name).await;
}

/// The server picks by labels whose keys hold dots, all of them.
pub(crate) async fn found_by_label(s: &Subject) {
    let names = [s.name("a"), s.name("b")];
    for (name, kind) in names.iter().zip(["one", "other"]) {
        let mut body = s.body(name, false);
        body["config"]["user.dotted.kind"] = json!(kind);
        let made = s.client.create_instance(&body).await.expect("create");
        made.wait(LIMIT).await.expect("the create ends");
    }
    let find = async |expression: String| {
        let found = s.client.instances(&Filter::matching(expression)).await;
        let found = found.expect("list");
        found.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    let marked = format!("config.user.mark eq {}", s.prefix);
    let one = find(format!("{marked} and config.user.dotted.kind eq one")).await;
    assert_eq!(one, names[..1]);
    let mut all = find(marked.clone()).await;
    all.sort();
    assert_eq!(all, names);
    let none = find(format!("{marked} and config.user.dotted.kind eq neither")).await;
    assert!(none.is_empty(), "{none:?}");
    for name in &names {
        s.remove_instance(name).await;
    }
}
