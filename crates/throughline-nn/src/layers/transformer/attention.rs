//! Causal attention in several heads; its equations are in [`throughline_kernels::ops::attention`].

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::{Attention, AttentionBatch, AttentionScratch, Normaliser, Past, Spans};
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use super::past::{check_room, for_each_sequence_after, seen, set_spans};
use crate::error::Result;
use crate::memory::{LastCall, one_for_each_thread};
use crate::module::{Call, Cpu, Gradients, Layer, Module, Step};
use crate::parameters::Layout;
use crate::state::{StateArray, StateShape};

/// Rows by which a cache grows: copying it then costs a small part of reading it.
const GROWTH: usize = 64;

/// From queries, keys and values, `[N, 3F]`, to F features of each row: a weighted mean of the values of the steps so far.
///
/// Its state is a cache: `{name}.count`, the number of steps, and `{name}.keys` and `{name}.values`, rows of F numbers one after
/// the other, which grow with the longest stream by 64 rows at a time. A step allocates nothing else.
///
/// Beside its output, a pass keeps the keys and values of each row once more, in order of time, 2F numbers, and two numbers for
/// each head; backward needs as much again.
#[derive(Clone, Debug)]
pub struct CausalAttention {
    name: String,
    heads: usize,
    width: usize,
    most_steps: usize,
}

/// The tape of a [`CausalAttention`].
#[derive(Debug, Default)]
pub struct CausalAttentionTape<E> {
    spans: Spans,
    /// `[M, F]`, by span.
    keys: Buffer<E>,
    values: Buffer<E>,
    d_keys: Buffer<E>,
    d_values: Buffer<E>,
    /// The gradient of x where the caller wants none.
    d_x: Buffer<E>,
    y: Buffer<E>,
    normalisers: Vec<Normaliser<E>>,
    /// How many steps each stream sees in a step.
    seen: Vec<usize>,
    scratch: Vec<AttentionScratch<E>>,
    last: LastCall,
}

impl CausalAttention {
    /// Attention in `heads` heads over up to `most_steps` steps, for F = `width` features.
    ///
    /// # Panics
    /// If a size is 0, or the width is not a multiple of the number of heads.
    pub fn new(name: &str, heads: usize, width: usize, most_steps: usize) -> Self {
        // The kernel says which sizes it takes.
        let _ = Attention::new(Isa::SCALAR, heads, width);
        assert!(most_steps > 0, "a sequence has at least 1 step");
        Self { name: name.to_string(), heads, width, most_steps }
    }

    fn limit(&self) -> (&str, usize) {
        (&self.name, self.most_steps)
    }

    fn kernel(&self, isa: Isa) -> Attention {
        Attention::new(isa, self.heads, self.width)
    }

    /// The count, and the cache.
    fn arrays<'a, E: Element>(&self, state: &'a [StateArray<E>], streams: usize) -> (&'a StateArray<E>, Past<'a, E>) {
        let [count, keys, values] = state else {
            panic!("the state of attention has 3 arrays, not {}", state.len());
        };
        let stride = keys.width();
        let fits = count.values().len() == streams && [keys, values].map(|a| a.values().len()) == [streams * stride; 2];
        assert!(
            fits,
            "the state of `{}` has a count for each of {streams} streams, and as many keys as values",
            self.name
        );
        let most = count.values().iter().fold(0.0, |most: f64, count| most.max(count.to_f64()));
        let inside = most * self.width as f64 <= stride as f64;
        assert!(inside, "the state of `{}` counts {most} steps, more than its cache has rows", self.name);
        (count, Past { keys: keys.values(), values: values.values(), stride })
    }

    /// Numbers of a stream in a cache that has room for `rows` rows.
    fn stride_for(&self, rows: usize) -> usize {
        rows.next_multiple_of(GROWTH).min(self.most_steps) * self.width
    }

    /// Writes the state after `steps` steps of the last pass, or at its end.
    fn write<E: Element>(
        &self,
        rows: &Ragged,
        tape: &CausalAttentionTape<E>,
        steps: Option<usize>,
        state: &mut [StateArray<E>],
    ) {
        tape.last.assert_was_over(rows);
        let (width, spans) = (self.width, &tape.spans);
        let mut most = 0;
        for_each_sequence_after(rows, spans, steps, |_, _, seen| most = most.max(seen));
        let [count, keys, values] = state else {
            panic!("the state of attention has 3 arrays, not {}", state.len());
        };
        for (array, from) in [(keys, &tape.keys), (values, &tape.values)] {
            array.widen(self.stride_for(most));
            let stride = array.width();
            for_each_sequence_after(rows, spans, steps, |sequence, span, seen| {
                let (own, rest) = array.values_mut()[sequence * stride..][..stride].split_at_mut(seen * width);
                own.copy_from_slice(&from[spans[span].first_key() * width..][..own.len()]);
                rest.fill(E::ZERO);
            });
        }
        for_each_sequence_after(rows, spans, steps, |sequence, _, seen| {
            count.values_mut()[sequence] = E::from_f64(seen as f64);
        });
    }

    /// Writes the gradient of a cache at the end, `[B, stride]`, to the rows of `to` that it was copied from; 0 for others.
    fn gather_end<E: Element>(&self, rows: &Ragged, spans: &Spans, d_end: Option<&StateArray<E>>, to: &mut [E]) {
        to.fill(E::ZERO);
        let Some(d_end) = d_end.filter(|d_end| d_end.width() > 0) else { return };
        for_each_sequence_after(rows, spans, None, |sequence, span, seen| {
            let to = &mut to[spans[span].first_key() * self.width..][..seen * self.width];
            to.copy_from_slice(&d_end.of(sequence)[..seen * self.width]);
        });
    }
}

