//! A command in a guest, over a websocket.
//!
//! Owns the way between the two ends: streams are passed on as they come, and a side that doesn't read holds the other
//! back. The command ends with the websocket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use pika_managed_agent_contract::exec::{
    EXEC_MESSAGE_BYTES_MAX, ExecControl, ExecEnd, ExecStart, STREAM_STDERR, STREAM_STDIN,
    STREAM_STDOUT,
};
use pika_managed_agent_contract::{ErrorBody, ErrorCode};
use pika_runtime::incus::{self, ExecRequest, ExecSession, ExecStream};
use pika_runtime::{RuntimeId, Runtimes};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::agents::find;
use super::auth::Caller;
use super::body::Id;
use super::error::{ApiError, RequestId};
use crate::fleet::runtime_id;
use crate::trouble::{Trouble, chain};

/// Where a browser says how near the asking page is.
const FETCH_SITE: &str = "sec-fetch-site";
/// How long the first message may take.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long the end of a command is waited for after its output ended.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
/// How long the client may take to hear that it is over.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    axum::Extension(RequestId(request_id)): axum::Extension<RequestId>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    if is_foreign(&headers, shared.app.config.external_url.as_deref()) {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "a page of another site can't open this websocket",
        ));
    }
    let agent = find(&shared, &caller, &id).await?;
    let upgrade = upgrade.map_err(|rejection| {
        ApiError::invalid(format!(
            "this route wants a websocket: {}",
            rejection.body_text()
        ))
    })?;
    let runtimes = shared.app.fleet.runtimes_of(&agent)?;
    let app = &shared.app;
    let who = (&*caller.owner.id, "exec", &*agent.id);
    app.store.audit(app.clock.now(), who, "").await?;
    let ending = app.ending.clone();
    let upgrade = upgrade.max_message_size(EXEC_MESSAGE_BYTES_MAX);
    let open = app.sockets.token();
    Ok(upgrade.on_upgrade(move |socket| async move {
        serve(socket, runtimes, runtime_id(&agent), request_id, ending).await;
        drop(open);
    }))
}

/// Whether a page of another site asks: a browser sends its cookies along with the websockets and forms of any page, and
/// says which page that is. What says nothing is no browser.
pub(super) fn is_foreign(headers: &HeaderMap, external_url: Option<&str>) -> bool {
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    if text(FETCH_SITE).is_some_and(|site| !["same-origin", "none"].contains(&site)) {
        return true;
    }
    let Some(origin) = text("origin") else {
        return false;
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    let same = host.is_some() && host == text("host");
    !same && Some(origin) != external_url
}

type Out = Mutex<SplitSink<WebSocket, Message>>;

async fn serve(
    socket: WebSocket,
    runtimes: Runtimes,
    id: RuntimeId,
    request_id: String,
    ending: CancellationToken,
) {
    let (out, mut input) = socket.split();
    let out = Mutex::new(out);
    let session = async {
        let session = begin(&mut input, &runtimes, &id).await?;
        pass_on(session, &mut input, &out).await
    };
    let (end, code) = tokio::select! {
        () = ending.cancelled() => (Err(server_ends()), close_code::AWAY),
        end = session => (end, close_code::NORMAL),
    };
    let end = end.map_or_else(
        |trouble| {
            ExecEnd::Failed(ErrorBody {
                error: trouble.code,
                request_id,
                message: trouble.message,
                hint: trouble.hint,
            })
        },
        ExecEnd::Exited,
    );
    // If the client is gone or doesn't read, nobody is left to be told.
    drop(tokio::time::timeout(GOODBYE_LIMIT, say_goodbye(out, input, &end, code)).await);
}

fn server_ends() -> ApiError {
    ApiError::new(
        ErrorCode::Unavailable,
        "the server ends, and the command with it",
    )
    .hint("start it again in a moment")
}

/// The end as the last message, then the websocket's own end; what the client still sends is read, or a system would
/// throw both away with it.
async fn say_goodbye(
    out: Out,
    mut input: SplitStream<WebSocket>,
    end: &ExecEnd,
    code: u16,
) -> Result<(), axum::Error> {
    let mut out = out.into_inner();
    let text = serde_json::to_string(end).expect("an end is a document");
    out.send(Message::Text(text.into())).await?;
    let close = CloseFrame {
        code,
        reason: "".into(),
    };
    out.send(Message::Close(Some(close))).await?;
    while let Some(Ok(_)) = input.next().await {}
    Ok(())
}

async fn begin(
    input: &mut SplitStream<WebSocket>,
    runtimes: &Runtimes,
    id: &RuntimeId,
) -> Result<ExecSession, ApiError> {
    let first = tokio::time::timeout(START_LIMIT, input.next()).await;
    let Ok(Some(Ok(Message::Text(text)))) = first else {
        return Err(ApiError::invalid(
            "the first message must be the command, as text",
        ));
    };
    let start: ExecStart = serde_json::from_str(&text)
        .map_err(|error| ApiError::invalid(format!("the first message can't be read: {error}")))?;
    let command = match start.command.is_empty() {
        true => vec!["/bin/bash".to_owned(), "--login".to_owned()],
        false => start.command,
    };
    let mut request = ExecRequest::new(command);
    request.env = start.environment;
    request.cwd = start.directory;
    request.stdin = true;
    request.interactive = start.terminal.map(|size| (size.columns, size.rows));
    let session = runtimes.enter(id, &request).await;
    session.map_err(|error| ApiError::from(Trouble::control(&error)))
}

async fn pass_on(
    session: ExecSession,
    input: &mut SplitStream<WebSocket>,
    out: &Out,
) -> Result<i32, ApiError> {
    let ExecSession {
        stdin,
        stdout,
        stderr,
        control,
        mut exit,
    } = session;
    let output = async {
        tokio::try_join!(
            stream_out(STREAM_STDOUT, stdout, out),
            stream_out(STREAM_STDERR, stderr, out)
        )?;
        let exit = exit.wait(EXIT_LIMIT).await;
        exit.map(|exit| exit.code).map_err(|error| lost(&error))
    };
    let incoming = take_in(input, stdin, &control);
    tokio::pin!(output, incoming);
    tokio::select! {
        end = &mut output => end,
        Err(gone) = &mut incoming => Err(gone),
    }
}

fn lost(error: &(dyn std::error::Error + 'static)) -> ApiError {
    ApiError::new(
        ErrorCode::Unavailable,
        format!("the command was lost: {}", chain(error)),
    )
}

async fn stream_out(number: u8, mut stream: ExecStream, out: &Out) -> Result<(), ApiError> {
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| lost(&error))?;
        for part in chunk.chunks(EXEC_MESSAGE_BYTES_MAX - 1) {
            let mut message = Vec::with_capacity(part.len() + 1);
            message.push(number);
            message.extend_from_slice(part);
            let sent = out.lock().await.send(Message::Binary(message.into())).await;
            sent.map_err(|error| lost(&error))?;
        }
    }
    Ok(())
}

