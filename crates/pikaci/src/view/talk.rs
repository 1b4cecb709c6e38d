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
    if recovered.was_interrupted {
        let removed = match recovered.removed {
            0 => "nothing was left of it".to_owned(),
            1 => "1 instance was left and is removed".to_owned(),
            many => format!("{many} instances were left and are removed"),
        };
        note(&format!(
            "run {} was interrupted; {removed}",
            recovered.run_id
        ));
    } else if recovered.removed > 0 {
        note(&format!(
            "run {}: {} instances that were left are removed",
            recovered.run_id, recovered.removed
        ));
    }
    for (instance, removal) in &recovered.left {
        match removal {
            Removal::Stuck { why, remedy } => {
                warn(&format!(
                    "instance {instance} of run {} can't be removed: {why}",
                    recovered.run_id
                ));
                hint(remedy);
            }
            Removal::Unknown { why } => {
                warn(&format!(
                    "whether instance {instance} of run {} is gone is not known: {why}",
                    recovered.run_id
                ));
            }
            Removal::Destroyed | Removal::Gone => {}
        }
    }
}
