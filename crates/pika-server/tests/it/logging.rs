//! The log against its reference: no event and no span that `docs/reference/logging.md` doesn't tell of, and none there that
//! the code doesn't have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The module that a file is, as events name it.
fn target(source: &Path, file: &Path) -> String {
    let below = file.strip_prefix(source).unwrap().with_extension("");
    let mut target = "pika_server".to_owned();
    for part in below.iter().map(|part| part.to_str().unwrap()) {
        if !["lib", "main", "mod"].contains(&part) {
            target += &format!("::{part}");
        }
    }
    target
}

/// What stands between the parentheses that a text begins in, cut at its commas.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut before) = (0, false, ' ');
    let mut all = vec![String::new()];
    for c in text.chars() {
        match c {
            '"' if before != '\\' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        before = c;
        match (c, quoted, depth) {
            (',', false, 0) => all.push(String::new()),
            _ => all.last_mut().unwrap().push(c),
        }
    }
    let trimmed = all.iter().map(|argument| argument.trim().to_owned());
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

/// The beginning of the row that the reference has for a call.
fn row(level: &str, target: &str, call: &str) -> String {
    let mut name = "";
    let mut fields = Vec::new();
    let all = arguments(call);
    for argument in &all {
        if let Some(text) = argument.strip_prefix('"') {
            name = text.trim_end_matches('"');
            continue;
        }
        let field = argument.split('=').next().unwrap();
        let field = field.trim().trim_start_matches(['%', '?']);
        fields.push(format!("`{}`", field.rsplit('.').next().unwrap()));
    }
    format!("| {name} | {level} | `{target}` | {} |", fields.join(" "))
}

/// The rows of everything that the code logs.
fn rows() -> BTreeSet<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    let mut rows = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let target = target(&source, &file);
        for level in LEVELS {
            for (mark, kind) in [
                ("!(", level.to_owned()),
                ("_span!(", format!("span, {level}")),
            ] {
                let mark = format!("tracing::{level}{mark}");
                let calls = text.split(&mark).skip(1);
                rows.extend(calls.map(|call| row(&kind, &target, call)));
            }
        }
    }
    rows
}

#[test]
fn the_reference_has_every_event_and_no_other() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/logging.md");
    let text = std::fs::read_to_string(reference).unwrap();
    let rows = rows();
    assert!(rows.len() > 30, "{rows:#?}");
    let missing: Vec<&String> = rows.iter().filter(|row| !text.contains(*row)).collect();
    assert!(
        missing.is_empty(),
        "docs/reference/logging.md lacks these rows, each with what it means: {missing:#?}"
    );
    let (_, tables) = text.split_once("## Events").unwrap();
    let told = tables
        .lines()
        .filter(|line| line.contains("| `pika_server"));
    let stale: Vec<&str> = told
        .filter(|line| !rows.iter().any(|row| line.starts_with(row.as_str())))
        .collect();
    assert!(stale.is_empty(), "nothing logs these any more: {stale:#?}");
}

#[test]
fn commas_in_texts_and_calls_cut_nothing() {
    let call = "%id, error = chain(&a, &b), \"one, two (three)\"); next(\"four\")";
    assert_eq!(
        row("warn", "pika_server::x", call),
        "| one, two (three) | warn | `pika_server::x` | `id` `error` |"
    );
}
