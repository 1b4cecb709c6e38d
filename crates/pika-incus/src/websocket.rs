//! Opens websockets over the client's own connections, and turns their failures into the client's errors.

use http::header::HOST;
use http::{HeaderValue, Request, StatusCode, Uri};
use serde::Deserialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::client::{CallName, Client};
use crate::error::{Error, ErrorCause};
use crate::request::{ApiRequest, InvalidInput};
use crate::transport::Connection;

/// A websocket to the server.
pub(crate) type Socket = WebSocketStream<Connection>;

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
    match tokio_tungstenite::client_async_with_config(upgrade, connection, Some(config)).await {
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
