//! Long lists, read item by item as they arrive.
//!
//! Owns where an item of an answer's list ends. Held are the item in hand and the envelope around the list, however long
//! the list is. Never knows what an item means, nor whether it is sound: what isn't is found when it is decoded.

/// The key of an answer's content in Incus's envelope.
const CONTENT: &[u8] = b"metadata";

/// Takes an answer apart as it arrives: the items of its list, and the envelope with an empty list in their place.
#[derive(Debug, Default)]
pub(super) struct ListSplitter {
    envelope: Vec<u8>,
    /// The beginning of the item in hand, of earlier pieces.
    item: Vec<u8>,
    items: usize,
    /// The text that began last at the envelope's own level: before a list, its key.
    key: Vec<u8>,
    depth: usize,
    in_list: bool,
    in_text: bool,
    escaped: bool,
}

impl ListSplitter {
    /// Takes the next piece; gives each item that ends in it, as it was sent.
    pub(super) fn push<E>(
        &mut self,
        piece: &[u8],
        mut item: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // What comes before it is put away.
        let mut from = 0;
        for (at, &byte) in piece.iter().enumerate() {
            if self.in_text {
                self.text(byte);
                continue;
            }
            match byte {
                b'"' => {
                    self.in_text = true;
                    if self.depth == 1 {
                        self.key.clear();
                    }
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    if byte == b'[' && self.depth == 2 && self.key == CONTENT {
                        self.in_list = true;
                        self.envelope.extend_from_slice(&piece[from..=at]);
                        from = at + 1;
                    }
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.in_list && self.depth == 1 {
                        self.in_list = false;
                        self.end_item(&piece[from..at], true, &mut item)?;
                        from = at;
                    }
                }
                b',' if self.depth == 1 => self.key.clear(),
                b',' if self.in_list && self.depth == 2 => {
                    self.end_item(&piece[from..at], false, &mut item)?;
                    from = at + 1;
                }
                _ => {}
            }
        }
        let rest = if self.in_list {
            &mut self.item
        } else {
            &mut self.envelope
        };
        rest.extend_from_slice(&piece[from..]);
        Ok(())
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        self.envelope.len() + self.item.len() + self.key.len()
    }

    /// The answer without its items.
    pub(super) fn into_envelope(self) -> Vec<u8> {
        self.envelope
    }

    fn text(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_text = false,
            _ => {}
        }
        if self.in_text && self.depth == 1 {
            self.key.push(byte);
        }
    }

    /// Nothing between the brackets of a list is no item; nothing beside a comma is one that can't be decoded.
    fn end_item<E>(
        &mut self,
        rest: &[u8],
        is_last: bool,
        item: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut begun = std::mem::take(&mut self.item);
        let whole = if begun.is_empty() {
            rest
        } else {
            begun.extend_from_slice(rest);
            &begun
        };
        let is_none = is_last && self.items == 0 && whole.trim_ascii().is_empty();
        if !is_none {
            self.items += 1;
            item(whole)?;
        }
        begun.clear();
        self.item = begun;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::ListSplitter;

    /// What comes of an answer that arrives in pieces of so many bytes: the envelope and the items, as they were sent.
    fn split(text: &str, size: usize) -> (String, Vec<String>) {
        let mut splitter = ListSplitter::default();
        let mut items = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            let pushed = splitter.push(piece, |item| {
                items.push(String::from_utf8_lossy(item).into_owned());
                Ok::<(), Infallible>(())
            });
            pushed.unwrap_or_else(|never| match never {});
        }
        let envelope = String::from_utf8(splitter.into_envelope()).unwrap();
        (envelope, items)
    }

    #[test]
    fn items_and_envelope_come_apart_wherever_the_pieces_end() {
        let text = r#"{"type":"sync","error":"[\"metadata","metadata": [ {"a":"]},\\\"","b":[1,[2]]} ,7,"x"], "more":[3,4]}"#;
        for size in 1..=text.len() {
            let (envelope, items) = split(text, size);
            assert_eq!(
                envelope, r#"{"type":"sync","error":"[\"metadata","metadata": [], "more":[3,4]}"#,
                "pieces of {size}"
            );
            assert_eq!(items, [r#" {"a":"]},\\\"","b":[1,[2]]} "#, "7", "\"x\""]);
        }
    }

    #[test]
    fn an_answer_without_a_list_is_all_envelope() {
        for text in [
            r#"{"metadata":null}"#,
            r#"{"metadata":{"metadata":[1]}}"#,
            r#"["metadata",[1]]"#,
            "not JSON ]]}}",
        ] {
            assert_eq!(split(text, 3), (text.to_owned(), Vec::new()));
        }
        assert_eq!(split(r#"{"metadata":[ ]}"#, 3).1, Vec::<String>::new());
    }

    #[test]
    fn a_comma_too_many_is_an_item_that_says_nothing() {
        assert_eq!(split(r#"{"metadata":[1,]}"#, 5).1, ["1", ""]);
        assert_eq!(split(r#"{"metadata":[,1]}"#, 5).1, ["", "1"]);
    }

    proptest! {
        #[test]
        fn any_list_comes_out_as_it_went_in(
            texts in prop::collection::vec("\\PC{0,20}|[\\[\\]{},\"\\\\]{0,8}", 0..8),
            size in 1usize..40,
        ) {
            let items: Vec<Value> = texts.iter().map(|text| json!({ text: [text, { "t": text }] })).collect();
            let answer = json!({ "error": texts.first(), "type": "sync", "metadata": items });
            let (envelope, seen) = split(&answer.to_string(), size);
            let envelope: Value = serde_json::from_str(&envelope).unwrap();
            prop_assert_eq!(&envelope, &json!({ "error": texts.first(), "type": "sync", "metadata": [] }));
            let seen: Vec<Value> = seen.iter().map(|item| serde_json::from_str(item).unwrap()).collect();
            prop_assert_eq!(seen, items);
        }
    }
}
