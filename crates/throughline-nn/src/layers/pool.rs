//! Pooling: one row for each sequence, from its rows or its final states.

mod running;

use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops;
use throughline_kernels::sequence::{Direction, Ragged};
use throughline_kernels::{Element, Isa};

use self::running::{BEFORE, Running, value_and_count};
use super::attention::{Attention, AttentionTape};
use super::recurrent::{Readout, Recurrent};
use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::initialise::Initialise;
use crate::memory::{Dropout, LastCall, OneRowEach};
use crate::module::{Call, Cpu, Gradients, Layer, Module, Step, Visit};
use crate::parameters::{Builder, Layout, TensorId};
use crate::state::{Start, StateArray, StateShape};

/// How the rows of a sequence are pooled into one. A sequence without rows gives zeros; with `LastStates` it gives the
/// states that it starts from.
///
/// Boundaries inside a sequence ([`Ragged::set_resets`]) do not divide it: all of its rows are pooled, before a
/// boundary and after. Only the recurrent state starts afresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The final hidden state of each direction of the top layer.
    #[default]
    LastStates,
    /// The output of each direction at the row it reads last: the last step, and for the reverse direction the first.
    Last,
    /// The mean over the steps.
    Mean,
    /// The largest value over the steps, feature by feature. Of equal values the earliest gets the gradient; NaN counts
    /// as the largest.
    Max,
    /// A mean with weights from a learned attention (Yang et al. 2016); see [`attention`](super::attention).
    Attention,
}

impl Pooling {
    /// All ways to pool.
    pub const ALL: [Self; 5] = [Self::LastStates, Self::Last, Self::Mean, Self::Max, Self::Attention];

    /// Whether it reads what each direction ends with, and nothing else.
    pub fn reads_ends(self) -> bool {
        matches!(self, Self::LastStates | Self::Last)
    }
}

/// Pools the rows `[N, F]` of a batch into `[B, F]`, in the caller's order.
#[derive(Clone, Debug)]
pub struct Pool {
    name: String,
    pooling: Pooling,
    width: usize,
    /// 1 or 2: with 2, the second half of the columns are those of the reverse direction.
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
    /// `[B, F]`: the gradient of each sequence's sum, largest values, or row.
    d_value: Buffer<E>,
    attention: AttentionTape<E>,
}

impl Pool {
    /// `recurrent` followed by its pooling. `Attention` has parameters `{name}.weight` `[F, F]` and `{name}.query`
    /// `[F]`, initially uniform in ±1/sqrt(F), and `{name}.bias` `[F]`, initially 0; the others have none.
    pub fn of(builder: &mut Builder, name: &str, recurrent: Recurrent, pooling: Pooling) -> Chain<Recurrent, Pool> {
        let (width, directions) = (recurrent.width(), recurrent.config().directions());
        let attention = (pooling == Pooling::Attention).then(|| Attention::new(builder, name, width));
        let readout = if pooling == Pooling::LastStates { Readout::LastStates } else { Readout::Rows };
        let dropout = Dropout::default();
        let pool = Self { name: name.into(), pooling, width, directions, attention, dropout };
        recurrent.with_readout(readout).then(pool)
    }

    /// Whether it has a state: the value and the count of the steps so far.
    fn runs(&self) -> bool {
        matches!(self.pooling, Pooling::Mean | Pooling::Max)
    }

    /// The kind of pooling.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// `[N]`, in packed order: the attention weight of each row in the last pass; `None` for other kinds of pooling.
    pub fn weights<'a, E: Element>(&self, tape: &'a PoolTape<E>) -> Option<&'a [E]> {
        self.attention.as_ref().map(|_| tape.attention.weights())
    }

    /// The columns of each direction, and the packed row it reads last, for the sequence in `column`; nothing if it is
    /// empty.
    fn last_rows(&self, rows: &Ragged, column: usize) -> impl Iterator<Item = (core::ops::Range<usize>, usize)> {
        let width = self.width / self.directions;
        let last = Direction::BOTH.map(|direction| rows.last_row(direction, column));
        (0..self.directions).filter_map(move |index| Some((index * width..(index + 1) * width, last[index]?)))
    }
}

impl Chain<Recurrent, Pool> {
    /// Applies dropout to the pooled rows in training: each element is 0 with probability `rate`, and otherwise scaled
    /// by 1 / (1 - rate).
    ///
    /// # Panics
    /// If `rate` is not in [0, 1).
    pub fn with_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        let (recurrent, pool) = self.into_modules();
        recurrent.then(Pool { dropout: Dropout::new(builder, rate), ..pool })
    }
}

impl Layer for Pool {
    fn width(&self) -> usize {
        self.width
    }

    /// For `Mean` and `Max`: `{name}.value` `[B, F]`, the sums or the largest values so far, and `{name}.count`
    /// `[B, 1]`, the number of steps so far, which has no gradient. The others have no state.
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
    /// `[N, F]`; for `LastStates`, `[B, F]`.
    type Input = [E];
    type Packed = Option<ops::Linear<E>>;
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
            assert_eq!(start.begun.len(), batch, "the start must have one entry for each sequence");
        }
        tape.last.forget();
        tape.rows.of(batch);
        let PoolTape { y, running, attention, .. } = tape;
        let y = y.at_least(batch * width);
        match self.pooling {
            // The stack has written one row for each sequence already.
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
            value_and_count(state, rows.batch(), self.width);
            tape.running.save(state);
        }
    }

    /// # Panics
    /// For `Mean` and `Max`, which keep only their state at the end of a pass.
    fn state_after(&self, _: &Ragged, steps: usize, _: &Self::Tape, _: &mut [StateArray<E>]) {
        assert!(
            !self.runs(),
            "`{}`: the state of the pooling after {steps} steps is not kept, only the final one",
            self.name
        );
    }

    /// For `Last` and `Max` the row that was taken gets all of a sequence's dy, for `Mean` each row gets dy / count.
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, start } = call;
        let (batch, width) = (rows.batch(), self.width);
        let Gradients { mut dy, d_end, dx, d_start, parameters } = gradients;
        tape.last.assert_was(call);
        assert!(dx.as_ref().is_none_or(|dx| dx.len() == x.len()), "dx is [N, {width}], like x");
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
                let (d_end, _) = value_and_count(d_end, batch, width);
                d_value.iter_mut().zip(d_end.values()).for_each(|(d, end)| *d = *d + *end);
            }
            if let Some(d_start) = d_start {
                value_and_count(d_start, batch, width);
                let [d_start, d_count] = d_start else { unreachable!("there are two arrays") };
                d_count.values_mut().fill(E::ZERO);
                let begun = |index: usize| start.is_none_or(|start| start.begun[index / width]);
                for (index, to) in d_start.values_mut().iter_mut().enumerate() {
                    let passed_on = begun(index) && running.largest()[index] == BEFORE;
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
                for (index, (&row, &d)) in running.largest().iter().zip(&*d_value).enumerate() {
                    if row != BEFORE {
                        dx[row * width + index % width] = d;
                    }
                }
            }
            Pooling::Attention => unreachable!("returned above"),
        }
    }

    /// The pooling of the steps so far. `Attention` cannot run step by step: it weighs all steps against each other.
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
                running.save(state);
            }
        }
        Ok(y)
    }

    fn visit(&self, _: &Self::Tape, visitor: &mut dyn Visit<E>) {
        visitor.pool(self);
    }
}

const ATTENTION: &str = "attention pooling has an attention";
