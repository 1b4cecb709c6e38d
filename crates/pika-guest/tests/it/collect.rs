//! What is taken out of a hostile guest.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::Output;
use std::time::Instant;

use pika_cloud::RunEnd;
use pika_cloud::record::{CollectSummary, decode_collect_summary};
use pikahut::stack::TestIncus;

use crate::support::{Guest, assert_end, request, root_request};

fn collected(guest: &Guest, arguments: &[&str]) -> Output {
    guest.until_whole(arguments, |output| {
        decode_collect_summary(&output.stderr).is_ok_and(|summary| summary.is_some())
    })
}

fn archive(output: &Output) -> (CollectSummary, BTreeMap<Vec<u8>, u64>) {
    assert!(
        output.status.success(),
        "{:?} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let summary = decode_collect_summary(&output.stderr).unwrap().unwrap();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(output.stdout.as_slice())
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().entry_type(), tar::EntryType::Regular);
        let name = entry.path_bytes().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(name, content.len() as u64);
    }
    assert_eq!(files.len() as u64, summary.files);
    (summary, files)
}

fn refusal<'a>(summary: &'a CollectSummary, name: &str) -> &'a str {
    let found = summary
        .refused
        .iter()
        .find(|refused| refused.name == format!("artifacts/{name}"));
    &found
        .unwrap_or_else(|| panic!("{name} was not refused: {:?}", summary.refused))
        .why
}

#[tokio::test(flavor = "multi_thread")]
async fn only_regular_files_come_out_of_a_hostile_guest() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "hostile", &[]).await;
    let plant = r"cd /run/pika-cloud/artifacts
        ln -s /etc/shadow link; ln -s / dir-link; mkfifo fifo; truncate -s 1T huge
        printf '1' > $(printf 'raw\377name'); mkdir sub; echo two > sub/report.xml
        mkdir mounted; mount --bind /proc mounted; touch node; mount --bind /dev/zero node; echo end";
    assert_end(
        &guest.run("hostile", &root_request(plant)),
        RunEnd::Exited { code: 0 },
    );
    let all = [
        "collect",
        "--glob",
        "**",
        "--logs",
        "--result",
        "--bytes-max",
        "1000000",
    ];
    let (summary, files) = archive(&collected(&guest, &all));
    let names: Vec<&[u8]> = files.keys().map(Vec::as_slice).collect();
    let expected: [&[u8]; 6] = [
        b"artifacts/raw\xffname",
        b"artifacts/sub/report.xml",
        b"events.jsonl",
        b"logs/guest.log",
        b"result.json",
        b"status.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(refusal(&summary, "link"), "it is a symlink");
    assert_eq!(refusal(&summary, "dir-link"), "it is a symlink");
    assert_eq!(refusal(&summary, "fifo"), "it is a FIFO");
    assert_eq!(refusal(&summary, "node"), "it is a device");
    assert!(refusal(&summary, "huge").contains("1099511627776 bytes"));
    assert!(
        refusal(&summary, "mounted").contains("cross-device"),
        "{}",
        refusal(&summary, "mounted")
    );
    assert!(summary.truncated);
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_names_are_bounded() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "names", &[]).await;
    let plant =
        "cd /run/pika-cloud/artifacts && python3 -c 'for i in range(100000): open(str(i), \"w\")'";
    assert_end(
        &guest.run("names", &request(plant)),
        RunEnd::Exited { code: 0 },
    );
    let begun = Instant::now();
    let few = ["collect", "--glob", "**", "--files-max", "1000"];
    let (summary, files) = archive(&collected(&guest, &few));
    assert!(summary.truncated && files.len() == 1000);
    let none = ["collect", "--glob", "*.xml"];
    let (summary, files) = archive(&collected(&guest, &none));
    assert!(!summary.truncated && files.is_empty());
    println!("two looks at 100,000 names in {:?}", begun.elapsed());
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifo_that_is_swapped_in_never_blocks() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "swap", &[]).await;
    let swap = "cd /run/pika-cloud/artifacts; mkfifo /tmp/fifo; echo real > /tmp/real
        while :; do ln -f /tmp/real x; mkfifo y; mv -f y x; rm -f x; ln -s /dev/zero z; mv -Tf z x; done";
    guest.start("swap", &request(swap));
    let begun = Instant::now();
    for _ in 0..10 {
        let bounded = ["collect", "--glob", "**", "--bytes-max", "1000"];
        let (_, files) = archive(&collected(&guest, &bounded));
        assert!(files.values().all(|size| *size == 5), "{files:?}");
    }
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    let stopped = guest
        .runner(&["stop", "--nonce", "swap", "--grace-secs", "0"])
        .output()
        .unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    drop(guest);
    incus.assert_nothing_left().await;
}
