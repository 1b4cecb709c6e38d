//! Shells in instances set up like a lane's: the same in everything, and gone afterwards.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use pikahut::stack::TestIncus;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::bench_tree::{Tree, lane};
use crate::caches::{CACHE, remove_volumes, volumes};
use crate::program::{ended, send, start};

const LIMIT: Duration = Duration::from_secs(120);

/// Everything about a process that its command can tell.
const FACTS: &str = "env | grep -v '^_=\\|^SHLVL=' | sort; id; pwd; umask; ulimit -c; nproc; \
     cat hello.txt /cache/note; touch made && echo writable";

/// Waits until an instance of the lane `works` is held.
async fn until_running(tree: &Tree) {
    let seen = pikahut::wait::until_async(LIMIT, || async {
        let shells = std::fs::read_dir(tree.root().join(".pikaci/shells")).ok()?;
        let shell = shells.filter_map(Result::ok).next()?.path();
        let log = std::fs::read(shell.join("jobs/works/log")).ok()?;
        log.ends_with(b"\0\0").then_some(())
    });
    seen.await.expect("the instance comes up");
}

#[tokio::test]
async fn a_command_finds_what_the_lanes_own_command_finds_and_leaves_nothing() {
    let incus = TestIncus::shared().await;
    let keys = "caches = [\"note\"]\nworkspace = \"writable\"\nenv = { LANES_OWN = \"a b\\nc\" }";
    let seed = lane("works", &format!("echo one > /cache/note; {FACTS}"), keys);
    let tree = Tree::on(&incus, &seed).await;
    tree.configure(CACHE);
    tree.run(&["run", "works", "--trusted"])
        .await
        .assert_code(0);
    let of_lane = String::from_utf8(tree.log("works")).expect("text");

    let poison = format!("{FACTS}; echo poison > /cache/note");
    let shell = tree
        .run(&["shell", "works", "--", "bash", "-c", &poison])
        .await;
    shell.assert_code(0);
    assert_eq!(shell.stdout, of_lane);
    assert!(
        of_lane.contains("LANES_OWN=a b") && of_lane.contains("writable"),
        "{of_lane}"
    );
    assert_eq!(volumes(&incus).await.len(), 1, "its clone is thrown away");
    let again = ["shell", "works", "--", "cat", "/cache/note"];
    assert_eq!(tree.run(&again).await.stdout, "one\n");

    let listed = tree.run(&["list", "--output", "json"]).await;
    let runs = std::fs::read_dir(tree.root().join(".pikaci/runs")).expect("there");
    assert_eq!(runs.count(), 1, "a shell is no run: {}", listed.stdout);
    remove_volumes(&incus).await;
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn input_goes_in_and_the_status_comes_out() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("works", "false", "")).await;
    let mut child = tree
        .command(&["shell", "works"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("starts");
    let script = b"cat hello.txt; echo no >&2; touch x 2>/dev/null || echo read-only; exit 7\n";
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(script).expect("written");
    drop(stdin);
    let waited = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = tokio::time::timeout(LIMIT, waited).await.expect("in time");
    let ended = crate::bench_tree::Ended::of(output.expect("joined").expect("waited for"));
    ended.assert_code(7);
    assert_eq!(ended.stdout, "from the work tree\nread-only\n");
    assert!(ended.stderr.contains("no\n"), "{}", ended.stderr);
    let missing = tree.run(&["shell", "works", "--", "no-such-program"]).await;
    missing.assert_code(127);
    tree.run(&["shell", "nobody"]).await.assert_code(2);
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn signals_end_it_and_what_a_kill_leaves_goes_with_the_next_command() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("works", "false", "")).await;
    let forever = ["shell", "works", "--", "sleep", "600"];
    for signal in [Signal::TERM, Signal::HUP] {
        let child = start(&tree, &forever);
        until_running(&tree).await;
        send(&child, signal);
        ended(child).await.assert_code(130);
        incus.assert_nothing_left().await;
    }
    for next in ["list", "gc"] {
        let mut child = start(&tree, &forever);
        until_running(&tree).await;
        send(&child, Signal::KILL);
        child.wait().await.expect("waited for");
        let told = tree.run(&[next]).await.stderr;
        assert!(
            told.contains("a shell that was cut off is removed"),
            "{next}: {told}"
        );
        incus.assert_nothing_left().await;
    }
}

