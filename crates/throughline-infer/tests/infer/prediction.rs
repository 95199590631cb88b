//! What a model answers does not depend on what else it is asked.

use crate::common::{
    TestModel, classifier, classify_config, language_model, random, strs, text, texts_of_every_length,
};
use throughline_data::TextRules;
use throughline_infer::tasks::LanguageModel;
use throughline_infer::tasks::classify::Texts;
use throughline_infer::tasks::lm::Likelihood;
use throughline_infer::{Error, RecurrentSettings, Serve};
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_nn::layers::Pooling;
use throughline_nn::module::Cpu;
use throughline_nn::network::{Input, Wanted, Weights, Workspace};
use throughline_nn::state::State;
use throughline_testkit::assert_close;

/// Between sums of losses in f64 in another order.
const ORDER: f64 = 1e-12;
/// Between the loss of a row in f32 and in f64.
const ROUNDING: f64 = 1e-6;

#[test]
fn a_batch_of_texts_is_classified_as_each_alone() {
    let texts = texts_of_every_length(4, 300);
    for (cell, directions) in [(CellKind::Lstm, true), (CellKind::GruAfter, false)] {
        for pooling in Pooling::ALL {
            let mut config = classify_config(cell, pooling);
            config.recurrent.bidirectional = directions;
            let served = classifier(config).served(2);
            let together = served.predict(&strs(&texts));
            assert_eq!(together.len(), texts.len());
            for (text, answer) in texts.iter().zip(together) {
                let answer = answer.unwrap();
                assert_eq!(answer.text, *text, "answers come in the order of the inputs");
                assert_eq!(answer, *served.predict(&[text])[0].as_ref().unwrap(), "{pooling:?}, {} units", text.len());
                let total: f64 = answer.classes.iter().map(|class| class.probability).sum();
                assert!(
                    (total - 1.0).abs() < ORDER && answer.classes.is_sorted_by(|a, b| a.probability >= b.probability)
                );
                assert_eq!(
                    (&answer.label, answer.probability),
                    (&answer.classes[0].label, answer.classes[0].probability)
                );
            }
        }
    }
}

#[test]
fn a_batch_of_lines_is_scored_as_each_alone() {
    let texts = texts_of_every_length(5, 300);
    for cell in [CellKind::Lstm, CellKind::GruBefore] {
        let served = language_model(cell).served(2);
        for (text, answer) in texts.iter().zip(served.predict(&strs(&texts))) {
            let answer = answer.unwrap();
            assert_eq!(answer.text, *text, "answers come in the order of the inputs");
            assert_eq!(answer, *served.predict(&[text])[0].as_ref().unwrap(), "{cell:?}, {} units", text.len());
            assert_eq!(answer.loss.is_some(), text.len() > 1, "one unit has nothing before it");
        }
    }
}

/// More texts than a batch takes.
#[test]
fn many_texts_are_answered_in_their_order() {
    let mut random = random(6);
    let texts: Vec<String> = (0..1500)
        .map(|_| {
            let length = random.below(12);
            text(&mut random, length)
        })
        .collect();
    let served = classifier(classify_config(CellKind::Lstm, Pooling::Mean)).served(2);
    let (together, reversed) = (served.predict(&strs(&texts)), strs(&texts).into_iter().rev().collect::<Vec<_>>());
    for (a, b) in together.iter().zip(served.predict(&reversed).iter().rev()) {
        assert_eq!(a.as_ref().unwrap(), b.as_ref().unwrap());
    }
    assert_eq!(served.predict(&[]).len(), 0);
}

