//! K numbers for each row: a linear map and a loss of its [residuals](throughline_kernels::ops::residual).

use alloc::vec::Vec;
use core::ops::Range;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::linear::Linear;
use throughline_kernels::ops::{Residual, residual_loss};
use throughline_kernels::sequence::Scratch;
use throughline_kernels::{Element, Isa};

use super::{Head, HeadCall, Loss};
use crate::initialise::Initialise;
use crate::layers::linear::LinearIds;
use crate::memory::one_for_each_thread;
use crate::module::{Cpu, Layer};
use crate::parameters::{Builder, Layout};

/// K numbers for each row, learned by a loss of the residual.
#[derive(Clone, Debug)]
pub struct Regression {
    ids: LinearIds,
    input: usize,
    outputs: usize,
    loss: Residual,
}

/// The working memory of a [`Regression`].
#[derive(Debug, Default)]
pub struct RegressionTape<E> {
    /// `[scored, K]`
    predictions: Buffer<E>,
    /// `[scored, K]`
    d_predictions: Buffer<E>,
    scratch: Vec<Scratch<E>>,
}

impl Regression {
    /// A head with parameters `{name}.weight` `[K, I]`, initially uniform in ±1/sqrt(I), and `{name}.bias` `[K]`,
    /// initially 0, where I is `input` and K is `outputs`. The loss is the mean over rows and outputs.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(builder: &mut Builder, name: &str, input: usize, outputs: usize, loss: Residual) -> Self {
        Self { ids: LinearIds::new(builder, name, input, outputs), input, outputs, loss }
    }

    /// The loss.
    pub fn loss(&self) -> Residual {
        self.loss
    }

    /// Writes the predictions of the scored rows.
    fn predict<'a, E: Element>(
        &self,
        call: &HeadCall<'_, E, Self>,
        target: Option<&[E]>,
        predictions: &'a mut Buffer<E>,
    ) -> &'a mut [E] {
        let (rows, scored) = (call.rows.rows(), &call.scored);
        assert_eq!(call.x.len(), rows * self.input, "x is [N, {}], N = {rows}", self.input);
        let complete = target.is_none_or(|target| target.len() == rows * self.outputs);
        assert!(complete, "the targets are [N, {}], N = {rows}", self.outputs);
        let in_rows = scored.start <= scored.end && scored.end <= rows;
        assert!(in_rows, "rows {scored:?} are not a range of the {rows} rows");
        let predictions = predictions.at_least(scored.len() * self.outputs);
        call.packed.forward(&call.context.cpu.threads, &call.x[self.inputs_of(scored)], predictions);
        predictions
    }

    fn inputs_of(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.input..rows.end * self.input
    }

    fn outputs_of(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.outputs..rows.end * self.outputs
    }
}

impl Layer for Regression {
    /// K
    fn width(&self) -> usize {
        self.outputs
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        self.ids.initialise(how, layout, parameters);
    }
}

impl<E: Element> Head<E> for Regression {
    /// `[N, K]`: the numbers of each packed row.
    type Target = [E];
    type Packed = Linear<E>;
    type Tape = RegressionTape<E>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        Linear::new(isa, self.input, self.outputs, backward)
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        self.ids.pack(cpu, layout, parameters, packed);
    }

    fn weight(&self, scored: Range<usize>, target: &[E]) -> f64 {
        target[self.outputs_of(&scored)].len() as f64
    }

    fn learn(
        &self,
        call: HeadCall<'_, E, Self>,
        target: &[E],
        normaliser: f64,
        dx: &mut [E],
        gradients: &mut [E],
        tape: &mut Self::Tape,
    ) -> Loss {
        let RegressionTape { predictions, d_predictions, scratch } = tape;
        let predictions = &*self.predict(&call, Some(target), predictions);
        let HeadCall { context, packed, x, scored, .. } = call;
        assert_eq!(dx.len(), x.len(), "dx is [N, {}], like x", self.input);
        let Cpu { isa, threads } = context.cpu;
        let d_predictions = d_predictions.at_least(predictions.len());
        let (target, scale) = (&target[self.outputs_of(&scored)], super::scale(normaliser));
        let sum = residual_loss(*isa, threads, self.loss, predictions, target, scale, Some(d_predictions)).sum;
        let of_scored = self.inputs_of(&scored);
        dx[..of_scored.start].fill(E::ZERO);
        dx[of_scored.end..].fill(E::ZERO);
        packed.input_gradient(threads, d_predictions, &mut dx[of_scored.clone()]);
        let scratch = one_for_each_thread(scratch, threads);
        let gradients = self.ids.gradients(context.layout, gradients);
        packed.add_gradients(threads, &x[of_scored], d_predictions, gradients, scratch);
        Loss { sum, weight: target.len() as f64, correct: 0.0 }
    }

    fn evaluate(&self, call: HeadCall<'_, E, Self>, target: &[E], tape: &mut Self::Tape) -> Loss {
        let predictions = self.predict(&call, Some(target), &mut tape.predictions);
        let Cpu { isa, threads } = call.context.cpu;
        let target = &target[self.outputs_of(&call.scored)];
        let sum = residual_loss(*isa, threads, self.loss, predictions, target, 1.0, None).sum;
        Loss { sum, weight: target.len() as f64, correct: 0.0 }
    }

    /// The predictions.
    fn project<'a>(&self, call: HeadCall<'_, E, Self>, tape: &'a mut Self::Tape) -> &'a [E] {
        self.predict(&call, None, &mut tape.predictions)
    }
}
