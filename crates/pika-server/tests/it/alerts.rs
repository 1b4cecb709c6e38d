//! The alerts against what they speak of: figures that exist, and runbooks for each.

use std::path::Path;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Words of an expression that begin as our figures do, without what a histogram adds to its name.
fn figures(expression: &str) -> Vec<&str> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("pika_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .map(|word| word.strip_suffix("_count").unwrap_or(word))
        .collect()
}

#[test]
fn every_alert_is_about_a_figure_that_exists_and_has_a_runbook() {
    let (rules, reference) = (
        document("examples/alerts.yml"),
        document("reference/server.md"),
    );
    let runbook = document("runbooks/server-alerts.md");
    let after = |mark: &str| -> Vec<String> {
        rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix(mark))
            .map(|rest| rest.trim().to_owned())
            .collect()
    };
    let (alerts, expressions) = (after("- alert:"), after("expr:"));
    assert!(alerts.len() >= 9 && alerts.len() == expressions.len());
    for (alert, expression) in alerts.iter().zip(&expressions) {
        assert!(
            runbook.contains(&format!("\n## {alert}\n")),
            "{alert} has no runbook"
        );
        let figures = figures(expression);
        assert!(!figures.is_empty(), "{alert} is about nothing");
        for figure in figures {
            assert!(
                reference.contains(&format!("| `{figure}` |")),
                "{alert}: {figure}"
            );
        }
    }
}
