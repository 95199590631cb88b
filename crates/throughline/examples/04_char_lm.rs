//! Example 4: a language model, trained and sampled from.
//!
//! A character language model reads a text and predicts at every step how probable each next character is (Mikolov et
//! al. 2010; Graves 2013). Here a GRU learns a short text by heart, by truncated backpropagation through time, and then
//! writes it down.
//!
//!     cargo run --release -p throughline --example 04_char_lm

use throughline::data::{Streams, UNKNOWN, Unit, Vocabulary, VocabularyOptions};
use throughline::engine::{clipping_factor, reduce};
use throughline::nn::sample;
use throughline::prelude::*;

const TEXT: &str = "\
The clock on the wall keeps a count of the day, it adds and forgets in the very same way. A tick is a step and a step \
is a beat, the hand that moves on is the state of the street. What came in the morning is gone before noon, what came \
after supper comes back with the moon. The baker reads flour, the sailor reads sky, the child reads the letters and \
learns to ask why. A gate that stays open lets everything through, a gate that stays shut will hear nothing new. So open \
it partly and close it in part, and carry what matters along in your heart. The error runs backward, from evening to dawn, \
and fades with each hour until it is gone; unless there is something that holds it in place, a line through the day that \
no step can erase.\n";

/// B: the text is cut into this many parallel streams.
const STREAMS: usize = 4;
/// T, the steps of one update. Gradients flow back through no more steps than that; the state is passed on.
const WINDOW: usize = 32;
const EPOCHS: u64 = 80;
const LEARNING_RATE: f64 = 0.005;

fn main() {
    // Characters become numbers: 0 stands for any character that is not in the vocabulary.
    let vocabulary =
        Vocabulary::build(Unit::Char, [TEXT], VocabularyOptions::default()).expect("the text has characters");
    let tokens = vocabulary.encode(TEXT);
    let streams = Streams::new(tokens.clone(), STREAMS, WINDOW).expect("the text is longer than four windows");
    println!("{} characters, {} different ones", tokens.len(), vocabulary.len() - 1);

    // embedding -> GRU -> linear layer over the vocabulary, softmax cross-entropy at every step.
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", vocabulary.len(), 16);
    let gru = Recurrent::new(&mut builder, "rnn", RecurrentConfig::new(CellKind::GruAfter, 16, 128));
    let head = Softmax::new(&mut builder, "head", gru.width(), vocabulary.len());
    let network = embedding.then(gru).ending_in(head, builder);

    let cpu = Cpu::new(2);
    let mut parameters = network.initialise(&Initialise::new(1));
    let mut gradients = network.layout().zeros();
    let mut optimiser = Optimiser::new(Method::Adam(Adam::default()), network.layout().length());
    let mut packed = network.packed(&cpu, &parameters, true);
    let mut workspace = Workspace::default();

    let (mut first_loss, mut last_loss) = (f64::NAN, f64::NAN);
    for epoch in 1..=EPOCHS {
        // An epoch starts at the beginning of every stream, from the initial state.
        let mut state = State::new(&network.state_shape(), STREAMS);
        let mut total = Loss::default();
        for index in 0..streams.steps() {
            let window = streams.step(index);
            let batch = Ragged::even(window.time, streams.batch());

            gradients.fill(0.0);
            let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
            let input = Input { rows: &batch, x: &window.inputs[..], start: Some(&state) };
            let wanted = Wanted::new(&window.targets[..]);
            total += network.learn(weights, input, wanted, Pass::Traced, &mut gradients, &mut workspace);

            // Truncated BPTT (Williams and Peng 1990): the next window starts from the final state of this one
            // and treats it as a constant, so no gradient flows back into the window before.
            network.end(&batch, &workspace, &mut state);

            let norm = reduce::sum_of_squares(cpu.isa, &cpu.threads, &gradients).sqrt();
            let factor = clipping_factor(norm, 1.0);
            optimiser.step(cpu.isa, &cpu.threads, LEARNING_RATE, factor, &mut parameters, &gradients);
            network.pack(&cpu, &parameters, &mut packed);
        }
        last_loss = total.mean();
        if epoch == 1 {
            first_loss = last_loss;
        }
        // The loss is in nats a character. Its exponential is the perplexity: guessing among that many equally
        // probable characters has the same loss.
        if epoch == 1 || epoch % 10 == 0 {
            println!("epoch {epoch:>3}   loss {last_loss:.4}   perplexity {:.3}", last_loss.exp());
        }
    }

    // Generation: read the prompt, sample a character, read that, and so on. The state is all that the model remembers.
    let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
    let mut write = |prompt: &str, length: usize, sampling: Sampling| -> String {
        let mut random = Philox::new(1, Purpose::Sample, 0).stream();
        let mut state = State::new(&network.state_shape(), 1);
        let mut written = vocabulary.encode(prompt);
        for position in 0..written.len() + length - 1 {
            let logits = network.step(weights, &[written[position]], &mut state, &mut workspace);
            let logits = logits.expect("the network reads forward, so it can step");
            if position + 1 == written.len() {
                written.push(sample(logits, &sampling, random.uniform(), Some(UNKNOWN as usize)) as u32);
            }
        }
        vocabulary.decode(&written)
    };

    // Temperature 0 always takes the most probable character. Logits are divided by the temperature, so a high one
    // makes improbable characters more probable.
    const PROMPT: &str = "The clock on";
    let by_heart = write(PROMPT, 150, Sampling { temperature: 0.0, ..Sampling::default() });
    println!("\ntemperature 0:   {by_heart}");
    println!("\ntemperature 1.5: {}", write(PROMPT, 150, Sampling { temperature: 1.5, ..Sampling::default() }));

    let guessing = (vocabulary.len() as f64).ln();
    assert!(first_loss < guessing, "after one epoch it is better than a blind guess, {guessing:.3}");
    assert!(last_loss < 0.1, "the text is known by heart, not at {last_loss} nats a character");
    assert_eq!(by_heart, TEXT[..by_heart.len()], "and can be recited");
}
