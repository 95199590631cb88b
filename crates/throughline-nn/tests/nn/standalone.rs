//! A module with its own parameters: run, backward, update, files.

use crate::common::{Numbers, standalone};
use throughline_kernels::cells::CellKind;
use throughline_kernels::optim::{Method, Optimiser, Sgd};
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::layers::{Linear, Recurrent, RecurrentConfig};
use throughline_nn::parameters::Builder;
use throughline_nn::standalone::{Stack, Standalone};
use throughline_nn::{Error, Layer};
use throughline_testkit::{assert_close, assert_same_bits};

type Tagger = Standalone<Chain<Recurrent, Linear>, f32>;

fn tagger(cell: CellKind, scale: f64) -> Tagger {
    let mut builder = Builder::new();
    let recurrent = Recurrent::new(&mut builder, "rnn", RecurrentConfig::new(cell, 3, 4));
    let linear = Linear::new(&mut builder, "linear", 4, 2);
    standalone(recurrent.then(linear), builder, 1, scale)
}

/// An update is that of the optimiser by the gradient, shortened to the norm that is asked for; then the gradient is 0
/// and the next run uses the new parameters.
#[test]
fn an_update() {
    let (rows, numbers) = (Ragged::new(&[2, 0, 3]), &mut Numbers::new(1));
    let (x, dy) = (numbers.draw::<f32>(15, 1.0), numbers.draw::<f32>(10, 1.0));
    for (clip_norm, shortened) in [(f64::INFINITY, false), (0.125, true)] {
        let mut tagger = tagger(CellKind::Lstm, 0.7);
        let before = tagger.parameters().to_vec();
        let old = tagger.run(&rows, &x, None).output;
        tagger.backward(&rows, &x, None, Some(&dy), None);
        let gradients = tagger.gradients().to_vec();
        let norm = gradients.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 0.125);
        let factor = if shortened { 0.125 / norm } else { 1.0 };
        let sgd = Method::Sgd(Sgd { momentum: 0.0, weight_decay: 0.0 });
        let mut optimiser = Optimiser::new(sgd, tagger.layout().length());
        let returned = tagger.update(&mut optimiser, 0.5, clip_norm);
        assert_close("norm", &[returned], &[norm], 1e-6);
        let want: Vec<f64> =
            before.iter().zip(&gradients).map(|(&p, &g)| f64::from(p) - 0.5 * factor * f64::from(g)).collect();
        assert_close("parameters", tagger.parameters(), &want, 1e-6);
        assert!(tagger.gradients().iter().all(|&x| x == 0.0));
        let new = tagger.run(&rows, &x, None).output;
        assert_ne!(new, old);
        let mut twin = self::tagger(CellKind::Lstm, 0.1);
        twin.set_parameters(|_, to| to.copy_from_slice(tagger.parameters()));
        assert_same_bits("output of a twin", &twin.run(&rows, &x, None).output, &new);
    }
}

/// Training against a loss of one's own lowers it.
#[test]
fn a_loss_of_ones_own_falls() {
    let (rows, numbers) = (Ragged::new(&[4, 2, 3]), &mut Numbers::new(1));
    let (x, want) = (numbers.draw::<f32>(27, 1.0), numbers.draw::<f32>(18, 1.0));
    let mut tagger = tagger(CellKind::GruAfter, 0.5);
    let sgd = Method::Sgd(Sgd { momentum: 0.0, weight_decay: 0.0 });
    let mut optimiser = Optimiser::new(sgd, tagger.layout().length());
    let mut losses = Vec::new();
    for _ in 0..200 {
        let output = tagger.run(&rows, &x, None).output;
        let d: Vec<f32> = output.iter().zip(&want).map(|(y, want)| y - want).collect();
        losses.push(d.iter().map(|d| d * d).sum::<f32>() / 2.0);
        tagger.backward(&rows, &x, None, Some(&d), None);
        tagger.update(&mut optimiser, 0.05, f64::INFINITY);
    }
    assert!(losses[199] < 0.5 * losses[0], "{} of {}", losses[199], losses[0]);
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "a small step never climbs: {losses:?}");
}

#[test]
fn a_module_survives_its_file() {
    let saved = tagger(CellKind::Lstm, 0.7);
    let bytes = saved.to_safetensors();
    let mut loaded = tagger(CellKind::Lstm, 0.1);
    loaded.load_safetensors(&bytes).expect("its own file");
    assert_same_bits("parameters", loaded.parameters(), saved.parameters());
    let (rows, x) = (Ragged::even(2, 2), [0.5; 12]);
    let (mut saved, mut again) = (saved, loaded);
    assert_same_bits("output", &again.run(&rows, &x, None).output, &saved.run(&rows, &x, None).output);
    assert_eq!(again.to_safetensors(), bytes);
}

/// Cells whose parameters look alike are told apart, and what fails changes nothing.
#[test]
fn another_module_is_refused() {
    let bytes = tagger(CellKind::GruBefore, 0.7).to_safetensors();
    let mut other = tagger(CellKind::GruAfter, 0.1);
    let before = other.parameters().to_vec();
    let mut damaged = tagger(CellKind::GruAfter, 0.7).to_safetensors();
    let end = damaged.len();
    damaged[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    for bytes in [&bytes, &damaged] {
        let error = other.load_safetensors(bytes).expect_err("another module, or a damaged file");
        assert!(matches!(error, Error::Weights { .. }), "{error}");
        assert_same_bits("parameters", other.parameters(), &before);
    }
    let error = other.load_safetensors(&bytes).expect_err("another module").to_string();
    assert!(error.contains("gru_before") && error.contains("gru_after"), "{error}");
    let [tanh, relu] = [CellKind::RnnTanh, CellKind::RnnRelu]
        .map(|cell| Stack::<f32>::new(RecurrentConfig::new(cell, 3, 4), 1).to_safetensors());
    let mut stack = Stack::<f32>::new(RecurrentConfig::new(CellKind::RnnTanh, 3, 4), 2);
    assert!(stack.load_safetensors(&tanh).is_ok() && stack.load_safetensors(&relu).is_err());
}

/// A stack of its own has PyTorch's names and begins as a stack of that seed.
#[test]
fn a_stack() {
    let config = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, 3, 4) };
    let stack = Stack::<f64>::new(config, 7);
    assert_eq!(stack.layout().tensors()[4].name(), "weight_ih_l0_reverse");
    assert_same_bits("threads", Stack::<f64>::on_threads(config, 7, 2).parameters(), stack.parameters());
    assert!(stack.parameters().iter().all(|x| x.abs() <= 0.5) && stack.parameters().iter().any(|x| x.abs() > 0.4));
    assert_eq!((stack.config(), stack.module().width()), (&config, 8));
}
