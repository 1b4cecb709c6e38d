//! Pages that ask before something is lost.
//!
//! Owns what each of them says: exactly what goes, what stays, and for how long.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use pika_store::{Agent, Backup};

use super::AGENTS;
use super::agents::new_key;
use super::lines::{name_of, place_of};
use crate::fleet::STATE_PATH;
use crate::http::Shared;
use crate::http::actions::find_or_kept;
use crate::http::agents::find;
use crate::http::auth::Caller;
use crate::http::body::{Id, Params};
use crate::http::error::ApiError;
use crate::pages::{self, ConfirmPage, Frame, When, spoken};

/// Backups whose names a page lists.
const NAMES_MAX: usize = 12;

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    Recover,
    Rebuild,
    Reset,
    Restore(String),
    Delete,
    Purge,
    Undelete,
}

/// What one question says.
struct Wording {
    title: String,
    about: &'static str,
    loses: Vec<String>,
    keeps: Vec<String>,
    button: &'static str,
}

impl Question {
    const fn word(&self) -> &'static str {
        match self {
            Question::Recover => "recover",
            Question::Rebuild => "rebuild",
            Question::Reset => "reset",
            Question::Restore(_) => "restore",
            Question::Delete => "delete",
            Question::Purge => "purge",
            Question::Undelete => "undelete",
        }
    }

    /// Whether the agent's name is to be typed: what goes can't be had again from here.
    pub(super) const fn wants_name(&self) -> bool {
        matches!(self, Question::Reset | Question::Purge)
    }
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreParams {
    backup: String,
}

macro_rules! questions {
    ($($name:ident => $question:expr;)+) => {$(
        pub(super) async fn $name(
            State(shared): State<Arc<Shared>>,
            caller: Caller,
            Id(id): Id,
        ) -> Result<Response, ApiError> {
            ask(&shared, &caller, &id, $question, None).await
        }
    )+};
}

questions! {
    recover => Question::Recover;
    rebuild => Question::Rebuild;
    reset => Question::Reset;
    delete => Question::Delete;
    purge => Question::Purge;
    undelete => Question::Undelete;
}

pub(super) async fn restore(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<RestoreParams>,
) -> Result<Response, ApiError> {
    let question = Question::Restore(params.backup);
    ask(&shared, &caller, &id, question, None).await
}

/// Asks; again with the reason, if the answer could not be taken.
pub(super) async fn ask(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    question: Question,
    refused: Option<String>,
) -> Result<Response, ApiError> {
    let app = &shared.app;
    let agent = match question {
        Question::Purge | Question::Undelete => find_or_kept(shared, caller, id).await?,
        _ => find(shared, caller, id).await?,
    };
    let backups = crate::backups::of_agent(app, &agent).await?;
    let grace = spoken(app.config.times.delete_grace.as_secs());
    let wording = match &question {
        Question::Restore(name) => {
            let found = backups.iter().find(|backup| backup.name == *name);
            let found = found.ok_or_else(|| ApiError::not_found("backup"))?;
            restoring(&agent, found, app.clock.now())
        }
        other => wording(other, &agent, &backups, &grace),
    };
    let place = place_of(&agent.id);
    let back = match agent.deleted_at {
        Some(_) => AGENTS.to_owned(),
        None => place.clone(),
    };
    let page = ConfirmPage {
        frame: Frame::new(wording.title, Some(caller.who()), AGENTS),
        csrf: caller.csrf(),
        key: new_key(),
        name: name_of(&agent).to_owned(),
        back,
        action: format!("{place}/{}", question.word()),
        about: wording.about,
        loses: wording.loses,
        keeps: wording.keeps,
        typed: question.wants_name(),
        button: wording.button,
        instead: (question == Question::Delete).then(|| {
            (
                format!("{place}/purge"),
                "Delete it with its volume and all backups, at once",
            )
        }),
        backup: match question {
            Question::Restore(name) => Some(name),
            _ => None,
        },
        refused,
    };
    let status = match page.refused {
        Some(_) => StatusCode::BAD_REQUEST,
        None => StatusCode::OK,
    };
    Ok(pages::answer(status, &page)?)
}

