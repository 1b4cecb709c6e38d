//! Where in a TOML source something is wrong, and how that is shown.
//!
//! Owns line and column counting and the caret excerpt; it never reads a file and knows no key of any
//! format.

use std::fmt;
use std::ops::Range;

/// Longest source line that is shown in full, in characters; a longer one is cut.
const SHOWN_LINE_CHARS_MAX: usize = 160;

/// One thing that is wrong with a source text, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// 1-based line.
    pub line: usize,
    /// 1-based column, counted in characters.
    pub column: usize,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The text of the line.
    source_line: String,
    /// How many characters the caret underlines.
    width: usize,
}

/// A line as it may be written to a terminal, every character in its column.
fn shown(line: &str) -> String {
    let safe = |c: char| match c.is_control() && c != '\t' {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    };
    line.chars().take(SHOWN_LINE_CHARS_MAX).map(safe).collect()
}

impl Problem {
    /// A problem at the byte range `span` of `source`. A span past the end counts as the end.
    pub(crate) fn at(source: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let start = floor_char_boundary(source, span.start);
        let end = floor_char_boundary(source, span.end.max(span.start));
        let line_start = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = source[start..]
            .find('\n')
            .map_or(source.len(), |newline| start + newline);
        let source_line = source[line_start..line_end].trim_end_matches('\r');
        Self {
            line: source[..start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            message: message
                .into()
                .replace(|c: char| c.is_control() && c != '\n', "\u{fffd}"),
            help: None,
            source_line: shown(source_line),
            width: source[start..end.min(line_end).max(start)]
                .chars()
                .count()
                .max(1),
        }
    }

    /// The problem of a text that `toml` refused, with a nearby key of `known` as help.
    pub(crate) fn from_toml(source: &str, error: &toml::de::Error, known: &[&str]) -> Self {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().trim_end().replace('\n', "; ");
        let Some(unknown) = unknown_key(&message) else {
            return Self::at(source, span, message);
        };
        let problem = Self::at(source, span, format!("unknown key `{unknown}`"));
        let expected = message
            .split_once("expected ")
            .map(|(_, rest)| rest.trim_start_matches("one of "));
        match (nearest(unknown, known), expected) {
            (Some(near), _) => problem.with_help(format!("did you mean `{near}`?")),
            (None, Some(expected)) => problem.with_help(format!("known here: {expected}")),
            (None, None) => problem,
        }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The problem as text, in the shape that compilers use: place, message, line, caret.
    pub fn render(&self, name: &str) -> String {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let indent: String = self
            .source_line
            .chars()
            .take(self.column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = "^".repeat(self.width.min(SHOWN_LINE_CHARS_MAX));
        let mut text = format!(
            "{name}:{}:{}: {}\n{gutter} |\n{number} | {}\n{gutter} | {indent}{carets}",
            self.line, self.column, self.message, self.source_line
        );
        if let Some(help) = &self.help {
            text.push_str(&format!("\n{gutter} = help: {help}"));
        }
        text
    }
}

/// Problems of one source, one after the other.
pub(crate) fn fmt_problems(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    problems: &[Problem],
) -> fmt::Result {
    for (index, problem) in problems.iter().enumerate() {
        if index > 0 {
            f.write_str("\n\n")?;
        }
        f.write_str(&problem.render(name))?;
    }
    Ok(())
}

fn floor_char_boundary(source: &str, at: usize) -> usize {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The name in "unknown field `name`, expected ...".
fn unknown_key(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// The known key that `key` is most likely a misspelling of.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (edit_distance(key, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_columns_in_characters() {
        let source = "a = 1\nß = \"ü\" # x\n";
        let at = source.find("\"ü\"").expect("in the source");
        let problem = Problem::at(source, at..at + 4, "no");
        assert_eq!((problem.line, problem.column), (2, 5));
        assert_eq!(
            problem.render("f"),
            "f:2:5: no\n  |\n2 | ß = \"ü\" # x\n  |     ^^^"
        );
    }

    #[test]
    fn a_span_outside_the_source_is_its_end() {
        let problem = Problem::at("x", 5..9, "no");
        assert_eq!((problem.line, problem.column), (1, 2));
        assert_eq!(
            Problem::at("", 0..0, "no").render("f"),
            "f:1:1: no\n  |\n1 | \n  | ^"
        );
    }

    #[test]
    fn misspellings_find_their_key() {
        assert_eq!(nearest("comand", &["command", "paths"]), Some("command"));
        assert_eq!(nearest("zzz", &["command", "paths"]), None);
    }
}
