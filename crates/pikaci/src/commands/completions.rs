//! `pikaci completions`

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArguments};

pub(crate) fn completions(arguments: &CompletionsArguments) {
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "pikaci",
        &mut std::io::stdout(),
    );
}
