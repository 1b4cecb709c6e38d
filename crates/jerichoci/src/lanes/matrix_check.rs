//! The rules of a matrix: how many, which names and values, and that what refers to it is there.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::check::Checker;
use super::matrix;
use super::raw::RawLane;

impl Checker<'_> {
    pub(super) fn matrix(&mut self, raw: &RawLane) {
        let mut known = BTreeMap::new();
        for (name, values) in &raw.matrix {
            self.matrix_name(name);
            self.matrix_values(name.get_ref(), values);
            known.insert(name.get_ref().clone(), values.get_ref().clone());
        }
        if known.is_empty() {
            return;
        }
        if known.len() > matrix::NAMES_MAX || matrix::count(&known) > matrix::VARIANTS_MAX {
            let message = format!(
                "a matrix has at most {} names and {} variants; this one has {} and {}",
                matrix::NAMES_MAX,
                matrix::VARIANTS_MAX,
                known.len(),
                matrix::count(&known)
            );
            self.refuse(raw.id.span(), message);
        }
        let texts = raw.command.get_ref().iter().chain(raw.env.values());
        let texts = texts.chain(
            [&raw.title, &raw.image, &raw.concurrency_group]
                .into_iter()
                .flatten(),
        );
        for text in texts {
            for name in matrix::names_in(text.get_ref()) {
                if !known.contains_key(name) {
                    let names: Vec<&str> = known.keys().map(String::as_str).collect();
                    let message =
                        format!("the matrix has no `{name}`; it has {}", names.join(", "));
                    self.refuse(text.span(), message);
                }
            }
        }
    }

    fn matrix_name(&mut self, name: &Spanned<String>) {
        let text = name.get_ref();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
        if !starts_well || !text.bytes().all(allowed) || text.len() > matrix::VALUE_BYTES_MAX {
            let message =
                "a name of a matrix has letters, digits and `_`, and starts with a letter";
            self.refuse(name.span(), message);
        }
    }

    fn matrix_values(&mut self, name: &str, values: &Spanned<Vec<String>>) {
        if values.get_ref().is_empty() {
            self.refuse(values.span(), format!("matrix `{name}` has no values"));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        let mut seen = BTreeSet::new();
        for value in values.get_ref() {
            if value.is_empty()
                || value.len() > matrix::VALUE_BYTES_MAX
                || !value.bytes().all(allowed)
            {
                let message = format!(
                    "a value of a matrix has at most {} letters, digits, `-`, `_`, `.` and `+`",
                    matrix::VALUE_BYTES_MAX
                );
                self.refuse(values.span(), message);
            } else if !seen.insert(value.to_ascii_lowercase()) {
                self.refuse(values.span(), format!("`{value}` is listed twice"));
            }
        }
    }
}
