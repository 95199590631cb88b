//! What a stream has seen before a pass or a step: how many steps.

use alloc::string::ToString;

use throughline_kernels::Element;
use throughline_kernels::ops::Spans;
use throughline_kernels::sequence::Ragged;

use crate::error::{Error, Result};
use crate::state::{Start, StateArray};

/// How many steps a stream has seen; none before it has begun.
pub(super) fn seen<E: Element>(count: &StateArray<E>, begun: &[bool], stream: usize) -> usize {
    if begun[stream] { count.values()[stream].to_f64() as usize } else { 0 }
}

/// Sets `spans` to those of a batch that starts from `start`, whose first array counts steps.
///
/// # Panics
/// If a span would see more than `most` steps.
pub(super) fn set_spans<E: Element>(
    spans: &mut Spans,
    rows: &Ragged,
    start: Option<Start<'_, E>>,
    (name, most): (&str, usize),
) {
    spans.set(rows, |sequence| start.map_or(0, |start| seen(&start.arrays[0], start.begun, sequence)));
    if let Some(span) = spans.iter().find(|span| span.keys() > most) {
        let (sequence, steps) = (rows.order()[span.column()], span.keys());
        panic!("sequence {sequence} would see {steps} steps, but `{name}` was made for at most {most}");
    }
}

/// An error if one of the streams has seen `most` steps already.
pub(super) fn check_room<E: Element>(count: &StateArray<E>, begun: &[bool], (name, most): (&str, usize)) -> Result<()> {
    match (0..begun.len()).find(|&stream| seen(count, begun, stream) >= most) {
        Some(stream) => Err(Error::TooLong { module: name.to_string(), stream, most }),
        None => Ok(()),
    }
}

/// Calls `visit` for each sequence with the index of the span that it is in after `steps` steps, or at its end, and how many
/// steps it then sees.
pub(super) fn for_each_sequence_after(
    rows: &Ragged,
    spans: &Spans,
    steps: Option<usize>,
    mut visit: impl FnMut(usize, usize, usize),
) {
    if let Some(steps) = steps {
        let enough = steps > 0 && rows.lengths().iter().all(|&length| length >= steps);
        assert!(enough, "not every sequence has {steps} steps, at least 1: no state is kept there");
    }
    for (index, span) in spans.iter().enumerate() {
        let (sequence, of_span) = (rows.order()[span.column()], span.steps());
        match steps {
            Some(steps) if of_span.start < steps && steps <= of_span.end => {
                visit(sequence, index, span.seen_by(steps - 1));
            }
            None if span.is_last() => visit(sequence, index, span.keys()),
            _ => {}
        }
    }
}
