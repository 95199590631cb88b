//! From series of numbers to what a network reads, in the same way for training, evaluation and prediction.

use serde::{Deserialize, Serialize};
use throughline_data::{MissingNumbers, Scale};
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::layers::{Pool, Pooling, Recurrent};
use throughline_nn::network::Input;
use throughline_nn::parameters::Builder;

use crate::batches::like_length;
use crate::config::{ConfigError, RecurrentSettings, Regularisation};
use crate::error::{Error, Result};
use crate::serve::{Runner, Sample, Serve};

/// The most numbers that a series may take in memory: 256 MiB of f32.
const MOST_NUMBERS: usize = 1 << 26;

/// A channel of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// How its numbers are scaled.
    pub scale: Scale,
}

/// Scales the numbers of series, and makes something of missing ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesEncoder {
    /// The C channels in their order.
    pub channels: Vec<Channel>,
    /// What is made of missing numbers.
    pub missing: MissingNumbers,
}

impl SeriesEncoder {
    /// I, the features of a step: C, or 2 C where masks stand beside the channels.
    pub fn features(&self) -> usize {
        let masks = if self.missing == MissingNumbers::Mask { 2 } else { 1 };
        masks * self.channels.len()
    }

    /// The names of the features of a step; `a ?` is the mask of channel `a`.
    pub fn columns(&self) -> Vec<String> {
        let names = || self.channels.iter().map(|channel| channel.name.clone());
        match self.missing {
            MissingNumbers::Mask => names().chain(names().map(|name| name + " ?")).collect(),
            MissingNumbers::Forward | MissingNumbers::Refuse => names().collect(),
        }
    }

    /// Checks what comes from a file; `input` is what the stack reads.
    ///
    /// # Errors
    /// Names the key, its range and its value.
    pub(crate) fn check(&self, input: usize) -> std::result::Result<(), ConfigError> {
        check_channels("channels", &self.channels)?;
        if self.features() != input {
            let expected = format_args!("{}, the features of the channels", self.features());
            return Err(ConfigError::new("recurrent.input", expected, input));
        }
        Ok(())
    }

    /// What a network reads, `[T, I]`, of a series `[T, C]` in which NaN stands for a missing number.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no step, or no number in any; if a number is missing and the model was trained to refuse
    /// that; or if one is too far from those of the training split for 32 bits.
    ///
    /// # Panics
    /// If the length is not a multiple of C.
    pub fn encode(&self, values: &[f64]) -> Result<Vec<f32>> {
        let channels = self.channels.len();
        assert_eq!(values.len() % channels, 0, "a series is [T, {channels}]");
        if values.iter().all(|value| value.is_nan()) {
            let found = if values.is_empty() { "none" } else { "only missing ones" };
            return Err(Error::Input { expected: "a series with numbers".to_owned(), found: found.to_owned() });
        }
        let mut features = Vec::with_capacity(values.len() / channels * self.features());
        let means = self.channels.iter().map(|channel| self.scaled(channel, channel.scale.mean));
        let means = means.collect::<Result<Vec<f32>>>()?;
        let mut last = means.clone();
        for (step, values) in values.chunks(channels).enumerate() {
            for (((channel, value), mean), last) in self.channels.iter().zip(values).zip(&means).zip(&mut last) {
                if !value.is_nan() {
                    *last = self.scaled(channel, *value)?;
                    features.push(*last);
                    continue;
                }
                features.push(match self.missing {
                    MissingNumbers::Mask => *mean,
                    MissingNumbers::Forward => *last,
                    MissingNumbers::Refuse => {
                        let expected = "no missing numbers, since the model was trained with data.missing = \"refuse\"";
                        let found = format!("one in channel {:?} at step {}", channel.name, step + 1);
                        return Err(Error::Input { expected: expected.to_owned(), found });
                    }
                });
            }
            if self.missing == MissingNumbers::Mask {
                features.extend(values.iter().map(|value| if value.is_nan() { 0.0 } else { 1.0 }));
            }
        }
        Ok(features)
    }

    fn scaled(&self, channel: &Channel, value: f64) -> Result<f32> {
        let scaled = channel.scale.apply(value) as f32;
        if scaled.is_finite() {
            return Ok(scaled);
        }
        let expected = format!("numbers of channel {:?} near those of the training data", channel.name);
        Err(Error::Input { expected, found: value.to_string() })
    }

