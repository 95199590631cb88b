//! Example 2: how a recurrent network learns, and why that is hard.
//!
//! Backpropagation through time (Werbos 1990) over three steps of a vanilla RNN, written in plain Rust and compared
//! with the engine. Then sixty steps: how the gradient vanishes or explodes on its way back (Bengio et al. 1994), how
//! an LSTM keeps it, and what clipping does and does not do (Pascanu et al. 2013).
//!
//!     cargo run --release -p throughline --example 02_bptt_by_hand

use throughline::engine::{clipping_factor, reduce};
use throughline::nn::initialise;
use throughline::prelude::*;

fn main() {
    three_steps_by_hand();
    sixty_steps();
    clipping();
}

// --- Three steps by hand ---------------------------------------------------------------------------------------------

/// H, and also the number of steps here: T = 3.
const UNITS: usize = 2;
const STEPS: usize = 3;

type Vector = [f64; UNITS];
type Matrix = [[f64; UNITS]; UNITS];

fn three_steps_by_hand() {
    // One number is read at each step, so W_ih is a column. The loss is the squared distance of every hidden state from
    // a target: L = sum over t of |h_t - target_t|² / 2.
    let (w_ih, b): (Vector, Vector) = ([0.5, -0.8], [0.1, -0.2]);
    let w_hh: Matrix = [[0.4, -0.6], [0.7, 0.3]];
    let x = [1.0, -0.5, 0.25];
    let target: [Vector; STEPS] = [[0.2, -0.1], [0.0, 0.3], [-0.4, 0.5]];

    // Forward: h_t = tanh(W_ih x_t + W_hh h_(t-1) + b), from h_(-1) = 0. All states are kept: the backward pass needs
    // them.
    let mut h = [[0.0; UNITS]; STEPS + 1];
    for t in 0..STEPS {
        for i in 0..UNITS {
            let recurrent: f64 = (0..UNITS).map(|j| w_hh[i][j] * h[t][j]).sum();
            h[t + 1][i] = (w_ih[i] * x[t] + recurrent + b[i]).tanh();
        }
    }

    // Backward: `dh` is the gradient of L with respect to h_t. Two terms add up to it: that of the loss at step t
    // itself, and that of step t + 1, which read h_t through W_hh. The same weights act at every step, so their
    // gradients are sums.
    let (mut d_w_ih, mut d_b, mut d_w_hh) = ([0.0; UNITS], [0.0; UNITS], [[0.0; UNITS]; UNITS]);
    let mut from_next_step = [0.0; UNITS];
    for t in (0..STEPS).rev() {
        let dh: Vector = std::array::from_fn(|i| (h[t + 1][i] - target[t][i]) + from_next_step[i]);
        // Through tanh: with a = tanh(p), da/dp = 1 - a².
        let dp: Vector = std::array::from_fn(|i| dh[i] * (1.0 - h[t + 1][i] * h[t + 1][i]));
        for i in 0..UNITS {
            d_w_ih[i] += dp[i] * x[t];
            d_b[i] += dp[i];
            for j in 0..UNITS {
                d_w_hh[i][j] += dp[i] * h[t][j];
            }
        }
        // To the step before, through the transpose of W_hh.
        from_next_step = std::array::from_fn(|j| (0..UNITS).map(|i| w_hh[i][j] * dp[i]).sum());
    }

    // The engine, in f64, with the same weights. b_hh is 0; its gradient is that of b_ih, as the two are only ever
    // added.
    let mut stack = Stack::<f64>::new(RecurrentConfig::new(CellKind::RnnTanh, 1, UNITS), 1);
    stack.set_parameters(|layout, parameters| {
        let values = [
            ("weight_ih_l0", &w_ih[..]),
            ("weight_hh_l0", w_hh.as_flattened()),
            ("bias_ih_l0", &b),
            ("bias_hh_l0", &[0.0; 2]),
        ];
        for (name, value) in values {
            let id = layout.find(name).expect("an RNN has this tensor");
            layout.view_mut(parameters, id).copy_from_slice(value);
        }
    });
    let batch = Ragged::new(&[STEPS]);
    let run = stack.run(&batch, &x, None);
    let dy: Vec<f64> = run.output.iter().zip(target.as_flattened()).map(|(h, target)| h - target).collect();
    stack.backward(&batch, &x, None, Some(&dy), None);

    println!("gradient       by hand                engine");
    let compared = [
        ("weight_ih_l0", &d_w_ih[..]),
        ("weight_hh_l0", d_w_hh.as_flattened()),
        ("bias_ih_l0", &d_b),
        ("bias_hh_l0", &d_b),
    ];
    for (name, by_hand) in compared {
        let id = stack.layout().find(name).expect("an RNN has this tensor");
        for (hand, engine) in by_hand.iter().zip(stack.layout().view(stack.gradients(), id)) {
            println!("{name:<14} {hand:>20.16}   {engine:>20.16}");
            assert!((hand - engine).abs() < 1e-14, "the two are the same derivative up to rounding");
        }
    }
}

