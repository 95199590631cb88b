//! What it buys to use the same weights at every step: a recurrent network beside the feed-forward one that reads all steps at once.

use throughline_inspect::figures::{Axis, Panel, Sheet};
use throughline_kernels::cells::CellKind;
use throughline_kernels::random::Stream;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::Softmax;
use throughline_nn::initialise::{Initialisation, Initialise};
use throughline_nn::layers::recurrent::Readout;
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::network::Network;

use crate::jobs;
use crate::learner::{Batch, Classifier, Learner, Learning, classifier};
use crate::outcome::{Outcome, Spread, Table, listed};
use crate::problems::{one_hot, packed, random};
use crate::{Bench, Effort, Experiment};

pub const EXPERIMENT: Experiment = Experiment {
    name: "sharing",
    question: "What does it buy to use the same weights at every step?",
    reads_text: false,
    run,
};

/// The words of which each text has one, and the letters around it.
const WORDS: [[usize; 3]; 4] = [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]];
const LETTERS: usize = 6;
/// The most letters of a text in training, the least, and at how many its word may begin there.
const LENGTH: usize = 20;
const SHORTEST: usize = TRAINED + 2;
const TRAINED: usize = 8;
/// Lengths that are tried; the word is anywhere.
const LENGTHS: [usize; 6] = [10, 15, 20, 40, 80, 160];
const RATE: f64 = 0.002;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    FeedForward,
    Recurrent(CellKind),
}

const KINDS: [(&str, Kind); 3] = [
    ("feed-forward network", Kind::FeedForward),
    ("RNN", Kind::Recurrent(CellKind::RnnTanh)),
    ("LSTM", Kind::Recurrent(CellKind::Lstm)),
];

impl Kind {
    /// The feed-forward network is a recurrent layer that makes one step, from a state of zeros, and reads the whole window in
    /// it: the hidden units are tanh(W x + b), and each step has weights of its own.
    fn network(self, hidden: usize) -> Network<Recurrent, Softmax> {
        let config = match self {
            Self::FeedForward => RecurrentConfig::new(CellKind::RnnTanh, LENGTH * LETTERS, hidden),
            // Four gates have as many weights as twice the units.
            Self::Recurrent(CellKind::Lstm) => RecurrentConfig::new(CellKind::Lstm, LETTERS, hidden / 2),
            Self::Recurrent(cell) => RecurrentConfig::new(cell, LETTERS, hidden),
        };
        classifier(config, Readout::LastStates, WORDS.len())
    }

    fn learner(self, hidden: usize, seed: u64) -> Classifier {
        let how = Initialise { recurrent: Initialisation::Orthogonal, forget_bias: 1.0, ..Initialise::new(seed) };
        Learner::new(self.network(hidden), &how, Learning::adam(RATE))
    }

    /// Those that count: recurrent weights and their bias do nothing in a single step from zeros.
    fn parameters(self, hidden: usize) -> usize {
        let all = self.network(hidden).layout().parameter_count();
        if self == Self::FeedForward { all - hidden * (hidden + 1) } else { all }
    }

    /// The texts as it reads them. A window that is too long loses its beginning, one that is too short ends in zeros.
    fn read(self, texts: &Texts) -> Batch<u32> {
        let (rows, x) = match self {
            Self::Recurrent(_) => packed(&texts.steps()),
            Self::FeedForward => {
                let window = |steps: Vec<Vec<f32>>| {
                    let mut window = steps[steps.len().saturating_sub(LENGTH)..].concat();
                    window.resize(LENGTH * LETTERS, 0.0);
                    window
                };
                let x = texts.steps().into_iter().flat_map(window).collect();
                (Ragged::even(1, texts.letters.len()), x)
            }
        };
        Batch { rows, x, targets: texts.words.clone() }
    }
}

/// Texts, and which word each has.
struct Texts {
    letters: Vec<Vec<usize>>,
    words: Vec<u32>,
}

impl Texts {
    /// `count` texts with one word each; `shape` says how many letters each has and where its word begins.
    fn draw(random: &mut Stream, count: usize, shape: impl Fn(&mut Stream) -> [usize; 2]) -> Self {
        let (mut letters, mut words) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (word, [length, place]) = (random.below(WORDS.len()), shape(random));
            // Chance must not write a second one.
            let text = loop {
                let mut text: Vec<usize> = (0..length).map(|_| random.below(LETTERS)).collect();
                text[place..place + 3].copy_from_slice(&WORDS[word]);
                if text.windows(3).filter(|part| WORDS.iter().any(|word| word == part)).count() == 1 {
                    break text;
                }
            };
            letters.push(text);
            words.push(word as u32);
        }
        Self { letters, words }
    }

    fn steps(&self) -> Vec<Vec<Vec<f32>>> {
        let steps = |text: &Vec<usize>| text.iter().map(|&letter| one_hot(LETTERS, letter)).collect();
        self.letters.iter().map(steps).collect()
    }
}

