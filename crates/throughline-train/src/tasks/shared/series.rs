//! Series of numbers from files into splits and batches, for the tasks that read them.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use throughline_data::{
    Answers, Glimpse, MissingNumbers, Scale, Scaling, SeriesFormat, SeriesReader, SeriesSet, Split, Splits, TextReader,
    WantedAnswers,
};
use throughline_infer::{Channel, RecurrentSettings, SeriesEncoder};

use super::files::DataFiles;
use super::text::skipped_notes;
use crate::learn::{DataRecord, Description, Examined, SplitRecord, count_labels, key};
use crate::recipe::{Check, settings};
use crate::run::card::grouped;
use crate::{Digest, Error, Result};

settings! {
    /// In table `[data]`: how series lie in the files, and what is made of their numbers.
    pub struct SeriesTables {
        /// `"auto"` (by the names of the files), `"ts"` (sktime and aeon), `"long"` (a table with a row for each step, and a
        /// column that says which series it belongs to) or `"folder"` (of tables, each a series).
        format: SeriesForm = SeriesForm::Auto,
        /// Encoding of the files, by its WHATWG label.
        encoding: String = "utf-8".to_owned(),
        /// Column of a long table that says which series a row belongs to. Empty: `id`.
        id_column: String = String::new(),
        /// Column with the times, which must ascend within a series: numbers, or dates with the year first. Empty: `time`, where
        /// there is such a column.
        time_column: String = String::new(),
        /// Columns to read as channels. Empty: all that are nothing else.
        channels: Vec<String> = Vec::new(),
        /// How the numbers of each channel are scaled, as fitted on the training split: `"standard"` (mean 0, deviation 1),
        /// `"range"` (0 to 1) or `"none"`.
        scaling: Scaling = Scaling::Standard,
        /// What is made of missing numbers (nothing, `?`, `NA`, `N/A`, `NaN`, `null` or `None` in a file): `"refuse"`, `"mask"`
        /// (the mean of the channel, and a further channel that is 1 where there is a number and 0 where there is none) or
        /// `"forward"` (the number before in the same series; at its beginning the mean of the channel).
        missing: MissingNumbers = MissingNumbers::Refuse,
    }
}

/// A format of series, or none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeriesForm {
    /// `"auto"`: to be found out.
    Auto,
    /// `"ts"`
    Ts,
    /// `"long"`
    Long,
    /// `"folder"`
    Folder,
}

impl SeriesForm {
    fn format(self) -> Option<SeriesFormat> {
        match self {
            Self::Auto => None,
            Self::Ts => Some(SeriesFormat::Ts),
            Self::Long => Some(SeriesFormat::Long),
            Self::Folder => Some(SeriesFormat::Folder),
        }
    }

    pub(crate) fn of(format: SeriesFormat) -> Self {
        let all = [Self::Ts, Self::Long, Self::Folder];
        all.into_iter().find(|form| form.format() == Some(format)).unwrap_or(Self::Auto)
    }
}

impl SeriesTables {
    /// Checks the ranges.
    pub(crate) fn check(&self, check: &Check<'_>) -> Result<()> {
        check.require("data.encoding", !self.encoding.is_empty(), "the label of an encoding", &self.encoding)?;
        check_columns(check, "data.channels", &self.channels)
    }

    /// With what `key` has an effect, if it has none.
    pub(crate) fn unused(&self, key: &str) -> Option<&'static str> {
        let long = matches!(self.format, SeriesForm::Auto | SeriesForm::Long);
        (key == "data.id_column" && !long).then_some("data.format = \"long\"")
    }

    /// What reads other files than those at `data.paths`, which have this `format`: as these are read, unless their names say
    /// that they differ.
    fn reader_beside(
        &self,
        files: &DataFiles,
        format: Option<SeriesFormat>,
        wanted: WantedAnswers,
        paths: &[PathBuf],
    ) -> Result<SeriesReader> {
        let format = files.format_beside(paths, |known, path| Some(format?.beside(known, path)));
        Ok(SeriesReader { format, ..self.reader(wanted)? })
    }

    /// What reads the files.
    fn reader(&self, wanted: WantedAnswers) -> Result<SeriesReader> {
        let column = |name: &String| (!name.is_empty()).then(|| name.clone());
        Ok(SeriesReader {
            text: TextReader::default().encoding(&self.encoding)?,
            format: self.format.format(),
            id_column: column(&self.id_column),
            time_column: column(&self.time_column),
            channels: self.channels.clone(),
            wanted,
        })
    }
}

