//! Example 9: a look inside. What do the gates of a trained LSTM do, and how far back do its gradients reach?
//!
//! The task is made so that the answer is known: one of four letters stands at the beginning, thirty steps of noise follow, and at
//! the end the network says which letter it was. Whoever can do that has kept something for thirty steps. Where?
//!
//! 1. The gradient of the loss with respect to the hidden state k steps before, before and after training.
//! 2. The forget gate of each unit while it reads noise: a unit whose gate is near 1 keeps what it has for 1 / (1 - f) steps.
//! 3. The proof by intervention: another first letter changes the answer, another letter of noise does not.
//!
//!     cargo run --release -p throughline --example 09_inspect

use throughline::engine::{Stream, clipping_factor, reduce};
use throughline::inspect::{Probe, Subject, gate_statistics, gradient_flow, interventions};
use throughline::nn::Readout;
use throughline::prelude::*;

const LETTERS: usize = 4;
const NOISE: usize = 4;
/// One number for each letter and each kind of noise.
const INPUT: usize = LETTERS + NOISE;
/// Steps of noise between the letter and the answer.
const LAG: usize = 30;
const HIDDEN: usize = 24;
const BATCH: usize = 32;
const UPDATES: u64 = 400;

fn main() {
    let mut builder = Builder::new();
    let lstm = RecurrentConfig::new(CellKind::Lstm, INPUT, HIDDEN);
    let lstm = Recurrent::new(&mut builder, "rnn", lstm).with_readout(Readout::LastStates);
    let head = Softmax::new(&mut builder, "head", lstm.width(), LETTERS);
    let network = lstm.ending_in(head, builder);

    let cpu = Cpu::new(1);
    // Forget gates that begin near 1: without that this task is not learned in so few updates. Try 0.
    let mut parameters = network.initialise(&Initialise { forget_bias: 4.0, ..Initialise::new(1) });
    let mut packed = network.packed(&cpu, &parameters, true);
    let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
    let shown = Batch::draw(&mut random, 100);

    println!("before training");
    let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
    let subject =
        Subject { network: &network, weights, rows: &shown.rows, x: &shown.x[..], targets: &shown.letters[..] };
    let open_at_first = look(subject);

    let mut gradients = network.layout().zeros();
    let mut optimiser = Optimiser::new(Method::Adam(Adam::default()), network.layout().length());
    let mut workspace = Workspace::default();
    for _ in 0..UPDATES {
        let batch = Batch::draw(&mut random, BATCH);
        gradients.fill(0.0);
        let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
        let (input, wanted) = (Input::new(&batch.rows, &batch.x[..]), Wanted::new(&batch.letters[..]));
        network.learn(weights, input, wanted, Pass::Traced, &mut gradients, &mut workspace);
        let factor = clipping_factor(reduce::sum_of_squares(cpu.isa, &cpu.threads, &gradients).sqrt(), 1.0);
        optimiser.step(cpu.isa, &cpu.threads, 0.005, factor, &mut parameters, &gradients);
        network.pack(&cpu, &parameters, &mut packed);
    }

    println!("\nafter {UPDATES} updates");
    let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
    let (input, wanted) = (Input::new(&shown.rows, &shown.x[..]), Wanted::new(&shown.letters[..]));
    let reached = network.evaluate(weights, input, wanted, &mut workspace);
    let subject =
        Subject { network: &network, weights, rows: &shown.rows, x: &shown.x[..], targets: &shown.letters[..] };
    let open = look(subject);
    println!("  right answers: {} of {}", reached.correct, reached.weight);
    assert!(reached.correct > 0.95 * reached.weight, "the letter is remembered over {LAG} steps");
    println!(
        "  units that keep what they have for more than {LAG} steps: {open_at_first} before training, {open} after"
    );

    // The letter is the input that was read `LAG` steps before the last; lags are doubled, and none of 1, 2, 4, 8, 16 is it. So each
    // of these effects is one of noise, and the network should have learned to ignore them all.
    let effects = interventions(subject, &shown.x);
    let noise = effects.iter().map(|effect| effect.change.median).fold(0.0, f64::max);
    let letter = effect_of_the_letter(subject, &shown, &mut workspace);
    println!("  change of the answer: {letter:.3} by another letter, at most {noise:.3} by other noise");
    assert!(letter > 2.0 * noise, "what matters is the letter");
}

