//! `throughline lr-find`

use crate::folder::Folder;
use crate::trained::{TINY_LANGUAGE_MODEL, text, with};

fn folder() -> Folder {
    Folder::with(&[("text.txt", &text(300))])
}

fn lr_find<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let sets: Vec<&str> = TINY_LANGUAGE_MODEL.iter().copied().filter(|set| !set.starts_with("schedule.")).collect();
    [&["lr-find", "text.txt"], options, &sets].concat()
}

#[test]
fn a_rate_is_suggested_with_its_reason_and_nothing_else_is_written() {
    let folder = folder();
    let ran =
        folder.run_in_environment(&lr_find(&["--to", "1000", "--updates", "60", "--out", "lr.csv"]), "COLUMNS", "60");
    let out = ran.succeeded();
    assert!(out.contains("falls fastest at ") && out.contains("a tenth of the rate where it is lowest"), "{out}");
    assert!(out.contains("suggestion: optimiser.learning_rate = "), "{out}");
    assert!(out.lines().take(15).all(|line| line.chars().count() <= 60) && !out.contains('\u{1b}'), "{out}");
    assert_eq!(folder.names(""), ["lr.csv", "text.txt"]);

    let table = folder.text("lr.csv");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("update,learning_rate,loss,smoothed_loss"));
    let rows: Vec<Vec<f64>> = lines.map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect();
    assert!(rows.len() < 60, "a rate of 1000 lets the loss rise: {table}");
    // Smoothed by weights that fall by a tenth for each update before.
    for (update, row) in rows.iter().enumerate() {
        let weights: Vec<f64> = (0..=update).map(|before| 0.9_f64.powi((update - before) as i32)).collect();
        let sum: f64 = weights.iter().zip(&rows).map(|(weight, row)| weight * row[2]).sum();
        let rate = 1e-6 * 1e9_f64.powf(update as f64 / 59.0);
        assert!((row[1] / rate - 1.0).abs() < 1e-9 && row[0] == update as f64, "{row:?}");
        assert!((row[3] / (sum / weights.iter().sum::<f64>()) - 1.0).abs() < 1e-9, "{row:?}");
    }

    // The first loss is that of the first update of a run.
    folder.run(&with(&["train", "text.txt", "--quiet"], TINY_LANGUAGE_MODEL)).succeeded();
    let first = folder.rows("runs/lm-1/metrics.jsonl").into_iter().find(|row| row["split"] == "train").unwrap();
    assert_eq!((&first["step"], first["loss"].as_f64()), (&1.into(), Some(rows[0][2])));
}

#[test]
fn a_recipe_keeps_its_schedule_for_training() {
    let folder = folder();
    folder.write("recipe.toml", "task = \"lm\"\n[model]\nhidden = 8\n[schedule]\nkind = \"plateau\"\nrestart = true\n");
    let ran = folder.run(&[
        "lr-find",
        "recipe.toml",
        "text.txt",
        "--updates",
        "10",
        "--set",
        "train.batch=4",
        "train.stride=16",
    ]);
    assert!(ran.err.contains("the recipe's schedule has no part in this test"), "{ran:?}");
    ran.succeeded();
}

#[test]
fn wrong_ranges_and_schedules() {
    let folder = folder();
    folder.run(&lr_find(&["--from", "0.1", "--to", "0.1"])).refused(&[
        "--from",
        "below that of --to, 0.1",
        "found 0.1",
    ]);
    for set in ["schedule.kind=cosine", "schedule.warmup=10"] {
        folder.run(&with(&lr_find(&[]), &[set])).refused(&["--set", set, "expected no schedule"]);
    }
    folder.write("place/file", "");
    folder.run(&lr_find(&["--out", "place"])).refused(&["place", "a regular file", "found a folder"]);
    folder.run(&["lr-find", "missing.toml"]).refused(&["missing.toml"]);
    folder.run(&["lr-find", "nowhere"]).refused(&["nowhere"]);
    for wrong in [&["--from", "0"][..], &["--to", "x"], &["--updates", "9"]] {
        assert_eq!(folder.run(&lr_find(wrong)).code, Some(2), "{wrong:?}");
    }
    assert!(!folder.join("runs").exists());
}
