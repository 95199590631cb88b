//! The oracle against the reference vectors: two independent implementations of the same networks.

use throughline_testkit::vectors::{self, CellCase, LanguageModelRun, Tensor, Tensors};
use throughline_testkit::{
    BatchInput, BatchRun, Network, Number, OracleCell, OracleConfig, assert_close, exact_gradient,
};

/// PyTorch computed in float32, the oracle in float64.
const TOLERANCE: f64 = 1e-5;

/// Everything a case can be differentiated by as one vector: parameters, x, h0, c0.
fn flat(config: &OracleConfig, parameters: &Tensors, x: &Tensor, h0: Option<&Tensor>, c0: Option<&Tensor>) -> Vec<f64> {
    let mut all = Vec::new();
    assert_eq!(parameters.len(), config.parameters().len(), "PyTorch names other parameters");
    for (name, shape) in config.parameters() {
        assert_eq!(parameters[&name].shape, shape, "{name}");
        all.extend(parameters[&name].to_f64());
    }
    for tensor in [Some(x), h0, c0].into_iter().flatten() {
        all.extend(tensor.to_f64());
    }
    all
}

fn run<N: Number>(config: OracleConfig, case: &CellCase, all: &[N]) -> BatchRun<N> {
    let (parameters, rest) = all.split_at(config.parameter_count());
    let (x, rest) = rest.split_at(case.x.data.len());
    let (h0, c0) = rest.split_at(case.h0.as_ref().map_or(0, |h0| h0.data.len()));
    Network::from_flat(config, parameters).run_batch(BatchInput {
        x,
        lengths: &case.lengths,
        reset: None,
        h0: case.h0.as_ref().map(|_| h0),
        c0: case.c0.as_ref().map(|_| c0),
    })
}

fn optional(tensor: &Option<Tensor>) -> Vec<f64> {
    tensor.as_ref().map_or(Vec::new(), Tensor::to_f64)
}

fn check_cell(cell: OracleCell) {
    let cases = vectors::cell_cases(cell);
    assert!(!cases.is_empty());
    for case in cases {
        let name = |what: &str| format!("{} {}: {what}", cell.name(), case.name);
        let config = case.config(cell);
        let (h0, c0) = (case.h0.as_ref(), case.c0.as_ref());
        let all = flat(&config, &case.parameters, &case.x, h0, c0);
        let got = run(config, &case, &all);
        assert_close(&name("outputs"), &got.outputs, &case.outputs.data, TOLERANCE);
        assert_close(&name("h_n"), &got.h_n, &case.h_n.data, TOLERANCE);
        assert_close(&name("c_n"), &got.c_n, &optional(&case.c_n), TOLERANCE);

        let weights = &case.loss_weights;
        let weights = (weights.outputs.to_f64(), weights.h_n.to_f64(), optional(&weights.c_n));
        let loss = got.weighted_sum(&weights.0, &weights.1, &weights.2);
        assert_close(&name("loss"), &[loss], &[case.loss], TOLERANCE);

        let got = exact_gradient(|all| run(config, &case, all).weighted_sum(&weights.0, &weights.1, &weights.2), &all);
        let want = &case.gradients;
        let mut rest = got.as_slice();
        let mut check = |what: &str, want: &Tensor| {
            let (head, tail) = rest.split_at(want.data.len());
            assert_close(&name(what), head, &want.data, TOLERANCE);
            rest = tail;
        };
        for (parameter, _) in config.parameters() {
            check(&parameter, &want.parameters[&parameter]);
        }
        check("x", &want.x);
        want.h0.iter().for_each(|h0| check("h0", h0));
        want.c0.iter().for_each(|c0| check("c0", c0));
        assert!(rest.is_empty());
    }
}

#[test]
fn rnn_tanh() {
    check_cell(OracleCell::RnnTanh);
}

#[test]
fn rnn_relu() {
    check_cell(OracleCell::RnnRelu);
}

#[test]
fn lstm() {
    check_cell(OracleCell::Lstm);
}

#[test]
fn gru_after() {
    check_cell(OracleCell::GruAfter);
}

#[test]
fn gru_before() {
    check_cell(OracleCell::GruBefore);
}

/// The stack under the names `rnn.*`.
fn stack(config: OracleConfig, parameters: &Tensors) -> Network<f64> {
    let flat: Vec<f64> =
        config.parameters().iter().flat_map(|(name, _)| parameters[&format!("rnn.{name}")].to_f64()).collect();
    Network::from_flat(config, &flat)
}

fn embed(parameters: &Tensors, tokens: &[usize]) -> Vec<Vec<f64>> {
    let table = &parameters["embedding.weight"];
    tokens.iter().map(|token| table.to_f64().chunks(table.shape[1]).nth(*token).unwrap().to_vec()).collect()
}

/// -log softmax(head(features))[target], in nats.
fn cross_entropy(parameters: &Tensors, features: &[f64], target: usize) -> f64 {
    let (weight, bias) = (parameters["head.weight"].to_f64(), parameters["head.bias"].to_f64());
    let logits: Vec<f64> = weight
        .chunks(features.len())
        .zip(bias)
        .map(|(row, bias)| bias + row.iter().zip(features).map(|(w, x)| w * x).sum::<f64>())
        .collect();
    logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[target]
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len() as f64
}

#[test]
fn first_loss_of_the_language_models() {
    for run in vectors::train_lm() {
        let LanguageModelRun { embedding, hidden, layers, stride, .. } = run;
        let cell = OracleCell::from_name(&run.cell);
        let config = OracleConfig {
            cell,
            input: embedding,
            hidden,
            layers,
            bidirectional: false,
            bias: true,
            normalised: false,
        };
        let network = stack(config, &run.parameters);
        let mut losses = Vec::new();
        for tokens in &run.tokens {
            let xs = embed(&run.parameters, &tokens[..stride]);
            let outputs = network.run_sequence(&xs, &vec![false; stride], None).outputs;
            for (features, &target) in outputs.iter().zip(&tokens[1..=stride]) {
                losses.push(cross_entropy(&run.parameters, features, target));
            }
        }
        assert_close(&run.name, &[mean(&losses)], &run.losses[..1], TOLERANCE);
        assert_eq!(run.losses.len() * stride + 1, run.tokens[0].len());
        assert_eq!(run.losses.len(), run.gradient_norms.len());
    }
}

#[test]
fn first_loss_of_the_classifiers() {
    for run in vectors::train_classifier() {
        let cell = OracleCell::from_name(&run.cell);
        let (input, hidden, layers) = (run.embedding, run.hidden, run.layers);
        let config = OracleConfig { cell, input, hidden, layers, bidirectional: true, bias: true, normalised: false };
        let network = stack(config, &run.parameters);
        let batch = &run.batches[0];
        let mut losses = Vec::new();
        for (tokens, &label) in batch.sequences.iter().zip(&batch.labels) {
            let last = network.run_sequence(&embed(&run.parameters, tokens), &vec![false; tokens.len()], None).last;
            let features: Vec<f64> = last[2 * layers - 2..].iter().flat_map(|state| state.h.clone()).collect();
            losses.push(cross_entropy(&run.parameters, &features, label));
        }
        assert_close(&run.name, &[mean(&losses)], &run.losses[..1], TOLERANCE);
        assert_eq!(run.batches.len(), run.losses.len());
        assert_eq!(run.losses.len(), run.gradient_norms.len());
    }
}
