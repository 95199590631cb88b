//! The Transformer: against a plain one in f64, all derivatives, the same bits alone, in steps, after any cut, on any threads.

use crate::common::{
    Batch, Model, Numbers, assert_close_tensors, check_gradients, numbers_of, packed, panic_of, standalone, training,
};
use throughline_kernels::Element;
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::{Embedding, Transformer, TransformerConfig};
use throughline_nn::parameters::{Builder, Layout};
use throughline_nn::standalone::Standalone;
use throughline_nn::{Error, Layer, Network, Pass, State};
use throughline_testkit::{assert_close, assert_same_bits};

/// Sums of the same terms in another order, in f64.
const TOLERANCE: f64 = 1e-12;
const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;

const CONFIG: TransformerConfig =
    TransformerConfig { layers: 2, heads: 2, width: 6, feed_forward: 7, most_steps: 9, dropout: 0.2 };
const LENGTHS: [usize; 5] = [2, 0, 4, 1, 4];

/// A language model: embedding, Transformer, softmax.
pub type Reader = Chain<Embedding, Transformer>;

pub fn network(config: &TransformerConfig, vocabulary: usize) -> Network<Reader, Softmax> {
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", vocabulary, config.width);
    let transformer = Transformer::of(&mut builder, "transformer", config);
    let head = Softmax::new(&mut builder, "head", config.width, vocabulary);
    embedding.then(transformer).ending_in(head, builder)
}

fn alone<E: Element>(config: &TransformerConfig, threads: usize) -> Standalone<Transformer, E> {
    let mut builder = Builder::new();
    let transformer = Transformer::of(&mut builder, "t", config);
    standalone(transformer, builder, threads, 0.8)
}

fn rows(resets: bool) -> Ragged {
    let mut rows = Ragged::new(&LENGTHS);
    if resets {
        rows.set_resets(|sequence, t| (sequence + 2 * t) % 5 < 2);
    }
    rows
}

/// Streams that have seen up to five steps, of which some have not begun.
fn started<E: Element>(module: &mut Standalone<Transformer, E>) -> State<E> {
    let (rows, width) = (Ragged::new(&[3, 2, 5, 1, 0]), module.module().width());
    let x = Numbers::new(5).draw::<E>(rows.rows() * width, 1.5);
    let mut state = module.run(&rows, &x, None).last;
    state.reset_where(&[false, false, false, true, true]);
    state
}

/// The layer of a plain Transformer in f64, by the names of its parameters.
struct Plain<'a> {
    layout: &'a Layout,
    parameters: &'a [f64],
}

