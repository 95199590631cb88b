//! The norms are those of the numerical derivative, for every cell, and pooling the last state is the last anchor.

use throughline_inspect::{FlowState, Probe, gradient_flow};
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::IGNORED;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::recurrent::Readout;
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::module::Layer;
use throughline_nn::network::{Input, Wanted, Workspace};
use throughline_nn::parameters::Builder;
use throughline_nn::state::State;
use throughline_testkit::{assert_close, central_difference};

use crate::common::{CLASSES, Model, stepwise};

/// Of a central difference with step 1e-5 in f64.
const TOLERANCE: f64 = 1e-8;
const STEPS: usize = 6;
const HIDDEN: usize = 4;

/// The loss of the last step alone, given the state after `done` steps with other numbers in the arrays of these names.
fn loss_from(model: &Model<f64, Recurrent>, done: usize, changed: &[(&str, &[f64])]) -> f64 {
    let width = model.x.len() / STEPS;
    let mut workspace = Workspace::default();
    let mut state = State::new(&model.network.state_shape(), 1);
    let before = Ragged::even(done, 1);
    model.network.read(model.weights(), Input::new(&before, &model.x[..done * width]), &mut workspace);
    model.network.end(&before, &workspace, &mut state);
    for (name, values) in changed {
        let array = state.arrays_mut().iter_mut().find(|array| array.name() == *name).expect("the top layer's state");
        array.values_mut().copy_from_slice(values);
    }
    let after = Ragged::even(STEPS - done, 1);
    let input = Input { rows: &after, x: &model.x[done * width..], start: Some(&state) };
    let mut targets = vec![IGNORED; STEPS - done];
    *targets.last_mut().expect("a step is left") = model.targets[STEPS - 1];
    model.network.evaluate(model.weights(), input, Wanted::new(&targets), &mut workspace).sum
}

/// The state of this name after `done` steps.
fn state_after(model: &Model<f64, Recurrent>, done: usize, name: &str) -> Vec<f64> {
    let width = model.x.len() / STEPS;
    let (mut workspace, rows) = (Workspace::default(), Ragged::even(done, 1));
    let mut state = State::new(&model.network.state_shape(), 1);
    model.network.read(model.weights(), Input::new(&rows, &model.x[..done * width]), &mut workspace);
    model.network.end(&rows, &workspace, &mut state);
    state.arrays().iter().find(|array| array.name() == name).expect("the top layer's state").values().to_vec()
}

#[test]
fn the_norms_are_those_of_the_total_derivative() {
    for &cell in CellKind::ALL {
        for layers in [1, 2] {
            let config = RecurrentConfig { layers, ..RecurrentConfig::new(cell, 3, HIDDEN) };
            let model = stepwise::<f64>(config, &[STEPS]);
            // A single anchor is the last step.
            let flows = gradient_flow(&mut Probe::new(model.subject(), true), 1);
            let states: &[FlowState] =
                if cell.has_cell_state() { &[FlowState::Hidden, FlowState::Cell] } else { &[FlowState::Hidden] };
            assert_eq!(flows.len(), layers * states.len());
            let of_top = &flows[(layers - 1) * states.len()..];
            let [hidden, memory] = ["h", "c"].map(|state| format!("rnn.{state}_l{}", layers - 1));
            for (flow, &state) in of_top.iter().zip(states) {
                assert_eq!(
                    (flow.state, flow.carried, flow.lags.len()),
                    (state, state == states[states.len() - 1], STEPS)
                );
                for (lag, at) in flow.lags.iter().enumerate().skip(1) {
                    let done = STEPS - lag;
                    let h = state_after(&model, done, &hidden);
                    let derivative = match state {
                        FlowState::Hidden => {
                            let loss = |h: &[f64]| loss_from(&model, done, &[(&hidden, h)]);
                            central_difference(loss, &mut h.clone(), 1e-5)
                        }
                        FlowState::Cell => {
                            let mut c = state_after(&model, done, &memory);
                            // h = o tanh(c) goes with c.
                            let gate: Vec<f64> = h.iter().zip(&c).map(|(h, c)| h / c.tanh()).collect();
                            let loss = |c: &[f64]| {
                                let h: Vec<f64> = gate.iter().zip(c).map(|(o, c)| o * c.tanh()).collect();
                                loss_from(&model, done, &[(&hidden, &h), (&memory, c)])
                            };
                            central_difference(loss, &mut c, 1e-5)
                        }
                    };
                    let want = derivative.iter().map(|x| x * x).sum::<f64>().sqrt();
                    assert_close(&format!("{} lag {lag}", cell.name()), &[at.norm.median], &[want], TOLERANCE);
                    let share = at.norm.median / flow.lags[0].norm.median;
                    assert_close("the share of lag 0", &[at.relative.median], &[share], TOLERANCE);
                }
            }
        }
    }
}

#[test]
fn the_last_state_of_a_sequence_is_its_last_step() {
    let config = RecurrentConfig { layers: 2, ..RecurrentConfig::new(CellKind::GruBefore, 3, HIDDEN) };
    let lengths = [3, 0, 7, 1];
    let mut each = stepwise::<f64>(config, &lengths);
    let mut builder = Builder::new();
    let stack = Recurrent::new(&mut builder, "rnn", config).with_readout(Readout::LastStates);
    let head = Softmax::new(&mut builder, "head", HIDDEN, CLASSES);
    let pooled = Model::<f64, _>::new(stack.ending_in(head, builder), 3, Ragged::new(&lengths), vec![2; 4]);
    each.targets.fill(2);
    let mut of_each = gradient_flow(&mut Probe::new(each.subject(), true), 1);
    let of_pooled = gradient_flow(&mut Probe::new(pooled.subject(), true), 9);
    assert_eq!(of_pooled, of_each);
    // More anchors see more.
    of_each = gradient_flow(&mut Probe::new(each.subject(), true), 9);
    assert_eq!(of_each[0].lags.iter().map(|at| at.anchors).collect::<Vec<_>>(), [11, 8, 6, 4, 3, 2, 1]);
}

/// A reverse direction reads the end first, so its gradients go to later steps.
#[test]
fn both_directions_of_a_mirrored_input_agree() {
    let config = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, 3, HIDDEN) };
    let mut model = stepwise::<f64>(config, &[5]);
    for name in ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"] {
        let id = model.network.layout().find(&format!("rnn.{name}")).expect("a parameter");
        let forward = model.network.layout().view(&model.parameters, id).to_vec();
        model.change(&format!("rnn.{name}_reverse"), |place, _| forward[place]);
    }
    // The same head for both directions, the same targets and inputs from both ends.
    model.change("head.weight", |place, _| [0.4, -0.3, 0.7, 0.2][place % HIDDEN] * (place / (2 * HIDDEN)) as f64);
    model.targets.fill(1);
    let x = model.x.clone();
    for t in 0..5 {
        model.x[3 * t..3 * t + 3].copy_from_slice(&x[3 * t.min(4 - t)..][..3]);
    }
    let flows = gradient_flow(&mut Probe::new(model.subject(), true), 5);
    let norms = |index: usize| -> Vec<f64> { flows[index].lags.iter().map(|at| at.norm.high).collect() };
    // h and c of the one direction, then of the other.
    assert!(!flows[1].site.reverse && flows[2].site.reverse);
    assert_close("both directions, h", &norms(0), &norms(2), 1e-13);
    assert_close("both directions, c", &norms(1), &norms(3), 1e-13);
}
