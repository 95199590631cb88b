//! The classifier of the tutorial: embedding, recurrent stack (usually bidirectional), the last states of every direction
//! side by side, linear layer, softmax cross-entropy.

use alloc::vec::Vec;

use throughline_kernels::Element;
use throughline_kernels::ops::cross_entropy::{Classified, RowLoss, cross_entropy, softmax_cross_entropy};
use throughline_kernels::ops::embedding;
use throughline_kernels::sequence::Ragged;

use crate::network::{EMBEDDING_SITE, Network, OUTPUT_SITE, Weights, Workspace, dropout, mean_scale};
use crate::recurrent::{Pass, place_of};

/// Some sequences to classify, with the memory to hold them ready for the stack.
#[derive(Debug, Default)]
pub struct Sequences {
    batch: Ragged,
    lengths: Vec<usize>,
    /// One for each packed row.
    tokens: Vec<u32>,
}

impl Sequences {
    /// Takes the token sequences of one batch; any of them may be empty.
    pub fn set<'a>(&mut self, sequences: impl Iterator<Item = &'a [u32]> + Clone) {
        self.lengths.clear();
        self.lengths.extend(sequences.clone().map(<[u32]>::len));
        self.batch.set(&self.lengths);
        let sequences: Vec<&[u32]> = sequences.collect();
        self.tokens.clear();
        let tokens = &mut self.tokens;
        self.batch.for_each_row(|_, sequence, t| tokens.push(sequences[sequence][t]));
    }

    /// How many sequences.
    pub fn count(&self) -> usize {
        self.batch.batch()
    }

    /// How many tokens.
    pub fn rows(&self) -> usize {
        self.batch.rows()
    }
}