/// Input and words of the client, until it goes or says something wrong: the end of its input alone is no end.
async fn take_in(
    input: &mut SplitStream<WebSocket>,
    mut stdin: incus::ExecStdin,
    control: &incus::ExecControl,
) -> Result<Infallible, ApiError> {
    while let Some(message) = input.next().await {
        match message.map_err(|error| lost(&error))? {
            Message::Binary(bytes) => match bytes.first() {
                Some(&STREAM_STDIN) => stdin
                    .write(bytes.slice(1..))
                    .await
                    .map_err(|error| lost(&error))?,
                _ => {
                    return Err(ApiError::invalid(
                        "a binary message must begin with the number of the input",
                    ));
                }
            },
            Message::Text(text) => say(&text, &mut stdin, control).await?,
            Message::Close(_) => return Err(ApiError::invalid("the client went away")),
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    Err(ApiError::invalid("the client went away"))
}

async fn say(
    text: &str,
    stdin: &mut incus::ExecStdin,
    control: &incus::ExecControl,
) -> Result<(), ApiError> {
    let word: ExecControl = serde_json::from_str(text)
        .map_err(|error| ApiError::invalid(format!("a text message can't be read: {error}")))?;
    match word {
        ExecControl::StdinEnd => stdin.close(),
        ExecControl::Resize(size) => {
            control
                .resize(size.columns, size.rows)
                .await
                .map_err(|error| lost(&error))?;
        }
        ExecControl::Signal(signal) => {
            control.signal(signal).await.map_err(|error| lost(&error))?
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;

    #[test]
    fn only_pages_of_the_server_itself_are_not_foreign() {
        let with = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "pika.example:8787".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            !is_foreign(&headers, Some("https://outside.example"))
        };
        assert!(with(None));
        assert!(with(Some("https://pika.example:8787")));
        assert!(with(Some("https://outside.example")));
        for foreign in ["https://evil.example", "https://pika.example", "null", ""] {
            assert!(!with(Some(foreign)), "{foreign}");
        }
        let mut headers = HeaderMap::new();
        for (site, foreign) in [
            ("same-origin", false),
            ("none", false),
            ("same-site", true),
            ("cross-site", true),
        ] {
            headers.insert(FETCH_SITE, site.parse().unwrap());
            assert_eq!(is_foreign(&headers, None), foreign, "{site}");
        }
    }
}
