//! Objects that the fake has no model of.

use pika_incus::{ErrorKind, Network};
use serde_json::json;

use crate::support::{self, LIMIT, config, unified_image};

#[tokio::test]
async fn a_network_is_made_changed_and_deleted() {
    let s = support::real().await;
    let mut network = Network {
        name: s.name("n"),
        kind: "bridge".to_owned(),
        config: config(&[("ipv4.address", "none"), ("ipv6.address", "none")]),
        ..Network::default()
    };
    s.client.create_network(&network).await.expect("create");
    let found = s.client.network(&network.name).await.expect("get");
    assert!(found.value.managed);
    network.config.insert("user.x".to_owned(), "1".to_owned());
    s.client
        .update_network(&network, found.etag.as_ref())
        .await
        .expect("the tag is fresh");
    let error = s
        .client
        .update_network(&network, found.etag.as_ref())
        .await
        .expect_err("the tag is old");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    s.client
        .delete_network(&network.name)
        .await
        .expect("delete");
    let gone = s.client.network(&network.name).await.expect_err("deleted");
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    s.finish().await;
}

#[tokio::test]
async fn a_pool_is_made_and_deleted_and_a_used_one_is_not() {
    let s = support::real().await;
    let name = s.name("pool");
    s.client
        .create_pool(&name, "dir", &config(&[("user.x", "1")]))
        .await
        .expect("create");
    let found = s.client.pool(&name).await.expect("get").value;
    assert_eq!(
        (found.driver.as_str(), found.status.as_str()),
        ("dir", "Created")
    );
    assert!(
        s.client
            .pool_resources(&name)
            .await
            .expect("resources")
            .space
            .total
            > 0
    );
    s.client.delete_pool(&name).await.expect("delete");
    let error = s.client.delete_pool(&s.pool).await.expect_err("it is used");
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    let error = s
        .client
        .delete_profile("default")
        .await
        .expect_err("the default profile stays");
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Forbidden | ErrorKind::InUse | ErrorKind::InvalidRequest
        ),
        "{error}"
    );
    s.finish().await;
}

#[tokio::test]
async fn an_instance_goes_back_to_its_snapshot() {
    let s = support::real().await;
    let name = s.instance("a", false).await;
    let make = s
        .client
        .create_instance_snapshot(&name, "s1")
        .await
        .expect("snapshot");
    make.wait(LIMIT).await.expect("the snapshot ends");
    s.client
        .patch_instance(&name, &json!({ "config": { "user.after": "yes" } }))
        .await
        .expect("patch");
    let listed = s.client.instance_snapshots(&name).await.expect("list");
    assert_eq!(
        listed
            .iter()
            .map(|one| one.name.as_str())
            .collect::<Vec<_>>(),
        ["s1"]
    );
    let restore = s
        .client
        .restore_instance_snapshot(&name, "s1")
        .await
        .expect("restore");
    restore.wait(LIMIT).await.expect("the restore ends");
    let found = s.client.instance(&name).await.expect("get").value;
    assert_eq!(found.config.get("user.after"), None);
    let delete = s
        .client
        .delete_instance_snapshot(&name, "s1")
        .await
        .expect("delete");
    delete.wait(LIMIT).await.expect("the delete ends");
    let renamed = s.name("b");
    s.client
        .rename_instance(&name, &renamed)
        .await
        .expect("rename")
        .wait(LIMIT)
        .await
        .expect("the rename ends");
    assert_eq!(
        s.client.instance(&name).await.expect_err("renamed").kind(),
        ErrorKind::NotFound
    );
    s.remove_instance(&renamed).await;
    s.finish().await;
}

#[tokio::test]
async fn an_image_in_one_file_is_imported() {
    let s = support::real().await;
    let dir = tempfile::tempdir().expect("a directory");
    let image = unified_image(dir.path(), &s.name("one"));
    let import = s
        .client
        .import_image_unified(&image, &config(&[("x", "1")]))
        .await
        .expect("upload");
    let ended = import.wait(LIMIT).await.expect("the import ends");
    let fingerprint = ended.metadata["fingerprint"]
        .as_str()
        .expect("a fingerprint");
    assert_eq!(
        s.client
            .image(fingerprint)
            .await
            .expect("get")
            .value
            .filename,
        "unified.tar"
    );
    let delete = s.client.delete_image(fingerprint).await.expect("delete");
    delete.wait(LIMIT).await.expect("the delete ends");
    s.finish().await;
}

#[tokio::test]
async fn warnings_and_certificates_are_lists() {
    let s = support::real().await;
    // A daemon without AppArmor, or without virtual machines, warns; one that has everything has none.
    let warnings = s.client.warnings().await.expect("list");
    assert!(
        warnings
            .iter()
            .all(|warning| !warning.kind.is_empty() && !warning.severity.is_empty()),
        "{warnings:?}"
    );
    s.client.certificates().await.expect("list");
    s.finish().await;
}
