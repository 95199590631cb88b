//! Generation is reading and choosing, one step at a time.

use std::convert::Infallible;

use crate::common::{language_model, language_model_of, random, text, vocabulary};
use throughline_data::{UNKNOWN, Unit};
use throughline_infer::Served;
use throughline_infer::tasks::LanguageModel;
use throughline_infer::tasks::lm::Continuation;
use throughline_kernels::cells::CellKind;
use throughline_kernels::random::{Philox, Purpose};
use throughline_nn::decode::{Sampling, sample};
use throughline_nn::module::Cpu;
use throughline_nn::network::{Weights, Workspace};
use throughline_nn::state::State;

const SAMPLING: Sampling = Sampling { temperature: 0.9, top_k: 6, top_p: 0.95 };

fn write(model: &Served<LanguageModel>, prompt: &str, length: usize, seed: u64) -> String {
    let mut written = String::new();
    let continuation = Continuation { prompt, length, sampling: SAMPLING };
    let Ok(()) = model.generate(continuation, seed, &mut |text| {
        assert!(!text.is_empty());
        written.push_str(text);
        Ok::<(), Infallible>(())
    });
    written
}

#[test]
fn generation_is_stepping_by_hand() {
    let model = language_model(CellKind::GruAfter);
    let served = model.served(2);
    let cpu = Cpu::new(1);
    let packed = model.network.packed(&cpu, &model.parameters, true);
    let weights = Weights { cpu: &cpu, parameters: &model.parameters, packed: &packed };
    let long = text(&mut random(9), 300);
    for (prompt, seed) in [("abc", 1), ("a", 2), ("", 3), (&long, 4), ("\u{FEFF}ab\r\n", 5)] {
        let cleaned = if prompt.is_empty() { "\n".to_owned() } else { prompt.replace(['\u{FEFF}', '\r'], "") };
        let prompt_tokens = model.encoder.vocabulary.encode(&cleaned);
        let (mut state, mut workspace) = (State::new(&model.network.state_shape(), 1), Workspace::default());
        let (last, before) = prompt_tokens.split_last().unwrap();
        for &token in before {
            model.network.step(weights, &[token], &mut state, &mut workspace).unwrap();
        }
        let mut stream = Philox::new(seed, Purpose::Sample, 0).stream();
        let (mut token, mut want) = (*last, Vec::new());
        for _ in 0..100 {
            let logits = model.network.step(weights, &[token], &mut state, &mut workspace).unwrap();
            token = sample(logits, &SAMPLING, stream.uniform(), Some(UNKNOWN as usize)) as u32;
            want.push(token);
        }
        let got = write(&served, prompt, 100, seed);
        assert_eq!(got, model.encoder.vocabulary.decode(&want), "{prompt:?}");
        assert!(!got.contains('\u{FFFD}') && got.chars().count() == 100);
    }
}

#[test]
fn a_seed_decides_the_text() {
    let served = language_model(CellKind::Lstm).served(2);
    let texts = [1, 2, 3].map(|seed| write(&served, "ab", 60, seed));
    assert_eq!(texts, [1, 2, 3].map(|seed| write(&served, "ab", 60, seed)));
    assert!(texts[0] != texts[1] && texts[1] != texts[2]);
    assert!(texts[0].starts_with(&write(&served, "ab", 20, 1)), "a shorter text is the beginning of a longer one");
    assert_eq!(write(&served, "ab", 0, 1), "");
}

/// A prompt that says nothing is an empty one, and begins a line.
#[test]
fn an_empty_prompt_begins_a_line() {
    let served = language_model(CellKind::Lstm).served(1);
    let want = write(&served, "", 30, 1);
    for prompt in ["\n", "\u{FEFF}", "\r\n"] {
        assert_eq!(write(&served, prompt, 30, 1), want, "{prompt:?}");
    }
    let without_lines = language_model_of(CellKind::Lstm, vocabulary(Unit::Char, "ab")).served(1);
    assert_eq!(write(&without_lines, "", 30, 1), write(&without_lines, "?", 30, 1));
}

/// The first word does not run into the prompt, and no word is written that does not exist.
#[test]
fn words_are_kept_apart() {
    let words = ["to", "be", "or", "not"];
    let served = language_model_of(CellKind::Lstm, vocabulary(Unit::Word, "to be or not to be\n")).served(1);
    for seed in 1..=20 {
        for prompt in ["to be", "to be ", "to be\n", "", "to be\u{FEFF}", "to be \u{FEFF}"] {
            let written = write(&served, prompt, 12, seed);
            let after_word = prompt.trim_end_matches('\u{FEFF}').ends_with("be");
            assert!(!after_word || written.starts_with([' ', '\n']), "{prompt:?}: {written:?}");
            assert!(after_word || !written.starts_with(' '), "{prompt:?}: {written:?}");
            let all = format!("{prompt}{written}").replace('\u{FEFF}', "");
            assert!(all.split_whitespace().all(|word| words.contains(&word)), "{all:?}");
        }
    }
}

/// Text is written as soon as its characters are complete, and all of it in the end.
#[test]
fn bytes_are_written_as_characters() {
    let served = language_model_of(CellKind::Lstm, vocabulary(Unit::Byte, "")).served(1);
    for seed in 1..=20 {
        let written = write(&served, "caf", 40, seed);
        assert!(!written.is_empty() && written.len() <= 3 * 40, "{written:?}");
    }
}

#[test]
fn an_error_of_the_writer_ends_the_text() {
    let served = language_model(CellKind::Lstm).served(1);
    let mut calls = 0;
    let continuation = Continuation { prompt: "ab", length: 50, sampling: SAMPLING };
    let result = served.generate(continuation, 1, &mut |_| {
        calls += 1;
        if calls == 3 { Err("full") } else { Ok(()) }
    });
    assert_eq!((result, calls), (Err("full"), 3));
}
