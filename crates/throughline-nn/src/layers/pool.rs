//! Pooling: one row for each sequence, from its rows or its last states.

use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::sequence::{Direction, Ragged};
use throughline_kernels::{Element, Isa};

use super::attention::{Attention, AttentionTape};
use super::recurrent::{Readout, Recurrent};
use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::initialise::Initialise;
use crate::memory::{Dropout, LastCall, OneRowEach};
use crate::module::{Call, Cpu, Gradients, Layer, Module, Start, Step};
use crate::parameters::{Builder, Layout, TensorId};
use crate::state::{StateArray, StateShape};

/// What a sequence's row is made of. A sequence without rows has zeros, but for the last states, which are then the initial
/// ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The state of the top layer with which each direction ends.
    #[default]
    LastStates,
    /// The output of each direction at the row that it reads last: the last step, and for the reverse direction the first.
    Last,
    /// The mean over the steps.
    Mean,
    /// The largest value over the steps, feature by feature; the earliest of equal ones.
    Max,
    /// A mean weighted by a learned attention (Yang et al. 2016); see [`attention`](super::attention).
    Attention,
}

impl Pooling {
    /// Every way to pool.
    pub const ALL: [Self; 5] = [Self::LastStates, Self::Last, Self::Mean, Self::Max, Self::Attention];
}

/// Pools the rows `[N, F]` of a batch into `[B, F]`, in the caller's order.
#[derive(Clone, Debug)]
pub struct Pool {
    name: String,
    pooling: Pooling,
    width: usize,
    /// F columns of one direction; the second half of the columns read backward if there are two.
    directions: usize,
    attention: Option<Attention>,
    dropout: Dropout,
}

/// The tape of a [`Pool`].
#[derive(Debug, Default)]
pub struct PoolTape<E> {
    last: LastCall,
    rows: OneRowEach,
    y: Buffer<E>,
    running: Running<E>,
    /// `[B, F]`: the gradient of each sequence's sum, largest values or row.
    d_value: Buffer<E>,
    attention: AttentionTape<E>,
}

/// The sums of a mean or the largest values.
#[derive(Debug, Default)]
struct Running<E> {
    /// `[B, F]`
    value: Buffer<E>,
    /// `[B]`: of how many steps.
    count: Buffer<E>,
    /// `[B, F]`: the packed row of the largest value; `usize::MAX` where it is older than the pass.
    largest: Vec<usize>,
}

impl<E: Element> Running<E> {
    /// Each sequence at the state it starts from, or at nothing.
    fn begin(&mut self, sequences: usize, width: usize, start: Option<Start<'_, E>>) {
        let (value, count) = (self.value.at_least(sequences * width), self.count.at_least(sequences));
        self.largest.clear();
        self.largest.resize(sequences * width, usize::MAX);
        value.fill(E::ZERO);
        count.fill(E::ZERO);
        let Some(start) = start else { return };
        let (values, counts) = running_state(start.arrays, start.begun.len(), width);
        for sequence in (0..sequences).filter(|&sequence| start.begun[sequence]) {
            value[sequence * width..][..width].copy_from_slice(values.of(sequence));
            count[sequence] = counts.values()[sequence];
        }
    }

    /// Reads a row of a sequence.
    fn read(&mut self, pooling: Pooling, sequence: usize, row: usize, x: &[E]) {
        let columns = sequence * x.len()..(sequence + 1) * x.len();
        let (value, largest) = (&mut self.value[columns.clone()], &mut self.largest[columns]);
        let count = &mut self.count[sequence];
        let first = *count == E::ZERO;
        *count = *count + E::ONE;
        if pooling == Pooling::Mean {
            value.iter_mut().zip(x).for_each(|(sum, x)| *sum = *sum + *x);
            return;
        }
        for ((value, largest), &x) in value.iter_mut().zip(largest).zip(x) {
            if first || exceeds(x, *value) {
                (*value, *largest) = (x, row);
            }
        }
    }

