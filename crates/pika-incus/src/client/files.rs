//! Files inside instances: `/1.0/instances/{name}/files`.
//!
//! The server works on files as the guest shows them, and names in listings that aren't UTF-8 come mangled.
//! **A `GET` of a FIFO hangs in the server**, and while it hangs, stopping and deleting the instance may hang too;
//! a device node can do the same. `HEAD` doesn't open anything, but shows a FIFO and a device as a file of length 0.
//! [`Client::file_read`] therefore never opens what has length 0. A guest that swaps files in between can still
//! win: on a guest that isn't trusted, use these calls only while it is stopped.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, StatusCode};
use hyper::body::Body as _;
use tokio::time::{Instant, Sleep};

use super::{Answer, CallName, Client, built};
use crate::error::{BoxError, Error, ErrorCause};
use crate::request::files::{self, FileMeta};
use crate::transport::{Body, full};

/// What something in a guest's file system is, as far as Incus tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file, or a FIFO, socket or device: those are not told apart, and have length 0.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; it is never followed.
    Symlink,
}

/// Facts about a path, from `HEAD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes; only for [`FileKind::File`].
    pub size: Option<u64>,
    /// Permission bits (the lower nine).
    pub mode: u32,
    /// Owner in the guest.
    pub uid: u32,
    /// Group in the guest.
    pub gid: u32,
    /// When it was last changed, in the server's own text form.
    pub modified: String,
}

/// What a `GET` gave.
#[derive(Debug)]
pub enum FileContent {
    /// The bytes of a file.
    File {
        /// The bytes as they come.
        bytes: FileStream,
        /// Facts from the same answer.
        facts: FileFacts,
    },
    /// The names in a directory. Names that aren't UTF-8 are mangled.
    Directory {
        /// Names, without the directory's path.
        entries: Vec<String>,
        /// Facts from the same answer.
        facts: FileFacts,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, made absolute by the server.
        target: String,
        /// Facts from the same answer.
        facts: FileFacts,
    },
}

/// Longest target of a symbolic link that is read, in bytes.
const SYMLINK_BYTES_MAX: usize = 64 * 1024;

/// The bytes of a file as they come. It ends with an error if the connection breaks before the last byte.
pub struct FileStream {
    call: CallName,
    body: Option<Body>,
    /// The file's length, where the server said it.
    total: Option<u64>,
    idle: Pin<Box<Sleep>>,
    idle_limit: Duration,
}

impl std::fmt::Debug for FileStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStream")
            .field("path", &self.call.path)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl FileStream {
    /// The length of the whole file at the time of the request, where the server said it.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total
    }

    /// Reads everything into memory, refusing more than `bytes_max`.
    pub async fn read_to_end(mut self, bytes_max: u64) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if (all.len() + chunk.len()) as u64 > bytes_max {
                return Err(self.call.error(ErrorCause::TooLarge {
                    limit_bytes: bytes_max,
                }));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }
}

impl Stream for FileStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(body) = &mut self.body else {
                return Poll::Ready(None);
            };
            let error = match Pin::new(body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let deadline = Instant::now() + self.idle_limit;
                    self.idle.as_mut().reset(deadline);
                    match frame.into_data() {
                        Ok(data) => return Poll::Ready(Some(Ok(data))),
                        Err(_trailers) => continue,
                    }
                }
                Poll::Ready(Some(Err(source))) => self.call.lost("reading the file", source),
                Poll::Ready(None) => {
                    self.body = None;
                    return Poll::Ready(None);
                }
                Poll::Pending => match self.idle.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => self.call.timed_out("reading the file", self.idle_limit),
                },
            };
            self.body = None;
            return Poll::Ready(Some(Err(error)));
        }
    }
}

impl Client {
    /// Looks at a path without opening it: `HEAD .../files`. A missing path is
    /// [`NotFound`](crate::ErrorKind::NotFound), as is a missing instance.
    pub async fn file_head(&self, name: &str, path: &str) -> Result<FileFacts, Error> {
        let request = built(files::head(self.project(), name, path))?;
        let answer = self
            .send(request, None, Some(self.timeouts.call))
            .await?
            .accepted()
            .await?;
        facts(&answer)
    }

    /// Reads a file, directory or symbolic link: `GET .../files`. Opens whatever is there: see the module's note on
    /// FIFOs, and [`Client::file_read`] for a careful way.
    pub async fn file_get(&self, name: &str, path: &str) -> Result<FileContent, Error> {
        let request = built(files::get(self.project(), name, path))?;
        let answer = self
            .send(request, None, Some(self.timeouts.call))
            .await?
            .accepted()
            .await?;
        let facts = facts(&answer)?;
        match facts.kind {
            FileKind::File => Ok(FileContent::File {
                bytes: stream(self, answer.call, answer.response.into_body(), facts.size),
                facts,
            }),
            FileKind::Directory => {
                let entries: Option<Vec<String>> = answer.into_reply().await?.value()?.value;
                Ok(FileContent::Directory {
                    entries: entries.unwrap_or_default(),
                    facts,
                })
            }
            FileKind::Symlink => {
                let target = stream(self, answer.call, answer.response.into_body(), None)
                    .read_to_end(SYMLINK_BYTES_MAX as u64)
                    .await?;
                let target = String::from_utf8_lossy(&target).into_owned();
                Ok(FileContent::Symlink { target, facts })
            }
        }
    }

