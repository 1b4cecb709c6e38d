//! `pikaci man`

use clap::CommandFactory;

use super::write_out;
use crate::cli::{Cli, ManArguments};
use crate::exit::{CommandError, Exit};
use crate::view::summary;

/// Writes a page for the program and for each of its commands into a folder, made if it is not there.
pub(crate) fn man(arguments: &ManArguments) -> Result<Exit, CommandError> {
    let dir = &arguments.dir;
    let failed = |error: std::io::Error| {
        let what = format!("the manual can't be written to {}", dir.display());
        CommandError::infrastructure(&what, &error)
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
    write_out(|out| {
        use std::io::Write;
        writeln!(out, "{}", summary::shown_path(&dir.join("pikaci.1")))
    })?;
    Ok(Exit::Passed)
}
