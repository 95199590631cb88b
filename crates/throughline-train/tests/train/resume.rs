//! A run that was stopped, or that crashed, ends in the same bits as one that never stopped.

use std::fs;

use crate::common::{
    Run, TestFolder, classify, columns, lm, of_classes, of_numbers, pieces, roll, series, table, tag, text,
};
use throughline_data::Split;
use throughline_kernels::cells::CellKind;
use throughline_nn::layers::Pooling;
use throughline_train::recipe::{AverageKind, Checkpointing, DropoutMask, InitialState, ScheduleKind};
use throughline_train::tasks::regress::LossKind;
use throughline_train::tasks::shared::ClassWeights;
use throughline_train::{End, Error, Event, Outcome, Recipe, Row, read_rows};

/// With all that a checkpoint must hold: states, moments, masks, schedule; crosses epochs and stops inside one.
fn language_model(folder: &TestFolder, threads: usize) -> Recipe {
    // Some characters occur once and are now and then read as unknown.
    let mut text = text(1, 600);
    for (place, rare) in [(20, "v"), (90, "w"), (91, "x"), (160, "y"), (230, "z")] {
        text.replace_range(place..=place, rare);
    }
    let mut recipe = crate::common::language_model(&folder.file("text.txt", &text));
    lm(&mut recipe).known.unknown = Some(0.5);
    recipe.threads = threads;
    lm(&mut recipe).files.split = [0.5, 0.3, 0.2];
    lm(&mut recipe).model.initial_state = InitialState::Learned;
    let embedded = &mut lm(&mut recipe).embedded;
    (embedded.embedding_dropout, embedded.token_dropout) = (0.1, 0.2);
    let model = &mut lm(&mut recipe).model;
    (model.dropout, model.output_dropout, model.dropout_mask) = (0.2, 0.3, DropoutMask::Sequence);
    (model.activation_penalty, model.temporal_penalty) = (2.0, 1.0);
    (model.weight_dropout, model.recurrent_dropout, model.candidate_dropout) = (0.3, 0.2, 0.1);
    (model.zoneout_hidden, model.zoneout_cell) = (0.1, 0.2);
    // 300 units: 4 streams of 74, 13 updates an epoch.
    (lm(&mut recipe).windows.window, recipe.train.steps) = (10, 30);
    recipe.train.checkpoint_every = Checkpointing::every(4);
    (recipe.schedule.kind, recipe.schedule.warmup, recipe.schedule.patience) = (ScheduleKind::Plateau, 3, 1);
    // Large enough for the loss to rise, so that the schedule goes back to the kept update.
    (recipe.schedule.restart, recipe.optimiser.learning_rate) = (true, 0.3);
    (recipe.average.kind, recipe.average.decay) = (AverageKind::Exponential, 0.9);
    (lm(&mut recipe).sample.every_evaluation, lm(&mut recipe).sample.length) = (true, 5);
    recipe
}

fn classifier(folder: &TestFolder, threads: usize) -> Recipe {
    let mut recipe = crate::common::classifier(&folder.file("examples.csv", &table(2, 60)));
    classify(&mut recipe).known.unknown = Some(0.5);
    classify(&mut recipe).reading.pooling = Pooling::Attention;
    recipe.threads = threads;
    classify(&mut recipe).files.split = [0.6, 0.2, 0.2];
    classify(&mut recipe).model.cell = CellKind::GruBefore;
    classify(&mut recipe).embedded.embedding_dropout = 0.1;
    let model = &mut classify(&mut recipe).model;
    (model.dropout, model.output_dropout) = (0.2, 0.3);
    (model.weight_dropout, model.candidate_dropout, model.zoneout_hidden) = (0.3, 0.2, 0.1);
    // 36 examples: 9 updates an epoch.
    recipe.train.steps = 20;
    recipe.schedule.kind = ScheduleKind::Cosine;
    (recipe.average.kind, recipe.average.patience) = (AverageKind::Uniform, 0);
    recipe
}

fn tagger(folder: &TestFolder, threads: usize) -> Recipe {
    let mut recipe = crate::common::tagger(&folder.file("sentences.txt", &columns(3, 60)));
    tag(&mut recipe).known.unknown = Some(0.5);
    tag(&mut recipe).tagger.crf = true;
    tag(&mut recipe).files.split = [0.6, 0.2, 0.2];
    recipe.threads = threads;
    tag(&mut recipe).embedded.embedding_dropout = 0.1;
    tag(&mut recipe).model.output_dropout = 0.3;
    // 36 sentences: 9 updates an epoch.
    recipe.train.steps = 20;
    recipe
}

