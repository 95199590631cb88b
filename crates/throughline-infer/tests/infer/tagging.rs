//! Sentences tagged: the same in any batch, within the scheme, and measured as they are answered.

use serde_json::json;

use crate::common::{FilesOf, TAGS, random, strs, tag_config, tagger};
use throughline_data::{EntityScores, EntityTags, TagScheme};
use throughline_infer::tasks::tag::{FormEncoder, Sentences};
use throughline_infer::{Error, Model};
use throughline_kernels::cells::CellKind;
use throughline_testkit::assert_close;

/// Between means of the same losses summed in other batches.
const ORDER: f64 = 1e-12;

/// Sentences of 0 to 40 words, known and unknown, some in upper case, some long.
fn sentences(seed: u64) -> Vec<String> {
    let (mut random, words) = (random(seed), ["ab", "AB", "cd", "efgh", "h", "xyz", "gfedcba", "\u{e9}t\u{e9}"]);
    let mut lengths: Vec<usize> = (0..=40).collect();
    random.shuffle(&mut lengths);
    let mut sentence =
        |length: usize| (0..length).map(|_| words[random.below(words.len())]).collect::<Vec<_>>().join(" ");
    lengths.into_iter().map(&mut sentence).collect()
}

#[test]
fn a_batch_of_sentences_is_tagged_as_each_alone() {
    let sentences = sentences(1);
    for cell in [CellKind::Lstm, CellKind::GruBefore] {
        for crf in [false, true] {
            for characters in [true, false] {
                let mut config = tag_config(cell, crf);
                if !characters {
                    (config.characters, config.recurrent.input) = (None, config.embedding);
                }
                let served = tagger(config).served(2);
                for (sentence, answer) in sentences.iter().zip(served.predict(&strs(&sentences))) {
                    let answer = answer.unwrap();
                    assert_eq!(answer, *served.predict(&[sentence])[0].as_ref().unwrap(), "{cell:?} {crf} {sentence}");
                    assert_eq!(answer.text, *sentence, "answers come in the order of the inputs");
                    let words: Vec<&str> = answer.words.iter().map(|word| &word.word[..]).collect();
                    assert_eq!(words, sentence.split_whitespace().collect::<Vec<_>>());
                    assert!(answer.words.iter().all(|word| (0.0..=1.0 + 1e-6).contains(&word.probability)));
                }
            }
        }
    }
}

#[test]
fn a_field_keeps_to_its_scheme_and_a_softmax_does_not() {
    let (names, texts) = (TAGS.map(str::to_owned), sentences(2));
    let entities = EntityTags::new(&names).unwrap();
    let invalid = |crf: bool, scheme: Option<TagScheme>| -> u64 {
        let config = throughline_infer::tasks::tag::Config { scheme, ..tag_config(CellKind::Lstm, crf) };
        let answers = tagger(config).served(1).predict(&strs(&texts));
        let index = |name: &str| names.iter().position(|tag| tag == name).unwrap() as u32;
        let tags = answers
            .iter()
            .map(|answer| -> Vec<u32> { answer.as_ref().unwrap().words.iter().map(|word| index(&word.tag)).collect() });
        tags.map(|tags| entities.invalid_transitions(TagScheme::Bio, &tags)).sum()
    };
    assert_eq!(invalid(true, Some(TagScheme::Bio)), 0);
    assert!(invalid(true, None) > 0 && invalid(false, None) > 0, "random weights break the scheme");
}

#[test]
fn entities_are_the_words_between_their_ends() {
    let served = tagger(tag_config(CellKind::GruAfter, true)).served(1);
    let mut found = 0;
    for answer in served.predict(&strs(&sentences(3))) {
        let answer = answer.unwrap();
        for entity in answer.entities.unwrap() {
            let words = &answer.words[entity.start..entity.end];
            assert_eq!(entity.text, words.iter().map(|word| &word.word[..]).collect::<Vec<_>>().join(" "));
            assert_eq!(words[0].tag, format!("B-{}", entity.kind));
            assert!(words[1..].iter().all(|word| word.tag == format!("I-{}", entity.kind)));
            found += 1;
        }
    }
    assert!(found > 10, "{found} entities");
}

