//! A socket between the program and its daemon that stops at a request, so that a test can kill the program exactly there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};

const READ_BYTES: usize = 64 * 1024;

/// Where the gate stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The daemon never gets the request.
    Request,
    /// The daemon gets it, and nobody its answer.
    Answer,
}

/// A request to stop at: what its first line begins with and holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) at: At,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// What else the path holds.
    pub(crate) part: &'static str,
}

/// The socket. It is gone with the value; connections end with the program.
pub(crate) struct Gate {
    dir: tempfile::TempDir,
    stopped: watch::Receiver<bool>,
}

impl Gate {
    /// A socket that passes everything on to `daemon` until the first request that `stop` names.
    pub(crate) fn open(daemon: PathBuf, stop: Stop) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(dir.path().join("socket")).expect("bound");
        let (told, stopped) = watch::channel(false);
        let told = Arc::new(told);
        tokio::spawn(async move {
            while let Ok((program, _)) = listener.accept().await {
                tokio::spawn(pass(program, daemon.clone(), stop, Arc::clone(&told)));
            }
        });
        Self { dir, stopped }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Returns once the request came.
    pub(crate) async fn stopped(&mut self) {
        self.stopped
            .wait_for(|stopped| *stopped)
            .await
            .expect("the gate is open");
    }
}

/// One connection: both ways, until either side ends.
async fn pass(program: UnixStream, daemon: PathBuf, stop: Stop, told: Arc<watch::Sender<bool>>) {
    let Ok(server) = UnixStream::connect(Path::new(&daemon)).await else {
        return;
    };
    let (mut from_program, mut to_program) = program.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (halt, halted) = oneshot::channel::<()>();
    let mut answers = tokio::spawn(async move {
        tokio::select! {
            _ = tokio::io::copy(&mut from_server, &mut to_program) => None,
            // A half that is dropped ends its direction, and the program would see that.
            Ok(()) = halted => Some((from_server, to_program)),
        }
    });
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let read = tokio::select! {
            read = from_program.read(&mut bytes) => read,
            _ = &mut answers => return,
        };
        let Ok(count @ 1..) = read else { break };
        if stop.names(&bytes[..count]) {
            // Before the request is passed on, so that no answer slips through.
            halt.send(()).ok();
            let _held = answers.await;
            if stop.at == At::Answer {
                to_server.write_all(&bytes[..count]).await.ok();
            }
            told.send_replace(true);
            // The connection stays as it is until the program is gone; what else it sends goes nowhere.
            while matches!(from_program.read(&mut bytes).await, Ok(1..)) {}
            return;
        }
        if to_server.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    answers.abort();
}

impl Stop {
    /// Whether these bytes begin with the request's head. The program writes each head at once.
    fn names(&self, bytes: &[u8]) -> bool {
        let line = bytes
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        words.next() == Some(self.method)
            && words
                .next()
                .is_some_and(|path| path.starts_with(self.path) && path.contains(self.part))
    }
}
