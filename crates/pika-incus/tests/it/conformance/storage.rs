use pika_incus::{ErrorKind, SnapshotExpiry, VolumeContent, VolumeCopy};
use serde_json::json;

use crate::support::{LIMIT, Subject, config};

async fn volume(s: &Subject, what: &str) -> String {
    let name = s.name(what);
    let labels = config(&[("user.mark", &s.prefix)]);
    s.client
        .create_volume(&s.pool, &name, VolumeContent::Filesystem, &labels)
        .await
        .expect("create");
    name
}

pub(crate) async fn volume_life(s: &Subject) {
    let name = volume(s, "v").await;
    let error = s
        .client
        .create_volume(&s.pool, &name, VolumeContent::Filesystem, &config(&[]))
        .await
        .expect_err("the name is taken");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let mut found = s.client.volume(&s.pool, &name).await.expect("get");
    assert_eq!(
        (found.value.kind.as_str(), found.value.content_type.as_str()),
        ("custom", "filesystem")
    );
    assert_eq!(found.value.config.get("user.mark"), Some(&s.prefix));
    found
        .value
        .config
        .insert("user.step".to_owned(), "1".to_owned());
    let etag = found.etag.expect("a volume has an ETag");
    s.client
        .update_volume(&s.pool, &found.value, Some(&etag))
        .await
        .expect("the tag is fresh");
    let error = s
        .client
        .update_volume(&s.pool, &found.value, Some(&etag))
        .await
        .expect_err("the tag is old");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    let error = s
        .client
        .patch_volume(&s.pool, &name, &config(&[("user.more", "1")]), Some(&etag))
        .await
        .expect_err("the tag is old");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    let patches = [
        &[("user.more", "2"), ("user.gone", "1")][..],
        &[("user.gone", "")],
    ];
    for patch in patches {
        let fresh = s.client.volume(&s.pool, &name).await.expect("get").etag;
        s.client
            .patch_volume(&s.pool, &name, &config(patch), fresh.as_ref())
            .await
            .expect("patch");
    }
    s.client
        .volume_state(&s.pool, &name)
        .await
        .expect("a volume has a state, whether or not its pool counts bytes");
    let now = s
        .client
        .volume(&s.pool, &name)
        .await
        .expect("get")
        .value
        .config;
    assert_eq!(
        ["user.mark", "user.step", "user.more"].map(|key| now.get(key).map(String::as_str)),
        [Some(s.prefix.as_str()), Some("1"), Some("2")]
    );
    assert!(!now.contains_key("user.gone"), "{now:?}");
    assert!(
        s.client
            .volumes(&s.pool)
            .await
            .expect("list")
            .iter()
            .any(|one| one.name == name)
    );
    s.client
        .delete_volume(&s.pool, &name)
        .await
        .expect("delete");
    let gone = s.client.volume(&s.pool, &name).await.expect_err("deleted");
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
}

pub(crate) async fn snapshots(s: &Subject) {
    let name = volume(s, "v").await;
    let make = s
        .client
        .create_volume_snapshot(&s.pool, &name, "s1", &SnapshotExpiry::OfVolume)
        .await
        .expect("snapshot");
    make.wait(LIMIT).await.expect("the snapshot ends");
    let listed = s
        .client
        .volume_snapshots(&s.pool, &name)
        .await
        .expect("list");
    assert_eq!(
        listed
            .iter()
            .map(|one| one.name.as_str())
            .collect::<Vec<_>>(),
        ["s1"]
    );
    assert!(
        s.client
            .volumes(&s.pool)
            .await
            .expect("list")
            .iter()
            .all(|one| !one.name.contains('/'))
    );
    s.client
        .restore_volume_snapshot(&s.pool, &name, "s1")
        .await
        .expect("restore");
    let delete = s
        .client
        .delete_volume_snapshot(&s.pool, &name, "s1")
        .await
        .expect("delete");
    delete.wait(LIMIT).await.expect("the delete ends");
    assert!(
        s.client
            .volume_snapshots(&s.pool, &name)
            .await
            .expect("list")
            .is_empty()
    );
    s.client
        .delete_volume(&s.pool, &name)
        .await
        .expect("delete");
}

