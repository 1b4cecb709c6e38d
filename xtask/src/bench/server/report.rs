//! Figures of the control plane, their ratios, and whether the targets are met.

use std::fmt::Write as _;

use serde::Serialize;

use super::super::figures::{Target, shown, told};
use super::load::Latency;
use super::passes::OfPasses;
use super::real::Real;

/// The server's own share of a pass over all agents.
const OWN_MS: f64 = 1000.0;
/// A pass over real agents, of the bulk read that it makes.
const PASS_OF_READ: f64 = 1.2;
/// The p99 of a caller's own agent.
const P99_MS: f64 = 10.0;
/// Memory at its most.
const PEAK_KIB: u64 = 200 * 1024;

/// What was measured; parts that weren't are absent.
#[derive(Default)]
pub(super) struct Report {
    pub(super) few: Option<OfPasses>,
    pub(super) many: Option<OfPasses>,
    pub(super) real: Option<Real>,
    pub(super) answers: Option<Answers>,
    pub(super) peak_kib: Option<u64>,
}

/// Answers to requests at a constant rate.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Answers {
    pub(super) rate: u32,
    /// `GET /v1/agents/me`.
    pub(super) me: Latency,
    /// `GET /healthz` at the same rate.
    pub(super) health: Latency,
    /// `GET /v1/agents/me` at a rate that nobody notices.
    pub(super) me_seldom: Latency,
}

/// What `--output json` prints.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    schema_version: u32,
    few: &'a Option<OfPasses>,
    many: &'a Option<OfPasses>,
    real: &'a Option<Real>,
    answers: &'a Option<Answers>,
    peak_kib: Option<u64>,
    targets: Vec<Target>,
}

