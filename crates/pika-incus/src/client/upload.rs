//! Bodies that are streamed from local files, with a known length and little memory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use crate::error::{BoxError, ErrorCause};
use crate::transport::Body;

/// How much of a file is read at once, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// A local file that is open for sending, with the length that it had then.
pub(super) struct Upload {
    file: File,
    length: u64,
}

impl Upload {
    pub(super) async fn open(path: &Path) -> Result<Self, ErrorCause> {
        let failed = |source| ErrorCause::LocalFile {
            path: PathBuf::from(path),
            source,
        };
        let file = File::open(path).await.map_err(failed)?;
        let metadata = file.metadata().await.map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("not a regular file")));
        }
        Ok(Self {
            file,
            length: metadata.len(),
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The file's bytes, exactly as many as its length was; a file that shrank in the meantime is an error.
    fn chunks(self) -> impl Stream<Item = Result<Bytes, BoxError>> + Send {
        stream::try_unfold((self.file, self.length), |(mut file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let mut chunk = BytesMut::zeroed(want);
            let read = file.read(&mut chunk).await?;
            if read == 0 {
                return Err(BoxError::from(
                    "the local file became shorter while it was sent",
                ));
            }
            chunk.truncate(read);
            Ok(Some((chunk.freeze(), (file, left - read as u64))))
        })
    }
}

/// Bytes to send, as they come.
pub(super) type Chunks = BoxStream<'static, Result<Bytes, BoxError>>;

/// The bytes of one file.
pub(super) fn single(upload: Upload) -> Chunks {
    upload.chunks().boxed()
}

/// A `multipart/form-data` body of files, with its content type and its length in bytes.
pub(super) struct Multipart {
    pub(super) chunks: Chunks,
    pub(super) content_type: String,
    pub(super) length: u64,
}

/// Puts files together, each under its field name. `boundary` must not occur in them.
pub(super) fn multipart(boundary: &str, parts: Vec<(&'static str, Upload)>) -> Multipart {
    let mut length = 0;
    let mut pieces: Vec<Chunks> = Vec::new();
    let literal = |text: String| {
        let bytes = Bytes::from(text);
        (bytes.len() as u64, Box::pin(stream::iter([Ok(bytes)])) as _)
    };
    for (field, upload) in parts {
        let (size, head) = literal(format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{field}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        ));
        length += size + upload.length();
        pieces.push(head);
        pieces.push(Box::pin(upload.chunks()));
        let (size, tail) = literal("\r\n".to_owned());
        length += size;
        pieces.push(tail);
    }
    let (size, end) = literal(format!("--{boundary}--\r\n"));
    length += size;
    pieces.push(end);
    Multipart {
        chunks: stream::iter(pieces).flatten().boxed(),
        content_type: format!("multipart/form-data; boundary={boundary}"),
        length,
    }
}

/// A body of these bytes, and what tells that it still moves: it changes with every piece that is taken and closes
/// with the last.
pub(super) fn watched(chunks: Chunks) -> (Body, watch::Receiver<()>) {
    let (moved, moving) = watch::channel(());
    let counted = chunks.map(move |chunk| {
        moved.send_replace(());
        chunk.map(Frame::data)
    });
    (StreamBody::new(counted).boxed_unsync(), moving)
}

/// Ends when a body stood still for `idle`, or when no answer came for `answer` after its last piece; gives the limit
/// that was over.
pub(super) async fn stalled(
    mut moving: watch::Receiver<()>,
    idle: Duration,
    answer: Duration,
) -> Duration {
    loop {
        match tokio::time::timeout(idle, moving.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_all_taken)) => {
                tokio::time::sleep(answer).await;
                return answer;
            }
            Err(_) => return idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Upload, multipart, watched};
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_multipart_body_has_the_length_that_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, vec![7; 300_000]).unwrap();
        let parts = vec![
            ("metadata", Upload::open(&path).await.unwrap()),
            ("rootfs", Upload::open(&path).await.unwrap()),
        ];
        let built = multipart("b0", parts);
        let (body, _) = watched(built.chunks);
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len() as u64, built.length);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("--b0\r\nContent-Disposition: form-data; name=\"metadata\""));
        assert!(text.ends_with("\r\n--b0--\r\n"));
    }

    #[tokio::test]
    async fn a_directory_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Upload::open(dir.path()).await.is_err());
        assert!(Upload::open(&dir.path().join("absent")).await.is_err());
    }
}