/// Where a snapshot's expiry comes from, and what marks it.
pub(crate) async fn snapshot_expiry(s: &Subject) {
    let name = volume(s, "v").await;
    let expiry = config(&[("snapshots.expiry", "7d"), ("snapshots.schedule", "@daily")]);
    s.client
        .patch_volume(&s.pool, &name, &expiry, None)
        .await
        .expect("a schedule is taken");
    let nonsense = config(&[("snapshots.schedule", "now and then")]);
    s.client
        .patch_volume(&s.pool, &name, &nonsense, None)
        .await
        .expect_err("a schedule is checked");
    let at = "2031-02-03T04:05:06Z";
    for (snapshot, expiry) in [
        ("a", SnapshotExpiry::OfVolume),
        ("b", SnapshotExpiry::Never),
        ("c", SnapshotExpiry::At(at.to_owned())),
    ] {
        let make = s
            .client
            .create_volume_snapshot(&s.pool, &name, snapshot, &expiry);
        let make = make.await.expect("snapshot");
        make.wait(LIMIT).await.expect("the snapshot ends");
    }
    let error = SnapshotExpiry::At("tomorrow".to_owned());
    let error = s
        .client
        .create_volume_snapshot(&s.pool, &name, "d", &error)
        .await
        .expect_err("no time");
    assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    s.client
        .describe_volume_snapshot(&s.pool, &name, "c", "whole")
        .await
        .expect("describe");
    let mut listed = s
        .client
        .volume_snapshots(&s.pool, &name)
        .await
        .expect("list");
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    let [a, b, c] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert!(
        a.expires_at.is_some() && b.expires_at.is_none(),
        "{listed:?}"
    );
    assert_eq!(
        (c.expires_at.as_deref(), c.description.as_str()),
        (Some(at), "whole"),
        "a description changes nothing else"
    );
    assert_eq!((a.description.as_str(), b.description.as_str()), ("", ""));
    s.client
        .delete_volume(&s.pool, &name)
        .await
        .expect("a volume goes with its snapshots");
}

/// What a restore does to the configuration, and what stands in its way.
pub(crate) async fn restore(s: &Subject) {
    let instance = s.name("a");
    let name = volume(s, "v").await;
    let never = SnapshotExpiry::Never;
    let make = s
        .client
        .create_volume_snapshot(&s.pool, &name, "s1", &never);
    let make = make.await.expect("snapshot");
    make.wait(LIMIT).await.expect("the snapshot ends");
    let later = config(&[("user.later", "1")]);
    s.client
        .patch_volume(&s.pool, &name, &later, None)
        .await
        .expect("patch");
    let read = async || s.client.volume(&s.pool, &name).await.expect("get");
    s.client
        .restore_volume_snapshot(&s.pool, &name, "s1")
        .await
        .expect("restore");
    let kept = read().await;
    assert!(
        kept.value.config.contains_key("user.later"),
        "it stays as it is"
    );
    let mut becomes = kept.value.clone();
    becomes.config.remove("user.later");
    becomes
        .config
        .insert("user.token".to_owned(), "op".to_owned());
    s.client
        .restore_volume(&s.pool, &becomes, "s1", kept.etag.as_ref())
        .await
        .expect("restore with a configuration");
    assert_eq!(read().await.value.config, becomes.config);
    let old = kept.etag.as_ref();
    let error = s.client.restore_volume(&s.pool, &becomes, "s1", old).await;
    let error = error.expect_err("the tag is old");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    s.client
        .restore_volume(&s.pool, &becomes, "none", None)
        .await
        .expect_err("there is no such snapshot");

    let mut body = s.body(&instance, true);
    body["devices"] =
        json!({ "data": { "type": "disk", "pool": s.pool, "source": name, "path": "/data" } });
    let made = s.client.create_instance(&body).await.expect("create");
    made.wait(LIMIT).await.expect("the create ends");
    s.client
        .restore_volume_snapshot(&s.pool, &name, "s1")
        .await
        .expect_err("a running instance uses it");
    s.remove_instance(&instance).await;
    s.client
        .delete_volume(&s.pool, &name)
        .await
        .expect("delete");
}

