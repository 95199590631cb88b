//! Gates whose activations are known.

use throughline_kernels::cells::CellKind;
use throughline_nn::layers::RecurrentConfig;

use crate::common::stepwise;

/// Of f32 activations.
const TOLERANCE: f64 = 1e-6;

#[test]
fn gates_of_biases_alone() {
    let hidden = 4;
    let mut model = stepwise::<f32>(RecurrentConfig::new(CellKind::Lstm, 3, hidden), &[7, 2]);
    for name in ["weight_ih_l0", "weight_hh_l0", "bias_hh_l0"] {
        model.change(&format!("rnn.{name}"), |_, _| 0.0);
    }
    // i 0.5; f 0.9, but of the last unit almost 1; g tanh(3); o almost 0.
    let bias = [0.0, (0.9f64 / 0.1).ln(), 3.0, -9.0];
    model.change("rnn.bias_ih_l0", |place, _| if place == 2 * hidden - 1 { 6.0 } else { bias[place / hidden] });
    let found = model.gates();
    let of = |name: &str| found.gates.iter().find(|gate| gate.gate == name).expect("a gate");
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let near =
        |found: f64, want: f64| assert!((found - want).abs() < TOLERANCE * want.max(1.0), "{found} instead of {want}");

    let input = of("input");
    near(input.mean, 0.5);
    assert_eq!((input.low, input.high, input.stuck), (0.0, 0.0, 0));
    assert_eq!(input.histogram[10], 9 * hidden as u64);
    let forget = of("forget");
    assert!(forget.keeps && !input.keeps);
    assert_eq!((forget.low, forget.high, forget.stuck), (0.0, 0.25, 1));
    near(forget.units[0], 0.9);
    near(forget.units[3], sigmoid(6.0));
    let cell = of("cell");
    near(cell.mean, 3f64.tanh());
    assert_eq!((cell.high, cell.stuck), (1.0, hidden));
    assert_eq!((of("output").low, of("output").stuck), (1.0, hidden));

    let state = &found.states[0];
    assert_eq!((state.rows, state.dead), (9, hidden));
    near(state.time_constants[0], -1.0 / 0.9f64.ln());
    assert!((state.time_constants[3] * -sigmoid(6.0).ln() - 1.0).abs() < 1e-3);
    // c after 7 steps of c' = f c + i g in the last unit.
    let f = sigmoid(6.0);
    near(state.largest_cell.expect("an LSTM"), 0.5 * 3f64.tanh() * (1.0 - f.powi(7)) / (1.0 - f));
}

#[test]
fn a_gate_that_is_always_open_remembers_for_ever() {
    let mut model = stepwise::<f32>(RecurrentConfig::new(CellKind::Lstm, 3, 2), &[4]);
    model.change("rnn.bias_ih_l0", |_, _| 40.0);
    assert_eq!(model.gates().states[0].time_constants, [f64::INFINITY; 2]);
}

#[test]
fn every_cell_has_its_gates_and_only_gated_ones_time_constants() {
    for &cell in CellKind::ALL {
        let found = stepwise::<f64>(RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(cell, 2, 3) }, &[4]);
        let found = found.gates();
        assert_eq!(found.gates.len(), 2 * cell.gates());
        assert_eq!(found.states.len(), 2);
        let keeps = found.gates.iter().any(|gate| gate.keeps);
        assert_eq!(found.states[0].time_constants.len(), if keeps { 3 } else { 0 });
        assert_eq!(keeps, cell.has_candidate());
        for gate in &found.gates {
            assert_eq!(gate.histogram.iter().sum::<u64>(), 12, "{}", gate.gate);
        }
    }
}
