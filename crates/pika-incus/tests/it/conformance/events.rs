use pika_incus::{EventItem, EventKind, Profile};

use crate::support::{LIMIT, Subject};

pub(crate) async fn lifecycle(s: &Subject) {
    let name = s.name("p");
    // Left by an earlier run, or not there.
    drop(s.client.delete_profile(&name).await);
    let mut events = s
        .client
        .events(&[EventKind::Lifecycle])
        .await
        .expect("listen");
    s.client
        .create_profile(&Profile {
            name: name.clone(),
            ..Profile::default()
        })
        .await
        .expect("create");
    let wanted = format!("/1.0/profiles/{name}");
    let seen = tokio::time::timeout(LIMIT, async {
        loop {
            match events.next_item().await.expect("the stream goes on") {
                EventItem::Event(event) => {
                    let detail = event.lifecycle().expect("a lifecycle event");
                    if detail.source.split('?').next() == Some(wanted.as_str()) {
                        return detail.action;
                    }
                }
                other => panic!("nothing breaks the stream here: {other:?}"),
            }
        }
    })
    .await
    .expect("the event comes");
    assert_eq!(seen, "profile-created");
    s.client.delete_profile(&name).await.expect("delete");
}
