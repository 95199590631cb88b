//! Several batches make one update, which is that of one large batch.

use crate::common::{TestFolder, classifier, classify, columns, table, tag, tagger};
use throughline_testkit::assert_close;
use throughline_train::Recipe;
use throughline_train::recipe::OptimiserKind;

/// Ten updates of single precision, whose gradients are added up in another order.
const TOLERANCE: f64 = 2e-6;

/// Trains on `examples` in one batch, and in batches of `batch`, as many as an epoch has: the parameters must agree.
fn check(folder: &TestFolder, mut recipe: Recipe, examples: usize, batch: usize) {
    // Adam would make much of the rounding where a gradient is nearly 0.
    (recipe.optimiser.kind, recipe.optimiser.learning_rate) = (OptimiserKind::Sgd, 0.5);
    (recipe.optimiser.weight_decay, recipe.train.steps) = (0.0, 10);
    let train = |batch: usize, accumulate: u64| {
        let mut recipe = recipe.clone();
        (recipe.train.batch, recipe.train.accumulate) = (batch, accumulate);
        let run = folder.run(&format!("{}-{batch}-{accumulate}", recipe.task()));
        run.train(&recipe).unwrap();
        (run.parameters(), run.card())
    };
    let (whole, card) = train(examples, 1);
    assert!(card.contains(&format!("| sequences per update | {examples} |")), "{card}");
    let (accumulated, _) = train(batch, examples.div_ceil(batch) as u64);
    assert_close("parameters", &accumulated, &whole, TOLERANCE);
    let (small, _) = train(batch, 1);
    let apart = whole.iter().zip(&small).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart > 1e-3, "single batches would do as well: {apart}");
}

#[test]
fn classes_of_texts() {
    let folder = TestFolder::new();
    let mut recipe = classifier(&folder.file("train.csv", &table(1, 8)));
    classify(&mut recipe).files.split = [1.0, 0.0, 0.0];
    classify(&mut recipe).files.validation = vec![folder.file("validation.csv", &table(2, 8))];
    check(&folder, recipe, 8, 3);
}

/// Batches of sentences have different numbers of words, all of which weigh the same in the update.
#[test]
fn tags_of_words() {
    let folder = TestFolder::new();
    let mut recipe = tagger(&folder.file("train.txt", &columns(1, 10)));
    tag(&mut recipe).files.split = [1.0, 0.0, 0.0];
    tag(&mut recipe).known.unknown = Some(0.3);
    tag(&mut recipe).files.validation = vec![folder.file("validation.txt", &columns(2, 10))];
    check(&folder, recipe, 10, 4);
}
