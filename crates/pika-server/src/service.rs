//! The process as a service: what systemd is told, and where the first token goes when nobody looks.
//!
//! Owns the words to systemd and their time. Decides nothing: without systemd each of them is nothing.

use std::path::{Path, PathBuf};

use sd_notify::NotifyState;

/// Name of the file with the operator's first token.
const TOKEN_FILE: &str = "first-operator-token";

/// Tells systemd something, if it asked to be told.
pub(crate) fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd can't be told");
    }
}

/// Says again and again that the process lives, if systemd wants to hear it. That tasks are still run is all that it
/// says: a database or an Incus that is away is no reason to be killed.
pub(crate) async fn say_that_it_lives() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    let mut beat = tokio::time::interval(limit / 3);
    loop {
        beat.tick().await;
        tell(NotifyState::Watchdog);
    }
}

/// Where the operator's first token is written: nowhere for a terminal, which shows it; else to the state directory that
/// systemd names, else beside an SQLite database. What is left, a pipe and a database elsewhere, gets it as a terminal does.
pub(crate) fn token_file(terminal: bool, database: &str) -> Option<PathBuf> {
    if terminal {
        return None;
    }
    let state = std::env::var("STATE_DIRECTORY").ok();
    let folder = state_folder(state.as_deref(), database)?;
    Some(folder.join(TOKEN_FILE))
}

fn state_folder(state: Option<&str>, database: &str) -> Option<PathBuf> {
    // Several are separated by colons; the first is the main one.
    let state = state.and_then(|state| state.split(':').next());
    if let Some(state) = state.filter(|state| !state.is_empty()) {
        return Some(PathBuf::from(state));
    }
    let file = database.strip_prefix("sqlite:")?.trim_start_matches("//");
    Path::new(file).parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_where_a_service_keeps_its_state() {
        let folder =
            |state, database| state_folder(state, database).map(|path| path.display().to_string());
        let postgres = "postgres://pika@db/pika";
        assert_eq!(
            folder(Some("/var/lib/a:/var/lib/b"), postgres).as_deref(),
            Some("/var/lib/a")
        );
        assert_eq!(
            folder(Some(""), "sqlite:/srv/pika.db").as_deref(),
            Some("/srv")
        );
        assert_eq!(
            folder(None, "sqlite:///srv/pika.db").as_deref(),
            Some("/srv")
        );
        assert_eq!(folder(None, "sqlite:pika.db").as_deref(), Some(""));
        assert_eq!(folder(None, postgres), None);
        assert_eq!(token_file(true, "sqlite:/srv/pika.db"), None);
    }
}
