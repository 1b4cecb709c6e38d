//! Talk on stderr: notes, warnings, what was settled.

use std::io::Write;

use jerichoci::engine::Recovered;
use jerichoci::record::Removal;

use crate::style;

pub(crate) fn note(text: &str) {
    let mut err = anstream::stderr().lock();
    writeln!(err, "{}", style::paint(style::QUIET, text)).ok();
}

pub(crate) fn warn(text: &str) {
    let mut err = anstream::stderr().lock();
    writeln!(err, "{} {text}", style::paint(style::TROUBLE, "warning:")).ok();
}

pub(crate) fn hint(text: &str) {
    let mut err = anstream::stderr().lock();
    writeln!(err, "{} {text}", style::paint(style::HINT, "hint:")).ok();
}

/// What became of a run whose process had died.
pub(crate) fn recovered(recovered: &Recovered) {
    let run_id = &recovered.run_id;
    if let Some(until) = recovered.offered_until {
        let until = until.strftime("%Y-%m-%d %H:%M UTC");
        note(&format!(
            "run {run_id} was interrupted; it can be taken up until {until}"
        ));
        hint(&format!(
            "`pikaci resume {run_id}` takes it up, `pikaci cancel {run_id}` removes what it left"
        ));
    } else if recovered.was_interrupted {
        let removed = removed(recovered);
        note(&format!("run {run_id} was interrupted; {removed}"));
    } else if recovered.removed > 0 {
        let removed = recovered.removed;
        note(&format!(
            "run {run_id}: {removed} instances that were left are removed"
        ));
    }
    left(recovered);
}

/// What became of a shell whose process had died.
pub(crate) fn recovered_shell(recovered: &Recovered) {
    if recovered.removed > 0 {
        note("the instance of a shell that was cut off is removed");
    }
    left(recovered);
}

/// What became of a run whose process had died, and that was cancelled.
pub(crate) fn closed(closed: &Recovered) {
    let removed = removed(closed);
    note(&format!("run {} is cancelled; {removed}", closed.run_id));
    left(closed);
}

fn removed(recovered: &Recovered) -> String {
    match recovered.removed {
        0 => "nothing was left of it".to_owned(),
        1 => "1 instance was left and is removed".to_owned(),
        many => format!("{many} instances were left and are removed"),
    }
}

/// What became of kept instances that were released.
pub(crate) fn released(released: &Recovered) {
    let run_id = &released.run_id;
    let kept = match released.kept {
        0 => String::new(),
        count => format!("; {count} stay"),
    };
    let removed = released.removed;
    note(&format!(
        "run {run_id}: kept instances removed: {removed}{kept}"
    ));
    left(released);
}

/// What a run still keeps.
pub(crate) fn keeps(recovered: &Recovered) {
    if recovered.kept > 0 {
        let (run_id, kept) = (&recovered.run_id, recovered.kept);
        note(&format!("run {run_id}: instances still kept: {kept}"));
        hint(&format!("`pikaci release {run_id}` removes them"));
    }
}

/// What is still there, or may be.
fn left(recovered: &Recovered) {
    let run_id = &recovered.run_id;
    for (what, removal) in &recovered.left {
        match removal {
            Removal::Stuck { why, remedy } => {
                warn(&format!("{what} of run {run_id} can't be removed: {why}"));
                hint(remedy);
            }
            Removal::Unknown { why } => {
                warn(&format!(
                    "whether {what} of run {run_id} is gone is not known: {why}"
                ));
            }
            Removal::Destroyed | Removal::Gone | Removal::Kept { .. } => {}
        }
    }
}
