//! What happens to a run when something beside it dies.

use pika_cloud::RunEnd;
use pikahut::stack::TestIncus;

use crate::support::{Guest, piped, read_some, request, root_request};

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_is_killed_leaves_no_record_and_no_command() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "lost", &[]).await;
    let output = guest.run_attached(
        "lost",
        &root_request(
            "echo begun; until grep -q begun /run/pika-cloud/logs/guest.log; do :; done; kill -9 $PPID; exec sleep 2345",
        ),
    );
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(output.stdout, b"begun\n");
    assert!(
        !String::from_utf8_lossy(&output.stderr).contains("PIKA-"),
        "{output:?}"
    );
    assert_eq!(
        guest
            .sh("pgrep -f 'sleep 2345' | grep -v $$ | wc -l")
            .trim(),
        "0"
    );
    let again = guest.attach_command("lost", 0, 5).output().unwrap();
    assert_eq!(again.status.code(), Some(3), "{again:?}");
    // The guest itself is as good as before.
    assert_eq!(
        guest.run("next", &request("exit 8")).record.end,
        RunEnd::Exited { code: 8 }
    );
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_restarts_knows_nothing_of_its_earlier_run() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "restart", &[]).await;
    guest.start("before", &request("echo begun; sleep 1000"));
    guest.wait_for("grep -q begun /run/pika-cloud/logs/guest.log");
    let boot = guest.status().boot_id.unwrap();
    let mut client = piped(&mut guest.attach_command("before", 0, 60));
    assert_eq!(read_some(&mut client, 6), b"begun\n");
    let output = guest
        .incus(&["restart", "--force", &guest.name])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let followed = client.wait_with_output().unwrap();
    assert!(
        !String::from_utf8_lossy(&followed.stderr).contains("PIKA-"),
        "{followed:?}"
    );
    guest.wait_for_runner();
    let output = guest.attach_command("before", 6, 5).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let run = guest.run("after", &request("exit 3"));
    assert_eq!(run.record.end, RunEnd::Exited { code: 3 });
    assert_ne!(run.record.boot_id, boot);
    let events = guest.events();
    assert_eq!((events[0].seq, events[0].kind.as_str()), (1, "booted"));
    // What the earlier boot left can still be read by root, on the disk.
    assert_eq!(
        guest.sh(&format!("cat /var/lib/pika-cloud/{boot}/logs/guest.log")),
        "begun\n"
    );
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_a_killed_daemon_does_not_end_a_run() {
    let incus = TestIncus::private("guest").await;
    let guest = Guest::launch(&incus, "daemon", &[]).await;
    let lines = "for i in $(seq 200); do echo \"line $i\"; sleep 0.02; done; until [ -e /tmp/go ]; do sleep 0.05; done; exit 12";
    let expected: String = (1..=200).map(|i| format!("line {i}\n")).collect();
    guest.start("daemon", &request(lines));
    let mut client = piped(&mut guest.attach_command("daemon", 0, 30));
    let first = read_some(&mut client, 300);
    assert!(incus.daemon().kill9_blocking());
    let _broken = client.wait().unwrap();
    incus.daemon().restart_blocking().unwrap();
    guest.sh("touch /tmp/go");
    let rest = guest.attach("daemon", first.len() as u64);
    assert_eq!(
        String::from_utf8([first, rest.log].concat()).unwrap(),
        expected
    );
    assert_eq!(rest.record.end, RunEnd::Exited { code: 12 });
    assert_eq!(rest.record.log_bytes, expected.len() as u64);
    drop(guest);
    incus.assert_nothing_left().await;
}