fn piano_roll(folder: &TestFolder, threads: usize) -> Recipe {
    let mut recipe = crate::common::piano_roll(&folder.file("pieces.json", &pieces(4, 30)));
    roll(&mut recipe).files.split = [0.6, 0.2, 0.2];
    recipe.threads = threads;
    roll(&mut recipe).map.embedding_dropout = 0.1;
    roll(&mut recipe).model.output_dropout = 0.3;
    recipe.train.steps = 12;
    recipe
}

fn series_classifier(folder: &TestFolder, threads: usize) -> Recipe {
    let mut recipe = crate::common::series_classifier(&folder.file("series.csv", &series(5, 40)));
    let options = of_classes(&mut recipe);
    options.files.split = [0.6, 0.2, 0.2];
    options.weighting.class_weights = ClassWeights::Balanced;
    (options.reading.pooling, options.model.output_dropout) = (Pooling::Attention, 0.3);
    (recipe.threads, recipe.train.steps) = (threads, 12);
    recipe
}

fn regression(folder: &TestFolder, threads: usize) -> Recipe {
    let mut recipe = crate::common::regression(&folder.file("series.csv", &series(5, 40)));
    let options = of_numbers(&mut recipe);
    options.files.split = [0.6, 0.2, 0.2];
    options.loss.loss = LossKind::Huber;
    (recipe.threads, recipe.train.steps) = (threads, 12);
    recipe
}

/// What of the metrics does not depend on the clock.
fn measured(run: &Run<'_>) -> Vec<String> {
    let rows = read_rows(&run.opened().metrics()).expect("metrics");
    let line = |row: &Row| {
        let split = row.split;
        format!("{} {} {split:?} {} {} {} {:?}", row.step, row.epoch, row.loss, row.lr, row.grad_norm, row.metrics)
    };
    rows.iter().map(line).collect()
}

#[track_caller]
fn assert_same_run(a: &Run<'_>, b: &Run<'_>) {
    let bytes = |run: &Run<'_>| fs::read(run.opened().model()).expect("a model");
    assert!(bytes(a) == bytes(b), "model.safetensors differs");
    let (a_tensors, b_tensors) = (a.checkpoint(), b.checkpoint());
    assert!(a_tensors.keys().eq(b_tensors.keys()));
    for (name, tensor) in &a_tensors {
        assert!(*tensor == b_tensors[name], "{name} differs in the checkpoints");
    }
    assert_eq!(measured(a), measured(b));
}

#[track_caller]
fn assert_interrupted(outcome: throughline_train::Result<Outcome>, at: u64) {
    assert!(matches!(&outcome, Err(Error::Interrupted { step, .. }) if *step == at), "{outcome:?}");
}

fn check_interruptions(make: fn(&TestFolder, usize) -> Recipe, updates_per_epoch: u64, stops: &[u64]) {
    let folder = TestFolder::new();
    let whole = folder.run("whole");
    let outcome = whole.train(&make(&folder, 1)).unwrap();
    assert_eq!(outcome.step, make(&folder, 1).train.steps);
    let progress = throughline_train::checkpoint::peek(&whole.opened().checkpoint()).unwrap();
    let goes_back = make(&folder, 1).schedule.restart;
    assert_eq!(goes_back, progress.counts.moments < outcome.step, "the run went back if it was to");
    let rows = read_rows(&whole.opened().metrics()).unwrap();
    assert!(rows.len() as u64 > outcome.step, "every update has its row");
    assert!(rows.iter().all(|row| row.epoch == row.step.div_ceil(updates_per_epoch)));
    for threads in [1, 2] {
        let recipe = make(&folder, threads);
        for &stop in stops {
            let cut = folder.run(&format!("cut-{threads}-{stop}"));
            assert_interrupted(cut.train_until(stop, &recipe), stop);
            assert_eq!(cut.resume(&recipe).unwrap().new_updates, recipe.train.steps - stop, "what was done is kept");
            assert_same_run(&whole, &cut);
        }
        let often = folder.run(&format!("often-{threads}"));
        assert_interrupted(often.train_until(stops[0], &recipe), stops[0]);
        for &stop in &stops[1..] {
            assert_interrupted(often.resume_until(stop, &recipe), stop);
        }
        often.resume(&recipe).unwrap();
        assert_same_run(&whole, &often);
    }
}