    /// What a sequence is pooled to; of no rows the mean is 0.
    fn write(&self, pooling: Pooling, sequence: usize, y: &mut [E]) {
        y.copy_from_slice(&self.value[sequence * y.len()..][..y.len()]);
        self.divide(pooling, sequence, y);
    }

    /// The division of a mean, which is its own transpose.
    fn divide(&self, pooling: Pooling, sequence: usize, y: &mut [E]) {
        let count = self.count[sequence];
        if pooling == Pooling::Mean && count > E::ONE {
            y.iter_mut().for_each(|y| *y = *y / count);
        }
    }
}

/// Value and count of `sequences` sequences.
fn running_state<E: Element>(
    state: &[StateArray<E>],
    sequences: usize,
    width: usize,
) -> (&StateArray<E>, &StateArray<E>) {
    let [value, count] = state else { panic!("a running pool has a value and a count, not {} arrays", state.len()) };
    assert_eq!(value.values().len(), sequences * width, "{} is [B, F], B = {sequences}", value.name());
    assert_eq!(count.values().len(), sequences, "{} is [B, 1], B = {sequences}", count.name());
    (value, count)
}

impl Pool {
    /// `recurrent`, and what `pooling` makes of it. Attention has parameters named `{name}.weight` and so on.
    pub fn of(builder: &mut Builder, name: &str, recurrent: Recurrent, pooling: Pooling) -> Chain<Recurrent, Pool> {
        let (width, directions) = (recurrent.width(), recurrent.config().directions());
        let attention = (pooling == Pooling::Attention).then(|| Attention::new(builder, name, width));
        let readout = if pooling == Pooling::LastStates { Readout::LastStates } else { Readout::Rows };
        let dropout = Dropout::default();
        let pool = Self { name: name.into(), pooling, width, directions, attention, dropout };
        recurrent.with_readout(readout).then(pool)
    }

    /// Whether it goes on from a value and a count of the steps before.
    fn runs(&self) -> bool {
        matches!(self.pooling, Pooling::Mean | Pooling::Max)
    }

    /// How it pools.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The weights of an attention over the rows of the last pass, `[N]` in packed order; none without attention.
    pub fn weights<'a, E: Element>(&self, tape: &'a PoolTape<E>) -> Option<&'a [E]> {
        self.attention.as_ref().map(|_| tape.attention.weights())
    }

    /// The columns of each direction, and the packed row that it reads last.
    fn last_rows(&self, rows: &Ragged, column: usize) -> impl Iterator<Item = (core::ops::Range<usize>, usize)> {
        let width = self.width / self.directions;
        let last = Direction::BOTH.map(|direction| rows.last_row(direction, column));
        (0..self.directions).filter_map(move |index| Some((index * width..(index + 1) * width, last[index]?)))
    }
}

impl Chain<Recurrent, Pool> {
    /// In training each pooled feature is dropped with probability `rate`.
    ///
    /// # Panics
    /// If the rate is not at least 0 and below 1.
    pub fn with_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        let (recurrent, pool) = self.into_modules();
        recurrent.then(Pool { dropout: Dropout::new(builder, rate), ..pool })
    }
}

impl Layer for Pool {
    fn width(&self) -> usize {
        self.width
    }

    /// Of a mean and of largest values `{name}.value`, the sum or the largest values so far, and `{name}.count`, how many
    /// steps they are of. A count has no gradient.
    fn state_shape(&self) -> StateShape {
        let mut shape = StateShape::default();
        if self.runs() {
            shape.push(alloc::format!("{}.value", self.name), self.width);
            shape.push(alloc::format!("{}.count", self.name), 1);
        }
        shape
    }

    fn state_count(&self) -> usize {
        if self.runs() { 2 } else { 0 }
    }

    fn read_directly(&self) -> Vec<TensorId> {
        self.attention.iter().map(Attention::query).collect()
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        if let Some(attention) = &self.attention {
            attention.initialise(how, layout, parameters);
        }
    }
}

