//! A tagger: sequences with a tag at every step.

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::embedding;
use throughline_kernels::ops::linear::{Linear, LinearGradients};
use throughline_kernels::ops::softmax_head::SoftmaxHead;
use throughline_kernels::random::Stream;
use throughline_kernels::sequence::{Ragged, Scratch};
use throughline_kernels::threads::Threads;
use throughline_nn::initialise::{self, Initialisation};
use throughline_nn::parameters::{Layout, TensorId};
use throughline_nn::recurrent::{Context, PackedRecurrent, Pass, Recurrent, RecurrentWorkspace};

use super::{Setup, Workload, draw};
use crate::record::Record;
use crate::timing::Machine;

/// PyTorch's target of a step without one.
const NO_TARGET: i64 = -100;

pub struct Tagger {
    layout: Layout,
    vocabulary: usize,
    batch: Ragged,
    /// `[N]`, packed
    tokens: Vec<u32>,
    targets: Vec<u32>,
    embedding: TensorId,
    recurrent: Recurrent,
    head: [TensorId; 2],
    packed: PackedRecurrent<f32>,
    linear: Linear<f32>,
    workspace: RecurrentWorkspace<f32>,
    softmax_head: SoftmaxHead<f32>,
    scratch: Vec<Scratch<f32>>,
    /// `[N, I]`
    x: Buffer<f32>,
    dx: Buffer<f32>,
    /// `[N, D·H]`
    dy: Buffer<f32>,
}

impl Tagger {
    pub fn new(machine: &Machine, setup: &Setup) -> Self {
        let (config, batch) = (setup.sizes.config, Ragged::new(&setup.sizes.lengths));
        let mut layout = Layout::new();
        let embedding = layout.add("embedding.weight".to_owned(), &[setup.vocabulary, config.input]);
        let recurrent = Recurrent::new(config, &mut layout, "rnn.");
        let head_weight = layout.add("head.weight".to_owned(), &[setup.outputs, config.output()]);
        let head_bias = layout.add("head.bias".to_owned(), &[setup.outputs]);
        let rows = batch.rows();
        Self {
            layout,
            vocabulary: setup.vocabulary,
            tokens: vec![0; rows],
            targets: vec![0; rows],
            embedding,
            head: [head_weight, head_bias],
            packed: recurrent.packed(machine.isa, true),
            linear: Linear::new(machine.isa, config.output(), setup.outputs, true),
            workspace: recurrent.workspace(&machine.threads),
            softmax_head: SoftmaxHead::new(),
            scratch: Scratch::for_threads(&machine.threads),
            x: Buffer::zeros(rows * config.input),
            dx: Buffer::zeros(rows * config.input),
            dy: Buffer::zeros(rows * config.output()),
            recurrent,
            batch,
        }
    }

    /// Packed rows to `[B, T]`, `padding` where there are none.
    fn by_sequence(&self, of_row: &[u32], padding: i64) -> Vec<i64> {
        let time = self.batch.steps();
        let mut all = vec![padding; self.batch.batch() * time];
        self.batch.for_each_row(|row, sequence, t| all[sequence * time + t] = i64::from(of_row[row]));
        all
    }
}

impl Workload for Tagger {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    /// As the networks of `throughline-nn` do it.
    fn initialise(&self) -> Buffer<f32> {
        let (layout, mut parameters) = (&self.layout, self.layout.zeros());
        let limit = 1.0 / (self.recurrent.config().output() as f64).sqrt();
        initialise::normal(1, layout, self.embedding, 1.0, &mut parameters);
        initialise::uniform(1, layout, self.head[0], limit, &mut parameters);
        self.recurrent.initialise(layout, 1, Initialisation::Uniform, &mut parameters);
        parameters
    }

    fn pack(&mut self, threads: &Threads, parameters: &[f32]) {
        self.recurrent.pack(threads, &self.layout, parameters, &mut self.packed);
        let [weight, bias] = self.head.map(|id| self.layout.view(parameters, id));
        self.linear.pack(threads, weight, bias);
    }

    fn draw(&mut self, random: &mut Stream) {
        draw(random, self.vocabulary, &mut self.tokens);
        draw(random, self.linear.output(), &mut self.targets);
    }

    fn learn(&mut self, threads: &Threads, parameters: &[f32], gradients: &mut [f32]) -> f64 {
        let Self { layout, batch, tokens, targets, recurrent, packed, linear, workspace, x, dx, dy, .. } = self;
        let (isa, width, output) = (linear.isa(), recurrent.config().input, recurrent.config().output());
        embedding::gather(threads, layout.view(parameters, self.embedding), width, tokens, x);
        let context = Context { threads, packed, parameters, layout };
        recurrent.forward(context, batch, x, None, Pass::Traced, workspace);
        let y = workspace.output(batch.rows(), output);
        let [weight, bias] = layout.views_mut(gradients, self.head);
        let d_head = LinearGradients { weight, bias };
        let (head, scale) = (&mut self.softmax_head, 1.0 / batch.rows() as f64);
        let trained = head.train(threads, linear, y, targets, scale, dy, d_head, &mut self.scratch);
        recurrent.backward(context, batch, x, false, Pass::Traced, Some(dy), None, Some(dx), gradients, workspace);
        embedding::add_gradient(isa, threads, tokens, dx, width, layout.view_mut(gradients, self.embedding));
        trained.loss.mean()
    }

    fn describe(&self, record: &mut Record<'_>) {
        let shape = [self.batch.batch(), self.batch.steps()];
        record.whole_numbers("tokens", &shape, self.by_sequence(&self.tokens, 0));
        record.whole_numbers("targets", &shape, self.by_sequence(&self.targets, NO_TARGET));
    }
}
