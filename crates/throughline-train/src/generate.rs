//! Writing with a language model.

use throughline_data::{UNKNOWN, Vocabulary};
use throughline_kernels::random::Stream;
use throughline_nn::network::Workspace;
use throughline_nn::sampling::{Sampling, sample};

use crate::lesson::Model;

/// Reads `prompt`, then writes `length` units, handing each piece of text to `write` as soon as it is whole. The unknown
/// unit is never written. An empty prompt begins as a line does, after a newline where the vocabulary has one.
///
/// # Errors
/// What `write` returns; the generation ends there.
#[allow(clippy::too_many_arguments)]
pub fn generate<E>(
    model: Model<'_>,
    vocabulary: &Vocabulary,
    prompt: &str,
    length: usize,
    sampling: &Sampling,
    mut random: Stream,
    workspace: &mut Workspace<f32>,
    write: &mut dyn FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    let mut prompt = vocabulary.encode(if prompt.is_empty() { "\n" } else { prompt });
    if prompt.is_empty() {
        prompt.push(UNKNOWN);
    }
    let mut decoder = vocabulary.decoder();
    let mut states = None;
    let (last, before) = prompt.split_last().expect("the prompt has a unit");
    for &token in before {
        model.network.step_language_model(model.weights, &[token], &mut states, workspace);
    }
    let mut token = *last;
    for _ in 0..length {
        let logits = model.network.step_language_model(model.weights, &[token], &mut states, workspace);
        token = sample(logits, sampling, random.uniform(), Some(UNKNOWN as usize)) as u32;
        let piece = decoder.push(token);
        if !piece.is_empty() {
            write(&piece)?;
        }
    }
    let rest = decoder.finish();
    if rest.is_empty() { Ok(()) } else { write(&rest) }
}
