//! Pooling: one row for each sequence, from its rows or its last states.

use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::sequence::{Direction, Ragged};
use throughline_kernels::{Element, Isa};

use super::attention::{Attention, AttentionTape};
use super::recurrent::{Readout, Recurrent};
use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::initialise::Initialise;
use crate::module::{Call, Cpu, Dropout, Gradients, Layer, Module, Step};
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
    name: alloc::string::String,
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
    /// A sequence of one step for each pooled row.
    rows: Ragged,
    y: Buffer<E>,
    /// `[B, F]`: the packed row of the largest value.
    largest: Vec<usize>,
    attention: AttentionTape<E>,
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

    /// In training each pooled feature is dropped with probability `rate`.
    pub fn with_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        Self { dropout: Dropout { rate, site: builder.site() }, ..self }
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

impl Layer for Pool {
    fn width(&self) -> usize {
        self.width
    }

    /// Of the mean the sum so far and the number of steps, of the largest value the value and whether there is one.
    fn state_shape(&self) -> StateShape {
        let mut shape = StateShape::default();
        if self.state_count() > 0 {
            shape.push(alloc::format!("{}.value", self.name), self.width);
            shape.push(alloc::format!("{}.count", self.name), 1);
        }
        shape
    }

    fn state_count(&self) -> usize {
        if matches!(self.pooling, Pooling::Mean | Pooling::Max) { 2 } else { 0 }
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

/// Calls `visit(sequence, packed row)` for every row, each sequence's in ascending time.
fn for_each_row(rows: &Ragged, mut visit: impl FnMut(usize, usize)) {
    rows.for_each_row(|row, sequence, _| visit(sequence, row));
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
        let Call { context, packed, rows, x, .. } = call;
        let (batch, width) = (rows.batch(), self.width);
        assert_eq!(x.len(), rows.rows() * width, "x is [N, F]");
        if tape.rows.batch() != batch || tape.rows.steps() != 1 {
            tape.rows = Ragged::even(1, batch);
        }
        let PoolTape { y, largest, attention, .. } = tape;
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
            Pooling::Mean => {
                y.fill(E::ZERO);
                for_each_row(rows, |sequence, row| {
                    add(&mut y[sequence * width..][..width], &x[row * width..][..width])
                });
                for (y, &length) in y.chunks_mut(width).zip(rows.lengths()) {
                    divide(y, length);
                }
            }
            Pooling::Max => {
                y.fill(E::ZERO);
                largest.clear();
                largest.resize(batch * width, usize::MAX);
                for_each_row(rows, |sequence, row| {
                    let (y, largest) = (&mut y[sequence * width..][..width], &mut largest[sequence * width..][..width]);
                    for ((y, largest), &x) in y.iter_mut().zip(largest).zip(&x[row * width..]) {
                        if *largest == usize::MAX || exceeds(x, *y) {
                            (*y, *largest) = (x, row);
                        }
                    }
                });
            }
            Pooling::Attention => {
                let (own, packed) = (self.attention.as_ref().expect(ATTENTION), packed.as_ref().expect(ATTENTION));
                own.forward(context, packed, rows, x, y, attention);
            }
        }
        self.dropout.apply(context, &tape.rows, 0, width, y);
    }

    fn output<'a>(&self, _: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        (&tape.rows, &tape.y[..tape.rows.batch() * self.width])
    }

    /// A sequence's row receives its share of the pooled gradient: all of it where it is the last or the largest, dy / length
    /// of a mean.
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, .. } = call;
        let (batch, width) = (rows.batch(), self.width);
        let Gradients { dy, dx, parameters, .. } = gradients;
        let Some(dy) = dy else {
            dx.into_iter().for_each(|dx| dx.fill(E::ZERO));
            return;
        };
        assert_eq!(dy.len(), batch * width, "dy is [B, F]");
        self.dropout.apply(context, &tape.rows, 0, width, dy);
        if self.pooling == Pooling::Attention {
            let (own, packed) = (self.attention.as_ref().expect(ATTENTION), packed.as_ref().expect(ATTENTION));
            own.backward(context, packed, rows, x, dy, dx, parameters, &mut tape.attention);
            return;
        }
        let Some(dx) = dx else { return };
        match self.pooling {
            Pooling::LastStates => dx.copy_from_slice(dy),
            Pooling::Last => {
                dx.fill(E::ZERO);
                for (column, &sequence) in rows.order().iter().enumerate() {
                    for (columns, row) in self.last_rows(rows, column) {
                        dx[row * width..][columns.clone()].copy_from_slice(&dy[sequence * width..][columns]);
                    }
                }
            }
            Pooling::Mean => {
                for (dy, &length) in dy.chunks_mut(width).zip(rows.lengths()) {
                    divide(dy, length);
                }
                for_each_row(rows, |sequence, row| {
                    dx[row * width..][..width].copy_from_slice(&dy[sequence * width..][..width]);
                });
            }
            Pooling::Max => {
                dx.fill(E::ZERO);
                for (index, (&row, &dy)) in tape.largest.iter().zip(&*dy).enumerate() {
                    if row != usize::MAX {
                        dx[row * width + index % width] = dy;
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
        let width = self.width;
        assert_eq!(x.len(), begun.len() * width, "x is [B, F]");
        let y = tape.y.at_least(x.len());
        match self.pooling {
            Pooling::LastStates | Pooling::Last => y.copy_from_slice(x),
            Pooling::Attention => {
                let module = self.name.clone();
                return Err(Error::NoSteps {
                    module,
                    why: "attention weighs all steps of a sequence against each other",
                });
            }
            Pooling::Mean | Pooling::Max => {
                let [value, count] = state else { panic!("a running pool has a value and a count") };
                let (value, count) = (value.values_mut(), count.values_mut());
                for (stream, &begun) in begun.iter().enumerate() {
                    let rows = stream * width..(stream + 1) * width;
                    let (value, x, y) = (&mut value[rows.clone()], &x[rows.clone()], &mut y[rows]);
                    if !begun {
                        (count[stream], _) = (E::ZERO, value.fill(E::ZERO));
                    }
                    let first = count[stream] == E::ZERO;
                    count[stream] = count[stream] + E::ONE;
                    if self.pooling == Pooling::Mean {
                        add(value, x);
                        y.iter_mut().zip(&*value).for_each(|(y, sum)| *y = *sum / count[stream]);
                    } else {
                        for (value, &x) in value.iter_mut().zip(x) {
                            *value = if first || exceeds(x, *value) { x } else { *value };
                        }
                        y.copy_from_slice(value);
                    }
                }
            }
        }
        Ok(y)
    }
}

const ATTENTION: &str = "pooling by attention has an attention";

fn add<E: Element>(sum: &mut [E], x: &[E]) {
    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum = *sum + *x);
}

/// Of no rows the mean is 0.
fn divide<E: Element>(x: &mut [E], length: usize) {
    let length = E::from_f64(length.max(1) as f64);
    x.iter_mut().for_each(|x| *x = *x / length);
}

/// Whether `x` is larger. What is not a number is larger than all numbers, so that it is not lost.
fn exceeds<E: Element>(x: E, than: E) -> bool {
    x > than || (x.partial_cmp(&x).is_none() && than.partial_cmp(&than).is_some())
}
