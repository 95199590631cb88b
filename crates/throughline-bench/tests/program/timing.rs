//! Timing, at sizes too small to say anything about speed; and what the timed work computes.

use serde_json::Value;
use throughline_kernels::cells::CellKind;

use crate::folder::{Folder, json_lines, with};
use crate::written::Written;

const TINY: &[&str] = &["--time", "3", "--batch", "4", "--input", "5", "--hidden", "6", "--json"];
/// Without a length.
const SMALL: &[&str] = &["--batch", "4", "--input", "5", "--hidden", "6", "--json"];
const STEP: &[&str] = &["--mode", "step", "--batch", "4", "--input", "5", "--hidden", "6", "--json"];
/// As short as it can be.
const SHORT: &[&str] = &["--runs", "3", "--warm-up", "0"];

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"))
}

fn check(row: &Value) {
    assert!(number(row, "runs") >= 3.0, "{row}");
    assert!(number(row, "median_s") > 0.0 && number(row, "median_s") <= number(row, "p90_s"), "{row}");
    assert!(number(row, "gflops") > 0.0, "{row}");
    // So small a run is too short to time alone, unless other work took the cores and stretched it to milliseconds.
    assert!(number(row, "repeats") > 1.0 || number(row, "median_s") > 1e-3, "{row}");
    assert!(number(row, "peak_share") > 0.0 && number(row, "peak_share") < 1.0, "{row}");
    assert!(!row["isa"].as_str().unwrap().is_empty(), "{row}");
    if cfg!(target_os = "linux") {
        assert!(number(row, "peak_rss_mib") > 1.0, "{row}");
    }
}

fn bench_in(folder: &Folder, arguments: &[&str]) -> Value {
    let mut rows = json_lines(&folder.run(arguments).succeeded());
    assert_eq!(rows.len(), 1);
    rows.pop().unwrap()
}

fn bench(options: &[&str]) -> Value {
    let row = bench_in(&Folder::new(), &with(TINY, options));
    check(&row);
    row
}

#[test]
fn every_cell_and_mode() {
    for cell in CellKind::ALL.iter().map(|cell| cell.names().recipe) {
        for mode in ["forward", "train"] {
            let row = bench(&["--cell", cell, "--mode", mode, "--runs", "7"]);
            assert_eq!((&row["runs"], &row["rows"], &row["threads"]), (&7.into(), &12.into(), &1.into()));
        }
    }
}

#[test]
fn directions_layers_threads_and_lengths() {
    let options = ["--bidirectional", "--layers", "2", "--threads", "2", "--lengths", "2..9", "--runs", "8"];
    let row = bench_in(&Folder::new(), &with(SMALL, &options));
    check(&row);
    assert_eq!((&row["runs"], &row["threads"]), (&8.into(), &2.into()));
    let lengths: Vec<u64> = row["lengths"].as_array().unwrap().iter().map(|length| length.as_u64().unwrap()).collect();
    assert!(lengths.len() == 4 && lengths.iter().all(|length| (2..=9).contains(length)), "{row}");
    assert_eq!(row["rows"].as_u64(), Some(lengths.iter().sum()));
}

#[test]
fn lengths_one_by_one() {
    let folder = Folder::new();
    let row = bench_in(&folder, &with(&["--hidden", "6", "--lengths", "5,9,7", "--json"], SHORT));
    assert_eq!((&row["lengths"], &row["rows"]), (&vec![5, 9, 7].into(), &21.into()));
    let refused = folder.run(&["--batch", "4", "--lengths", "5,9,7"]);
    refused.refused(&["--lengths", "expected", "--batch", "found 3"]);
}

#[test]
fn what_a_stack_computed_is_written() {
    let folder = Folder::new();
    let sizes = ["--bidirectional", "--layers", "2", "--lengths", "2,4,1,3", "--write", "a.safetensors"];
    for (cell, gates, mode) in [("lstm", 4, "train"), ("gru", 3, "train"), ("rnn", 1, "forward")] {
        let sizes = with(&sizes, &["--cell", cell, "--mode", mode]);
        bench_in(&folder, &with(&with(SMALL, &sizes), SHORT));
        assert_eq!(folder.names(""), ["a.safetensors"]);
        let written = Written::read(&folder, "a.safetensors");
        written.has(&[
            ("x", &[10, 5]),
            ("y", &[10, 12]),
            ("h_n", &[4, 4, 6]),
            ("weight_ih_l0", &[gates * 6, 5]),
            ("weight_hh_l1_reverse", &[gates * 6, 6]),
            ("weight_ih_l1", &[gates * 6, 12]),
            ("bias_hh_l0", &[gates * 6]),
        ]);
        assert_eq!(written.counts["lengths"], [2, 4, 1, 3]);
        assert_eq!(written.counts["batch_sizes"], [4, 3, 2, 1]);
        assert_eq!(written.counts["order"], [1, 3, 0, 2]);
        assert_eq!((&written.notes["cell"][..], &written.notes["what"][..]), (cell, mode));
        assert_eq!(written.shapes.contains_key("c_n"), cell == "lstm");
        assert_eq!(written.under("grad.").len(), if mode == "train" { 16 } else { 0 });
        if mode == "train" {
            written.has(&[("dy", &[10, 12]), ("dx", &[10, 5]), ("grad.weight_ih_l0", &[gates * 6, 5])]);
        }
        // Sequence 1 is the longest: its last forward state stands in the last row, its last reverse state in the first.
        let (y, h) = (&written.numbers["y"], &written.numbers["h_n"]);
        assert_eq!(y[9 * 12..9 * 12 + 6], h[(2 * 4 + 1) * 6..][..6]);
        assert_eq!(y[6..12], h[(3 * 4 + 1) * 6..][..6]);
    }
}