    /// Reads a series `[T, C]` from a line of JSON: a list of steps, each a list of C numbers, or a number alone where C is 1;
    /// `null` for a missing one.
    ///
    /// # Errors
    /// [`Error::Input`] if it is none.
    pub fn parse(&self, line: &str) -> Result<Vec<f64>> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Step {
            Numbers(Vec<Option<f64>>),
            Number(Option<f64>),
        }
        let channels = self.channels.len();
        let alone = if channels == 1 { ", or a number alone" } else { "" };
        let expected = || {
            format!(
                "a series in JSON: a list of steps, each a list of {channels} numbers{alone} (null for a missing one)"
            )
        };
        let wrong = |found: String| Error::Input { expected: expected(), found };
        let steps: Vec<Step> = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let mut values = Vec::with_capacity(steps.len() * channels);
        for (step, number) in steps.into_iter().zip(1..) {
            match step {
                Step::Number(value) if channels == 1 => values.push(value.unwrap_or(f64::NAN)),
                Step::Number(_) => return Err(wrong(format!("a number alone at step {number}"))),
                Step::Numbers(step) if step.len() == channels => {
                    values.extend(step.into_iter().map(|value| value.unwrap_or(f64::NAN)));
                }
                Step::Numbers(step) => return Err(wrong(format!("{} at step {number}", step.len()))),
            }
        }
        Ok(values)
    }

    /// The steps of the longest series that the memory for one has room for, in a model of this stack.
    pub fn longest(&self, recurrent: &RecurrentSettings) -> usize {
        MOST_NUMBERS / recurrent.numbers_per_row()
    }
}

/// Checks the channels of `key` in a file.
pub(crate) fn check_channels(key: &'static str, channels: &[Channel]) -> std::result::Result<(), ConfigError> {
    if channels.is_empty() {
        return Err(ConfigError::new(key, "at least one", "none"));
    }
    if let Some(channel) = channels.iter().find(|channel| !channel.scale.is_valid()) {
        let expected = "a finite shift, a finite mean and a finite factor above 0";
        return Err(ConfigError::new(key, expected, format_args!("{:?}", channel.scale)));
    }
    Ok(())
}

/// Series packed into a ragged batch. The memory is reused.
#[derive(Debug, Default)]
pub struct SeriesBatch {
    lengths: Vec<usize>,
    rows: Ragged,
    /// `[N, I]`
    x: Vec<f32>,
}

impl SeriesBatch {
    /// Packs `series`, each `[T, I]` with I = `features`.
    pub fn set(&mut self, features: usize, series: &[&[f32]]) {
        self.lengths.clear();
        self.lengths.extend(series.iter().map(|series| series.len() / features));
        self.rows.set(&self.lengths);
        self.x.clear();
        let x = &mut self.x;
        self.rows.for_each_row(|_, index, t| x.extend_from_slice(&series[index][t * features..][..features]));
    }

    /// The batch as the input of a network.
    pub fn input(&self) -> Input<'_, f32, [f32]> {
        Input::new(&self.rows, &self.x)
    }

    /// N, the number of steps.
    pub fn rows(&self) -> usize {
        self.rows.rows()
    }
}

/// The body of networks that read series.
pub type SeriesBody = Chain<Recurrent, Pool>;

/// The body: a recurrent stack and its pooling.
pub(crate) fn body(
    builder: &mut Builder,
    recurrent: &RecurrentSettings,
    pooling: Pooling,
    regularisation: Regularisation,
) -> SeriesBody {
    let recurrent =
        Recurrent::new(builder, "rnn", recurrent.config(regularisation)).with_penalty(regularisation.penalty);
    Pool::of(builder, "pool", recurrent, pooling).with_dropout(builder, regularisation.output_dropout)
}