    /// Reads the bytes of a file from `offset` on, at most `length`: `GET` with a `Range`. Beyond the file's end
    /// the stream is empty. Opens whatever is there, like [`Client::file_get`].
    pub async fn file_read_range(
        &self,
        name: &str,
        path: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<FileStream, Error> {
        let request = built(files::get_range(self.project(), name, path, offset, length))?;
        let answer = self.send(request, None, Some(self.timeouts.call)).await?;
        let total = range_total(answer.headers());
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(stream(self, answer.call, full(Bytes::new()), total));
        }
        let answer = answer.accepted().await?;
        let facts = facts(&answer)?;
        if facts.kind != FileKind::File {
            return Err(answer.call.protocol(
                format!("a file was expected and {:?} is there", facts.kind),
                None,
            ));
        }
        if answer.status() != StatusCode::PARTIAL_CONTENT && offset > 0 {
            return Err(answer.call.protocol("the server ignored the range", None));
        }
        let total = total.or(facts.size);
        Ok(stream(
            self,
            answer.call,
            answer.response.into_body(),
            total,
        ))
    }

    /// Reads a small regular file: looks with `HEAD` first, opens only what is a file of some length, and reads no
    /// more than `bytes_max`. A file of length 0 is not opened (it may be a FIFO) and gives no bytes.
    pub async fn file_read(
        &self,
        name: &str,
        path: &str,
        bytes_max: u64,
    ) -> Result<Vec<u8>, Error> {
        let request = built(files::head(self.project(), name, path))?;
        let call = CallName::of(&request);
        let seen = self.file_head(name, path).await?;
        if seen.kind != FileKind::File {
            return Err(call.protocol(
                format!("a file was expected and {:?} is there", seen.kind),
                None,
            ));
        }
        match seen.size {
            None | Some(0) => Ok(Vec::new()),
            Some(size) if size > bytes_max => Err(call.error(ErrorCause::TooLarge {
                limit_bytes: bytes_max,
            })),
            Some(_) => {
                self.file_read_range(name, path, 0, None)
                    .await?
                    .read_to_end(bytes_max)
                    .await
            }
        }
    }

    /// Writes a file: `POST .../files`. Its directory must exist.
    pub async fn file_put(
        &self,
        name: &str,
        path: &str,
        bytes: impl Into<Bytes>,
        meta: &FileMeta,
    ) -> Result<(), Error> {
        let request = built(files::put(self.project(), name, path, meta))?;
        self.call(request, Some(full(bytes.into())), Some(self.timeouts.call))
            .await
            .map(drop)
    }

    /// Writes a file from a stream: `POST .../files`. The whole may take long, and may not stand still for
    /// longer than [`Timeouts::stream_idle`](super::Timeouts::stream_idle); giving up leaves a part of the file there.
    pub async fn file_put_stream(
        &self,
        name: &str,
        path: &str,
        bytes: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
        meta: &FileMeta,
    ) -> Result<(), Error> {
        let request = built(files::put(self.project(), name, path, meta))?;
        self.call_streamed(request, bytes.boxed()).await.map(drop)
    }

    /// Makes a directory: `POST .../files`. Its parent must exist; one that is there is left as it is.
    pub async fn directory_create(
        &self,
        name: &str,
        path: &str,
        meta: &FileMeta,
    ) -> Result<(), Error> {
        self.execute(built(files::create_directory(
            self.project(),
            name,
            path,
            meta,
        ))?)
        .await
    }

    /// Makes a symbolic link: `POST .../files`.
    pub async fn symlink_create(&self, name: &str, path: &str, target: &str) -> Result<(), Error> {
        let request = built(files::create_symlink(self.project(), name, path))?;
        let body = full(Bytes::copy_from_slice(target.as_bytes()));
        self.call(request, Some(body), Some(self.timeouts.call))
            .await
            .map(drop)
    }

    /// Deletes a file, a link or an empty directory: `DELETE .../files`.
    pub async fn file_delete(&self, name: &str, path: &str) -> Result<(), Error> {
        self.execute(built(files::delete(self.project(), name, path))?)
            .await
    }
}

fn stream(client: &Client, call: CallName, body: Body, total: Option<u64>) -> FileStream {
    let idle_limit = client.timeouts.stream_idle;
    FileStream {
        call,
        body: Some(body),
        total,
        idle: Box::pin(tokio::time::sleep(idle_limit)),
        idle_limit,
    }
}

/// The whole file's length from `Content-Range: bytes 0-9/100` or `bytes */100`.
fn range_total(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(CONTENT_RANGE)?
        .to_str()
        .ok()?
        .rsplit_once('/')?
        .1
        .parse()
        .ok()
}

fn facts(answer: &Answer) -> Result<FileFacts, Error> {
    let text = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let number = |name: &str| text(name).and_then(|value| value.parse().ok()).unwrap_or(0);
    let kind = match text("x-incus-type") {
        Some("file") => FileKind::File,
        Some("directory") => FileKind::Directory,
        Some("symlink") => FileKind::Symlink,
        other => {
            return Err(answer
                .call
                .protocol(format!("a file of the type {other:?}"), None));
        }
    };
    let length = || text(CONTENT_LENGTH.as_str()).and_then(|value| value.parse().ok());
    Ok(FileFacts {
        kind,
        size: if kind == FileKind::File {
            length()
        } else {
            None
        },
        mode: text("x-incus-mode")
            .and_then(|mode| u32::from_str_radix(mode, 8).ok())
            .unwrap_or(0),
        uid: number("x-incus-uid"),
        gid: number("x-incus-gid"),
        modified: text("x-incus-modified").unwrap_or_default().to_owned(),
    })
}
