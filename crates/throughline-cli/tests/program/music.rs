//! A model of piano rolls from its pieces to the piece it writes.

use throughline::data::{PianoRoll, PieceReader, piano_roll_from_json, piano_roll_to_midi};

use crate::folder::{Folder, json_lines};
use crate::trained::{TINY_ROLL, chords, piano_rolls, with};

fn midi(steps: &str) -> Vec<u8> {
    piano_roll_to_midi(&piano_roll_from_json(steps).unwrap(), 4)
}

/// The piece in a MIDI file of sixteenths.
fn piece(folder: &Folder, name: &str) -> PianoRoll {
    PieceReader::default().read(&[folder.join(name)]).unwrap().pieces.remove(0).1
}

#[test]
fn chords_are_learned_and_measured() {
    let folder = piano_rolls();
    let card = folder.text("runs/roll-1/README.md");
    for part in
        ["# roll-1", "`pieces.json`", "Markov chain of each key", "throughline generate roll-1 --prompt piece.mid"]
    {
        assert!(card.contains(part), "no {part:?} in\n{card}");
    }
    let own = &json_lines(&folder.run(&["eval", "roll-1", "--json"]).succeeded())[0];
    assert_eq!((&own["data"], &own["count"]), (&"test split".into(), &(2 * 15).into()));
    assert!(own["f1"].as_f64().unwrap() > 0.95 && own["loss"].as_f64().unwrap() < 1.0, "{own}");
    let rows = folder.rows("runs/roll-1/metrics.jsonl");
    let test = rows.iter().find(|row| row["split"] == "test").unwrap();
    for key in ["loss", "f1", "precision", "recall", "frame_accuracy"] {
        assert_eq!(own[key], test[key], "{key}");
    }
    folder.write("other.mid", midi("[[60,64],[65,69],[1]]"));
    let ran = folder.run(&["eval", "roll-1", "--data", "other.mid"]);
    assert!(ran.err.contains("1 of 5 notes in other.mid are not from 60 to 79"), "{ran:?}");
    assert!(ran.succeeded().starts_with("other.mid (2): loss "));
}

#[test]
fn pieces_are_answered_with_their_next_step() {
    let folder = piano_rolls();
    let ran = folder.run_with_input(&["predict", "roll-1"], "[[60,64,67],[65,69,72]]\n[[65,69,72]]\n[]\n");
    let rows = json_lines(&ran.succeeded());
    let pitches: Vec<String> = rows.iter().map(|row| row["pitches"].to_string()).collect();
    assert_eq!(pitches[..2], ["[67,71,74]", "[67,71,74]"]);
    let probabilities = rows[0]["probabilities"].as_array().unwrap();
    assert_eq!((rows[0]["steps"].as_u64(), rows[0]["lowest"].as_u64(), probabilities.len()), (Some(2), Some(60), 20));
    let shown =
        folder.run_with_input(&["predict", "roll-1", "--format", "text"], "[[60,64,67],[65,69,72]]\n").succeeded();
    assert!(shown.contains("pitches 67 71 74  "), "{shown}");
    let ran = folder.run_with_input(&["predict", "roll-1"], "[[60]]\nnot music\n[[200]]\n[[60,60]]\n");
    for part in ["line 2: expected", "line 3: expected a MIDI pitch", "line 4: expected each pitch", "3 of 4 lines"] {
        assert!(ran.err.contains(part), "no {part} in {ran:?}");
    }
    assert_eq!((ran.code, json_lines(&ran.out).len()), (Some(1), 1));
}

