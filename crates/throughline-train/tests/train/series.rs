//! Series of numbers: models learn them, their baselines and scores are right, and their data are checked.

use std::path::PathBuf;

use throughline_data::{MissingNumbers, Scaling, Split};
use throughline_nn::layers::Pooling;
use throughline_train::tasks::regress::LossKind;
use throughline_train::tasks::shared::ClassWeights;
use throughline_train::{Description, Event, Recipe, Score};

use crate::common::{TestFolder, of_classes, of_numbers, regression, series, series_classifier};

/// What a run tells before it begins.
fn told(folder: &TestFolder, name: &str, recipe: &Recipe) -> (Description, Vec<Score>) {
    let mut told = None;
    let watch = &mut |event: Event<'_>| {
        if let Event::Ready { description, baselines, .. } = event {
            told = Some((description.clone(), baselines.to_vec()));
        }
    };
    folder.run(name).train_watched(recipe, watch).unwrap();
    told.expect("a run tells what it is about to do")
}

fn message(folder: &TestFolder, recipe: &Recipe) -> String {
    folder.run("refused").train(recipe).unwrap_err().to_string()
}

#[test]
fn a_classifier_learns_which_way_series_go() {
    let folder = TestFolder::new();
    let path = folder.file("series.csv", &series(1, 240));
    for (pooling, missing) in
        Pooling::ALL.into_iter().zip([MissingNumbers::Mask, MissingNumbers::Forward].into_iter().cycle())
    {
        let name = &format!("{pooling:?}");
        let mut recipe = series_classifier(&path);
        of_classes(&mut recipe).files.split = [0.6, 0.2, 0.2];
        (of_classes(&mut recipe).reading.pooling, of_classes(&mut recipe).tables.missing) = (pooling, missing);
        (recipe.train.epochs, recipe.optimiser.learning_rate) = (6, 0.02);
        let outcome = folder.run(name).train(&recipe).unwrap();
        let test = outcome.test.unwrap();
        assert!(test.metrics["accuracy"] > 0.95, "{name}: {test:?}");
        let report = folder.run(name).evaluate(&[]).unwrap();
        assert_eq!((report.evaluation.loss, report.evaluation.metrics), (test.loss, test.metrics), "{name}");
        let other = folder.file("other.csv", &series(2, 50));
        assert!(folder.run(name).evaluate(&[other]).unwrap().evaluation.metrics["accuracy"] > 0.9, "{name}");
    }
    let card = folder.run("Mean").card();
    for part in ["nearest mean and deviation", "missing numbers", "`accuracy`"] {
        assert!(card.contains(part), "no {part} in {card}");
    }
}

#[test]
fn a_regression_learns_a_sum() {
    let folder = TestFolder::new();
    let path = folder.file("series.csv", &series(1, 300));
    for loss in [LossKind::Squared, LossKind::Absolute, LossKind::Huber] {
        let name = &format!("{loss:?}");
        let mut recipe = regression(&path);
        of_numbers(&mut recipe).files.split = [0.7, 0.1, 0.2];
        of_numbers(&mut recipe).loss.loss = loss;
        (recipe.train.epochs, recipe.optimiser.learning_rate) = (15, 0.02);
        let test = folder.run(name).train(&recipe).unwrap().test.unwrap();
        assert!(test.metrics["r2"] > 0.9 && test.metrics["mae"] < 1.0, "{name}: {test:?}");
        let report = folder.run(name).evaluate(&[]).unwrap();
        assert_eq!((report.evaluation.loss, report.evaluation.metrics), (test.loss, test.metrics), "{name}");
    }
}

/// Three series of one channel, in splits of their own.
fn tiny(folder: &TestFolder) -> Recipe {
    let file = |name: &str, content: &str| -> Vec<PathBuf> { vec![folder.file(name, content)] };
    let mut recipe = regression(&folder.file("train.csv", "id,x,y,z\n1,1,10,0\n1,2,,\n2,3,20,5\n3,8,60,1\n"));
    let options = of_numbers(&mut recipe);
    options.files.validation = file("validation.csv", "id,x,y,z\n7,5,30,1\n7,7,30,1\n8,0,50,3\n");
    options.files.test = file("test.csv", "id,x,y,z\n1,4,40,2\n");
    options.tables.channels = vec!["x".to_owned()];
    options.targets.target_columns = vec!["y".to_owned(), "z".to_owned()];
    recipe.train.steps = 5;
    recipe
}

