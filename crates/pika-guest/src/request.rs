//! Owns where a request comes from: the host's bytes, the request file, or the three older environment variables; and
//! what happens when they disagree. Never writes a request: it may hold secrets, and the state directory is on disk.

use std::ffi::OsString;

use pika_cloud::guest_request::limits::REQUEST_BYTES_MAX;
use pika_cloud::guest_request::{ENV_GUEST_COMMAND, ENV_RUN_AS_ROOT, ENV_TIMEOUT_SECS};
use pika_cloud::{GuestRequest, GuestRequestError};

use crate::files::{Dir, FileError};
use crate::layout::REQUEST_FILE;

/// A request that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is none.
    #[error(
        "there is neither /run/pika-cloud/{REQUEST_FILE} nor {ENV_GUEST_COMMAND} in the environment"
    )]
    Missing,
    /// The file can't be read.
    #[error("the request file can't be read")]
    File(#[from] FileError),
    /// It is no good.
    #[error("the request is refused")]
    Refused(#[from] GuestRequestError),
    /// An environment variable is no good.
    #[error("{name} {reason}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// File and environment say different things; the file would win, silently.
    #[error("{name} contradicts `{field}` of the request file; unset it or make them equal")]
    Contradiction {
        /// The variable.
        name: &'static str,
        /// The request's field.
        field: &'static str,
    },
    /// The request carries another nonce than the one that was asked for.
    #[error("the request's nonce is not the one that was given")]
    OtherNonce,
}

/// The older way in: three environment variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestVariables {
    /// `PIKACI_INCUS_GUEST_COMMAND`.
    pub command: Option<OsString>,
    /// `PIKACI_INCUS_TIMEOUT_SECS`.
    pub timeout_secs: Option<OsString>,
    /// `PIKACI_INCUS_RUN_AS_ROOT`.
    pub run_as_root: Option<OsString>,
}

impl RequestVariables {
    /// Reads them from this process' environment.
    #[must_use]
    pub fn read() -> RequestVariables {
        RequestVariables {
            command: std::env::var_os(ENV_GUEST_COMMAND),
            timeout_secs: std::env::var_os(ENV_TIMEOUT_SECS),
            run_as_root: std::env::var_os(ENV_RUN_AS_ROOT),
        }
    }
}

/// The request of the file, else of the variables. Variables that contradict the file are an error.
pub fn read(state: &Dir, variables: &RequestVariables) -> Result<GuestRequest, RequestError> {
    let Some(bytes) = state.read(REQUEST_FILE, REQUEST_BYTES_MAX)? else {
        return from_variables(variables);
    };
    let request = GuestRequest::decode(&bytes)?;
    let differs = |name, field| Err(RequestError::Contradiction { name, field });
    let command = text(ENV_GUEST_COMMAND, variables.command.as_ref())?;
    if command.is_some_and(|command| command != request.command) {
        return differs(ENV_GUEST_COMMAND, "command");
    }
    if timeout_secs(variables)?.is_some_and(|secs| secs != request.timeout_secs) {
        return differs(ENV_TIMEOUT_SECS, "timeout_secs");
    }
    if run_as_root(variables)?.is_some_and(|root| root != request.run_as_root) {
        return differs(ENV_RUN_AS_ROOT, "run_as_root");
    }
    Ok(request)
}

/// The nonce of a run: the request's, the one asked for, or `fallback`; the first two must not differ.
pub fn nonce(
    request: &GuestRequest,
    asked: Option<&str>,
    fallback: String,
) -> Result<String, RequestError> {
    match (request.nonce.as_deref(), asked) {
        (Some(of_request), Some(asked)) if of_request != asked => Err(RequestError::OtherNonce),
        (Some(nonce), _) | (None, Some(nonce)) => Ok(nonce.to_owned()),
        (None, None) => Ok(fallback),
    }
}

fn from_variables(variables: &RequestVariables) -> Result<GuestRequest, RequestError> {
    let command =
        text(ENV_GUEST_COMMAND, variables.command.as_ref())?.ok_or(RequestError::Missing)?;
    let secs = timeout_secs(variables)?.ok_or(RequestError::Variable {
        name: ENV_TIMEOUT_SECS,
        reason: "is not set",
    })?;
    let mut request = GuestRequest::new(command, secs);
    request.run_as_root = run_as_root(variables)?.unwrap_or(false);
    // The same bounds as for a file.
    Ok(GuestRequest::decode(&request.encode()?)?)
}

