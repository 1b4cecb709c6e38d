//! How values read: times, phases, steps, details of events.
//!
//! Owns the wording. Takes the present moment; never asks for it.

use jiff::Timestamp;
use pika_managed_agent_contract::StartupPhase;
use pika_store::Millis;
use serde_json::Value;

/// Longest text of one detail, in characters.
const DETAIL_CHARS_MAX: usize = 300;

/// A moment, as people say it and exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct When {
    /// As RFC 3339.
    pub(crate) exact: String,
    /// Seen from now.
    pub(crate) text: String,
}

impl When {
    pub(crate) fn new(at: Millis, now: Millis) -> When {
        let exact = Timestamp::from_millisecond(at).unwrap_or_default();
        let exact = exact.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let away = length((now - at).abs() / 1000);
        let text = match (away, now >= at) {
            (None, _) => "just now".to_owned(),
            (Some(length), true) => format!("{length} ago"),
            (Some(length), false) => format!("in {length}"),
        };
        When { exact, text }
    }

    /// The exact moment, for people.
    pub(crate) fn title(&self) -> String {
        self.exact.replace('T', " ").replace('Z', " UTC")
    }
}

/// A length of time in its largest unit; `None` if it is too short to be worth a word.
fn length(secs: i64) -> Option<String> {
    let (count, unit) = match secs {
        ..5 => return None,
        5..90 => (secs, "s"),
        90..5400 => ((secs + 30) / 60, "min"),
        5400..129_600 => ((secs + 1800) / 3600, "h"),
        _ => ((secs + 43_200) / 86_400, "days"),
    };
    Some(format!("{count} {unit}"))
}

/// How long something is, for a sentence.
pub(crate) fn spoken(secs: u64) -> String {
    length(i64::try_from(secs).unwrap_or(i64::MAX)).unwrap_or_else(|| "a moment".to_owned())
}

/// A word of ours, such as `snapshot_before`, as words.
pub(crate) fn sentence(word: &str) -> String {
    let mut text = word.replace('_', " ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// What a phase means.
pub(crate) fn phase_text(phase: StartupPhase) -> &'static str {
    match phase {
        StartupPhase::Requested => "Asked for; nobody works on it yet.",
        StartupPhase::ProvisioningVm => "Its volume and instance are being made.",
        StartupPhase::BootingGuest => "The instance starts.",
        StartupPhase::WaitingForServiceReady => "The guest runs, and its service is not ready yet.",
        StartupPhase::WaitingForKeypackagePublish => {
            "The service answers, and its key package is not published yet."
        }
        StartupPhase::Ready => "Its service got ready.",
        StartupPhase::Failed => "It ended before it was ready, or after.",
    }
}

/// The details of an event as one line. Ids say nothing to people.
pub(crate) fn details(data: &Value) -> String {
    let said = data.as_object().into_iter().flatten();
    let nothing = [Value::Null, Value::Bool(false)];
    let said = said.filter(|(key, value)| !key.ends_with("_id") && !nothing.contains(value));
    let mut said: Vec<_> = said.collect();
    // What was done comes before what is next.
    said.sort_by_key(|(key, _)| (key.as_str() == "next", key.as_str()));
    let said: Vec<String> = said
        .into_iter()
        .map(|(key, value)| {
            // Of an error its message says enough.
            let text = value.get("message").unwrap_or(value);
            let text = text
                .as_str()
                .map_or_else(|| text.to_string(), str::to_owned);
            // A word of ours is read as words.
            let is_word = text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let text = match is_word {
                true => text.replace('_', " "),
                false => text,
            };
            let mut text: String = text.chars().take(DETAIL_CHARS_MAX + 1).collect();
            if text.chars().count() > DETAIL_CHARS_MAX {
                text.pop();
                text.push('…');
            }
            format!("{}: {text}", key.replace('_', " "))
        })
        .collect();
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_moment_is_said_in_its_largest_unit() {
        let now = 1_800_000_000_000;
        let said = |secs: i64| When::new(now + secs * 1000, now).text;
        assert_eq!(said(0), "just now");
        assert_eq!(said(-12), "12 s ago");
        assert_eq!(said(-120), "2 min ago");
        assert_eq!(said(90), "in 2 min");
        assert_eq!(said(-7200), "2 h ago");
        assert_eq!(said(7 * 86_400), "in 7 days");
        let when = When::new(now, now);
        assert_eq!(when.exact, "2027-01-15T08:00:00Z");
        assert_eq!(when.title(), "2027-01-15 08:00:00 UTC");
        // A moment that no calendar has is not a panic.
        assert!(!When::new(Millis::MAX, now).exact.is_empty());
    }

    #[test]
    fn details_leave_ids_out_and_are_bounded() {
        let data = json!({ "operation_id": "op-1", "kind": "create", "reason": null, "stale": false, "restarts": 2 });
        assert_eq!(details(&data), "kind: create, restarts: 2");
        let long = details(&json!({ "reason": "ü".repeat(1000) }));
        assert!(long.ends_with('…') && long.chars().count() < 320);
        let step = json!({ "next": "await_ready", "step": "ensure_instance" });
        assert_eq!(details(&step), "step: ensure instance, next: await ready");
        assert_eq!(details(&json!("a text")), "");
        let failed = json!({ "error": { "error": "unavailable", "message": "no image" } });
        assert_eq!(details(&failed), "error: no image");
        assert_eq!(sentence("snapshot_before"), "Snapshot before");
        assert_eq!(sentence(""), "");
    }
}