/// All of them by name, if they are not too many.
fn names(backups: &[Backup]) -> String {
    let shown: Vec<&str> = backups
        .iter()
        .take(NAMES_MAX)
        .map(|backup| &*backup.name)
        .collect();
    let more = backups.len() - shown.len();
    match (shown.len(), more) {
        (0, _) => "It has no backups".to_owned(),
        (1, _) => format!("Its one backup: {}", shown[0]),
        (_, 0) => format!("Its {} backups: {}", backups.len(), shown.join(", ")),
        _ => format!(
            "Its {} backups: {} and {more} more",
            backups.len(),
            shown.join(", ")
        ),
    }
}

fn running() -> String {
    "What runs in it now: it is ended.".to_owned()
}

fn root() -> String {
    format!(
        "The root disk: everything outside of {STATE_PATH}, such as installed packages and changed settings."
    )
}

fn restoring(agent: &Agent, backup: &Backup, now: pika_store::Millis) -> Wording {
    let taken = When::new(backup.created_at, now);
    Wording {
        title: format!("Restore {}?", name_of(agent)),
        about: "The volume becomes what it was in the backup. The agent is stopped for it and started again.",
        loses: vec![
            format!(
                "Every change on the volume ({STATE_PATH}) since {} ({}), when {} was taken.",
                taken.title(),
                taken.text,
                backup.name
            ),
            running(),
        ],
        keeps: vec![
            "The volume as it is now, as a backup that is taken first.".to_owned(),
            "The root disk and all other backups.".to_owned(),
        ],
        button: "Restore the volume",
    }
}

fn returning(name: &str, volume: String, own: String) -> Wording {
    Wording {
        title: format!("Bring {name} back?"),
        about: "The same agent, with its id and its volume, on a new instance. It has to fit its owner's quota. Where the \
                owner has another default agent by now, that one stays the default.",
        loses: Vec::new(),
        keeps: vec![
            format!("{volume}, as it was when the agent was deleted."),
            own,
        ],
        button: "Bring it back",
    }
}

fn wording(question: &Question, agent: &Agent, backups: &[Backup], grace: &str) -> Wording {
    let name = name_of(agent);
    let volume = format!("The volume with everything on it ({STATE_PATH})");
    let own = format!("{}.", names(backups));
    match question {
        Question::Recover => Wording {
            title: format!("Recover {name}?"),
            about: "It is asked to restart; if that does not help, it is ended and started; if that does not help \
                    either, its instance is made anew. If it is ready, nothing is done.",
            loses: vec![
                running(),
                format!(
                    "Only if no restart helps: the root disk, which is everything outside of {STATE_PATH}."
                ),
            ],
            keeps: vec![format!("{volume}."), own],
            button: "Recover it",
        },
        Question::Rebuild => Wording {
            title: format!("Rebuild {name}?"),
            about: "Its instance is made anew from the image, on the same volume.",
            loses: vec![root(), running()],
            keeps: vec![format!("{volume}; a backup of it is taken first."), own],
            button: "Rebuild it",
        },
        Question::Delete => Wording {
            title: format!("Delete {name}?"),
            about: "The agent's end. Another one may be made at once; it will be a new one.",
            loses: vec![
                root(),
                running(),
                format!("After {grace}: the volume ({STATE_PATH}) with all its backups."),
            ],
            keeps: vec![format!(
                "For {grace}: the volume, a last backup of it, and those it has. An operator sees them until then."
            )],
            button: "Delete it",
        },
        Question::Purge => Wording {
            title: format!("Delete {name} for good?"),
            about: "Nothing of the agent is kept. This can't be taken back, by nobody.",
            loses: vec![
                format!("{volume}, at once."),
                own,
                match agent.deleted_at {
                    Some(_) => "Its instance is gone already.".to_owned(),
                    None => root(),
                },
            ],
            keeps: Vec::new(),
            button: "Delete everything of it",
        },
        Question::Undelete => returning(name, volume, own),
        Question::Reset | Question::Restore(_) => Wording {
            title: format!("Reset {name}?"),
            about: "Its instance is made anew and its volume is emptied: the agent begins from nothing.",
            loses: vec![format!("{volume}."), root(), running()],
            keeps: vec![
                "The volume as it is now, as a backup that is taken first.".to_owned(),
                own,
                "The agent's id, labels and place.".to_owned(),
            ],
            button: "Reset it",
        },
    }
}
