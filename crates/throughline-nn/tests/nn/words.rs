//! Words with their characters: every derivative, the same bits in any batch and step by step, spellings shared or not.

use crate::common::{Numbers, assert_close_tensors, training};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, for_each_cell};
use throughline_nn::chain::Chain;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::{Embedding, Pool, Pooling, Recurrent, RecurrentConfig, WordRows, Words};
use throughline_nn::module::Cpu;
use throughline_nn::network::{Input, Wanted, Weights, Workspace};
use throughline_nn::parameters::Builder;
use throughline_nn::{Layer, Network, Pass};
use throughline_testkit::{assert_close, assert_same_bits, central_difference};

/// Against the five-point difference of the network's own loss in f64, and its step.
const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;
/// Sums of the same terms in another order, in f64.
const SUM_TOLERANCE: f64 = 1e-14;

/// The characters of each word of the vocabulary; one is empty, and two are written alike.
const SPELLINGS: [&[u32]; 5] = [&[0, 1, 2], &[3], &[], &[2, 2, 1, 0], &[3]];
const CLASSES: usize = 3;
/// Unsorted, one empty.
const SENTENCES: [&[u32]; 5] = [&[0, 3], &[], &[4, 1, 1, 2, 0], &[2], &[3, 3, 4]];

type Tagger = Network<Chain<Words, Recurrent>, Softmax>;

fn tagger(cell: CellKind, characters: Option<Pooling>, bidirectional: bool) -> Tagger {
    let builder = &mut Builder::new();
    let embedding = Embedding::new(builder, "words", SPELLINGS.len(), 3);
    let encoder = characters.map(|pooling| {
        let characters = Embedding::new(builder, "characters", 4, 2);
        let config = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(cell, 2, 3) };
        let recurrent = Recurrent::new(builder, "character_rnn", config);
        characters.then(Pool::of(builder, "character_pool", recurrent, pooling))
    });
    let words = Words::new(embedding, encoder).with_dropout(builder, 0.3);
    let config = RecurrentConfig { bidirectional, ..RecurrentConfig::new(CellKind::Lstm, words.width(), 4) };
    let recurrent = Recurrent::new(builder, "rnn", config);
    let head = Softmax::new(builder, "head", recurrent.width(), CLASSES);
    words.then(recurrent).ending_in(head, std::mem::take(builder))
}

/// Sentences as a batch, with a class for each word. Each word has a spelling of its own unless they are `shared`.
fn batch(sentences: &[&[u32]], shared: bool) -> (Ragged, WordRows, Vec<u32>) {
    let rows = Ragged::new(&sentences.iter().map(|sentence| sentence.len()).collect::<Vec<_>>());
    let (mut tokens, mut words) = (Vec::new(), WordRows::default());
    rows.for_each_row(|_, sentence, t| tokens.push(sentences[sentence][t]));
    if shared {
        words.set(&tokens, &tokens, &SPELLINGS);
    } else {
        let spellings: Vec<&[u32]> = tokens.iter().map(|&token| SPELLINGS[token as usize]).collect();
        words.set(&tokens, &(0..tokens.len() as u32).collect::<Vec<_>>(), &spellings);
    }
    let classes = tokens.iter().map(|token| token % CLASSES as u32).collect();
    (rows, words, classes)
}

struct Model<E: Element> {
    network: Tagger,
    cpu: Cpu,
    parameters: Buffer<E>,
    workspace: Workspace<E, Chain<Words, Recurrent>, Softmax>,
}

impl<E: Element> Model<E> {
    fn new(network: Tagger, threads: usize) -> Self {
        let parameters = Numbers::new(5).parameters(network.layout(), 0.8);
        Self { network, cpu: Cpu::new(threads), parameters, workspace: Workspace::default() }
    }

    fn learn(&mut self, (rows, words, classes): &(Ragged, WordRows, Vec<u32>), pass: Pass) -> (f64, Buffer<E>) {
        let mut gradients = self.network.layout().zeros();
        let packed = &self.network.packed(&self.cpu, &self.parameters, true);
        let weights = Weights { cpu: &self.cpu, parameters: &self.parameters, packed };
        let input = Input::new(rows, words);
        let wanted = Wanted::new(&classes[..]);
        let loss = self.network.learn(weights, input, wanted, pass, &mut gradients, &mut self.workspace);
        (loss.mean(), gradients)
    }

    fn logits(&mut self, (rows, words, _): &(Ragged, WordRows, Vec<u32>)) -> Vec<E> {
        let packed = &self.network.packed(&self.cpu, &self.parameters, false);
        let weights = Weights { cpu: &self.cpu, parameters: &self.parameters, packed };
        self.network.predict(weights, Input::new(rows, words), &mut self.workspace).to_vec()
    }
}

