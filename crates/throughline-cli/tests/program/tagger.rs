//! A tagger from tagged sentences to its answers.

use crate::folder::{Folder, json_lines};
use crate::trained::{TINY_TAGGER, columns, tagger, with};

#[test]
fn lines_are_tagged() {
    let folder = tagger();
    let rows = json_lines(&folder.run_with_input(&["predict", "tag-1"], "on day 5 12 it was\n\n77").succeeded());
    let texts: Vec<&str> = rows.iter().map(|row| row["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["on day 5 12 it was", "", "77"]);
    let tags: Vec<&str> =
        rows[0]["words"].as_array().unwrap().iter().map(|word| word["tag"].as_str().unwrap()).collect();
    assert_eq!(tags, ["O", "O", "B-NUM", "I-NUM", "O", "O"]);
    let entity = serde_json::json!([{"type": "NUM", "text": "5 12", "start": 2, "end": 4}]);
    assert_eq!(rows[0]["entities"], entity);
    assert!(rows[1]["words"].as_array().unwrap().is_empty() && rows[1]["unknown_share"] == 0.0);
    assert_eq!(rows[2]["words"][0]["word"], "77");
}

#[test]
fn conllu_trains_and_is_measured() {
    let word = |id: usize, form: &str, tag: &str| format!("{id}\t{form}\t_\t{tag}\t_\t_\t0\t_\t_\t_\n");
    let sentence = |i: usize| {
        let (first, second) = (word(1, "it", "PRON"), word(2, ["rains", "snows"][i % 2], "VERB"));
        format!(
            "# sent_id = {i}\n1-2\tit_rains\t_\t_\t_\t_\t_\t_\t_\t_\n{first}{second}2.1\tnow\t_\tADV\t_\t_\t_\t_\t_\t_\n\n"
        )
    };
    let conllu: String = (0..60).map(sentence).collect();
    let folder = Folder::with(&[("text.conllu", &conllu)]);
    let said = folder.run(&with(&["train", "text.conllu"], TINY_TAGGER)).succeeded();
    assert!(said.contains("accuracy 1.0000") && !said.contains("entity"), "{said}");
    assert!(folder.text("runs/tag-1/config.toml").contains("format = \"conllu\""));
    let eval = &json_lines(&folder.run(&["eval", "tag-1", "--json", "--data", "text.conllu"]).succeeded())[0];
    assert_eq!((&eval["count"], &eval["accuracy"]), (&120.into(), &1.0.into()));
}

#[test]
fn files_that_are_no_tagged_sentences() {
    let folder = tagger();
    for (name, content, says) in [
        ("one.txt", "a O\nb\n\n", &["one.txt:2"][..]),
        ("more.txt", "a x O\nb O\n", &["more.txt:2"]),
        ("empty.txt", "\n\n", &["empty.txt"]),
        ("new.txt", "a O\n5 B-DATE\n", &["new.txt:2", "\"B-DATE\""]),
        ("gone.conllu", "1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n", &["gone.conllu:1"]),
    ] {
        folder.write(name, content);
        folder.run(&["eval", "tag-1", "--data", name]).refused(says);
    }
    folder.write("latin.txt", b"caf\xE9 O\n");
    folder.run(&["eval", "tag-1", "--data", "latin.txt"]).refused(&["latin.txt", "UTF-8"]);
    let train = |set: &str| folder.run(&with(&with(&["train", "sentences.txt"], TINY_TAGGER), &[set]));
    train("data.tag_column=3").refused(&["sentences.txt:1", "3"]);
    train("data.format=lines").refused(&["data.format", "conllu"]);
    train("model.scheme=bilou").refused(&["model.scheme", "iobes"]);
    assert!(columns().starts_with("on O\n"));
}