impl Layer for CausalAttention {
    fn width(&self) -> usize {
        self.width
    }

    fn state_shape(&self) -> StateShape {
        let mut shape = StateShape::default();
        shape.push(format!("{}.count", self.name), 1);
        shape.push(format!("{}.keys", self.name), 0);
        shape.push(format!("{}.values", self.name), 0);
        shape
    }

    fn state_count(&self) -> usize {
        3
    }
}

impl<E: Element> Module<E> for CausalAttention {
    /// `[N, 3F]`
    type Input = [E];
    type Packed = ();
    type Tape = CausalAttentionTape<E>;

    fn packed(&self, _: Isa, _: bool) {}

    fn pack(&self, _: &Cpu, _: &Layout, _: &[E], (): &mut ()) {}

    fn input_length(&self, x: &[E]) -> usize {
        x.len()
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { context: _, rows, x, start, .. } = call;
        let Cpu { isa, threads } = call.context.cpu;
        assert_eq!(x.len(), rows.rows() * 3 * self.width, "x is [N, {}], N = {}", 3 * self.width, rows.rows());
        tape.last.forget();
        let past = start.map(|start| self.arrays(start.arrays, rows.batch()).1);
        set_spans(&mut tape.spans, rows, start, self.limit());
        let CausalAttentionTape { spans, keys, values, y, normalisers, scratch, .. } = tape;
        let keys_by_span = spans.keys() * self.width;
        let (keys, values) = (keys.at_least(keys_by_span), values.at_least(keys_by_span));
        spans.gather(rows, x, past, [&mut *keys, &mut *values]);
        normalisers.resize(rows.rows() * self.heads, Normaliser::default());
        let (y, scratch) = (y.at_least(rows.rows() * self.width), one_for_each_thread(scratch, threads));
        self.kernel(*isa).forward(
            threads,
            AttentionBatch { rows, spans, qkv: x, keys, values },
            y,
            normalisers,
            scratch,
        );
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
        let Call { rows, x, start, .. } = call;
        let Cpu { isa, threads } = call.context.cpu;
        let Gradients { dy, d_end, dx, d_start, .. } = gradients;
        tape.last.assert_was(call);
        let CausalAttentionTape { spans, keys, values, d_keys, d_values, d_x, y, normalisers, scratch, .. } = tape;
        let keys_by_span = spans.keys() * self.width;
        let (keys, values) = (&keys[..keys_by_span], &values[..keys_by_span]);
        let (d_keys, d_values) = (d_keys.at_least(keys_by_span), d_values.at_least(keys_by_span));
        for (index, to) in [(1, &mut *d_keys), (2, &mut *d_values)] {
            self.gather_end(rows, spans, d_end.map(|d_end| &d_end[index]), to);
        }
        // Gradients of the cache are wanted even where that of x is not.
        let dx = match dx {
            Some(dx) => dx,
            None => d_x.at_least(x.len()),
        };
        assert_eq!(dx.len(), x.len(), "dx is [N, {}], like x", 3 * self.width);
        dx.fill(E::ZERO);
        if let Some(dy) = dy {
            let (y, scratch) = (&y[..rows.rows() * self.width], one_for_each_thread(scratch, threads));
            let batch = AttentionBatch { rows, spans, qkv: x, keys, values };
            let gradients = [&mut *d_keys, &mut *d_values];
            self.kernel(*isa).backward(threads, batch, [y, dy], normalisers, dx, gradients, scratch);
        }
        let d_past = d_start.map(|d_start| {
            let [d_count, of_keys, of_values] = d_start else { panic!("the state of attention has 3 arrays") };
            d_count.values_mut().fill(E::ZERO);
            let stride = start.map_or(0, |start| start.arrays[1].width()).max(of_keys.width()).max(of_values.width());
            of_keys.widen(stride);
            of_values.widen(stride);
            ([of_keys.values_mut(), of_values.values_mut()], stride)
        });
        spans.scatter(rows, [d_keys, d_values], dx, d_past);
    }

    fn step<'a>(
        &self,
        step: Step<'_, E, Self>,
        state: &mut [StateArray<E>],
        tape: &'a mut Self::Tape,
    ) -> Result<&'a [E]> {
        let Step { context, x, begun, .. } = step;
        let (Cpu { isa, threads }, width) = (context.cpu, self.width);
        assert_eq!(x.len(), begun.len() * 3 * width, "x is [B, {}], B = {}", 3 * width, begun.len());
        tape.last.forget();
        if begun.is_empty() {
            return Ok(&[]);
        }
        let (count, _) = self.arrays(state, begun.len());
        check_room(count, begun, self.limit())?;
        tape.seen.clear();
        tape.seen.extend((0..begun.len()).map(|stream| seen(count, begun, stream) + 1));
        let rows = tape.seen.iter().copied().max().unwrap_or(0);
        for (array, from) in state[1..].iter_mut().zip([width, 2 * width]) {
            array.widen(self.stride_for(rows));
            let stride = array.width();
            for ((to, x), seen) in
                array.values_mut().chunks_exact_mut(stride).zip(x.chunks_exact(3 * width)).zip(&tape.seen)
            {
                to[(seen - 1) * width..][..width].copy_from_slice(&x[from..from + width]);
            }
        }
        for (count, &seen) in state[0].values_mut().iter_mut().zip(&tape.seen) {
            *count = E::from_f64(seen as f64);
        }
        let (_, cache) = self.arrays(state, begun.len());
        let (y, scratch) = (tape.y.at_least(begun.len() * width), one_for_each_thread(&mut tape.scratch, threads));
        self.kernel(*isa).step(threads, x, cache, &tape.seen, y, scratch);
        Ok(y)
    }
}
