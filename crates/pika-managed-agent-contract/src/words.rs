//! Vocabularies: closed lists of words that are written and read the same way everywhere.
//!
//! Owns how a word becomes a value again. Each vocabulary has `ALL` and `as_str` of its own.

/// A text that is no word of a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is none of {known}", .given.escape_debug())]
pub struct UnknownWord {
    /// What was given, cut off at 64 characters.
    pub given: String,
    /// What could have been given.
    pub known: String,
}

/// Display and `FromStr` of types with `ALL` and `as_str`.
macro_rules! words {
    ($($name:ty),+ $(,)?) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.into_iter().find(|word| word.as_str() == text);
                found.ok_or_else(|| $crate::UnknownWord {
                    given: text.chars().take(64).collect(),
                    known: Self::ALL.map(Self::as_str).join(", "),
                })
            }
        }
    )+};
}

pub(crate) use words;
