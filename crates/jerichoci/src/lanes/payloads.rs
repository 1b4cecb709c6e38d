//! Prepared payloads in a lanes file: that each is made by one lane, and that whoever takes it needs that lane.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use super::check::Checker;
use super::raw::RawLane;
use super::{Lane, Section};
use crate::cache::payload::Payload;

/// The payloads of one lane, each with its place in the file.
pub(super) struct LanePayloads {
    outputs: Vec<(Payload, Range<usize>)>,
    inputs: Vec<(Payload, Range<usize>)>,
    has_matrix: bool,
}

impl LanePayloads {
    pub(super) fn of(raw: &RawLane) -> Self {
        Self {
            outputs: known(&raw.outputs),
            inputs: known(&raw.inputs),
            has_matrix: !raw.matrix.is_empty(),
        }
    }
}

fn known(names: &[Spanned<String>]) -> Vec<(Payload, Range<usize>)> {
    let known = |name: &Spanned<String>| Some((name.get_ref().parse().ok()?, name.span()));
    names.iter().filter_map(known).collect()
}

impl Checker<'_> {
    /// The payloads that these names mean.
    pub(super) fn payloads(&mut self, names: &[Spanned<String>]) -> Vec<Payload> {
        let mut payloads = Vec::new();
        for name in names {
            match name.get_ref().parse::<Payload>() {
                Ok(payload) if payloads.contains(&payload) => {
                    self.refuse(name.span(), format!("`{payload}` is listed twice"));
                }
                Ok(payload) => payloads.push(payload),
                Err(error) => self.refuse(name.span(), error.to_string()),
            }
        }
        payloads
    }

    /// Lets each lane need the lanes that make what it takes.
    pub(super) fn link_payloads(
        &mut self,
        section: Section,
        lanes: &mut [Lane],
        payloads: &[LanePayloads],
    ) {
        let makers = self.makers(lanes, payloads);
        for (index, of) in payloads.iter().enumerate() {
            for (payload, span) in &of.inputs {
                let message = match makers.get(payload) {
                    Some(maker) if *maker == index => {
                        format!("a lane can't take `{payload}`, which it makes itself")
                    }
                    Some(maker) => {
                        let maker = lanes[*maker].id.clone();
                        if !lanes[index].needs.contains(&maker) {
                            lanes[index].needs.push(maker);
                        }
                        continue;
                    }
                    None => format!(
                        "no {} lane makes `{payload}`; one must have it among its `outputs`",
                        section.as_str()
                    ),
                };
                self.refuse(span.clone(), message);
            }
        }
    }

    /// Which lane makes which payload: one and no other.
    fn makers(&mut self, lanes: &[Lane], payloads: &[LanePayloads]) -> BTreeMap<Payload, usize> {
        let mut makers = BTreeMap::new();
        for (index, of) in payloads.iter().enumerate() {
            for (payload, span) in &of.outputs {
                if of.has_matrix {
                    let message = format!(
                        "each variant of the lane would make `{payload}`; only a lane without a matrix can"
                    );
                    self.refuse(span.clone(), message);
                }
                // Twice in one lane is refused where the names are read.
                let maker = *makers.entry(*payload).or_insert(index);
                if maker != index {
                    let maker = &lanes[maker].id;
                    let message = format!("lane `{maker}` makes `{payload}` already");
                    self.refuse(span.clone(), message);
                }
            }
        }
        makers
    }
}
