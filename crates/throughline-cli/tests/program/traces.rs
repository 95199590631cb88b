//! Traces of trained models.

use std::collections::BTreeMap;
use std::fs;

use crate::folder::Folder;
use crate::trained::{classifier, language_model, piano_rolls, tagger, text};

/// The files in an `.npz`, by name.
fn entries(folder: &Folder, name: &str) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(folder.join(name)).unwrap();
    let archive = rawzip::ZipArchive::from_slice(&bytes).unwrap();
    let (mut found, mut entries) = (BTreeMap::new(), archive.entries());
    while let Some(entry) = entries.next_entry().unwrap() {
        let name = String::from_utf8(entry.file_path().as_ref().to_vec()).unwrap();
        found.insert(name, archive.get_entry(entry.wayfinder()).unwrap().data().to_vec());
    }
    found
}

/// The numbers of a `.npy` file, four bytes each, and its header.
fn array(npy: &[u8]) -> (String, Vec<u32>) {
    let (head, values) = npy.split_at(10 + usize::from(u16::from_le_bytes([npy[8], npy[9]])));
    let words = values.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    (String::from_utf8_lossy(head).into_owned(), words.collect())
}

#[test]
fn every_number_of_a_language_model_is_written() {
    let folder = language_model();
    let arguments = ["trace", "lm-1", "--sequences", "3", "--steps", "20", "--out", "trace.npz"];
    let said = folder.run(&arguments).succeeded();
    assert_eq!(said, "trace.npz: 13 arrays of 60 rows, 3 sequences\n");
    let found = entries(&folder, "trace.npz");
    let names = "d_h d_hidden_new d_new d_reset d_update h hidden_new new pre_new pre_reset pre_update reset update";
    let of_cell: Vec<String> = names.split(' ').map(|name| format!("rnn.l0.{name}.npy")).collect();
    let all = [&["pieces.json".to_owned()], &of_cell[..], &["sequence.npy".to_owned(), "time.npy".to_owned()]].concat();
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), all);
    let (head, update) = array(&found["rnn.l0.update.npy"]);
    assert!(head.contains("'shape': (60, 16)"), "{head}");
    let update: Vec<f32> = update.into_iter().map(f32::from_bits).collect();
    assert!(update.iter().all(|z| (0.0..=1.0).contains(z)) && update.iter().any(|z| *z != update[0]));
    // The pieces of the first sequence are the text that it was shown.
    let pieces: Vec<String> = serde_json::from_slice(&found["pieces.json"]).unwrap();
    let sequence = array(&found["sequence.npy"]).1;
    let shown: String = pieces.iter().zip(&sequence).filter(|(_, of)| **of == 0).map(|(piece, _)| &piece[..]).collect();
    assert!(shown.len() == 20 && folder.text("text.txt").contains(&shown), "{shown:?}");
    // The same arrays whatever the file is.
    folder.run(&[&arguments[..7], &["trace.safetensors"]].concat()).succeeded();
    let bytes = fs::read(folder.join("trace.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.len(), all.len() - 1);
    for (name, tensor) in tensors.tensors() {
        assert!(found[&format!("{name}.npy")].ends_with(tensor.data()), "{name}");
    }
    if cfg!(feature = "parquet") {
        let said = folder.run(&[&arguments[..7], &["trace.parquet"]].concat()).succeeded();
        assert_eq!(said, "trace.parquet: 13 arrays of 60 rows, 3 sequences\n");
        let bytes = fs::read(folder.join("trace.parquet")).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        // The numbers of a column that is not compressible lie there as they are.
        assert!(bytes.len() > 13 * 60 * 16 * 4 / 2, "{} bytes", bytes.len());
    }
}

#[test]
fn every_kind_of_model_can_be_traced() {
    for (folder, run, expected) in [
        (classifier(), "classify-1", "rnn.l0_reverse.d_c.npy"),
        (tagger(), "tag-1", "rnn.l0_reverse.forget.npy"),
        (piano_rolls(), "roll-1", "rnn.l0.h.npy"),
    ] {
        folder.run(&["trace", run, "--steps", "5", "--out", "t.npz"]).succeeded();
        let found = entries(&folder, "t.npz");
        assert!(found.contains_key(expected), "{run}: {:?}", found.keys());
        let pieces: Vec<String> = serde_json::from_slice(&found["pieces.json"]).unwrap();
        assert_eq!(pieces.len(), array(&found["time.npy"]).1.len(), "{run}");
    }
}

#[test]
fn only_what_is_selected_is_written() {
    let folder = classifier();
    let arguments =
        ["trace", "classify-1", "--data", "texts.tsv", "--out", "t.npz", "--select", "*.forget", "rnn.l0.c"];
    folder.run(&arguments).succeeded();
    let names: Vec<String> = entries(&folder, "t.npz").into_keys().collect();
    let expected =
        ["pieces.json", "rnn.l0.c.npy", "rnn.l0.forget.npy", "rnn.l0_reverse.forget.npy", "sequence.npy", "time.npy"];
    assert_eq!(names, expected);
    let arguments = ["trace", "classify-1", "--out", "u.npz", "--select", "rnn.l7.*"];
    folder.run(&arguments).refused(&["expected the name of an array", "rnn.l0_reverse.d_forget", "found \"rnn.l7.*\""]);
    folder.run(&["trace", "classify-1", "--out", "u.npz", "--select", "***"]).refused(&["\"***\"", "*.forget"]);
    assert_eq!(folder.names(""), ["runs", "t.npz", "texts.tsv"]);
}

#[test]
fn what_cannot_be_traced() {
    let folder = classifier();
    folder.write("prose.txt", text(20));
    fs::create_dir(folder.join("folder.npz")).unwrap();
    let refused = |arguments: &[&str], parts: &[&str]| {
        folder.run(&[&["trace"], arguments].concat()).refused(parts);
        assert_eq!(folder.names(""), ["folder.npz", "prose.txt", "runs", "texts.tsv"], "{arguments:?}");
    };
    // The data and the run would be refused as well, if anybody had read them.
    for out in ["t.csv", "npz"] {
        refused(&["nothing", "--data", "gone.tsv", "--out", out], &["a file that ends in .npz, .safetensors", out]);
    }
    refused(&["classify-1", "--data", "gone.tsv", "--out", "folder.npz"], &["folder.npz", "found a folder"]);
    refused(&["classify-1", "--data", "gone.tsv", "--out", "gone/t.npz"], &["gone/t.npz", "No such file"]);
    refused(&["classify-1", "--data", "gone.tsv", "--out", "t.npz"], &["gone.tsv", "No such file"]);
    refused(&["classify-1", "--data", "prose.txt", "--out", "t.npz"], &["prose.txt"]);
    refused(&["nothing", "--out", "t.npz"], &["nothing: run: expected the path of a run folder"]);
    for file in ["model.safetensors", "README.md"] {
        fs::remove_file(folder.join("runs/classify-1").join(file)).unwrap();
    }
    refused(&["classify-1", "--out", "t.npz"], &["expected a trained model", "--resume runs/classify-1"]);
}

#[test]
fn a_sequence_longer_than_memory_allows() {
    let folder = language_model();
    folder.write("long.txt", text(100_000));
    let arguments = ["trace", "lm-1", "--data", "long.txt", "--steps", "1000000000", "--out", "t.npz"];
    let parts = ["runs/lm-1: long.txt: expected at most 4294967296 bytes", " bytes for ", "select fewer arrays"];
    folder.run(&arguments).refused(&parts);
    assert_eq!(folder.names(""), ["long.txt", "runs", "text.txt"]);
}