#[test]
fn baselines_are_the_mean_and_the_last_number() {
    let folder = TestFolder::new();
    let (description, baselines) = told(&folder, "run", &tiny(&folder));
    let shown: Vec<_> = baselines.iter().map(|score| (score.method.as_str(), score.split)).collect();
    let (mean, last) = ("mean of the training split", "last number");
    assert_eq!(shown, [(mean, Split::Validation), (last, Split::Validation), (mean, Split::Test), (last, Split::Test)]);
    // Means 30 and 2; targets 30 and 50, 1 and 3; last numbers 7 and 0.
    let of = |score: usize, metric: &str| baselines[score].metrics[metric];
    assert_eq!((of(0, "mae.y"), of(0, "mae.z"), of(0, "mae")), (10.0, 1.0, 5.5));
    assert_eq!((of(0, "r2.y"), of(0, "r2.z")), (1.0 - 400.0 / 200.0, 0.0));
    assert_eq!((of(1, "mae.y"), of(1, "mae.z")), ((23.0 + 50.0) / 2.0, (6.0 + 3.0) / 2.0));
    // One series alone has no spread, so no r2.
    assert!(!baselines[2].metrics.contains_key("r2") && of(2, "mae.y") == 10.0);
    assert!(description.data.contains(&("to predict".to_owned(), "y, z".to_owned())), "{description:?}");

    let mut recipe = series_classifier(&folder.file("classes.csv", "id,level,label\n1,0,a\n2,1,a\n3,9,b\n"));
    of_classes(&mut recipe).files.validation = vec![folder.file("v.csv", "id,level,label\n1,1,a\n2,7,b\n3,8,a\n")];
    of_classes(&mut recipe).files.split = [1.0, 0.0, 0.0];
    recipe.train.steps = 5;
    let (_, baselines) = told(&folder, "classes", &recipe);
    let accuracies: Vec<f64> = baselines.iter().map(|score| score.metrics["accuracy"]).collect();
    assert_eq!(accuracies, [2.0 / 3.0, 2.0 / 3.0], "the majority is a; 1 is near a, 7 and 8 are near b");
}

#[test]
fn class_weights_change_what_is_learned_and_not_how_it_is_measured() {
    let folder = TestFolder::new();
    let path = folder.file("series.csv", &series(1, 60));
    let run = |name: &str, weights: ClassWeights| {
        let mut recipe = series_classifier(&path);
        of_classes(&mut recipe).files.split = [0.6, 0.4, 0.0];
        of_classes(&mut recipe).weighting.class_weights = weights;
        recipe.train.steps = 5;
        let mut first = f64::NAN;
        let watch = &mut |event: Event<'_>| {
            if let Event::Evaluation { row, .. } = event
                && row.step == 0
            {
                first = row.loss;
            }
        };
        let outcome = folder.run(name).train_watched(&recipe, watch).unwrap();
        (first, outcome.validation.unwrap().loss)
    };
    let (equal, balanced) = (run("equal", ClassWeights::Equal), run("balanced", ClassWeights::Balanced));
    assert_eq!(equal.0, balanced.0, "the untrained model has the same loss");
    assert_ne!(equal.1, balanced.1, "other things are learned");
}

