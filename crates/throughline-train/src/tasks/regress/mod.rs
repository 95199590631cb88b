//! Regression of series of numbers: ragged batches of series of like length.

mod options;

pub use options::{LossKind, Options, RegressionLoss, Targets};

use std::collections::BTreeMap;
use std::path::PathBuf;

use throughline_data::{Answers, Glimpse, Scale, SeriesSet, Split, Splits};
use throughline_infer::tasks::Regress;
use throughline_infer::tasks::regress::{Config, TargetedSeries, metrics};
use throughline_infer::{Channel, Regularisation, Runner, SeriesBatch};
use throughline_nn::heads::Loss;
use throughline_nn::initialise::Initialise;
use throughline_nn::module::Pass;
use throughline_nn::network::Wanted;

use crate::learn::{DataRecord, Description, Examined, Learn, Learned, Measured, Place, Score, Sign};
use crate::tasks::shared::{Batches, MeasuredSeries, SeriesData, SeriesForm, check_lengths, ts_says};
use crate::{Recipe, Result};

/// The data of a regression.
pub struct Series {
    options: Options,
    config: Config,
    data: SeriesData,
    splits: Splits<TargetedSeries>,
    /// `[series, K]`: the targets of the training split as the network learns them.
    scaled: Vec<f32>,
    batches: Batches,
    batch: SeriesBatch,
}

/// The names of the numbers to predict, and those of each series.
fn targets(set: &SeriesSet) -> (&[String], &[f64]) {
    match &set.answers {
        Answers::Numbers { names, values } => (names, values),
        _ => unreachable!("numbers were asked for"),
    }
}

impl Learn for Series {
    type Serve = Regress;
    type Options = Options;

    fn recognises(seen: &Glimpse) -> Option<Sign> {
        if ts_says(seen, "@targetlabel") {
            return Some(Sign::Clear("series with numbers to predict"));
        }
        seen.has_columns(&["id", "target"]).then_some(Sign::Clear("the columns `id` and `target`"))
    }

    fn read(recipe: &Recipe) -> Result<Self> {
        let options = recipe.options::<Options>().clone();
        let Options { files, tables, model, reading, loss, .. } = &options;
        let mut data = SeriesData::read(files, tables, options.wanted(), recipe.seed)?;
        let (names, of_training) = targets(&data.sets.train);
        let scaled = |(target, name): (usize, &String)| {
            let numbers = of_training.iter().skip(target).step_by(names.len()).copied();
            let scale = Scale::fit(options.targets.target_scaling, numbers).expect("every series has its numbers");
            Channel { name: name.clone(), scale }
        };
        let config = Config {
            recurrent: model.settings(data.encoder.features(), reading.bidirectional),
            input: data.encoder.clone(),
            targets: names.iter().enumerate().map(scaled).collect(),
            pooling: reading.pooling,
            loss: loss.of_model(),
        };
        let scaled = config.scaled(of_training);
        let Splits { train, validation, test } = &data.sets;
        check_lengths(&config.input, &config.recurrent, &[train, validation, test])?;
        let batches = Batches::new(data.lengths(), recipe.train.batch, recipe.seed);
        let inputs = std::mem::take(&mut data.inputs);
        let targeted =
            |series: Vec<Vec<f32>>, set: &SeriesSet| TargetedSeries { series, targets: targets(set).1.to_vec() };
        let splits = Splits {
            train: targeted(inputs.train, &data.sets.train),
            validation: targeted(inputs.validation, &data.sets.validation),
            test: targeted(inputs.test, &data.sets.test),
        };
        Ok(Self { options, config, data, splits, scaled, batches, batch: SeriesBatch::default() })
    }