impl Network {
    /// Computes the logits `[B, classes]` of `sequences`, in their order.
    ///
    /// # Panics
    /// If a token is not below V.
    pub fn classify<'a, E: Element>(
        &self,
        weights: Weights<'_, E>,
        sequences: &Sequences,
        pass: Pass,
        workspace: &'a mut Workspace<E>,
    ) -> &'a [E] {
        let Sequences { batch, tokens, .. } = sequences;
        let width = self.config().recurrent.input;
        let isa = weights.packed.head.isa();
        let x = workspace.x.at_least(tokens.len() * width);
        embedding::gather(weights.threads, self.layout().view(weights.parameters, self.embedding), width, tokens, x);
        if let Some(dropout) = dropout(pass, self.dropouts.embedding, EMBEDDING_SITE) {
            dropout.apply(isa, weights.threads, x, width, &|row| place_of(batch, row));
        }
        let context = self.context(weights);
        self.recurrent.forward(context, batch, x, None, pass, &mut workspace.recurrent);
        self.recurrent.last_states(batch, &workspace.recurrent, &mut workspace.states);
        let output = self.config().recurrent.output();
        let features = workspace.features.at_least(batch.batch() * output);
        self.top_states(batch.batch(), &workspace.states.h, features);
        if let Some(dropout) = dropout(pass, self.dropouts.output, OUTPUT_SITE) {
            dropout.apply(isa, weights.threads, features, output, &|row| (row as u32, 0));
        }
        let logits = workspace.logits.at_least(batch.batch() * weights.packed.head.output());
        weights.packed.head.forward(weights.threads, features, logits);
        logits
    }

    /// The loss of `sequences` and how many are classified rightly. `targets` holds a class for each, or
    /// [`IGNORED`](throughline_kernels::ops::IGNORED).
    ///
    /// # Panics
    /// If a token or target is out of range.
    pub fn evaluate_classifier<E: Element>(
        &self,
        weights: Weights<'_, E>,
        sequences: &Sequences,
        targets: &[u32],
        workspace: &mut Workspace<E>,
    ) -> Classified {
        let head = &weights.packed.head;
        self.classify(weights, sequences, Pass::Inference, workspace);
        let Workspace { logits, losses, .. } = workspace;
        losses.resize(targets.len(), RowLoss::default());
        let logits = &logits[..sequences.count() * head.output()];
        cross_entropy(head.isa(), weights.threads, logits, head.output(), targets, losses);
        Classified::of(targets, losses)
    }

    /// The loss of `sequences`, and the gradients of its mean over the targets that are not ignored: adds to `gradients` and
    /// returns what [`evaluate_classifier`](Self::evaluate_classifier) does.
    ///
    /// # Panics
    /// If a token or target is out of range, or `weights` were packed for inference only.
    pub fn train_classifier<E: Element>(
        &self,
        weights: Weights<'_, E>,
        sequences: &Sequences,
        targets: &[u32],
        pass: Pass,
        gradients: &mut [E],
        workspace: &mut Workspace<E>,
    ) -> Classified {
        let Sequences { batch, tokens, .. } = sequences;
        let (head, threads) = (&weights.packed.head, weights.threads);
        let (isa, count) = (head.isa(), batch.batch());
        self.classify(weights, sequences, pass, workspace);

        let logits = &mut workspace.logits[..count * head.output()];
        let losses = &mut workspace.losses;
        losses.resize(targets.len(), RowLoss::default());
        let scale = mean_scale(targets);
        softmax_cross_entropy(isa, threads, logits, head.output(), targets, scale, losses);
        let output = self.config().recurrent.output();
        let features = &workspace.features[..count * output];
        head.add_gradients(threads, features, logits, self.head_gradients(gradients), &mut workspace.scratch);
        let d_features = workspace.d_features.at_least(count * output);
        head.input_gradient(threads, logits, d_features);
        if let Some(dropout) = dropout(pass, self.dropouts.output, OUTPUT_SITE) {
            dropout.apply(isa, threads, d_features, output, &|row| (row as u32, 0));
        }

        let d_last = &mut workspace.states;
        d_last.reset(&self.config().recurrent, count);
        self.top_states_gradient(count, d_features, &mut d_last.h);
        let width = self.config().recurrent.input;
        let dx = workspace.dx.at_least(tokens.len() * width);
        self.recurrent.backward(
            self.context(weights),
            batch,
            &workspace.x[..tokens.len() * width],
            false,
            pass,
            None,
            Some(d_last),
            Some(&mut *dx),
            gradients,
            &mut workspace.recurrent,
        );
        if let Some(dropout) = dropout(pass, self.dropouts.embedding, EMBEDDING_SITE) {
            dropout.apply(isa, threads, dx, width, &|row| place_of(batch, row));
        }
        embedding::add_gradient(isa, threads, tokens, dx, width, self.layout().view_mut(gradients, self.embedding));
        Classified::of(targets, &workspace.losses)
    }

    /// The top layer's last states of every direction side by side: `[L·D, B, H]` to `[B, D·H]`.
    fn top_states<E: Element>(&self, count: usize, states: &[E], features: &mut [E]) {
        self.for_each_top_state(count, |state, feature| features[feature].copy_from_slice(&states[state]));
    }

    /// Transpose of [`top_states`](Self::top_states).
    fn top_states_gradient<E: Element>(&self, count: usize, d_features: &[E], d_states: &mut [E]) {
        self.for_each_top_state(count, |state, feature| d_states[state].copy_from_slice(&d_features[feature]));
    }

    fn for_each_top_state(
        &self,
        count: usize,
        mut visit: impl FnMut(core::ops::Range<usize>, core::ops::Range<usize>),
    ) {
        let recurrent = &self.config().recurrent;
        let (hidden, directions) = (recurrent.hidden, recurrent.directions());
        for direction in 0..directions {
            for sequence in 0..count {
                let state = (((recurrent.layers - 1) * directions + direction) * count + sequence) * hidden;
                let feature = (sequence * directions + direction) * hidden;
                visit(state..state + hidden, feature..feature + hidden);
            }
        }
    }
}
