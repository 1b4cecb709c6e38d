//! Events as they happen, over any number of connections.
//!
//! Owns where the stream is: an event counts as seen when it is given out, a connection is taken up after the last one
//! seen, and what comes a second time is left out. So none is lost and none repeated.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use pika_managed_agent_contract::EventView;

use crate::call::{self, Call};
use crate::{AgentClient, ClientError};

/// How long a connection may be silent: the server gives a sign of life four times as often.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// For how long a connection is tried to be made again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rest after a connection that brought nothing, and how many such in a row are taken.
const EMPTY_REST: Duration = Duration::from_millis(500);
const EMPTY_MAX: u32 = 10;
/// Longest event, in bytes.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// A stream of events that goes on after a lost connection.
#[derive(Debug)]
pub struct EventStream {
    client: AgentClient,
    path: String,
    last: u64,
    body: Option<Incoming>,
    parser: Parser,
    ready: VecDeque<EventView>,
    empty: u32,
}

impl EventStream {
    pub(crate) fn new(client: AgentClient, path: String, after: u64) -> EventStream {
        EventStream {
            client,
            path,
            last: after,
            body: None,
            parser: Parser::default(),
            ready: VecDeque::new(),
            empty: 0,
        }
    }

    /// The id of the last event that was given out, which another stream can start after.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.last
    }

    /// The next event. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<EventView, ClientError> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                if event.id > self.last {
                    self.last = event.id;
                    return Ok(event);
                }
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        let name = format!("GET {}", self.path);
        if self.body.is_none() {
            self.connect().await?;
        }
        let Some(body) = &mut self.body else {
            return Ok(());
        };
        let frame = match tokio::time::timeout(SILENCE_LIMIT, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            // Silent, broken or ended: the next connection goes on from here.
            _ => {
                self.body = None;
                return Ok(());
            }
        };
        let Some(bytes) = frame.data_ref() else {
            return Ok(());
        };
        self.empty = 0;
        let read = self.parser.push(bytes, &mut self.ready);
        read.map_err(|problem| ClientError::protocol(&name, problem))
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        if self.empty > 0 {
            tokio::time::sleep(EMPTY_REST).await;
        }
        if self.empty > EMPTY_MAX {
            let name = format!("GET {}", self.path);
            return Err(ClientError::lost(
                &name,
                "the server ends every stream at once",
            ));
        }
        let call = Call {
            accept: "text/event-stream",
            last_event: Some(self.last),
            patience: PATIENCE,
            ..Call::get(self.path.clone(), self.client.limit)
        };
        let response = call::open(&self.client, &call).await?;
        let kind = response.headers().get(http::header::CONTENT_TYPE);
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if !is_stream {
            return Err(ClientError::protocol(
                &call.name(),
                "the answer is no stream of events",
            ));
        }
        // Half an event of the last connection comes again whole.
        self.parser = Parser::default();
        self.empty += 1;
        self.body = Some(response.into_body());
        Ok(())
    }
}

/// Lines of a stream, and the event that they are becoming.
#[derive(Debug, Default)]
struct Parser {
    line: BytesMut,
    data: String,
}

impl Parser {
    fn push(&mut self, bytes: &[u8], events: &mut VecDeque<EventView>) -> Result<(), String> {
        self.line.extend_from_slice(bytes);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line = self.line.split_to(end);
            self.line.advance(1);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            let text = std::str::from_utf8(line).map_err(|_| "an event is no UTF-8".to_owned())?;
            if let Some(event) = self.line(text)? {
                events.push_back(event);
            }
        }
        if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
            return Err(format!("an event is longer than {EVENT_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<Option<EventView>, String> {
        if !line.is_empty() {
            if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
            return Ok(None);
        }
        let data = std::mem::take(&mut self.data);
        if data.is_empty() {
            return Ok(None);
        }
        let event = serde_json::from_str(&data);
        event
            .map(Some)
            .map_err(|error| format!("an event can't be read ({error})"))
    }
}
