//! Measuring a trained model on data: its own test part, or other files.

use std::path::PathBuf;

use throughline_data::TextReader;

use super::{Evaluation, classify, language_model};
use crate::model::{Report, TrainedModel};
use crate::{Error, Part, Result, Task};

/// See [`TrainedModel::evaluate`].
pub(crate) fn report(trained: &mut TrainedModel, paths: &[PathBuf]) -> Result<Report> {
    match trained.task() {
        Task::Lm => language_report(trained, paths),
        Task::Classify => classifier_report(trained, paths),
    }
}

fn name_of(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

fn empty(trained: &TrainedModel) -> Error {
    Error::file(trained.folder().path(), "test part", "a test part in its data, or files named with --data", "none")
}

fn language_report(trained: &mut TrainedModel, paths: &[PathBuf]) -> Result<Report> {
    if paths.is_empty() {
        let mut lesson = super::load(trained.recipe())?;
        check_vocabulary(trained, lesson.vocabulary())?;
        let (model, workspace) = trained.parts();
        let (evaluation, count) = match lesson.evaluate(Part::Test, model, workspace) {
            Some(evaluation) => (evaluation, lesson.count(Part::Test) - 1),
            None => return Err(empty(trained)),
        };
        return Ok(Report { what: "test part".to_owned(), count, evaluation, confusion: None });
    }
    let reader = TextReader::default().encoding(&super::data_of(trained.recipe()).encoding)?;
    let text = language_model::read(&reader, paths, &mut 0)?;
    let tokens = trained.vocabulary().encode(&text);
    let (model, workspace) = trained.parts();
    let streams = language_model::EVALUATION_STREAMS;
    let (evaluation, count) = language_model::evaluate(&tokens, streams, model, workspace)
        .ok_or_else(|| Error::file(&paths[0], "text", "at least two units", format_args!("{}", tokens.len())))?;
    Ok(Report { what: name_of(paths), count, evaluation, confusion: None })
}

fn classifier_report(trained: &mut TrainedModel, paths: &[PathBuf]) -> Result<Report> {
    let (set, what) = if paths.is_empty() {
        let lesson = super::ClassifyLesson::load(trained.recipe())?;
        check_vocabulary(trained, super::Lesson::vocabulary(&lesson))?;
        (lesson.test_part().clone(), "test part".to_owned())
    } else {
        let reader = classify::reader(trained.recipe(), Some(trained.labels().to_vec()))?;
        let set = reader.read(paths)?;
        (classify::encode(trained.recipe(), trained.vocabulary(), set.examples.iter()), name_of(paths))
    };
    if set.texts.is_empty() {
        return Err(empty(trained));
    }
    let (model, workspace) = trained.parts();
    let (predictions, total) = classify::predict(&set, model, workspace);
    let confusion = classify::confusion(trained.labels(), &set.classes, &predictions);
    let loss = total.loss.sum / total.loss.count as f64;
    let evaluation = Evaluation { loss, score: 1.0 - confusion.accuracy(), metrics: classify::metrics(&confusion) };
    Ok(Report { what, count: set.texts.len(), evaluation, confusion: Some(confusion) })
}

/// The data of the recipe must still give the vocabulary of the run: else its test part is another one.
fn check_vocabulary(trained: &TrainedModel, now: &throughline_data::Vocabulary) -> Result<()> {
    if now.tokens() == trained.vocabulary().tokens() {
        return Ok(());
    }
    let path = trained.folder().vocabulary();
    let expected =
        "the vocabulary that the run's data give now; the data have changed since: name other data with --data";
    Err(Error::file(&path, "vocabulary", expected, "another one"))
}