/// Checks a list of different columns.
pub(crate) fn check_columns(check: &Check<'_>, key: &str, names: &[String]) -> Result<()> {
    let different: HashSet<&String> = names.iter().collect();
    let usable = different.len() == names.len() && names.iter().all(|name| !name.trim().is_empty());
    check.require(key, usable, "different names of columns", names)
}

/// The series of a run, split by split.
pub(crate) struct SeriesData {
    pub sets: Splits<SeriesSet>,
    /// The features of each series, `[T, I]`.
    pub inputs: Splits<Vec<Vec<f32>>>,
    pub encoder: SeriesEncoder,
}

impl SeriesData {
    /// Reads the series of a recipe, cuts them into splits, class by class where they have classes, and fits the scaling to the
    /// training split.
    pub fn read(files: &DataFiles, tables: &SeriesTables, wanted: WantedAnswers, seed: u64) -> Result<Self> {
        files.check_twice()?;
        let set = tables.reader(wanted.clone())?.read(&files.paths)?;
        let set = match files.limit {
            0 => set,
            limit => set.select(&(0..set.len().min(limit)).collect::<Vec<_>>()),
        };
        let classes = match &set.answers {
            Answers::Classes { classes, .. } => classes.clone(),
            _ => vec![0; set.len()],
        };
        let indices = files.fractions()?.stratified(&classes, seed);
        let own = |paths: &[PathBuf], cut: &[usize]| -> Result<SeriesSet> {
            if paths.is_empty() {
                return Ok(set.select(cut));
            }
            let wanted = match (&wanted, &set.answers) {
                (WantedAnswers::Classes { column, .. }, Answers::Classes { labels, .. }) => {
                    WantedAnswers::Classes { column: column.clone(), labels: Some(labels.clone()) }
                }
                _ => wanted.clone(),
            };
            let own = tables.reader_beside(files, Some(set.format), wanted, paths)?.read(paths)?;
            if own.channels != set.channels {
                let expected = format!("the channels of the training data: {}", set.channels.join(", "));
                return Err(Error::file(&paths[0], "channels", expected, own.channels.join(", ")));
            }
            Ok(own)
        };
        let sets = Splits {
            train: set.select(&indices.train),
            validation: own(&files.validation, &indices.validation)?,
            test: own(&files.test, &indices.test)?,
        };
        for split in [Split::Train, Split::Validation] {
            if sets.of(split).is_empty() {
                let expected = "at least one series; give more series or a larger share in data.split";
                return Err(Error::file(files.place(), &format!("{} split", split.name()), expected, "none"));
            }
        }
        check_classes(files, &sets.train)?;
        let encoder =
            SeriesEncoder { channels: channels(files, tables.scaling, &sets.train)?, missing: tables.missing };
        let Splits { train, validation, test } = &sets;
        let inputs = Splits {
            train: encode(&encoder, train)?,
            validation: encode(&encoder, validation)?,
            test: encode(&encoder, test)?,
        };
        Ok(Self { sets, inputs, encoder })
    }

    /// The steps of each series in the training split.
    pub fn lengths(&self) -> Vec<usize> {
        self.sets.train.lengths()
    }

    /// What identifies the data.
    pub fn record(&self) -> DataRecord {
        let Splits { train, validation, test } = &self.sets;
        DataRecord::of("series", Splits { train, validation, test }, |set, into| digest(set, into))
    }

    /// Adds what is in the data, and what may be wrong with them, to what people are told.
    pub fn describe(&self, files: &DataFiles, mut described: Description) -> Description {
        let of_split = |split: Split| {
            let set = self.sets.of(split);
            let (least, most) = extremes(set);
            let lengths = match set.is_empty() {
                true => String::new(),
                false if least == most => format!(" of {most} steps"),
                false => format!(" of {least} to {most} steps"),
            };
            (format!("{} split", split.name()), format!("{} series{lengths}", grouped(set.len())))
        };
        described.data.extend(Split::ALL.into_iter().map(of_split));
        let train = &self.sets.train;
        described.data.push(("format".to_owned(), train.format.to_string()));
        described.data.push(("channels".to_owned(), some_of(&train.channels)));
        let sets = || Split::ALL.into_iter().map(|split| self.sets.of(split));
        let missing: usize = sets().map(|set| (0..set.len()).map(|series| set.missing(series)).sum::<usize>()).sum();
        if missing > 0 {
            let numbers: usize =
                sets().map(|set| (0..set.len()).map(|series| set.values(series).len()).sum::<usize>()).sum();
            let share = 100.0 * missing as f64 / numbers as f64;
            let rule = match self.encoder.missing {
                MissingNumbers::Mask => "masked",
                MissingNumbers::Forward => "filled forward",
                MissingNumbers::Refuse => "refused",
            };
            let what = format!("{} of {} ({share:.2} %), {rule}", grouped(missing), grouped(numbers));
            described.data.push(("missing numbers".to_owned(), what));
        }
        let skipped = skipped_notes(&train.skipped);
        described.data.extend(skipped.map(|what| ("left out".to_owned(), what)));
        described.warnings.extend(self.warnings(files));
        described
    }

