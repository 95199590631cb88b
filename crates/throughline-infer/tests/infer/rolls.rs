//! Models of piano rolls: the same in any batch, measured as they are defined, and writing what they say.

use serde_json::{Value, json};

use crate::common::{random, roll_config, roll_model, strs};
use throughline_data::{PianoRoll, PieceReader, Pitches, piano_roll_from_json, piano_roll_to_json};
use throughline_infer::tasks::Roll;
use throughline_infer::tasks::roll::Batch;
use throughline_infer::{Error, Generation, Model, Served};
use throughline_kernels::cells::CellKind;
use throughline_nn::decode::Sampling;
use throughline_testkit::assert_close;

/// Between means of the same losses summed in other batches.
const ORDER: f64 = 1e-12;
/// Of logarithms of f32 probabilities against losses.
const ROUNDING: f64 = 1e-5;

/// Pieces of 0 to 40 steps in and beyond the keys.
fn pieces(seed: u64) -> Vec<PianoRoll> {
    let mut random = random(seed);
    let mut lengths: Vec<usize> = (0..=40).collect();
    random.shuffle(&mut lengths);
    let mut step = || -> Pitches { (0..random.below(5)).map(|_| 57 + random.below(15) as u8).collect() };
    lengths.into_iter().map(|length| (0..length).map(|_| step()).collect()).collect()
}

fn lines(pieces: &[PianoRoll]) -> Vec<String> {
    pieces.iter().map(|piece| piano_roll_to_json(piece)).collect()
}

fn served(threads: usize) -> Served<Roll> {
    roll_model(roll_config(CellKind::Lstm)).served(threads)
}

#[test]
fn a_batch_of_pieces_is_continued_as_each_alone() {
    let (pieces, served) = (pieces(1), served(2));
    let lines = lines(&pieces);
    for ((piece, line), answer) in pieces.iter().zip(&lines).zip(served.predict(&strs(&lines))) {
        let answer = answer.unwrap();
        assert_eq!(answer, *served.predict(&[line])[0].as_ref().unwrap());
        assert_eq!((answer.steps, answer.lowest, answer.probabilities.len()), (piece.len(), 60, 8));
        let above = (60..).zip(&answer.probabilities).filter(|&(_, &probability)| probability > 0.5);
        assert_eq!(answer.pitches, above.map(|(pitch, _)| pitch).collect::<Vec<u8>>());
        let notes: usize = piece.iter().map(|step| step.len()).sum();
        let beyond: usize = piece.iter().flat_map(|step| step.iter()).filter(|pitch| !(60..68).contains(pitch)).count();
        assert_eq!(answer.unknown_share, beyond as f64 / notes.max(1) as f64);
    }
}

/// The loss and the scores are those of the answers after each beginning of a piece.
#[test]
fn the_measures_are_those_of_the_predictions() {
    let (pieces, served) = (pieces(2), served(1));
    let evaluation = served.evaluate(&pieces).unwrap();
    let (mut loss, mut steps, [mut both, mut found_alone, mut missed]) = (0.0, 0, [0.0; 3]);
    for piece in &pieces {
        let beginnings: Vec<String> = (1..piece.len()).map(|end| piano_roll_to_json(&piece[..end])).collect();
        for (step, answer) in piece.iter().skip(1).zip(served.predict(&strs(&beginnings))) {
            let answer = answer.unwrap();
            for (pitch, &probability) in (60..68).zip(&answer.probabilities) {
                let (on, found) = (step.contains(pitch), answer.pitches.contains(&pitch));
                loss -= f64::from(if on { probability } else { 1.0 - probability }).ln();
                both += f64::from(u8::from(on && found));
                found_alone += f64::from(u8::from(!on && found));
                missed += f64::from(u8::from(on && !found));
            }
            steps += 1;
        }
    }
    assert_eq!(evaluation.count, steps);
    assert_close("loss", &[evaluation.loss], &[loss / steps as f64], ROUNDING);
    let want = [
        ("frame_accuracy", both / (both + found_alone + missed)),
        ("f1", 2.0 * both / (2.0 * both + found_alone + missed)),
        ("precision", both / (both + found_alone)),
        ("recall", both / (both + missed)),
    ];
    for (name, value) in want {
        assert_close(name, &[evaluation.metrics[name]], &[value], ORDER);
    }
    let mut reversed = pieces.clone();
    reversed.reverse();
    assert_close("in another order", &[served.evaluate(&reversed).unwrap().loss], &[evaluation.loss], ORDER);
    assert_eq!(served.evaluate(&vec![pieces[0][..0].to_vec(), vec![Pitches::default()]]), None);
}