struct Size {
    hidden: usize,
    batch: usize,
    updates: usize,
    tests: usize,
    seeds: u64,
}

impl Size {
    fn of(effort: Effort) -> Self {
        effort.choose(
            Self { hidden: 64, batch: 32, updates: 4000, tests: 400, seeds: 5 },
            Self { hidden: 12, batch: 8, updates: 20, tests: 20, seeds: 1 },
        )
    }
}

/// The accuracy by the place of the word, and by the length of the text.
struct Reached {
    places: Vec<f64>,
    lengths: Vec<f64>,
}

/// How texts are in training.
fn training(random: &mut Stream) -> [usize; 2] {
    [SHORTEST + random.below(LENGTH + 1 - SHORTEST), random.below(TRAINED)]
}

fn learn(kind: Kind, seed: u64, size: &Size) -> Reached {
    let (mut learner, mut data, mut tests) = (kind.learner(size.hidden, seed), random(seed, 0), random(seed, 1));
    for _ in 0..size.updates {
        let texts = Texts::draw(&mut data, size.batch, training);
        learner.learn(&kind.read(&texts));
    }
    let mut accuracy = |texts: Texts| {
        let loss = learner.evaluate(&kind.read(&texts));
        loss.correct / loss.weight
    };
    let places =
        (0..=LENGTH - 3).map(|place| accuracy(Texts::draw(&mut tests, size.tests, |_| [LENGTH, place]))).collect();
    let anywhere = |length: usize| move |random: &mut Stream| [length, random.below(length - 2)];
    let lengths =
        LENGTHS.iter().map(|&length| accuracy(Texts::draw(&mut tests, size.tests, anywhere(length)))).collect();
    Reached { places, lengths }
}

/// What a kind reached, by seed.
type Runs = Vec<Reached>;

fn over_seeds(runs: &Runs, of: impl Fn(&Reached) -> f64) -> Spread {
    Spread::of(&runs.iter().map(of).collect::<Vec<_>>())
}

fn mean(numbers: &[f64]) -> f64 {
    Spread::of(numbers).mean
}

fn trained(runs: &Runs) -> Spread {
    over_seeds(runs, |reached| mean(&reached.places[..TRAINED]))
}

fn shifted(runs: &Runs) -> Spread {
    over_seeds(runs, |reached| mean(&reached.places[TRAINED..]))
}

fn of_length(runs: &Runs, place: usize) -> Spread {
    over_seeds(runs, |reached| reached.lengths[place])
}

fn run(bench: &Bench<'_>) -> Outcome {
    let size = Size::of(bench.effort);
    let jobs: Vec<(Kind, u64)> =
        KINDS.iter().flat_map(|&(_, kind)| (1..=size.seeds).map(move |seed| (kind, seed))).collect();
    let mut reached = jobs::each(bench, &jobs, |&(kind, seed)| learn(kind, seed, &size)).into_iter();
    let reached: [Runs; KINDS.len()] = std::array::from_fn(|_| reached.by_ref().take(size.seeds as usize).collect());
    Outcome {
        name: EXPERIMENT.name,
        question: EXPERIMENT.question,
        setting: format!(
            "Which of four words of three letters is in a text of {LETTERS} letters? In training texts have {SHORTEST} to {LENGTH} letters, and the \
             word begins at one of the first {TRAINED}; {} updates of Adam at {RATE} with {} new texts each, clipped to 1, {} \
             seeds. {} hidden units, the LSTM half as many: the feed-forward network has weights of its own for each of its {LENGTH} steps, loses the \
             beginning of longer texts and reads shorter ones before zeros; the recurrent ones use the same weights at every \
             step. Chance is 0.25.",
            size.updates, size.batch, size.seeds, size.hidden
        ),
        tables: vec![table(&size, &reached)],
        figure: figure(&reached),
        seen: seen(&size, &reached),
    }
}

fn table(size: &Size, reached: &[Runs]) -> Table {
    let head = ["network", "parameters", "words where they were", "words further on"].map(str::to_owned).into_iter();
    let mut table =
        Table::new("Accuracy, mean ± half of the range", head.chain(LENGTHS.map(|length| format!("length {length}"))));
    for ((name, kind), runs) in KINDS.iter().zip(reached) {
        let lengths = (0..LENGTHS.len()).map(|place| of_length(runs, place));
        let accuracies = [trained(runs), shifted(runs)].into_iter().chain(lengths).map(|spread| spread.to_string());
        table.add(name, std::iter::once(kind.parameters(size.hidden).to_string()).chain(accuracies));
    }
    table
}

