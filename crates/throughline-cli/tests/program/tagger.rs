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
    assert!(folder.run(&["eval", "tag-1", "--data", "text.conllu"]).succeeded().contains("truth \\ prediction"));
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

#[test]
fn columns_are_tagged() {
    let folder = tagger();
    let tagged = "on\tO\nday\tO\n5\tB-NUM\n12\tI-NUM\nit\tO\nwas\tO\n\n";
    let words = ["on", "day", "5", "12", "it", "was"];
    let lines = |line: &dyn Fn(usize, &str) -> String| -> String {
        words.iter().enumerate().map(|(place, word)| line(place + 1, word)).collect()
    };
    folder.write("words.txt", lines(&|_, word| format!("{word}\n")) + "\n" + &lines(&|_, word| format!("{word}\n")));
    let out = folder.run(&["predict", "tag-1", "--columns", "words.txt"]).succeeded();
    assert_eq!(out, tagged.repeat(2));
    folder.write("more.txt", lines(&|_, word| format!("x\t{word}\n")));
    let out = folder.run(&["predict", "tag-1", "--columns", "more.txt", "--word-column", "2"]).succeeded();
    assert_eq!(out, tagged);
    let word = |id: &str, form: &str| format!("{id}\t{form}\t_\t_\t_\t_\t_\t_\t_\t_\n");
    let conllu = lines(&|place, form| word(&place.to_string(), form));
    folder.write("text.conllu", format!("# text = on day\n{}{conllu}\n", word("1-2", "onday")));
    assert_eq!(folder.run(&["predict", "tag-1", "--columns", "text.conllu"]).succeeded(), tagged);
    // What was trained on is read alike, tags and all.
    let own = folder.run(&["predict", "tag-1", "--columns", "sentences.txt"]).succeeded();
    assert_eq!(own.lines().count(), columns().lines().count());
    folder.run(&["predict", "tag-1", "--columns", "gone.txt"]).refused(&["gone.txt"]);
    folder.write("ragged.txt", "a b\nc\n");
    folder.run(&["predict", "tag-1", "--columns", "ragged.txt", "--word-column", "1"]).refused(&["ragged.txt:2"]);
    crate::trained::classifier()
        .run(&["predict", "classify-1", "--columns", "texts.tsv"])
        .refused(&["runs/classify-1: expected a model of task \"tag\""]);
}
