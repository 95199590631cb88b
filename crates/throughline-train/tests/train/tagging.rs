//! Taggers: they learn, their baselines and scores are right, and their data are checked.

use throughline_data::{Split, TagScheme};
use throughline_train::tasks::tag::Scheme;
use throughline_train::{Error, Event};

use crate::common::{TestFolder, columns, tag, tagger};

/// Numbers never seen before are told by their characters.
#[test]
fn a_tagger_learns_what_its_words_are_made_of() {
    let folder = TestFolder::new();
    let path = folder.file("sentences.txt", &columns(1, 200));
    for (crf, name) in [(false, "softmax"), (true, "crf")] {
        let mut recipe = tagger(&path);
        tag(&mut recipe).tagger.crf = crf;
        (recipe.train.epochs, recipe.optimiser.learning_rate) = (6, 0.02);
        let outcome = folder.run(name).train(&recipe).unwrap();
        let test = outcome.test.unwrap();
        assert!(test.metrics["entity_f1"] > 0.95 && test.metrics["accuracy"] > 0.95, "{name}: {test:?}");
        assert!(test.unknown_share > 0.05, "there are unknown numbers: {test:?}");
        let report = folder.run(name).evaluate(&[]).unwrap();
        assert_eq!((report.evaluation.loss, report.evaluation.metrics), (test.loss, test.metrics));
        let card = folder.run(name).card();
        assert!(card.contains("`entity_f1`") && card.contains("most frequent tag of the word"), "{card}");
        assert_eq!(card.contains("conditional random field that keeps to bio"), crf, "{card}");
    }
}

#[test]
fn baselines_are_the_most_frequent_tags() {
    let folder = TestFolder::new();
    // `a` is X twice and Y once, `b` is Y; Y is the most frequent of all, so `c`, which is new, is Y.
    let train = "a X\na X\nb Y\n\na Y\nb Y\n\n";
    let path = folder.file("train.txt", train);
    let mut recipe = tagger(&path);
    tag(&mut recipe).files.validation = vec![folder.file("validation.txt", "a X\na Y\nb Y\nc X\n\n")];
    tag(&mut recipe).files.test = vec![folder.file("test.txt", "b X\n")];
    recipe.train.steps = 5;
    let mut scores = Vec::new();
    folder
        .run("run")
        .train_watched(&recipe, &mut |event| {
            if let Event::Ready { baselines, description, .. } = event {
                let score =
                    |score: &throughline_train::Score| (score.method.clone(), score.split, score.metrics["accuracy"]);
                scores = baselines.iter().map(score).collect();
                assert!(!description.data.iter().any(|(what, _)| what == "entities"), "{description:?}");
            }
        })
        .unwrap();
    let [majority, word] = ["majority tag", "most frequent tag of the word"].map(str::to_owned);
    let want = [
        (majority.clone(), Split::Validation, 0.5),
        (word.clone(), Split::Validation, 0.5),
        (majority, Split::Test, 0.0),
        (word, Split::Test, 0.0),
    ];
    assert_eq!(scores, want);
}

#[test]
fn what_breaks_the_scheme_is_counted_and_learned_from() {
    let folder = TestFolder::new();
    let broken = columns(1, 40) + "5\tI-NUM\n6\tI-NUM\n\n";
    let mut recipe = tagger(&folder.file("sentences.txt", &broken));
    tag(&mut recipe).tagger.crf = true;
    tag(&mut recipe).files.split = [0.5, 0.2, 0.3];
    recipe.train.steps = 5;
    let mut said = String::new();
    let watch = &mut |event: Event<'_>| {
        if let Event::Ready { description, .. } = event {
            said = description.data.iter().find(|(what, _)| what == "entities").unwrap().1.clone();
        }
    };
    let outcome = folder.run("run").train_watched(&recipe, watch).unwrap();
    assert_eq!(said, "1 types, written as bio, with 1 invalid transitions in the test split");
    assert!(outcome.test.unwrap().loss.is_finite());
    // A scheme that is given is kept to, whatever the data.
    tag(&mut recipe).tagger.scheme = Scheme::Of(TagScheme::Iob1);
    folder.run("given").train(&recipe).unwrap();
    assert!(folder.run("given").card().contains("keeps to iob1"));
    tag(&mut recipe).tagger.scheme = Scheme::None;
    folder.run("free").train(&recipe).unwrap();
    assert!(!folder.run("free").card().contains("keeps to"));
}

