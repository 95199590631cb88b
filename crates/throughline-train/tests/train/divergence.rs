//! A run that diverges says so, and leaves a state that is still good.

use crate::common::{Run, TestFolder, language_model, lm, text};
use throughline_kernels::cells::CellKind;
use throughline_train::recipe::OptimiserKind;
use throughline_train::{Error, Recipe};

/// A rectifier and an absurd learning rate.
fn diverging(folder: &TestFolder) -> Recipe {
    let path = folder.file("text.txt", &text(3, 800));
    let mut recipe = language_model(&path);
    lm(&mut recipe).model.cell = CellKind::RnnRelu;
    recipe.optimiser = throughline_train::recipe::Optimiser {
        kind: OptimiserKind::Sgd,
        learning_rate: 1000.0,
        weight_decay: 0.0,
        ..recipe.optimiser
    };
    recipe.train.clip_norm = 0.0;
    recipe.train.steps = 50;
    recipe
}

#[track_caller]
fn assert_good_state(run: &Run<'_>) {
    for (name, tensor) in run.checkpoint() {
        assert!(tensor.iter().all(|&bits| f32::from_bits(bits).is_finite()), "{name} of the checkpoint is not finite");
    }
    // There is a model from the first evaluation of a trained one on.
    if run.opened().model().exists() {
        run.model();
    }
}

#[test]
fn the_error_names_the_step_and_the_gradient_norm() {
    let folder = TestFolder::new();
    let run = folder.run("diverging");
    let error = run.train(&diverging(&folder)).unwrap_err();
    let Error::NonFiniteLoss { step, loss, grad_norm, checkpoint } = &error else { panic!("{error}") };
    assert!(*step > 0 && *step < 50, "{step}");
    assert!(!loss.is_finite() || !grad_norm.is_finite(), "{loss} {grad_norm}");
    assert_eq!(checkpoint.as_deref(), Some(run.opened().checkpoint().as_path()));
    let message = error.to_string();
    for said in [format!("at update {step}"), format!("gradient norm {grad_norm}"), "learning_rate".into()] {
        assert!(message.contains(&said), "{message}");
    }
    assert_good_state(&run);
}

/// Whenever the run is stopped, what it saves is finite: a state that has already diverged is never kept.
#[test]
fn no_checkpoint_holds_what_is_not_finite() {
    let folder = TestFolder::new();
    let mut diverged = false;
    for stop in 1..8 {
        for learning_rate in [1000.0, 100.0, 10.0] {
            let mut recipe = diverging(&folder);
            recipe.optimiser.learning_rate = learning_rate;
            let run = folder.run(&format!("stopped-{stop}-{learning_rate}"));
            match run.train_until(stop, &recipe) {
                Err(Error::Interrupted { .. }) => {}
                Err(Error::NonFiniteLoss { .. }) => diverged = true,
                other => panic!("{other:?}"),
            }
            assert_good_state(&run);
        }
    }
    assert!(diverged, "some of these runs diverge");
}

/// Also when the last update of a run is the one that goes too far.
#[test]
fn a_run_that_ends_as_it_diverges_is_no_success() {
    let folder = TestFolder::new();
    for steps in 1..8 {
        let mut recipe = diverging(&folder);
        recipe.train.steps = steps;
        let run = folder.run(&format!("short-{steps}"));
        let outcome = run.train(&recipe);
        assert!(matches!(outcome, Ok(_) | Err(Error::NonFiniteLoss { .. })), "{outcome:?}");
        assert_good_state(&run);
    }
}
