//! Checkpointing in time makes no difference to what a run learns, beyond rounding.

use crate::common::{TestFolder, classifier, classify, language_model, lm, table, text};
use throughline_testkit::assert_close;
use throughline_train::Recipe;
use throughline_train::recipe::Checkpointing;

/// Of the parameters after a dozen updates.
const TOLERANCE: f64 = 2e-5;

fn check(make: fn(&TestFolder) -> Recipe) {
    let folder = TestFolder::new();
    let learn = |name: &str, checkpointing: Checkpointing| {
        let mut recipe = make(&folder);
        recipe.train.checkpoint_every = checkpointing;
        let run = folder.run(name);
        run.train(&recipe).unwrap();
        (run.parameters(), run.checkpoint())
    };
    let (want, _) = learn("whole", Checkpointing::Off);
    for (name, checkpointing) in [("three", Checkpointing::every(3)), ("auto", Checkpointing::Auto)] {
        let (got, bits) = learn(name, checkpointing);
        assert_close(name, &got, &want, TOLERANCE);
        assert!(bits == learn(&format!("{name}-again"), checkpointing).1, "the same bits each time");
    }
}

#[test]
fn language_models() {
    check(|folder| {
        let mut recipe = language_model(&folder.file("text.txt", &text(1, 600)));
        lm(&mut recipe).files.split = [0.5, 0.5, 0.0];
        lm(&mut recipe).embedded.embedding_dropout = 0.1;
        let model = &mut lm(&mut recipe).model;
        (model.dropout, model.output_dropout) = (0.2, 0.3);
        (lm(&mut recipe).windows.window, recipe.train.steps) = (11, 15);
        recipe
    });
}

#[test]
fn classifiers() {
    check(|folder| {
        let mut recipe = classifier(&folder.file("examples.csv", &table(2, 60)));
        classify(&mut recipe).files.split = [0.8, 0.2, 0.0];
        classify(&mut recipe).reading.bidirectional = false;
        classify(&mut recipe).embedded.embedding_dropout = 0.1;
        let model = &mut classify(&mut recipe).model;
        (model.dropout, model.output_dropout) = (0.2, 0.3);
        recipe.train.steps = 15;
        recipe
    });
}
