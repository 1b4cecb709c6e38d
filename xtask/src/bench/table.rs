//! Figures of launches: smallest, median and largest, ratios, and whether the targets are met.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figures::{Figures, Target, figures, shown, told};
use super::millis;
use super::ways::{Taken, Way};

/// Time to verdict may be this much more than the raw calls', at the median.
const VERDICT_OVER_RAW_MS: f64 = 80.0;
/// The whole run may take so many times what the raw calls take, at the median.
const WHOLE_OF_RAW: f64 = 1.10;

/// Everything that was measured.
#[derive(Default)]
pub(super) struct Report {
    taken: BTreeMap<Way, Vec<Taken>>,
}

#[derive(Serialize)]
struct Row {
    way: &'static str,
    verdict: Figures,
    whole: Figures,
    verdict_of_raw: f64,
    whole_of_raw: f64,
}

/// What `--output json` prints.
#[derive(Serialize)]
pub(super) struct Document {
    schema_version: u32,
    runs: usize,
    ways: Vec<Row>,
    targets: Vec<Target>,
}

impl Report {
    pub(super) fn add(&mut self, way: Way, taken: Taken) {
        self.taken.entry(way).or_default().push(taken);
    }

    pub(super) fn document(&self) -> Document {
        let raw = self.row(Way::Raw, None);
        let ways = Way::ALL.map(|way| self.row(way, Some(&raw)));
        Document {
            schema_version: 1,
            runs: self.taken.values().map(Vec::len).max().unwrap_or(0),
            targets: targets(&ways),
            ways: ways.into(),
        }
    }

    pub(super) fn targets_met(&self) -> bool {
        self.document().targets.iter().all(|target| target.met)
    }

    fn row(&self, way: Way, raw: Option<&Row>) -> Row {
        let taken = self.taken.get(&way).map_or(&[][..], Vec::as_slice);
        let verdict = figures(taken.iter().map(|taken| millis(taken.verdict)).collect());
        let whole = figures(taken.iter().map(|taken| millis(taken.whole)).collect());
        Row {
            way: way.name(),
            verdict_of_raw: raw.map_or(1.0, |raw| verdict.median_ms / raw.verdict.median_ms),
            whole_of_raw: raw.map_or(1.0, |raw| whole.median_ms / raw.whole.median_ms),
            verdict,
            whole,
        }
    }

    pub(super) fn table(&self) -> String {
        let document = self.document();
        let mut text = format!(
            "{} runs of each way, in turn; milliseconds as min / median / max\n\n\
             {:<14} {:>24} {:>7} {:>26} {:>7}\n",
            document.runs, "", "to verdict", "x raw", "whole run", "x raw"
        );
        for row in &document.ways {
            let line = format!(
                "{:<14} {:>24} {:>7.2} {:>26} {:>7.2}\n",
                row.way,
                shown(row.verdict),
                row.verdict_of_raw,
                shown(row.whole),
                row.whole_of_raw
            );
            text.push_str(&line);
        }
        text.push_str(&told(&document.targets));
        text
    }
}

fn targets(ways: &[Row; 3]) -> Vec<Target> {
    let [raw, program, pikaci] = ways;
    let over = pikaci.verdict.median_ms - raw.verdict.median_ms;
    vec![
        Target {
            what: format!("verdict at most {VERDICT_OVER_RAW_MS:.0} ms after the raw calls'"),
            seen: format!("{over:+.0} ms"),
            met: over <= VERDICT_OVER_RAW_MS,
        },
        Target {
            what: format!("whole run at most {WHOLE_OF_RAW:.2} of the raw calls'"),
            seen: format!("{:.2}", pikaci.whole_of_raw),
            met: pikaci.whole_of_raw <= WHOLE_OF_RAW,
        },
        Target {
            what: "whole run shorter than by the incus program".to_owned(),
            seen: format!(
                "{:.0} ms against {:.0} ms",
                pikaci.whole.median_ms, program.whole.median_ms
            ),
            met: pikaci.whole.median_ms < program.whole.median_ms,
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Report;
    use crate::bench::ways::{Taken, Way};

    fn report(pikaci_verdict: u64, pikaci_whole: u64) -> Report {
        let mut report = Report::default();
        let ways = [(200, 400), (300, 600), (pikaci_verdict, pikaci_whole)];
        for (way, (verdict, whole)) in Way::ALL.into_iter().zip(ways) {
            let verdict = Duration::from_millis(verdict);
            let whole = Duration::from_millis(whole);
            report.add(way, Taken { verdict, whole });
        }
        report
    }

    #[test]
    fn targets_are_met_at_their_limit_and_missed_beyond() {
        assert!(report(280, 440).targets_met());
        assert!(!report(281, 440).targets_met());
        assert!(!report(280, 441).targets_met());
        assert!(report(280, 441).table().contains("MISSED"));
    }
}