#[test]
fn missing_numbers_follow_the_rule() {
    let folder = TestFolder::new();
    let gap = "id,x,label\n1,1,a\n1,,a\n2,3,b\n3,4,a\n4,5,b\n5,6,a\n6,7,b\n";
    let mut recipe = series_classifier(&folder.file("gap.csv", gap));
    of_classes(&mut recipe).tables.channels = Vec::new();
    of_classes(&mut recipe).files.split = [0.5, 0.5, 0.0];
    recipe.train.steps = 5;
    of_classes(&mut recipe).tables.missing = MissingNumbers::Refuse;
    let error = message(&folder, &recipe);
    let want = "gap.csv:2: series: expected no missing numbers, found one in channel \"x\" at step 2; set data.missing to \
                \"mask\" or \"forward\"";
    assert!(error.ends_with(want), "{error}");
    of_classes(&mut recipe).tables.missing = MissingNumbers::Mask;
    let (description, _) = told(&folder, "masked", &recipe);
    assert!(
        description.data.contains(&("missing numbers".into(), "1 of 7 (14.29 %), masked".into())),
        "{description:?}"
    );

    let lost = "id,x,y,label\n1,1,,a\n2,3,,b\n3,4,,a\n4,5,,b\n";
    let mut recipe = series_classifier(&folder.file("lost.csv", lost));
    of_classes(&mut recipe).tables.channels = Vec::new();
    of_classes(&mut recipe).files.split = [0.5, 0.5, 0.0];
    let error = message(&folder, &recipe);
    assert!(
        error.contains("channel \"y\": expected a number in the training split, found only missing ones"),
        "{error}"
    );
}

#[test]
fn what_may_be_wrong_is_said() {
    let folder = TestFolder::new();
    let table = "id,x,y,label\n1,1,7,a\n2,3,7,b\n3,3,7,b\n";
    let mut recipe = series_classifier(&folder.file("x.csv", table));
    let options = of_classes(&mut recipe);
    options.tables.channels = Vec::new();
    options.files.validation = vec![folder.file("v.csv", "id,x,y,label\n1,1,7,a\n2,4,7,b\n")];
    recipe.train.steps = 5;
    let (description, _) = told(&folder, "run", &recipe);
    let warnings = description.warnings.join("\n");
    assert!(warnings.contains("channels that do not vary in the training split: y"), "{warnings}");
    assert!(warnings.contains("1 of the series to measure on also stand in the training split"), "{warnings}");
}

#[test]
fn data_of_another_kind_are_refused() {
    let folder = TestFolder::new();
    let mut recipe = tiny(&folder);
    of_numbers(&mut recipe).tables.channels = Vec::new();
    of_numbers(&mut recipe).files.test = vec![folder.file("other.csv", "id,x,w,y,z\n1,4,0,40,2\n")];
    let error = message(&folder, &recipe);
    assert!(
        error.contains("other.csv: channels: expected the channels of the training data: x, found x, w"),
        "{error}"
    );
    let recipe = tiny(&folder);
    folder.run("run").train(&recipe).unwrap();
    let evaluate = |name: &str, content: &str| {
        folder.run("run").evaluate(&[folder.file(name, content)]).map_err(|error| error.to_string())
    };
    assert_eq!(evaluate("more.csv", "more,id,x,y,z\n0,1,4,40,2\n").unwrap().evaluation.count, 1);
    let error = evaluate("fewer.csv", "id,w,y,z\n1,4,40,2\n").unwrap_err();
    assert!(error.contains("fewer.csv:1: expected one column named \"x\""), "{error}");
    let error = evaluate("no-target.csv", "id,x,y\n1,4,40\n").unwrap_err();
    assert!(error.contains("expected one column named \"z\""), "{error}");

    let mut recipe = series_classifier(&folder.file("series.csv", &series(1, 30)));
    of_classes(&mut recipe).files.split = [0.5, 0.5, 0.0];
    of_classes(&mut recipe).tables.scaling = Scaling::Range;
    recipe.train.steps = 5;
    folder.run("classes").train(&recipe).unwrap();
    let unseen = folder.file("unseen.csv", "id,level,label\n1,1,sideways\n");
    let error = folder.run("classes").evaluate(&[unseen]).unwrap_err().to_string();
    assert!(error.contains("unseen.csv:2: expected one of the labels \"down\", \"up\", found \"sideways\""), "{error}");
    let far = folder.file("far.csv", "id,level,label\n1,1e300,up\n");
    let error = folder.run("classes").evaluate(&[far]).unwrap_err().to_string();
    assert!(
        error.contains("far.csv:2: series: expected numbers of channel \"level\" near those of the training data"),
        "{error}"
    );
}
