//! Smallest, median and largest of what was measured, and targets with what was seen.

use std::fmt::Write as _;

use serde::Serialize;

/// Three figures of one way, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) min_ms: f64,
    pub(super) median_ms: f64,
    pub(super) max_ms: f64,
}

/// A target, and whether it is met.
#[derive(Serialize)]
pub(super) struct Target {
    pub(super) what: String,
    pub(super) seen: String,
    pub(super) met: bool,
}

/// For a table.
pub(super) fn shown(figures: Figures) -> String {
    format!(
        "{:.0} / {:.0} / {:.0}",
        figures.min_ms, figures.median_ms, figures.max_ms
    )
}

pub(super) fn figures(mut values: Vec<f64>) -> Figures {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = match (values.get(middle), values.get(middle.wrapping_sub(1))) {
        (Some(upper), Some(lower)) if values.len().is_multiple_of(2) => {
            f64::midpoint(*lower, *upper)
        }
        (Some(middle), _) => *middle,
        _ => 0.0,
    };
    Figures {
        min_ms: values.first().copied().unwrap_or(0.0),
        median_ms: median,
        max_ms: values.last().copied().unwrap_or(0.0),
    }
}

/// A line for each target.
pub(super) fn told(targets: &[Target]) -> String {
    let mut text = String::new();
    for target in targets {
        let word = if target.met { "met   " } else { "MISSED" };
        // Writing to a string can't fail.
        write!(text, "\n{word} {}: {}", target.what, target.seen).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::figures;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert!((figures(vec![3.0, 1.0, 2.0]).median_ms - 2.0).abs() < 1e-9);
        assert!((figures(vec![4.0, 1.0, 2.0, 3.0]).median_ms - 2.5).abs() < 1e-9);
    }
}
