//! Networks built to have a fault have it, and a healthy one none.

use throughline_inspect::{Fault, Training, Update, diagnose};
use throughline_kernels::Element;
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::{Pool, Pooling, Recurrent, RecurrentConfig};
use throughline_nn::module::Layer;
use throughline_nn::parameters::Builder;

use crate::common::{CLASSES, Model, stepwise};

const HIDDEN: usize = 16;

fn model<E: Element>(cell: CellKind) -> Model<E, Recurrent> {
    stepwise(RecurrentConfig::new(cell, 3, HIDDEN), &[40, 33, 40])
}

fn faults(model: &Model<f32, Recurrent>, training: &Training) -> Vec<Fault> {
    let findings = diagnose(&model.inspected(), training);
    for finding in &findings {
        assert!(finding.seen.ends_with('.') && finding.remedy.ends_with('.'), "{finding:?}");
    }
    findings.into_iter().map(|finding| finding.fault).collect()
}

/// The identity times `factor`.
fn scaled_identity(factor: f64) -> impl Fn(usize, f64) -> f64 {
    move |place, _| if place % HIDDEN == place / HIDDEN { factor } else { 0.0 }
}

#[test]
fn healthy_networks_have_none() {
    assert_eq!(faults(&model(CellKind::Lstm), &Training::default()), []);
    assert_eq!(faults(&model(CellKind::GruAfter), &Training::default()), []);
}

#[test]
fn small_recurrent_weights_let_gradients_vanish() {
    let mut model = model(CellKind::RnnTanh);
    model.change("rnn.weight_hh_l0", scaled_identity(0.2));
    assert_eq!(faults(&model, &Training::default()), [Fault::Vanishing]);
}

#[test]
fn large_recurrent_weights_let_gradients_explode() {
    let mut model = model(CellKind::RnnTanh);
    model.change("rnn.weight_hh_l0", scaled_identity(1.3));
    model.change("rnn.bias_ih_l0", |_, _| 0.0);
    model.change("rnn.bias_hh_l0", |_, _| 0.0);
    // So small that tanh stays linear.
    model.change("rnn.weight_ih_l0", |_, x| 1e-6 * x);
    assert_eq!(faults(&model, &Training::default()), [Fault::Exploding]);
}

/// Next to nothing goes from h to h, and all of the memory from c to c.
#[test]
fn a_memory_in_c_is_no_fault() {
    let mut model = model(CellKind::Lstm);
    model.change("rnn.weight_hh_l0", |_, x| 0.01 * x);
    model.change("rnn.bias_ih_l0", |place, x| if (HIDDEN..2 * HIDDEN).contains(&place) { 4.0 } else { x });
    assert_eq!(faults(&model, &Training::default()), []);
}

#[test]
fn clipping_most_updates_is_exploding() {
    let row =
        |norm| Update { update: 1, loss: None, validation_loss: None, gradient_norm: Some(norm), learning_rate: 0.1 };
    let training = |norms: [f64; 3]| Training { updates: norms.map(row).to_vec(), clip_norm: Some(1.0) };
    assert_eq!(faults(&model(CellKind::Lstm), &training([2.0, 3.0, 0.5])), [Fault::Exploding]);
    assert_eq!(faults(&model(CellKind::Lstm), &training([2.0, 0.3, 0.5])), []);
}

#[test]
fn large_weights_saturate_gates() {
    let mut model = model(CellKind::Lstm);
    model.change("rnn.weight_ih_l0", |_, x| 300.0 * x);
    let found = faults(&model, &Training::default());
    assert!(found.contains(&Fault::Saturated), "{found:?}");
}

#[test]
fn a_candidate_may_be_binary_and_a_forget_gate_open() {
    let mut model = model(CellKind::Lstm);
    let bias = |gate: usize| match gate {
        1 => 5.0,
        2 => -5.0,
        _ => 0.0,
    };
    model.change("rnn.bias_ih_l0", |place, x| x + bias(place / HIDDEN));
    let open = model.gates();
    assert!(open.gates.iter().any(|gate| gate.keeps && gate.high > 0.95));
    assert!(open.gates.iter().any(|gate| gate.gate == "cell" && gate.low > 0.95));
    assert!(!faults(&model, &Training::default()).contains(&Fault::Saturated));
}

/// Each step has a way of its own to the answer, so that nothing is said of gradients that go a longer one.
#[test]
fn an_answer_made_of_all_steps_is_not_judged_by_its_gradients() {
    let config = RecurrentConfig::new(CellKind::RnnTanh, 3, HIDDEN);
    for (pooling, found) in [(Pooling::Mean, &[][..]), (Pooling::Last, &[Fault::Vanishing])] {
        let mut builder = Builder::new();
        let stack = Recurrent::new(&mut builder, "rnn", config);
        let body = Pool::of(&mut builder, "pool", stack, pooling);
        let head = Softmax::new(&mut builder, "head", HIDDEN, CLASSES);
        let mut model = Model::<f32, _>::new(body.ending_in(head, builder), 3, Ragged::new(&[40, 33]), vec![2; 2]);
        model.change("rnn.weight_hh_l0", scaled_identity(0.2));
        let faults: Vec<Fault> = diagnose(&model.inspected(), &Training::default()).iter().map(|of| of.fault).collect();
        assert_eq!(faults, found, "{pooling:?}");
    }
}

#[test]
fn units_of_a_relu_die() {
    let mut model = model(CellKind::RnnRelu);
    model.change("rnn.bias_ih_l0", |unit, x| if unit < HIDDEN / 2 { -100.0 } else { x });
    let found = faults(&model, &Training::default());
    assert!(found.contains(&Fault::Dead), "{found:?}");
}
