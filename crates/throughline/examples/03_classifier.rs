//! Example 3: a classifier, from the parameters to a trained model.
//!
//! The task is temporal order (Hochreiter and Schmidhuber 1997, task 6a): a sequence of meaningless letters has two
//! markers somewhere, each an X or a Y. Which of XX, XY, YX and YY is it? The letters alone cannot tell XY from YX; the
//! network has to remember what came first.
//!
//! The network is the one that most tutorials build:
//!
//!     x      = embedding[tokens]                            [N, I]      a row of numbers for each letter
//!     h      = bidirectional LSTM(x)                        [N, 2H]     one state per letter and direction
//!     logits = W [last forward state, last reverse state] + b           [B, classes]
//!     loss   = mean of -log softmax(logits)[class]
//!
//!     cargo run --release -p throughline --example 03_classifier

use throughline::engine::{Stream, clipping_factor, reduce};
use throughline::prelude::*;

/// Letters 0 to 5 mean nothing, 6 is X and 7 is Y.
const VOCABULARY: usize = 8;
const MARKERS: [u32; 2] = [6, 7];
const CLASSES: [&str; 4] = ["XX", "XY", "YX", "YY"];

/// The length of the longest sequence.
const LONGEST: usize = 30;
const BATCH: usize = 32;
const UPDATES: u64 = 200;
const LEARNING_RATE: f64 = 0.005;

fn main() {
    // The model: modules in sequence, and a head, which has the loss. Each adds its parameters to the
    // builder. D·H = 2 · 32 columns come out of the LSTM; the pooling takes the final state of each direction.
    let mut builder = Builder::new();
    let lstm = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, 16, 32) };
    let embedding = Embedding::new(&mut builder, "embedding", VOCABULARY, 16);
    let lstm = Recurrent::new(&mut builder, "rnn", lstm);
    let last_states = Pool::of(&mut builder, "pool", lstm, Pooling::LastStates);
    let head = Softmax::new(&mut builder, "head", last_states.width(), CLASSES.len());
    let network = embedding.then(last_states).ending_in(head, builder);

    // A network only describes its parameters. The parameters themselves belong to us, all in one buffer, and so do
    // their gradients, the optimiser's moments, the packed weights that the kernels read, and the working memory.
    let cpu = Cpu::new(2);
    let mut parameters = network.initialise(&Initialise { forget_bias: 1.0, ..Initialise::new(1) });
    let mut gradients = network.layout().zeros();
    let mut optimiser = Optimiser::new(Method::Adam(Adam::default()), network.layout().length());
    let mut packed = network.packed(&cpu, &parameters, true);
    let mut workspace = Workspace::default();
    for tensor in network.layout().tensors() {
        println!("{:<26} {:?}", tensor.name(), tensor.shape());
    }
    println!("{} parameters\n", network.layout().parameter_count());

    // Sequences that training never sees.
    let mut held_out = Problems::new(2);
    held_out.draw(500);

    let mut problems = Problems::new(1);
    let mut first_loss = f64::NAN;
    for update in 1..=UPDATES {
        problems.draw(BATCH);

        // 1. Gradients accumulate, so they start at 0.
        gradients.fill(0.0);
        // 2. Forward and backward: the loss, and its gradient with respect to every parameter. If a module had
        //    dropout, this pass would apply it, with masks of this update.
        let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
        let (input, wanted) = (Input::new(&problems.batch, &problems.tokens[..]), Wanted::new(&problems.classes[..]));
        let pass = Pass::Training(Philox::new(1, Purpose::Dropout, update));
        let loss = network.learn(weights, input, wanted, pass, &mut gradients, &mut workspace);
        // 3. Clip the global norm of the gradient to 1, then one step of Adam.
        let norm = reduce::sum_of_squares(cpu.isa, &cpu.threads, &gradients).sqrt();
        let factor = clipping_factor(norm, 1.0);
        optimiser.step(cpu.isa, &cpu.threads, LEARNING_RATE, factor, &mut parameters, &gradients);
        // 4. The weights have changed: pack them anew.
        network.pack(&cpu, &parameters, &mut packed);

        if update == 1 {
            first_loss = loss.mean();
        }
        if update == 1 || update % 20 == 0 {
            let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
            let (input, wanted) =
                (Input::new(&held_out.batch, &held_out.tokens[..]), Wanted::new(&held_out.classes[..]));
            let reached = network.evaluate(weights, input, wanted, &mut workspace);
            println!(
                "update {update:>3}   training loss {:.4}   held-out loss {:.4}, accuracy {:.3}",
                loss.mean(),
                reached.mean(),
                accuracy(reached)
            );
        }
    }

    // An untrained network knows nothing: its loss is about that of a fair guess among four, ln 4.
    assert!((first_loss - 4f64.ln()).abs() < 0.2, "the first loss was {first_loss}");

    let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
    let (input, wanted) = (Input::new(&held_out.batch, &held_out.tokens[..]), Wanted::new(&held_out.classes[..]));
    let reached = network.evaluate(weights, input, wanted, &mut workspace);
    assert!(accuracy(reached) > 0.98, "accuracy on sequences it never saw: {}", accuracy(reached));

    // One sequence, longer than any in training, from tokens to an answer.
    let mut question = [0; 40];
    (question[3], question[35]) = (MARKERS[1], MARKERS[0]);
    let one = Ragged::new(&[question.len()]);
    let logits = network.predict(weights, Input::new(&one, &question[..]), &mut workspace);
    let best = (0..CLASSES.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("there are classes");
    println!("\nY at step 3 and X at step 35: {}", CLASSES[best]);
    assert_eq!(CLASSES[best], "YX");
}

fn accuracy(loss: Loss) -> f64 {
    loss.correct / loss.weight
}

/// Random sequences with their classes.
struct Problems {
    random: Stream,
    batch: Ragged,
    /// `[N]`: packed step by step, as the batch says.
    tokens: Vec<u32>,
    /// `[B]`
    classes: Vec<u32>,
}

impl Problems {
    fn new(seed: u64) -> Self {
        let random = Philox::new(seed, Purpose::Benchmark, 0).stream();
        Self { random, batch: Ragged::default(), tokens: Vec::new(), classes: Vec::new() }
    }

    /// `count` new sequences of 10 to [`LONGEST`] letters, each of its own length: the batch is ragged.
    fn draw(&mut self, count: usize) {
        let random = &mut self.random;
        self.classes.clear();
        let mut sequences: Vec<Vec<u32>> = Vec::new();
        for _ in 0..count {
            let length = 10 + random.below(LONGEST - 9);
            let mut letters: Vec<u32> = (0..length).map(|_| random.below(6) as u32).collect();
            let first = random.below(length - 1);
            let second = first + 1 + random.below(length - 1 - first);
            let (a, b) = (random.below(2), random.below(2));
            (letters[first], letters[second]) = (MARKERS[a], MARKERS[b]);
            self.classes.push((2 * a + b) as u32);
            sequences.push(letters);
        }
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        self.batch.set(&lengths);
        self.tokens.clear();
        self.batch.for_each_row(|_, sequence, t| self.tokens.push(sequences[sequence][t]));
    }
}
