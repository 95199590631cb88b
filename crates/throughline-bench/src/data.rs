//! What the models learn from: random tokens and targets.

use std::iter::repeat;

use anyhow::{Result, bail};
use throughline_infer::tasks::classify::Batch;
use throughline_kernels::random::Stream;
use throughline_kernels::sequence::Ragged;
use throughline_nn::network::{Input, Wanted};

use crate::record::Record;
use crate::workload::Setup;

/// PyTorch's target of a step without one.
const NO_TARGET: i64 = -100;

/// The data of a model.
pub trait Data {
    /// New tokens and targets.
    fn draw(&mut self, random: &mut Stream);

    /// What a training step learns from, made ready as the trainer does it in every step.
    fn batch(&mut self) -> (Input<'_, f32, [u32]>, Wanted<'_, [u32]>);

    /// Adds tokens and targets, in the order of the sequences: `tokens` `[B, T]`, 0 where there are none.
    fn describe(&self, record: &mut Record<'_>);
}

/// Whole numbers below `bound`.
fn draw(random: &mut Stream, bound: usize, numbers: &mut [u32]) {
    numbers.iter_mut().for_each(|number| *number = random.below(bound) as u32);
}

/// Sequences with a target at every row: tagged ones, or windows of parallel streams of text.
pub struct Rows {
    vocabulary: usize,
    classes: usize,
    windows: bool,
    rows: Ragged,
    /// `[N]`, packed
    tokens: Vec<u32>,
    targets: Vec<u32>,
}

impl Rows {
    /// Sequences that are tagged.
    pub fn tagged(setup: &Setup) -> Self {
        let rows = Ragged::new(&setup.sizes.lengths);
        let nothing = vec![0; rows.rows()];
        let (vocabulary, classes) = (setup.vocabulary, setup.outputs);
        Self { vocabulary, classes, windows: false, rows, tokens: nothing.clone(), targets: nothing }
    }

    /// Windows of streams, all of one length.
    pub fn windows(setup: &Setup) -> Result<Self> {
        let lengths = &setup.sizes.lengths;
        let [least, most] = [lengths.iter().min(), lengths.iter().max()].map(|length| length.expect("there is one"));
        if least != most {
            bail!(
                "--lengths: expected one length for all streams of a language model, found {least} to {most}; use --time"
            );
        }
        Ok(Self { windows: true, ..Self::tagged(setup) })
    }

    /// Packed rows to `[B, T]`, `padding` where there are none.
    fn by_sequence(&self, of_row: &[u32], padding: i64) -> Vec<i64> {
        let time = self.rows.steps();
        let mut all = vec![padding; self.rows.batch() * time];
        self.rows.for_each_row(|row, sequence, t| all[sequence * time + t] = i64::from(of_row[row]));
        all
    }
}

impl Data for Rows {
    fn draw(&mut self, random: &mut Stream) {
        draw(random, self.vocabulary, &mut self.tokens);
        draw(random, self.classes, &mut self.targets);
    }

    /// Every window is a new batch.
    fn batch(&mut self) -> (Input<'_, f32, [u32]>, Wanted<'_, [u32]>) {
        if self.windows {
            self.rows = Ragged::even(self.rows.steps(), self.rows.batch());
        }
        (Input::new(&self.rows, &self.tokens), Wanted::new(&self.targets))
    }

    fn describe(&self, record: &mut Record<'_>) {
        let shape = [self.rows.batch(), self.rows.steps()];
        record.whole_numbers("tokens", &shape, self.by_sequence(&self.tokens, 0));
        record.whole_numbers("targets", &shape, self.by_sequence(&self.targets, NO_TARGET));
    }
}

/// Sequences with one class each.
pub struct Texts {
    vocabulary: usize,
    classes: usize,
    texts: Vec<Vec<u32>>,
    targets: Vec<u32>,
    batch: Batch,
}

impl Texts {
    pub fn new(setup: &Setup) -> Self {
        let texts: Vec<Vec<u32>> = setup.sizes.lengths.iter().map(|&length| vec![0; length]).collect();
        let (vocabulary, classes, targets) = (setup.vocabulary, setup.outputs, vec![0; texts.len()]);
        Self { vocabulary, classes, texts, targets, batch: Batch::default() }
    }
}

impl Data for Texts {
    fn draw(&mut self, random: &mut Stream) {
        for text in &mut self.texts {
            draw(random, self.vocabulary, text);
        }
        draw(random, self.classes, &mut self.targets);
    }

    /// Packs the texts.
    fn batch(&mut self) -> (Input<'_, f32, [u32]>, Wanted<'_, [u32]>) {
        let texts: Vec<&[u32]> = self.texts.iter().map(Vec::as_slice).collect();
        self.batch.set(&texts);
        (self.batch.input(), Wanted::new(&self.targets))
    }

    fn describe(&self, record: &mut Record<'_>) {
        let time = self.texts.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |text: &Vec<u32>| text.iter().map(|&token| i64::from(token)).chain(repeat(0)).take(time).collect();
        let tokens: Vec<Vec<i64>> = self.texts.iter().map(padded).collect();
        record.whole_numbers("tokens", &[self.texts.len(), time], tokens.concat());
        let targets = self.targets.iter().map(|&target| i64::from(target)).collect();
        record.whole_numbers("targets", &[self.targets.len()], targets);
    }
}
