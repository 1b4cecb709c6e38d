//! Tests of the archive reader: whole archives, hostile ones, and any bytes at all.

use std::io;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Memory {
    files: Vec<(Vec<u8>, Vec<u8>)>,
    open: Option<(Vec<u8>, Vec<u8>)>,
    refused: Vec<(Vec<u8>, String)>,
}

impl ArchiveSink for Memory {
    fn begin(&mut self, components: &[&[u8]], _size: u64) -> Result<(), String> {
        self.open = Some((components.join(&b'/'), Vec::new()));
        Ok(())
    }
    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open
            .as_mut()
            .expect("a file is open while its data comes")
            .1
            .extend_from_slice(bytes);
        Ok(())
    }
    fn end(&mut self) -> io::Result<()> {
        self.files
            .push(self.open.take().expect("a file is open when it ends"));
        Ok(())
    }
    fn abort(&mut self) {
        self.open = None;
    }
    fn refused(&mut self, name: &[u8], why: String) {
        self.refused.push((name.to_vec(), why));
    }
}

fn header(name: &[u8], size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o777);
    header.set_cksum();
    header
}

fn append(archive: &mut Vec<u8>, header: &tar::Header, content: &[u8]) {
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

fn file(archive: &mut Vec<u8>, name: &[u8], content: &[u8]) {
    append(
        archive,
        &header(name, content.len() as u64, tar::EntryType::Regular),
        content,
    );
}

fn read(archive: &[u8], limits: &CollectLimits) -> (Memory, ArchiveEnd) {
    let mut memory = Memory::default();
    let end = read_archive(&mut &archive[..], limits, &mut memory).unwrap();
    (memory, end)
}

#[test]
fn files_come_out_as_they_went_in() {
    let mut archive = Vec::new();
    file(&mut archive, b"artifacts/a", b"one");
    file(&mut archive, b"artifacts/\xff\xfe", &[7; 1500]);
    file(&mut archive, b"empty", b"");
    archive.resize(archive.len() + 1024, 0);
    let (memory, end) = read(&archive, &CollectLimits::default());
    assert_eq!(end, ArchiveEnd::Whole);
    assert_eq!(memory.files[0], (b"artifacts/a".to_vec(), b"one".to_vec()));
    assert_eq!(
        memory.files[1],
        (b"artifacts/\xff\xfe".to_vec(), vec![7; 1500])
    );
    assert_eq!(memory.files[2], (b"empty".to_vec(), Vec::new()));
}

#[test]
fn long_names_are_read_in_both_forms() {
    let long = [b"d/".repeat(10), vec![b'n'; 180]].concat();
    let mut archive = Vec::new();
    append(
        &mut archive,
        &header(
            b"././@LongLink",
            long.len() as u64 + 1,
            tar::EntryType::GNULongName,
        ),
        &[&long[..], &[0]].concat(),
    );
    file(&mut archive, b"short", b"gnu");
    let mut record = [b" path=p/", &long[..], b"\n"].concat();
    let digits = record.len() + 3;
    record.splice(0..0, digits.to_string().into_bytes());
    append(
        &mut archive,
        &header(b"pax", record.len() as u64, tar::EntryType::XHeader),
        &record,
    );
    file(&mut archive, b"short", b"pax");
    archive.resize(archive.len() + 512, 0);
    let (memory, end) = read(&archive, &CollectLimits::default());
    assert_eq!(end, ArchiveEnd::Whole);
    assert_eq!(memory.files[0], (long.clone(), b"gnu".to_vec()));
    assert_eq!(
        memory.files[1],
        ([b"p/", &long[..]].concat(), b"pax".to_vec())
    );
}

#[test]
fn links_devices_fifos_and_names_that_lead_out_are_refused_and_the_rest_is_taken() {
    let mut archive = Vec::new();
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Char,
        tar::EntryType::Block,
        tar::EntryType::Fifo,
        tar::EntryType::Continuous,
    ] {
        append(&mut archive, &header(b"artifacts/trap", 0, kind), b"");
    }
    file(&mut archive, b"/etc/cron.d/x", b"absolute");
    file(&mut archive, b"../../x", b"parent");
    file(&mut archive, b"good", b"good");
    archive.resize(archive.len() + 512, 0);
    let (memory, end) = read(&archive, &CollectLimits::default());
    assert_eq!(end, ArchiveEnd::Whole);
    assert_eq!(memory.files, [(b"good".to_vec(), b"good".to_vec())]);
    assert_eq!(memory.refused.len(), 8, "{:?}", memory.refused);
}

#[test]
fn every_limit_ends_in_a_partial_result_that_says_which() {
    let small = CollectLimits {
        file_bytes_max: 10,
        total_bytes_max: 15,
        files_max: 3,
        ..CollectLimits::default()
    };
    let mut archive = Vec::new();
    file(&mut archive, b"a", b"12345678");
    file(&mut archive, b"too-big", b"12345678901");
    file(&mut archive, b"b", b"12345678");
    let (memory, end) = read(&archive, &small);
    assert_eq!(end, ArchiveEnd::Limit("bytes in all"));
    assert_eq!(memory.files.len(), 1);
    assert!(
        memory.refused[0].1.contains("over the limit of 10"),
        "{:?}",
        memory.refused
    );

    let mut many = Vec::new();
    for at in 0..5 {
        file(&mut many, format!("f{at}").as_bytes(), b"");
    }
    assert_eq!(read(&many, &small).1, ArchiveEnd::Limit("number of files"));

    let mut bomb = Vec::new();
    append(
        &mut bomb,
        &header(b"././@LongLink", 1 << 33, tar::EntryType::GNULongName),
        b"",
    );
    assert_eq!(
        read(&bomb, &small).1,
        ArchiveEnd::Limit("size of an extended header")
    );

    let claims = CollectLimits {
        total_bytes_max: 0,
        files_max: 1,
        ..CollectLimits::default()
    };
    let mut endless = Vec::new();
    append(
        &mut endless,
        &header(b"huge", 1 << 40, tar::EntryType::Regular),
        &vec![0; 2 << 20],
    );
    assert_eq!(
        read(&endless, &claims).1,
        ArchiveEnd::Limit("bytes on the wire")
    );
}

#[test]
fn a_stream_cut_anywhere_keeps_whole_files_only() {
    let mut archive = Vec::new();
    file(&mut archive, b"a", b"first");
    file(&mut archive, b"b", &[9; 700]);
    let (memory, end) = read(&archive[..512 + 512 + 512 + 300], &CollectLimits::default());
    assert!(matches!(end, ArchiveEnd::Torn(_)), "{end:?}");
    assert_eq!(memory.files.len(), 1);
    assert!(memory.open.is_none(), "the torn file was not forgotten");
}

proptest! {
    #[test]
    fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        read(&bytes, &CollectLimits::default());
    }

    #[test]
    fn a_damaged_archive_never_yields_a_name_that_leads_out(at in 0usize..2048, value in any::<u8>()) {
        let mut archive = Vec::new();
        file(&mut archive, b"artifacts/a", &[1; 600]);
        file(&mut archive, b"artifacts/b", b"x");
        archive.resize(archive.len() + 512, 0);
        let at = at % archive.len();
        archive[at] = value;
        let (memory, _) = read(&archive, &CollectLimits::default());
        for (name, _) in memory.files {
            prop_assert!(!name.starts_with(b"/") && !name.split(|b| *b == b'/').any(|c| c == b".."));
        }
    }
}
