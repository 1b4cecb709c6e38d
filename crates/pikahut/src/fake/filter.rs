//! The filter language of lists: `key eq value`, joined by `and`/`or`, negated by `not`, as far as clients use it.

use serde_json::Value;

use super::reply::ApiError;

/// A filter, taken apart once for a whole list.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    clauses: Vec<Clause<'a>>,
}

#[derive(Debug)]
struct Clause<'a> {
    joined_by_or: bool,
    /// Whether the value has to be another one.
    negated: bool,
    key: &'a str,
    value: &'a str,
}

impl<'a> Filter<'a> {
    /// Refuses what the daemon refuses, even where there is nothing to filter.
    pub(crate) fn parse(text: &'a str) -> Result<Filter<'a>, ApiError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut rest = words.as_slice();
        let mut clauses = Vec::new();
        let mut joined_by_or = false;
        while !rest.is_empty() {
            let negated = rest[0] == "not";
            if negated {
                rest = &rest[1..];
            }
            let [key, operator, value, ..] = rest else {
                return Err(ApiError::new(400, "Invalid filter: clause has no value"));
            };
            let differs = match *operator {
                "eq" => false,
                "ne" => true,
                _ => {
                    return Err(ApiError::new(
                        400,
                        format!("Invalid filter: invalid operator {operator:?}"),
                    ));
                }
            };
            clauses.push(Clause {
                joined_by_or,
                negated: differs != negated,
                key,
                value: value.trim_matches(['"', '\'']),
            });
            rest = &rest[3..];
            if let Some((join, after)) = rest.split_first() {
                joined_by_or = *join == "or";
                rest = after;
            }
        }
        Ok(Filter { clauses })
    }

    /// Whether an object passes of which `equals` says whether a key has a value.
    pub(crate) fn passes(&self, equals: impl Fn(&str, &str) -> bool) -> bool {
        self.clauses.iter().fold(true, |verdict, clause| {
            let holds = equals(clause.key, clause.value) != clause.negated;
            if clause.joined_by_or {
                verdict || holds
            } else {
                verdict && holds
            }
        })
    }
}

/// Whether a key of an object as the API shows it has a value.
pub(crate) fn equals_shown(object: &Value, key: &str, wanted: &str) -> bool {
    matches_value(lookup(object, key), wanted)
}

/// Whether a text is what a filter wants.
pub(crate) fn equals_text(text: Option<&str>, wanted: &str) -> bool {
    text.unwrap_or_default().eq_ignore_ascii_case(wanted)
}

/// Keys of config hold dots themselves: the longest own key wins.
fn lookup<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    if let Some(value) = object.get(key) {
        return Some(value);
    }
    key.match_indices('.').find_map(|(dot, _)| {
        let inner = object.get(&key[..dot])?;
        lookup(inner, &key[dot + 1..])
    })
}

fn matches_value(value: Option<&Value>, wanted: &str) -> bool {
    match value {
        Some(Value::String(text)) => equals_text(Some(text), wanted),
        Some(Value::Null) | None => wanted.is_empty(),
        Some(Value::Bool(value)) => wanted == if *value { "true" } else { "false" },
        Some(Value::Number(number)) => wanted
            .parse()
            .is_ok_and(|wanted: serde_json::Number| wanted == *number),
        Some(Value::Array(_) | Value::Object(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, equals_shown};
    use serde_json::json;

    #[test]
    fn clauses_with_dotted_keys() {
        let object = json!({"name": "a", "status": "Running", "config": {"user.pika.owner": "t"}});
        let pass = |filter| {
            let filter = Filter::parse(filter).expect("a well-formed filter");
            filter.passes(|key, value| equals_shown(&object, key, value))
        };
        assert!(pass("config.user.pika.owner eq t"));
        assert!(!pass("config.user.pika.owner eq u"));
        assert!(pass("name eq a and status eq running"));
        assert!(pass("name eq b or status eq running"));
        assert!(pass("not name eq b"));
        assert!(pass("name ne b and config.user.other ne x"));
        assert!(Filter::parse("zzz qq").is_err());
        assert!(Filter::parse("name is a").is_err());
    }
}
