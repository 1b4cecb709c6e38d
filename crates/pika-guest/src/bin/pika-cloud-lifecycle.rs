//! The lifecycle publisher. See `pika_guest::lifecycle_cli` for its commands and exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pika_guest::lifecycle_cli::run(
        std::env::args_os().skip(1).collect(),
    ))
}