impl Report {
    pub(super) fn document(&self) -> Document<'_> {
        Document {
            schema_version: 1,
            few: &self.few,
            many: &self.many,
            real: &self.real,
            answers: &self.answers,
            peak_kib: self.peak_kib,
            targets: self.targets(),
        }
    }

    pub(super) fn targets_met(&self) -> bool {
        self.targets().iter().all(|target| target.met)
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        if let (Some(few), Some(many)) = (&self.few, &self.many) {
            targets.push(Target {
                what: format!(
                    "lists of a pass, and of a survey, over {} agents as many as over {}",
                    many.agents, few.agents
                ),
                seen: format!(
                    "{} and {} against {} and {}",
                    range(&many.lists),
                    range(&many.surveys),
                    range(&few.lists),
                    range(&few.surveys)
                ),
                met: range(&many.lists) == range(&few.lists)
                    && range(&many.surveys) == range(&few.surveys),
            });
            targets.push(Target {
                what: format!(
                    "own share of a pass over {} agents under {OWN_MS:.0} ms",
                    many.agents
                ),
                seen: format!("{:.0} ms", many.own.median_ms),
                met: many.own.median_ms < OWN_MS,
            });
        }
        targets.extend(self.real.as_ref().map(|real| {
            let ratio = real.pass.median_ms / real.bulk_read.median_ms;
            Target {
                what: format!(
                    "a pass over {} real agents at most {PASS_OF_READ} of the bulk read",
                    real.agents
                ),
                seen: format!("{ratio:.2}"),
                met: ratio <= PASS_OF_READ,
            }
        }));
        targets.extend(self.answers.map(|answers| Target {
            what: format!(
                "p99 of GET /v1/agents/me at {}/s under {P99_MS:.0} ms",
                answers.rate
            ),
            seen: format!("{:.2} ms", answers.me.p99_ms),
            met: answers.me.p99_ms < P99_MS,
        }));
        targets.extend(self.peak_kib.map(|peak| Target {
            what: format!("memory under {} MiB", PEAK_KIB / 1024),
            seen: format!("{} MiB", peak / 1024),
            met: peak < PEAK_KIB,
        }));
        targets
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        self.write(&mut text).ok();
        text.push_str(&told(&self.targets()));
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        if let (Some(few), Some(many)) = (&self.few, &self.many) {
            writeln!(
                text,
                "passes on the fake Incus; milliseconds as min / median / max\n\n\
                 {:>7} {:>7} {:>9} {:>9} {:>24} {:>24} {:>22} {:>8}",
                "agents",
                "lists",
                "+ survey",
                "requests",
                "pass",
                "of it the fake",
                "own",
                "x fake"
            )?;
            for one in [few, many] {
                writeln!(
                    text,
                    "{:>7} {:>7} {:>9} {:>9} {:>24} {:>24} {:>22} {:>8.3}",
                    one.agents,
                    range(&one.lists),
                    range(&one.surveys),
                    range(&one.requests),
                    shown(one.whole),
                    shown(one.fake),
                    shown(one.own),
                    one.own.median_ms / one.fake.median_ms
                )?;
            }
            writeln!(text)?;
        }
        if let Some(answers) = &self.answers {
            self.write_answers(answers, text)?;
        }
        if let Some(real) = &self.real {
            let of = |figures: super::super::figures::Figures| {
                format!(
                    "{:.1} / {:.1} / {:.1}",
                    figures.min_ms, figures.median_ms, figures.max_ms
                )
            };
            writeln!(
                text,
                "{} real agents of image {}; milliseconds as min / median / max\n\n\
                 {:<14} {:>24} {:>7}\n{:<14} {:>24} {:>7.2}\n{:<14} {:>24} {:>7.2}\n",
                real.agents,
                real.image,
                "",
                "",
                "x read",
                "bulk read",
                of(real.bulk_read),
                1.0,
                "pass",
                of(real.pass),
                real.pass.median_ms / real.bulk_read.median_ms
            )?;
        }
        Ok(())
    }

    fn write_answers(&self, answers: &Answers, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "answers, counted from when each was to be sent; milliseconds\n\n\
             {:<32} {:>9} {:>8} {:>8} {:>8} {:>9}",
            "", "requests", "p50", "p99", "max", "x healthz"
        )?;
        let rows = [
            (
                format!("GET /v1/agents/me at {}/s", answers.rate),
                answers.me,
            ),
            (
                format!("GET /healthz at {}/s", answers.rate),
                answers.health,
            ),
            ("GET /v1/agents/me, seldom".to_owned(), answers.me_seldom),
        ];
        for (what, row) in rows {
            writeln!(
                text,
                "{what:<32} {:>9} {:>8.2} {:>8.2} {:>8.2} {:>9.2}",
                row.requests,
                row.p50_ms,
                row.p99_ms,
                row.max_ms,
                row.p99_ms / answers.health.p99_ms
            )?;
        }
        if let Some(peak) = self.peak_kib {
            writeln!(
                text,
                "\nmemory of the server at its most: {} MiB",
                peak / 1024
            )?;
        }
        writeln!(text)
    }
}

/// Smallest and largest, or the one value.
fn range(values: &[usize]) -> String {
    match (values.iter().min(), values.iter().max()) {
        (Some(min), Some(max)) if min != max => format!("{min}-{max}"),
        (Some(min), _) => min.to_string(),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::figures;

    fn passes(agents: u32, lists: usize, own_ms: f64) -> OfPasses {
        OfPasses {
            agents,
            lists: vec![lists; 3],
            surveys: vec![2],
            requests: vec![lists; 3],
            whole: figures(vec![own_ms + 8000.0]),
            fake: figures(vec![8000.0]),
            own: figures(vec![own_ms]),
        }
    }

    #[test]
    fn more_lists_or_a_slow_pass_miss_their_targets() {
        let report = |lists, own_ms| Report {
            few: Some(passes(100, 1, 5.0)),
            many: Some(passes(10_000, lists, own_ms)),
            ..Report::default()
        };
        assert!(report(1, 999.0).targets_met());
        assert!(!report(2, 999.0).targets_met());
        assert!(!report(1, 1000.0).targets_met());
        assert!(report(2, 1.0).table().contains("MISSED"));
    }
}
