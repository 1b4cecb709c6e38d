//! The question before something is lost.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::exit::{CommandError, Exit};
use crate::output::{self, WARN};

/// Says what will be lost, and asks. Where nobody can be asked, `--yes` must have been given.
pub(super) fn confirm(loss: &str, yes: bool) -> Result<(), CommandError> {
    if yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(CommandError::plain(Exit::Usage, loss)
            .with_hint("give --yes if that is meant; nothing was changed"));
    }
    output::say(&format!("{WARN}careful{WARN:#}: {loss}"));
    let mut stderr = std::io::stderr();
    // A question that can't be seen is not answered with yes.
    let asked = stderr
        .write_all(b"Go on? [y/N] ")
        .and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    read.map_err(|error| CommandError::new(Exit::Usage, &error))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CommandError::plain(
            Exit::Refused,
            "not confirmed; nothing was changed",
        )),
    }
}
