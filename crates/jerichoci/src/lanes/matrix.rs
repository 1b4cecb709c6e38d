//! From a lane with a matrix to one lane for each combination of its values.
//!
//! Owns the ids of variants, what replaces `{{matrix.NAME}}`, and what `needs` of a lane with variants means. Pure; what
//! can't be right is refused by the checks before.

use std::collections::BTreeMap;

use super::Lane;

/// Most variants of one lane.
pub(super) const VARIANTS_MAX: usize = 256;
/// Most lanes of a section, variants counted one by one.
pub(super) const ALL_MAX: usize = 20_000;
/// Most needs of all of them together.
pub(super) const NEEDS_MAX: usize = 1_000_000;
/// Longest value, in bytes: values are part of folder names.
pub(super) const VALUE_BYTES_MAX: usize = 40;
/// Most names in one matrix.
pub(super) const NAMES_MAX: usize = 4;

/// What a variant is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The id of the lane in the file.
    pub lane: String,
    /// Its value of each name.
    pub values: BTreeMap<String, String>,
}

/// Every lane, those with a matrix as their variants, in the order of the file.
pub(super) fn expand(lanes: Vec<Lane>) -> Vec<Lane> {
    let variants: BTreeMap<String, Vec<String>> = lanes
        .iter()
        .filter(|lane| !lane.matrix.is_empty())
        .map(|lane| {
            let ids = combinations(&lane.matrix);
            let ids = ids.iter().map(|values| variant_id(&lane.id, values));
            (lane.id.clone(), ids.collect())
        })
        .collect();
    let mut expanded = Vec::new();
    for mut lane in lanes {
        lane.needs = lane
            .needs
            .into_iter()
            .flat_map(|need| variants.get(&need).cloned().unwrap_or(vec![need]))
            .collect();
        if lane.matrix.is_empty() {
            expanded.push(lane);
            continue;
        }
        let all = combinations(&lane.matrix);
        expanded.extend(all.into_iter().map(|values| variant(&lane, values)));
    }
    expanded
}

/// How many variants a matrix makes.
pub(super) fn count(matrix: &BTreeMap<String, Vec<String>>) -> usize {
    matrix.values().map(Vec::len).fold(1, usize::saturating_mul)
}

/// The names that a text refers to.
pub(super) fn names_in(text: &str) -> Vec<&str> {
    let after = text.split("{{matrix.").skip(1);
    after
        .filter_map(|rest| rest.split_once("}}").map(|(name, _)| name))
        .collect()
}

fn combinations(matrix: &BTreeMap<String, Vec<String>>) -> Vec<BTreeMap<String, String>> {
    let mut all = vec![BTreeMap::new()];
    for (name, values) in matrix {
        all = all
            .iter()
            .flat_map(|begun| {
                values.iter().map(move |value| {
                    let mut longer = begun.clone();
                    longer.insert(name.clone(), value.clone());
                    longer
                })
            })
            .collect();
    }
    all
}

fn variant_id(lane: &str, values: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{lane}@{}", pairs.join(","))
}

fn variant(lane: &Lane, values: BTreeMap<String, String>) -> Lane {
    let fill = |text: &String| {
        values.iter().fold(text.clone(), |text, (name, value)| {
            text.replace(&format!("{{{{matrix.{name}}}}}"), value)
        })
    };
    let mut made = lane.clone();
    made.id = variant_id(&lane.id, &values);
    made.title = match fill(&lane.title) {
        // The id says which variant it is; a title that does not is made to.
        title if title == lane.title => {
            let shown: Vec<&str> = values.values().map(String::as_str).collect();
            format!("{title} ({})", shown.join(", "))
        }
        title => title,
    };
    made.command = lane.command.iter().map(fill).collect();
    made.image = lane.image.as_ref().map(fill);
    made.concurrency_group = lane.concurrency_group.as_ref().map(fill);
    made.env = lane
        .env
        .iter()
        .map(|(name, value)| (name.clone(), fill(value)))
        .collect();
    for (name, value) in &values {
        let variable = format!("PIKACI_MATRIX_{}", name.to_ascii_uppercase());
        made.env.entry(variable).or_insert_with(|| value.clone());
    }
    made.matrix = BTreeMap::new();
    made.variant = Some(Variant {
        lane: lane.id.clone(),
        values,
    });
    made
}