/// Runs `series`, each `[T, I]`, in batches of like length. `take` gets for each batch the indices of its series, the head's
/// numbers for each of them, and the weights of their steps where the pooling is an attention.
pub(crate) fn for_each_batch<T: Serve<Body = SeriesBody>>(
    runner: &mut Runner<'_, T>,
    features: usize,
    series: &[&[f32]],
    mut take: impl FnMut(&[usize], &[f32], Option<Vec<Vec<f32>>>),
) {
    let lengths: Vec<usize> = series.iter().map(|series| series.len() / features).collect();
    let mut batch = SeriesBatch::default();
    for indices in like_length(&lengths) {
        let of_batch: Vec<&[f32]> = indices.iter().map(|&index| series[index]).collect();
        batch.set(features, &of_batch);
        let Runner { network, weights, workspace } = runner;
        let outputs = network.predict(*weights, batch.input(), workspace).to_vec();
        let attention = network.body().second().weights(workspace.body.second()).map(|weights| {
            let mut by_series: Vec<Vec<f32>> = of_batch.iter().map(|_| Vec::new()).collect();
            // The rows of a series come in the order of its steps.
            batch.rows.for_each_row(|row, series, _| by_series[series].push(weights[row]));
            by_series
        });
        take(&indices, &outputs, attention);
    }
}

/// Some of `series`, each `[T, I]`, as a batch and its rows, and which they are.
pub(crate) fn sample(features: usize, series: &[Vec<f32>], sample: Sample<'_>) -> (Ragged, Vec<f32>, Vec<usize>) {
    let chosen = sample.of(series.len());
    let cut = |index: &usize| &series[*index][..features * sample.cut(series[*index].len() / features)];
    let mut batch = SeriesBatch::default();
    batch.set(features, &chosen.iter().map(cut).collect::<Vec<_>>());
    (batch.rows, batch.x, chosen)
}

/// What is said of a series beside what is predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesFacts {
    /// Its steps.
    pub steps: usize,
    /// How many of its numbers are missing.
    pub missing: usize,
    /// How much each step counts, where the pooling is an attention; together 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<Vec<f32>>,
}

/// The head's numbers for each of `series`, `[T, C]` with NaN for a missing number, in their order.
pub(crate) fn outputs_of<T: Serve<Body = SeriesBody>>(
    runner: &mut Runner<'_, T>,
    encoder: &SeriesEncoder,
    recurrent: &RecurrentSettings,
    series: &[&[f64]],
) -> Vec<Result<(Vec<f32>, SeriesFacts)>> {
    let longest = encoder.longest(recurrent);
    let steps = |series: &[f64]| series.len() / encoder.channels.len();
    let encode = |series: &&[f64]| {
        if steps(series) > longest {
            let expected = format!("a series of at most {longest} steps, the limit of memory for one");
            return Err(Error::Input { expected, found: steps(series).to_string() });
        }
        encoder.encode(series)
    };
    let encoded: Vec<Result<Vec<f32>>> = series.iter().map(encode).collect();
    let readable: Vec<usize> = (0..series.len()).filter(|&index| encoded[index].is_ok()).collect();
    let features: Vec<&[f32]> = encoded.iter().filter_map(|series| series.as_deref().ok()).collect();
    let mut outputs: Vec<Option<(Vec<f32>, SeriesFacts)>> = series.iter().map(|_| None).collect();
    for_each_batch(runner, encoder.features(), &features, |places, numbers, attention| {
        let mut attention = attention.map(Vec::into_iter);
        for (&place, numbers) in places.iter().zip(numbers.chunks(numbers.len() / places.len())) {
            let index = readable[place];
            let facts = SeriesFacts {
                steps: steps(series[index]),
                missing: series[index].iter().filter(|value| value.is_nan()).count(),
                attention: attention.as_mut().and_then(Iterator::next),
            };
            outputs[index] = Some((numbers.to_vec(), facts));
        }
    });
    let answered = |(encoded, output): (Result<Vec<f32>>, Option<_>)| Ok((encoded?, output.expect("it was read")).1);
    encoded.into_iter().zip(outputs).map(answered).collect()
}

/// The same for series in lines of JSON.
pub(crate) fn outputs_of_lines<T: Serve<Body = SeriesBody>>(
    runner: &mut Runner<'_, T>,
    encoder: &SeriesEncoder,
    recurrent: &RecurrentSettings,
    lines: &[&str],
) -> Vec<Result<(Vec<f32>, SeriesFacts)>> {
    let parsed: Vec<Result<Vec<f64>>> = lines.iter().map(|line| encoder.parse(line)).collect();
    let series: Vec<&[f64]> = parsed.iter().filter_map(|series| series.as_deref().ok()).collect();
    let mut outputs = outputs_of(runner, encoder, recurrent, &series).into_iter();
    parsed.into_iter().map(|series| series.and_then(|_| outputs.next().expect("an output for each series"))).collect()
}
