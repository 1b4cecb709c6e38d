//! A command in an agent's guest.
//!
//! Owns the websocket. Input and output are two halves, so that a command that writes much and one that reads much never
//! wait for each other. A session that ends without the command's status is an error, never a status.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use http::header::{AUTHORIZATION, HOST};
use pika_managed_agent_contract::exec::{
    EXEC_MESSAGE_BYTES_MAX, ExecControl, ExecEnd, ExecStart, STREAM_STDERR, STREAM_STDIN,
    STREAM_STDOUT, TerminalSize,
};
use serde::Serialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::call::{self, CONNECT_LIMIT};
use crate::transport::Stream;
use crate::{AgentClient, ClientError};

type Socket = WebSocketStream<Box<dyn Stream>>;

/// A command that runs.
#[derive(Debug)]
pub struct ExecSession {
    /// What goes to it.
    pub input: ExecInput,
    /// What comes of it.
    pub output: ExecOutput,
}

/// What goes to a command.
#[derive(Debug)]
pub struct ExecInput {
    sink: SplitSink<Socket, Message>,
    name: String,
}

/// What comes of a command.
#[derive(Debug)]
pub struct ExecOutput {
    stream: SplitStream<Socket>,
    name: String,
}

/// One thing that comes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecMessage {
    /// What it wrote; on a terminal, all of it.
    Stdout(Bytes),
    /// What it wrote to its error output.
    Stderr(Bytes),
    /// It ended with this status; nothing comes after.
    Exited(i32),
}

impl ExecSession {
    pub(crate) async fn open(
        client: &AgentClient,
        path: &str,
        start: &ExecStart,
    ) -> Result<ExecSession, ClientError> {
        let name = format!("GET {path}");
        let opening = shake_hands(client, path, &name);
        let late = |_| {
            Err(ClientError::Timeout {
                call: name.clone(),
                limit: CONNECT_LIMIT,
            })
        };
        let socket = tokio::time::timeout(CONNECT_LIMIT, opening)
            .await
            .unwrap_or_else(late)?;
        let (sink, stream) = socket.split();
        let mut input = ExecInput {
            sink,
            name: name.clone(),
        };
        input.text(start).await?;
        Ok(ExecSession {
            input,
            output: ExecOutput { stream, name },
        })
    }
}

async fn shake_hands(client: &AgentClient, path: &str, name: &str) -> Result<Socket, ClientError> {
    let transport = &client.transport;
    let malformed = |problem: String| ClientError::protocol(name, problem);
    let authority = transport.address.authority();
    let mut request = format!("ws://{authority}{path}")
        .into_client_request()
        .map_err(|error| malformed(error.to_string()))?;
    let host = HeaderValue::from_str(&authority).map_err(|error| malformed(error.to_string()))?;
    request.headers_mut().insert(HOST, host);
    request
        .headers_mut()
        .insert(AUTHORIZATION, client.token.header());
    let stream = call::connect(transport, name).await?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(EXEC_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(EXEC_MESSAGE_BYTES_MAX));
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(SocketError::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let (status, asked) = (response.status(), call::retry_after(response.headers()));
            Err(call::refused(name, status.as_u16(), body, asked))
        }
        Err(error) => Err(ClientError::lost(name, error)),
    }
}

impl ExecInput {
    /// Bytes that the command reads.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        for piece in bytes.chunks(EXEC_MESSAGE_BYTES_MAX - 1) {
            let mut message = Vec::with_capacity(piece.len() + 1);
            message.push(STREAM_STDIN);
            message.extend_from_slice(piece);
            self.send(Message::binary(message)).await?;
        }
        Ok(())
    }

    /// There is no more to read.
    pub async fn end(&mut self) -> Result<(), ClientError> {
        self.text(&ExecControl::StdinEnd).await
    }

    /// The terminal has another size now.
    pub async fn resize(&mut self, size: TerminalSize) -> Result<(), ClientError> {
        self.text(&ExecControl::Resize(size)).await
    }

    /// A signal for the command, by number.
    pub async fn signal(&mut self, number: i32) -> Result<(), ClientError> {
        self.text(&ExecControl::Signal(number)).await
    }

    async fn text(&mut self, value: &impl Serialize) -> Result<(), ClientError> {
        let text = serde_json::to_string(value)
            .map_err(|error| ClientError::protocol(&self.name, error.to_string()))?;
        self.send(Message::text(text)).await
    }

    async fn send(&mut self, message: Message) -> Result<(), ClientError> {
        let sent = self.sink.send(message).await;
        sent.map_err(|error| ClientError::lost(&self.name, error))
    }
}

impl ExecOutput {
    /// What comes next. After [`ExecMessage::Exited`] there is nothing.
    pub async fn next(&mut self) -> Result<ExecMessage, ClientError> {
        loop {
            let message = match self.stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(ClientError::lost(&self.name, error)),
                None => return Err(self.without_end()),
            };
            match message {
                Message::Binary(bytes) => return self.output(bytes),
                Message::Text(text) => return self.end(&text),
                Message::Close(_) => return Err(self.without_end()),
                _ => {}
            }
        }
    }

    fn output(&self, mut bytes: Bytes) -> Result<ExecMessage, ClientError> {
        let stream = (!bytes.is_empty()).then(|| bytes.split_to(1)[0]);
        match stream {
            Some(STREAM_STDOUT) => Ok(ExecMessage::Stdout(bytes)),
            Some(STREAM_STDERR) => Ok(ExecMessage::Stderr(bytes)),
            _ => Err(ClientError::protocol(
                &self.name,
                "a message names no stream of a command's",
            )),
        }
    }

    fn end(&self, text: &str) -> Result<ExecMessage, ClientError> {
        match serde_json::from_str(text) {
            Ok(ExecEnd::Exited(code)) => Ok(ExecMessage::Exited(code)),
            Ok(ExecEnd::Failed(body)) => Err(ClientError::Api {
                call: self.name.clone(),
                status: body.error.status(),
                body: Box::new(body),
                retry_after: None,
            }),
            Err(error) => {
                let problem = format!("the command's end can't be read ({error})");
                Err(ClientError::protocol(&self.name, problem))
            }
        }
    }

    fn without_end(&self) -> ClientError {
        ClientError::lost(
            &self.name,
            "the connection ended before the command's status came",
        )
    }
}
