//! A sample of all that there is measures as the data do, and a smaller one is cut and spread.

use std::borrow::Borrow;

use throughline_data::{MissingNumbers, Pitches};
use throughline_infer::tasks::classify::Texts;
use throughline_infer::tasks::classify_series::LabelledSeries;
use throughline_infer::tasks::regress::TargetedSeries;
use throughline_infer::tasks::tag::{FormEncoder, Sentences};
use throughline_infer::tasks::{LanguageModel, Roll};
use throughline_infer::{Chosen, ExamplesOf, Sample, Serve};
use throughline_kernels::cells::CellKind;
use throughline_nn::layers::Pooling;
use throughline_nn::module::Cpu;
use throughline_nn::network::{Input, Wanted, Weights, Workspace};
use throughline_testkit::assert_close;

use crate::common::{
    TestModel, classifier, classify_config, language_model, roll_config, roll_model, tag_config, tagger,
};
use crate::series;

/// Between means of the same losses summed in other batches.
const ORDER: f64 = 1e-6;
const ALL: Sample<'_> = Sample::spread(usize::MAX, usize::MAX);

fn sample<T: Serve>(model: &TestModel<T>, data: &T::Data, sample: Sample<'_>) -> ExamplesOf<T> {
    T::sample(&model.config, &model.encoder, data, sample)
}

fn assert_measures_alike<T: Serve>(model: &TestModel<T>, data: &T::Data) {
    let examples = sample(model, data, ALL);
    let (cpu, network) = (&Cpu::new(1), &model.network);
    let packed = network.packed(cpu, &model.parameters, false);
    let weights = Weights { cpu, parameters: &model.parameters[..], packed: &packed };
    let input = Input::new(&examples.rows, examples.x.borrow());
    let loss = network.evaluate(weights, input, Wanted::new(examples.targets.borrow()), &mut Workspace::default());
    let whole = model.served(1).evaluate(data).expect("something to measure").loss;
    assert_close(T::INFO.name, &[loss.mean()], &[whole], ORDER);
}

/// Two channels of numbers.
fn numbers_of(count: usize) -> Vec<f32> {
    (0..count).map(|place| (place * 7 % 5) as f32 / 2.0 - 1.0).collect()
}

fn texts() -> Vec<Vec<u32>> {
    [5, 2, 0, 9, 1].map(|length| (0..length).map(|t| (t * 5 % 8) as u32).collect()).into()
}

#[test]
fn the_whole_measures_as_the_data_do() {
    let tokens: Vec<u32> = (0..100).map(|t| t * t % 8).collect();
    assert_measures_alike(&language_model(CellKind::Lstm), &tokens);

    // Texts without a unit are measured, and there is nothing in them to look at.
    let tokens: Vec<Vec<u32>> = texts().into_iter().filter(|text| !text.is_empty()).collect();
    let classes = vec![0, 2, 1, 1];
    let model = classifier(classify_config(CellKind::GruAfter, Pooling::Attention));
    assert_measures_alike(&model, &Texts { tokens, classes });

    let model = tagger(tag_config(CellKind::Lstm, true));
    let mut forms = FormEncoder::new(&model.encoder);
    let words: Vec<Vec<u32>> = ["ab cd \u{e9}t\u{e9}", "", "efgh ab"]
        .map(|text| text.split(' ').filter(|word| !word.is_empty()).map(|word| forms.index(word)).collect())
        .into();
    let tags = words.iter().map(|words| (0..words.len() as u32).collect()).collect();
    assert_measures_alike(&model, &Sentences { forms: forms.finish(), words, tags });

    let model = series::classifier(Pooling::Max, MissingNumbers::Forward);
    let numbers: Vec<Vec<f32>> = [6, 2, 8].map(numbers_of).into();
    assert_measures_alike(&model, &LabelledSeries { series: numbers.clone(), classes: vec![2, 0, 1] });
    let targets = vec![10.0, 1.0, 12.0, -1.0, 9.0, 0.5];
    assert_measures_alike(&series::regression(Pooling::LastStates), &TargetedSeries { series: numbers, targets });
}

#[test]
fn a_smaller_one_is_spread_and_cut() {
    let few = Sample::spread(2, 3);
    let tokens: Vec<u32> = (0..20).map(|t| t % 8).collect();
    let windows: ExamplesOf<LanguageModel> = sample(&language_model(CellKind::Lstm), &tokens, few);
    // Six windows of three units; the first and the fourth, step by step.
    assert_eq!(windows.x, [0, 1, 1, 2, 2, 3]);
    assert_eq!(windows.targets, [1, 2, 2, 3, 3, 4]);
    assert_eq!((windows.rows.batch(), windows.rows.steps()), (2, 3));
    // The last of them, of which less is read.
    let last = Sample { chosen: Chosen::These(&[5]), steps: 2, ..few };
    assert_eq!(sample(&language_model(CellKind::Lstm), &tokens, last).x, [7, 0]);
    assert_eq!(sample(&language_model(CellKind::Lstm), &vec![1], few).rows.rows(), 0);

    let model = classifier(classify_config(CellKind::GruAfter, Pooling::Attention));
    let texts = sample(&model, &Texts { tokens: texts(), classes: vec![0, 2, 1, 1, 2] }, few);
    // The empty text is left out: of four the first and the third, which are cut to three units.
    assert_eq!((texts.rows.batch(), texts.rows.rows(), texts.targets), (2, 6, vec![0, 1]));

    let piece = vec![[60].into_iter().collect::<Pitches>(); 5];
    let pieces = vec![Vec::new(), piece];
    let roll: ExamplesOf<Roll> = sample(&roll_model(roll_config(CellKind::Lstm)), &pieces, few);
    assert_eq!((roll.rows.batch(), roll.rows.rows()), (1, 3));
    assert_eq!(roll.x.len(), roll.targets.len());
    assert_eq!(roll.targets.iter().sum::<f32>(), 3.0);
}
