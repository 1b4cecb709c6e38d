//! Where words go: results to stdout, talk to stderr.
//!
//! Owns the two streams. Colour only on a terminal that wants it (anstream); text from guests, images or
//! servers goes through [`plain`], so that it can't paint the terminal.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::exit::{CommandError, Exit};

pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BOLD: Style = Style::new().bold();

/// stdout, coloured only where that is seen.
pub(crate) fn stdout() -> impl Write {
    anstream::stdout()
}

/// Writes to stdout; a reader that went away is no error of ours.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let mut stdout = anstream::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CommandError::new(Exit::Infrastructure, &error)),
        Ok(()) => Ok(()),
    }
}

/// Writes a value as JSON to stdout.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CommandError::new(Exit::Infrastructure, &error))?;
    print(&(text + "\n"))
}

/// Says something on stderr. Nobody can be told if that fails.
pub(crate) fn say(text: &str) {
    drop(writeln!(anstream::stderr(), "{text}"));
}

/// Says an error on stderr: what happened, why, what to do.
pub(crate) fn error(error: &CommandError) {
    let mut text = format!("{BAD}error{BAD:#}: {}", error.message);
    for cause in &error.causes {
        text.push_str(&format!(
            "\n  {DIM}because{DIM:#} {}",
            plain(cause).replace('\n', "\n    ")
        ));
    }
    if let Some(hint) = &error.hint {
        text.push_str(&format!("\n  {GOOD}hint{GOOD:#}    {hint}"));
    }
    say(&text);
}

/// The text with control characters escaped, newlines and tabs kept.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A number with its noun: "1 file", "2 files".
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Lines of two columns, the first as wide as its widest entry.
pub(crate) fn columns(rows: &[(String, String)], indent: usize) -> String {
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        let pad = width - name.chars().count();
        text.push_str(&" ".repeat(indent));
        text.push_str(&format!("{DIM}{name}{DIM:#}{}  {value}\n", " ".repeat(pad)));
    }
    text
}

/// A cell of a table: how it is painted, and its text, from wherever.
pub(crate) type Cell = (Style, String);

/// Rows under a head, each column as wide as its widest cell, and every row a line.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[Cell; N]]) -> String {
    let head = head.map(|name| (DIM, name.to_owned()));
    let rows: Vec<[Cell; N]> = std::iter::once(&head)
        .chain(rows)
        .map(|row| row.clone().map(|(style, text)| (style, line(&text))))
        .collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].1.chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        // Nothing is filled up after the last cell that has text.
        let filled = row.iter().rposition(|(_, cell)| !cell.is_empty());
        for (column, (style, cell)) in row
            .iter()
            .enumerate()
            .take(filled.map_or(0, |last| last + 1))
        {
            let gap = if column == 0 { "" } else { "  " };
            text.push_str(&format!("{gap}{style}{cell}{style:#}"));
            if Some(column) != filled {
                text.push_str(&" ".repeat(widths[column] - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

/// The text on one line, unable to paint the terminal.
pub(crate) fn line(text: &str) -> String {
    plain(&text.replace(['\n', '\t'], " "))
}

/// A time such as `2026-11-21T08:59:46.123Z` to the second, as tables show it.
pub(crate) fn moment(at: &str) -> String {
    let moment: String = at.chars().take("2026-11-21T08:59:46".len()).collect();
    moment.replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cant_paint_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\n\tc\u{7}"), "a\\u{1b}[31mb\n\tc\\u{7}");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            ("a".to_owned(), "1".to_owned()),
            ("long".to_owned(), "2".to_owned()),
        ];
        let text = anstream::adapter::strip_str(&columns(&rows, 2)).to_string();
        assert_eq!(text, "  a     1\n  long  2\n");
    }

    #[test]
    fn a_table_is_aligned_whatever_is_painted() {
        let cell = |style, text: &str| (style, text.to_owned());
        let rows = [
            [cell(BAD, "a"), cell(DIM, "long"), cell(BOLD, "b\nc")],
            [cell(GOOD, "longer"), cell(DIM, "x"), cell(BOLD, "")],
        ];
        let text = table(["NAME", "WHAT", "WHY"], &rows);
        assert!(text.contains(&format!("{BAD}a{BAD:#}     ")), "{text:?}");
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "NAME    WHAT  WHY\na       long  b c\nlonger  x\n"
        );
    }
}
