//! The event stream: the websocket of `/1.0/events`, opened again when it breaks.
//!
//! Owns: [`EventStream`]. Guarantees: events of one connection come in order; whenever some may have been missed,
//! the consumer is told ([`EventItem::Reconnected`]) and has to look at the objects again. Never: replays, since the
//! server keeps no events.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::request::{ApiRequest, events};
use crate::types::{Event, EventKind};
use crate::websocket::{self, Socket};

/// Events that wait for a slow consumer. Beyond it the server is not read, and may end the connection.
const QUEUE_EVENTS_MAX: usize = 1024;
/// First and longest pause between attempts to connect.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// Without anything from the server for so long (it pings more often), the connection is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What an [`EventStream`] gives.
#[derive(Debug)]
pub enum EventItem {
    /// An event.
    Event(Box<Event>),
    /// The connection broke; it is being opened again. Events from now on may be missed.
    Disconnected {
        /// Why, where it is known.
        cause: Option<Error>,
    },
    /// The connection is there again, and events since the break are lost: look at the objects.
    Reconnected,
    /// The server refuses the stream for good (not trusted, no such project). The stream ends after it.
    Refused(Error),
}

/// A stream of events that reconnects by itself. Ends when dropped, or after [`EventItem::Refused`].
#[derive(Debug)]
pub struct EventStream {
    items: mpsc::Receiver<EventItem>,
    task: JoinHandle<()>,
}

impl EventStream {
    /// The next item; `None` after the end. No item is lost when this future is dropped.
    pub async fn next_item(&mut self) -> Option<EventItem> {
        self.items.recv().await
    }
}

impl Stream for EventStream {
    type Item = EventItem;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<EventItem>> {
        self.items.poll_recv(context)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Listens to events of the project: `GET /1.0/events`. The first connection is made before this returns, so
    /// that an event caused afterwards is not missed.
    pub async fn events(&self, kinds: &[EventKind]) -> Result<EventStream, Error> {
        self.listen(events::subscribe(Some(self.project()), kinds))
            .await
    }

    /// Listens to events of all projects.
    pub async fn events_of_all_projects(&self, kinds: &[EventKind]) -> Result<EventStream, Error> {
        self.listen(events::subscribe(None, kinds)).await
    }

    async fn listen(&self, request: ApiRequest) -> Result<EventStream, Error> {
        let socket = websocket::open(self, &request).await?;
        let (sender, items) = mpsc::channel(QUEUE_EVENTS_MAX);
        let task = tokio::spawn(follow(self.clone(), request, socket, sender));
        Ok(EventStream { items, task })
    }
}

/// Reads events until the consumer or the server's refusal ends it.
async fn follow(
    client: Client,
    request: ApiRequest,
    mut socket: Socket,
    sender: mpsc::Sender<EventItem>,
) {
    loop {
        let cause = match forward(&mut socket, &sender).await {
            Ended::ConsumerGone => return,
            Ended::Broken => None,
        };
        if sender
            .send(EventItem::Disconnected { cause })
            .await
            .is_err()
        {
            return;
        }
        match reconnect(&client, &request, &sender).await {
            Ok(Some(fresh)) => socket = fresh,
            Ok(None) => return,
            Err(refusal) => {
                // The consumer may be gone too; either way this is the end.
                drop(sender.send(EventItem::Refused(refusal)).await);
                return;
            }
        }
        if sender.send(EventItem::Reconnected).await.is_err() {
            return;
        }
    }
}

enum Ended {
    ConsumerGone,
    Broken,
}

async fn forward(socket: &mut Socket, sender: &mpsc::Sender<EventItem>) -> Ended {
    loop {
        let message = tokio::select! {
            () = sender.closed() => return Ended::ConsumerGone,
            message = tokio::time::timeout(SILENCE_MAX, socket.next()) => message,
        };
        let Ok(Some(Ok(message))) = message else {
            return Ended::Broken;
        };
        let text = match &message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return Ended::Broken,
            _ => continue,
        };
        match serde_json::from_slice::<Event>(text) {
            Ok(event) => {
                if sender
                    .send(EventItem::Event(Box::new(event)))
                    .await
                    .is_err()
                {
                    return Ended::ConsumerGone;
                }
            }
            Err(error) => tracing::warn!(%error, "an event that can't be read was left out"),
        }
    }
}

/// Opens the stream again, for as long as it takes. `None` if the consumer is gone, an error if the server refuses.
async fn reconnect(
    client: &Client,
    request: &ApiRequest,
    sender: &mpsc::Sender<EventItem>,
) -> Result<Option<Socket>, Error> {
    let mut pause = PAUSE_FIRST;
    loop {
        let attempt = tokio::select! {
            () = sender.closed() => return Ok(None),
            attempt = websocket::open(client, request) => attempt,
        };
        match attempt {
            Ok(socket) => return Ok(Some(socket)),
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => tracing::debug!(%error, "the event stream is not back yet"),
        }
        tokio::select! {
            () = sender.closed() => return Ok(None),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_LONGEST),
        }
    }
}

/// Whether trying again is pointless. A socket that may not be opened is no such case: a daemon that starts makes its
/// socket first and gives it to its group a moment later.
fn is_final(error: &Error) -> bool {
    error.connect_problem().is_none()
        && matches!(
            error.kind(),
            ErrorKind::Forbidden
                | ErrorKind::Unauthorized
                | ErrorKind::InvalidRequest
                | ErrorKind::NotFound
        )
}
