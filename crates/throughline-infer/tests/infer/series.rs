//! Models of series in use: what they are given, what they answer, and the same bits in any company.

use serde_json::Value;
use throughline_data::{MissingNumbers, Scale};
use throughline_infer::tasks::{ClassifySeries, Regress, classify_series, regress};
use throughline_infer::{Channel, Error, Model, RecurrentSettings, SeriesEncoder};
use throughline_kernels::cells::CellKind;
use throughline_nn::layers::Pooling;

use crate::common::{TestModel, settings};

const NAN: f64 = f64::NAN;

fn channel(name: &str, shift: f64, factor: f64) -> Channel {
    Channel { name: name.to_owned(), scale: Scale { shift, factor, mean: shift } }
}

fn encoder(missing: MissingNumbers) -> SeriesEncoder {
    SeriesEncoder { channels: vec![channel("x", 1.0, 2.0), channel("y", 0.0, 1.0)], missing }
}

fn recurrent(input: usize) -> RecurrentSettings {
    RecurrentSettings { input, bidirectional: true, ..settings(CellKind::GruAfter) }
}

pub fn classifier(pooling: Pooling, missing: MissingNumbers) -> TestModel<ClassifySeries> {
    let input = encoder(missing);
    let config = classify_series::Config { recurrent: recurrent(input.features()), input, classes: 3, pooling };
    TestModel::new(config, ["first", "second", "third"].map(str::to_owned).into())
}

pub fn regression(pooling: Pooling) -> TestModel<Regress> {
    let input = encoder(MissingNumbers::Forward);
    let targets = vec![channel("height", 10.0, 4.0), channel("width", 0.0, 1.0)];
    let loss = regress::Loss::Huber(0.5);
    let config = regress::Config { recurrent: recurrent(input.features()), input, targets, pooling, loss };
    TestModel::new(config, ())
}

#[test]
fn series_are_scaled_and_missing_numbers_follow_the_rule() {
    let values = [NAN, 5.0, 3.0, NAN, NAN, 7.0];
    let encode = |missing, values: &[f64]| encoder(missing).encode(values);
    assert_eq!(encode(MissingNumbers::Forward, &values).unwrap(), [0.0, 5.0, 1.0, 5.0, 1.0, 7.0]);
    let masked = [0.0, 5.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 7.0, 0.0, 1.0];
    assert_eq!(encode(MissingNumbers::Mask, &values).unwrap(), masked);
    let refused = encode(MissingNumbers::Refuse, &values).unwrap_err().to_string();
    assert!(refused.ends_with("found one in channel \"x\" at step 1"), "{refused}");
    assert_eq!(encode(MissingNumbers::Refuse, &[1.0, 2.0]).unwrap(), [0.0, 2.0]);
    for (values, found) in
        [(&[][..], "found none"), (&[NAN, NAN], "found only missing ones"), (&[1e300, 0.0], "found 1")]
    {
        let error = encode(MissingNumbers::Forward, values).unwrap_err();
        assert!(matches!(error, Error::Input { .. }) && error.to_string().contains(found), "{error}");
    }
}

/// Also where 0 is not what the mean is scaled to, but the least number, say.
#[test]
fn missing_numbers_are_read_as_the_mean() {
    let scale = Scale { shift: 10.0, factor: 4.0, mean: 11.0 };
    let channels = vec![Channel { name: "x".to_owned(), scale }];
    let encode = |missing| SeriesEncoder { channels: channels.clone(), missing }.encode(&[NAN, 14.0, NAN]).unwrap();
    assert_eq!(encode(MissingNumbers::Forward), [0.25, 1.0, 1.0]);
    assert_eq!(encode(MissingNumbers::Mask), [0.25, 0.0, 1.0, 1.0, 0.25, 0.0]);
}

#[test]
fn series_in_json() {
    let two = encoder(MissingNumbers::Mask);
    let shown = |values: Vec<f64>| values.iter().map(|v| if v.is_nan() { -1.0 } else { *v }).collect::<Vec<_>>();
    assert_eq!(shown(two.parse("[[1, 2.5], [null, -3e2]]").unwrap()), [1.0, 2.5, -1.0, -300.0]);
    let one = SeriesEncoder { channels: vec![channel("x", 0.0, 1.0)], ..two.clone() };
    assert_eq!(shown(one.parse("[1, null, [3]]").unwrap()), [1.0, -1.0, 3.0]);
    for (line, found) in [
        ("", "EOF"),
        ("[1, 2]", "a number alone at step 1"),
        ("[[1, 2], [3]]", "1 at step 2"),
        ("[[1, 2], [3, \"x\"]]", "data did not match"),
        ("[[1, 1e999]]", "number out of range"),
        ("{\"x\": 1}", "invalid type: map"),
    ] {
        let error = two.parse(line).unwrap_err().to_string();
        let expected = "expected a series in JSON: a list of steps, each a list of 2 numbers";
        assert!(error.starts_with(expected) && error.contains(found), "{line}: {error}");
    }
}