/// 0 and 13 are the beginnings of epochs, 6 and 12 follow evaluations.
#[test]
fn an_interrupted_language_model() {
    check_interruptions(language_model, 13, &[0, 1, 6, 12, 13, 14, 29]);
}

/// Two batches an update; the last update of an epoch has one. The cells are layer-normalised.
#[test]
fn an_interrupted_language_model_that_accumulates() {
    let make = |folder: &TestFolder, threads| {
        let mut recipe = language_model(folder, threads);
        (recipe.train.accumulate, recipe.train.steps, recipe.schedule.restart) = (2, 15, false);
        lm(&mut recipe).model.layer_norm = true;
        recipe
    };
    check_interruptions(make, 7, &[0, 1, 6, 7, 14]);
}

#[test]
fn an_interrupted_classifier() {
    check_interruptions(classifier, 9, &[0, 1, 8, 9, 10, 19]);
}

#[test]
fn an_interrupted_tagger() {
    check_interruptions(tagger, 9, &[0, 1, 9, 10, 19]);
}

/// 18 pieces: 5 updates an epoch.
#[test]
fn an_interrupted_model_of_piano_rolls() {
    check_interruptions(piano_roll, 5, &[0, 1, 5, 6]);
}

/// 24 series: 6 updates an epoch.
#[test]
fn an_interrupted_model_of_series() {
    check_interruptions(series_classifier, 6, &[0, 1, 6, 7]);
    check_interruptions(regression, 6, &[0, 1, 6, 7]);
}

/// After a crash there are rows and a model that are newer than the checkpoint, and perhaps half a row.
#[test]
fn a_crashed_run() {
    let folder = TestFolder::new();
    for (name, recipe) in [("lm", language_model(&folder, 1)), ("classify", classifier(&folder, 1))] {
        let (whole, crashed) = (folder.run(&format!("{name}-whole")), folder.run(&format!("{name}-crashed")));
        whole.train(&recipe).unwrap();
        assert_interrupted(crashed.train_until(4, &recipe), 4);
        let checkpoint = fs::read(crashed.opened().checkpoint()).unwrap();
        assert_interrupted(crashed.resume_until(17, &recipe), 17);
        fs::write(crashed.opened().checkpoint(), checkpoint).unwrap();
        let mut rows = fs::read_to_string(crashed.opened().metrics()).unwrap();
        rows.push_str("{\"step\":18,\"epo");
        fs::write(crashed.opened().metrics(), rows).unwrap();
        crashed.resume(&recipe).unwrap();
        assert_same_run(&whole, &crashed);
    }
}

#[test]
fn a_finished_run_is_left_as_it_is() {
    let folder = TestFolder::new();
    // Learns next to nothing, so that its patience ends.
    let mut impatient = classifier(&folder, 1);
    (impatient.optimiser.learning_rate, impatient.train.patience) = (1e-12, 1);
    let recipes = [language_model(&folder, 1), classifier(&folder, 1), impatient];
    for (index, recipe) in recipes.iter().enumerate() {
        let (once, again) = (folder.run(&format!("once-{index}")), folder.run(&format!("again-{index}")));
        let want = once.train(recipe).unwrap();
        assert_eq!(want.step < recipe.train.steps, recipe.train.patience > 0);
        again.train(recipe).unwrap();
        let got = again.resume(recipe).unwrap();
        let end =
            if recipe.train.patience > 0 { End::Patience { evaluations: recipe.train.patience } } else { End::Updates };
        assert_eq!((want.new_updates, want.end, got.new_updates, got.end), (want.step, end, 0, end));
        assert_eq!((got.kept, got.beat_the_start), (want.kept, want.beat_the_start));
        assert_eq!((got.step, got.validation, got.test), (want.step, want.validation, want.test));
        assert_same_run(&once, &again);
        let mut places: Vec<_> =
            read_rows(&again.opened().metrics()).unwrap().iter().map(|row| (row.step, row.split)).collect();
        let rows = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), rows, "nothing is measured twice");
    }
}

/// A run may go on for longer than it was first to; its test split then counts at the new end alone.
#[test]
fn a_finished_run_goes_on_with_more_steps() {
    let folder = TestFolder::new();
    let recipe = classifier(&folder, 1);
    let mut longer = recipe.clone();
    longer.train.steps = 26;
    let run = folder.run("longer");
    run.train(&recipe).unwrap();
    assert_eq!(run.resume(&longer).unwrap().step, 26);
    let tests = read_rows(&run.opened().metrics()).unwrap().into_iter().filter(|row| row.split == Split::Test);
    assert_eq!(tests.map(|row| row.step).collect::<Vec<_>>(), [26]);
}

