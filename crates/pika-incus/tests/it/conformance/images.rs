use pika_incus::{ErrorKind, ImageRoot};

use crate::support::{LIMIT, Subject, config, tiny_image};

/// Imports a tiny image and gives its fingerprint.
async fn import(s: &Subject, salt: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let (metadata, rootfs) = tiny_image(dir.path(), salt);
    let properties = config(&[("salt", salt), ("text", "a b & c=d")]);
    let import = s
        .client
        .import_image_split(&metadata, &rootfs, ImageRoot::FileSystem, &properties)
        .await
        .expect("the upload is accepted");
    let ended = import.wait(LIMIT).await.expect("the import ends");
    let fingerprint = ended.metadata["fingerprint"]
        .as_str()
        .expect("a fingerprint")
        .to_owned();
    let again = s
        .client
        .import_image_split(&metadata, &rootfs, ImageRoot::FileSystem, &properties)
        .await;
    let error = again
        .expect("the upload is accepted")
        .wait(LIMIT)
        .await
        .expect_err("it is there already");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    fingerprint
}

async fn delete(s: &Subject, fingerprint: &str) {
    s.client
        .delete_image(fingerprint)
        .await
        .expect("delete")
        .wait(LIMIT)
        .await
        .expect("the delete ends");
    let gone = s.client.image(fingerprint).await.expect_err("deleted");
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
}

pub(crate) async fn import_and_alias(s: &Subject) {
    let fingerprint = import(s, &s.name("one")).await;
    let image = s.client.image(&fingerprint).await.expect("get");
    assert_eq!(
        image.value.properties.get("text").map(String::as_str),
        Some("a b & c=d")
    );
    let mut properties = image.value.properties.clone();
    properties.insert("more".to_owned(), "yes".to_owned());
    s.client
        .update_image_properties(&fingerprint, &properties, image.etag.as_ref())
        .await
        .expect("update");
    let now = s
        .client
        .image(&fingerprint)
        .await
        .expect("get")
        .value
        .properties;
    assert_eq!(now, properties);

    let alias = format!("{}/dev", s.prefix);
    assert_eq!(s.client.alias(&alias).await.expect("look"), None);
    s.client
        .create_alias(&alias, &fingerprint, "a test")
        .await
        .expect("create");
    let error = s
        .client
        .create_alias(&alias, &fingerprint, "")
        .await
        .expect_err("the name is taken");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let found = s
        .client
        .alias(&alias)
        .await
        .expect("look")
        .expect("it is there")
        .value;
    assert_eq!(
        (found.target.as_str(), found.description.as_str()),
        (fingerprint.as_str(), "a test")
    );
    assert!(
        s.client
            .aliases()
            .await
            .expect("list")
            .iter()
            .any(|one| one.name == alias)
    );
    s.client.delete_alias(&alias).await.expect("delete");
    assert_eq!(s.client.alias(&alias).await.expect("look"), None);
    delete(s, &fingerprint).await;
}

pub(crate) async fn alias_switch_is_conditional(s: &Subject) {
    let (first, second) = (
        import(s, &s.name("one")).await,
        import(s, &s.name("two")).await,
    );
    let alias = s.name("switched");
    s.client
        .create_alias(&alias, &first, "")
        .await
        .expect("create");
    let before = s
        .client
        .alias(&alias)
        .await
        .expect("look")
        .expect("it is there");
    let etag = before.etag.expect("an alias has an ETag");
    s.client
        .update_alias(&alias, &second, Some(&etag))
        .await
        .expect("the tag is fresh");
    let error = s
        .client
        .update_alias(&alias, &first, Some(&etag))
        .await
        .expect_err("the tag is old");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    let now = s
        .client
        .alias(&alias)
        .await
        .expect("look")
        .expect("it is there")
        .value;
    assert_eq!(now.target, second);
    delete(s, &first).await;
    delete(s, &second).await;
    assert_eq!(
        s.client.alias(&alias).await.expect("look"),
        None,
        "an alias goes with its image"
    );
}