fn figure(reached: &[Runs]) -> Sheet {
    let panel = |caption: &str, x: Axis, points: &dyn Fn(&Runs) -> Vec<(f64, f64)>| Panel {
        caption: caption.to_owned(),
        x,
        y: Axis::linear("accuracy", 0.0..1.0),
        guides: vec![1.0 / WORDS.len() as f64],
        curves: reached.iter().map(points).enumerate().collect(),
    };
    let by_place = |runs: &Runs| -> Vec<(f64, f64)> {
        (0..=LENGTH - 3).map(|place| (place as f64, over_seeds(runs, |reached| reached.places[place]).mean)).collect()
    };
    let by_length = |runs: &Runs| -> Vec<(f64, f64)> {
        LENGTHS.iter().enumerate().map(|(place, &length)| (length as f64, of_length(runs, place).mean)).collect()
    };
    let places = Axis::linear("first letter of the word", 0.0..(LENGTH - 3) as f64);
    let lengths = Axis::logarithmic("letters of the text", 2.0, LENGTHS[0] as f64..LENGTHS[LENGTHS.len() - 1] as f64);
    Sheet {
        keys: KINDS.map(|(name, _)| name.to_owned()).to_vec(),
        panels: vec![
            panel(&format!("By place (trained: 0 to {})", TRAINED - 1), places, &by_place),
            panel(&format!("By length (trained: {SHORTEST} to {LENGTH})"), lengths, &by_length),
        ],
    }
}

fn seen(size: &Size, reached: &[Runs]) -> Vec<String> {
    let mut said = Vec::new();
    for ((name, kind), runs) in KINDS.iter().zip(reached) {
        let ([before, after], chance) = ([trained(runs).mean, shifted(runs).mean], 1.0 / WORDS.len() as f64);
        let kept = (after - chance) / (before - chance);
        let verdict = match () {
            () if before < 2.0 * chance => "it has hardly learned the words",
            () if kept > 0.9 => "what it learned holds there, too",
            () if kept > 0.5 => "most of what it learned holds there",
            () if kept > 0.1 => "little of what it learned holds there",
            () => "nothing of what it learned holds there",
        };
        said.push(format!(
            "The {name} ({} parameters) finds {before:.3} of the words where training had them and {after:.3} of those \
             further on: {verdict}.",
            kind.parameters(size.hidden)
        ));
    }
    let holds = |runs: &Runs| -> Vec<String> {
        let good = LENGTHS.iter().enumerate().filter(|&(place, _)| of_length(runs, place).mean > 0.9);
        good.map(|(_, length)| length.to_string()).collect()
    };
    for ((name, _), runs) in KINDS.iter().zip(reached) {
        said.push(match &holds(runs)[..] {
            [] => format!("The {name} is right in more than nine of ten texts at no length."),
            lengths => {
                format!("The {name} is right in more than nine of ten texts of {} letters.", listed(lengths))
            }
        });
    }
    vec![said.join(" ")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_one_word_in_its_place() {
        let texts = Texts::draw(&mut random(1, 0), 50, |random| [20, 4 + random.below(2)]);
        for (letters, &word) in texts.letters.iter().zip(&texts.words) {
            let found = |at: &usize| WORDS.iter().any(|word| letters[*at..at + 3] == word[..]);
            let at: Vec<usize> = (0..18).filter(found).collect();
            assert!(at.len() == 1 && (4..6).contains(&at[0]), "{letters:?}");
            assert_eq!(letters[at[0]..at[0] + 3], WORDS[word as usize]);
        }
    }

    #[test]
    fn windows_lose_their_beginning_or_end_in_zeros() {
        let texts = |length| Texts { letters: vec![(0..length).map(|t| t % LETTERS).collect()], words: vec![0] };
        let long = Kind::FeedForward.read(&texts(LENGTH + 1));
        assert_eq!((long.rows.rows(), long.x.len()), (1, LENGTH * LETTERS));
        assert_eq!(long.x[..LETTERS], one_hot(LETTERS, 1));
        let short = Kind::FeedForward.read(&texts(2));
        assert_eq!(short.x.iter().sum::<f32>(), 2.0);
        assert_eq!(short.x[LETTERS..2 * LETTERS], one_hot(LETTERS, 1));
    }

    #[test]
    fn weights_that_do_nothing_are_not_counted() {
        assert_eq!(Kind::FeedForward.parameters(5), 5 * (LENGTH * LETTERS + 1) + 4 * (5 + 1));
    }
}