#[tokio::test]
async fn an_instance_goes_when_its_time_is_over() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("works", "false", "")).await;
    let arguments = ["shell", "works", "--time", "2s", "--", "sleep", "600"];
    tree.run(&arguments).await.assert_code(4);
    incus.assert_nothing_left().await;
}

/// A terminal that the test holds the other end of.
struct Pty {
    ours: File,
    theirs: File,
    seen: String,
}

impl Pty {
    fn new() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("granted");
        unlockpt(&ours).expect("unlocked");
        let name = ptsname(&ours, Vec::new()).expect("its name");
        let name = name.to_str().expect("text");
        let theirs = File::options().read(true).write(true).open(name);
        Self {
            ours: File::from(ours),
            theirs: theirs.expect("opened"),
            seen: String::new(),
        }
    }

    fn end(&self) -> Stdio {
        Stdio::from(OwnedFd::from(self.theirs.try_clone().expect("cloned")))
    }

    fn resize(&self, ws_col: u16, ws_row: u16) {
        let size = Winsize {
            ws_col,
            ws_row,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.ours, size).expect("resized");
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.theirs).expect("a terminal").local_modes;
        !modes.contains(LocalModes::ICANON)
    }

    /// Types a line, and reads until the screen showed `text`.
    fn type_until(&mut self, line: &str, text: &str) {
        self.ours.write_all(line.as_bytes()).expect("typed");
        self.read_until(text);
    }

    fn read_until(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.seen.contains(text) {
            let count = self.ours.read(&mut bytes).expect("the terminal is there");
            assert_ne!(count, 0, "the terminal ended after: {}", self.seen);
            self.seen
                .push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
}

#[tokio::test]
async fn a_terminal_has_a_size_and_keys_and_is_as_it_was_afterwards() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lane("works", "false", "")).await;
    let mut pty = Pty::new();
    pty.resize(91, 31);
    let mut child = tree
        .command(&["shell", "works"])
        .stdin(pty.end())
        .stdout(pty.end())
        .env("TERM", "xterm-256color")
        .spawn()
        .expect("starts");
    let talk = tokio::task::spawn_blocking(move || {
        pty.read_until("[works] ");
        assert!(pty.is_raw(), "keys go to the guest as they are");
        pty.type_until(
            "stty size; echo \"$TERM\" on$((1+1))\n",
            "xterm-256color on2",
        );
        assert!(pty.seen.contains("31 91"), "{}", pty.seen);
        pty.resize(132, 43);
        // The terminal is not the controlling one of the program, so the kernel tells it nothing.
        pty
    });
    let mut pty = talk.await.expect("it talks");
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a process"), Signal::WINCH).expect("told");
    let talk = tokio::task::spawn_blocking(move || {
        pty.type_until(
            "until [ \"$(stty size)\" = '43 132' ]; do :; done; echo re$((1+1))sized\n",
            "re2sized",
        );
        pty.type_until("bash -c 'echo up$((1+1)); exec sleep 600'\n", "up2");
        // Ctrl-C is a key of the guest's, and ends what runs there, not the shell.
        pty.type_until("\u{3}", "^C");
        pty.type_until("exit 9\n", "exit 9");
        pty
    });
    let pty = talk.await.expect("it talks");
    let waited = tokio::task::spawn_blocking(move || child.wait());
    let status = tokio::time::timeout(LIMIT, waited).await.expect("in time");
    assert_eq!(status.expect("joined").expect("waited for").code(), Some(9));
    assert!(!pty.is_raw(), "the terminal is as it was");
    incus.assert_nothing_left().await;
}
