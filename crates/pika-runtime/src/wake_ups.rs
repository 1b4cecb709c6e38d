//! Owns the wake-ups: names of instances that something just happened to, from Incus's event stream.
//!
//! A wake-up is a reason to look and proves nothing. What only a look of ours causes (an exec, a file read) wakes nobody,
//! or each look would cause the next one.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt as _};
use pika_incus::{Event, EventItem, EventKind, EventStream};

use crate::observe::LookError;
use crate::runtimes::Runtimes;

/// What happens to an instance that may change what a look at it shows.
const WAKING: [&str; 13] = [
    "instance-created",
    "instance-deleted",
    "instance-paused",
    "instance-ready",
    "instance-renamed",
    "instance-restarted",
    "instance-restored",
    "instance-resumed",
    "instance-shutdown",
    "instance-started",
    "instance-stopped",
    "instance-updated",
    "instance-migrated",
];

/// The end of a stream of wake-ups: some may have been missed from here on, so that everything is to be looked at.
#[derive(Debug, thiserror::Error)]
#[error("the event stream of project {project} broke; listen again, then look at everything")]
pub struct WakeUpsBroken {
    project: String,
    /// What Incus said, if it said anything.
    #[source]
    source: Option<pika_incus::Error>,
}

/// Names of instances that something happened to, ours or not, in the order in which it happened. After the first error
/// the stream is over. Dropping it ends it.
#[derive(Debug)]
pub struct WakeUps {
    project: String,
    events: Option<EventStream>,
}

impl WakeUps {
    /// The next name; `None` after the end. No name is lost when this future is dropped.
    pub async fn next_name(&mut self) -> Option<Result<String, WakeUpsBroken>> {
        self.next().await
    }

    fn end(&mut self, source: Option<pika_incus::Error>) -> WakeUpsBroken {
        self.events = None;
        WakeUpsBroken {
            project: self.project.clone(),
            source,
        }
    }
}

impl Stream for WakeUps {
    type Item = Result<String, WakeUpsBroken>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<String, WakeUpsBroken>>> {
        loop {
            let Some(events) = &mut self.events else {
                return Poll::Ready(None);
            };
            let Poll::Ready(item) = events.poll_next_unpin(context) else {
                return Poll::Pending;
            };
            match item {
                Some(EventItem::Event(event)) => {
                    if let Some(name) = woken(&event) {
                        return Poll::Ready(Some(Ok(name)));
                    }
                }
                Some(EventItem::Disconnected { cause }) => {
                    return Poll::Ready(Some(Err(self.end(cause))));
                }
                Some(EventItem::Refused(error)) => {
                    return Poll::Ready(Some(Err(self.end(Some(error)))));
                }
                Some(EventItem::Reconnected) | None => {
                    return Poll::Ready(Some(Err(self.end(None))));
                }
            }
        }
    }
}

impl Runtimes {
    /// Listens to what happens to instances of a project. It listens when this returns, so that what is looked at
    /// afterwards can't change unnoticed.
    ///
    /// # Errors
    /// When Incus can't be asked.
    pub async fn wake_ups(&self, project: &str) -> Result<WakeUps, LookError> {
        let events = self.client(project).events(&[EventKind::Lifecycle]).await;
        Ok(WakeUps {
            project: project.to_owned(),
            events: Some(events.map_err(|source| LookError::of_all(project, source))?),
        })
    }
}

/// The instance that an event is about, if it wakes anybody.
fn woken(event: &Event) -> Option<String> {
    let detail = event.lifecycle()?;
    if !WAKING.contains(&detail.action.as_str()) {
        return None;
    }
    let path = detail.source.split('?').next()?;
    let name = path.strip_prefix("/1.0/instances/")?.split('/').next()?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(action: &str, source: &str) -> Event {
        serde_json::from_value(json!({
            "type": "lifecycle", "metadata": { "action": action, "source": source },
        }))
        .unwrap()
    }

    #[test]
    fn what_a_look_causes_wakes_nobody() {
        let of = |action, source| woken(&event(action, source));
        let source = "/1.0/instances/a-1?project=p";
        assert_eq!(of("instance-started", source).as_deref(), Some("a-1"));
        assert_eq!(of("instance-ready", source).as_deref(), Some("a-1"));
        for action in [
            "instance-exec",
            "instance-file-retrieved",
            "instance-console-retrieved",
        ] {
            assert_eq!(of(action, source), None, "{action}");
        }
        assert_eq!(
            of("instance-updated", "/1.0/storage-pools/default"),
            None,
            "not about an instance"
        );
    }
}