fn check_gradients(cell: CellKind) {
    for pooling in [None].into_iter().chain(Pooling::ALL.map(Some)) {
        for pass in [Pass::Traced, training(3)] {
            let mut model = Model::<f64>::new(tagger(cell, pooling, true), 1);
            let batch = batch(&SENTENCES, true);
            let (_, got) = model.learn(&batch, pass);
            let mut parameters = model.parameters.to_vec();
            let want = central_difference(
                |parameters| {
                    model.parameters.copy_from_slice(parameters);
                    model.learn(&batch, pass).0
                },
                &mut parameters,
                DIFFERENCE_STEP,
            );
            let name = format!("words, {cell:?}, {pooling:?}, {pass:?}");
            assert_close_tensors(&name, model.network.layout(), &got, &want, DIFFERENCE_TOLERANCE);
        }
    }
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        mod derivatives {
            use super::*;
            $(#[test] fn $name() { check_gradients(CellKind::$cell); })*
        }
    };
}
for_each_cell!(stamp);

#[test]
fn a_spelling_read_once_or_word_by_word_is_the_same() {
    let mut model = Model::<f64>::new(tagger(CellKind::GruAfter, Some(Pooling::LastStates), true), 1);
    let (once, each) = (batch(&SENTENCES, true), batch(&SENTENCES, false));
    assert_same_bits("logits", &model.logits(&once), &model.logits(&each));
    let (loss, gradient) = model.learn(&once, Pass::Traced);
    let (same_loss, same_gradient) = model.learn(&each, Pass::Traced);
    assert_same_bits("loss", &[loss], &[same_loss]);
    assert_close("gradients", &gradient, &same_gradient, SUM_TOLERANCE);
}

#[test]
fn a_sentence_alone_has_the_bits_of_any_batch() {
    let mut model = Model::<f32>::new(tagger(CellKind::Lstm, Some(Pooling::Attention), true), 2);
    let together = batch(&SENTENCES, true);
    let logits = model.logits(&together);
    for (index, sentence) in SENTENCES.iter().enumerate() {
        let alone = model.logits(&batch(&[sentence], true));
        let mut want = vec![Vec::new(); sentence.len()];
        together.0.for_each_row(|row, sequence, t| {
            if sequence == index {
                want[t] = logits[row * CLASSES..][..CLASSES].to_vec();
            }
        });
        assert_same_bits(&format!("sentence {index}"), &alone, &want.concat());
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let learned = |threads| {
        let mut model = Model::<f32>::new(tagger(CellKind::Lstm, Some(Pooling::LastStates), true), threads);
        model.learn(&batch(&SENTENCES, true), training(1))
    };
    let (loss, gradient) = learned(1);
    for threads in [2, 3] {
        let (same_loss, same_gradient) = learned(threads);
        assert_same_bits("loss", &[loss], &[same_loss]);
        assert_same_bits(&format!("gradients on {threads} threads"), &same_gradient, &gradient);
    }
}

#[test]
fn word_by_word_has_the_bits_of_the_sentence() {
    let network = tagger(CellKind::GruBefore, Some(Pooling::Mean), false);
    let mut model = Model::<f32>::new(network, 1);
    let sentence: &[u32] = &[4, 1, 1, 2, 0];
    let whole = model.logits(&batch(&[sentence], true));
    let mut state = throughline_nn::State::new(&model.network.state_shape(), 1);
    let packed = &model.network.packed(&model.cpu, &model.parameters, false);
    let weights = Weights { cpu: &model.cpu, parameters: &model.parameters, packed };
    for (word, want) in sentence.iter().zip(whole.chunks(CLASSES)) {
        let (_, words, _) = batch(&[&[*word]], true);
        let got = model.network.step(weights, &words, &mut state, &mut model.workspace).expect("it reads forward");
        assert_same_bits("a word", got, want);
    }
}

#[test]
#[should_panic(expected = "every word is written in one of 5 spellings")]
fn a_spelling_that_is_not_there() {
    WordRows::default().set(&[0], &[5], &SPELLINGS);
}

#[test]
#[should_panic(expected = "one word for each packed row")]
fn fewer_words_than_rows() {
    let mut model = Model::<f32>::new(tagger(CellKind::Lstm, None, true), 1);
    let (_, words, classes) = batch(&SENTENCES, true);
    model.logits(&(Ragged::new(&[3]), words, classes));
}
