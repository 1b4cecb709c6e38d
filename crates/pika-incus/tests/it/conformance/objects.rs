use pika_incus::{ErrorKind, Profile, Project};

use crate::support::{Subject, config};

pub(crate) async fn server_facts(s: &Subject) {
    let server = s.client.server().await.expect("server");
    assert!(server.is_trusted());
    assert!(
        server.environment.has_driver("lxc"),
        "{}",
        server.environment.driver
    );
    assert!(
        !server.environment.has_driver("lx"),
        "a part of a name is no driver"
    );
    assert!(
        server.has_extension("instances") || server.has_extension("projects"),
        "{:?}",
        server.api_extensions
    );
    assert!(!server.environment.server_version.is_empty());
    assert!(
        server
            .environment
            .storage_supported_drivers
            .iter()
            .any(|driver| driver.name == "dir")
    );
}

pub(crate) async fn profiles(s: &Subject) {
    let name = s.name("p");
    let mut profile = Profile {
        name: name.clone(),
        config: config(&[("user.x", "1")]),
        ..Profile::default()
    };
    s.client.create_profile(&profile).await.expect("create");
    let error = s
        .client
        .create_profile(&profile)
        .await
        .expect_err("the name is taken");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let etag = s
        .client
        .profile(&name)
        .await
        .expect("get")
        .etag
        .expect("a profile has an ETag");
    profile.config.insert("user.x".to_owned(), "2".to_owned());
    s.client
        .update_profile(&profile, Some(&etag))
        .await
        .expect("the tag is fresh");
    let error = s
        .client
        .update_profile(&profile, Some(&etag))
        .await
        .expect_err("the tag is old");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    assert_eq!(
        s.client.profile(&name).await.expect("get").value.config,
        config(&[("user.x", "2")])
    );
    assert!(
        s.client
            .profiles()
            .await
            .expect("list")
            .iter()
            .any(|one| one.name == name)
    );
    s.client.delete_profile(&name).await.expect("delete");
    let gone = s.client.profile(&name).await.expect_err("deleted");
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
}

pub(crate) async fn projects(s: &Subject) {
    let name = s.name("project");
    let project = Project {
        name: name.clone(),
        config: config(&[
            ("features.images", "false"),
            ("features.profiles", "false"),
            ("user.mark", &s.prefix),
        ]),
        ..Project::default()
    };
    s.client.create_project(&project).await.expect("create");
    let found = s.client.project_named(&name).await.expect("get").value;
    assert_eq!(found.config.get("user.mark"), Some(&s.prefix));
    assert!(
        s.client
            .projects()
            .await
            .expect("list")
            .iter()
            .any(|one| one.name == name)
    );
    let inside = s.client.with_project(&name);
    assert_eq!(inside.project(), name);
    assert!(
        inside
            .instances(&pika_incus::Filter::all())
            .await
            .expect("list")
            .is_empty()
    );
    s.client.delete_project(&name).await.expect("delete");
    let gone = s.client.project_named(&name).await.expect_err("deleted");
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
}

pub(crate) async fn networks_and_pools(s: &Subject) {
    let networks = s.client.networks().await.expect("list");
    let bridge = networks.iter().find(|network| network.managed);
    let bridge = &bridge.expect("a bridge").name;
    let leases = s.client.network_leases(bridge).await.expect("leases");
    assert!(leases.iter().all(|lease| !lease.address.is_empty()));
    let gone = s
        .client
        .network_leases("no-such-net")
        .await
        .expect_err("no such network");
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    assert!(
        s.client
            .pools()
            .await
            .expect("list")
            .iter()
            .any(|pool| pool.name == s.pool)
    );
    assert_eq!(
        s.client.pool(&s.pool).await.expect("get").value.name,
        s.pool
    );
    let gone = s
        .client
        .pool("no-such-pool")
        .await
        .expect_err("no such pool");
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    let gone = s
        .client
        .network("no-such-net")
        .await
        .expect_err("no such network");
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
}