#[test]
fn one_step_after_the_other() {
    for cell in CellKind::ALL.iter().map(|cell| cell.names().recipe) {
        let folder = Folder::new();
        let options = ["--cell", cell, "--layers", "2", "--write", "steps"];
        let row = bench_in(&folder, &with(&with(STEP, &options), SHORT));
        check(&row);
        assert_eq!((&row["rows"], &row["threads"]), (&4.into(), &1.into()));
        assert_eq!(row["repeats"], row["steps_per_run"]);
        for key in ["bytes", "read_gb_s", "bandwidth_share", "steps_per_run"] {
            assert!(number(&row, key) > 0.0, "{key} in {row}");
        }
        let share = number(&row, "bytes") / number(&row, "median_s") / number(&row, "read_gb_s") / 1e9;
        assert!((share / number(&row, "bandwidth_share") - 1.0).abs() < 1e-9, "{row}");
        let written = Written::read(&folder, "steps");
        written.has(&[("x", &[8, 4, 5]), ("y", &[8, 4, 6]), ("h_n", &[2, 4, 6])]);
        assert_eq!(written.shapes.contains_key("c_n"), cell == "lstm");
        assert_eq!(written.numbers["y"][7 * 24..], written.numbers["h_n"][24..], "the last output is the last state");
    }
}

/// A step gives the bits of the sequence it is cut from.
#[test]
fn steps_are_those_of_a_sequence() {
    let folder = Folder::new();
    bench_in(&folder, &with(&with(STEP, &["--write", "steps"]), SHORT));
    bench_in(&folder, &with(&with(TINY, &["--mode", "forward", "--write", "sequence"]), SHORT));
    let (first, sequence) = (Written::read(&folder, "steps"), Written::read(&folder, "sequence"));
    // The same seed gives the same weights; the inputs are drawn in the same order, time-major in both.
    assert_eq!(first.numbers["weight_ih_l0"], sequence.numbers["weight_ih_l0"]);
    let (x, y) = (3 * 4 * 5, 3 * 4 * 6);
    assert_eq!(first.numbers["x"][..x], sequence.numbers["x"]);
    assert_eq!(first.numbers["y"][..y], sequence.numbers["y"]);
}

#[test]
fn whole_training_steps() {
    let tiny = ["--input", "5", "--hidden", "6", "--batch", "4", "--vocabulary", "11", "--json", "--write", "model"];
    for (model, options, rows, outputs) in [
        ("word-lm", &["--time", "3"][..], 12, 11),
        ("char-lm", &["--time", "3", "--threads", "2"], 12, 11),
        ("tagger", &["--lengths", "2,4,1,3"], 10, 17),
        ("classifier", &["--lengths", "2,4,1,3", "--threads", "2"], 10, 2),
    ] {
        let folder = Folder::new();
        let command = with(&with(&with(&["--model", model], &tiny), options), SHORT);
        let row = bench_in(&folder, &command);
        check(&row);
        assert_eq!((&row["model"], &row["rows"]), (&model.into(), &rows.into()));
        let written = Written::read(&folder, "model");
        let (layers, directions) = if model.ends_with("lm") { (2, 1) } else { (1, 2) };
        written.has(&[
            ("embedding.weight", &[11, 5]),
            ("rnn.weight_ih_l0", &[24, 5]),
            ("head.weight", &[outputs, directions * 6]),
            ("head.bias", &[outputs]),
            ("loss", &[1]),
        ]);
        let time = if model.ends_with("lm") { 3 } else { 4 };
        written.has(&[("tokens", &[4, time]), ("lengths", &[4])]);
        let places = [4, time];
        written.has(&[("targets", if model == "classifier" { &places[..1] } else { &places })]);
        let (grad, after) = (written.under("grad."), written.under("after."));
        assert_eq!((grad.len(), &grad), (3 + 4 * layers * directions, &after));
        for name in grad {
            assert_eq!(written.shapes[name], written.shapes[&format!("grad.{name}")], "{name}");
            assert_ne!(written.numbers[name], written.numbers[&format!("after.{name}")], "{name} has changed");
        }
        // An untrained model is no better than a guess.
        let guess = (outputs as f32).ln();
        assert!((written.numbers["loss"][0] - guess).abs() < 1.0, "{model}: {:?}", written.numbers["loss"]);
        check_update(&written);
        check_padding(model, &written);
    }
}

