use pika_incus::{EventItem, EventKind, EventStream};

use crate::support::{LIMIT, Subject};

/// The next item, within the tests' limit.
pub(crate) async fn next_item(events: &mut EventStream) -> EventItem {
    let item = tokio::time::timeout(LIMIT, events.next_item()).await;
    item.expect("an item comes").expect("the stream goes on")
}

/// Reads events up to the one that names this object, and gives its action.
pub(crate) async fn action_on(events: &mut EventStream, source: &str) -> String {
    let reading = async {
        loop {
            match events.next_item().await.expect("the stream goes on") {
                EventItem::Event(event) => {
                    let detail = event.lifecycle().expect("a lifecycle event");
                    if detail.source.split('?').next() == Some(source) {
                        return detail.action;
                    }
                }
                other => panic!("nothing breaks the stream here: {other:?}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, reading)
        .await
        .expect("the event comes")
}

pub(crate) async fn lifecycle(s: &Subject) {
    let mut events = s
        .client
        .events(&[EventKind::Lifecycle])
        .await
        .expect("listen");
    let name = s.instance("a", true).await;
    let source = format!("/1.0/instances/{name}");
    assert_eq!(action_on(&mut events, &source).await, "instance-created");
    assert_eq!(action_on(&mut events, &source).await, "instance-started");
    s.remove_instance(&name).await;
    let mut last = Vec::new();
    while last.last().map(String::as_str) != Some("instance-deleted") {
        last.push(action_on(&mut events, &source).await);
    }
    assert!(
        last.iter()
            .any(|action| action == "instance-stopped" || action == "instance-shutdown"),
        "{last:?}"
    );
}