/// Shows gradients and forget gates; how many units keep their state for more than [`LAG`] steps.
fn look(subject: Subject<'_, f32, Recurrent, Softmax>) -> usize {
    let mut probe = Probe::new(subject, true);
    let gates = gate_statistics(&probe);
    for gate in &gates.gates {
        println!(
            "  {:<7} gate: mean {:5.2}, {:3.0} % near an end",
            gate.gate,
            gate.mean,
            100.0 * (gate.low + gate.high)
        );
    }
    // The time constant of a unit is -1 / mean(ln f).
    let constants = &gates.states[0].time_constants;
    // The whole gradient at each lag, as a share of that at the last step: the median over 100 sequences.
    let flow = &gradient_flow(&mut probe, 1)[0];
    let shown = [0, 1, 5, 10, 20, LAG].map(|lag| format!("{lag}: {:.1e}", flow.lags[lag].relative.median));
    println!("  |dL/dh| by lag   {}", shown.join("   "));
    // An LSTM carries its memory in the cell state, and so its gradient: h is only what it shows of it.
    probe.stacks(&mut |_, tape| {
        let gradients = tape.row_gradients(0).expect("the probe keeps them");
        let rows = subject.rows;
        let norm = |t: usize| {
            let squares = |column: usize| {
                let cell = gradients.cell(0, rows.row(t, column)).expect("an LSTM has a cell state");
                cell.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>()
            };
            (0..rows.batch()).map(squares).sum::<f64>().sqrt()
        };
        let shown = [0, 1, 5, 10, 20, LAG].map(|lag| format!("{lag}: {:.1e}", norm(LAG - lag) / norm(LAG)));
        println!("  |dL/dc| by lag   {}", shown.join("   "));
    });
    constants.iter().filter(|&&steps| steps > LAG as f64).count()
}

/// How much the answers change if each sequence gets the first letter of the next one.
fn effect_of_the_letter(
    subject: Subject<'_, f32, Recurrent, Softmax>,
    shown: &Batch,
    workspace: &mut Workspace<f32, Recurrent, Softmax>,
) -> f64 {
    let Subject { network, weights, rows, .. } = subject;
    let before = network.predict(weights, Input::new(rows, &shown.x[..]), workspace).to_vec();
    let mut changed = shown.x.clone();
    // Packed rows are time-major: the first steps of all sequences come first.
    changed[..rows.batch() * INPUT].rotate_left(INPUT);
    let after = network.predict(weights, Input::new(rows, &changed[..]), workspace);
    let norm = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| x * x).sum::<f32>().sqrt();
    f64::from(norm(&mut before.iter().zip(after).map(|(a, b)| a - b)) / norm(&mut before.iter().copied()))
}

/// Sequences of one letter and then noise.
struct Batch {
    rows: Ragged,
    /// `[N, INPUT]`
    x: Vec<f32>,
    /// `[B]`
    letters: Vec<u32>,
}

impl Batch {
    fn draw(random: &mut Stream, count: usize) -> Self {
        let letters: Vec<u32> = (0..count).map(|_| random.below(LETTERS) as u32).collect();
        let (rows, mut x) = (Ragged::even(LAG + 1, count), Vec::new());
        rows.for_each_row(|_, sequence, t| {
            let place = if t == 0 { letters[sequence] as usize } else { LETTERS + random.below(NOISE) };
            x.extend((0..INPUT).map(|at| if at == place { 1.0 } else { 0.0 }));
        });
        Self { rows, x, letters }
    }
}
