//! Importing on a real daemon: aliases, rollback, several at once, and nothing left of what failed.

use pika_image::{
    AliasChange, ImageState, ImportError, ImportRequest, Silent, check, import, list, rollback,
};
use pika_incus::ImageRoot;
use pika_incus_guest_role::IncusGuestRole;
use pikahut::stack::TestIncus;

use crate::samples::{delete, image, is_there, target};

const ROLE: IncusGuestRole = IncusGuestRole::PikaciRunner;

#[tokio::test]
async fn a_second_import_of_the_same_image_does_nothing() {
    let incus = TestIncus::shared().await;
    let client = incus.client();
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest::under(incus.name("alias"));
    let one = image(directory.path(), &incus.name("one"));

    let first = import(client, &one, &request, &Silent).await.unwrap();
    assert!(first.uploaded);
    assert_eq!(first.alias_change, AliasChange::Created);
    let stored = client.image(&one.fingerprint).await.unwrap().value;
    for (name, value) in &one.properties {
        assert_eq!(stored.properties.get(name), Some(value), "{name}");
    }

    let second = import(client, &one, &request, &Silent).await.unwrap();
    assert!(!second.uploaded);
    assert_eq!(second.alias_change, AliasChange::Unchanged);
    delete(client, &[&one]).await;
}

#[tokio::test]
async fn the_image_that_lost_the_alias_is_kept_and_one_more_is_not() {
    let incus = TestIncus::shared().await;
    let client = incus.client();
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest::under(incus.name("alias"));
    let images: Vec<_> = (0..3)
        .map(|n| image(directory.path(), &incus.name(&n.to_string())))
        .collect();
    for image in &images[..2] {
        import(client, image, &request, &Silent).await.unwrap();
    }
    let records = list(client).await.unwrap();
    let kept = records
        .iter()
        .find(|record| record.fingerprint == images[0].fingerprint)
        .unwrap();
    assert_eq!(kept.rollback_for.as_deref(), Some(request.alias.as_str()));
    assert_eq!(kept.role.as_deref(), Some("pikaci-runner"));

    let third = import(client, &images[2], &request, &Silent).await.unwrap();
    assert_eq!(
        third.alias_change,
        AliasChange::Switched {
            from: images[1].fingerprint.clone()
        }
    );
    assert_eq!(third.deleted, [images[0].fingerprint.clone()]);
    assert!(!is_there(client, &images[0].fingerprint).await);
    assert!(is_there(client, &images[1].fingerprint).await);

    let back = rollback(client, &request, &Silent).await.unwrap();
    assert_eq!(back.fingerprint, images[1].fingerprint);
    assert_eq!(
        target(client, &request.alias).await,
        Some(images[1].fingerprint.clone())
    );
    let forward = rollback(client, &request, &Silent).await.unwrap();
    assert_eq!(forward.fingerprint, images[2].fingerprint);
    delete(client, &[&images[1], &images[2]]).await;
}

#[tokio::test]
async fn without_an_earlier_image_there_is_nothing_to_go_back_to() {
    let incus = TestIncus::shared().await;
    let request = ImportRequest::under(incus.name("alias"));
    let error = rollback(incus.client(), &request, &Silent)
        .await
        .unwrap_err();
    assert!(matches!(error, ImportError::NothingToRollBack { .. }));
}

#[tokio::test]
async fn two_imports_of_one_image_at_once_both_succeed() {
    let incus = TestIncus::shared().await;
    let client = incus.client();
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest::under(incus.name("alias"));
    let one = image(directory.path(), &incus.name("one"));
    let (a, b) = tokio::join!(
        import(client, &one, &request, &Silent),
        import(client, &one, &request, &Silent)
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.fingerprint, b.fingerprint);
    assert_eq!(
        target(client, &request.alias).await,
        Some(one.fingerprint.clone())
    );
    delete(client, &[&one]).await;
}