#[test]
fn another_recipe_and_other_data_are_refused() {
    let folder = TestFolder::new();
    let recipe = language_model(&folder, 1);
    let run = folder.run("run");
    assert_interrupted(run.train_until(3, &recipe), 3);
    let before = fs::read(run.opened().checkpoint()).unwrap();
    let refused = |recipe: &Recipe, what: &str| {
        let outcome = run.resume(recipe);
        assert!(matches!(&outcome, Err(Error::File { what: found, .. }) if found == what), "{outcome:?}");
        assert!(fs::read(run.opened().checkpoint()).unwrap() == before, "the checkpoint is as it was");
    };
    let changes: [fn(&mut Recipe); 6] = [
        |recipe| recipe.seed += 1,
        |recipe| recipe.optimiser.learning_rate *= 2.0,
        |recipe| lm(recipe).model.dropout = 0.5,
        |recipe| lm(recipe).windows.window = 11,
        |recipe| recipe.train.clip_norm = 2.0,
        |recipe| recipe.schedule.warmup = 4,
    ];
    for change in changes {
        let mut changed = recipe.clone();
        change(&mut changed);
        refused(&changed, "recipe");
    }
    let mut wider = recipe.clone();
    lm(&mut wider).model.hidden += 1;
    assert!(matches!(run.resume(&wider), Err(Error::File { .. })), "the tensors do not fit");

    let original =
        fs::read_to_string(&recipe.options::<throughline_train::tasks::lm::Options>().files.paths[0]).unwrap();
    let swapped = original.replacen("ab", "ba", 1);
    assert_ne!(original, swapped);
    folder.file("text.txt", &swapped);
    refused(&recipe, "data");
    folder.file("text.txt", &original);
    run.resume(&recipe).unwrap();
}

/// A schedule that follows the length of the run jumps where that changes; it says so, and keeps its course when asked to.
#[test]
fn a_schedule_that_jumps_says_so() {
    let folder = TestFolder::new();
    let recipe = classifier(&folder, 1);
    let rates = |run: &Run<'_>| -> Vec<f64> {
        let rows = read_rows(&run.opened().metrics()).unwrap();
        rows.into_iter().filter(|row| row.split == Split::Train).map(|row| row.lr).collect()
    };
    let change = |run: &Run<'_>, steps: u64, schedule_steps: u64| {
        let mut recipe = recipe.clone();
        (recipe.train.steps, recipe.schedule.steps) = (steps, schedule_steps);
        let mut warnings = Vec::new();
        let watch = &mut |event: Event<'_>| {
            if let Event::Warning(warning) = event {
                warnings.push(warning.to_owned());
            }
        };
        run.resume_watched(&recipe, watch).unwrap();
        warnings
    };

    let jumps = folder.run("jumps");
    jumps.train(&recipe).unwrap();
    let floor = rates(&jumps)[19];
    let [warning] = &change(&jumps, 30, 0)[..] else { panic!("one warning") };
    assert!(warning.contains(&format!("jumps from {floor:.3e} to ")), "{warning}");
    assert!(warning.contains("ends after 30 updates instead of 20"), "{warning}");
    assert!(warning.ends_with("--set schedule.steps=20"), "{warning}");
    assert!(rates(&jumps)[20] > 2.0 * floor);

    // It is said once, where it happens.
    let again = folder.run("again");
    again.train(&recipe).unwrap();
    let mut longer = recipe.clone();
    longer.train.steps = 30;
    assert_interrupted(again.resume_until(25, &longer), 25);
    assert_eq!(change(&again, 30, 0), [""; 0]);

    let keeps = folder.run("keeps");
    keeps.train(&recipe).unwrap();
    assert_eq!(change(&keeps, 30, 20), [""; 0]);
    assert_eq!(rates(&keeps)[20..], [floor; 10], "the schedule goes on where it was");
    assert_eq!(change(&keeps, 40, 20), [""; 0]);

    // A length of its own may change too.
    let [warning] = &change(&keeps, 50, 100)[..] else { panic!("one warning") };
    assert!(warning.contains("ends after 100 updates instead of 20"), "{warning}");

    // In the middle of a run that is made shorter.
    let shorter = folder.run("shorter");
    assert_interrupted(shorter.train_until(8, &recipe), 8);
    let [warning] = &change(&shorter, 10, 0)[..] else { panic!("one warning") };
    assert!(warning.contains("ends after 10 updates instead of 20"), "{warning}");
}