/// Alone, in any batch, on any number of threads; with the attention that it was given.
#[test]
fn answers_do_not_depend_on_the_company() {
    let series: Vec<Vec<f64>> = [3, 1, 7, 4].map(|steps| (0..2 * steps).map(|i| (i * i % 7) as f64).collect()).into();
    let all: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
    for pooling in Pooling::ALL {
        let classifier = classifier(pooling, MissingNumbers::Mask);
        let together = classifier.served(1).classify(&all);
        assert!(together.iter().zip(&series).all(|(answer, series)| {
            let answer = answer.as_ref().unwrap();
            let weights: Option<f32> = answer.facts.attention.as_ref().map(|weights| weights.iter().sum());
            assert_eq!(weights.is_some(), pooling == Pooling::Attention);
            assert!(weights.is_none_or(|sum| (sum - 1.0).abs() < 1e-6), "{weights:?}");
            let length = answer.facts.attention.as_ref().map_or(answer.facts.steps, Vec::len);
            2 * answer.facts.steps == series.len() && length == answer.facts.steps
        }));
        let regression = regression(pooling);
        let numbers = regression.served(1).regress(&all);
        let (of_two, numbers_of_two) = (classifier.served(2), regression.served(2));
        for (index, series) in all.iter().enumerate() {
            let alone = of_two.classify(&[series]).remove(0).unwrap();
            assert_eq!(Some(&alone), together[index].as_ref().ok(), "{pooling:?}");
            let alone = numbers_of_two.regress(&[series]).remove(0).unwrap();
            assert_eq!(Some(&alone), numbers[index].as_ref().ok(), "{pooling:?}");
        }
    }
}

#[test]
fn what_cannot_be_answered_is_told_and_the_rest_is_answered() {
    let model = Model::of(classifier(Pooling::Mean, MissingNumbers::Refuse).served(1));
    let answers = model.predict_lines(&["[[1, 2]]", "[[1, null]]", "nothing", "[[3, 4], [5, 6]]"]);
    let steps: Vec<Option<u64>> =
        answers.iter().map(|answer| answer.as_ref().ok().and_then(|answer| answer["steps"].as_u64())).collect();
    assert_eq!(steps, [Some(1), None, None, Some(2)]);
    let answer = answers[0].as_ref().unwrap();
    let total: f64 = answer["classes"].as_array().unwrap().iter().map(|c| c["probability"].as_f64().unwrap()).sum();
    assert!((total - 1.0).abs() < 1e-9 && answer["label"] == answer["classes"][0]["label"], "{answer}");
    assert_eq!(answer["missing"], 0);
    let answer =
        Model::of(regression(Pooling::Max).served(1)).predict_lines(&["[[1, null], [2, 3]]"]).remove(0).unwrap();
    assert!(
        answer["values"]["height"].is_f64() && answer["values"]["width"].is_f64() && answer["missing"] == 1,
        "{answer}"
    );
    assert_eq!(answer.get("attention"), None::<&Value>);
}

/// The loss is that of scaled numbers, the metrics are in the units of the data.
#[test]
fn evaluation_is_in_the_units_of_the_data() {
    let model = regression(Pooling::LastStates);
    let served = model.served(1);
    let series = [[1.0, 2.0], [3.0, 4.0]];
    let answers = served.regress(&[&series[0], &series[1]]);
    let predicted: Vec<[f64; 2]> =
        answers.iter().map(|answer| ["height", "width"].map(|name| answer.as_ref().unwrap().values[name])).collect();
    let targets = vec![12.0, 1.0, 30.0, -1.0];
    let inputs = series.iter().map(|series| served.config().input.encode(series).unwrap()).collect();
    let data = regress::TargetedSeries { series: inputs, targets: targets.clone() };
    let evaluation = served.evaluate(&data).unwrap();
    let error = |series: usize, target: usize| predicted[series][target] - targets[2 * series + target];
    let mae = |target: usize| (error(0, target).abs() + error(1, target).abs()) / 2.0;
    let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-5, "{got} {want}");
    near(evaluation.metrics["mae.height"], mae(0));
    near(evaluation.metrics["mae"], (mae(0) + mae(1)) / 2.0);
    near(evaluation.metrics["rmse.width"], ((error(0, 1).powi(2) + error(1, 1).powi(2)) / 2.0).sqrt());
    let huber = |error: f64| if error.abs() <= 0.5 { error * error / 2.0 } else { 0.5 * (error.abs() - 0.25) };
    let scaled = [(0, 0, 4.0), (0, 1, 1.0), (1, 0, 4.0), (1, 1, 1.0)];
    let loss: f64 = scaled.iter().map(|&(series, target, factor)| huber(error(series, target) / factor)).sum();
    near(evaluation.loss, loss / 4.0);
}
