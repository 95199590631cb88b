//! Labelled texts from files into splits.

use std::path::PathBuf;

use throughline_data::{Format, LabelledReader, LabelledSet, SharedExample, Skipped, Split, Splits, remove_duplicates};

use super::Options;
use crate::run::card::grouped;
use crate::tasks::shared::skipped_notes;
use crate::{Error, Result};

/// The examples of a run, split by split.
pub(super) struct Labelled {
    pub splits: Splits<LabelledSet>,
    /// Examples removed because an equal one comes before.
    pub duplicates: usize,
    /// Records without text.
    pub blank: usize,
    /// What was not read.
    pub skipped: Vec<Skipped>,
}

/// What reads other files than those at `data.paths`, which have this `format`: as these are read, unless their names end as
/// other tables do.
pub(super) fn reader_beside(
    options: &Options,
    format: Option<Format>,
    labels: &[String],
    paths: &[PathBuf],
) -> Result<LabelledReader> {
    let format = options.files.format_beside(paths, |known, path| Some(format?.beside(known, path)));
    Ok(LabelledReader { format, ..reader(options, Some(labels.to_vec()))? })
}

/// The reader that a recipe asks for, with the classes where they are known.
fn reader(options: &Options, labels: Option<Vec<String>>) -> Result<LabelledReader> {
    let column = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    Ok(LabelledReader {
        text: options.cleaning.reader()?,
        format: options.examples.format,
        text_column: column(&options.examples.text_column),
        label_column: column(&options.examples.label_column),
        labels,
    })
}

impl Labelled {
    /// Reads the texts of a recipe and cuts them into splits, class by class.
    pub fn read(options: &Options, seed: u64) -> Result<Self> {
        let files = &options.files;
        files.check_twice()?;
        let mut set = reader(options, None)?.read(&files.paths)?;
        let mut duplicates = if options.examples.deduplicate { set.remove_duplicates() } else { 0 };
        if files.limit > 0 {
            set.examples.truncate(files.limit);
            check_classes(options, &set)?;
        }
        let indices = files.fractions()?.stratified(&set.classes(), seed);
        let own = |paths: &[PathBuf], cut: &[usize]| -> Result<LabelledSet> {
            if paths.is_empty() {
                return Ok(set.select(cut));
            }
            Ok(reader_beside(options, Some(set.format), &set.labels, paths)?.read(paths)?)
        };
        let mut splits = Splits {
            train: set.select(&indices.train),
            validation: own(&files.validation, &indices.validation)?,
            test: own(&files.test, &indices.test)?,
        };
        if options.examples.deduplicate {
            let Splits { train, validation, test } = remove_duplicates(&mut splits);
            duplicates += train + validation + test;
        }
        check_splits(options, &splits)?;
        let (mut blank, mut skipped) = (set.blank, set.skipped);
        for (paths, set) in [(&files.validation, &splits.validation), (&files.test, &splits.test)] {
            if !paths.is_empty() {
                blank += set.blank;
                skipped.extend(set.skipped.iter().cloned());
            }
        }
        Ok(Self { splits, duplicates, blank, skipped })
    }
}

/// What was not read, and how many texts have nothing in them.
pub(super) fn left_out(blank: usize, skipped: &[Skipped]) -> Vec<String> {
    let texts = if blank == 1 { "text" } else { "texts" };
    let blank = (blank > 0).then(|| format!("{} blank {texts}", grouped(blank)));
    blank.into_iter().chain(skipped_notes(skipped)).collect()
}

/// Every class must have kept an example.
fn check_classes(options: &Options, set: &LabelledSet) -> Result<()> {
    let classes = set.classes();
    let Some(lost) = (0..set.labels.len()).find(|&label| !classes.contains(&(label as u32))) else { return Ok(()) };
    let expected = format!("a data.limit that leaves an example of class {:?}", set.labels[lost]);
    Err(Error::file(options.files.place(), "data.limit", expected, options.files.limit))
}

fn check_splits(options: &Options, splits: &Splits<LabelledSet>) -> Result<()> {
    for split in [Split::Train, Split::Validation] {
        if splits.of(split).examples.is_empty() {
            let expected = "at least one example; give more examples or a larger share in data.split";
            return Err(Error::file(options.files.place(), &format!("{} split", split.name()), expected, "none"));
        }
    }
    Ok(())
}

/// What to say of examples that are in two splits; nothing where there are none.
pub(super) fn warning_of_shared(splits: &Splits<LabelledSet>, shared: &[SharedExample]) -> Option<String> {
    const NAMED: usize = 3;
    let place = |(split, index): (Split, usize)| splits.of(split).place(index);
    let examples: Vec<String> = shared
        .iter()
        .take(NAMED)
        .map(|shared| format!("{} and {}", place(shared.first), place(shared.again)))
        .collect();
    if examples.is_empty() {
        return None;
    }
    let more = if shared.len() > NAMED { format!(" and {} more", shared.len() - NAMED) } else { String::new() };
    let conflicting = shared.iter().filter(|shared| !shared.same_label).count();
    let conflicting =
        if conflicting > 0 { format!("; {conflicting} of them with another label") } else { String::new() };
    Some(format!(
        "{} of the examples to measure on also stand in an earlier split ({}{more}){conflicting}: scores on them say little; \
         data.deduplicate = true removes those with the same label",
        shared.len(),
        examples.join("; "),
    ))
}
