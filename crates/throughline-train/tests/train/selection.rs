//! Which model a run keeps, when it gives up, and what it says of both.

use crate::common::{Run, TestFolder, classifier, classify, table};
use throughline_data::Split;
use throughline_train::recipe::{AverageKind, ScheduleKind};
use throughline_train::{End, Event, Recipe, Row, read_rows};

fn recipe(folder: &TestFolder, seed: u64) -> Recipe {
    let mut recipe = classifier(&folder.file("examples.csv", &table(2, 60)));
    recipe.seed = seed;
    classify(&mut recipe).files.split = [0.6, 0.2, 0.2];
    (recipe.train.steps, recipe.train.evaluations) = (60, 60);
    recipe.optimiser.learning_rate = 5e-3;
    recipe
}

fn validations(run: &Run<'_>) -> Vec<Row> {
    let rows = read_rows(&run.opened().metrics()).unwrap();
    rows.into_iter().filter(|row| row.split == Split::Validation).collect()
}

/// Error rate and loss.
fn reached(row: &Row) -> (f64, f64) {
    (1.0 - row.metrics["accuracy"], row.loss)
}

/// The update that is kept, and the one after which the patience is over, by going through the rows once more.
fn expected(rows: &[Row], patience: u64) -> (u64, Option<u64>) {
    let trained: Vec<&Row> = rows.iter().filter(|row| row.step > 0).collect();
    let (mut best, mut waited) = (trained[0], 0);
    for row in &trained[1..] {
        if reached(row) < reached(best) {
            (best, waited) = (row, 0);
        } else {
            waited += 1;
        }
        if waited == patience {
            return (best.step, Some(row.step));
        }
    }
    (best.step, None)
}

#[test]
fn the_best_model_is_kept_and_the_loss_decides_between_equal_errors() {
    let folder = TestFolder::new();
    let (mut decided_by_loss, mut out_of_patience) = (0, 0);
    for seed in 1..=6 {
        let run = folder.run(&format!("run-{seed}"));
        let mut recipe = recipe(&folder, seed);
        recipe.train.patience = 4 * seed;
        let outcome = run.train(&recipe).unwrap();
        let rows = validations(&run);
        assert_eq!(rows[0].step, 0, "the untrained model is measured too");
        let (kept, stopped) = expected(&rows, recipe.train.patience);
        assert_eq!((outcome.kept, outcome.step), (kept, stopped.unwrap_or(60)), "seed {seed}");
        assert_eq!(
            outcome.end,
            if stopped.is_some() { End::Patience { evaluations: recipe.train.patience } } else { End::Updates }
        );

        let best = rows.iter().find(|row| row.step == kept).unwrap();
        let validation = outcome.validation.as_ref().unwrap();
        assert_eq!((validation.loss, &validation.metrics), (best.loss, &best.metrics));
        assert!(outcome.beat_the_start && reached(best) < reached(&rows[0]));
        let card = run.card();
        assert!(card.contains(&format!("The parameters kept are those after update {kept}, with the fewest errors")));
        assert!(!card.contains("No update was better"));

        let first_as_good = rows.iter().find(|row| row.step > 0 && reached(row).0 == reached(best).0).unwrap();
        decided_by_loss += u32::from(first_as_good.step < kept);
        out_of_patience += u32::from(stopped.is_some());
    }
    assert!(decided_by_loss > 0, "the runs do not show how ties are decided");
    assert!(
        (1..6).contains(&out_of_patience),
        "the runs do not show what patience does: {out_of_patience} ended by it"
    );
}

/// With next to no learning rate every evaluation is as good as the first.
#[test]
fn a_run_that_never_beats_its_start_says_so() {
    let folder = TestFolder::new();
    let mut recipe = recipe(&folder, 1);
    (recipe.train.steps, recipe.train.evaluations) = (10, 5);
    recipe.optimiser.learning_rate = 1e-12;
    let run = folder.run("run");
    let outcome = run.train(&recipe).unwrap();
    let rows = validations(&run);
    assert!(rows.iter().all(|row| reached(row) == reached(&rows[0])));
    assert_eq!((outcome.kept, outcome.beat_the_start), (rows[1].step, false), "update 0 is no trained model");
    let card = run.card();
    assert!(card.contains(&format!("those after update {}", rows[1].step)), "{card}");
    assert!(card.contains("**No update was better there than the untrained model:**"), "{card}");
}

#[test]
fn a_model_is_there_from_the_first_evaluation_of_a_trained_one_on() {
    let folder = TestFolder::new();
    let mut recipe = recipe(&folder, 1);
    recipe.train.evaluations = 30;
    let run = folder.run("run");
    run.train_until(1, &recipe).unwrap_err();
    assert!(!run.opened().model().exists(), "the untrained model is not kept");
    run.resume_until(3, &recipe).unwrap_err();
    assert_eq!(run.model().info().name, "classify");
}

/// Time may be over while the untrained model is measured; a run has at least one update all the same.
#[test]
fn a_run_out_of_time_keeps_a_trained_model() {
    let folder = TestFolder::new();
    let mut recipe = recipe(&folder, 1);
    (recipe.train.steps, recipe.train.max_seconds) = (1_000_000, 1);
    let run = folder.run("run");
    let late = |event: throughline_train::Event<'_>| {
        if let throughline_train::Event::Evaluation { row, .. } = event
            && row.step == 0
        {
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
    };
    let outcome = run.train_watched(&recipe, &mut { late }).unwrap();
    assert_eq!((outcome.end, outcome.step, outcome.kept), (End::Time, 1, 1));
    run.model();
}

/// With a rate that makes every model worse than the first, each step of the plateau goes back to that one, its moments and
/// its average.
#[test]
fn a_plateau_may_go_back_to_the_kept_update() {
    let folder = TestFolder::new();
    let mut recipe = recipe(&folder, 1);
    (recipe.train.steps, recipe.train.evaluations, recipe.optimiser.learning_rate) = (12, 6, 10.0);
    (recipe.schedule.kind, recipe.schedule.patience, recipe.schedule.gamma) = (ScheduleKind::Plateau, 1, 0.9);
    let run = |restart: bool, average: AverageKind| {
        let mut recipe = recipe.clone();
        (recipe.schedule.restart, recipe.average.kind) = (restart, average);
        let (run, mut restarts) = (folder.run(&format!("restart-{restart}-{average:?}")), Vec::new());
        let watch = &mut |event: Event<'_>| {
            if let Event::Restart { kept } = event {
                restarts.push(kept);
            }
        };
        let outcome = run.train_watched(&recipe, watch).unwrap();
        (run.checkpoint(), restarts, outcome.kept)
    };
    for (average, arrays) in [(AverageKind::None, 3), (AverageKind::Exponential, 4)] {
        let (checkpoint, restarts, kept) = run(true, average);
        assert!(restarts.len() > 1 && restarts.last() == Some(&kept), "{restarts:?} {kept}");
        // The last evaluation was a step of the plateau.
        let of_kept = checkpoint.iter().filter_map(|(name, bits)| Some((name.strip_prefix("kept.")?, bits)));
        let compared = of_kept.map(|(name, kept)| assert_eq!(checkpoint[name], *kept, "{name}")).count();
        assert_eq!(compared, arrays, "the parameters, two moments of AdamW, and the average");
        let (without, restarts, _) = run(false, average);
        assert!(restarts.is_empty() && !without.keys().any(|name| name.starts_with("kept.")));
        assert_ne!(without["parameters"], checkpoint["parameters"]);
    }
}
