//! A shell in a guest, on a terminal that the test holds the other end of.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::agent::Stage;

struct Terminal {
    ours: File,
    theirs: File,
    seen: String,
}

impl Terminal {
    fn new() -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        Terminal {
            ours: File::from(ours),
            theirs,
            seen: String::new(),
        }
    }

    fn end(&self) -> Stdio {
        self.theirs.try_clone().unwrap().into()
    }

    /// Whether keys are the program's own, Ctrl-C too.
    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.theirs).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ISIG | LocalModes::ECHO)
    }

    /// Reads until this was written.
    fn until(&mut self, words: &str) {
        while !self.seen.contains(words) {
            let mut piece = [0; 4096];
            let count = self.ours.read(&mut piece).unwrap();
            self.seen
                .push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_has_the_terminal_its_keys_and_its_size_and_gives_it_back() {
    let stage = Stage::new().await;
    stage.fake.on_exec(&["/bin/bash", "--login"], |mut call| {
        Box::pin(async move {
            let kind = call.environment.get("TERM").cloned().unwrap_or_default();
            call.stdout(format!("welcome {} {kind}\r\n", call.interactive))
                .await;
            while let Some(word) = call.control().await {
                if word["args"]["width"] == "101" {
                    call.stdout(format!("size {}\r\n", word["args"]["height"]))
                        .await;
                    break;
                }
            }
            while let Some(keys) = call.stdin().await {
                if keys.contains(&3) {
                    call.stdout("ctrl-c\r\n").await;
                    return Some(5);
                }
            }
            Some(1)
        })
    });
    let made = stage.shell().pika(&["agent", "ensure"]);
    assert_eq!(made.code, 0, "{}", made.stderr);

    let mut terminal = Terminal::new();
    assert!(!terminal.is_raw());
    let mut child = Command::new(env!("CARGO_BIN_EXE_pika"))
        .args(["agent", "ssh"])
        .env_clear()
        .env("HOME", stage.folder.path())
        .env("TERM", "vt220")
        .env("PIKA_SERVER", stage.address())
        .env("PIKA_TOKEN", &stage.token)
        .stdin(terminal.end())
        .stdout(terminal.end())
        .stderr(terminal.end())
        .spawn()
        .unwrap();
    terminal.until("welcome true vt220");
    assert!(terminal.is_raw());
    let size = Winsize {
        ws_col: 101,
        ws_row: 31,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal.ours, size).unwrap();
    kill_process(Pid::from_child(&child), Signal::WINCH).unwrap();
    terminal.until("size \"31\"");
    terminal.ours.write_all(b"\x03").unwrap();
    terminal.until("ctrl-c");
    let status = tokio::task::spawn_blocking(move || child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(5), "{}", terminal.seen);
    assert!(!terminal.is_raw());
    stage.server.shut_down().await;
}
