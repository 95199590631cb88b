//! Standard output that is closed or full.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use crate::folder::{Folder, Ran};
use crate::trained::{classifier, language_model};

#[test]
fn a_reader_who_has_seen_enough() {
    let folder = language_model();
    let mut child = folder.command(&["generate", "lm-1", "--length", "100000000"]).spawn().unwrap();
    let mut beginning = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut beginning).unwrap();
    let ran = Ran::to_the_end(child);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn help_for_a_reader_of_one_line() {
    let mut child = Folder::new().command(&["--help"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "Recurrent networks that train fast on a CPU.\n");
    let ran = Ran::to_the_end(child);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn a_recipe_for_a_reader_of_one_line() {
    let mut child = Folder::new().command(&["recipe", "lm"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("# A recipe for "), "{line}");
    let ran = Ran::to_the_end(child);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn predictions_that_nobody_reads() {
    let folder = classifier();
    let mut child = folder.command(&["predict", "classify-1"]).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    while input.write_all(b"a fine, bright film\n").is_ok() {}
    let ran = Ran::to_the_end(child);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

/// The bad line is the third: it is named, and the others are answered.
#[test]
fn a_line_that_cannot_be_read_is_named_and_the_others_are_answered() {
    let folder = classifier();
    let ran = folder.run_with_input(&["predict", "classify-1"], b"one\ntwo\n\xFF\nfour\n");
    assert_eq!((ran.code, ran.out.lines().count()), (Some(1), 3), "{ran:?}");
    assert!(ran.err.starts_with("error: standard input, line 3: expected UTF-8"), "{ran:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output() {
    let folder = language_model();
    for arguments in
        [&["generate", "lm-1"][..], &["eval", "lm-1"], &["predict", "lm-1"], &["recipe", "lm"], &["recipe"], &["runs"]]
    {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut child = folder.command(arguments).stdin(Stdio::piped()).stdout(full).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(b"line 1\n");
        Ran::to_the_end(child).refused(&["standard output", "No space left on device"]);
    }
}

/// A writer who waits for each answer before the next line gets them one by one.
#[test]
fn every_line_is_answered_at_once() {
    let folder = classifier();
    let mut child = folder.command(&["predict", "classify-1"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    for line in ["a fine, bright film", "dull and far too long", "a bright number 3"] {
        writeln!(input, "{line}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["text"], line);
    }
    drop(input);
    assert_eq!(Ran::to_the_end(child).code, Some(0));
}
