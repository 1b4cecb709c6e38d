//! What prepares a managed agent's volume. See `pika_guest::agent` for its commands and exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pika_guest::agent::run(
        std::env::args_os().skip(1).collect(),
    ))
}
