//! Timing, at sizes too small to say anything about speed.

use serde_json::Value;

use crate::folder::{Folder, json_lines};
use crate::trained::with;

const TINY: &[&str] = &["bench", "--time", "3", "--batch", "4", "--input", "5", "--hidden", "6", "--json"];

fn bench(options: &[&str]) -> Value {
    let mut rows = json_lines(&Folder::new().run(&with(TINY, options)).succeeded());
    assert_eq!(rows.len(), 1);
    let row = rows.pop().unwrap();
    let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
    assert!(number("runs") >= 7.0, "{row}");
    assert!(number("median_s") > 0.0 && number("median_s") <= number("p90_s"), "{row}");
    assert!(number("gflops") > 0.0, "{row}");
    assert!(number("peak_share") > 0.0 && number("peak_share") < 1.0, "{row}");
    assert!(!row["isa"].as_str().unwrap().is_empty(), "{row}");
    if cfg!(target_os = "linux") {
        assert!(number("peak_rss_mib") > 1.0, "{row}");
    }
    row
}

#[test]
fn every_cell_and_mode() {
    for cell in ["lstm", "gru", "gru-before", "rnn"] {
        for mode in ["forward", "train"] {
            let row = bench(&["--cell", cell, "--mode", mode, "--runs", "7"]);
            assert_eq!((&row["runs"], &row["rows"], &row["threads"]), (&7.into(), &12.into(), &1.into()));
        }
    }
}

#[test]
fn directions_layers_threads_and_lengths() {
    let row = bench(&["--bidirectional", "--layers", "2", "--threads", "2", "--lengths", "2..9", "--runs", "8"]);
    assert_eq!((&row["runs"], &row["threads"]), (&8.into(), &2.into()));
    let lengths: Vec<u64> = row["lengths"].as_array().unwrap().iter().map(|length| length.as_u64().unwrap()).collect();
    assert!(lengths.len() == 4 && lengths.iter().all(|length| (2..=9).contains(length)), "{row}");
    assert_eq!(row["rows"].as_u64(), Some(lengths.iter().sum()));
}

#[test]
fn for_people() {
    let said = Folder::new().run(&with(&TINY[..TINY.len() - 1], &["--runs", "7"])).succeeded();
    assert!(said.contains("median") && said.contains("7 runs") && said.contains("% of the peak"), "{said}");
}

#[test]
fn sizes_that_no_memory_holds_are_refused() {
    let huge = "1048576";
    Folder::new().run(&["bench", "--batch", huge, "--time", huge]).refused(&["memory", "--batch"]);
    Folder::new().run(&["bench", "--hidden", huge, "--input", huge]).refused(&["memory", "--hidden"]);
    Folder::new().run(&["bench", "--layers", huge, "--hidden", "4096"]).refused(&["memory", "--layers"]);
}
