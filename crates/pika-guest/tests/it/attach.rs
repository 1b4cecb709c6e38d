//! How a run is followed, left, taken up again and ended.

use std::time::Instant;

use pika_cloud::paths::RUNNER_PATH;
use pika_cloud::record::decode_continue;
use pika_cloud::{GuestRequest, RunEnd};
use pikahut::stack::TestIncus;

use crate::support::{Guest, assert_end, ended, piped, read_some, request, with_stdin};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_loses_nothing() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "rest", &[]).await;
    let lines = "for i in $(seq 20000); do echo \"line $i\"; [ $((i % 500)) = 0 ] && sleep 0.02; done; printf 'no end'";
    let expected: String = (1..=20_000)
        .map(|i| format!("line {i}\n"))
        .collect::<String>()
        + "no end";
    guest.start("rest", &request(lines));
    let mut client = piped(&mut guest.attach_command("rest", 0, 30));
    let first = read_some(&mut client, 5000);
    client.kill().unwrap();
    client.wait().unwrap();
    let rest = guest.attach("rest", first.len() as u64);
    let whole = [first, rest.log.clone()].concat();
    assert_eq!(String::from_utf8(whole).unwrap(), expected);
    assert_eq!(rest.record.log_bytes, expected.len() as u64);
    assert_eq!(rest.record.end, RunEnd::Exited { code: 0 });
    // At its end, at any byte, as often as one likes.
    for offset in [0, 1, 12_345, expected.len()] {
        let again = guest.attach("rest", offset as u64);
        assert_eq!(String::from_utf8(again.log).unwrap(), expected[offset..]);
        assert_eq!(again.record, rest.record);
    }
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attach_ends_in_time_and_says_where_to_go_on() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "renew", &[]).await;
    guest.start(
        "renew",
        &request("echo one; until [ -e /tmp/go ]; do sleep 0.05; done; echo two; exit 4"),
    );
    let begun = Instant::now();
    let output = guest.attach_command("renew", 0, 1).output().unwrap();
    assert!(
        output.status.success() && begun.elapsed().as_secs() < 20,
        "{output:?}"
    );
    assert_eq!(output.stdout, b"one\n");
    let word = decode_continue(&output.stderr).unwrap().unwrap();
    assert_eq!(word.offset, 4);
    guest.sh("touch /tmp/go");
    let run = guest.attach("renew", word.offset);
    assert_eq!((run.text().as_str(), run.record.log_bytes), ("two\n", 8));
    assert_eq!(run.record.end, RunEnd::Exited { code: 4 });

    for (nonce, offset, code) in [("other", 0, 4), ("renew", 9, 2)] {
        let output = guest.attach_command(nonce, offset, 1).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(output.stdout.is_empty());
    }
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_once_and_one_at_a_time() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "once", &[]).await;
    let command = request("echo x >> /tmp/count; until [ -e /tmp/go ]; do sleep 0.05; done");
    guest.start("once", &command);
    // The request is out of sight as soon as the run has begun.
    guest.sh("test ! -e /run/pika-cloud/guest-request.json");
    let other = guest.run_attached("second", &request("echo never"));
    assert_eq!(other.status.code(), Some(2), "{other:?}");
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("another run is going on"),
        "{other:?}"
    );
    // A host that lost the answer asks again.
    let again = guest
        .runner(&["start", "--nonce", "once"])
        .output()
        .unwrap();
    assert!(again.status.success(), "{again:?}");
    guest.sh("touch /tmp/go");
    assert_end(&guest.attach("once", 0), RunEnd::Exited { code: 0 });
    assert_end(&guest.run("once", &command), RunEnd::Exited { code: 0 });
    assert_eq!(guest.sh("cat /tmp/count"), "x\n");
    drop(guest);
    incus.assert_nothing_left().await;
}