impl Plain<'_> {
    fn tensor(&self, name: &str) -> &[f64] {
        let id = self.layout.find(name).unwrap_or_else(|| panic!("there is a parameter {name}"));
        self.layout.view(self.parameters, id)
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (weight, bias) = (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")));
        let rows = weight.chunks(x.len()).zip(bias);
        rows.map(|(weight, bias)| bias + weight.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (weight, bias) = (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")));
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        x.iter().zip(weight).zip(bias).map(|((x, w), b)| w * (x - mean) / (variance + 1e-5).sqrt() + b).collect()
    }

    /// One sequence of rows.
    fn run(&self, config: &TransformerConfig, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (width, d) = (config.width, config.width / config.heads);
        let code = |p: usize, i: usize| {
            let angle = p as f64 / 10_000f64.powf((i / 2 * 2) as f64 / width as f64);
            if i.is_multiple_of(2) { angle.sin() } else { angle.cos() }
        };
        let gelu = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
        let mut x: Vec<Vec<f64>> =
            x.iter().enumerate().map(|(p, x)| (0..width).map(|i| x[i] + code(p, i)).collect()).collect();
        let add = |x: &mut Vec<f64>, y: Vec<f64>| x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        for layer in 0..config.layers {
            let name = |part: &str| format!("t.layers.{layer}.{part}");
            let qkv: Vec<Vec<f64>> =
                x.iter().map(|x| self.linear(&name("self_attn.in_proj"), &self.norm(&name("norm1"), x))).collect();
            for (t, x) in x.iter_mut().enumerate() {
                let mut y = Vec::new();
                for head in 0..config.heads {
                    let part = |t: usize, which: usize| &qkv[t][which * width + head * d..][..d];
                    let dot = |j: usize| part(t, 0).iter().zip(part(j, 1)).map(|(q, k)| q * k).sum::<f64>();
                    let weights: Vec<f64> = (0..=t).map(|j| (dot(j) / (d as f64).sqrt()).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    y.extend((0..d).map(|i| (0..=t).map(|j| weights[j] / total * part(j, 2)[i]).sum::<f64>()));
                }
                add(x, self.linear(&name("self_attn.out_proj"), &y));
            }
            for x in &mut x {
                let up = self.linear(&name("linear1"), &self.norm(&name("norm2"), x));
                add(x, self.linear(&name("linear2"), &up.into_iter().map(gelu).collect::<Vec<_>>()));
            }
        }
        x.iter().map(|x| self.norm("t.norm", x)).collect()
    }
}

#[test]
fn it_is_what_the_definition_says() {
    for config in [CONFIG, TransformerConfig { layers: 1, heads: 3, width: 9, ..CONFIG }] {
        let (mut module, rows) = (alone::<f64>(&config, 1), rows(false));
        let x = Numbers::new(3).draw::<f64>(rows.rows() * config.width, 1.5);
        let got = module.run(&rows, &x, None).output;
        let plain = Plain { layout: module.layout(), parameters: module.parameters() };
        for sequence in 0..LENGTHS.len() {
            let mut own = Vec::new();
            rows.for_each_row(|row, of, _| own.extend((of == sequence).then_some(row)));
            let take = |array: &[f64]| -> Vec<Vec<f64>> {
                own.iter().map(|&row| array[row * config.width..][..config.width].to_vec()).collect()
            };
            assert_close("output", &take(&got).concat(), &plain.run(&config, &take(&x)).concat(), TOLERANCE);
        }
    }
}

/// Of a whole network: embedding, blocks, normalisation, softmax.
#[test]
fn the_gradient_of_every_parameter() {
    let batch = Batch::<f64>::tagged(6, 6, &[3, 0, 5, 1]);
    let mut model = Model::<f64, _>::new(network(&CONFIG, 6), 1, 4, 0.7);
    for (pass, how) in [(Pass::Traced, "without dropout"), (training(9), "with dropout")] {
        let mut got = model.network.layout().zeros();
        batch.learn(&mut model, pass, &mut got);
        let want = model.differences(DIFFERENCE_STEP, |model| {
            let mut unused = model.network.layout().zeros();
            batch.learn(model, pass, &mut unused).mean()
        });
        let what = format!("{how}: gradient");
        assert_close_tensors(&what, model.network.layout(), &got, &want, DIFFERENCE_TOLERANCE);
    }
}

/// Also of the input and of the cache that a pass starts from, across boundaries.
#[test]
fn all_derivatives() {
    for resets in [false, true] {
        let mut module = alone::<f64>(&TransformerConfig { layers: 1, ..CONFIG }, 1);
        let (start, rows) = (started(&mut module), rows(resets));
        let x = Numbers::new(3).draw::<f64>(rows.rows() * CONFIG.width, 1.5);
        for pass in [Pass::Traced, training(2)] {
            module.set_pass(pass);
            check_gradients(&format!("resets {resets}, {pass:?}"), &mut module, &rows, &x, None);
            check_gradients(&format!("resets {resets}, {pass:?}, from a state"), &mut module, &rows, &x, Some(&start));
        }
    }
}

#[test]
fn the_same_bits_on_any_threads() {
    let config = TransformerConfig { heads: 3, width: 33, feed_forward: 50, most_steps: 100, ..CONFIG };
    let batch = Batch::<f32>::tagged(11, 11, &[70, 3, 0, 41, 100, 9]);
    let run = |threads| {
        let mut model = Model::<f32, _>::new(network(&config, 11), threads, 4, 0.3);
        let mut gradients = model.network.layout().zeros();
        let loss = batch.learn(&mut model, training(1), &mut gradients);
        (loss.sum, batch.logits(&mut model), gradients)
    };
    let want = run(1);
    for threads in 2..=3 {
        let got = run(threads);
        assert_eq!(got.0, want.0, "{threads} threads");
        assert_same_bits("logits", &got.1, &want.1);
        assert_same_bits("gradients", &got.2, &want.2);
    }
}

#[test]
fn a_text_has_the_same_bits_alone() {
    let mut model = Model::<f32, _>::new(network(&CONFIG, 6), 1, 4, 0.7);
    let texts: Vec<Vec<u32>> = LENGTHS.iter().map(|&length| Numbers::new(length as u64).tokens(length, 6)).collect();
    let batch = Batch::<f32>::of_texts(&texts, &[]);
    let together = batch.logits(&mut model);
    for (sequence, text) in texts.iter().enumerate() {
        let mut want = Vec::new();
        packed(&texts).0.for_each_row(|row, of, _| {
            if of == sequence {
                want.extend_from_slice(&together[row * 6..][..6]);
            }
        });
        let got = Batch::<f32>::of_texts(std::slice::from_ref(text), &[]).logits(&mut model);
        assert_same_bits("a text alone", &got, &want);
    }
}

/// Streams read a step at a time, from caches of different lengths, write and end in the same bits as whole sequences.
#[test]
fn steps_have_the_bits_of_the_sequence() {
    for most_steps in [9, 200] {
        let mut module = alone::<f32>(&TransformerConfig { most_steps, ..CONFIG }, 2);
        let rows = Ragged::even(4, LENGTHS.len());
        let x = Numbers::new(3).draw::<f32>(rows.rows() * CONFIG.width, 1.5);
        let mut state = started(&mut module);
        let whole = module.run(&rows, &x, Some(&state));
        let per_step = LENGTHS.len() * CONFIG.width;
        for (x, want) in x.chunks(per_step).zip(whole.output.chunks(per_step)) {
            assert_same_bits("a step", module.step(x, &mut state).expect("there is room"), want);
        }
        assert_eq!(state, whole.last);
    }
}

/// Windows that hand their state on have the bits of the whole, and their gradients add up to its.
#[test]
fn cut_anywhere() {
    for cut in [1, 3, 6] {
        let mut module = alone::<f64>(&CONFIG, 1);
        let (streams, steps, width) = (3, 7, CONFIG.width);
        let whole_rows = Ragged::even(steps, streams);
        let x = Numbers::new(3).draw::<f64>(whole_rows.rows() * width, 1.5);
        let dy = Numbers::new(4).draw::<f64>(x.len(), 1.0);
        let whole = module.run(&whole_rows, &x, None);
        let want_dx = module.backward(&whole_rows, &x, None, Some(&dy), None).x;
        let want = module.gradients().to_vec();
        module.clear_gradients();

        let at = cut * streams * width;
        let [first, second] = [cut, steps - cut].map(|steps| Ragged::even(steps, streams));
        let begun = module.run(&first, &x[..at], None);
        let ended = module.run(&second, &x[at..], Some(&begun.last));
        assert_same_bits("outputs", &[begun.output, ended.output].concat(), &whole.output);
        assert_eq!(ended.last, whole.last);
        let of_second = module.backward(&second, &x[at..], Some(&begun.last), Some(&dy[at..]), None);
        module.run(&first, &x[..at], None);
        let of_first = module.backward(&first, &x[..at], None, Some(&dy[..at]), Some(&of_second.start));
        assert_close("dx", &[of_first.x, of_second.x].concat(), &want_dx, TOLERANCE);
        let layout = module.layout().clone();
        assert_close_tensors("gradient", &layout, module.gradients(), &want, TOLERANCE);
    }
}

/// A run with boundaries is that of its documents, each from the beginning.
#[test]
fn nothing_is_seen_across_a_boundary() {
    let mut module = alone::<f32>(&CONFIG, 1);
    let (mut rows, width) = (Ragged::even(7, 1), CONFIG.width);
    rows.set_resets(|_, t| t == 2 || t == 6);
    let x = Numbers::new(3).draw::<f32>(7 * width, 1.5);
    let whole = module.run(&rows, &x, None);
    for document in [0..2, 2..6, 6..7] {
        let x = &x[document.start * width..document.end * width];
        let alone = module.run(&Ragged::even(document.len(), 1), x, None);
        assert_same_bits("a document", &alone.output, &whole.output[document.start * width..document.end * width]);
        if document.end == 7 {
            assert_eq!(numbers_of(&alone.last), numbers_of(&whole.last));
        }
    }
}

#[test]
fn the_state_after_some_steps() {
    let mut model = Model::<f32, _>::new(network(&CONFIG, 6), 1, 4, 0.7);
    let batch = Batch::<f32>::window(6, 5, 3, 0);
    let mut state = model.state(3);
    for steps in 1..=5 {
        let (network, weights, workspace) = model.borrowed();
        let mut gradients = network.layout().zeros();
        network.learn(weights, batch.input(), batch.wanted(), Pass::Traced, &mut gradients, workspace);
        let mut after = State::new(&network.state_shape(), 3);
        network.state_after(&batch.rows, steps, workspace, &mut after);
        let tokens = &batch.tokens[(steps - 1) * 3..steps * 3];
        network.step(weights, tokens, &mut state, workspace).expect("there is room");
        assert_eq!(after, state, "after {steps} steps");
    }
}

#[test]
fn no_more_steps_than_it_was_made_for() {
    let mut model = Model::<f32, _>::new(network(&CONFIG, 6), 1, 4, 0.7);
    let mut state = model.state(2);
    let (network, weights, workspace) = model.borrowed();
    let bytes: Vec<usize> = (0..9)
        .map(|_| {
            network.step(weights, &[1, 2], &mut state, workspace).expect("there is room");
            state.bytes()
        })
        .collect();
    // Counts of positions and two blocks; keys and values of two blocks for two streams.
    assert_eq!(bytes, [4 * (3 * 2 + 2 * 2 * 2 * 9 * 6); 9]);
    let error = network.step(weights, &[1, 2], &mut state, workspace).expect_err("there is no room");
    let module = "transformer.positions".to_owned();
    assert_eq!(error, Error::TooLong { module, stream: 0, most: 9 });
    let message = "the module `transformer.positions` sees at most 9 steps, and stream 0 has seen them all: end the stream, or \
                   make the module for more";
    assert_eq!(error.to_string(), message);
    state.reset_where(&[true, true]);
    network.step(weights, &[1, 2], &mut state, workspace).expect("there is room again");

    let mut module = alone::<f32>(&CONFIG, 1);
    let message = panic_of(|| module.run(&Ragged::new(&[3, 10]), &[0.5; 13 * 6], None));
    assert_eq!(message, "sequence 1 would see 10 steps, but `t.positions` was made for at most 9");
}

/// A cache grows by 64 rows at a time.
#[test]
fn the_state_grows_with_what_it_remembers() {
    let config = TransformerConfig { layers: 1, most_steps: 150, ..CONFIG };
    let mut model = Model::<f32, _>::new(network(&config, 6), 1, 4, 0.7);
    let mut state = model.state(1);
    let (network, weights, workspace) = model.borrowed();
    for position in 1..=150usize {
        network.step(weights, &[3], &mut state, workspace).expect("there is room");
        let rows = position.next_multiple_of(64).min(150);
        assert_eq!(state.bytes(), 4 * (2 + 2 * rows * 6), "after {position} steps");
    }
}
