//! Example 6: a tag for each word, for words that were never seen.
//!
//! Names stand in a text, and their tags say where each begins (B) and goes on (I); all other words are outside (O). Names
//! have a capital letter. After a first name, which ends in "o", the next name is its surname; any other name stands alone:
//!
//!     the   letter  from  Baro  Kelin  Tamur  arrived
//!     O     O       O     B     I      B      O
//!
//! Nearly every word of the texts is new, so the network reads its characters; and whether a name goes on depends on the one
//! before it, so the network reads sentences, and their tags are chosen together (Lample et al. 2016):
//!
//!     word   = [embedding[word]; last states of a bidirectional LSTM over its characters]     [N, I]
//!     h      = bidirectional LSTM(word)                                                       [N, 2H]
//!     scores = W h + b, and transitions[previous tag, tag]
//!     loss   = -ln P(tags) of a conditional random field
//!
//!     cargo run --release -p throughline --example 06_tagger

use throughline::engine::{Stream, clipping_factor, reduce};
use throughline::nn::{Constraints, Crf, WordRows, Words};
use throughline::prelude::*;

const TAGS: [&str; 3] = ["O", "B", "I"];
const OUTSIDE: u32 = 0;
const BEGINS: u32 = 1;
const GOES_ON: u32 = 2;

/// The words that the network knows by heart; 0 stands for all others.
const FREQUENT: [&str; 5] = ["", "the", "from", "to", "and"];
const CHARACTERS: usize = 128;

const BATCH: usize = 16;
const UPDATES: u64 = 150;
const LEARNING_RATE: f64 = 0.01;

fn main() {
    let mut builder = Builder::new();
    let bidirectional =
        |input, hidden| RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, input, hidden) };
    let embedding = Embedding::new(&mut builder, "embedding", FREQUENT.len(), 8);
    let characters = Embedding::new(&mut builder, "characters", CHARACTERS, 16);
    let reader = Recurrent::new(&mut builder, "character_rnn", bidirectional(16, 16));
    let reader = Pool::of(&mut builder, "character_pool", reader, Pooling::LastStates);
    let words = Words::new(embedding, Some(characters.then(reader)));
    let lstm = Recurrent::new(&mut builder, "rnn", bidirectional(words.width(), 32));
    let head = Crf::new(&mut builder, "head", lstm.width(), TAGS.len());
    let network = words.then(lstm).ending_in(head, builder);

    let cpu = Cpu::new(2);
    let mut parameters = network.initialise(&Initialise { forget_bias: 1.0, ..Initialise::new(1) });
    let mut gradients = network.layout().zeros();
    let mut optimiser = Optimiser::new(Method::Adam(Adam::default()), network.layout().length());
    let mut packed = network.packed(&cpu, &parameters, true);
    let mut workspace = Workspace::default();
    println!("{} parameters\n", network.layout().parameter_count());

    let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
    for update in 1..=UPDATES {
        let batch = Batch::new(&(0..BATCH).map(|_| sentence(&mut random)).collect::<Vec<_>>());
        gradients.fill(0.0);
        let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
        let (input, wanted) = (Input::new(&batch.rows, &batch.words), Wanted::new(&batch.tags[..]));
        let loss = network.learn(weights, input, wanted, Pass::Traced, &mut gradients, &mut workspace);
        let norm = reduce::sum_of_squares(cpu.isa, &cpu.threads, &gradients).sqrt();
        let factor = clipping_factor(norm, 1.0);
        optimiser.step(cpu.isa, &cpu.threads, LEARNING_RATE, factor, &mut parameters, &gradients);
        network.pack(&cpu, &parameters, &mut packed);
        if update == 1 || update % 25 == 0 {
            println!("update {update:>3}   loss {:.4} nats a word", loss.mean());
        }
    }

    // Sentences that training never saw. A name cannot go on that has not begun, so no such path is looked at.
    let allowed = |from: Option<usize>, to: Option<usize>| {
        to != Some(GOES_ON as usize) || from.is_some_and(|from| from != OUTSIDE as usize)
    };
    let constraints = Constraints::new(TAGS.len(), allowed).expect("every sentence has a path: O, O, O");
    let held_out: Vec<Vec<(String, u32)>> = (0..200).map(|_| sentence(&mut random)).collect();
    let batch = Batch::new(&held_out);
    let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
    network.read(weights, Input::new(&batch.rows, &batch.words), &mut workspace);
    let call = network.head_call(weights, &batch.rows, &workspace.body);
    let decoded = network.head().decode(call, Some(&constraints), &mut workspace.head);

    // The rows of a sentence come in the order of its words.
    let mut chosen: Vec<Vec<u32>> = vec![Vec::new(); held_out.len()];
    batch.rows.for_each_row(|row, sentence, _| chosen[sentence].push(decoded.tags[row]));
    println!();
    for ((word, _), &tag) in held_out[0].iter().zip(&chosen[0]) {
        println!("{}  {word}", TAGS[tag as usize]);
    }
    let right =
        held_out.iter().zip(&chosen).filter(|(sentence, chosen)| sentence.iter().map(|(_, tag)| tag).eq(chosen.iter()));
    let share = right.count() as f64 / held_out.len() as f64;
    println!("\nsentences without a wrong tag: {:.1} %", 100.0 * share);
    assert!(share > 0.95, "only {share} of the sentences were tagged rightly");
}

/// A random sentence of 4 to 10 words with their tags.
fn sentence(random: &mut Stream) -> Vec<(String, u32)> {
    let mut sentence: Vec<(String, u32)> = Vec::new();
    for _ in 0..4 + random.below(7) {
        let goes_on = sentence.last().is_some_and(|(word, tag)| *tag == BEGINS && word.ends_with('o'));
        let (word, tag) = match random.below(4) {
            _ if goes_on => (name(random), GOES_ON),
            0 | 1 => (name(random), BEGINS),
            2 => (FREQUENT[1 + random.below(FREQUENT.len() - 1)].to_owned(), OUTSIDE),
            _ => (letters(random), OUTSIDE),
        };
        sentence.push((word, tag));
    }
    sentence
}

/// A first name, in "o", or another.
fn name(random: &mut Stream) -> String {
    let word = letters(random);
    let ending = if random.below(2) == 0 { "o" } else { "n" };
    word[..1].to_uppercase() + &word[1..] + ending
}

/// Three to six small letters.
fn letters(random: &mut Stream) -> String {
    (0..3 + random.below(4)).map(|_| char::from(b'a' + random.below(26) as u8)).collect()
}

/// Sentences as packed rows.
struct Batch {
    rows: Ragged,
    words: WordRows,
    tags: Vec<u32>,
}

impl Batch {
    fn new(sentences: &[Vec<(String, u32)>]) -> Self {
        let rows = Ragged::new(&sentences.iter().map(Vec::len).collect::<Vec<_>>());
        let (mut tokens, mut spellings, mut tags) = (Vec::new(), Vec::new(), Vec::new());
        rows.for_each_row(|_, sentence, t| {
            let (word, tag) = &sentences[sentence][t];
            tokens.push(FREQUENT.iter().position(|frequent| frequent == word).unwrap_or(0) as u32);
            spellings.push(word.bytes().map(u32::from).collect::<Vec<_>>());
            tags.push(*tag);
        });
        // Each word has a spelling of its own here; words that are written alike could share one.
        let spelling_of: Vec<u32> = (0..tokens.len() as u32).collect();
        let spellings: Vec<&[u32]> = spellings.iter().map(Vec::as_slice).collect();
        let mut words = WordRows::default();
        words.set(&tokens, &spelling_of, &spellings);
        Self { rows, words, tags }
    }
}