/// A long line is read in windows: that makes no difference to reading it at once, nor to reading it step by step.
#[test]
fn a_long_line_read_in_windows_is_the_line() {
    let plain = language_model(CellKind::Lstm);
    let mut config = plain.config.clone();
    assert!(
        !String::from_utf8_lossy(&plain.files()["config.json"]).contains("zoneout"),
        "files without it do not change"
    );
    (config.recurrent.zoneout_hidden, config.recurrent.zoneout_cell) = (0.15, 0.4);
    let zoneout = TestModel::<LanguageModel>::new(config, plain.encoder.clone());
    assert!(String::from_utf8_lossy(&zoneout.files()["config.json"]).contains("\"zoneout_hidden\": 0.15"));
    let line = text(&mut random(1), 50);
    let loss = |model: &TestModel<LanguageModel>| model.served(1).predict(&[&line])[0].as_ref().unwrap().loss;
    assert!(loss(&plain) != loss(&zoneout), "a model in use takes the expectation of zoneout");
    let mut config = plain.config.clone();
    config.recurrent.layer_norm = true;
    let normalised = TestModel::<LanguageModel>::new(config, plain.encoder.clone());
    assert!(String::from_utf8_lossy(&normalised.files()["config.json"]).contains("\"layer_norm\": true"));
    assert!(loss(&plain) != loss(&normalised), "a layer-normalised model is another");
    [plain, zoneout, normalised].iter().for_each(check_long_line);
}

fn check_long_line(model: &TestModel<LanguageModel>) {
    let served = model.served(1);
    let cpu = Cpu::new(1);
    let packed = model.network.packed(&cpu, &model.parameters, true);
    let weights = Weights { cpu: &cpu, parameters: &model.parameters, packed: &packed };
    let mut workspace = Workspace::default();
    for length in [2, 127, 128, 129, 130, 256, 257, 1000] {
        let line = text(&mut random(length as u64), length);
        let Likelihood { loss, perplexity, bits_per_unit, .. } = served.predict(&[&line])[0].as_ref().unwrap().clone();
        let (loss, tokens) = (loss.unwrap(), model.encoder.encode(&line));
        let (inputs, targets) = (&tokens[..length - 1], &tokens[1..]);
        let rows = Ragged::new(&[length - 1]);
        let whole = model.network.evaluate(weights, Input::new(&rows, inputs), Wanted::new(targets), &mut workspace);
        assert_close("windows", &[loss], &[whole.mean()], ORDER);

        let mut state = State::new(&model.network.state_shape(), 1);
        let steps = inputs.iter().zip(targets).map(|(&token, &target)| {
            let logits = model.network.step(weights, &[token], &mut state, &mut workspace).unwrap();
            let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            total.ln() - f64::from(logits[target as usize])
        });
        let by_steps = steps.sum::<f64>() / (length - 1) as f64;
        assert_close("steps", &[loss], &[by_steps], ROUNDING);
        assert_close("perplexity", &[perplexity.unwrap()], &[loss.exp()], ORDER);
        assert_close("bits", &[bits_per_unit.unwrap() * std::f64::consts::LN_2], &[loss], ORDER);
    }
}

/// Evaluation reads a long text in several streams; each unit is scored once, and all but a few with the context they
/// have.
#[test]
fn a_text_in_streams_is_measured_as_a_whole() {
    let model = language_model(CellKind::Lstm);
    let (served, text) = (model.served(2), text(&mut random(7), 9000));
    let tokens = model.encoder.encode(&text);
    let evaluation = served.evaluate(&tokens).unwrap();
    assert_eq!(evaluation.count, tokens.len() - 1);
    let line = served.predict(&[&text])[0].as_ref().unwrap().clone();
    assert_eq!(evaluation.unknown_share, line.unknown_share);
    // What a state forgets within the lead of 256 units.
    assert_close("loss", &[evaluation.loss], &[line.loss.unwrap()], 1e-6);
    for nothing in [vec![], vec![1]] {
        assert_eq!(served.evaluate(&nothing), None);
    }
}