#[test]
fn sentences_keep_their_order_in_the_splits() {
    let folder = TestFolder::new();
    let numbered: String = (0..20).map(|i| format!("w{i} {}\n\n", ["X", "Y"][i % 2])).collect();
    let mut recipe = tagger(&folder.file("sentences.txt", &numbered));
    tag(&mut recipe).files.split = [0.8, 0.1, 0.1];
    recipe.train.steps = 5;
    let run = folder.run("run");
    run.train(&recipe).unwrap();
    let vocabulary = std::fs::read_to_string(run.opened().path().join("vocabulary.json")).unwrap();
    assert!(vocabulary.contains("\"w15\"") && !vocabulary.contains("\"w16\""), "{vocabulary}");
}

#[test]
fn other_tags_and_other_data_are_errors() {
    let folder = TestFolder::new();
    let path = folder.file("sentences.txt", &columns(1, 60));
    let mut recipe = tagger(&path);
    recipe.train.steps = 5;
    let run = folder.run("run");
    run.train(&recipe).unwrap();
    let other = folder.file("other.txt", "a O\n1 B-DATE\n");
    let error = run.evaluate(&[other]).unwrap_err().to_string();
    assert!(error.contains("other.txt:2: ") && error.contains("\"B-DATE\""), "{error}");
    folder.file("sentences.txt", &columns(2, 60));
    let error = run.evaluate(&[]).unwrap_err().to_string();
    assert!(error.contains("--data"), "{error}");
    folder.file("sentences.txt", &columns(1, 60).replace("NUM", "FIG"));
    let error = run.evaluate(&[]).unwrap_err().to_string();
    assert!(error.contains("new ones: \"B-FIG\", \"I-FIG\"") && error.contains("\"B-NUM\""), "{error}");
    let few = folder.file("few.txt", "a O\nb X\n");
    let error = folder.run("few").train(&tagger(&few)).unwrap_err();
    assert!(matches!(&error, Error::File { what, .. } if what == "validation split"), "{error}");
}

#[test]
fn tags_and_schemes_that_do_not_go_together_are_warned_of() {
    let folder = TestFolder::new();
    let warnings = |path: &std::path::Path, scheme| {
        let mut recipe = tagger(path);
        (tag(&mut recipe).tagger.crf, tag(&mut recipe).tagger.scheme) = (true, scheme);
        recipe.train.steps = 5;
        let mut warnings = Vec::new();
        let name = format!("run-{}", folder.entries().len());
        let watch = &mut |event: Event<'_>| {
            if let Event::Warning(warning) = event {
                warnings.push(warning.to_owned());
            }
        };
        folder.run(&name).train_watched(&recipe, watch).unwrap();
        warnings
    };
    let right = folder.file("right.txt", &columns(1, 60));
    assert!(warnings(&right, Scheme::Auto).is_empty());
    let [broken] = &warnings(&right, Scheme::Of(TagScheme::Iobes))[..] else { panic!("one warning") };
    assert!(broken.contains("breaks model.scheme = \"iobes\" in "), "{broken}");
    let misspelt = folder.file("misspelt.txt", &(columns(1, 60) + "7\tB_NUM\n\n"));
    let [mixed] = &warnings(&misspelt, Scheme::Auto)[..] else { panic!("one warning") };
    assert!(mixed.contains("but not \"B_NUM\""), "{mixed}");
    let speech = folder.file("speech.txt", &"a DET\ncat NOUN\n\n".repeat(30));
    assert!(warnings(&speech, Scheme::Auto).is_empty());
    let [unused] = &warnings(&speech, Scheme::Of(TagScheme::Bio))[..] else { panic!("one warning") };
    assert!(unused.contains("model.scheme = \"bio\" has no effect"), "{unused}");
}

/// Words below `min_count` are one token to the model, but not to the baseline.
#[test]
fn the_baseline_knows_words_that_the_model_does_not() {
    let folder = TestFolder::new();
    let path = folder.file("train.txt", "r1 X\n\nr2 X\n\nk Y\nk Y\nk Y\n\n");
    let mut recipe = tagger(&path);
    let options = tag(&mut recipe);
    options.known.min_count = 2;
    (options.tagger.character_hidden, options.tagger.character_embedding) = (0, 32);
    options.files.validation = vec![folder.file("validation.txt", "new Y\nr1 X\n")];
    options.files.split = [1.0, 0.0, 0.0];
    recipe.train.steps = 5;
    let mut scores = Vec::new();
    let watch = &mut |event: Event<'_>| {
        if let Event::Ready { baselines, .. } = event {
            scores = baselines.iter().map(|score| score.metrics["accuracy"]).collect();
        }
    };
    folder.run("run").train_watched(&recipe, watch).unwrap();
    assert_eq!(scores, [0.5, 1.0]);
}

