//! Classification of series of numbers: ragged batches of series of like length.

mod baseline;
mod options;

pub use options::{Labels, Options};

use std::collections::BTreeMap;
use std::path::PathBuf;

use throughline_data::{Answers, Glimpse, SeriesSet, Split, Splits, TABLE_ENDINGS};
use throughline_infer::tasks::ClassifySeries;
use throughline_infer::tasks::classify_series::{Config, LabelledSeries};
use throughline_infer::{Regularisation, Runner, SeriesBatch, Serve};
use throughline_nn::heads::Loss;
use throughline_nn::initialise::Initialise;
use throughline_nn::module::Pass;
use throughline_nn::network::Wanted;

use crate::learn::{DataRecord, Description, Examined, Learn, Learned, Measured, NetworkOf, Place, Score, Sign};
use crate::run::card::grouped;
use crate::tasks::shared::{
    Batches, MeasuredSeries, SeriesData, SeriesForm, check_lengths, check_names, ts_says, weight_of, weighted,
};
use crate::{Recipe, Result};

/// The data of a classifier of series.
pub struct Series {
    options: Options,
    config: Config,
    labels: Vec<String>,
    data: SeriesData,
    splits: Splits<LabelledSeries>,
    class_weights: Option<Vec<f64>>,
    batches: Batches,
    batch: SeriesBatch,
}

/// The names of the classes, and the class of each series.
fn classes(set: &SeriesSet) -> (&[String], &[u32]) {
    match &set.answers {
        Answers::Classes { labels, classes } => (labels, classes),
        _ => unreachable!("classes were asked for"),
    }
}

impl Learn for Series {
    type Serve = ClassifySeries;
    type Options = Options;

    fn recognises(seen: &Glimpse) -> Option<Sign> {
        if ts_says(seen, "@classlabel") {
            return Some(Sign::Clear("series with their classes"));
        }
        if seen.has_columns(&["id", "label"]) && !seen.has_columns(&["text"]) {
            return Some(Sign::Clear("the columns `id` and `label`"));
        }
        let of_folders = seen.folder.as_ref().is_some_and(|folder| folder.of_folders);
        (of_folders && seen.is_folder_of(&TABLE_ENDINGS)).then_some(Sign::Clear("a folder of tables for each class"))
    }

    fn read(recipe: &Recipe) -> Result<Self> {
        let options = recipe.options::<Options>().clone();
        let Options { files, tables, model, reading, weighting, .. } = &options;
        let mut data = SeriesData::read(files, tables, options.wanted(None), recipe.seed)?;
        let (labels, of_training) = classes(&data.sets.train);
        let labels = labels.to_vec();
        let config = Config {
            recurrent: model.settings(data.encoder.features(), reading.bidirectional),
            input: data.encoder.clone(),
            classes: labels.len(),
            pooling: reading.pooling,
        };
        let Splits { train, validation, test } = &data.sets;
        check_lengths(&config.input, &config.recurrent, &[train, validation, test])?;
        let class_weights = weighting.of(of_training, labels.len());
        let batches = Batches::new(data.lengths(), recipe.train.batch, recipe.seed);
        let inputs = std::mem::take(&mut data.inputs);
        let labelled =
            |series: Vec<Vec<f32>>, set: &SeriesSet| LabelledSeries { series, classes: classes(set).1.to_vec() };
        let splits = Splits {
            train: labelled(inputs.train, &data.sets.train),
            validation: labelled(inputs.validation, &data.sets.validation),
            test: labelled(inputs.test, &data.sets.test),
        };
        Ok(Self { options, config, labels, data, splits, class_weights, batches, batch: SeriesBatch::default() })
    }

    /// The format of the files.
    fn write_down(&self, recipe: &mut Recipe) {
        recipe.options_mut::<Options>().tables.format = SeriesForm::of(self.data.sets.train.format);
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn encoder(&self) -> &Vec<String> {
        &self.labels
    }

    fn regularisation(recipe: &Recipe) -> Regularisation {
        recipe.options::<Options>().model.regularisation()
    }

    fn initialise(recipe: &Recipe) -> Initialise {
        recipe.options::<Options>().model.initialise(recipe.seed)
    }

    fn network(&self, recipe: &Recipe) -> NetworkOf<Self> {
        weighted(ClassifySeries::network(&self.config, Self::regularisation(recipe)), self.class_weights.as_deref())
    }

    fn batches_per_epoch(&self) -> u64 {
        self.batches.per_epoch()
    }

    fn weight(&mut self, place: Place) -> f64 {
        let classes = &self.splits.train.classes;
        let targets = self.batches.at(place).iter().map(|&index| classes[index]);
        weight_of(self.class_weights.as_deref(), targets)
    }

    fn learn(
        &mut self,
        place: Place,
        normaliser: f64,
        pass: Pass,
        runner: &mut Runner<'_, ClassifySeries>,
        gradients: &mut [f32],
    ) -> Learned {
        let (set, indices) = (&self.splits.train, self.batches.at(place));
        let series: Vec<&[f32]> = indices.iter().map(|&index| &set.series[index][..]).collect();
        let targets: Vec<u32> = indices.iter().map(|&index| set.classes[index]).collect();
        self.batch.set(self.config.input.features(), &series);
        let Runner { network, weights, workspace } = runner;
        let wanted = Wanted { normaliser: Some(normaliser), ..Wanted::new(&targets[..]) };
        let loss = network.learn(*weights, self.batch.input(), wanted, pass, gradients, workspace);
        Learned { loss, units: self.batch.rows() }
    }

    fn data(&self, split: Split) -> &LabelledSeries {
        self.splits.of(split)
    }

    fn baselines(&self) -> Result<Vec<Score>> {
        Ok(baseline::scores(self.config.input.features(), &self.labels, &self.splits))
    }

    fn training_metrics(loss: &Loss) -> BTreeMap<String, f64> {
        BTreeMap::from([("accuracy".to_owned(), loss.correct / loss.weight)])
    }

    fn record(&self) -> DataRecord {
        self.data.record()
    }

    fn describe(&self) -> Description {
        let Options { files, model, reading, .. } = &self.options;
        let mut described = self.data.describe(files, model.describe(files, "steps", reading.bidirectional));
        described.data.push(("classes".to_owned(), grouped(self.labels.len())));
        described
    }

    fn examine(&self, split: Split) -> Examined {
        self.data.examine(split)
    }

    fn measured(
        recipe: &Recipe,
        config: &Config,
        labels: &Vec<String>,
        paths: &[PathBuf],
    ) -> Result<Measured<LabelledSeries>> {
        let options = recipe.options::<Options>();
        let Options { files, tables, .. } = options;
        let wanted = options.wanted(Some(labels.clone()));
        let measured = MeasuredSeries::read(files, tables, wanted, &config.input, recipe.seed, paths)?;
        let MeasuredSeries { set, inputs, what, notes, record } = measured;
        let (found, of_series) = classes(&set);
        check_names(files.place(), "classes", found, labels)?;
        check_lengths(&config.input, &config.recurrent, &[&set])?;
        Ok(Measured { data: LabelledSeries { series: inputs, classes: of_series.to_vec() }, what, notes, record })
    }
}
