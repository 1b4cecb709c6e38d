//! A project of our own in a daemon that is not: made, made again, and removed with everything in it.

use std::time::Duration;

use pika_incus::{Filter, VolumeContent};
use pikahut::stack::{self, TestIncus};
use pikahut::system::{self, SystemError};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_marked_project_comes_and_goes_and_a_foreign_one_stays() {
    let incus = TestIncus::private("system").await;
    let client = incus.client();
    for _ in 0..2 {
        let made = system::ensure_project(client, "pika-demo", "/checkout")
            .await
            .unwrap();
        assert_eq!(made.pool, "default");
    }
    let inside = client.with_project("pika-demo");
    let folder = tempfile::tempdir().unwrap();
    let image = stack::ensure_tiny_image(&inside, folder.path())
        .await
        .unwrap();
    let name = incus.name("inside");
    let body = json!({"name": name, "type": "container", "start": true, "source": {"type": "image", "alias": image}});
    inside
        .create_instance(&body)
        .await
        .unwrap()
        .wait(LIMIT)
        .await
        .unwrap();
    let config = pika_incus::Config::new();
    inside
        .create_volume("default", "cache", VolumeContent::Filesystem, &config)
        .await
        .unwrap();

    let error = system::remove_project(client, "pika-demo", "/other")
        .await
        .unwrap_err();
    assert!(matches!(error, SystemError::NotOurs { .. }), "{error}");
    assert_eq!(inside.instances(&Filter::all()).await.unwrap().len(), 1);
    let error = system::remove_project(client, "default", "/checkout")
        .await
        .unwrap_err();
    assert!(matches!(error, SystemError::NotOurs { .. }), "{error}");

    system::remove_project(client, "pika-demo", "/checkout")
        .await
        .unwrap();
    let projects = client.projects().await.unwrap();
    assert!(projects.iter().all(|project| project.name != "pika-demo"));
    system::remove_project(client, "pika-demo", "/checkout")
        .await
        .unwrap();
}
