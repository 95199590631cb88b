//! A language model from its text to the text it writes.

use serde_json::Value;

use crate::folder::{Folder, json_lines};
use crate::trained::{TINY_LANGUAGE_MODEL, language_model, text, with};

#[test]
fn a_run_folder_has_everything() {
    let folder = language_model();
    let names = folder.names("runs/lm-1");
    let expected = [
        ".lock",
        "README.md",
        "config.json",
        "config.toml",
        "data.json",
        "last.safetensors",
        "metrics.jsonl",
        "model.safetensors",
        "report.html",
        "vocabulary.json",
    ];
    assert_eq!(names, expected);
    let card = folder.text("runs/lm-1/README.md");
    for part in ["# lm-1", "`text.txt`", "interpolated trigram", "throughline generate lm-1"] {
        assert!(card.contains(part), "no {part:?} in\n{card}");
    }
    let config: Value = serde_json::from_str(&folder.text("runs/lm-1/config.json")).unwrap();
    let recurrent = &config["model"]["recurrent"];
    assert_eq!((&config["format_version"], &config["task"]), (&2.into(), &"lm".into()));
    assert_eq!((&recurrent["cell"], &recurrent["hidden"]), (&"gru_after".into(), &16.into()));
}

#[test]
fn metrics_have_the_promised_keys() {
    let rows = language_model().rows("runs/lm-1/metrics.jsonl");
    for row in &rows {
        let object = row.as_object().unwrap();
        for key in ["step", "epoch", "loss", "lr", "tokens_per_s", "seconds", "perplexity", "bits_per_unit"] {
            assert!(object[key].as_f64().is_some_and(f64::is_finite), "{key} in {row}");
        }
        assert_eq!(object["grad_norm"].is_f64(), object["split"] == "train", "{row}");
        assert_eq!(object.len(), 10, "{row}");
    }
    let steps = |split: &str| -> Vec<u64> {
        rows.iter().filter(|row| row["split"] == split).map(|row| row["step"].as_u64().unwrap()).collect()
    };
    assert_eq!(steps("val"), [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40]);
    assert_eq!(steps("train").len(), 40);
    assert_eq!(steps("test"), [40]);
    let losses: Vec<f64> =
        rows.iter().filter(|row| row["split"] == "val").map(|row| row["loss"].as_f64().unwrap()).collect();
    assert!(losses[10] < losses[0] - 0.1, "{losses:?}");
}

#[test]
fn a_run_is_measured() {
    let folder = language_model();
    let said = folder.run(&["eval", "lm-1"]).succeeded();
    assert!(said.starts_with("test split (297): loss ") && said.contains("perplexity"), "{said}");
    let own = &json_lines(&folder.run(&["eval", "runs/lm-1", "--json"]).succeeded())[0];
    let rows = folder.rows("runs/lm-1/metrics.jsonl");
    let test = rows.iter().find(|row| row["split"] == "test").unwrap();
    for key in ["loss", "perplexity", "bits_per_unit"] {
        assert_eq!(own[key], test[key], "{key}");
    }
    folder.write("other.txt", text(20));
    let other = &json_lines(&folder.run(&["eval", "lm-1", "--data", "other.txt", "--json"]).succeeded())[0];
    assert_eq!((&other["data"], &other["count"]), (&"other.txt".into(), &(text(20).len() - 1).into()));
    let threads = &json_lines(&folder.run(&["eval", "lm-1", "--json", "--threads", "2"]).succeeded())[0];
    assert_eq!(threads, own, "the same bits with two threads");
}

#[test]
fn a_run_writes() {
    let folder = language_model();
    let generate = |options: &[&str]| folder.run(&with(&["generate", "lm-1", "--length", "60"], options)).succeeded();
    let first = generate(&["--seed", "7", "--prompt", "line "]);
    assert!(first.starts_with("line ") && first.ends_with('\n'), "{first:?}");
    assert_eq!(first.chars().count(), 5 + 60 + 1);
    assert_eq!(generate(&["--seed", "7", "--prompt", "line "]), first);
    assert_ne!(generate(&["--seed", "8", "--prompt", "line "]), first);
    let surest = generate(&["--temperature", "0"]);
    for same in [&["--temperature", "0", "--seed", "9"][..], &["--top-k", "1"], &["--top-p", "1e-9"]] {
        assert_eq!(generate(same), surest, "{same:?}");
    }
    assert_ne!(generate(&["--top-k", "3"]), generate(&["--top-k", "0"]));
    assert_ne!(generate(&["--top-p", "0.3"]), generate(&["--top-p", "1"]));
    assert_eq!(folder.run(&["generate", "lm-1", "--length", "0", "--prompt", "λ unknown"]).succeeded(), "λ unknown\n");
    assert_eq!(generate(&["--seed", "7", "--prompt", "line ", "--out", "written.txt"]), "");
    assert_eq!(folder.text("written.txt") + "\n", first);
}

#[test]
fn lines_are_scored() {
    let folder = language_model();
    let lines = "line 7 of 10 words\n\n7\nqqqqq zzz λ\r\nline 8 of";
    let rows = json_lines(&folder.run_with_input(&["predict", "lm-1"], lines).succeeded());
    let texts: Vec<&str> = rows.iter().map(|row| row["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["line 7 of 10 words", "", "7", "qqqqq zzz λ", "line 8 of"]);
    for row in &rows {
        let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["bits_per_unit", "loss", "perplexity", "text", "unknown_share"]);
    }
    for (row, scored) in rows.iter().zip([true, false, false, true, true]) {
        for key in ["loss", "perplexity", "bits_per_unit"] {
            assert_eq!(row[key].is_f64(), scored, "{key} in {row}");
        }
    }
    assert!(rows[0]["loss"].as_f64() < rows[3]["loss"].as_f64());
    assert_eq!(folder.run_with_input(&["predict", "lm-1"], "").succeeded(), "");
}

#[test]
fn units_and_cells_train() {
    let folder = Folder::with(&[("text.txt", &text(300)), ("more.txt", &text(90))]);
    for (name, sets) in [
        ("bytes", &["data.unit=byte", "model.cell=lstm"][..]),
        ("words", &["data.unit=word", "train.stride=4", "model.cell=rnn"]),
        ("before", &["model.cell=gru-before", "model.layers=2", "train.window=32"]),
        ("relu", &["model.cell=rnn-relu", "model.initial_state=learned", "schedule.kind=constant"]),
    ] {
        let named = format!("name={name}");
        let sets = with(sets, &[&named, "train.steps=6", "data.validation=[\"more.txt\"]"]);
        let train = with(&with(&["train", "--quiet", "--text", "text.txt"], TINY_LANGUAGE_MODEL), &sets);
        let ran = folder.run(&train);
        assert_eq!(ran.err, "", "{name}");
        assert!(ran.succeeded().contains(&format!("everything is in runs/{name}")));
        assert!(!folder.run(&["generate", name, "--length", "9"]).succeeded().is_empty());
    }
}