/// Vectors of two words; the third line is of a word that is not asked for, the last a second one of `a`.
const VECTORS: &str = "a 0.5 -0.5 1 2 3 4\ncab 1 1 1 1 1 1\nnever 9 9 9 9 9 9\na 7 7 7 7 7 7\n";

#[test]
fn word_vectors_are_begun_with_and_stay_if_frozen() {
    let folder = TestFolder::new();
    let path = folder.file("sentences.txt", &columns(1, 60));
    let mut recipe = tagger(&path);
    tag(&mut recipe).vectors.vectors = folder.file("vectors.txt", VECTORS);
    (recipe.train.steps, recipe.optimiser.weight_decay) = (20, 0.1);
    let table = |name: &str| -> Vec<[f32; 6]> {
        let run = folder.run(name);
        let bytes = std::fs::read(run.opened().model()).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let rows = file
            .tensor("embedding.weight")
            .unwrap()
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&x| f32::from_le_bytes(x))
            .collect::<Vec<_>>();
        let vocabulary = std::fs::read_to_string(run.opened().path().join("vocabulary.json")).unwrap();
        let vocabulary = throughline_data::Vocabulary::from_json(&vocabulary, "vocabulary.json".as_ref()).unwrap();
        ["a", "cab", "bc"].map(|word| rows.as_chunks::<6>().0[vocabulary.encode(word)[0] as usize]).to_vec()
    };
    let vectors = [[0.5, -0.5, 1.0, 2.0, 3.0, 4.0], [1.0; 6]];
    tag(&mut recipe).vectors.freeze_vectors = true;
    let mut said = String::new();
    let watch = &mut |event: Event<'_>| {
        if let Event::Ready { description, .. } = event {
            said = description.data.iter().find(|(what, _)| what == "word vectors").unwrap().1.clone();
        }
    };
    folder.run("frozen").train_watched(&recipe, watch).unwrap();
    assert!(said.starts_with("of 2 of ") && said.ends_with("; 1 repeated ones left out; frozen"), "{said}");
    let frozen = table("frozen");
    assert_eq!(frozen[..2], vectors, "to the bit");
    tag(&mut recipe).vectors.freeze_vectors = false;
    folder.run("trained").train(&recipe).unwrap();
    let trained = table("trained");
    assert!(trained[0] != vectors[0] && (trained[0][5] - 4.0).abs() < 0.5, "{trained:?}");
    tag(&mut recipe).vectors.vectors = Default::default();
    folder.run("none").train(&recipe).unwrap();
    assert!((table("none")[0][5] - 4.0).abs() > 0.5);
    assert!(frozen[2] != trained[2] || trained[2] != table("none")[2]);
}

#[test]
fn word_vectors_that_cannot_be_used() {
    let folder = TestFolder::new();
    let path = folder.file("sentences.txt", &columns(1, 60));
    let mut recipe = tagger(&path);
    recipe.train.steps = 6;
    let mut refused = |content: &str, says: &[&str]| {
        tag(&mut recipe).vectors.vectors = folder.file("vectors.txt", content);
        let error = folder.run("never").train(&recipe).unwrap_err().to_string();
        assert!(says.iter().all(|says| error.contains(says)), "{error}");
    };
    refused("a 1 2 3\n", &["vectors.txt: data.vectors", "model.embedding = 6", "found 3"]);
    refused("never 1 2 3 4 5 6\n", &["vectors.txt: data.vectors", "found none"]);
    refused("a 1 2 3 4 5 6\nbc 1 2 3 4 5\n", &["vectors.txt:2"]);
    refused("a 1 2 3 4 5 x\n", &["vectors.txt:1"]);
    refused("", &["vectors.txt"]);
    // Other vectors are other data.
    tag(&mut recipe).vectors.vectors = folder.file("vectors.txt", VECTORS);
    let run = folder.run("run");
    run.train_until(3, &recipe).unwrap_err();
    folder.file("vectors.txt", &VECTORS.replace("0.5", "0.25"));
    let error = run.resume(&recipe).unwrap_err().to_string();
    assert!(error.contains("the training split has other words"), "{error}");
    folder.file("vectors.txt", VECTORS);
    run.resume(&recipe).unwrap();
    let whole = folder.run("whole");
    whole.train(&recipe).unwrap();
    assert_eq!(whole.checkpoint(), run.checkpoint());
}
