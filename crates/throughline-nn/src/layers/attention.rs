//! Attention pooling (Yang et al., "Hierarchical attention networks for document classification", NAACL 2016, equations
//! 5 to 7). For the rows h_t of one sequence:
//!
//! ```text
//! u_t = tanh(W h_t + b)         W [F, F]
//! a   = softmax over t of (v · u_t)
//! y   = sum over t of a_t h_t
//! ```
//!
//! Backward, where dy is the gradient of y, s_t = v · u_t and p_t = W h_t + b:
//!
//! ```text
//! da_t = dy · h_t
//! ds_t = a_t (da_t - sum over k of a_k da_k)
//! dv  += ds_t u_t
//! dp_t = ds_t v (1 - u_t²)
//! dh_t = a_t dy + W' dp_t
//! ```

use alloc::format;
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::{Linear, softmax, tanh};
use throughline_kernels::sequence::{Ragged, Scratch};
use throughline_kernels::{Element, Isa};

use super::linear::LinearIds;
use crate::initialise::{self, Initialise};
use crate::memory::one_for_each_thread;
use crate::module::{Context, Cpu};
use crate::parameters::{Builder, Layout, TensorId};

/// The parameters of an attention over F features.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    projection: LinearIds,
    query: TensorId,
    width: usize,
}

/// The tape of an [`Attention`].
#[derive(Debug, Default)]
pub(crate) struct AttentionTape<E> {
    rows: usize,
    /// `[N, F]`: u
    u: Buffer<E>,
    /// `[N, F]`: dp
    d_projected: Buffer<E>,
    /// `[N]`: a, in packed order
    weights: Buffer<E>,
    /// The scores, weights, or gradients of the weights of one sequence at a time.
    of_sequence: Vec<E>,
    /// `[N]`: ds
    d_scores: Buffer<E>,
    scratch: Vec<Scratch<E>>,
}

impl<E: Element> AttentionTape<E> {
    /// `[N]`: a, in packed order.
    pub(crate) fn weights(&self) -> &[E] {
        &self.weights[..self.rows]
    }
}

/// The packed rows of the sequence in `column`, in ascending time.
fn rows_of(rows: &Ragged, column: usize) -> impl Iterator<Item = usize> {
    (0..rows.length_of(column)).map(move |t| rows.row(t, column))
}

fn dot<E: Element>(a: &[E], b: &[E]) -> E {
    a.iter().zip(b).fold(E::ZERO, |sum, (a, b)| sum + *a * *b)
}

impl Attention {
    /// Parameters W `{name}.weight` `[F, F]`, b `{name}.bias` `[F]` and v `{name}.query` `[F]`.
    pub(crate) fn new(builder: &mut Builder, name: &str, width: usize) -> Self {
        let projection = LinearIds::new(builder, name, width, width);
        Self { projection, query: builder.add(format!("{name}.query"), &[width]), width }
    }

    pub(crate) fn query(&self) -> TensorId {
        self.query
    }

    pub(crate) fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        self.projection.initialise(how, layout, parameters);
        let limit = 1.0 / libm::sqrt(self.width as f64);
        initialise::uniform(how.seed, layout, self.query, limit, parameters);
    }

    pub(crate) fn packed<E: Element>(&self, isa: Isa, backward: bool) -> Linear<E> {
        Linear::new(isa, self.width, self.width, backward)
    }

    pub(crate) fn pack<E: Element>(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Linear<E>) {
        self.projection.pack(cpu, layout, parameters, packed);
    }

    /// From `x` `[N, F]` to `y` `[B, F]`, in the caller's order; 0 for a sequence without rows.
    pub(crate) fn forward<E: Element>(
        &self,
        context: Context<'_, E>,
        packed: &Linear<E>,
        rows: &Ragged,
        x: &[E],
        y: &mut [E],
        tape: &mut AttentionTape<E>,
    ) {
        let (width, Cpu { isa, threads }) = (self.width, context.cpu);
        let query = context.layout.view(context.parameters, self.query);
        tape.rows = rows.rows();
        let (u, weights) = (tape.u.at_least(x.len()), tape.weights.at_least(rows.rows()));
        packed.forward(threads, x, u);
        tanh(*isa, threads, u);
        y.fill(E::ZERO);
        for (column, &sequence) in rows.order().iter().enumerate() {
            let of_sequence = &mut tape.of_sequence;
            of_sequence.clear();
            of_sequence.extend(rows_of(rows, column).map(|row| dot(&u[row * width..][..width], query)));
            if of_sequence.is_empty() {
                continue;
            }
            softmax(*isa, of_sequence, 1.0);
            let y = &mut y[sequence * width..][..width];
            for (row, &weight) in rows_of(rows, column).zip(&*of_sequence) {
                weights[row] = weight;
                y.iter_mut().zip(&x[row * width..]).for_each(|(y, x)| *y = *y + weight * *x);
            }
        }
    }

    /// The transpose of [`forward`](Self::forward); `dy` `[B, F]`, `dx` `[N, F]`.
    #[allow(clippy::too_many_arguments, reason = "one more than forward: the two gradients and where to add")]
    pub(crate) fn backward<E: Element>(
        &self,
        context: Context<'_, E>,
        packed: &Linear<E>,
        rows: &Ragged,
        x: &[E],
        dy: &[E],
        dx: Option<&mut [E]>,
        parameters: &mut [E],
        tape: &mut AttentionTape<E>,
    ) {
        let (width, layout, threads) = (self.width, context.layout, &context.cpu.threads);
        let query = layout.view(context.parameters, self.query);
        let AttentionTape { u, d_projected, weights, of_sequence, d_scores, scratch, .. } = tape;
        let d_scores = d_scores.at_least(rows.rows());
        for (column, &sequence) in rows.order().iter().enumerate() {
            let dy = &dy[sequence * width..][..width];
            of_sequence.clear();
            of_sequence.extend(rows_of(rows, column).map(|row| dot(dy, &x[row * width..][..width])));
            let mean =
                rows_of(rows, column).zip(&*of_sequence).fold(E::ZERO, |sum, (row, da)| sum + weights[row] * *da);
            for (row, da) in rows_of(rows, column).zip(&*of_sequence) {
                d_scores[row] = weights[row] * (*da - mean);
            }
        }
        let d_projected = d_projected.at_least(x.len());
        let d_query = layout.view_mut(parameters, self.query);
        let places = u.chunks(width).zip(d_projected.chunks_mut(width)).zip(&*d_scores);
        for ((u, d_projected), &d_score) in places {
            for (((d, sum), &u), &query) in d_projected.iter_mut().zip(&mut *d_query).zip(u).zip(query) {
                *d = d_score * query * (E::ONE - u * u);
                *sum = *sum + d_score * u;
            }
        }
        let scratch = one_for_each_thread(scratch, threads);
        packed.add_gradients(threads, x, d_projected, self.projection.gradients(layout, parameters), scratch);
        let Some(dx) = dx else { return };
        packed.input_gradient(threads, d_projected, dx);
        for (column, &sequence) in rows.order().iter().enumerate() {
            for row in rows_of(rows, column) {
                let (weight, dy) = (weights[row], &dy[sequence * width..]);
                dx[row * width..][..width].iter_mut().zip(dy).for_each(|(dx, dy)| *dx = *dx + weight * *dy);
            }
        }
    }
}