#[test]
fn the_input_of_a_step_is_the_step_before_it() {
    let keys = roll_config(CellKind::Lstm).keys;
    let piece = piano_roll_from_json("[[60],[61,99],[67]]").unwrap();
    let mut batch = Batch::default();
    let row = |on: &[usize]| -> Vec<f32> { (0..8).map(|key| f32::from(u8::from(on.contains(&key)))).collect() };
    batch.set(keys, &[(&piece, 0..4)]);
    assert_eq!(batch.input().x, [row(&[]), row(&[0]), row(&[1]), row(&[7])].concat());
    assert_eq!(batch.targets(), [row(&[0]), row(&[1]), row(&[7]), row(&[])].concat());
    batch.set(keys, &[(&piece, 2..3), (&piece, 0..2)]);
    assert_eq!((batch.rows(), batch.targets()), (3, &[row(&[0]), row(&[7]), row(&[1])].concat()[..]));
}

fn written(model: &Model, generation: &Generation<'_>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut write = |more: &[u8]| {
        bytes.extend_from_slice(more);
        Ok(())
    };
    model.write(generation, &mut write)?;
    Ok(bytes)
}

#[test]
fn a_piece_is_continued_by_its_probabilities() {
    let model = Model::of(served(1));
    let sampling = Sampling::default();
    let generation = Generation { prompt: "[[60],[61,64]]", length: 30, sampling, seed: 7, ending: None };
    let first = written(&model, &generation).unwrap();
    assert!(first.starts_with(b"[[60],[61,64],["));
    assert_eq!(written(&model, &generation).unwrap(), first);
    assert_ne!(written(&model, &Generation { seed: 8, ..generation }).unwrap(), first);
    let piece = piano_roll_from_json(std::str::from_utf8(&first).unwrap()).unwrap();
    assert_eq!(piece.len(), 32);
    // What is drawn has the probabilities of a prediction, and the coldest draw is what is predicted.
    let cold = Sampling { temperature: 0.0, ..sampling };
    let surest = written(&model, &Generation { sampling: cold, length: 1, ..generation }).unwrap();
    let predicted = served(1).predict(&["[[60],[61,64]]"])[0].as_ref().unwrap().clone();
    let last = piano_roll_from_json(std::str::from_utf8(&surest).unwrap()).unwrap()[2];
    assert_eq!(last.iter().collect::<Vec<_>>(), predicted.pitches);
    let mut counts = [0.0; 8];
    for seed in 0..2000 {
        let one = written(&model, &Generation { length: 1, seed, ..generation }).unwrap();
        let drawn = piano_roll_from_json(std::str::from_utf8(&one).unwrap()).unwrap()[2];
        drawn.iter().for_each(|pitch| counts[usize::from(pitch - 60)] += 1.0 / 2000.0);
    }
    for (count, probability) in counts.iter().zip(predicted.probabilities) {
        assert!((count - f64::from(probability)).abs() < 0.06, "{count} for {probability}");
    }
    // From silence, too.
    assert!(written(&model, &Generation { prompt: "", length: 3, ..generation }).is_ok());
}

