//! Figures of snapshots: smallest, median and largest, ratios, and whether the targets are met.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::trees::Way;
use crate::bench::figures::{Figures, Target, figures, shown, told};
use crate::bench::millis;

/// A snapshot of a tree that did not change takes less than this, at the median.
const UNCHANGED_MS: f64 = 100.0;
/// A snapshot after one file was written takes less than this, at the median.
const ONE_CHANGED_MS: f64 = 200.0;

/// Everything that was measured.
pub(super) struct Report {
    files: u32,
    bytes: u32,
    taken: BTreeMap<Way, Vec<Duration>>,
}

#[derive(Serialize)]
struct Row {
    way: &'static str,
    #[serde(flatten)]
    figures: Figures,
    of_cold: f64,
}

/// What `--output json` prints.
#[derive(Serialize)]
pub(super) struct Document {
    schema_version: u32,
    files: u32,
    bytes_each: u32,
    runs: usize,
    ways: Vec<Row>,
    targets: Vec<Target>,
}

impl Report {
    pub(super) fn new(files: u32, bytes: u32) -> Report {
        Report {
            files,
            bytes,
            taken: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, way: Way, taken: Duration) {
        self.taken.entry(way).or_default().push(taken);
    }

    fn figures(&self, way: Way) -> Figures {
        let taken = self.taken.get(&way).map_or(&[][..], Vec::as_slice);
        figures(taken.iter().copied().map(millis).collect())
    }

    pub(super) fn document(&self) -> Document {
        let cold = self.figures(Way::Cold);
        let row = |way: Way| {
            let figures = self.figures(way);
            Row {
                way: way.name(),
                of_cold: figures.median_ms / cold.median_ms,
                figures,
            }
        };
        Document {
            schema_version: 1,
            files: self.files,
            bytes_each: self.bytes,
            runs: self.taken.values().map(Vec::len).max().unwrap_or(0),
            ways: Way::ALL.map(row).into(),
            targets: self.targets(),
        }
    }

    fn targets(&self) -> Vec<Target> {
        let median = |way| self.figures(way).median_ms;
        let below = |what: &str, seen: f64, limit: f64| Target {
            what: what.to_owned(),
            seen: format!("{seen:.0} ms against {limit:.0} ms"),
            met: seen < limit,
        };
        let cold = median(Way::Cold);
        vec![
            below("cold, faster than cp -a", cold, median(Way::Cp)),
            below(
                "cold, faster than git worktree add",
                cold,
                median(Way::Worktree),
            ),
            below("unchanged", median(Way::Unchanged), UNCHANGED_MS),
            below("one file changed", median(Way::OneChanged), ONE_CHANGED_MS),
        ]
    }

    pub(super) fn targets_met(&self) -> bool {
        self.targets().iter().all(|target| target.met)
    }

    pub(super) fn table(&self) -> String {
        let document = self.document();
        let mut text = format!(
            "{} files of {} bytes; {} runs of each way, in turn; milliseconds as min / median / max\n\n\
             {:<24} {:>24} {:>8}\n",
            document.files, document.bytes_each, document.runs, "", "whole process", "x cold"
        );
        for row in &document.ways {
            let figures = shown(row.figures);
            let line = format!("{:<24} {figures:>24} {:>8.2}\n", row.way, row.of_cold);
            text.push_str(&line);
        }
        text.push_str(&told(&document.targets));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Report, Way};

    fn report(taken: [u64; 5]) -> Report {
        let mut report = Report::new(1, 1);
        for (way, taken) in Way::ALL.into_iter().zip(taken) {
            report.add(way, Duration::from_millis(taken));
        }
        report
    }

    #[test]
    fn each_target_can_be_missed_alone() {
        let met = [900, 1000, 950, 99, 199];
        assert!(report(met).targets_met());
        for (index, missed) in [(1, 900), (2, 900), (3, 100), (4, 200)] {
            let mut taken = met;
            taken[index] = missed;
            let report = report(taken);
            assert!(!report.targets_met(), "{taken:?}");
            assert_eq!(report.table().matches("MISSED").count(), 1, "{taken:?}");
        }
    }
}