/// The parameters after the step follow from those before, the gradients and what the file says of the optimiser.
fn check_update(written: &Written) {
    let note = |key: &str| written.notes.get(key).map(|text| text.parse::<f64>().unwrap());
    let rate = note("learning_rate").unwrap();
    let gradients = || written.under("grad.").into_iter().map(|name| (name, &written.numbers[&format!("grad.{name}")]));
    let norm = gradients().flat_map(|(_, g)| g).map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    let factor = note("clip_norm").map_or(1.0, |limit| (limit / norm).min(1.0));
    for (name, gradient) in gradients() {
        let (before, after) = (&written.numbers[name], &written.numbers[&format!("after.{name}")]);
        for ((&before, &after), &g) in before.iter().zip(after).zip(gradient) {
            let g = f64::from(g) * factor;
            // Adam's first step is the sign of the gradient, unless that is nearly 0.
            let step = if written.notes["optimiser"] == "sgd" { g } else { g / (g.abs() + 1e-8) };
            let moved = f64::from(before) - f64::from(after);
            assert!((moved - rate * step).abs() < 1e-6 + 1e-3 * rate * step.abs(), "{name}: {moved} by {g}");
        }
    }
}

fn check_padding(model: &str, written: &Written) {
    if model == "classifier" || model == "tagger" {
        let tokens = &written.counts["tokens"];
        assert_eq!((tokens[2..4].iter().max(), tokens[9..12].iter().max()), (Some(&0), Some(&0)), "{tokens:?}");
    }
    if model == "tagger" {
        let targets = &written.counts["targets"];
        assert_eq!(targets.iter().filter(|&&target| target == -100).count(), 6, "{targets:?}");
        assert!(targets[2..4] == [-100; 2] && targets[9..12] == [-100; 3] && targets[15] == -100, "{targets:?}");
    }
}

#[test]
fn elementwise_functions() {
    let row = bench_in(&Folder::new(), &with(&["--maths", "--json"], SHORT));
    for key in ["exp_per_ns", "tanh_per_ns", "sigmoid_per_ns"] {
        assert!(number(&row, key) > 0.0, "{key} in {row}");
    }
    assert_eq!((&row["elements"], &row["runs"]), (&4096.into(), &3.into()));
}

#[test]
fn for_people() {
    let said = Folder::new().run(&with(&TINY[..TINY.len() - 1], &["--runs", "7"])).succeeded();
    assert!(said.contains("median") && said.contains("7 runs of ") && said.contains("% of the peak"), "{said}");
    let said = Folder::new().run(&with(&STEP[..STEP.len() - 1], SHORT)).succeeded();
    assert!(said.contains("median") && said.contains("% of the bandwidth of a plain reading loop"), "{said}");
    let said = Folder::new().run(&with(&["--maths"], SHORT)).succeeded();
    assert!(said.contains("exp") && said.contains("tanh") && said.contains("nanosecond"), "{said}");
}

#[test]
fn sizes_that_no_memory_holds_are_refused() {
    let huge = "1048576";
    Folder::new().run(&["--batch", huge, "--time", huge]).refused(&["memory", "--batch"]);
    Folder::new().run(&["--hidden", huge, "--input", huge]).refused(&["memory", "--hidden"]);
    Folder::new().run(&["--layers", huge, "--hidden", "4096"]).refused(&["memory", "--layers"]);
    let model = ["--model", "word-lm", "--vocabulary", huge, "--hidden", "65536"];
    Folder::new().run(&model).refused(&["memory", "--vocabulary"]);
    Folder::new().run(&["--explain", "--batch", huge, "--time", huge]).refused(&["memory", "--batch"]);
}

