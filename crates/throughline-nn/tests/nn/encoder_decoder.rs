//! An encoder and a decoder composed by hand: the decoder starts from the final state of the encoder, and the gradient
//! of that start is the gradient of the encoder's final state.

use crate::common::{Numbers, assert_close_tensors};
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, for_each_cell};
use throughline_nn::chain::Chain;
use throughline_nn::heads::{HeadCall, Softmax};
use throughline_nn::layers::{Embedding, Recurrent, RecurrentConfig};
use throughline_nn::module::{Call, Gradients};
use throughline_nn::parameters::{Builder, Layout};
use throughline_nn::{Context, Cpu, Head, Layer, Loss, Module, Pass, State};
use throughline_testkit::{assert_close, central_difference};

const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;
const F32_TOLERANCE: f64 = 1e-5;

const INPUT: usize = 3;
const HIDDEN: usize = 4;
const VOCABULARY: usize = 6;

struct Translator {
    encoder: Recurrent,
    decoder: Chain<Embedding, Recurrent>,
    head: Softmax,
    layout: Layout,
}

/// Pairs of sequences: numbers to read, tokens to write.
struct Pairs<E> {
    sources: Ragged,
    x: Vec<E>,
    targets: Ragged,
    /// What the decoder reads, and what it is to write.
    tokens: Vec<u32>,
    next: Vec<u32>,
}

impl Translator {
    fn new(cell: CellKind) -> Self {
        let mut builder = Builder::new();
        let encoder = Recurrent::new(&mut builder, "encoder", RecurrentConfig::new(cell, INPUT, HIDDEN));
        let embedding = Embedding::new(&mut builder, "embedding", VOCABULARY, 5);
        let decoder = embedding.then(Recurrent::new(&mut builder, "decoder", RecurrentConfig::new(cell, 5, HIDDEN)));
        let head = Softmax::new(&mut builder, "head", HIDDEN, VOCABULARY);
        Self { encoder, decoder, head, layout: builder.into_layout() }
    }

    fn packed<E: Element, M: Module<E>>(&self, module: &M, cpu: &Cpu, parameters: &[E]) -> M::Packed {
        let mut packed = module.packed(cpu.isa, true);
        module.pack(cpu, &self.layout, parameters, &mut packed);
        packed
    }

    fn learn<E: Element>(&self, parameters: &[E], pairs: &Pairs<E>, gradients: &mut [E]) -> Loss {
        let Self { encoder, decoder, head, layout } = self;
        let cpu = &Cpu::new(1);
        let context = Context { cpu, layout, parameters, pass: Pass::Traced };
        let packed = self.packed(encoder, cpu, parameters);
        let read: Call<E, Recurrent> =
            Call { context, packed: &packed, rows: &pairs.sources, x: &pairs.x, start: None };
        let mut read_tape = Default::default();
        encoder.forward(read, &mut read_tape);
        // The decoder's arrays are the encoder's under other names.
        let mut bridge = State::new(&decoder.state_shape(), pairs.sources.batch());
        encoder.end(&pairs.sources, &read_tape, bridge.arrays_mut());
        bridge.begin();

        let (packed, start) = (self.packed(decoder, cpu, parameters), Some(bridge.start()));
        let write: Call<E, Chain<Embedding, Recurrent>> =
            Call { context, packed: &packed, rows: &pairs.targets, x: &pairs.tokens[..], start };
        let mut write_tape = Default::default();
        decoder.forward(write, &mut write_tape);
        let (rows, y) = decoder.output(&pairs.targets, &write_tape);
        let mut packed = Head::<E>::packed(head, cpu.isa, true);
        head.pack(cpu, layout, parameters, &mut packed);
        let (scored, mut dy) = (0..rows.rows(), vec![E::ZERO; y.len()]);
        let normaliser = Head::<E>::weight(head, scored.clone(), &pairs.next[..]);
        let call = HeadCall { context, packed: &packed, rows, x: y, scored };
        let loss = head.learn(call, &pairs.next, normaliser, &mut dy, gradients, &mut Default::default());

        let mut d_bridge = State::new(&decoder.state_shape(), pairs.sources.batch());
        let (dy, d_start) = (Some(&mut dy[..]), Some(d_bridge.arrays_mut()));
        let back = Gradients { dy, d_end: None, dx: None, d_start, parameters: &mut *gradients };
        decoder.backward(write, back, &mut write_tape);
        let d_end = Some(d_bridge.arrays());
        let back = Gradients { dy: None, d_end, dx: None, d_start: None, parameters: gradients };
        encoder.backward(read, back, &mut read_tape);
        loss
    }
}

fn pairs<E: Element>() -> Pairs<E> {
    let mut numbers = Numbers::new(2);
    // The longest source goes with a short target: each side sorts its sequences in its own way. One source is empty.
    let (sources, targets) = (Ragged::new(&[2, 5, 0, 3]), Ragged::new(&[4, 1, 2, 3]));
    let x = numbers.draw(sources.rows() * INPUT, 1.5);
    let mut tokens = || numbers.tokens(targets.rows(), VOCABULARY);
    Pairs { sources, x, tokens: tokens(), next: tokens(), targets }
}

fn check(cell: CellKind) {
    let translator = Translator::new(cell);
    let layout = &translator.layout;
    let parameters = Numbers::new(3).parameters::<f64>(layout, 0.8);
    let learn = |parameters: &[f64]| {
        let mut gradients = layout.zeros();
        let loss = translator.learn(parameters, &pairs(), &mut gradients);
        (loss, gradients)
    };
    let (loss, got) = learn(&parameters);
    assert_eq!(loss.weight, 10.0);
    let want = central_difference(|p| learn(p).0.mean(), &mut parameters.to_vec(), DIFFERENCE_STEP);
    assert_close_tensors("gradient", layout, &got, &want, DIFFERENCE_TOLERANCE);
    for name in ["encoder.weight_ih_l0", "encoder.weight_hh_l0", "encoder.bias_ih_l0"] {
        let gradient = layout.view(&got, layout.find(name).expect("the encoder's"));
        assert!(gradient.iter().any(|&x| x != 0.0), "the gradient goes through the bridge to {name}");
    }

    let single: Vec<f32> = parameters.iter().map(|&x| x as f32).collect();
    let mut gradients = layout.zeros::<f32>();
    let loss_in_single = translator.learn(&single, &pairs(), &mut gradients);
    assert_close("loss in f32", &[loss_in_single.mean()], &[loss.mean()], F32_TOLERANCE);
    assert_close("gradient in f32", &gradients, &got, F32_TOLERANCE);
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(#[test]
        fn $name() {
            check(CellKind::$cell);
        })*
    };
}
for_each_cell!(stamp);
