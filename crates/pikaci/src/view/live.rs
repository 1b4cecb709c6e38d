//! The live view: a line for each lane that runs, with phase, elapsed time and last line, and one for what comes after.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jerichoci::engine::JobPhase;

use super::padded;
use crate::style;

const TICK: Duration = Duration::from_millis(120);
/// Redraws in one second.
const REDRAWS_PER_SEC: u8 = 12;

/// Lines at the bottom of the terminal that change.
pub(super) struct Live {
    all: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    /// Below the lanes.
    footer: Option<ProgressBar>,
    name_width: usize,
}

impl Live {
    pub(super) fn new(name_width: usize) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SEC);
        Self {
            all: MultiProgress::with_draw_target(target),
            bars: BTreeMap::new(),
            footer: None,
            name_width,
        }
    }

    pub(super) fn phase(&mut self, lane: &str, phase: JobPhase) {
        let prefix = format!(
            "{} {}",
            padded(lane, self.name_width),
            padded(phase.word(), 8)
        );
        let (all, footer) = (&self.all, &self.footer);
        let bar = self.bars.entry(lane.to_owned()).or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            let bar = match footer {
                Some(footer) => all.insert_before(footer, bar),
                None => all.add(bar),
            };
            // The template is a constant; if it were wrong the plain spinner would do.
            let template = ProgressStyle::with_template(
                "{spinner:.cyan} {prefix} {elapsed:>4} {wide_msg:.dim}",
            );
            bar.set_style(template.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_prefix(prefix);
    }

    pub(super) fn last_line(&self, lane: &str, line: &str) {
        if let Some(bar) = self.bars.get(lane) {
            bar.set_message(line.replace('\t', " "));
        }
    }

    pub(super) fn remove(&mut self, lane: &str) {
        if let Some(bar) = self.bars.remove(lane) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    /// A line below the lanes; none if there is nothing to say.
    pub(super) fn footer(&mut self, text: &str) {
        if text.is_empty() {
            if let Some(footer) = self.footer.take() {
                footer.finish_and_clear();
                self.all.remove(&footer);
            }
            return;
        }
        let all = &self.all;
        let footer = self.footer.get_or_insert_with(|| {
            let bar = all.add(ProgressBar::new_spinner());
            bar.enable_steady_tick(TICK);
            bar
        });
        footer.set_message(style::paint(style::QUIET, text));
    }

    /// A line that stays, above the ones that change.
    pub(super) fn print(&self, line: &str) {
        // The terminal being gone is found out by whoever writes the result.
        self.all.println(line).ok();
    }

    pub(super) fn clear(&mut self) {
        for (_, bar) in std::mem::take(&mut self.bars) {
            bar.finish_and_clear();
        }
        self.footer("");
        self.all.clear().ok();
    }
}
