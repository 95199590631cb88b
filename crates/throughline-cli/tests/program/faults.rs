//! What other programs of this kind do wrong without a word.

use crate::folder::{Folder, Ran, json_lines};
use crate::trained::{TINY_CLASSIFIER, TINY_LANGUAGE_MODEL, classifier, language_model, text, with};

/// A language model of words.
fn word_model() -> Folder {
    let folder = Folder::with(&[("text.txt", &"the cat sat on the mat\n".repeat(60))]);
    let settings = with(TINY_LANGUAGE_MODEL, &["data.unit=word", "train.stride=8"]);
    folder.run(&with(&["train", "--quiet", "text.txt"], &settings)).succeeded();
    folder
}

/// The answers to `lines`, without the text that they repeat.
fn answers(folder: &Folder, run: &str, lines: &[u8]) -> Vec<serde_json::Value> {
    let ran = folder.run_with_input(&["predict", run], lines);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut answers = json_lines(&ran.out);
    for answer in &mut answers {
        answer.as_object_mut().unwrap().remove("text");
    }
    answers
}

#[test]
fn the_prompt_and_the_first_word_are_two_words() {
    let folder = word_model();
    let generate =
        |prompt: &str| folder.run(&["generate", "lm-1", "--prompt", prompt, "--length", "3", "--temperature", "0"]);
    let said = generate("the cat").succeeded().to_owned();
    let rest = said.strip_prefix("the cat").unwrap();
    assert!(rest.starts_with([' ', '\n']) && rest.trim() != "", "{said}");
    assert_eq!(generate("the cat ").succeeded().trim_end(), said.trim_end());
}

#[test]
fn a_mark_before_the_text_changes_nothing() {
    for (folder, run) in [(classifier(), "classify-1"), (language_model(), "lm-1")] {
        let plain = answers(&folder, run, b"a fine, bright film\nline 3 of 8 words\n");
        let marked = answers(&folder, run, b"\xEF\xBB\xBFa fine, bright film\n\xEF\xBB\xBFline 3 of 8 words\n");
        assert_eq!(marked, plain, "{run}");
    }
    let folder = language_model();
    let generate = |prompt: &str| {
        let ran = folder.run(&["generate", "lm-1", "--prompt", prompt, "--length", "5", "--seed", "3"]);
        ran.succeeded().trim_start_matches('\u{FEFF}').to_owned()
    };
    assert_eq!(generate("\u{FEFF}line 3"), generate("line 3"));
}

#[test]
fn spaces_around_a_text_change_nothing() {
    let folder = classifier();
    let plain = answers(&folder, "classify-1", b"dull and far too long\n");
    assert_eq!(answers(&folder, "classify-1", b"   dull and far too long\t\n"), plain);
}

/// The same letters in other code points (NFC and NFD) are the same text.
#[test]
fn composed_and_decomposed_letters_are_the_same_letters() {
    let rows: String = (0..40).map(|i| format!("{},caf\u{e9} n\u{b0} {i}\n", ["good", "bad"][i % 2])).collect();
    let folder = Folder::with(&[("texts.csv", &("label,text\n".to_owned() + &rows))]);
    let settings = with(TINY_CLASSIFIER, &["data.unit=char"]);
    folder.run(&with(&["train", "--quiet", "texts.csv"], &settings)).succeeded();
    let both = answers(&folder, "classify-1", "caf\u{e9}\ncafe\u{301}\n".as_bytes());
    assert_eq!(both[0], both[1]);
    assert_eq!(both[0]["unknown_share"], 0.0);
}

#[test]
fn answers_say_what_the_model_has_never_seen() {
    let folder = classifier();
    let ran = folder
        .run_with_input(&["predict", "classify-1"], "a fine, bright film\nзима зима зима\nзима\nснег\n".as_bytes());
    let answers = json_lines(&ran.out);
    assert_eq!(answers[0]["unknown_share"], 0.0);
    assert!(answers[1]["unknown_share"].as_f64().unwrap() > 0.8, "{}", answers[1]);
    assert!(ran.err.contains("has never seen"), "{ran:?}");
    let quiet = folder.run_with_input(&["predict", "classify-1"], b"a fine, bright film\n");
    assert_eq!(quiet.err, "");
    folder.write("odd.tsv", "label\ttext\ngood\tзима\nbad\tснег\n");
    for (data, share, warns) in [("odd.tsv", "1.0000", true), ("texts.tsv", "0.0000", false)] {
        let ran = folder.run(&["eval", "classify-1", "--data", data]);
        assert!(ran.out.contains(&format!("unknown share {share}")), "{ran:?}");
        assert_eq!(ran.err.contains("has never seen 100 % of the units"), warns, "{ran:?}");
    }
}

