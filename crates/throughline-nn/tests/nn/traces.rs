//! What a tape keeps is reachable for every layer and direction of every stack in a network, and not with
//! checkpointing.

use crate::common::{Batch, Dropouts, Model, classifier, panic_of};
use throughline_kernels::cells::CellKind;
use throughline_nn::checkpointing::Checkpointing;
use throughline_nn::layers::recurrent::RecurrentTape;
use throughline_nn::layers::{Pooling, Recurrent, RecurrentConfig};
use throughline_nn::module::{TapeSetting, Visit};
use throughline_nn::parameters::Layout;
use throughline_nn::standalone::Stack;
use throughline_nn::{Module, Pass};
use throughline_testkit::assert_close;

const TOLERANCE: f64 = 1e-14;

/// Checks what it sees of an LSTM after a training pass: every gate is the map of its pre-activation, and the row
/// gradients add up to the gradient of the biases.
struct Trace<'a> {
    rows: usize,
    layout: &'a Layout,
    gradients: &'a [f64],
    seen: Vec<String>,
}

impl Visit<f64> for Trace<'_> {
    fn recurrent(&mut self, stack: &Recurrent, tape: &RecurrentTape<f64>) {
        self.seen.push(stack.name().to_owned());
        let config = stack.config();
        let (hidden, gates) = (config.hidden, config.cell.slot_names());
        for layer in 0..config.layers {
            let (of_layer, gradients) = (tape.layer(layer), tape.row_gradients(layer).expect("they are kept"));
            assert_eq!(of_layer.rows(), self.rows);
            for direction in 0..config.directions() {
                let mut sum = vec![0.0; gates.len() * hidden];
                for row in 0..self.rows {
                    for (gate, sum) in gates.iter().zip(sum.chunks_mut(hidden)) {
                        let before = of_layer.pre_activation(gate, direction, row).expect("they are kept");
                        let sigmoid = |x: &f64| 1.0 / (1.0 + (-x).exp());
                        let map = |x: &f64| if *gate == "cell" { x.tanh() } else { sigmoid(x) };
                        let want: Vec<f64> = before.iter().map(map).collect();
                        assert_close("gate", of_layer.gate(gate, direction, row), &want, TOLERANCE);
                        let of_row = gradients.gate(gate, direction, row);
                        sum.iter_mut().zip(of_row).for_each(|(sum, x)| *sum += x);
                    }
                    assert_eq!(gradients.hidden(direction, row).len(), hidden);
                    assert_eq!(gradients.cell(direction, row).expect("an LSTM has a cell state").len(), hidden);
                }
                let suffix = if direction == 1 { "_reverse" } else { "" };
                let name = format!("{}.bias_hh_l{layer}{suffix}", stack.name());
                let id = self.layout.find(&name).expect("a bias");
                assert_close(&name, &sum, self.layout.view(self.gradients, id), TOLERANCE);
            }
        }
    }
}

#[test]
fn pre_activations_and_row_gradients() {
    let stack = RecurrentConfig { layers: 3, bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, 3, 4) };
    let network = classifier(stack, 6, 3, Pooling::Mean, Dropouts::default());
    let mut model = Model::<f64, _>::new(network, 1, 4, 0.7);
    let batch = Batch::texts(6, 3, &[2, 0, 4, 1]);
    let mut plain = model.network.layout().zeros();
    batch.learn(&mut model, Pass::Traced, &mut plain);
    for setting in [TapeSetting::PreActivations(true), TapeSetting::RowGradients(true)] {
        model.network.set(&mut model.workspace, setting);
    }
    let mut gradients = model.network.layout().zeros();
    batch.learn(&mut model, Pass::Traced, &mut gradients);
    assert_eq!(plain[..], gradients[..], "what is kept changes nothing");
    let layout = model.network.layout();
    let mut trace = Trace { rows: 7, layout, gradients: &gradients, seen: Vec::new() };
    model.network.body().visit(&model.workspace.body, &mut trace);
    assert_eq!(trace.seen, ["rnn"]);
}

/// The gradients of rows are the same without those of the parameters, which stay as they are.
#[test]
fn row_gradients_alone() {
    for cell in [CellKind::Lstm, CellKind::GruBefore] {
        let stack = RecurrentConfig { layers: 2, bidirectional: true, ..RecurrentConfig::new(cell, 3, 4) };
        let batch = Batch::texts(6, 3, &[2, 0, 4, 1]);
        let gradients = [true, false].map(|wanted| {
            let network = classifier(stack, 6, 3, Pooling::Mean, Dropouts::default());
            let mut model = Model::<f64, _>::new(network, 1, 4, 0.7);
            for setting in [TapeSetting::RowGradients(true), TapeSetting::ParameterGradients(wanted)] {
                model.network.set(&mut model.workspace, setting);
            }
            let mut gradients = model.network.layout().zeros();
            batch.learn(&mut model, Pass::Traced, &mut gradients);
            let of_embedding = model.network.layout().find("embedding.weight").expect("the embedding");
            let layout = model.network.layout();
            let of_stack = layout.view(&gradients, layout.find("rnn.weight_hh_l1").expect("a weight"));
            assert_eq!(of_stack.iter().any(|x| *x != 0.0), wanted);
            layout.view(&gradients, of_embedding).to_vec()
        });
        assert_eq!(gradients[0], gradients[1]);
    }
}

/// Stacks are shown in the order of the data, with their names.
#[test]
fn every_stack_is_shown() {
    use throughline_nn::Layer;
    use throughline_nn::concat::Concat;
    use throughline_nn::parameters::Builder;

    struct Names(Vec<String>);
    impl Visit<f32> for Names {
        fn recurrent(&mut self, stack: &Recurrent, _: &RecurrentTape<f32>) {
            self.0.push(format!("{} {}", stack.name(), stack.config().cell.name()));
        }
    }
    let mut builder = Builder::new();
    let mut stack = |name: &str, cell, input| Recurrent::new(&mut builder, name, RecurrentConfig::new(cell, input, 2));
    let pair = Concat::new(stack("a", CellKind::Lstm, 3), stack("b", CellKind::GruAfter, 3));
    let module = pair.then(stack("c", CellKind::RnnRelu, 4));
    let mut names = Names(Vec::new());
    Module::<f32>::visit(&module, &Default::default(), &mut names);
    assert_eq!(names.0, ["a lstm", "b gru_after", "c rnn_relu"]);
    let cells: Vec<String> = module.cells().iter().map(|(name, cell)| format!("{name} {}", cell.name())).collect();
    assert_eq!(cells, names.0);
}

#[test]
fn a_trace_together_with_checkpointing_is_refused() {
    let checkpointing = TapeSetting::Checkpointing(Checkpointing::Auto);
    for trace in [TapeSetting::PreActivations, TapeSetting::RowGradients] {
        for settings in [[trace(true), checkpointing], [checkpointing, trace(true)]] {
            let mut stack = Stack::<f32>::new(RecurrentConfig::new(CellKind::Lstm, 3, 2), 1);
            stack.set(settings[0]);
            let message = panic_of(|| stack.set(settings[1]));
            assert!(message.contains("checkpointing keeps no trace"), "{message}");
        }
        let mut stack = Stack::<f32>::new(RecurrentConfig::new(CellKind::Lstm, 3, 2), 1);
        for setting in [trace(true), trace(false), checkpointing] {
            stack.set(setting);
        }
    }
}
