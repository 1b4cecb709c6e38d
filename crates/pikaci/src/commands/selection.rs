//! Which lanes a command means: by name, all of them, or by what changed.

use jerichoci::changes::{ChangeBase, Changes, changes_since};
use jerichoci::lanes::{Lane, Section};
use jerichoci::select::{LaneSelection, add_needs, select_all, select_lanes, select_named};

use crate::cli::{ChangedArguments, RunArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::view::{summary, talk};

/// Characters of a commit that are shown.
const COMMIT_SHOWN_CHARS: usize = 12;

/// Every lane of the section with its choice, needs included. At least one is selected.
pub(super) fn for_run<'a>(
    context: &Context,
    lanes: &'a [Lane],
    section: Section,
    arguments: &RunArguments,
) -> Result<(Vec<LaneSelection<'a>>, Option<ChangeBase>), CommandError> {
    if lanes.is_empty() && arguments.lanes.is_empty() {
        let message = format!("the lanes file has no {} lanes", section.as_str());
        return Err(CommandError::new(Exit::NothingRan, message));
    }
    let changes = changes(context, &arguments.changed)?;
    let mut selections = match &changes {
        Some(changes) => select_lanes(lanes, &changes.paths),
        None if arguments.all => select_all(lanes),
        None => select_named(lanes, &arguments.lanes)
            .map_err(|unknown| unknown_lane(unknown, lanes, section))?,
    };
    add_needs(&mut selections);
    if let Some(changes) = &changes {
        let selected = selections.iter().filter(|one| one.is_selected()).count();
        if selected == 0 {
            return Err(nothing_selected(changes));
        }
        talk::note(&format!(
            "{}; {selected} of {} {} lanes selected",
            changed_text(changes),
            lanes.len(),
            section.as_str()
        ));
    }
    Ok((selections, changes.map(|changes| changes.base)))
}

/// What changed, if the arguments ask for it.
pub(super) fn changes(
    context: &Context,
    arguments: &ChangedArguments,
) -> Result<Option<Changes>, CommandError> {
    if !arguments.changed {
        return Ok(None);
    }
    let changes = changes_since(&context.repository, arguments.base.as_deref())?;
    Ok(Some(changes))
}

/// How much changed, in words.
pub(super) fn changed_text(changes: &Changes) -> String {
    let count = match changes.paths.len() {
        0 => "nothing".to_owned(),
        1 => "1 path".to_owned(),
        count => format!("{count} paths"),
    };
    format!("{count} changed since {}", base_text(&changes.base))
}

/// A base, in words.
pub(crate) fn base_text(base: &ChangeBase) -> String {
    let commit: String = base.merge_base.chars().take(COMMIT_SHOWN_CHARS).collect();
    format!("{} (merge base {commit})", base.name)
}

fn nothing_selected(changes: &Changes) -> CommandError {
    let paths = changes.shown_paths();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let what = changed_text(changes);
    let message = if paths.is_empty() {
        format!("no lane is selected: {what}, and every lane has path rules")
    } else {
        let shown = summary::shortened(&paths);
        format!("no lane is selected: {what}, and no lane's paths match: {shown}")
    };
    CommandError::new(Exit::NothingRan, message).with_hint(
        "`pikaci lanes --changed` tells it for each lane; `pikaci run LANE` runs one whatever changed",
    )
}

pub(super) fn unknown_lane(unknown: &str, lanes: &[Lane], section: Section) -> CommandError {
    let known: Vec<&str> = lanes.iter().map(|lane| lane.id.as_str()).collect();
    let hint = if known.is_empty() {
        "there is none".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    let message = format!("no {} lane has the id `{unknown}`", section.as_str());
    CommandError::new(Exit::Usage, message).with_hint(hint)
}