    /// What is in a split.
    pub fn examine(&self, split: Split) -> Examined {
        let set = self.sets.of(split);
        let bits = |series: usize| set.values(series).iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let labels = match &set.answers {
            Answers::Classes { labels, classes } => count_labels(labels, classes.iter().copied()),
            _ => Vec::new(),
        };
        let keys = (0..set.len()).map(|series| key(bits(series))).collect();
        Examined { what: "series", lengths: set.lengths(), keys, labels, unknown_share: 0.0 }
    }

    fn warnings(&self, files: &DataFiles) -> Vec<String> {
        let train = &self.sets.train;
        let mut warnings: Vec<String> = files.warning_of_repetition().into_iter().collect();
        let equal = |channel: usize| {
            let mut numbers = numbers_of(train, channel).filter(|number| !number.is_nan());
            let first = numbers.next();
            numbers.all(|number| Some(number) == first)
        };
        let constant: Vec<&str> = (0..train.channels.len())
            .filter(|&channel| equal(channel))
            .map(|channel| train.channels[channel].as_str())
            .collect();
        if !constant.is_empty() {
            warnings.push(format!("channels that do not vary in the training split: {}", constant.join(", ")));
        }
        let known: HashSet<String> = (0..train.len()).map(|series| digest_of(train.values(series))).collect();
        let again = [Split::Validation, Split::Test].map(|split| {
            let set = self.sets.of(split);
            (0..set.len()).filter(|&series| known.contains(&digest_of(set.values(series)))).count()
        });
        let again: usize = again.iter().sum();
        if again > 0 {
            warnings.push(format!(
                "{} of the series to measure on also stand in the training split: scores on them say little",
                grouped(again)
            ));
        }
        warnings
    }
}

/// `2: a, b`, with a few of many names.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    format!("{}: {}{more}", grouped(names.len()), names[..names.len().min(SHOWN)].join(", "))
}

/// A set of the files at `paths`, or the test split of the run's own data, encoded, with what they are called and what
/// identifies them.
pub(crate) struct MeasuredSeries {
    pub set: SeriesSet,
    pub inputs: Vec<Vec<f32>>,
    pub what: String,
    pub notes: Vec<String>,
    pub record: Option<SplitRecord>,
}

impl MeasuredSeries {
    /// Reads them; `wanted` is what a model knows.
    pub fn read(
        files: &DataFiles,
        tables: &SeriesTables,
        wanted: WantedAnswers,
        encoder: &SeriesEncoder,
        seed: u64,
        paths: &[PathBuf],
    ) -> Result<Self> {
        let (set, what) = if paths.is_empty() {
            // With the classes found in the data, so that the splits are the same as in training.
            let wanted = match wanted {
                WantedAnswers::Classes { column, .. } => WantedAnswers::Classes { column, labels: None },
                other => other,
            };
            (SeriesData::read(files, tables, wanted, seed)?.sets.test, "test split".to_owned())
        } else {
            let channels = encoder.channels.iter().map(|channel| channel.name.clone()).collect();
            let reader =
                SeriesReader { channels, ..tables.reader_beside(files, tables.format.format(), wanted, paths)? };
            let set = reader.read(paths)?;
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            (set, names.join(", "))
        };
        let inputs = encode(encoder, &set)?;
        let record = paths.is_empty().then(|| {
            let mut sum = Digest::default();
            let count = digest(&set, &mut sum);
            SplitRecord { count, digest: sum.finish() }
        });
        let notes = skipped_notes(&set.skipped).map(|what| format!("left out: {what}")).collect();
        Ok(Self { set, inputs, what, notes, record })
    }
}

