//! Averages of the parameters: of the right updates, with the right weights, measured and kept in place of the last ones.

use std::fs;

use crate::common::{Run, TestFolder, classify, table};
use safetensors::SafeTensors;
use throughline_data::Split;
use throughline_train::recipe::AverageKind;
use throughline_train::{Outcome, Recipe, read_rows};

/// Learns so fast that its loss rises and falls; an evaluation after every second update.
fn restless(folder: &TestFolder) -> Recipe {
    let mut recipe = crate::common::classifier(&folder.file("examples.csv", &table(2, 60)));
    classify(&mut recipe).files.split = [0.6, 0.2, 0.2];
    (recipe.optimiser.learning_rate, recipe.train.steps, recipe.train.evaluations) = (0.3, 14, 7);
    recipe
}

/// The parameters and their average after each update, of a run that is stopped after each.
fn course(run: &Run<'_>, recipe: &Recipe) -> Vec<[Vec<f32>; 2]> {
    let numbers = |name: &str| run.checkpoint()[name].iter().map(|&bits| f32::from_bits(bits)).collect();
    let after = |step: u64| {
        let outcome = if step == 1 { run.train_until(step, recipe) } else { run.resume_until(step, recipe) };
        assert_eq!(outcome.is_ok(), step == recipe.train.steps);
        ["parameters", "average"].map(numbers)
    };
    (1..=recipe.train.steps).map(after).collect()
}

/// The average goes from where it is towards the parameters by `weight`.
fn step(average: &mut [f32], parameters: &[f32], weight: f64) {
    average.iter_mut().zip(parameters).for_each(|(a, p)| *a = (weight as f32).mul_add(p - *a, *a));
}

/// The model that a whole run keeps is the average after the update that it names, and the same is measured.
fn check_kept(folder: &TestFolder, recipe: &Recipe, averages: &[Vec<f32>]) -> Outcome {
    let run = folder.run("whole");
    let outcome = run.train(recipe).unwrap();
    let kept = &averages[outcome.kept as usize - 1];
    let bytes = fs::read(run.opened().model()).unwrap();
    for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let numbers: Vec<f32> =
            tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        assert!(kept.windows(numbers.len()).any(|place| place == numbers), "{name} is not that of the average");
    }
    let rows = read_rows(&run.opened().metrics()).unwrap();
    let row = rows.iter().find(|row| row.split == Split::Validation && row.step == outcome.kept).expect("its row");
    assert_eq!(row.loss, outcome.validation.as_ref().expect("a validation split").loss);
    outcome
}

#[test]
fn the_exponential_average_is_kept() {
    let folder = TestFolder::new();
    let mut recipe = restless(&folder);
    (recipe.average.kind, recipe.average.decay) = (AverageKind::Exponential, 0.8);
    let run = folder.run("cut");
    let course = course(&run, &recipe);
    let mut want = vec![0.0; course[0][0].len()];
    for (index, [parameters, average]) in course.iter().enumerate() {
        step(&mut want, parameters, (1.0 - 0.8) / (1.0 - 0.8_f64.powf((index + 1) as f64)));
        assert!(*average == want, "the average after update {}", index + 1);
    }
    assert_ne!(course[13][0], course[13][1]);
    check_kept(&folder, &recipe, &course.into_iter().map(|[_, average]| average).collect::<Vec<_>>());
    assert!(run.card().contains("The parameters kept are the exponential average after update "), "{}", run.card());
}

/// It begins after two evaluations in a row without a new lowest loss.
#[test]
fn the_average_of_all_updates_begins_late() {
    let folder = TestFolder::new();
    let mut recipe = restless(&folder);
    (recipe.average.kind, recipe.average.patience) = (AverageKind::Uniform, 2);
    let run = folder.run("cut");
    let course = course(&run, &recipe);
    let rows = read_rows(&run.opened().metrics()).unwrap();
    let (mut lowest, mut waited, mut since) = (f64::INFINITY, 0, None);
    for row in rows.iter().filter(|row| row.split == Split::Validation) {
        (lowest, waited) = if row.loss < lowest { (row.loss, 0) } else { (lowest, waited + 1) };
        since = since.or((waited == 2).then_some(row.step as usize));
    }
    let since = since.expect("the loss has risen");
    assert!((4..12).contains(&since), "{since}");
    let mut want = vec![0.0; course[0][0].len()];
    for (index, [parameters, average]) in course.iter().enumerate() {
        if index >= since {
            step(&mut want, parameters, 1.0 / (index + 1 - since) as f64);
        }
        assert!(*average == want, "the average after update {}", index + 1);
    }
    let models = course.into_iter().enumerate();
    let models = models.map(|(index, [parameters, average])| if index < since { parameters } else { average });
    check_kept(&folder, &recipe, &models.collect::<Vec<_>>());
}