/// A host whose first start was cut off asks again while that one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn starts_of_one_run_at_the_same_time_are_all_served_by_it() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "twice", &[]).await;
    let script = format!(
        "cat > /tmp/request; for i in 1 2 3 4; do ( \
         {RUNNER_PATH} run-attached --nonce twice --request-stdin < /tmp/request > /tmp/log.$i 2> /tmp/words.$i; \
         echo $? > /tmp/code.$i ) & done; wait; cat /tmp/code.* /tmp/log.*"
    );
    let command = request("echo x >> /tmp/count; echo said");
    let starts = with_stdin(
        &mut guest.exec(&["/bin/sh", "-c", &script]),
        &command.encode().unwrap(),
    );
    let said = String::from_utf8_lossy(&starts.stdout).into_owned();
    let words = guest.sh("cat /tmp/words.*");
    assert_eq!(said, "0\n".repeat(4) + &"said\n".repeat(4), "{words}");
    assert_eq!(guest.sh("cat /tmp/count"), "x\n");
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_run_with_a_record() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "stop", &[]).await;
    guest.start(
        "stop",
        &request("echo begun; trap '' TERM; while :; do sleep 1; done"),
    );
    let other = guest
        .runner(&["stop", "--nonce", "other"])
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(4), "{other:?}");
    let stopped = guest
        .runner(&["stop", "--nonce", "stop", "--grace-secs", "1"])
        .output()
        .unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    let run = guest.attach("stop", 0);
    assert_end(&run, RunEnd::Signaled { signal: 9 });
    assert_eq!(guest.result().details.unwrap()["stopped"], true);
    let again = guest.runner(&["stop", "--nonce", "stop"]).output().unwrap();
    assert!(again.status.success(), "{again:?}");
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_way_in_runs_in_the_foreground() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "older", &[]).await;
    guest.sh("mkdir -p /workspace/snapshot");
    let run = |variables: &[&str]| {
        let mut command = guest.exec(&["env"]);
        command.args(variables).arg(pika_cloud::paths::RUNNER_PATH);
        command.output().unwrap()
    };
    let command =
        "PIKACI_INCUS_GUEST_COMMAND=echo \"$PWD $USER $PIKACI_INCUS_TIMEOUT_SECS.\"; exit 7";
    let output = run(&[
        command,
        "PIKACI_INCUS_TIMEOUT_SECS=20",
        "PIKACI_INCUS_RUN_AS_ROOT=0",
    ]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "/workspace/snapshot pikaci .\n"
    );
    let slow = [
        "PIKACI_INCUS_GUEST_COMMAND=sleep 60",
        "PIKACI_INCUS_TIMEOUT_SECS=1",
    ];
    assert_eq!(run(&slow).status.code(), Some(124));
    let dead = [
        "PIKACI_INCUS_GUEST_COMMAND=kill -9 $$",
        "PIKACI_INCUS_TIMEOUT_SECS=9",
    ];
    assert_eq!(run(&dead).status.code(), Some(137));
    assert_eq!(run(&[]).status.code(), Some(2));

    let file = GuestRequest {
        working_dir: None,
        ..request("exit 6")
    };
    let write = "cat > /run/pika-cloud/guest-request.json";
    let written = || {
        with_stdin(
            &mut guest.exec(&["/bin/sh", "-c", write]),
            &file.encode().unwrap(),
        )
    };
    assert!(written().status.success());
    let contradiction = run(&[
        "PIKACI_INCUS_GUEST_COMMAND=exit 5",
        "PIKACI_INCUS_TIMEOUT_SECS=60",
    ]);
    assert_eq!(contradiction.status.code(), Some(2), "{contradiction:?}");
    assert_eq!(
        run(&["PIKACI_INCUS_GUEST_COMMAND=exit 6"]).status.code(),
        Some(6)
    );
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_for_the_network_has_one() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "network", &[]).await;
    let asked = GuestRequest {
        wait_for_network_secs: Some(60),
        ..request("ip -4 route show default; cat /etc/resolv.conf")
    };
    let run = ended(&guest.run_attached("network", &asked));
    assert_end(&run, RunEnd::Exited { code: 0 });
    assert!(
        run.text().contains("default via") && run.text().contains("nameserver"),
        "{}",
        run.text()
    );
    drop(guest);
    incus.assert_nothing_left().await;
}
