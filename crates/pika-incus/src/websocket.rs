//! Opens websockets over the client's own connections, and turns their failures into the client's errors.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::HOST;
use http::{HeaderValue, Request, StatusCode, Uri};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::client::{CallName, Client};
use crate::error::{Error, ErrorCause};
use crate::request::{ApiRequest, InvalidInput};
use crate::transport::Connection;

/// A websocket to the server.
pub(crate) type Socket = WebSocketStream<Wire>;

/// The connection below a websocket, with a say in what is written.
///
/// A websocket answers pings by itself while it is read. If the server has closed its side by then, that write
/// fails, and with it the read of what the server had sent before: the end of a command's output would be lost. (Over
/// TCP it is worse: what arrives at a closed socket makes the kernel drop what was received.) Incus's exec asks for
/// pings to be taken, not answered, so an output says nothing at all.
pub(crate) struct Wire {
    connection: Connection,
    writes: Writes,
}

/// What happens to what is written on a [`Wire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// It is sent.
    Sent,
    /// It is sent, and that the other side is gone is found out by reading alone.
    SentIfPossible,
    /// Nothing is sent.
    Dropped,
}

impl Wire {
    pub(crate) fn set_writes(&mut self, writes: Writes) {
        self.writes = writes;
    }

    /// The outcome of a write or flush of `length` bytes, as this wire tells it.
    fn told(&self, outcome: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Ready(Err(_)) if self.writes == Writes::SentIfPossible => Poll::Ready(Ok(length)),
            other => other,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.writes == Writes::Dropped {
            return Poll::Ready(Ok(bytes.len()));
        }
        let outcome = Pin::new(&mut self.connection).poll_write(context, bytes);
        self.told(outcome, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writes == Writes::Dropped {
            return Poll::Ready(Ok(()));
        }
        let outcome = Pin::new(&mut self.connection)
            .poll_flush(context)
            .map_ok(|()| 0);
        self.told(outcome, 0).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

/// Largest message that is read, in bytes. Incus sends at most 32 KiB of a stream at once; events may be larger.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Memory for reading and for writing, in bytes each.
const BUFFER_BYTES: usize = 64 * 1024;
/// Most bytes that wait to be written.
const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Opens the websocket that a request names, within the client's limit for a call.
pub(crate) async fn open(client: &Client, request: &ApiRequest) -> Result<Socket, Error> {
    let call = CallName::of(request);
    let limit = client.timeouts().call;
    match tokio::time::timeout(limit, handshake(client, request, &call)).await {
        Ok(result) => result,
        Err(_) => Err(call.timed_out("opening the websocket", limit)),
    }
}

async fn handshake(
    client: &Client,
    request: &ApiRequest,
    call: &CallName,
) -> Result<Socket, Error> {
    let transport = client.transport();
    let upgrade = upgrade_request(&transport.host, request).map_err(|input| call.input(input))?;
    let connection = transport
        .connect()
        .await
        .map_err(|problem| call.error(ErrorCause::Connect(problem)))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let wire = Wire {
        connection,
        writes: Writes::Sent,
    };
    match tokio_tungstenite::client_async_with_config(upgrade, wire, Some(config)).await {
        Ok((socket, _response)) => Ok(socket),
        Err(SocketError::Http(response)) => Err(refused(call, &response)),
        Err(error) => Err(call.lost("opening the websocket", error)),
    }
}

fn upgrade_request(host: &str, request: &ApiRequest) -> Result<Request<()>, InvalidInput> {
    let target = format!("ws://{host}{}", request.path_and_query());
    let uri: Uri = target
        .parse()
        .map_err(|_| InvalidInput::new("websocket address", &target, "is malformed"))?;
    let mut upgrade = uri
        .into_client_request()
        .map_err(|_| InvalidInput::new("websocket address", &target, "is malformed"))?;
    let host = HeaderValue::from_str(host)
        .map_err(|_| InvalidInput::new("host", host, "can't be sent in a header"))?;
    upgrade.headers_mut().insert(HOST, host);
    Ok(upgrade)
}

fn refused(call: &CallName, response: &http::Response<Option<Vec<u8>>>) -> Error {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let body = response.body().as_deref().unwrap_or_default();
    let message = serde_json::from_slice(body)
        .map(|refusal: Refusal| refusal.error)
        .unwrap_or_else(|_| "the server refused the websocket".to_owned());
    let status = if response.status().is_success() {
        StatusCode::BAD_GATEWAY
    } else {
        response.status()
    };
    call.error(ErrorCause::Answered { status, message })
}

/// The message that ends a stream in Incus's protocol: an empty text.
pub(crate) fn end_mark() -> Message {
    Message::text("")
}