fn timeout_secs(variables: &RequestVariables) -> Result<Option<u64>, RequestError> {
    let bad = |_| RequestError::Variable {
        name: ENV_TIMEOUT_SECS,
        reason: "is not a number of seconds",
    };
    text(ENV_TIMEOUT_SECS, variables.timeout_secs.as_ref())?
        .map(|secs| secs.parse().map_err(bad))
        .transpose()
}

fn run_as_root(variables: &RequestVariables) -> Result<Option<bool>, RequestError> {
    match text(ENV_RUN_AS_ROOT, variables.run_as_root.as_ref())? {
        None => Ok(None),
        Some("0") => Ok(Some(false)),
        Some("1") => Ok(Some(true)),
        Some(_) => Err(RequestError::Variable {
            name: ENV_RUN_AS_ROOT,
            reason: "is neither 0 nor 1",
        }),
    }
}

fn text<'a>(
    name: &'static str,
    value: Option<&'a OsString>,
) -> Result<Option<&'a str>, RequestError> {
    let bad = RequestError::Variable {
        name,
        reason: "is not UTF-8",
    };
    value.map(|value| value.to_str().ok_or(bad)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(command: &str, secs: &str, root: &str) -> RequestVariables {
        let set = |value: &str| Some(OsString::from(value));
        RequestVariables {
            command: set(command),
            timeout_secs: set(secs),
            run_as_root: set(root),
        }
    }

    fn state() -> (tempfile::TempDir, Dir) {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(&temporary.path().canonicalize().unwrap()).unwrap();
        (temporary, dir)
    }

    #[test]
    fn the_variables_make_a_request() {
        let (_temporary, state) = state();
        let request = read(&state, &variables("echo ok", "120", "1")).unwrap();
        assert_eq!(
            (
                request.command.as_str(),
                request.timeout_secs,
                request.run_as_root
            ),
            ("echo ok", 120, true)
        );
        assert!(matches!(
            read(&state, &RequestVariables::default()),
            Err(RequestError::Missing)
        ));
        for (command, secs, root) in [
            ("", "1", "0"),
            ("a", "", "0"),
            ("a", "0", "0"),
            ("a", "1", "yes"),
        ] {
            assert!(
                read(&state, &variables(command, secs, root)).is_err(),
                "{command:?} {secs:?} {root:?}"
            );
        }
    }

    #[test]
    fn the_file_wins_and_a_contradiction_is_an_error() {
        let (temporary, state) = state();
        let request = GuestRequest::new("make", 60);
        std::fs::write(
            temporary.path().join(REQUEST_FILE),
            request.encode().unwrap(),
        )
        .unwrap();
        assert_eq!(read(&state, &RequestVariables::default()).unwrap(), request);
        assert_eq!(
            read(&state, &variables("make", "60", "0")).unwrap(),
            request
        );
        for other in [
            variables("true", "60", "0"),
            variables("make", "61", "0"),
            variables("make", "60", "1"),
        ] {
            assert!(
                matches!(
                    read(&state, &other),
                    Err(RequestError::Contradiction { .. })
                ),
                "{other:?}"
            );
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let (temporary, state) = state();
        let json =
            r#"{"schema_version":2,"command":"a","timeout_secs":1,"run_as_root":false,"x":1}"#;
        std::fs::write(temporary.path().join(REQUEST_FILE), json).unwrap();
        assert!(matches!(
            read(&state, &RequestVariables::default()),
            Err(RequestError::Refused(_))
        ));
    }

    #[test]
    fn two_nonces_must_be_one() {
        let mut request = GuestRequest::new("a", 1);
        assert_eq!(nonce(&request, None, "f".into()).unwrap(), "f");
        assert_eq!(nonce(&request, Some("n"), "f".into()).unwrap(), "n");
        request.nonce = Some("n".into());
        assert_eq!(nonce(&request, Some("n"), "f".into()).unwrap(), "n");
        assert!(nonce(&request, Some("m"), "f".into()).is_err());
    }
}
