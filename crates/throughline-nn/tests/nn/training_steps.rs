//! Ten updates of whole models against PyTorch's, loss by loss.

use crate::common::{Batch, Dropouts, Model, classifier, language_model};
use throughline_kernels::Isa;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::reduce;
use throughline_kernels::optim::{Adam, Method, Optimiser, RmsProp, Sgd, clipping_factor};
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::{Pooling, RecurrentConfig};
use throughline_nn::{Loss, Module, Network, Pass};
use throughline_testkit::vectors::{self, Tensors};

/// Of each loss and each gradient norm, relative.
const TOLERANCE: f64 = 1e-4;

fn cell_named(name: &str) -> CellKind {
    *CellKind::ALL.iter().find(|cell| cell.name() == name).expect("a registered cell")
}

fn method(optimiser: vectors::Optimiser) -> (f64, Method) {
    use vectors::Optimiser;
    let adam = |(beta1, beta2), epsilon, weight_decay, decoupled| {
        Method::Adam(Adam { beta1, beta2, epsilon, weight_decay, decoupled })
    };
    match optimiser {
        Optimiser::Sgd { lr, momentum } => (lr, Method::Sgd(Sgd { momentum, weight_decay: 0.0 })),
        Optimiser::Adam { lr, betas, eps } => (lr, adam(betas, eps, 0.0, false)),
        Optimiser::AdamW { lr, betas, eps, weight_decay } => (lr, adam(betas, eps, weight_decay, true)),
        Optimiser::RmsProp { lr, alpha, eps } => {
            (lr, Method::RmsProp(RmsProp { alpha, epsilon: eps, momentum: 0.0, weight_decay: 0.0 }))
        }
    }
}

/// A model in training, next to what PyTorch recorded of it.
struct Training<'a, B: Module<f32>> {
    name: &'a str,
    losses: &'a [f32],
    norms: &'a [f32],
    model: Model<f32, B>,
    optimiser: Optimiser<f32>,
    learning_rate: f64,
    /// Infinite for none.
    clip_norm: f64,
}

impl<'a, B: Module<f32>> Training<'a, B> {
    fn new(
        (name, losses, norms): (&'a str, &'a [f32], &'a [f32]),
        network: Network<B, Softmax>,
        parameters: &Tensors,
        optimiser: vectors::Optimiser,
        clip_norm: f64,
    ) -> Self {
        let mut model = Model::new(network, 1, 1, 1.0);
        model.set(|layout, buffer| crate::common::fill(layout, "", parameters, buffer));
        let (learning_rate, method) = method(optimiser);
        let optimiser = Optimiser::new(method, model.network.layout().length());
        Self { name, losses, norms, model, optimiser, learning_rate, clip_norm }
    }

    /// One update by what `learn` adds to the gradients.
    fn update(&mut self, step: usize, learn: impl FnOnce(&mut Model<f32, B>, &mut [f32]) -> Loss) {
        let (isa, model) = (Isa::detect(), &mut self.model);
        let mut gradients = model.network.layout().zeros();
        let loss = learn(model, &mut gradients).mean();
        let norm = reduce::sum_of_squares(isa, &model.cpu.threads, &gradients).sqrt();
        for (what, got, want) in [("loss", loss, self.losses[step]), ("gradient norm", norm, self.norms[step])] {
            let want = f64::from(want);
            let name = self.name;
            assert!((got - want).abs() <= TOLERANCE * want, "{name}: {what} of step {step}: got {got}, want {want}");
        }
        let factor = clipping_factor(norm, self.clip_norm);
        let (rate, threads) = (self.learning_rate, &model.cpu.threads);
        self.optimiser.step(isa, threads, rate, factor, &mut model.parameters, &gradients);
        model.set(|_, _| ());
    }
}

#[test]
fn language_models() {
    for run in vectors::train_lm() {
        let stack = RecurrentConfig {
            layers: run.layers,
            ..RecurrentConfig::new(cell_named(&run.cell), run.embedding, run.hidden)
        };
        let network = language_model(stack, run.vocabulary, false, Dropouts::default());
        let recorded = (&run.name[..], &run.losses[..], &run.gradient_norms[..]);
        let mut training = Training::new(recorded, network, &run.parameters, run.optimiser, run.clip_norm);
        let rows = Ragged::even(run.stride, run.tokens.len());
        let mut state = training.model.state(run.tokens.len());
        for step in 0..run.losses.len() {
            let window = |offset: usize| -> Vec<u32> {
                let times = step * run.stride + offset..(step + 1) * run.stride + offset;
                times.flat_map(|t| run.tokens.iter().map(move |tokens| tokens[t] as u32)).collect()
            };
            let (tokens, targets, start) = (window(0), window(1), Some(state.clone()));
            let window = Batch { rows: rows.clone(), tokens, targets, scored: None, start, normaliser: None };
            training.update(step, |model, gradients| {
                let loss = window.learn(model, Pass::Traced, gradients);
                model.network.state_after(&rows, run.stride, &model.workspace, &mut state);
                loss
            });
        }
    }
}

#[test]
fn classifiers() {
    for run in vectors::train_classifier() {
        let stack = RecurrentConfig {
            layers: run.layers,
            bidirectional: true,
            ..RecurrentConfig::new(cell_named(&run.cell), run.embedding, run.hidden)
        };
        let network = classifier(stack, run.vocabulary, run.classes, Pooling::LastStates, Dropouts::default());
        let recorded = (&run.name[..], &run.losses[..], &run.gradient_norms[..]);
        let mut training = Training::new(recorded, network, &run.parameters, run.optimiser, f64::INFINITY);
        for (step, batch) in run.batches.iter().enumerate() {
            let tokens = |sequence: &Vec<usize>| -> Vec<u32> { sequence.iter().map(|&token| token as u32).collect() };
            let texts: Vec<Vec<u32>> = batch.sequences.iter().map(tokens).collect();
            let batch = Batch::of_texts(&texts, &tokens(&batch.labels));
            training.update(step, |model, gradients| batch.learn(model, Pass::Traced, gradients));
        }
    }
}
