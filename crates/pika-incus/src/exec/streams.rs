//! The websockets of an exec as input, outputs and control.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, Stream, StreamExt};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::client::CallName;
use crate::error::Error;
use crate::request::exec::{resize_message, signal_message};
use crate::websocket::{Socket, Writes, end_mark};

/// Largest piece of input that is sent at once, in bytes.
const INPUT_CHUNK_BYTES: usize = 64 * 1024;
/// Pieces of input that wait in memory.
const INPUT_QUEUE: usize = 4;
/// Control messages that wait in memory.
const CONTROL_QUEUE: usize = 16;

type Incoming = Pin<Box<dyn Stream<Item = Result<Message, SocketError>> + Send>>;

/// The data sockets of an exec.
pub(super) struct Streams {
    input: SplitSink<Socket, Message>,
    /// What comes on the input's own socket (pings), where that isn't the output.
    input_side: Option<SplitStream<Socket>>,
    output: Incoming,
    errors: Option<Incoming>,
}

/// Three sockets.
pub(super) fn pipes(stdin: Socket, mut stdout: Socket, mut stderr: Socket) -> Streams {
    stdout.get_mut().set_writes(Writes::Dropped);
    stderr.get_mut().set_writes(Writes::Dropped);
    let (input, input_side) = stdin.split();
    Streams {
        input,
        input_side: Some(input_side),
        output: Box::pin(stdout),
        errors: Some(Box::pin(stderr)),
    }
}

/// One socket for a terminal.
pub(super) fn terminal(mut socket: Socket) -> Streams {
    socket.get_mut().set_writes(Writes::SentIfPossible);
    let (input, output) = socket.split();
    Streams {
        input,
        input_side: None,
        output: Box::pin(output),
        errors: None,
    }
}

impl Streams {
    /// The streams as the caller gets them; without `wants_input` the input is ended at once.
    pub(super) fn named(
        self,
        call: &CallName,
        wants_input: bool,
    ) -> (ExecStdin, ExecStream, ExecStream) {
        let (sender, receiver) = mpsc::channel(INPUT_QUEUE);
        let (output_open, output_ended) = oneshot::channel();
        tokio::spawn(pump_input(
            self.input,
            self.input_side,
            receiver,
            output_ended,
        ));
        let stdin = ExecStdin {
            sender: wants_input.then_some(sender),
            call: call.clone(),
        };
        let stdout = ExecStream {
            messages: Some(self.output),
            open: Some(output_open),
            call: call.clone(),
        };
        let stderr = ExecStream {
            messages: self.errors,
            open: None,
            call: call.clone(),
        };
        (stdin, stdout, stderr)
    }
}

/// Sends input until its end, and reads away what the server sends on that socket.
async fn pump_input(
    mut sink: SplitSink<Socket, Message>,
    side: Option<SplitStream<Socket>>,
    mut queue: mpsc::Receiver<Bytes>,
    output_ended: oneshot::Receiver<Infallible>,
) {
    let send_all = async {
        while let Some(bytes) = queue.recv().await {
            if sink.send(Message::Binary(bytes)).await.is_err() {
                return Flow::Broken;
            }
        }
        Flow::Ended
    };
    let Some(mut side) = side else {
        // A terminal's input has no end of its own: its socket is also the output, and lives on in it. The server
        // keeps the command's operation open until both halves are dropped.
        tokio::select! {
            _ = send_all => {}
            _ = output_ended => {}
        }
        return;
    };
    let drain = async { while let Some(Ok(_)) = side.next().await {} };
    tokio::select! {
        flow = send_all => if let Flow::Broken = flow { return },
        () = drain => return,
    }
    if sink.send(end_mark()).await.is_ok() {
        // The socket stays open until the server closes it.
        while let Some(Ok(_)) = side.next().await {}
    }
}

enum Flow {
    Ended,
    Broken,
}

/// Standard input of a command. Dropping it ends the input.
#[derive(Debug)]
pub struct ExecStdin {
    sender: Option<mpsc::Sender<Bytes>>,
    call: CallName,
}

impl ExecStdin {
    /// Hands bytes to the command; waits while the command doesn't take them. An error means that nobody reads any
    /// more: the command ended, or its input was closed.
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        let mut left: Bytes = bytes.into();
        while !left.is_empty() {
            let chunk = left.split_to(left.len().min(INPUT_CHUNK_BYTES));
            let sent = match &self.sender {
                Some(sender) => sender.send(chunk).await.is_ok(),
                None => false,
            };
            if !sent {
                self.sender = None;
                return Err(self.call.lost(
                    "writing to the command's input",
                    "nobody reads the input any more",
                ));
            }
        }
        Ok(())
    }

    /// Ends the input; what was written before still arrives.
    pub fn close(&mut self) {
        self.sender = None;
    }
}

/// An output of a command. A stream that ends without an error is complete.
pub struct ExecStream {
    messages: Option<Incoming>,
    /// Dropped with the messages: tells a terminal's input that the output is over.
    open: Option<oneshot::Sender<Infallible>>,
    call: CallName,
}

impl fmt::Debug for ExecStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecStream")
            .field("open", &self.messages.is_some())
            .finish_non_exhaustive()
    }
}

impl ExecStream {
    fn end(&mut self) {
        self.messages = None;
        self.open = None;
    }
}

impl Stream for ExecStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(messages) = &mut self.messages else {
                return Poll::Ready(None);
            };
            let message = match messages.as_mut().poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(message) => message,
            };
            let broken = match message {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => continue,
                Some(Ok(Message::Binary(bytes))) => return Poll::Ready(Some(Ok(bytes))),
                // Incus marks the end of a stream with a text message.
                Some(Ok(Message::Text(_))) => {
                    self.end();
                    return Poll::Ready(None);
                }
                Some(Ok(Message::Close(_))) | None => self.call.lost(
                    "reading the command's output",
                    "it ended without its end mark",
                ),
                Some(Ok(_)) => continue,
                Some(Err(error)) => self.call.lost("reading the command's output", error),
            };
            self.end();
            return Poll::Ready(Some(Err(broken)));
        }
    }
}

/// Signals and the terminal's size. Clones share one socket.
#[derive(Debug, Clone)]
pub struct ExecControl {
    sender: mpsc::Sender<Message>,
    call: CallName,
}

impl ExecControl {
    /// Sends a signal, by its number on Linux, to the command itself (not to its children).
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        self.send(signal_message(signal)).await
    }

    /// Changes the terminal's size. Without a terminal the server ignores it.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
        self.send(resize_message(columns, rows)).await
    }

    async fn send(&self, message: Value) -> Result<(), Error> {
        let message = Message::text(message.to_string());
        self.sender.send(message).await.map_err(|_| {
            self.call
                .lost("sending a control message", "the command has ended")
        })
    }
}

/// Takes the control socket into a task of its own. When every handle is gone, the socket closes, and with that
/// the server kills the command.
pub(super) fn control(socket: Socket, call: CallName) -> ExecControl {
    let (sender, mut queue) = mpsc::channel(CONTROL_QUEUE);
    tokio::spawn(async move {
        let (mut sink, mut incoming) = socket.split();
        let send_all = async {
            while let Some(message) = queue.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = send_all => {}
            () = async { while let Some(Ok(_)) = incoming.next().await {} } => {}
        }
    });
    ExecControl { sender, call }
}
