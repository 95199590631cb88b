//! The language model: embedding, recurrent stack, linear head over the vocabulary at every step, softmax cross-entropy.

use throughline_kernels::Element;
use throughline_kernels::ops::cross_entropy::Classified;
use throughline_kernels::ops::embedding;
use throughline_kernels::ops::softmax_head::{HeadGradients, HeadInputs};
use throughline_kernels::sequence::Ragged;

use crate::network::{EMBEDDING_SITE, Network, OUTPUT_SITE, Weights, Workspace, dropout, mean_scale};
use crate::recurrent::{Pass, States, place_of};

/// A window of parallel streams.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// [`Ragged::even`]`(T, B)`.
    pub batch: &'a Ragged,
    /// `[T, B]`
    pub inputs: &'a [u32],
    /// `[T, B]`: the unit that follows each input, or [`IGNORED`](throughline_kernels::ops::IGNORED).
    pub targets: &'a [u32],
    /// The loss is taken from this step on; the steps before it only carry gradients back.
    pub first_scored: usize,
}

impl Window<'_> {
    fn first_row(&self) -> usize {
        self.first_scored * self.batch.batch()
    }

    fn check(&self) {
        assert_eq!(self.inputs.len(), self.batch.rows(), "inputs are [T, B]");
        assert_eq!(self.targets.len(), self.batch.rows(), "targets are [T, B]");
        assert!(self.first_scored <= self.batch.steps(), "the scored steps lie inside the window");
        assert!(self.batch.rows() == self.batch.steps() * self.batch.batch(), "streams of a window have one length");
    }
}

impl Network {
    /// Reads `window` from the states `given` and leaves what the head reads in the workspace.
    fn read<E: Element>(
        &self,
        weights: Weights<'_, E>,
        window: &Window<'_>,
        given: Option<&States<E>>,
        pass: Pass,
        workspace: &mut Workspace<E>,
    ) {
        window.check();
        let width = self.config().recurrent.input;
        let isa = weights.packed.head.isa();
        let table = self.layout().view(weights.parameters, self.embedding);
        let x = workspace.x.at_least(window.inputs.len() * width);
        embedding::gather(weights.threads, table, width, window.inputs, x);
        if let Some(dropout) = dropout(pass, self.dropouts.embedding, EMBEDDING_SITE) {
            dropout.apply(isa, weights.threads, x, width, &|row| place_of(window.batch, row));
        }
        self.recurrent.forward(self.context(weights), window.batch, x, given, pass, &mut workspace.recurrent);
        let output = self.config().recurrent.output();
        let y = workspace.recurrent.output(window.batch.rows(), output);
        let features = workspace.features.at_least(y.len());
        features.copy_from_slice(y);
        if let Some(dropout) = dropout(pass, self.dropouts.output, OUTPUT_SITE) {
            dropout.apply(isa, weights.threads, features, output, &|row| place_of(window.batch, row));
        }
    }

    /// The loss of a window read from the states `given` (`None`: the initial ones), which become those after it.
    ///
    /// # Panics
    /// If a token is not below V or a length does not fit.
    pub fn evaluate_language_model<E: Element>(
        &self,
        weights: Weights<'_, E>,
        window: &Window<'_>,
        states: &mut Option<States<E>>,
        workspace: &mut Workspace<E>,
    ) -> Classified {
        self.read(weights, window, states.as_ref(), Pass::Inference, workspace);
        let last = states.get_or_insert_with(States::default);
        self.recurrent.last_states(window.batch, &workspace.recurrent, last);
        let (first, output) = (window.first_row(), self.config().recurrent.output());
        workspace.softmax_head.evaluate(HeadInputs {
            threads: weights.threads,
            linear: &weights.packed.head,
            x: &workspace.features[first * output..window.batch.rows() * output],
            targets: &window.targets[first..],
        })
    }

    /// The loss of a window's scored steps, and the gradients of its mean over the targets that are not ignored: adds to
    /// `gradients`. The states inside the window are to be had from
    /// [`Recurrent::states_after`](crate::recurrent::Recurrent::states_after) afterwards.
    ///
    /// # Panics
    /// If a token is not below V, a length does not fit, or `weights` were packed for inference only.
    pub fn train_language_model<E: Element>(
        &self,
        weights: Weights<'_, E>,
        window: &Window<'_>,
        given: Option<&States<E>>,
        pass: Pass,
        gradients: &mut [E],
        workspace: &mut Workspace<E>,
    ) -> Classified {
        self.read(weights, window, given, pass, workspace);
        let (threads, isa) = (weights.threads, weights.packed.head.isa());
        let (rows, first) = (window.batch.rows(), window.first_row());
        let (output, width) = (self.config().recurrent.output(), self.config().recurrent.input);
        let d_features = workspace.d_features.at_least(rows * output);
        d_features[..first * output].fill(E::ZERO);
        let inputs = HeadInputs {
            threads,
            linear: &weights.packed.head,
            x: &workspace.features[first * output..rows * output],
            targets: &window.targets[first..],
        };
        let d_head = HeadGradients { dx: &mut d_features[first * output..], linear: self.head_gradients(gradients) };
        let scale = mean_scale(inputs.targets);
        let classified = workspace.softmax_head.train(inputs, scale, d_head, &mut workspace.scratch);
        if let Some(dropout) = dropout(pass, self.dropouts.output, OUTPUT_SITE) {
            dropout.apply(isa, threads, d_features, output, &|row| place_of(window.batch, row));
        }
        let dx = workspace.dx.at_least(rows * width);
        self.recurrent.backward(
            self.context(weights),
            window.batch,
            &workspace.x[..rows * width],
            given.is_some(),
            pass,
            Some(d_features),
            None,
            Some(&mut *dx),
            gradients,
            &mut workspace.recurrent,
        );
        if let Some(dropout) = dropout(pass, self.dropouts.embedding, EMBEDDING_SITE) {
            dropout.apply(isa, threads, dx, width, &|row| place_of(window.batch, row));
        }
        let d_table = self.layout().view_mut(gradients, self.embedding);
        embedding::add_gradient(isa, threads, window.inputs, dx, width, d_table);
        classified
    }

    /// Reads one unit of each of B streams and returns the logits `[B, V]` of the next; `states` go one step on.
    ///
    /// # Panics
    /// If a token is not below V, or `states` are of another number of streams.
    pub fn step_language_model<'a, E: Element>(
        &self,
        weights: Weights<'_, E>,
        tokens: &[u32],
        states: &mut Option<States<E>>,
        workspace: &'a mut Workspace<E>,
    ) -> &'a [E] {
        let batch = Ragged::even(1, tokens.len());
        let window = Window { batch: &batch, inputs: tokens, targets: tokens, first_scored: 0 };
        self.read(weights, &window, states.as_ref(), Pass::Inference, workspace);
        let last = states.get_or_insert_with(States::default);
        self.recurrent.last_states(&batch, &workspace.recurrent, last);
        let head = &weights.packed.head;
        let logits = workspace.logits.at_least(tokens.len() * head.output());
        let features = &workspace.features[..tokens.len() * self.config().recurrent.output()];
        head.forward(weights.threads, features, logits);
        logits
    }
}
