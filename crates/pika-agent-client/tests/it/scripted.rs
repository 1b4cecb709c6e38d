//! A server that says exactly the bytes it is told, one connection after another, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pika_agent_client::{AgentClient, Authorities, Token};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What one connection gets.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    /// These bytes, then the end of the connection.
    Bytes(String),
    /// These bytes, and these again for as long as somebody reads.
    Endless(String, String),
    /// These bytes, then silence.
    Hold(String),
}

/// A request as it came: its head, in lower-case names as sent, and its body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

pub(crate) struct Scripted {
    pub(crate) client: AgentClient,
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    refused: Arc<AtomicUsize>,
}

impl Scripted {
    /// Says each in turn; connections beyond that are closed without an answer.
    pub(crate) async fn start(script: Vec<Say>) -> Scripted {
        let (listener, address) = listen().await;
        let url = format!("http://{address}");
        let client = AgentClient::new(&url, token()).unwrap();
        Scripted::serve(listener, url, client, script, None)
    }

    /// The same over TLS, for a client that trusts these.
    pub(crate) async fn start_tls(
        script: Vec<Say>,
        acceptor: TlsAcceptor,
        trusted: &Authorities,
    ) -> Scripted {
        let (listener, address) = listen().await;
        let url = format!("https://{address}");
        let client = AgentClient::trusting(trusted, &url, token()).unwrap();
        Scripted::serve(listener, url, client, script, Some(acceptor))
    }

    fn serve(
        listener: TcpListener,
        address: String,
        client: AgentClient,
        script: Vec<Say>,
        acceptor: Option<TlsAcceptor>,
    ) -> Scripted {
        let (asked, refused) = (Arc::default(), Arc::default());
        let server = Scripted {
            client,
            address,
            asked: Arc::clone(&asked),
            refused: Arc::clone(&refused),
        };
        tokio::spawn(async move {
            let mut script = script.into_iter();
            while let Ok((stream, _)) = listener.accept().await {
                let stream: Box<dyn Stream> = match &acceptor {
                    None => Box::new(stream),
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => {
                            refused.fetch_add(1, Ordering::SeqCst);
                            continue;
                        }
                    },
                };
                let Some(say) = script.next() else {
                    asked.lock().unwrap().push(Asked::default());
                    continue;
                };
                let heard: Arc<Mutex<Vec<Asked>>> = Arc::clone(&asked);
                tokio::spawn(async move { answer(stream, say, &heard).await });
            }
        });
        server
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many connections the client broke off before it sent anything.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn token() -> Token {
    Token::new("secret-token").unwrap()
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Ends when the other side does: a client may leave whenever it likes.
async fn answer(stream: Box<dyn Stream>, say: Say, heard: &Mutex<Vec<Asked>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let asked = read(&mut stream).await?;
    heard.lock().unwrap().push(asked);
    match say {
        Say::Bytes(text) => {
            stream.write_all(text.as_bytes()).await.ok()?;
            stream.shutdown().await.ok()
        }
        Say::Endless(head, piece) => {
            stream.write_all(head.as_bytes()).await.ok()?;
            loop {
                stream.write_all(piece.as_bytes()).await.ok()?;
            }
        }
        Say::Hold(text) => {
            stream.write_all(text.as_bytes()).await.ok()?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok().map(|_| ())
        }
    }
}

async fn read(stream: &mut BufReader<Box<dyn Stream>>) -> Option<Asked> {
    let mut asked = Asked::default();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some((name, value)) => asked.headers.push((name.to_owned(), value.to_owned())),
            None => asked.line = line.to_owned(),
        }
    }
    let length = asked
        .header("content-length")
        .unwrap_or("0")
        .parse()
        .unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    asked.body = String::from_utf8(body).unwrap();
    Some(asked)
}

/// A whole answer.
pub(crate) fn answer_of(status: &str, body: &str) -> Say {
    let length = body.len();
    Say::Bytes(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

/// An error of the API.
pub(crate) fn refusal(status: &str, code: &str) -> Say {
    let body =
        format!(r#"{{"error":"{code}","request_id":"r1","message":"because","hint":"do this"}}"#);
    answer_of(status, &body)
}

pub(crate) const AGENT: &str = r#"{"agent_id":"a1","state":"creating","startup_phase":"requested","generation":0,
    "resources":{},"labels":{},"created_at":"2026-01-01T00:00:00.000Z","updated_at":"2026-01-01T00:00:00.000Z",
    "a_field_of_tomorrow":[1]}"#;

pub(crate) fn operation(state: &str, step: &str) -> String {
    format!(
        r#"{{"operation_id":"o1","agent_id":"a1","kind":"create","state":"{state}","step":"{step}",
        "error":{{"error":"internal","request_id":"r2","message":"it broke"}},
        "created_at":"2026-01-01T00:00:00.000Z","deadline_at":"2026-01-01T00:10:00.000Z"}}"#
    )
}
