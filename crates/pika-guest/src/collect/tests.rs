//! Hostile directories, on this machine's own file system.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{CWD, mknodat};

use super::*;

struct Guest {
    temporary: tempfile::TempDir,
    layout: Layout,
}

fn guest() -> Guest {
    let temporary = tempfile::tempdir().unwrap();
    let layout = Layout::under(&temporary.path().canonicalize().unwrap());
    std::fs::create_dir_all(layout.state_dir.join("artifacts")).unwrap();
    std::fs::create_dir_all(layout.state_dir.join("logs")).unwrap();
    Guest { temporary, layout }
}

fn wanted(globs: &[&str]) -> Wanted {
    let globs = globs
        .iter()
        .map(|glob| Glob::new(glob.as_bytes()).unwrap())
        .collect();
    Wanted {
        globs,
        logs: true,
        result: true,
        bytes_max: 1_000_000,
        files_max: 1000,
    }
}

fn archive(guest: &Guest, wanted: &Wanted) -> (CollectSummary, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut bytes = Vec::new();
    let summary = collect(&guest.layout, wanted, &mut bytes).unwrap();
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().entry_type(), EntryType::Regular);
        let name = entry.path_bytes().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(name, content);
    }
    assert_eq!(summary.files, files.len() as u64);
    (summary, files)
}

fn artifact(guest: &Guest, name: &str) -> PathBuf {
    guest.layout.state_dir.join("artifacts").join(name)
}

#[test]
fn the_chosen_files_come_with_their_names_below_the_state_directory() {
    let guest = guest();
    std::fs::create_dir(artifact(&guest, "d")).unwrap();
    std::fs::write(artifact(&guest, "d/a.xml"), "a").unwrap();
    std::fs::write(artifact(&guest, "b.txt"), "b").unwrap();
    std::fs::write(guest.layout.state_dir.join("result.json"), "{}").unwrap();
    std::fs::write(guest.layout.state_dir.join("logs/guest.log"), "log").unwrap();
    let (summary, files) = archive(&guest, &wanted(&["**/*.xml"]));
    let names: Vec<&[u8]> = files.keys().map(Vec::as_slice).collect();
    assert_eq!(
        names,
        [&b"artifacts/d/a.xml"[..], b"logs/guest.log", b"result.json"]
    );
    assert_eq!(
        (summary.bytes, summary.truncated, summary.refused.len()),
        (6, false, 0)
    );
    let nothing = Wanted {
        globs: Vec::new(),
        logs: false,
        result: false,
        ..wanted(&[])
    };
    assert!(archive(&guest, &nothing).1.is_empty());
}

#[test]
fn links_fifos_and_sockets_are_refused_and_never_opened() {
    let guest = guest();
    std::os::unix::fs::symlink("/etc/passwd", artifact(&guest, "link")).unwrap();
    std::os::unix::fs::symlink("/etc", artifact(&guest, "linked-dir")).unwrap();
    let fifo = FifoAt(artifact(&guest, "fifo"));
    mknodat(
        CWD,
        &fifo.0,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(artifact(&guest, "socket")).unwrap();
    std::fs::write(artifact(&guest, "real"), "r").unwrap();
    let (summary, files) = archive(&guest, &wanted(&["**"]));
    assert_eq!(
        files.keys().map(Vec::as_slice).collect::<Vec<_>>(),
        [&b"artifacts/real"[..]]
    );
    let mut refused: Vec<(&str, &str)> = summary
        .refused
        .iter()
        .map(|refused| (refused.name.as_str(), refused.why.as_str()))
        .collect();
    refused.sort_unstable();
    assert_eq!(
        refused,
        [
            ("artifacts/fifo", "it is a FIFO"),
            ("artifacts/link", "it is a symlink"),
            ("artifacts/linked-dir", "it is a symlink"),
            ("artifacts/socket", "it is a socket"),
        ]
    );
}

struct FifoAt(PathBuf);

#[test]
fn planted_links_in_the_fixed_places_are_refused() {
    let guest = guest();
    std::fs::remove_dir(guest.layout.state_dir.join("artifacts")).unwrap();
    std::os::unix::fs::symlink("/etc", guest.layout.state_dir.join("artifacts")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", guest.layout.state_dir.join("logs/guest.log"))
        .unwrap();
    std::os::unix::fs::symlink("/etc/passwd", guest.layout.state_dir.join("result.json")).unwrap();
    let (summary, files) = archive(&guest, &wanted(&["**"]));
    assert!(files.is_empty());
    assert_eq!(summary.refused.len(), 3);
    drop(guest.temporary);
}

#[test]
fn a_name_that_is_no_text_and_a_long_one_stay_as_they_are() {
    let guest = guest();
    let raw = std::ffi::OsString::from_vec(b"r\xff\xfe.bin".to_vec());
    std::fs::write(guest.layout.state_dir.join("artifacts").join(raw), "1").unwrap();
    let long = "l".repeat(240);
    std::fs::create_dir(artifact(&guest, &long)).unwrap();
    std::fs::write(artifact(&guest, &format!("{long}/{long}")), "2").unwrap();
    let (_, files) = archive(&guest, &wanted(&["**"]));
    assert_eq!(files[&b"artifacts/r\xff\xfe.bin"[..]], b"1");
    assert_eq!(files[format!("artifacts/{long}/{long}").as_bytes()], b"2");
}

#[test]
fn bytes_and_files_are_bounded() {
    let guest = guest();
    let huge = File::create(artifact(&guest, "huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    std::fs::write(artifact(&guest, "small"), "s").unwrap();
    let (summary, files) = archive(&guest, &wanted(&["**"]));
    assert_eq!(
        files.keys().map(Vec::as_slice).collect::<Vec<_>>(),
        [&b"artifacts/small"[..]]
    );
    assert!(summary.truncated);
    assert!(
        summary.refused[0].why.contains("1099511627776 bytes"),
        "{:?}",
        summary.refused
    );
    for number in 0..50 {
        std::fs::write(artifact(&guest, &number.to_string()), "s").unwrap();
    }
    let few = Wanted {
        files_max: 10,
        ..wanted(&["**"])
    };
    let (summary, _) = archive(&guest, &few);
    assert!(summary.truncated && summary.files == 10);
}

#[test]
fn a_deep_tree_is_cut_off() {
    let guest = guest();
    let mut path = guest.layout.state_dir.join("artifacts");
    for _ in 0..100 {
        path.push("d");
    }
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("deep"), "d").unwrap();
    let (summary, files) = archive(&guest, &wanted(&["**"]));
    assert!(files.is_empty() && summary.truncated);
    assert_eq!(summary.refused[0].why, "it is too deep");
}

#[test]
fn a_file_that_shrinks_keeps_the_archive_whole() {
    let mut content = ExactLength {
        file: tempfile::tempfile().unwrap(),
        left: 10,
        fell_short: false,
    };
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes, content.fell_short), (vec![0; 10], true));
}

#[test]
fn the_worst_summary_fits_its_line() {
    let guest = guest();
    for number in 0..200 {
        let mut name = vec![0xff; 200];
        name.extend_from_slice(number.to_string().as_bytes());
        let path = guest
            .layout
            .state_dir
            .join("artifacts")
            .join(std::ffi::OsString::from_vec(name));
        std::os::unix::fs::symlink("x", path).unwrap();
    }
    let (summary, _) = archive(&guest, &wanted(&["**"]));
    assert!(summary.truncated);
    pika_cloud::record::encode_collect_summary(&summary).unwrap();
}