/// Checks that the memory for one series has room for the longest.
pub(crate) fn check_lengths(encoder: &SeriesEncoder, recurrent: &RecurrentSettings, sets: &[&SeriesSet]) -> Result<()> {
    let longest = encoder.longest(recurrent);
    for set in sets {
        if let Some(series) = set.lengths().iter().position(|&steps| steps > longest) {
            let expected = format!("at most {longest} steps, which is what fits the memory for one");
            let found = format!("{} steps", set.lengths()[series]);
            return Err(Error::file(set.place(series).as_ref(), "series", expected, found));
        }
    }
    Ok(())
}

/// The features of each series of a set.
fn encode(encoder: &SeriesEncoder, set: &SeriesSet) -> Result<Vec<Vec<f32>>> {
    let encode = |series: usize| {
        encoder.encode(set.values(series)).map_err(|wrong| {
            let (expected, found) = match wrong {
                throughline_infer::Error::Input { expected, found } => (expected, found),
                other => (String::new(), other.to_string()),
            };
            let expected = match encoder.missing {
                MissingNumbers::Refuse if set.missing(series) > 0 => {
                    "no missing numbers; set data.missing to \"mask\" or \"forward\"".to_owned()
                }
                _ => expected,
            };
            Error::file(set.place(series).as_ref(), "series", expected, found)
        })
    };
    (0..set.len()).map(encode).collect()
}

/// The numbers of a channel in all series.
fn numbers_of(set: &SeriesSet, channel: usize) -> impl Iterator<Item = f64> + Clone {
    let width = set.channels.len();
    (0..set.len()).flat_map(move |series| set.values(series).iter().skip(channel).step_by(width).copied())
}

/// The channels with their scaling.
fn channels(files: &DataFiles, scaling: Scaling, train: &SeriesSet) -> Result<Vec<Channel>> {
    let fit = |(channel, name): (usize, &String)| {
        let scale = Scale::fit(scaling, numbers_of(train, channel)).ok_or_else(|| {
            let expected = "a number in the training split; leave the channel out of data.channels";
            Error::file(files.place(), &format!("channel {name:?}"), expected, "only missing ones")
        })?;
        Ok(Channel { name: name.clone(), scale })
    };
    train.channels.iter().enumerate().map(fit).collect()
}

/// Every class must have kept a series.
fn check_classes(files: &DataFiles, train: &SeriesSet) -> Result<()> {
    let Answers::Classes { labels, classes } = &train.answers else { return Ok(()) };
    let Some(lost) = (0..labels.len()).find(|&label| !classes.contains(&(label as u32))) else { return Ok(()) };
    let expected = format!("a data.limit that leaves a series of class {:?}", labels[lost]);
    Err(Error::file(files.place(), "data.limit", expected, files.limit))
}

fn extremes(set: &SeriesSet) -> (usize, usize) {
    let lengths = set.lengths();
    (lengths.iter().min().copied().unwrap_or(0), lengths.iter().max().copied().unwrap_or(0))
}

fn digest_of(values: &[f64]) -> String {
    let mut digest = Digest::default();
    values.iter().for_each(|value| digest.bytes(&value.to_le_bytes()));
    digest.finish()
}

/// Takes a set into a digest: the numbers of each series and its answers. Returns how many series there are.
fn digest(set: &SeriesSet, digest: &mut Digest) -> usize {
    for series in 0..set.len() {
        digest.tokens(&[set.values(series).len() as u32]);
        set.values(series).iter().for_each(|value| digest.bytes(&value.to_le_bytes()));
        match &set.answers {
            Answers::None => {}
            Answers::Classes { labels, classes } => {
                let label = &labels[classes[series] as usize];
                digest.tokens(&[label.len() as u32]);
                digest.bytes(label.as_bytes());
            }
            Answers::Numbers { names, values } => {
                let own = &values[series * names.len()..][..names.len()];
                own.iter().for_each(|value| digest.bytes(&value.to_le_bytes()));
            }
        }
    }
    set.len()
}

/// Whether a `.ts` file says that it has what `key` stands for, such as `@classlabel`.
pub(crate) fn ts_says(seen: &Glimpse, key: &str) -> bool {
    let says = |line: &str| {
        let mut words = line.split_whitespace();
        let mut is = |word: &str| words.next().is_some_and(|found| found.eq_ignore_ascii_case(word));
        is(key) && is("true")
    };
    seen.ends_in(&["ts"]) && seen.beginning.lines().any(says)
}
