use futures_util::stream;
use pika_incus::{ErrorKind, FileContent, FileKind, FileMeta, WriteMode};

use crate::support::Subject;

pub(crate) async fn write_and_read(s: &Subject) {
    let name = s.instance("a", true).await;
    let meta = FileMeta {
        uid: 1000,
        gid: 1000,
        ..FileMeta::root(0o640)
    };
    s.client
        .file_put(&name, "/tmp/f", &b"hello"[..], &meta)
        .await
        .expect("put");
    let facts = s.client.file_head(&name, "/tmp/f").await.expect("head");
    assert_eq!(
        (facts.kind, facts.size, facts.mode, facts.uid, facts.gid),
        (FileKind::File, Some(5), 0o640, 1000, 1000)
    );
    assert_eq!(
        s.client
            .file_read(&name, "/tmp/f", 100)
            .await
            .expect("read"),
        b"hello"
    );
    let append = FileMeta {
        write: WriteMode::Append,
        ..meta
    };
    s.client
        .file_put(&name, "/tmp/f", &b" world"[..], &append)
        .await
        .expect("append");
    assert_eq!(
        s.client
            .file_read(&name, "/tmp/f", 100)
            .await
            .expect("read"),
        b"hello world"
    );
    let error = s
        .client
        .file_read(&name, "/tmp/f", 10)
        .await
        .expect_err("it is larger");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    s.client
        .file_put(&name, "/tmp/f", &b""[..], &meta)
        .await
        .expect("truncate");
    assert_eq!(
        s.client
            .file_read(&name, "/tmp/f", 100)
            .await
            .expect("read"),
        b""
    );

    let chunks = (0..50_u8).map(|n| Ok(bytes::Bytes::from(vec![n; 10_000])));
    s.client
        .file_put_stream(&name, "/tmp/g", stream::iter(chunks), &meta)
        .await
        .expect("streamed put");
    let back = s
        .client
        .file_read(&name, "/tmp/g", 1 << 20)
        .await
        .expect("read");
    assert_eq!((back.len(), back[499_999]), (500_000, 49));
    s.remove_instance(&name).await;
}

pub(crate) async fn ranges(s: &Subject) {
    let name = s.instance("a", true).await;
    s.client
        .file_put(&name, "/tmp/f", &b"0123456789"[..], &FileMeta::root(0o600))
        .await
        .expect("put");
    for (offset, length, wanted) in [
        (0, Some(3), "012"),
        (4, Some(2), "45"),
        (7, None, "789"),
        (8, Some(100), "89"),
        (10, None, ""),
        (99, None, ""),
    ] {
        let part = s
            .client
            .file_read_range(&name, "/tmp/f", offset, length)
            .await
            .expect("range");
        assert_eq!(part.total_bytes(), Some(10), "{offset}");
        assert_eq!(
            part.read_to_end(100).await.expect("bytes"),
            wanted.as_bytes(),
            "{offset}"
        );
    }
    s.remove_instance(&name).await;
}

pub(crate) async fn directories_and_links(s: &Subject) {
    let name = s.instance("a", true).await;
    s.client
        .directory_create(&name, "/tmp/d", &FileMeta::root(0o755))
        .await
        .expect("mkdir");
    for file in ["one", "two"] {
        s.client
            .file_put(
                &name,
                &format!("/tmp/d/{file}"),
                &b"x"[..],
                &FileMeta::root(0o600),
            )
            .await
            .expect("put");
    }
    s.client
        .symlink_create(&name, "/tmp/d/link", "/etc/shadow")
        .await
        .expect("symlink");
    let FileContent::Directory { mut entries, facts } =
        s.client.file_get(&name, "/tmp/d").await.expect("list")
    else {
        panic!("a directory was expected");
    };
    entries.sort();
    assert_eq!(
        (entries, facts.kind, facts.size),
        (
            vec!["link".into(), "one".into(), "two".into()],
            FileKind::Directory,
            None
        )
    );
    let FileContent::Symlink { target, .. } =
        s.client.file_get(&name, "/tmp/d/link").await.expect("link")
    else {
        panic!("a link was expected");
    };
    assert_eq!(target, "/etc/shadow");
    assert_eq!(
        s.client
            .file_head(&name, "/tmp/d/link")
            .await
            .expect("head")
            .kind,
        FileKind::Symlink
    );
    let error = s
        .client
        .file_read(&name, "/tmp/d/link", 100)
        .await
        .expect_err("a link is not followed");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    s.client
        .file_delete(&name, "/tmp/d/one")
        .await
        .expect("delete");
    let error = s
        .client
        .file_head(&name, "/tmp/d/one")
        .await
        .expect_err("deleted");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    s.remove_instance(&name).await;
}

pub(crate) async fn missing_paths(s: &Subject) {
    let name = s.instance("a", true).await;
    let head = s
        .client
        .file_head(&name, "/nope")
        .await
        .expect_err("no such file");
    let get = s
        .client
        .file_get(&name, "/nope")
        .await
        .expect_err("no such file");
    assert_eq!(
        (head.kind(), get.kind()),
        (ErrorKind::NotFound, ErrorKind::NotFound),
        "{head} {get}"
    );
    let relative = s
        .client
        .file_get(&name, "tmp/x")
        .await
        .expect_err("a relative path");
    assert_eq!(relative.kind(), ErrorKind::InvalidRequest, "{relative}");
    s.remove_instance(&name).await;
    let gone = s
        .client
        .file_head(&name, "/etc")
        .await
        .expect_err("no such instance");
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
}
