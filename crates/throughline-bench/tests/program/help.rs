//! What the program says about itself, and what it does with a wrong command line or a closed pipe.

use std::fs::File;

use throughline_testkit::program::Ran;

use crate::folder::Folder;

#[test]
fn every_option_is_in_the_help() {
    let folder = Folder::new();
    let help = folder.run(&["--help"]).succeeded();
    for option in [
        "--cell",
        "--mode",
        "--time",
        "--batch",
        "--input",
        "--hidden",
        "--layers",
        "--bidirectional",
        "--layer-norm",
        "--lengths",
        "--model",
        "--vocabulary",
        "--maths",
        "--threads",
        "--runs",
        "--warm-up",
        "--write",
        "--json",
        "--explain",
        "--assert",
        "THROUGHLINE_ISA",
    ] {
        assert!(help.contains(option), "no {option} in\n{help}");
    }
    assert_eq!(folder.names(""), [""; 0], "asking for help leaves nothing behind");
}

#[test]
fn the_version_is_that_of_the_crate() {
    let said = Folder::new().run(&["--version"]).succeeded();
    assert_eq!(said, format!("throughline-bench {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_has_exit_code_2() {
    let folder = Folder::new();
    for arguments in [
        &["bench"][..],
        &["--cell", "transformer"],
        &["--mode", "backward"],
        &["--hidden", "0"],
        &["--lengths", "9..3"],
        &["--lengths", "9,,3"],
        &["--lengths", "9,0"],
        &["--runs", "2"],
        &["--warm-up", "60001"],
        &["--model", "transformer"],
        &["--model", "tagger", "--mode", "train"],
        &["--model", "word-lm", "--bidirectional"],
        &["--vocabulary", "10"],
        &["--maths", "--hidden", "10"],
        &["--maths", "--write", "file"],
        &["--threads", "1025"],
        &["--time", "3", "--lengths", "1..3"],
        &["--explain", "--warm-up", "0"],
    ] {
        let ran = folder.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(!ran.err.is_empty());
    }
    assert_eq!(folder.names(""), [""; 0]);
}

#[test]
fn a_reader_that_is_gone_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = Folder::new().command(&["--runs", "3", "--warm-up", "0"]).stdout(writer).spawn().unwrap();
    let ran = Ran::to_the_end(child);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let child = Folder::new().command(&["--runs", "3", "--warm-up", "0"]).stdout(full).spawn().unwrap();
    Ran::to_the_end(child).refused(&["standard output", "No space left on device"]);
}