#[test]
fn what_is_measured_is_what_is_answered() {
    for crf in [false, true] {
        let model = tagger(tag_config(CellKind::Lstm, crf));
        let (served, texts) = (model.served(2), sentences(4));
        let mut forms = FormEncoder::new(&model.encoder);
        let mut data = Sentences::default();
        let mut random = random(5);
        for text in &texts {
            let words: Vec<u32> = text.split_whitespace().map(|word| forms.index(word)).collect();
            data.tags.push(words.iter().map(|_| random.below(TAGS.len()) as u32).collect());
            data.words.push(words);
        }
        data.forms = forms.finish();
        let measured = served.evaluate(&data).unwrap();
        let mut scores = EntityScores::new(EntityTags::new(&model.encoder.tags).unwrap());
        let (mut unknown, mut words) = (0.0, 0);
        for (answer, truth) in served.predict(&strs(&texts)).into_iter().zip(&data.tags) {
            let answer = answer.unwrap();
            let index = |name: &str| TAGS.iter().position(|tag| *tag == name).unwrap() as u32;
            let tags: Vec<u32> = answer.words.iter().map(|word| index(&word.tag)).collect();
            scores.add(truth, &tags);
            unknown += answer.unknown_share * tags.len() as f64;
            words += tags.len();
        }
        assert_eq!(measured.count, words);
        assert_close("unknown", &[measured.unknown_share], &[unknown / words as f64], ORDER);
        assert_eq!(measured.metrics["accuracy"], scores.accuracy());
        assert_eq!(measured.metrics["entity_f1"], scores.overall().unwrap().f1);
        // The loss of every sentence alone, by its words, adds up to that of all.
        let alone: f64 = (0..data.words.len())
            .filter(|&index| !data.words[index].is_empty())
            .map(|index| {
                let (words, tags) = (vec![data.words[index].clone()], vec![data.tags[index].clone()]);
                let one = Sentences { forms: data.forms.clone(), words, tags };
                served.evaluate(&one).unwrap().loss * data.words[index].len() as f64
            })
            .sum();
        assert_close("loss", &[measured.loss], &[alone / words as f64], ORDER);
        assert!(served.evaluate(&Sentences::default()).is_none());
    }
}

#[test]
fn sentences_that_do_not_fit_memory_are_refused_alone() {
    let served = tagger(tag_config(CellKind::Lstm, true)).served(1);
    let longest = served.config().longest();
    let long = "ab ".repeat(longest + 1);
    let answers = served.predict(&["ab", &long, ""]);
    assert!(answers[0].is_ok() && answers[2].as_ref().is_ok_and(|answer| answer.words.is_empty()));
    let Err(error @ Error::Input { .. }) = &answers[1] else { panic!("{answers:?}") };
    let message = error.to_string();
    assert!(message.contains(&format!("at most {longest} words")) && message.contains(&(longest + 1).to_string()));
}

#[track_caller]
fn refused(files: &FilesOf, change: impl FnOnce(&mut FilesOf), says: &[&str]) {
    let mut files = files.clone();
    change(&mut files);
    let error = Model::from_bytes(files, Some(1)).unwrap_err().to_string();
    assert!(says.iter().all(|says| error.contains(says)), "{error}");
}

#[test]
fn files_that_do_not_fit_each_other_are_refused() {
    let files = tagger(tag_config(CellKind::Lstm, true)).files();
    let set = |name: &'static str, json: serde_json::Value| {
        move |files: &mut FilesOf| drop(files.insert(name.to_owned(), serde_json::to_vec(&json).unwrap()))
    };
    refused(&files, |files| drop(files.remove("tags.json")), &["tags.json"]);
    refused(&files, |files| drop(files.remove("characters.json")), &["characters.json"]);
    refused(&files, set("tags.json", json!(["O", "B-A", "I-A", "X"])), &["tags.json: tags", "5 tags", "found 4"]);
    refused(&files, set("tags.json", json!(["O", "B-A", "I-A", "O", "B-B"])), &["tags.json: tags", "\"O\" twice"]);
    refused(&files, set("tags.json", json!(["a", "b", "c", "d", "e"])), &["tags.json: tags", "scheme bio"]);
    let swap = |files: &mut FilesOf| {
        let words = files["vocabulary.json"].clone();
        files.insert("characters.json".to_owned(), words);
    };
    refused(&files, swap, &["characters.json: vocabulary", "9 characters", "4 words"]);
    let config = |pointer: &'static str, value: serde_json::Value| {
        move |files: &mut FilesOf| {
            let mut config: serde_json::Value = serde_json::from_slice(&files["config.json"]).unwrap();
            *config.pointer_mut(pointer).unwrap() = value;
            files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
        }
    };
    refused(&files, config("/model/crf", json!(false)), &["config.json: scheme"]);
    refused(&files, config("/model/recurrent/input", json!(12)), &["config.json: recurrent.input", "13", "found 12"]);
    refused(&files, config("/model/characters/hidden", json!(0)), &["config.json: characters"]);
    refused(&files, config("/model/embedding", json!(1_u64 << 40)), &["config.json: "]);
    refused(&files, config("/model/tags", json!(0)), &["config.json: ", "1 to"]);
}
