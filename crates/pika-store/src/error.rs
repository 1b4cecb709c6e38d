//! What can go wrong with the database itself.
//!
//! Owns one error for all transactions: refusals are not errors but outcomes of their functions.

/// A transaction that could not be carried out; nothing of it is there.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached, is full, or refuses.
    #[error("the database could not {what}")]
    Database {
        /// What was to be done.
        what: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// A row is not what this program writes.
    #[error("the database holds {what} that can't be read: {problem}")]
    Corrupt {
        /// Which value.
        what: &'static str,
        /// What about it.
        problem: String,
    },
}

impl StoreError {
    pub(crate) fn corrupt(what: &'static str, problem: impl ToString) -> StoreError {
        StoreError::Corrupt {
            what,
            problem: problem.to_string(),
        }
    }
}

/// Says what a statement was for.
pub(crate) trait Saying<T> {
    fn saying(self, what: &'static str) -> Result<T, StoreError>;
}

impl<T> Saying<T> for Result<T, sqlx::Error> {
    fn saying(self, what: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { what, source })
    }
}
