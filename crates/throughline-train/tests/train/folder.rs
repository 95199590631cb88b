//! A run folder is there whole, or not at all.

use crate::common::{TestFolder, classifier, classify, language_model, lm, table, text};
use throughline_train::{Event, Recipe, RunFolder, train};

const NEEDED: [&str; 5] = ["config.json", "config.toml", "data.json", "last.safetensors", "vocabulary.json"];

fn recipe(folder: &TestFolder) -> Recipe {
    let mut recipe = language_model(&folder.file("text.txt", &text(4, 400)));
    lm(&mut recipe).files.split = [0.6, 0.2, 0.2];
    recipe.train.steps = 5;
    recipe
}

#[test]
fn a_run_that_has_begun_can_be_resumed() {
    let folder = TestFolder::new();
    let run = folder.run("run");
    let (mut begun, mut ready) = (false, false);
    let outcome = run.train_watched(&recipe(&folder), &mut |event| match event {
        Event::Begin => {
            begun = true;
            assert_eq!(folder.entries(), ["text.txt"], "nothing is there before all of it is");
        }
        Event::Ready { .. } => {
            ready = true;
            let path = folder.join("run");
            assert!(NEEDED.iter().all(|name| path.join(name).is_file()), "all is there at once");
            assert_eq!(folder.entries(), ["run", "text.txt"]);
        }
        _ => {}
    });
    assert!(outcome.is_ok() && begun && ready);
    let [card, metrics, model] =
        ["README.md", "metrics.jsonl", "model.safetensors"].map(|name| folder.join("run").join(name));
    assert!(card.is_file() && metrics.is_file() && model.is_file());
}

#[test]
fn data_that_cannot_be_used_leave_no_run() {
    let folder = TestFolder::new();
    let usable = recipe(&folder);
    for change in [
        |recipe: &mut Recipe| lm(recipe).files.paths = vec!["missing".into()],
        |recipe: &mut Recipe| recipe.train.batch = 1000,
        |recipe: &mut Recipe| lm(recipe).files.split = [0.99, 0.001, 0.0],
        |recipe: &mut Recipe| lm(recipe).cleaning.encoding = "morse".to_owned(),
    ] {
        let mut recipe = usable.clone();
        change(&mut recipe);
        let error = folder.run("run").train(&recipe).unwrap_err();
        assert_eq!(folder.entries(), ["text.txt"], "{error}");
    }
}

/// A name that is taken or forbidden is refused before any data are read, and the run that has it stays as it is.
#[test]
fn no_run_is_overwritten() {
    let folder = TestFolder::new();
    let run = folder.run("run");
    run.train(&recipe(&folder)).unwrap();
    let before = std::fs::read(run.opened().checkpoint()).unwrap();
    let mut other = recipe(&folder);
    lm(&mut other).files.paths = vec!["missing".into()];
    let error = run.train(&other).unwrap_err().to_string();
    assert!(error.contains("a name that is free") && error.contains("--resume"), "{error}");
    let error = folder.run("con").train(&other).unwrap_err().to_string();
    assert!(error.contains("name of a run"), "{error}");
    assert!(std::fs::read(run.opened().checkpoint()).unwrap() == before);
}

/// Runs without a name are numbered, and those of several threads do not disturb each other.
#[test]
fn runs_of_several_threads_have_folders_of_their_own() {
    let folder = TestFolder::new();
    let mut recipe = classifier(&folder.file("data.csv", &table(5, 40)));
    classify(&mut recipe).files.split = [0.8, 0.2, 0.0];
    recipe.train.steps = 5;
    recipe.runs_dir = folder.join("runs");
    let begin = std::sync::Barrier::new(4);
    let work = || {
        let never = std::sync::atomic::AtomicBool::new(false);
        let watch = &mut |event: Event<'_>| {
            if matches!(event, Event::Begin) {
                begin.wait();
            }
        };
        train(recipe.clone(), &never, watch).unwrap_or_else(|error| panic!("{error}")).folder
    };
    let runs: Vec<RunFolder> = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(work));
        threads.map(|thread| thread.join().expect("a run")).into()
    });
    let mut names: Vec<_> = runs.iter().map(|run| run.path().file_name().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["classify-1", "classify-2", "classify-3", "classify-4"]);
    let bytes: Vec<_> = runs.iter().map(|run| std::fs::read(run.model()).unwrap()).collect();
    assert!(bytes.iter().all(|other| *other == bytes[0]), "the same run four times");
    let hidden = std::fs::read_dir(folder.join("runs"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}