#[test]
fn an_evaluation_counts_what_is_predicted() {
    let model = classifier(classify_config(CellKind::GruAfter, Pooling::LastStates));
    let (served, texts) = (model.served(2), texts_of_every_length(8, 300));
    let answers: Vec<_> = served.predict(&strs(&texts)).into_iter().map(Result::unwrap).collect();
    let tokens: Vec<Vec<u32>> = texts.iter().map(|text| model.encoder.text.encode_example(text, 0)).collect();
    let classes: Vec<u32> = (0..texts.len() as u32).map(|index| index % 3).collect();
    let evaluation = served.evaluate(&Texts { tokens, classes: classes.clone() }).unwrap();
    let truth = |class: u32| &model.encoder.labels[class as usize];
    let right = answers.iter().zip(&classes).filter(|(answer, class)| answer.label == *truth(**class)).count();
    let loss = answers.iter().zip(&classes).map(|(answer, &class)| {
        -answer.classes.iter().find(|of_class| of_class.label == *truth(class)).unwrap().probability.ln()
    });
    assert_eq!((evaluation.count, evaluation.metrics["accuracy"]), (301, right as f64 / 301.0));
    assert_close("loss", &[evaluation.loss], &[loss.sum::<f64>() / 301.0], ROUNDING);
    assert_eq!(<throughline_infer::tasks::Classify as Serve>::INFO.score(&evaluation), 1.0 - right as f64 / 301.0);
    assert_eq!(served.evaluate(&Texts::default()), None);
}

/// A text that does not fit the memory for one is refused, and those beside it are answered.
#[test]
fn a_text_that_is_too_long_is_refused_alone() {
    let mut config = classify_config(CellKind::RnnTanh, Pooling::LastStates);
    config.recurrent = RecurrentSettings { input: 1 << 20, hidden: 1, layers: 1, ..config.recurrent };
    assert_eq!(config.longest(), 63);
    let served = classifier(config.clone()).served(2);
    let (fits, too_long) = ("a".repeat(63), "a".repeat(64));
    let answers = served.predict(&["b", &too_long, &fits, &too_long, ""]);
    let error = answers[1].as_ref().unwrap_err();
    assert!(matches!(error, Error::Input { .. }));
    let message = "expected a text of at most 63 characters, the limit of memory for one text, found 64";
    assert_eq!(error.to_string(), message);
    assert!(answers[3].is_err());
    for index in [0, 2, 4] {
        let alone = &served.predict(&[["b", "", &fits, "", ""][index]])[0];
        assert_eq!(answers[index].as_ref().unwrap(), alone.as_ref().unwrap());
    }
    config.max_length = 63;
    let cuts = classifier(config).served(2);
    let answer = cuts.predict(&[&too_long])[0].as_ref().unwrap().clone();
    assert_eq!(answer.classes, answers[2].as_ref().unwrap().classes);
}

/// `config.json` alone says how long a text may be, how it is cleaned and how its states are pooled: the weights are
/// the same.
#[test]
fn the_configuration_decides() {
    let ask = |change: &dyn Fn(&mut throughline_infer::tasks::classify::Config), text: &str| {
        let mut config = classify_config(CellKind::Lstm, Pooling::Mean);
        change(&mut config);
        classifier(config).served(1).predict(&[text])[0].as_ref().unwrap().classes[0].probability
    };
    let whole = ask(&|_| (), "abcdef");
    assert_eq!(ask(&|config| config.max_length = 4, "abcdef"), ask(&|_| (), "abcd"));
    assert_ne!(ask(&|config| config.max_length = 4, "abcdef"), whole);
    assert_eq!(ask(&|config| config.max_length = 6, "abcdef"), whole);
    assert_ne!(ask(&|config| config.pooling = Pooling::Max, "abcdef"), whole);
    // An angstrom sign is the letter with a ring in NFC: one unknown unit either way, but an accent alone is one more.
    let plain = |config: &mut throughline_infer::tasks::classify::Config| config.text = TextRules { nfc: false };
    assert_eq!(ask(&|_| (), "e\u{301}abc"), ask(&|_| (), "?abc"));
    assert_eq!(ask(&plain, "e\u{301}abc"), ask(&plain, "e?abc"));
    assert_ne!(ask(&plain, "e?abc"), ask(&plain, "?abc"));
}
