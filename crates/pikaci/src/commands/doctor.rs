//! `pikaci doctor`

use std::io::Write;

use jerichoci::doctor::{Check, CheckState, examine};
use jerichoci::host::HostFacts;
use jerichoci::lanes::LANES_FILE_PATH;

use super::{print_json, write_out};
use crate::cli::{Global, Output, OutputArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::{padded, widest};

pub(crate) async fn doctor(
    global: &Global,
    arguments: &OutputArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    let config = match &context.config_path {
        Some(path) => Check::good("configuration", path.display().to_string()),
        None => Check::good("configuration", "none; defaults are in force"),
    };
    let (lanes_check, lanes) = match context.lanes() {
        Ok(file) => {
            let seen = format!(
                "{} branch lanes, {} nightly lanes",
                file.branch.len(),
                file.nightly.len()
            );
            (Check::good("lanes file", seen), Some(file))
        }
        Err(_) => (
            Check::bad(
                "lanes file",
                format!("{LANES_FILE_PATH} can't be used"),
                "`pikaci lanes` shows why",
            ),
            None,
        ),
    };
    let mut checks = vec![config, lanes_check];
    checks.extend(examine(&context.engine, &HostFacts::look(), lanes.as_ref()).await);
    let is_bad = checks.iter().any(|check| check.state == CheckState::Bad);
    match arguments.output {
        Output::Json => print_json(&checks)?,
        Output::Human => write_out(|out| {
            let width = widest(checks.iter().map(|check| check.name.as_str()));
            checks.iter().try_for_each(|check| show(out, check, width))
        })?,
    }
    Ok(if is_bad {
        Exit::Infrastructure
    } else {
        Exit::Passed
    })
}

fn show(out: &mut impl Write, check: &Check, width: usize) -> std::io::Result<()> {
    let (style, word) = match check.state {
        CheckState::Good => (style::GOOD, "good"),
        CheckState::Warning => (style::TROUBLE, "warning"),
        CheckState::Bad => (style::BAD, "bad"),
        CheckState::NotChecked => (style::QUIET, "unknown"),
    };
    writeln!(
        out,
        "{} {}  {}",
        style::paint(style, &padded(word, 7)),
        padded(&check.name, width),
        check.seen
    )?;
    if let Some(remedy) = &check.remedy {
        writeln!(
            out,
            "{}{}",
            " ".repeat(10 + width),
            style::paint(style::HINT, remedy)
        )?;
    }
    Ok(())
}
