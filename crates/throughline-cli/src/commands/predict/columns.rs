//! `throughline predict --columns`: the words of files with their tags.

use anyhow::{Result, bail};
use throughline::data::{Sentences, TaggedFormat, TaggedReader, TextReader};
use throughline::infer::tag::TaggedWord;
use throughline::infer::{Served, Tag};

use crate::arguments::PredictArguments;
use crate::commands::warning_of_unknown;
use crate::output::{Output, note};

/// Sentences that are tagged together.
const SENTENCES: usize = 1024;

/// Writes the words of files with their tags.
pub fn run(model: &Served<Tag>, arguments: &PredictArguments) -> Result<()> {
    let PredictArguments { columns: files, word_column, out, .. } = arguments;
    let text = TextReader::default().with_rules(model.encoder().rules);
    // Words alone may stand on lines of one column, which a reader would take for lines of words.
    let columns = TaggedReader { text, word_column: word_column.clone(), ..TaggedReader::default() };
    let mut sentences = columns.read_words(files)?;
    if sentences.format == TaggedFormat::Lines {
        sentences = TaggedReader { format: Some(TaggedFormat::Columns), ..columns }.read_words(files)?;
    }
    let (refused, unknown) = Output::open(out.as_deref(), |output| tag(model, &sentences, output))?;
    if let Some(warning) = warning_of_unknown("these files", unknown / sentences.word_count().max(1) as f64) {
        note(&warning);
    }
    if refused > 0 {
        bail!("{refused} of {} sentences could not be tagged", sentences.len());
    }
    Ok(())
}

/// How many sentences could not be tagged, and how many words were unknown.
fn tag(model: &Served<Tag>, sentences: &Sentences, output: &mut Output<'_>) -> Result<(usize, f64)> {
    let (mut refused, mut unknown) = (0, 0.0);
    let indices: Vec<usize> = (0..sentences.len()).collect();
    for indices in indices.chunks(SENTENCES) {
        let words: Vec<Vec<&str>> = indices.iter().map(|&index| sentences.words(index).collect()).collect();
        let mut text = String::new();
        for (answer, &index) in model.tag(&words).into_iter().zip(indices) {
            match answer {
                Ok(answer) => {
                    unknown += answer.unknown_share * answer.words.len() as f64;
                    for TaggedWord { word, tag, .. } in &answer.words {
                        text += &format!("{word}\t{tag}\n");
                    }
                    text.push('\n');
                }
                Err(wrong) => {
                    output.text(&std::mem::take(&mut text))?;
                    refused += 1;
                    note(&format!("error: {}: {wrong}", sentences.place(index)));
                }
            }
        }
        output.text(&text)?;
    }
    Ok((refused, unknown))
}