    /// The format of the files.
    fn write_down(&self, recipe: &mut Recipe) {
        recipe.options_mut::<Options>().tables.format = SeriesForm::of(self.data.sets.train.format);
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn encoder(&self) -> &() {
        &()
    }

    fn regularisation(recipe: &Recipe) -> Regularisation {
        recipe.options::<Options>().model.regularisation()
    }

    fn initialise(recipe: &Recipe) -> Initialise {
        recipe.options::<Options>().model.initialise(recipe.seed)
    }

    fn batches_per_epoch(&self) -> u64 {
        self.batches.per_epoch()
    }

    fn weight(&mut self, place: Place) -> f64 {
        (self.batches.at(place).len() * self.config.targets.len()) as f64
    }

    fn learn(
        &mut self,
        place: Place,
        normaliser: f64,
        pass: Pass,
        runner: &mut Runner<'_, Regress>,
        gradients: &mut [f32],
    ) -> Learned {
        let (set, indices, width) = (&self.splits.train, self.batches.at(place), self.config.targets.len());
        let series: Vec<&[f32]> = indices.iter().map(|&index| &set.series[index][..]).collect();
        let targets: Vec<f32> =
            indices.iter().flat_map(|&index| &self.scaled[index * width..][..width]).copied().collect();
        self.batch.set(self.config.input.features(), &series);
        let Runner { network, weights, workspace } = runner;
        let wanted = Wanted { normaliser: Some(normaliser), ..Wanted::new(&targets[..]) };
        let loss = network.learn(*weights, self.batch.input(), wanted, pass, gradients, workspace);
        Learned { loss, units: self.batch.rows() }
    }

    fn data(&self, split: Split) -> &TargetedSeries {
        self.splits.of(split)
    }

    /// The mean of the training split; and for targets that are further numbers of a channel, which have its name, or where
    /// there is one channel alone, its last number.
    fn baselines(&self) -> Result<Vec<Score>> {
        let (names, of_training) = targets(&self.data.sets.train);
        let width = names.len();
        let mean = |target: usize| {
            let numbers = of_training.iter().skip(target).step_by(width);
            numbers.clone().sum::<f64>() / numbers.count() as f64
        };
        let means: Vec<f64> = (0..width).map(mean).collect();
        let channels = &self.data.sets.train.channels;
        let channel_of = |name: &String| match channels.len() {
            1 => Some(0),
            _ => channels.iter().position(|channel| channel == name),
        };
        let continued: Option<Vec<usize>> = names.iter().map(channel_of).collect();
        let mut scores = Vec::new();
        for split in [Split::Validation, Split::Test] {
            let set = self.data.sets.of(split);
            if set.is_empty() {
                continue;
            }
            let mut score = |method: &str, predictions: Vec<f64>| {
                let metrics = metrics(names.iter().map(String::as_str), targets(set).1, &predictions);
                scores.push(Score { method: method.to_owned(), split, metrics });
            };
            score("mean of the training split", means.repeat(set.len()));
            if let Some(columns) = &continued {
                let last = |(series, column): (usize, &usize)| {
                    let numbers = set.values(series).iter().skip(*column).step_by(channels.len());
                    let last = numbers.rev().find(|number| !number.is_nan());
                    // A channel without any number in the series has none to repeat.
                    last.copied().unwrap_or(self.data.encoder.channels[*column].scale.mean)
                };
                let places = (0..set.len()).flat_map(|series| columns.iter().map(move |column| (series, column)));
                score("last number", places.map(last).collect());
            }
        }
        Ok(scores)
    }

    fn training_metrics(_: &Loss) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn record(&self) -> DataRecord {
        self.data.record()
    }

    fn describe(&self) -> Description {
        let Options { files, model, reading, .. } = &self.options;
        let mut described = self.data.describe(files, model.describe(files, "steps", reading.bidirectional));
        let names: Vec<&str> = self.config.targets.iter().map(|target| target.name.as_str()).collect();
        described.data.push(("to predict".to_owned(), names.join(", ")));
        described
    }

    fn examine(&self, split: Split) -> Examined {
        self.data.examine(split)
    }

    fn measured(recipe: &Recipe, config: &Config, (): &(), paths: &[PathBuf]) -> Result<Measured<TargetedSeries>> {
        let options = recipe.options::<Options>();
        let Options { files, tables, .. } = options;
        let measured = MeasuredSeries::read(files, tables, options.wanted(), &config.input, recipe.seed, paths)?;
        let MeasuredSeries { set, inputs, what, notes, record } = measured;
        check_lengths(&config.input, &config.recurrent, &[&set])?;
        let targets = targets(&set).1.to_vec();
        Ok(Measured { data: TargetedSeries { series: inputs, targets }, what, notes, record })
    }
}