/// The server picks by labels whose keys hold dots.
pub(crate) async fn volumes_by_label(s: &Subject) {
    let (one, other) = (volume(s, "v").await, volume(s, "w").await);
    let mark = config(&[("user.dotted.key", "x")]);
    s.client
        .patch_volume(&s.pool, &one, &mark, None)
        .await
        .expect("patch");
    let find = async |expression: String| {
        let found = s.client.volumes_matching(&s.pool, &expression).await;
        let found = found.expect("list");
        found
            .into_iter()
            .map(|volume| volume.name)
            .collect::<Vec<_>>()
    };
    let both = format!(
        "config.user.mark eq {} and config.user.dotted.key eq x",
        s.prefix
    );
    assert_eq!(find(both).await, std::slice::from_ref(&one));
    let mut all = find(format!("config.user.mark eq {}", s.prefix)).await;
    all.sort();
    assert_eq!(all, [one.clone(), other.clone()]);
    assert!(
        find("config.user.mark eq nobody".to_owned())
            .await
            .is_empty()
    );
    for name in [one, other] {
        s.client
            .delete_volume(&s.pool, &name)
            .await
            .expect("delete");
    }
}

pub(crate) async fn copy(s: &Subject) {
    let name = volume(s, "v").await;
    let target = s.name("copy");
    let make = s
        .client
        .create_volume_snapshot(&s.pool, &name, "s1", &SnapshotExpiry::OfVolume)
        .await
        .expect("snapshot");
    make.wait(LIMIT).await.expect("the snapshot ends");
    for source in [name.clone(), format!("{name}/s1")] {
        let copy = VolumeCopy {
            source_pool: s.pool.clone(),
            source_volume: source.clone(),
            source_project: None,
            name: target.clone(),
            config: config(&[("user.copied", &source)]),
            volume_only: true,
        };
        let copying = s.client.copy_volume(&s.pool, &copy).await.expect("copy");
        copying.wait(LIMIT).await.expect("the copy ends");
        let made = s
            .client
            .volume(&s.pool, &target)
            .await
            .expect("the copy is there")
            .value;
        assert_eq!(made.config.get("user.copied"), Some(&source));
        assert!(
            s.client
                .volume_snapshots(&s.pool, &target)
                .await
                .expect("list")
                .is_empty()
        );
        s.client
            .delete_volume(&s.pool, &target)
            .await
            .expect("delete");
    }
    s.client
        .delete_volume(&s.pool, &name)
        .await
        .expect("delete");
}

pub(crate) async fn attached_volume_is_in_use(s: &Subject) {
    let instance = s.name("a");
    let name = volume(s, "v").await;
    let mut body = s.body(&instance, true);
    body["devices"] =
        json!({ "data": { "type": "disk", "pool": s.pool, "source": name, "path": "/data" } });
    s.client
        .create_instance(&body)
        .await
        .expect("create")
        .wait(LIMIT)
        .await
        .expect("the create ends");
    let error = s
        .client
        .delete_volume(&s.pool, &name)
        .await
        .expect_err("it is attached");
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    assert_eq!(
        s.client
            .volume(&s.pool, &name)
            .await
            .expect("get")
            .value
            .used_by
            .len(),
        1
    );
    s.remove_instance(&instance).await;
    s.client
        .delete_volume(&s.pool, &name)
        .await
        .expect("it is free now");
}
