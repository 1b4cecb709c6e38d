//! The recorded tape: requests sent to a real daemon (6.0.4, containers on btrfs) and what it answered.
//!
//! Owns playing the tape's requests on a daemon, fake or real, and comparing the answers: status, error text and
//! code, and the shape of everything else. It never decides which side is right.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::raw::{self, Answer};

mod shape;

const TAPE: &str = include_str!("recorded/tape.json");

/// One recorded request with its answer.
#[derive(Debug, Clone, Deserialize)]
struct Step {
    name: String,
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
    response: Recorded,
}

#[derive(Debug, Clone, Deserialize)]
struct Recorded {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Value,
}

/// What stands for the tape's placeholders on the daemon that it is played on.
#[derive(Debug, Clone)]
pub struct Names {
    /// Prefix of everything that the tape creates.
    pub name: String,
    /// Fingerprint of a container image.
    pub image: String,
    /// An alias of it, with one slash.
    pub alias: String,
}

/// An answer that is not as recorded.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The step's name.
    pub step: String,
    /// Where in the answer, and both sides.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.what)
    }
}

/// Why the tape could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The checked-in tape doesn't parse.
    #[error("the recorded tape is broken")]
    Tape(#[source] serde_json::Error),
    /// A request got no answer.
    #[error("step {step:?} of the recorded tape got no answer")]
    NoAnswer {
        /// The step's name.
        step: String,
        /// The transport's reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Plays the whole tape on the daemon behind a socket and says what differs from the recording.
pub async fn play(socket: &Path, names: &Names) -> Result<Vec<Difference>, PlayError> {
    let tape: Vec<Step> = serde_json::from_str(TAPE).map_err(PlayError::Tape)?;
    let mut words = Words::new(names);
    let mut differences = Vec::new();
    for step in &tape {
        let answer = send(socket, step, &words)
            .await
            .map_err(|source| PlayError::NoAnswer {
                step: step.name.clone(),
                source,
            })?;
        words.learn(step, &answer);
        let mut found = Vec::new();
        compare(step, &answer, &words, &mut found);
        differences.extend(found.into_iter().map(|what| Difference {
            step: step.name.clone(),
            what,
        }));
    }
    Ok(differences)
}

async fn send(
    socket: &Path,
    step: &Step,
    words: &Words,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let mut headers: Vec<(String, String)> = step
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), words.to_live(value)))
        .collect();
    let body = match &step.body {
        None => Vec::new(),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(json) => {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
            words.to_live(&json.to_string()).into_bytes()
        }
    };
    let path = words.to_live(&step.path);
    raw::send(socket, &step.method, &path, &headers, body).await
}

fn compare(step: &Step, answer: &Answer, words: &Words, found: &mut Vec<String>) {
    let recorded = &step.response;
    if answer.status != recorded.status {
        found.push(format!(
            "status {} instead of {}: {}",
            answer.status, recorded.status, answer.body
        ));
        return;
    }
    for (name, value) in &recorded.headers {
        let have = answer.headers.get(name).and_then(|have| have.to_str().ok());
        let Some(have) = have else {
            found.push(format!("no header {name}"));
            continue;
        };
        let exact = name.starts_with("x-incus-") || name == "content-length";
        if exact && have != value && step.method == "HEAD" && step.response.status == 200 {
            found.push(format!("header {name}: {have} instead of {value}"));
        }
    }
    if step.method == "HEAD" {
        return;
    }
    if let Some(text) = recorded.body.get("__text") {
        if answer.body != *text {
            found.push(format!("body {} instead of {text}", answer.body));
        }
        return;
    }
    let have = words.to_recorded(&answer.body.to_string());
    match serde_json::from_str(&have) {
        Ok(have) => {
            let running = recorded.status == 202;
            shape::compare("", &recorded.body, &have, running, found);
        }
        Err(error) => found.push(format!("not JSON: {error}")),
    }
}

/// Pairs of words, recorded and live: placeholders, operation ids, entity tags.
struct Words {
    pairs: Vec<(String, String)>,
}

impl Words {
    fn new(names: &Names) -> Words {
        let escaped = names.alias.replace('/', "%2F");
        Words {
            pairs: vec![
                ("{image}".to_owned(), names.image.clone()),
                ("{alias}".to_owned(), names.alias.clone()),
                ("{alias-escaped}".to_owned(), escaped),
                ("{name}".to_owned(), names.name.clone()),
            ],
        }
    }

    fn learn(&mut self, step: &Step, answer: &Answer) {
        let tag = |text: &str| text.trim_matches('"').to_owned();
        if let (Some(recorded), Some(live)) = (
            step.response.headers.get("etag"),
            answer.headers.get("etag").and_then(|tag| tag.to_str().ok()),
        ) {
            self.pairs.push((tag(recorded), tag(live)));
        }
        let id = |body: &Value| {
            body["operation"]
                .as_str()
                .and_then(|path| path.rsplit('/').next())
                .filter(|id| !id.is_empty())
                .map(str::to_owned)
        };
        if let (Some(recorded), Some(live)) = (id(&step.response.body), id(&answer.body)) {
            self.pairs.push((recorded, live));
        }
    }

    fn to_live(&self, text: &str) -> String {
        self.pairs
            .iter()
            .fold(text.to_owned(), |text, (recorded, live)| {
                text.replace(recorded.as_str(), live)
            })
    }

    fn to_recorded(&self, text: &str) -> String {
        self.pairs
            .iter()
            .fold(text.to_owned(), |text, (recorded, live)| {
                text.replace(live.as_str(), recorded)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, play};
    use crate::fake::{DEFAULT_ALIAS, DEFAULT_IMAGE, FakeIncus};

    #[tokio::test]
    async fn the_fake_answers_as_the_real_daemon_did() {
        let fake = FakeIncus::start().await.expect("the fake starts");
        let names = Names {
            name: "tape".to_owned(),
            image: DEFAULT_IMAGE.to_owned(),
            alias: DEFAULT_ALIAS.to_owned(),
        };
        let differences = play(fake.socket(), &names).await.expect("the tape plays");
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}