impl<E: Element> Module<E> for Pool {
    /// `[N, F]`; for the last states `[B, F]`.
    type Input = [E];
    type Packed = Option<throughline_kernels::ops::Linear<E>>;
    type Tape = PoolTape<E>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        self.attention.as_ref().map(|attention| attention.packed(isa, backward))
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        if let (Some(attention), Some(packed)) = (&self.attention, packed) {
            attention.pack(cpu, layout, parameters, packed);
        }
    }

    fn input_length(&self, x: &[E]) -> usize {
        x.len()
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, start } = call;
        let (batch, width) = (rows.batch(), self.width);
        assert_eq!(x.len(), rows.rows() * width, "x is [N, {width}], N = {}", rows.rows());
        if let Some(start) = start {
            assert_eq!(start.begun.len(), batch, "a state for each sequence");
        }
        tape.last.forget();
        tape.rows.of(batch);
        let PoolTape { y, running, attention, .. } = tape;
        let y = y.at_least(batch * width);
        match self.pooling {
            // One row for each sequence already.
            Pooling::LastStates => y.copy_from_slice(x),
            Pooling::Last => {
                y.fill(E::ZERO);
                for (column, &sequence) in rows.order().iter().enumerate() {
                    for (columns, row) in self.last_rows(rows, column) {
                        y[sequence * width..][columns.clone()].copy_from_slice(&x[row * width..][columns]);
                    }
                }
            }
            Pooling::Mean | Pooling::Max => {
                running.begin(batch, width, start);
                rows.for_each_row(|row, sequence, _| {
                    running.read(self.pooling, sequence, row, &x[row * width..][..width]);
                });
                for (sequence, y) in y.chunks_mut(width).enumerate() {
                    running.write(self.pooling, sequence, y);
                }
            }
            Pooling::Attention => {
                let (own, packed) = (self.attention.as_ref().expect(ATTENTION), packed.as_ref().expect(ATTENTION));
                own.forward(context, packed, rows, x, y, attention);
            }
        }
        self.dropout.apply(context, tape.rows.rows(), 0, width, y);
        tape.last.remember(call);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        tape.last.row_count(rows);
        (tape.rows.rows(), &tape.y[..tape.rows.rows().batch() * self.width])
    }

    fn end(&self, rows: &Ragged, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        tape.last.assert_was_over(rows);
        if self.runs() {
            running_state(state, rows.batch(), self.width);
            for (array, from) in state.iter_mut().zip([&tape.running.value, &tape.running.count]) {
                let to = array.values_mut();
                to.copy_from_slice(&from[..to.len()]);
            }
        }
    }

    /// # Panics
    /// If it pools means or largest values: it has them of whole passes alone.
    fn state_after(&self, _: &Ragged, steps: usize, _: &Self::Tape, _: &mut [StateArray<E>]) {
        assert!(!self.runs(), "{}: the pooling after {steps} steps is not kept, only that at the end", self.name);
    }

    /// A sequence's rows receive its gradient: all of it the row that is the last or has the largest value, each row
    /// dy / count of a mean.
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, start } = call;
        let (batch, width) = (rows.batch(), self.width);
        let Gradients { mut dy, d_end, dx, d_start, parameters } = gradients;
        tape.last.assert_was(call);
        assert!(dx.as_ref().is_none_or(|dx| dx.len() == x.len()), "dx is [N, {width}], as x");
        if let Some(dy) = &mut dy {
            assert_eq!(dy.len(), batch * width, "dy is [B, {width}], B = {batch}");
            self.dropout.apply(context, tape.rows.rows(), 0, width, dy);
        }
        if self.pooling == Pooling::Attention {
            let Some(dy) = dy else {
                dx.into_iter().for_each(|dx| dx.fill(E::ZERO));
                return;
            };
            let (own, packed) = (self.attention.as_ref().expect(ATTENTION), packed.as_ref().expect(ATTENTION));
            own.backward(context, packed, rows, x, dy, dx, parameters, &mut tape.attention);
            return;
        }
        let PoolTape { running, d_value, .. } = tape;
        let d_value = d_value.at_least(batch * width);
        match dy {
            Some(dy) => d_value.copy_from_slice(dy),
            None => d_value.fill(E::ZERO),
        }
        if self.runs() {
            for (sequence, d_value) in d_value.chunks_mut(width).enumerate() {
                running.divide(self.pooling, sequence, d_value);
            }
            if let Some(d_end) = d_end {
                let (d_end, _) = running_state(d_end, batch, width);
                d_value.iter_mut().zip(d_end.values()).for_each(|(d, end)| *d = *d + *end);
            }
            if let Some(d_start) = d_start {
                running_state(d_start, batch, width);
                let [d_start, d_count] = d_start else { unreachable!("there are two arrays") };
                d_count.values_mut().fill(E::ZERO);
                let begun = |index: usize| start.is_none_or(|start| start.begun[index / width]);
                for (index, to) in d_start.values_mut().iter_mut().enumerate() {
                    let passed_on = begun(index) && running.largest[index] == usize::MAX;
                    *to = if passed_on { d_value[index] } else { E::ZERO };
                }
            }
        }
        let Some(dx) = dx else { return };
        match self.pooling {
            Pooling::LastStates => dx.copy_from_slice(d_value),
            Pooling::Last => {
                dx.fill(E::ZERO);
                for (column, &sequence) in rows.order().iter().enumerate() {
                    for (columns, row) in self.last_rows(rows, column) {
                        dx[row * width..][columns.clone()].copy_from_slice(&d_value[sequence * width..][columns]);
                    }
                }
            }
            Pooling::Mean => rows.for_each_row(|row, sequence, _| {
                dx[row * width..][..width].copy_from_slice(&d_value[sequence * width..][..width]);
            }),
            Pooling::Max => {
                dx.fill(E::ZERO);
                for (index, (&row, &d)) in running.largest.iter().zip(&*d_value).enumerate() {
                    if row != usize::MAX {
                        dx[row * width + index % width] = d;
                    }
                }
            }
            Pooling::Attention => unreachable!("returned above"),
        }
    }

    /// The pooling of the steps so far. Attention weighs all steps against each other and has none.
    fn step<'a>(
        &self,
        step: Step<'_, E, Self>,
        state: &mut [StateArray<E>],
        tape: &'a mut Self::Tape,
    ) -> Result<&'a [E]> {
        let Step { x, begun, .. } = step;
        let (streams, width) = (begun.len(), self.width);
        assert_eq!(x.len(), streams * width, "x is [B, {width}], B = {streams}");
        tape.last.forget();
        let PoolTape { y, running, .. } = tape;
        let y = y.at_least(x.len());
        match self.pooling {
            Pooling::LastStates | Pooling::Last => y.copy_from_slice(x),
            Pooling::Attention => {
                let why = "attention weighs all steps of a sequence against each other";
                return Err(Error::NoSteps { module: self.name.clone(), why });
            }
            Pooling::Mean | Pooling::Max => {
                running.begin(streams, width, Some(Start { begun, arrays: state }));
                for (stream, (x, y)) in x.chunks(width).zip(y.chunks_mut(width)).enumerate() {
                    running.read(self.pooling, stream, 0, x);
                    running.write(self.pooling, stream, y);
                }
                for (array, from) in state.iter_mut().zip([&running.value, &running.count]) {
                    let to = array.values_mut();
                    to.copy_from_slice(&from[..to.len()]);
                }
            }
        }
        Ok(y)
    }
}

const ATTENTION: &str = "pooling by attention has an attention";

/// Whether `x` is larger. NaN counts as larger than every number, so that it is not lost.
fn exceeds<E: Element>(x: E, than: E) -> bool {
    x > than || (x.partial_cmp(&x).is_none() && than.partial_cmp(&than).is_some())
}
