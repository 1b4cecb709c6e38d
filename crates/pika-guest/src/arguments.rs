//! Owns the reading of a small command line: a subcommand, then options in any order. Nothing is guessed: what is
//! unknown, double or without its value is an error.

use std::collections::VecDeque;
use std::ffi::OsString;

/// A command line that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// No such subcommand.
    #[error("unknown command `{0}`; try --help")]
    UnknownCommand(String),
    /// Words that nothing asked for.
    #[error("unexpected argument `{0}`; try --help")]
    Unexpected(String),
    /// An option has to be there.
    #[error("{0} is missing; try --help")]
    Missing(&'static str),
    /// An option has no value.
    #[error("{0} needs a value")]
    NoValue(&'static str),
    /// An option is there twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// A value is no text.
    #[error("{0} is not UTF-8")]
    NoText(&'static str),
    /// A value is no number.
    #[error("{0} is not a number")]
    NoNumber(&'static str),
}

/// The words that are left.
#[derive(Debug, Clone)]
pub struct Arguments {
    words: VecDeque<OsString>,
}

impl Arguments {
    /// The words after the program's name.
    #[must_use]
    pub fn new(words: Vec<OsString>) -> Arguments {
        Arguments {
            words: words.into(),
        }
    }

    /// Takes the first word.
    pub fn subcommand(&mut self) -> Result<Option<String>, UsageError> {
        let word = self.words.pop_front();
        word.map(|word| {
            word.into_string()
                .map_err(|_| UsageError::NoText("the command"))
        })
        .transpose()
    }

    /// Takes one occurrence of an option with its value, whatever its bytes.
    pub fn raw_value(&mut self, name: &'static str) -> Result<Option<OsString>, UsageError> {
        let Some(at) = self.words.iter().position(|word| word == name) else {
            return Ok(None);
        };
        let value = self.words.remove(at + 1).ok_or(UsageError::NoValue(name))?;
        self.words.remove(at);
        Ok(Some(value))
    }

    /// Takes an option with its value.
    pub fn value(&mut self, name: &'static str) -> Result<Option<String>, UsageError> {
        let value = self.raw_value(name)?;
        if self.words.iter().any(|word| word == name) {
            return Err(UsageError::Twice(name));
        }
        value
            .map(|value| value.into_string().map_err(|_| UsageError::NoText(name)))
            .transpose()
    }

    /// Takes an option that has to be there.
    pub fn required(&mut self, name: &'static str) -> Result<String, UsageError> {
        self.value(name)?.ok_or(UsageError::Missing(name))
    }

    /// Takes an option whose value is a number.
    pub fn number(&mut self, name: &'static str) -> Result<Option<u64>, UsageError> {
        let value = self.value(name)?;
        value
            .map(|value| value.parse().map_err(|_| UsageError::NoNumber(name)))
            .transpose()
    }

    /// Takes an option without a value.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, UsageError> {
        let Some(at) = self.words.iter().position(|word| word == name) else {
            return Ok(false);
        };
        self.words.remove(at);
        if self.words.iter().any(|word| word == name) {
            Err(UsageError::Twice(name))
        } else {
            Ok(true)
        }
    }

    /// Nothing may be left.
    pub fn finish(&mut self) -> Result<(), UsageError> {
        match self.words.pop_front() {
            Some(word) => Err(UsageError::Unexpected(word.to_string_lossy().into_owned())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arguments(words: &[&str]) -> Arguments {
        Arguments::new(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn options_come_in_any_order_and_nothing_is_left_over() {
        let mut line = arguments(&["attach", "--offset", "7", "--nonce", "n"]);
        assert_eq!(line.subcommand().unwrap().unwrap(), "attach");
        assert_eq!(line.required("--nonce").unwrap(), "n");
        assert_eq!(line.number("--offset").unwrap(), Some(7));
        line.finish().unwrap();
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(
            arguments(&["--n"]).value("--n"),
            Err(UsageError::NoValue("--n"))
        );
        assert_eq!(
            arguments(&["--n", "1", "--n", "2"]).value("--n"),
            Err(UsageError::Twice("--n"))
        );
        assert_eq!(
            arguments(&["--n", "x"]).number("--n"),
            Err(UsageError::NoNumber("--n"))
        );
        assert_eq!(
            arguments(&[]).required("--n"),
            Err(UsageError::Missing("--n"))
        );
        assert_eq!(
            arguments(&["x"]).finish(),
            Err(UsageError::Unexpected("x".into()))
        );
    }

    proptest! {
        #[test]
        fn no_words_panic(words in proptest::collection::vec("-?-?[a-z0-9]{0,3}", 0..8)) {
            let mut line = Arguments::new(words.into_iter().map(OsString::from).collect());
            drop(line.subcommand());
            drop(line.number("--a"));
            drop(line.flag("--b"));
            drop(line.raw_value("--a"));
            drop(line.finish());
        }
    }
}
