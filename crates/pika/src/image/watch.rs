//! What a person sees while an image is built or imported.
//!
//! Owns the lines on stderr: on a terminal one for each step, elsewhere none.

use indicatif::ProgressBar;
use pika_image::{Progress, ProgressEvent};

use crate::output::{DIM, GOOD, plain};
use crate::progress;

/// Shows progress on stderr if that is a terminal.
pub(super) struct Watch {
    bar: ProgressBar,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch {
            bar: progress::spinner(),
        }
    }
}

impl Progress for Watch {
    fn event(&self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Started { step, detail } => {
                self.bar.set_message(format!("{step}  {}", plain(detail)));
            }
            ProgressEvent::Reused { step, detail } => {
                self.bar.println(format!(
                    "{GOOD}there{GOOD:#}  {step}  {DIM}{}{DIM:#}",
                    plain(detail)
                ));
            }
            ProgressEvent::Finished {
                step,
                elapsed,
                detail,
            } => {
                let secs = elapsed.as_secs_f64();
                let detail = plain(detail);
                self.bar.println(format!(
                    "{GOOD}done {GOOD:#}  {step}  {DIM}{secs:.1} s  {detail}{DIM:#}"
                ));
            }
            ProgressEvent::Output { step, line } => {
                self.bar.set_message(format!("{step}  {}", plain(line)));
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