#[tokio::test]
async fn imports_of_different_images_at_once_leave_one_in_front_and_one_behind() {
    let incus = TestIncus::shared().await;
    let client = incus.client();
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest::under(incus.name("alias"));
    let images: Vec<_> = (0..4)
        .map(|n| image(directory.path(), &incus.name(&n.to_string())))
        .collect();
    let outcomes = futures_util::future::join_all(
        images
            .iter()
            .map(|image| import(client, image, &request, &Silent)),
    )
    .await;
    for outcome in outcomes {
        outcome.unwrap();
    }
    let current = target(client, &request.alias).await.unwrap();
    assert!(images.iter().any(|image| image.fingerprint == current));
    // One more import settles what the racing ones left to each other.
    let winner = images
        .iter()
        .find(|image| image.fingerprint == current)
        .unwrap();
    import(client, winner, &request, &Silent).await.unwrap();
    let mut left = 0;
    for image in &images {
        left += usize::from(is_there(client, &image.fingerprint).await);
    }
    assert_eq!(left, 2);
    delete(client, &images.iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn an_image_that_the_server_refuses_leaves_nothing() {
    let incus = TestIncus::shared().await;
    let client = incus.client();
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest::under(incus.name("alias"));
    let broken = image(directory.path(), &incus.name("broken"));
    std::fs::write(&broken.metadata, "no archive").unwrap();
    let error = import(client, &broken, &request, &Silent)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ImportError::Store { .. } | ImportError::Server { .. }
        ),
        "{error:?}"
    );
    assert_eq!(target(client, &request.alias).await, None);
    let left = client.images().await.unwrap();
    assert!(
        !left.iter().any(|image| image
            .properties
            .get("pika.input_digest")
            .is_some_and(|digest| *digest == broken.input_digest)),
        "the refused image is there"
    );
}

#[tokio::test]
async fn a_file_that_changed_after_the_build_is_noticed_and_removed() {
    let incus = TestIncus::shared().await;
    let client = incus.client();
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest::under(incus.name("alias"));
    let mut changed = image(directory.path(), &incus.name("changed"));
    changed.fingerprint = "0".repeat(64);
    let error = import(client, &changed, &request, &Silent)
        .await
        .unwrap_err();
    let ImportError::Fingerprint { stored, .. } = error else {
        panic!("{error:?}");
    };
    assert!(!is_there(client, &stored).await);
    assert_eq!(target(client, &request.alias).await, None);
}

#[tokio::test]
async fn a_check_tells_missing_ready_and_stale_apart() {
    let incus = TestIncus::shared().await;
    let client = incus.client();
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest::under(incus.name("alias"));
    let one = image(directory.path(), &incus.name("one"));
    let alias = request.alias.as_str();

    let missing = check(client, ROLE, alias, None).await.unwrap();
    assert_eq!(missing.state, ImageState::Missing);
    assert_eq!(
        missing.remedy,
        Some(format!(
            "pika image build-import --role pikaci-runner --alias {alias}"
        ))
    );

    import(client, &one, &request, &Silent).await.unwrap();
    let ready = check(client, ROLE, alias, Some(&one.input_digest))
        .await
        .unwrap();
    assert_eq!(ready.state, ImageState::Ready);
    assert_eq!(ready.remedy, None);

    let other_inputs = check(client, ROLE, alias, Some("of today")).await.unwrap();
    assert!(
        matches!(&other_inputs.state, ImageState::Stale { reasons } if reasons.len() == 1),
        "{other_inputs:?}"
    );
    let other_role = check(client, IncusGuestRole::PiSandbox, alias, None)
        .await
        .unwrap();
    assert!(matches!(other_role.state, ImageState::Stale { .. }));
    delete(client, &[&one]).await;
}

#[tokio::test]
async fn images_of_others_are_neither_listed_nor_deleted() {
    let incus = TestIncus::shared().await;
    let client = incus.client();
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest::under(incus.name("alias"));
    let foreign = image(directory.path(), &incus.name("foreign"));
    client
        .import_image_split(
            &foreign.metadata,
            &foreign.rootfs,
            ImageRoot::FileSystem,
            // As if kept for this alias, but not ours.
            &[("pika.rollback_for".to_owned(), request.alias.clone())].into(),
        )
        .await
        .unwrap()
        .wait(std::time::Duration::from_secs(60))
        .await
        .unwrap();
    let one = image(directory.path(), &incus.name("one"));
    let request = ImportRequest {
        rollback_keep: 0,
        ..request
    };
    import(client, &one, &request, &Silent).await.unwrap();
    assert!(is_there(client, &foreign.fingerprint).await);
    let listed = list(client).await.unwrap();
    assert!(
        !listed
            .iter()
            .any(|record| record.fingerprint == foreign.fingerprint)
    );
    delete(client, &[&foreign, &one]).await;
}
