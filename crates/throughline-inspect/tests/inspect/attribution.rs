//! Attributions against numerical derivatives, and their sum against what it should be.

use throughline_inspect::{Attribution, Subject, attributions};
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::IGNORED;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::{Softmax, Tagger};
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::{Embedding, Pool, Pooling, Recurrent, RecurrentConfig};
use throughline_nn::module::{Cpu, Layer};
use throughline_nn::network::{Input, Network, Wanted, Weights, Workspace};
use throughline_nn::parameters::Builder;
use throughline_testkit::{assert_close, central_difference};

use crate::common::{CLASSES, Model, numbers, stepwise};

const INPUT: usize = 3;
const LENGTHS: [usize; 4] = [6, 0, 9, 1];

fn config(cell: CellKind) -> RecurrentConfig {
    RecurrentConfig { layers: 2, bidirectional: true, ..RecurrentConfig::new(cell, INPUT, 4) }
}

fn assert_complete(name: &str, found: &Attribution) {
    assert!(found.complete, "{name}: {} instead of {}", found.sum(), found.difference());
    assert_ne!(found.difference(), 0.0, "{name}");
}

/// The last step's log-likelihood of one sequence whose input is `x`.
fn last_step(model: &Model<f64, Recurrent>, x: &[f64], target: u32) -> f64 {
    let rows = Ragged::even(x.len() / INPUT, 1);
    let mut targets = vec![IGNORED; rows.rows()];
    *targets.last_mut().unwrap() = target;
    let input = Input::new(&rows, x);
    -model.network.evaluate(model.weights(), input, Wanted::new(&targets), &mut Workspace::default()).sum
}

#[test]
fn parts_are_derivatives_and_add_up_for_every_cell() {
    for &cell in CellKind::ALL {
        let model = stepwise::<f64>(config(cell), &LENGTHS);
        let all = attributions(model.subject());
        assert_eq!(all.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true]);
        let mut of_sequence = vec![Vec::new(); LENGTHS.len()];
        let mut target = [0; LENGTHS.len()];
        model.rows.for_each_row(|row, sequence, _| {
            of_sequence[sequence].extend_from_slice(&model.x[row * INPUT..][..INPUT]);
            target[sequence] = model.targets[row];
        });
        for ((found, x), target) in all.iter().zip(&of_sequence).zip(target) {
            let Some(found) = found else { continue };
            assert_complete(cell.name(), found);
            assert_close("f(x)", &[found.value], &[last_step(&model, x, target)], 1e-12);
            assert_close("f(0)", &[found.baseline], &[last_step(&model, &vec![0.0; x.len()], target)], 1e-12);
            // How f changes when the vector of a step is made longer.
            let longer = |lengths: &[f64]| {
                let x: Vec<f64> = x.iter().enumerate().map(|(place, x)| x * lengths[place / INPUT]).collect();
                last_step(&model, &x, target)
            };
            let derivative = central_difference(longer, &mut vec![1.0; x.len() / INPUT], 1e-5);
            assert_close(cell.name(), &found.gradient_input, &derivative, 1e-8);
            // Columns are the parts of the same sums.
            let sums: Vec<f64> =
                (0..found.integrated.len()).map(|t| found.columns.iter().map(|column| column[t]).sum()).collect();
            assert_eq!(found.columns.len(), INPUT);
            assert_close("columns", &sums, &found.integrated, 1e-12);
        }
    }
}

#[test]
fn a_sequence_has_the_same_parts_alone() {
    let together = stepwise::<f64>(config(CellKind::Lstm), &[6, 9]);
    let found = attributions(together.subject());
    let mut alone = stepwise::<f64>(config(CellKind::Lstm), &[9]);
    let mut rows = Vec::new();
    together.rows.for_each_row(|row, sequence, _| rows.extend((sequence == 1).then_some(row)));
    alone.x = rows.iter().flat_map(|row| &together.x[row * INPUT..][..INPUT]).copied().collect();
    alone.targets = rows.iter().map(|&row| together.targets[row]).collect();
    assert_eq!(attributions(alone.subject())[0], found[1]);
}

/// Runs tokens through an embedding and `rest`.
fn of_tokens<B, H>(
    build: impl FnOnce(&mut Builder, Embedding) -> (B, H),
    targets_for: impl FnOnce(&Ragged) -> Vec<u32>,
) -> Vec<Option<Attribution>>
where
    B: Layer + throughline_inspect::ReadsVectors<f64, Input = [u32]>,
    H: Layer + throughline_inspect::Explained<f64, Target = [u32]>,
{
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", 7, INPUT);
    let (body, head) = build(&mut builder, embedding);
    let network: Network<B, H> = Network::new(body, head, builder);
    let initial = network.initialise(&Initialise::new(3));
    let jitter: Vec<f64> = numbers(2, initial.len());
    let parameters: Vec<f64> = initial.iter().zip(jitter).map(|(x, y)| f64::from(*x) + 0.3 * y).collect();
    let cpu = Cpu::new(1);
    let packed = network.packed(&cpu, &parameters, true);
    let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
    let rows = Ragged::new(&LENGTHS);
    let x: Vec<u32> = (0..rows.rows() as u32).map(|row| row * 5 % 7).collect();
    let targets = targets_for(&rows);
    attributions(Subject { network: &network, weights, rows: &rows, x: &x[..], targets: &targets[..] })
}

#[test]
fn embedded_tokens_that_are_pooled_or_tagged_add_up_too() {
    let recurrent = |builder: &mut Builder| Recurrent::new(builder, "rnn", config(CellKind::GruAfter));
    let width = 2 * 4;
    for pooling in Pooling::ALL {
        let pooled = |builder: &mut Builder, embedding: Embedding| {
            let recurrent = recurrent(builder);
            let pool = Pool::of(builder, "pool", recurrent, pooling);
            let head = Softmax::new(builder, "head", width, CLASSES);
            (embedding.then(pool), head)
        };
        for found in of_tokens(pooled, |rows| vec![1; rows.batch()]).iter().flatten() {
            assert_complete("pooled", found);
            assert!(found.columns.is_empty());
        }
    }
    for crf in [false, true] {
        let tagged = |builder: &mut Builder, embedding: Embedding| {
            let recurrent = recurrent(builder);
            (embedding.then(recurrent), Tagger::new(builder, "head", width, CLASSES, crf))
        };
        for found in of_tokens(tagged, |rows| vec![2; rows.rows()]).iter().flatten() {
            assert_complete("tagged", found);
        }
    }
}
