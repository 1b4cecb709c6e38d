//! The filter language of lists: `key eq value`, joined by `and`/`or`, negated by `not`, as far as clients use it.

use serde_json::Value;

use super::reply::ApiError;

/// Whether an object as the API shows it passes the filter.
pub(crate) fn passes(filter: &str, object: &Value) -> Result<bool, ApiError> {
    let words: Vec<&str> = filter.split_whitespace().collect();
    let mut rest = words.as_slice();
    let mut verdict = true;
    let mut joined_by_or = false;
    while !rest.is_empty() {
        let negated = rest[0] == "not";
        if negated {
            rest = &rest[1..];
        }
        let [key, operator, value, ..] = rest else {
            return Err(ApiError::new(400, "Invalid filter: clause has no value"));
        };
        let equal = matches_value(lookup(object, key), value.trim_matches(['"', '\'']));
        let clause = match *operator {
            "eq" => equal,
            "ne" => !equal,
            _ => {
                return Err(ApiError::new(
                    400,
                    format!("Invalid filter: invalid operator {operator:?}"),
                ));
            }
        } != negated;
        verdict = if joined_by_or {
            verdict || clause
        } else {
            verdict && clause
        };
        rest = &rest[3..];
        if let Some((join, after)) = rest.split_first() {
            joined_by_or = *join == "or";
            rest = after;
        }
    }
    Ok(verdict)
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
        Some(Value::String(text)) => text.eq_ignore_ascii_case(wanted),
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
    use super::passes;
    use serde_json::json;

    #[test]
    fn clauses_with_dotted_keys() {
        let object = json!({"name": "a", "status": "Running", "config": {"user.pika.owner": "t"}});
        let pass = |filter| passes(filter, &object).expect("a well-formed filter");
        assert!(pass("config.user.pika.owner eq t"));
        assert!(!pass("config.user.pika.owner eq u"));
        assert!(pass("name eq a and status eq running"));
        assert!(pass("name eq b or status eq running"));
        assert!(pass("not name eq b"));
        assert!(passes("zzz qq", &object).is_err());
    }
}
