//! Sinusoidal positions (Vaswani et al. 2017, section 3.5): to the features of a step at position p, counted from 0,
//!
//! ```text
//! y[2i] = x[2i] + sin(p / 10000^(2i / F)),   y[2i + 1] = x[2i + 1] + cos(p / 10000^(2i / F))
//! ```

use alloc::string::{String, ToString};
use alloc::{format, vec::Vec};

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::Spans;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use super::past::{check_room, for_each_sequence_after, seen, set_spans};
use crate::error::Result;
use crate::memory::LastCall;
use crate::module::{Call, Cpu, Gradients, Layer, Module, Step};
use crate::parameters::Layout;
use crate::state::{StateArray, StateShape};

/// Adds to each row a code of its position in the sequence, or since the last boundary. Its state is the number of steps so far,
/// `{name}.count`.
#[derive(Clone, Debug)]
pub struct Positions {
    name: String,
    width: usize,
    most_steps: usize,
}

/// The codes of all positions.
#[derive(Debug)]
pub struct PackedPositions<E>(Buffer<E>);

/// The tape of [`Positions`]: its output.
#[derive(Debug, Default)]
pub struct PositionsTape<E> {
    y: Buffer<E>,
    spans: Spans,
    last: LastCall,
}

impl Positions {
    /// Positions of up to `most_steps` steps for rows of F = `width` features.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(name: &str, width: usize, most_steps: usize) -> Self {
        assert!(width > 0 && most_steps > 0, "F and the most steps are at least 1, not {width} and {most_steps}");
        Self { name: name.to_string(), width, most_steps }
    }

    fn limit(&self) -> (&str, usize) {
        (&self.name, self.most_steps)
    }

    fn write<E: Element>(
        &self,
        rows: &Ragged,
        tape: &PositionsTape<E>,
        steps: Option<usize>,
        state: &mut [StateArray<E>],
    ) {
        tape.last.assert_was_over(rows);
        let counts = state[0].values_mut();
        for_each_sequence_after(rows, &tape.spans, steps, |sequence, _, seen| {
            counts[sequence] = E::from_f64(seen as f64);
        });
    }
}

/// y = x + code
fn add_code<E: Element>(x: &[E], code: &[E], y: &mut [E]) {
    y.iter_mut().zip(x).zip(code).for_each(|((y, x), code)| *y = *x + *code);
}

impl Layer for Positions {
    fn width(&self) -> usize {
        self.width
    }

    fn state_shape(&self) -> StateShape {
        let mut shape = StateShape::default();
        shape.push(format!("{}.count", self.name), 1);
        shape
    }

    fn state_count(&self) -> usize {
        1
    }
}

impl<E: Element> Module<E> for Positions {
    /// `[N, F]`
    type Input = [E];
    type Packed = PackedPositions<E>;
    type Tape = PositionsTape<E>;

    fn packed(&self, _: Isa, _: bool) -> Self::Packed {
        let pairs = self.width.div_ceil(2);
        let rates: Vec<f64> = (0..pairs).map(|i| libm::pow(10_000.0, -2.0 * i as f64 / self.width as f64)).collect();
        let mut codes = Buffer::zeros(self.most_steps * self.width);
        for (position, code) in codes.chunks_mut(self.width).enumerate() {
            for (pair, rate) in code.chunks_mut(2).zip(&rates) {
                let (sine, cosine) = libm::sincos(position as f64 * rate);
                pair.iter_mut().zip([sine, cosine]).for_each(|(code, value)| *code = E::from_f64(value));
            }
        }
        PackedPositions(codes)
    }

    fn pack(&self, _: &Cpu, _: &Layout, _: &[E], _: &mut Self::Packed) {}

    fn input_length(&self, x: &[E]) -> usize {
        x.len()
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { packed: PackedPositions(codes), rows, x, start, .. } = call;
        assert_eq!(x.len(), rows.rows() * self.width, "x is [N, {}], N = {}", self.width, rows.rows());
        tape.last.forget();
        set_spans(&mut tape.spans, rows, start, self.limit());
        let y = tape.y.at_least(x.len());
        for span in tape.spans.iter() {
            for t in span.steps() {
                let row = rows.row(t, span.column()) * self.width..(rows.row(t, span.column()) + 1) * self.width;
                let code = &codes[(span.seen_by(t) - 1) * self.width..][..self.width];
                add_code(&x[row.clone()], code, &mut y[row]);
            }
        }
        tape.last.remember(call);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        (rows, &tape.y[..tape.last.row_count(rows) * self.width])
    }

    fn end(&self, rows: &Ragged, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        self.write(rows, tape, None, state);
    }

    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        self.write(rows, tape, Some(steps), state);
    }

    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        tape.last.assert_was(call);
        let Gradients { dy, dx, d_start, .. } = gradients;
        match (dx, dy) {
            (Some(dx), Some(dy)) => dx.copy_from_slice(dy),
            (Some(dx), None) => dx.fill(E::ZERO),
            (None, _) => {}
        }
        d_start.into_iter().flatten().for_each(|count| count.values_mut().fill(E::ZERO));
    }

    fn step<'a>(
        &self,
        step: Step<'_, E, Self>,
        state: &mut [StateArray<E>],
        tape: &'a mut Self::Tape,
    ) -> Result<&'a [E]> {
        let Step { packed: PackedPositions(codes), x, begun, .. } = step;
        assert_eq!(x.len(), begun.len() * self.width, "x is [B, {}], B = {}", self.width, begun.len());
        tape.last.forget();
        let [count] = state else { panic!("the state of positions has 1 array, not {}", state.len()) };
        check_room(count, begun, self.limit())?;
        let y = tape.y.at_least(x.len());
        let rows = x.chunks_exact(self.width).zip(y.chunks_exact_mut(self.width));
        for (stream, (x, y)) in rows.enumerate() {
            let position = seen(count, begun, stream);
            add_code(x, &codes[position * self.width..][..self.width], y);
            count.values_mut()[stream] = E::from_f64((position + 1) as f64);
        }
        Ok(y)
    }
}
