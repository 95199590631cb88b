//! Data that gzip or zstd has compressed.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::folder::Folder;
use crate::trained::{TINY_CLASSIFIER, examples, tsv, with};

fn gzip(content: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(content.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

fn json_lines() -> String {
    let line = |(label, text): &(&str, String)| format!("{}\n", serde_json::json!({"text": text, "label": label}));
    examples().iter().map(line).collect()
}

/// The same model comes of the same data, however they are kept.
#[test]
fn compressed_tables_are_read_as_they_are() {
    let folder = Folder::with(&[("plain.tsv", &tsv())]);
    folder.write("texts.tsv.gz", gzip(&tsv()));
    folder.write("texts.jsonl.zst", compress_to_vec(json_lines().as_bytes(), CompressionLevel::Fastest));
    for (run, data) in ["plain.tsv", "texts.tsv.gz", "texts.jsonl.zst"].iter().enumerate() {
        folder.run(&with(&["train", data], TINY_CLASSIFIER)).succeeded();
        let model = |run: usize| folder.bytes(&format!("runs/classify-{run}/model.safetensors"));
        assert!(model(run + 1) == model(1), "{data}");
        let eval = folder.run(&["eval", &format!("classify-{}", run + 1), "--data", data, "--json"]).succeeded();
        assert!(eval.contains("\"accuracy\":1.0"), "{data}: {eval}");
    }
}

#[test]
fn a_damaged_file_is_refused_and_nothing_is_begun() {
    let folder = Folder::new();
    let whole = gzip(&tsv());
    let mut flipped = whole.clone();
    let last = flipped.len() - 5;
    flipped[last] ^= 1;
    for (name, bytes) in [("short.tsv.gz", &whole[..whole.len() / 2]), ("flipped.tsv.gz", &flipped)] {
        folder.write(name, bytes);
        folder.run(&with(&["train", name], TINY_CLASSIFIER)).refused(&[name, "gzip"]);
    }
    assert!(!folder.names(".").contains(&"runs".to_owned()));
}