// --- Sixty steps -----------------------------------------------------------------------------------------------------

const LENGTH: usize = 60;
const HIDDEN: usize = 32;

/// A network to inspect.
struct Subject {
    letter: char,
    name: &'static str,
    stack: Stack<f32>,
}

/// W_hh is `gain` times an orthogonal matrix: without the activation, each step back would multiply every gradient by
/// exactly `gain` (Saxe et al. 2014). An LSTM gets `forget_bias` on its forget gates.
fn subject(letter: char, name: &'static str, cell: CellKind, gain: f32, forget_bias: f32) -> Subject {
    let mut stack = Stack::<f32>::new(RecurrentConfig::new(cell, 1, HIDDEN), 3);
    stack.set_parameters(|layout, parameters| {
        let id = layout.find("weight_hh_l0").expect("every cell has one");
        initialise::orthogonal(3, layout, id, parameters);
        layout.view_mut(parameters, id).iter_mut().for_each(|w| *w *= gain);
        for name in ["bias_ih_l0", "bias_hh_l0"] {
            let id = layout.find(name).expect("there are biases");
            layout.view_mut(parameters, id).fill(0.0);
        }
        if let Some(gate) = cell.gate("forget") {
            // Each gate has a block of H biases.
            let id = layout.find("bias_ih_l0").expect("there are biases");
            layout.view_mut(parameters, id)[gate * HIDDEN..][..HIDDEN].fill(forget_bias);
        }
    });
    Subject { letter, name, stack }
}

/// The inputs: small random numbers.
fn noise() -> Vec<f32> {
    let mut random = Philox::new(5, Purpose::Benchmark, 0).stream();
    (0..LENGTH).map(|_| random.uniform() as f32 - 0.5).collect()
}

fn sixty_steps() {
    let mut subjects = [
        subject('s', "RNN, tanh, small weights (gain 0.7)", CellKind::RnnTanh, 0.7, 0.0),
        subject('l', "RNN, tanh, large weights (gain 2)", CellKind::RnnTanh, 2.0, 0.0),
        subject('r', "RNN, relu, large weights (gain 2)", CellKind::RnnRelu, 2.0, 0.0),
        subject('0', "LSTM (gain 0.5), forget bias 0", CellKind::Lstm, 0.5, 0.0),
        subject('4', "LSTM (gain 0.5), forget bias 4", CellKind::Lstm, 0.5, 4.0),
    ];
    let norms: Vec<Vec<f64>> = subjects.iter_mut().map(|subject| gradient_norms(&mut subject.stack)).collect();

    println!("\nNorm of the gradient of the last hidden state's sum with respect to the state after step t");
    plot(&subjects, &norms);
    println!("\n                                        after step {:>2}     after step 0", LENGTH - 1);
    for (subject, norms) in subjects.iter().zip(&norms) {
        let (last, first) = (norms[LENGTH - 1], norms[0]);
        println!("{}  {:<36} {last:>12.1e}   {first:>14.1e}", subject.letter, subject.name);
    }

    // Each step back multiplies by W_hh and by the slope of the activation. tanh' is at most 1, so a gain of 0.7 cannot
    // hold the gradient: 0.7^59 is 7e-10.
    let shrink = |index: usize| norms[index][0] / norms[index][LENGTH - 1];
    assert!(shrink(0) < 1e-9, "small weights: the gradient vanishes");
    // Large weights make it grow. tanh has a slope near 0 where units saturate; relu has slope 1 for every active unit.
    assert!(shrink(1) > 1e2, "large weights: the gradient explodes");
    assert!(shrink(2) > 1e6, "relu: it explodes without bound");
    // In an LSTM the cell state is multiplied by the forget gate alone, and the products only add to that path.
    // sigmoid(0)^59 = 2e-18 but sigmoid(4)^59 = 0.34: the bias decides how far back an untrained LSTM can learn
    // (Jozefowicz et al. 2015).
    assert!(shrink(3) < 1e-9, "half of it is forgotten at each step");
    assert!((0.1..100.0).contains(&shrink(4)), "the cell state keeps the gradient over all sixty steps");
}

