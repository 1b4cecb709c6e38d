//! Owns how an error becomes one line: its text and its causes, joined by colons, cut at a limit.

use std::error::Error;

use pika_cloud::record::REASON_BYTES_MAX;

/// An error with all its causes, as one line of at most [`REASON_BYTES_MAX`] bytes.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    one_line(&text)
}

/// `text` without control characters, of at most [`REASON_BYTES_MAX`] bytes.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(REASON_BYTES_MAX));
    for c in text.trim().chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_line_is_bounded_and_without_control_characters(text in any::<String>(), times in 1_usize..500) {
            let line = one_line(&text.repeat(times));
            prop_assert!(line.len() <= REASON_BYTES_MAX);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
