//! PID 1 of a guest until systemd takes over. See `pika_guest::init`.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let error = pika_guest::init::init(std::env::args_os().skip(1).collect());
    // If the console takes no words, nothing is left to tell.
    drop(writeln!(
        std::io::stderr(),
        "pika-guest-init: systemd can't be started: {error}"
    ));
    ExitCode::FAILURE
}