/// The norm of dL/d(state after step t) for every t, where L is the sum of the last hidden state's elements.
///
/// The engine returns the gradient of the state that a run was *given*. So the sequence is cut after step t: the steps
/// before it only compute the state, those after it are backpropagated through. Cutting changes no bit of either.
fn gradient_norms(stack: &mut Stack<f32>) -> Vec<f64> {
    let x = noise();
    let mut ones = stack.new_state(1);
    ones.arrays_mut()[0].values_mut().fill(1.0);
    let cut = |t: usize| {
        let before = stack.run(&Ragged::new(&[t + 1]), &x[..=t], None).last;
        let rest = Ragged::new(&[LENGTH - t - 1]);
        stack.run(&rest, &x[t + 1..], Some(&before));
        norm_of(&stack.backward(&rest, &x[t + 1..], Some(&before), None, Some(&ones)).start)
    };
    (0..LENGTH).map(cut).collect()
}

fn norm(x: &[f32]) -> f64 {
    reduce::sum_of_squares(Isa::detect(), Threads::ONE, x).sqrt()
}

/// The norm of all numbers of a state: the hidden state and, for an LSTM, the cell state.
fn norm_of(state: &State<f32>) -> f64 {
    state.arrays().iter().map(|array| norm(array.values())).fold(0.0, f64::hypot)
}

/// A row for every second power of ten, a column for each step, a letter for each subject. Values outside the range are
/// drawn at its edges.
fn plot(subjects: &[Subject], norms: &[Vec<f64>]) {
    let (highest, lowest) = (8, -12);
    let row_of = |norm: f64| ((f64::from(highest) - norm.log10()) / 2.0).round().clamp(0.0, 10.0) as usize;
    let mut rows = vec![vec![' '; LENGTH]; ((highest - lowest) / 2 + 1) as usize];
    for (subject, norms) in subjects.iter().zip(norms) {
        for (t, &norm) in norms.iter().enumerate() {
            rows[row_of(norm)][t] = subject.letter;
        }
    }
    for (index, row) in rows.iter().enumerate() {
        println!("  1e{:+03} |{}", highest - 2 * index as i32, row.iter().collect::<String>());
    }
    println!("        +{}", "-".repeat(LENGTH));
    println!("         t = 0{:>1$}", format!("t = {}", LENGTH - 1), LENGTH - 5);
}

// --- Clipping --------------------------------------------------------------------------------------------------------

/// One step of gradient descent on the exploding network, with and without clipping.
fn clipping() {
    const LEARNING_RATE: f64 = 1e-3;
    const LIMIT: f64 = 1.0;
    let fresh = || subject('r', "", CellKind::RnnRelu, 1.6, 0.0).stack;
    let (batch, x) = (Ragged::new(&[LENGTH]), noise());

    // L = |h_T|² / 2, the gradient of h_T is h_T itself.
    let mut stack = fresh();
    let last = stack.run(&batch, &x, None).last;
    let before = loss(&last);
    stack.backward(&batch, &x, None, None, Some(&last));
    let gradient = norm(stack.gradients());
    // The whole gradient is shortened to the limit by one factor. Its direction stays; so do the shares of early and
    // late steps in it. Clipping helps against exploding gradients and not against vanishing ones: a gradient below the
    // limit is left alone.
    let factor = clipping_factor(gradient, LIMIT);
    assert_eq!(clipping_factor(1e-9, LIMIT), 1.0);

    println!("\nrelu RNN (gain 1.6): loss {before:.3e}, norm of the gradient of all parameters {gradient:.3e}");
    let [plain, clipped] = [1.0, factor].map(|factor| {
        let mut parameters = stack.parameters().to_vec();
        let mut sgd = Optimiser::new(Method::Sgd(Sgd { momentum: 0.0, weight_decay: 0.0 }), parameters.len());
        sgd.step(Isa::detect(), Threads::ONE, LEARNING_RATE, factor, &mut parameters, stack.gradients());
        let mut moved = fresh();
        moved.set_parameters(|_, to| to.copy_from_slice(&parameters));
        loss(&moved.run(&batch, &x, None).last)
    });
    println!(
        "after one step of SGD with learning rate {LEARNING_RATE}: plain {plain:.3e}, clipped to {LIMIT} {clipped:.3e}"
    );
    assert!(gradient > 10.0 * LIMIT, "there is something to clip");
    assert!((gradient * factor - LIMIT).abs() < 1e-3, "clipping brings the norm to the limit");
    assert!(clipped < before, "a short step downhill goes down");
    assert!(plain > before || plain.is_nan(), "a step in proportion to an exploded gradient lands somewhere worse");
}

fn loss(last: &State<f32>) -> f64 {
    0.5 * norm_of(last).powi(2)
}