/// Whatever limit the process has, a run has its memory or is refused; nothing ends it in the middle.
#[test]
#[cfg(target_os = "linux")]
fn a_limit_of_the_address_space_is_kept() {
    let (mut ran, mut refused) = (0, 0);
    for options in [
        &["--mode", "forward", "--input", "1024", "--hidden", "1024", "--time", "2"][..],
        &["--mode", "train", "--hidden", "32", "--batch", "100", "--time", "300", "--threads", "2"],
        &["--mode", "step", "--input", "1024", "--hidden", "1024", "--batch", "1"],
        &["--model", "word-lm", "--hidden", "64", "--time", "3", "--write", "file"],
        &["--mode", "train", "--input", "1024", "--hidden", "1024", "--time", "2", "--batch", "2", "--explain"],
    ] {
        let short = if options.contains(&"--explain") { &[][..] } else { SHORT };
        for mib in [60, 120, 180, 240, 360] {
            let limited = Folder::new().run_limited(&with(options, short), mib);
            match limited.code {
                Some(0) => ran += 1,
                _ => {
                    limited.refused(&["GiB of address space", "ulimit -v", "--batch"]);
                    refused += 1;
                }
            }
        }
    }
    assert!(ran > 5 && refused > 5, "{ran} ran, {refused} were refused");
}

#[test]
fn the_plan_is_explained() {
    let explain = |options: &[&str]| {
        let text = Folder::new().run(&with(&["--explain"], options)).succeeded();
        text.lines().filter(|line| line.starts_with("  * ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let long = ["--time", "1000", "--batch", "1", "--hidden", "128", "--threads", "2"];
    assert!(explain(&long)[0].starts_with("  * 2 workers by hidden units"));
    let many = ["--time", "100", "--batch", "64", "--hidden", "128", "--layers", "2", "--threads", "2"];
    let chosen = explain(&many);
    assert_eq!(chosen.len(), 2);
    assert!(chosen.iter().all(|line| line.starts_with("  * 2 workers by sequences")), "{chosen:?}");
    assert!(explain(&["--time", "2", "--batch", "1", "--hidden", "4", "--threads", "2"])[0].contains("one worker"));
    let asked = ["--explain", "--mode", "forward", "--time", "2", "--hidden", "4", "--assert", "--runs", "3"];
    let said = Folder::new().run(&asked);
    // Both are said, also where another plan was faster this time.
    assert!(said.out.contains("layer 0: ") && said.out.contains("measured, the medians of 3 rounds"), "{said:?}");
    assert!(said.code == Some(0) || said.err.starts_with("error: --assert: expected a plan"), "{said:?}");
}

#[test]
fn the_environment_chooses_the_instruction_set() {
    let row =
        json_lines(&Folder::new().run_in_environment(&with(TINY, SHORT), "THROUGHLINE_ISA", "scalar").succeeded());
    assert_eq!(row[0]["isa"], "scalar");
    Folder::new().run_in_environment(&with(TINY, SHORT), "THROUGHLINE_ISA", "").succeeded();
    let refused = Folder::new().run_in_environment(&with(TINY, SHORT), "THROUGHLINE_ISA", "mmx");
    refused.refused(&["THROUGHLINE_ISA", "expected", "scalar", "found \"mmx\""]);
}

#[test]
fn what_cannot_be_run_is_refused() {
    let folder = Folder::new();
    folder.run(&["--mode", "step", "--explain"]).refused(&["--explain", "expected", "found step"]);
    for options in [&["--threads", "2"][..], &["--bidirectional"], &["--time", "3"], &["--lengths", "1..3"]] {
        folder.run(&with(STEP, options)).refused(&["--mode step", "expected", &format!("found {}", options[0])]);
    }
    let uneven = ["--model", "char-lm", "--hidden", "8", "--lengths", "3,4"];
    folder.run(&uneven).refused(&["--lengths", "expected", "found 3 to 4", "--time"]);
    folder.run(&["--explain", "--runs", "3"]).refused(&["--runs", "expected --assert"]);
    folder.run(&with(TINY, &["--write", "nowhere/file", "--runs", "3"])).refused(&["nowhere/file", "write"]);
    assert_eq!(folder.names(""), [""; 0]);
}

#[test]
#[cfg(unix)]
fn only_a_regular_file_is_replaced() {
    let folder = Folder::with(&[("target", "old")]);
    let write = |name: &str| folder.run(&with(&with(TINY, SHORT), &["--write", name]));
    std::os::unix::fs::symlink("target", folder.join("link")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    std::fs::create_dir(folder.join("folder")).unwrap();
    for (name, found) in
        [("link", "a symbolic link"), ("pipe", "a pipe"), ("folder", "a folder"), ("/dev/null", "a device")]
    {
        write(name).refused(&[name, "expected a regular file", found]);
    }
    assert_eq!(folder.names(""), ["folder", "link", "pipe", "target"]);
    assert_eq!(folder.text("link"), "old");
    write("target").succeeded();
    assert!(Written::read(&folder, "target").shapes.contains_key("y"));
}