#[test]
fn a_long_prompt_is_read_in_windows() {
    let model = Model::of(served(1));
    let long: PianoRoll = pieces(3).into_iter().cycle().take(150).flatten().collect();
    assert!(long.len() > 2500);
    let (line, cold) = (piano_roll_to_json(&long), Sampling { temperature: 0.0, ..Sampling::default() });
    let generation = Generation { prompt: &line, length: 1, sampling: cold, seed: 1, ending: None };
    let continued = piano_roll_from_json(std::str::from_utf8(&written(&model, &generation).unwrap()).unwrap()).unwrap();
    let predicted = served(1).predict(&[&line])[0].as_ref().unwrap().pitches.clone();
    assert_eq!(continued.last().unwrap().iter().collect::<Vec<_>>(), predicted);
}

#[test]
fn music_is_written_as_midi() {
    let model = Model::of(served(1));
    let sampling = Sampling::default();
    let generation = Generation { prompt: "[[60],[60]]", length: 20, sampling, seed: 3, ending: Some("mid") };
    let bytes = written(&model, &generation).unwrap();
    let json = written(&model, &Generation { ending: Some("json"), ..generation }).unwrap();
    let folder = crate::common::ModelFolder::new(&[("a.mid".to_owned(), bytes)].into());
    let read = PieceReader { steps_per_beat: 2, ..PieceReader::default() };
    let read = read.read(&[folder.path().join("a.mid")]).unwrap().pieces.remove(0).1;
    // A silent end is not heard.
    let mut piece = piano_roll_from_json(std::str::from_utf8(&json).unwrap()).unwrap();
    while piece.last().is_some_and(|step| step.is_empty()) {
        piece.pop();
    }
    assert_eq!(read, piece);
    // The file is a prompt.
    let path = folder.path().join("a.mid");
    let prompt = path.to_str().unwrap();
    let again = written(&model, &Generation { prompt, length: 0, ending: None, ..generation }).unwrap();
    assert_eq!(again, piano_roll_to_json(&piece).into_bytes());
}

#[test]
fn what_a_model_cannot_take_is_refused() {
    let (served, model) = (served(1), Model::of(served(1)));
    for (line, says) in [
        ("", "EOF"),
        ("60", "expected a sequence, a list of steps"),
        ("[60]", "expected a step, a list of pitches"),
        ("[[128]]", "expected a MIDI pitch"),
        ("[[60,60]]", "60 twice"),
        ("{}", "expected a sequence"),
    ] {
        let error = served.predict(&[line, "[[60]]"]);
        assert!(error[0].as_ref().unwrap_err().to_string().contains(says), "{line}: {:?}", error[0]);
        assert!(error[1].is_ok());
    }
    let sampling = Sampling::default();
    let generation = Generation { prompt: "", length: 1, sampling, seed: 1, ending: None };
    for (generation, says) in [
        (Generation { ending: Some("wav"), ..generation }, "expected a file that ends in .mid, .midi or .json"),
        (Generation { ending: Some(""), ..generation }, "expected a file that ends in .mid"),
        (Generation { prompt: "[[200]]", ..generation }, "expected a MIDI pitch"),
        (Generation { prompt: "gone.mid", ..generation }, "gone.mid: cannot be read"),
        (Generation { prompt: "Once", ..generation }, "Once: expected a file that ends in .mid"),
        (Generation { length: usize::MAX, ..generation }, "a length of at most"),
        (Generation { sampling: Sampling { top_k: 3, ..sampling }, ..generation }, "no top_k and no top_p"),
        (Generation { sampling: Sampling { top_p: 0.5, ..sampling }, ..generation }, "no top_k and no top_p"),
    ] {
        let error = written(&model, &generation).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let broken = || Err(std::io::Error::other("no more room"));
    let error = model.write(&generation, &mut |_| broken()).unwrap_err();
    assert!(matches!(&error, Error::Write(why) if why.to_string() == "no more room"), "{error}");
}

#[test]
fn an_answer_as_json() {
    let answer: Value = Model::of(served(1)).predict_lines(&["[[60],[61,10]]"]).remove(0).unwrap();
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["lowest", "pitches", "probabilities", "steps", "unknown_share"]);
    assert_eq!((&answer["steps"], &answer["lowest"]), (&json!(2), &json!(60)));
    assert_eq!(answer["unknown_share"], json!(1.0 / 3.0));
}
