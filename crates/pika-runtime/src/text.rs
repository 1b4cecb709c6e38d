//! Owns how texts of others are shown: an error in one line, with its whole chain of causes, and the words of a guest.

use std::error::Error;

/// The start of a text of a guest's or of Incus's, without control characters.
pub(crate) fn tame(text: &str, chars_max: usize) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(chars_max).collect()
}

/// The error's text and those of its causes, joined by `: `.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