/// A return alone ends a record as a newline and both of them do, in tables and in lines of text.
#[test]
fn every_kind_of_line_end_is_one_line_end() {
    let table = crate::trained::tsv();
    let mut trained = Vec::new();
    for end in ["\n", "\r\n", "\r"] {
        let folder = Folder::with(&[("texts.tsv", &table.replace('\n', end))]);
        folder.run(&with(&["train", "--quiet", "texts.tsv"], TINY_CLASSIFIER)).succeeded();
        trained.push(folder.bytes("runs/classify-1/model.safetensors"));
        let lines = ["a fine, bright film", "dull and far too long", ""].join(end);
        assert_eq!(answers(&folder, "classify-1", lines.as_bytes()).len(), 2, "{end:?}");
    }
    assert!(trained.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn utf_16_without_a_mark_is_no_text() {
    let wide: Vec<u8> = text(300).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let folder = Folder::new();
    folder.write("text.txt", &wide);
    folder.run(&with(&["train", "text.txt"], TINY_LANGUAGE_MODEL)).refused(&["text.txt", "UTF-16"]);
    assert!(!folder.join("runs").exists());
}

#[test]
fn two_records_never_become_one() {
    let rows: String = (0..20).map(|i| format!("{},text {i}\n", ["good", "bad"][i % 2])).collect();
    for line in ["good,\"a \"quoted\" word\"\n", "good,\"never closed\n", "label,text\n", "good,one,two\n"] {
        let folder = Folder::with(&[("texts.csv", &format!("label,text\n{line}{rows}"))]);
        folder.run(&with(&["train", "texts.csv"], TINY_CLASSIFIER)).refused(&["texts.csv:2: expected"]);
    }
}

#[test]
fn a_second_label_is_not_read_as_text() {
    let mut lines: String = (0..40).map(|i| format!("__label__{} text number {i}\n", ["good", "bad"][i % 2])).collect();
    lines += "__label__good __label__bad which of them?\n";
    let folder = Folder::with(&[("texts.txt", &lines)]);
    folder.run(&with(&["train", "texts.txt"], TINY_CLASSIFIER)).refused(&["texts.txt:41: expected one label"]);
}

/// A line longer than what is read of one is refused by its number, and the others are answered.
#[test]
fn a_line_without_an_end() {
    let folder = classifier();
    let mut input = b"a fine, bright film\n".to_vec();
    input.resize(input.len() + (17 << 20), b'x');
    input.extend_from_slice(b"\ndull and far too long\n");
    let ran = folder.run_with_input(&["predict", "classify-1", "--top", "1"], &input);
    assert_eq!((ran.code, ran.out.lines().count()), (Some(1), 2), "{}", ran.err);
    // Refused by the reader, before all of it is in memory.
    let said = format!("line 2: expected at most {} bytes, found {}", 16 << 20, 17 << 20);
    assert!(ran.err.contains(&said), "{}", ran.err);
}

/// A line is read in windows: what a network keeps of a step, for each of its steps, would be several times as much.
#[cfg(target_os = "linux")]
#[test]
fn a_long_line_is_scored_in_bounded_memory() {
    let folder = language_model();
    folder.write("line.txt", "line 3 of 8 words ".repeat((4 << 20) / 18));
    let mut shell = std::process::Command::new("sh");
    let limited = "ulimit -v 262144 && exec \"$0\" predict lm-1 --threads 1 < line.txt";
    shell.args(["-c", limited, env!("CARGO_BIN_EXE_throughline")]).current_dir(&*folder);
    let child = shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let ran = Ran::to_the_end(child);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(json_lines(&ran.out)[0]["loss"].is_f64());
}

/// What a model has learned from is not written to the terminal as commands.
#[test]
fn labels_and_texts_do_not_steer_the_terminal() {
    let rows: String = (0..40).map(|i| format!("{}\ttext {i}\n", ["\u{1b}[31mgood", "bad"][i % 2])).collect();
    let folder = Folder::with(&[("texts.tsv", &("label\ttext\n".to_owned() + &rows))]);
    let clean = |ran: &Ran| {
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'), "{ran:?}");
    };
    clean(&folder.run(&with(&["train", "texts.tsv"], TINY_CLASSIFIER)));
    clean(&folder.run(&["eval", "classify-1"]));
    clean(&folder.run_with_input(&["predict", "classify-1"], b"text 1\n"));
    assert!(!folder.text("runs/classify-1/README.md").contains('\u{1b}'));

    let folder = Folder::with(&[("text.txt", &"\u{1b}[2J\u{7}\n".repeat(300))]);
    clean(&folder.run(&with(&["train", "text.txt"], TINY_LANGUAGE_MODEL)));
    clean(&folder.run(&["generate", "lm-1", "--prompt", "\u{1b}[2J", "--length", "50"]));
}

#[test]
fn quiet_means_quiet() {
    let folder = Folder::with(&[("text.txt", &text(300))]);
    for data in [&["text.txt"][..], &[]] {
        let train = with(&["train", "--quiet"], data);
        let settings: &[&str] = if data.is_empty() { &["model.hidden=16", "train.steps=5"] } else { &[] };
        let settings = with(if data.is_empty() { &["--set"] } else { TINY_LANGUAGE_MODEL }, settings);
        let ran = folder.run(&with(&train, &settings));
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    }
}

#[test]
fn a_finished_run_says_why_nothing_happens() {
    let folder = language_model();
    let before = folder.bytes("runs/lm-1/model.safetensors");
    let said = folder.run(&["train", "--resume", "lm-1"]).succeeded();
    assert!(said.contains("nothing was trained: all its updates are done"), "{said}");
    assert_eq!(folder.bytes("runs/lm-1/model.safetensors"), before);
}

/// With next to no learning rate no update is better than none, and the patience is soon over.
#[test]
fn a_run_that_learned_nothing_says_so_and_why_it_ended() {
    let folder = Folder::with(&[("texts.tsv", &crate::trained::tsv())]);
    let settings = with(TINY_CLASSIFIER, &["optimiser.learning_rate=1e-12", "train.patience=1"]);
    let said = folder.run(&with(&["train", "texts.tsv"], &settings)).succeeded();
    assert!(said.contains("no update was better on the validation split than the untrained model"), "{said}");
    let said = folder.run(&["train", "--resume", "classify-1"]).succeeded();
    assert!(said.contains("nothing was trained: train.patience evaluations"), "{said}");
}

#[test]
fn names_that_some_systems_forbid() {
    let folder = Folder::with(&[("text.txt", &text(300))]);
    for name in ["con", "a:b", "a/b", "..", "what?", "end.", "LPT1", "a\u{7}b"] {
        let set = format!("name=\"{}\"", name.replace('\u{7}', "\\u0007"));
        folder.run(&with(&with(&["train", "text.txt"], TINY_LANGUAGE_MODEL), &[&set])).refused(&["name"]);
    }
    assert!(!folder.join("runs").exists());
}

/// Whatever stands in a path, a message shows it and the terminal does not obey it.
#[test]
fn paths_and_settings_do_not_steer_the_terminal() {
    let folder = Folder::with(&[("\u{1b}[31m\n/a.txt", "short")]);
    for arguments in [
        &["train", "\u{1b}[31m\n"][..],
        &["train", "gone\u{9b}31m.txt"],
        &["train", "gone\u{1b}[31m.toml"],
        &["train", "--set", "\u{1b}[31m=1"],
        &["eval", "gone\u{1b}[31m"],
        &["generate", "gone\u{202e}"],
    ] {
        let ran = folder.run(arguments);
        assert!(!ran.err.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{ran:?}");
        assert!(ran.err.contains(r"\u{"), "{ran:?}");
        ran.refused(&[]);
    }
}

#[test]
fn json_does_not_steer_the_terminal_and_keeps_its_values() {
    let line = "a \u{9b}31m fine \u{7f}\u{202e} film \u{1b}[0m";
    for (folder, run) in [(classifier(), "classify-1"), (language_model(), "lm-1")] {
        let out = folder.run_with_input(&["predict", run], line).succeeded();
        assert!(!out.contains(['\u{9b}', '\u{7f}', '\u{202e}', '\u{1b}']), "{out:?}");
        assert_eq!(json_lines(&out)[0]["text"], line);
    }
}

#[test]
fn what_is_left_out_is_said_once_in_training_and_evaluation() {
    let folder = Folder::new();
    for i in 0..40 {
        folder.write(&format!("texts/good/{i}.txt"), format!("fine and bright {i}"));
        folder.write(&format!("texts/bad/{i}.txt"), format!("dull and long {i}"));
    }
    folder.write("texts/good/binary.txt", b"a\0b");
    folder.write("texts/good/latin.txt", b"caf\xE9");
    folder.write("texts/bad/empty.txt", "");
    folder.write("texts/bad/.hidden", "x");
    let trained = folder.run(&with(&["train", "texts"], TINY_CLASSIFIER));
    let own = folder.run(&["eval", "classify-1"]);
    let named = folder.run(&["eval", "classify-1", "--data", "texts"]);
    for ran in [trained, own, named] {
        for (file, why) in [
            ("good/binary.txt", "binary"),
            ("good/latin.txt", "UTF-8"),
            ("bad/empty.txt", "no text"),
            ("bad/.hidden", "hidden"),
        ] {
            let lines: Vec<&str> = ran.err.lines().filter(|line| line.contains(file)).collect();
            assert!(lines.len() == 1 && lines[0].contains(why), "{file}: {ran:?}");
            assert_eq!(lines[0].matches("left out").count(), 1, "{ran:?}");
        }
        ran.succeeded();
    }
    for i in 0..40 {
        std::fs::remove_file(folder.join(format!("texts/bad/{i}.txt"))).unwrap();
    }
    for command in [&["train", "texts", "--set", "task=classify"][..], &["eval", "classify-1", "--data", "texts"]] {
        folder.run(command).refused(&["texts/bad: expected at least one text", "\"bad\"", "empty.txt: no text"]);
    }
}

#[test]
fn a_run_is_measured_on_its_own_data_or_not_at_all() {
    let table = crate::trained::tsv();
    let mut lines: Vec<&str> = table.lines().collect();
    lines[1..].reverse();
    for changed in [
        lines.join("\n") + "\n",
        table.clone() + "good\tone more\n",
        table.replace("good\t", "fine\t"),
        table.clone() + "ugly\tso so\nugly\tno\nugly\tnever\n",
    ] {
        let folder = classifier();
        folder.write("texts.tsv", changed);
        folder.run(&["eval", "classify-1"]).refused(&["data", "name the files to measure on with --data"]);
    }
}

/// The end of one file and the beginning of the next make no word together.
#[test]
fn the_ends_of_files_are_not_glued() {
    let folder =
        Folder::with(&[("a.txt", &("one two ".repeat(400) + "alpha")), ("b.txt", &"omega three ".repeat(400))]);
    let settings = with(TINY_LANGUAGE_MODEL, &["data.unit=word", "train.stride=8"]);
    folder.run(&with(&["train", "--quiet", "a.txt", "b.txt"], &settings)).succeeded();
    let vocabulary = folder.text("runs/lm-1/vocabulary.json");
    assert!(vocabulary.contains("\"alpha\"") && vocabulary.contains("\"omega\""), "{vocabulary}");
    assert!(!vocabulary.contains("alphaomega"), "{vocabulary}");
}

#[test]
fn the_format_that_was_found_is_written_down() {
    let folder = Folder::with(&[(
        "texts.train",
        &crate::trained::examples()
            .iter()
            .enumerate()
            .fold(String::new(), |lines, (i, (_, text))| lines + &format!("{} {text}\n", i % 2)),
    )]);
    folder.run(&with(&["train", "--quiet", "texts.train"], TINY_CLASSIFIER)).succeeded();
    assert!(folder.text("runs/classify-1/config.toml").contains("format = \"label-first\""));
    // Guessed anew, a file of so few lines would leave doubt.
    folder.write("few.txt", "1 dull\n");
    folder.run(&["eval", "classify-1", "--data", "few.txt"]).succeeded();
}

#[test]
fn a_schedule_that_jumps_says_so_and_can_keep_its_course() {
    let folder = Folder::with(&[("text.txt", &text(300))]);
    let train = with(&with(&["train", "--quiet", "text.txt"], TINY_LANGUAGE_MODEL), &["schedule.kind=cosine"]);
    folder.run(&with(&train, &["name=jumps"])).succeeded();
    folder.run(&with(&train, &["name=keeps"])).succeeded();
    let resume =
        |run, sets: &[&str]| folder.run(&with(&["train", "--quiet", "--resume", run, "--set", "train.steps=60"], sets));
    let jumps = resume("jumps", &[]);
    assert!(jumps.err.starts_with("warning: the learning rate jumps"), "{jumps:?}");
    assert!(jumps.err.contains("--set schedule.steps=40"), "{jumps:?}");
    let keeps = resume("keeps", &["schedule.steps=40"]);
    assert_eq!((keeps.code, keeps.err.as_str()), (Some(0), ""), "{keeps:?}");
    let last_rate = |run: &str| {
        folder.rows(&format!("runs/{run}/metrics.jsonl"))[..]
            .to_vec()
            .into_iter()
            .filter(|row| row["split"] == "train" && row["step"] == 41)
            .map(|row| row["lr"].as_f64().unwrap())
            .next()
            .unwrap()
    };
    assert!(last_rate("jumps") > 10.0 * last_rate("keeps"), "{} and {}", last_rate("jumps"), last_rate("keeps"));
}

/// The summary and the card name the update whose parameters were kept, which is not the last one here.
#[test]
fn the_summary_says_which_update_was_kept() {
    let folder = Folder::with(&[("texts.tsv", &crate::trained::tsv())]);
    let too_fast = with(TINY_CLASSIFIER, &["optimiser.learning_rate=0.3"]);
    let said = folder.run(&with(&["train", "texts.tsv"], &too_fast)).succeeded();
    let rows = folder.rows("runs/classify-1/metrics.jsonl");
    let of = |row: &serde_json::Value| (row["accuracy"].as_f64().unwrap(), row["loss"].as_f64().unwrap());
    let trained = || rows.iter().filter(|row| row["split"] == "val" && row["step"] != 0);
    let best = trained().reduce(|best, row| {
        let (new, old) = (of(row), of(best));
        if new.0 > old.0 || (new.0 == old.0 && new.1 < old.1) { row } else { best }
    });
    let step = &best.unwrap()["step"];
    assert_ne!(Some(step), trained().next_back().map(|row| &row["step"]), "the run does not show which was kept");
    assert!(said.contains(&format!("kept update {step} of")), "{step}: {said}");
    assert!(folder.text("runs/classify-1/README.md").contains(&format!("after update {step}, ")), "{step}");
}

/// A model in use needs neither its recipe nor its data.
#[test]
fn a_model_is_used_without_its_recipe() {
    for (folder, run) in [(classifier(), "classify-1"), (language_model(), "lm-1"), (crate::trained::tagger(), "tag-1")]
    {
        let before = folder.run_with_input(&["predict", run], "a fine film").succeeded();
        for file in ["config.toml", "data.json", "metrics.jsonl", "README.md", "last.safetensors"] {
            std::fs::remove_file(folder.join(format!("runs/{run}/{file}"))).unwrap();
        }
        assert_eq!(folder.run_with_input(&["predict", run], "a fine film").succeeded(), before);
        folder.run(&["eval", run]).refused(&["config.toml"]);
    }
}

#[test]
fn an_incomplete_recipe_is_named() {
    let folder = Folder::with(&[("text.txt", "a"), ("half.toml", "[model]\nhidden = 8\n")]);
    folder.run(&["train", "half.toml", "text.txt"]).refused(&["half.toml: task: expected \"lm\"", "found nothing"]);
}

#[test]
fn advice_follows_what_was_found() {
    let folder = classifier();
    let again = with(&with(&["train", "texts.tsv"], TINY_CLASSIFIER), &["name=classify-1"]);
    folder.run(&again).refused(&["expected a name that is free, found a run; use another, or --resume this run"]);
    folder
        .run(&["train", "texts.tsv", "--set", "task=lm", "model.pooling=mean"])
        .refused(&["found \"mean\"; model.pooling"]);
    folder.run(&["train", "texts.tsv", "--set", "task=lm", "data.encoding=x"]).refused(&["data.encoding: expected"]);
    let ran = language_model().run(&["generate", "lm-1", "--temperature", "-1"]);
    assert!(ran.code == Some(2) && ran.err.contains("a number from 0 to 100"), "{ran:?}");
}

#[test]
fn top_without_classes_says_so() {
    let ran = language_model().run_with_input(&["predict", "lm-1", "--top", "2"], "line 1 of");
    assert!(ran.err.contains("--top has no effect") && ran.code == Some(0), "{ran:?}");
    let ran = classifier().run_with_input(&["predict", "classify-1", "--top", "1"], "a fine film");
    assert!(ran.err.is_empty() && json_lines(&ran.out)[0]["classes"].as_array().unwrap().len() == 1, "{ran:?}");
}
