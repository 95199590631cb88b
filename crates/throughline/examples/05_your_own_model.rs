//! Example 5: a model of your own, with a loss of your own, trained and saved.
//!
//! The model reads tokens and predicts a number for each: 1 if the token equals the one before it, otherwise 0. That
//! takes memory.
//!
//!     cargo run --release -p throughline --example 05_your_own_model

use throughline::engine::Stream;
use throughline::prelude::*;

const VOCABULARY: usize = 5;
const UPDATES: usize = 600;

/// Embedding, bidirectional LSTM, linear map. Each is constructed with the width of the one before.
type Own = Chain<Chain<Embedding, Recurrent>, Linear>;

fn own_model(seed: u64) -> Standalone<Own, f32> {
    let mut builder = Builder::new();
    let lstm = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, 8, 16) };
    let embedding = Embedding::new(&mut builder, "embedding", VOCABULARY, 8);
    let lstm = Recurrent::new(&mut builder, "rnn", lstm);
    let linear = Linear::new(&mut builder, "score", lstm.width(), 1);
    Standalone::of(embedding.then(lstm).then(linear), builder, &Initialise::new(seed), Cpu::new(1))
}

/// Half the squared error, summed, and its gradient, which is the error itself.
fn own_loss(problem: &Problem, output: &[f32]) -> (f32, Vec<f32>) {
    let distances: Vec<f32> = output.iter().zip(&problem.wanted).map(|(y, wanted)| y - wanted).collect();
    (distances.iter().map(|d| d * d / 2.0).sum(), distances)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut model = own_model(1);
    let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();

    // The training loop.
    let mut optimiser = Optimiser::new(Method::Adam(Adam::default()), model.layout().length());
    let mut losses = Vec::new();
    for _ in 0..UPDATES {
        let problem = Problem::draw(&mut random);
        let run = model.run(&problem.batch, &problem.tokens, None);
        let (loss, d_output) = own_loss(&problem, &run.output);
        model.backward(&problem.batch, &problem.tokens, None, Some(&d_output), None);
        model.update(&mut optimiser, 0.01, 1.0);
        losses.push(loss);
    }

    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    let (first, last) = (mean(&losses[..20]), mean(&losses[UPDATES - 20..]));
    println!("mean loss of the first 20 updates {first:.3}, of the last 20 {last:.5}");
    assert!(last < 0.1 * first, "it learns to compare a token with the one before: {first} became {last}");

    // The parameters are saved by name, as safetensors, and loaded by a model of the same modules.
    let path = std::env::temp_dir().join(format!("your_own_model-{}.safetensors", std::process::id()));
    std::fs::write(&path, model.to_safetensors())?;
    let mut loaded = own_model(2);
    loaded.load_safetensors(&std::fs::read(&path)?)?;
    std::fs::remove_file(&path)?;

    let problem = Problem::draw(&mut random);
    let answer = |model: &mut Standalone<Own, f32>| model.run(&problem.batch, &problem.tokens, None).output;
    assert_eq!(answer(&mut model), answer(&mut loaded), "the same parameters give the same bits");
    println!("saved, loaded, and the same to the bit");
    Ok(())
}

/// Sequences, and the target of each token.
struct Problem {
    batch: Ragged,
    /// `[N]`
    tokens: Vec<u32>,
    /// `[N]`
    wanted: Vec<f32>,
}

impl Problem {
    /// Three sequences of different lengths. Rows are packed step by step: nothing is computed on padding.
    fn draw(random: &mut Stream) -> Self {
        let lengths = [6, 4, 5];
        let mut sequence = |length| -> Vec<u32> { (0..length).map(|_| random.below(VOCABULARY) as u32).collect() };
        let sequences = lengths.map(&mut sequence);
        let batch = Ragged::new(&lengths);
        let (mut tokens, mut wanted) = (Vec::new(), Vec::new());
        batch.for_each_row(|_, b, t| {
            tokens.push(sequences[b][t]);
            let same = t > 0 && sequences[b][t] == sequences[b][t - 1];
            wanted.push(if same { 1.0 } else { 0.0 });
        });
        Self { batch, tokens, wanted }
    }
}