#[test]
fn a_piece_is_continued() {
    let folder = piano_rolls();
    folder.write("begin.mid", midi("[[60,64,67],[65,69,72]]"));
    let generate = |options: &[&str]| folder.run(&with(&["generate", "roll-1", "--length", "10"], options));
    let cold = ["--prompt", "begin.mid", "--temperature", "0"];
    assert_eq!(generate(&with(&cold, &["--out", "piece.mid"])).succeeded(), "");
    let written = piece(&folder, "piece.mid");
    let cycle = ["[60,64,67]", "[65,69,72]", "[67,71,74]"];
    let steps: Vec<&str> = cycle.into_iter().cycle().take(12).collect();
    let want = format!("[{}]", steps.join(","));
    assert_eq!(written, piano_roll_from_json(&want).unwrap());
    assert_eq!(generate(&cold).succeeded(), want.clone() + "\n");
    generate(&with(&cold, &["--out", "piece.json"])).succeeded();
    assert_eq!(folder.text("piece.json"), want);
    // The same seed writes the same; without a prompt a piece begins.
    let begun = generate(&["--seed", "3"]).succeeded();
    assert_eq!(generate(&["--seed", "3"]).succeeded(), begun);
    assert_eq!(piano_roll_from_json(begun.trim()).unwrap().len(), 10);
}

#[test]
fn what_cannot_be_continued() {
    let folder = piano_rolls();
    folder.write("two.json", "[[[60]],[[61]]]");
    folder.write("damaged.mid", &midi("[[60]]")[..20]);
    for (options, says) in [
        (&["--prompt", "gone.mid"][..], &["runs/roll-1: gone.mid: cannot be read"][..]),
        (&["--prompt", "two.json"], &["expected one piece in two.json, found 2"]),
        (&["--prompt", "damaged.mid"], &["damaged.mid: expected a Standard MIDI File"]),
        (&["--prompt", "Once upon"], &["Once upon: expected a file that ends in .mid"]),
        (&["--out", "piece.wav"], &["expected a file that ends in .mid, .midi or .json, found one that ends in .wav"]),
        (&["--out", "none/piece.mid"], &["none/piece.mid"]),
        (&["--top-k", "3"], &["no top_k"]),
        (&["--length", "99999999999"], &["a length of at most 1048576 steps"]),
    ] {
        folder.run(&with(&["generate", "roll-1"], options)).refused(says);
    }
    assert!(!folder.join("piece.wav").exists());
    folder.write("kept.mid", midi("[[60]]"));
    std::os::unix::fs::symlink(folder.join("kept.mid"), folder.join("link.mid")).unwrap();
    folder.run(&["generate", "roll-1", "--out", "link.mid"]).refused(&["link.mid", "a symbolic link"]);
    assert!(folder.join("link.mid").is_symlink());
}

#[test]
fn files_that_are_no_music() {
    let folder = Folder::with(&[
        ("pieces.json", &chords()),
        ("high.json", "[[[60],\n[128]]]"),
        ("twice.json", "[[[60,60]]]"),
        ("shape.json", "{\"train\": [60]}"),
        ("empty.json", "[[]]"),
        ("texts/a.txt", "x"),
    ]);
    folder.write("silent.mid", midi("[]"));
    for (path, says) in [
        ("high.json", &["high.json:2: expected a MIDI pitch, a whole number from 0 to 127, found integer `128`"][..]),
        ("twice.json", &["twice.json:1: expected each pitch of a step once, found 60 twice"]),
        ("shape.json", &["shape.json:1: expected a sequence, a list of steps"]),
        ("empty.json", &["empty.json:1: expected a sequence of at least one step"]),
        ("texts", &["texts: expected at least one file that ends in .mid, .midi or .json"]),
        ("silent.mid", &["silent.mid: expected at least one note"]),
        ("gone.mid", &["gone.mid: cannot be read"]),
    ] {
        folder.run(&with(&["train", path], TINY_ROLL)).refused(says);
    }
    let train = |set: &str| folder.run(&with(&with(&["train", "pieces.json"], TINY_ROLL), &[set]));
    train("data.highest_pitch=59").refused(&["data.highest_pitch", "60 to 127", "59"]);
    train("data.steps_per_beat=0").refused(&["data.steps_per_beat", "1 to 480"]);
    train("model.threshold=1").refused(&["model.threshold", "above 0 and below 1"]);
    train("model.bidirectional=true").refused(&["model.bidirectional"]);
    assert!(!folder.join("runs").exists());
}
