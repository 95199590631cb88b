//! Event files of TensorBoard, read by a plain decoder that knows nothing of the writer.

use crate::folder::Folder;
use crate::trained::{TINY_CLASSIFIER, tsv, with};

/// CRC-32C as a polynomial division: of the message with its first 32 bits turned, bits in ascending order.
fn checksum(bytes: &[u8]) -> u32 {
    let mut bits: Vec<bool> = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect();
    let length = bits.len();
    bits.extend([false; 32]);
    bits[..32].iter_mut().for_each(|bit| *bit = !*bit);
    // x^32 + x^28 + x^27 + x^26 + x^25 + x^23 + x^22 + x^20 + x^19 + x^18 + x^14 + x^13 + x^11 + x^10 + x^9 + x^8 + x^6 + 1
    let terms = [32, 28, 27, 26, 25, 23, 22, 20, 19, 18, 14, 13, 11, 10, 9, 8, 6, 0];
    for at in 0..length {
        if bits[at] {
            terms.iter().for_each(|term| bits[at + 32 - term] ^= true);
        }
    }
    bits[length..].iter().enumerate().fold(0, |sum, (place, &bit)| sum | u32::from(!bit) << place)
}

fn unmasked(bytes: &[u8]) -> u32 {
    let masked = u32::from_le_bytes(bytes.try_into().unwrap()).wrapping_sub(0xA282_EAD8);
    masked.rotate_left(15)
}

/// The data of each record, after its checksums.
fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !file.is_empty() {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        assert_eq!(unmasked(&file[8..12]), checksum(&file[..8]));
        let data = &file[12..12 + length];
        assert_eq!(unmasked(&file[12 + length..16 + length]), checksum(data));
        records.push(data.to_vec());
        file = &file[16 + length..];
    }
    records
}

#[derive(Debug, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The fields of a message by number.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let end = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
        let (number, rest) = bytes.split_at(end + 1);
        *bytes = rest;
        number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7F))
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                fields.push((key >> 3, Field::Number(varint(&mut bytes))));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (data, rest) = bytes.split_at(length);
        fields.push((key >> 3, Field::Bytes(data.to_vec())));
        bytes = rest;
    }
    fields
}

fn bytes(fields: &[(u64, Field)], number: u64) -> Option<&[u8]> {
    fields.iter().find_map(|(field, data)| match data {
        Field::Bytes(bytes) if *field == number => Some(&bytes[..]),
        _ => None,
    })
}

/// Step, tag and value of each scalar of a file, and the step at which it begins anew.
fn scalars(file: &[u8]) -> (Vec<(u64, String, f32)>, Option<u64>) {
    let (mut scalars, mut start) = (Vec::new(), None);
    for (index, record) in records(file).iter().enumerate() {
        let event = fields(record);
        let time = f64::from_le_bytes(bytes(&event, 1).unwrap().try_into().unwrap());
        assert!(time > 1.7e9, "{time}");
        let Some((_, Field::Number(step))) = event.iter().find(|(field, _)| *field == 2) else { panic!("no step") };
        assert_eq!(bytes(&event, 3), (index == 0).then_some(&b"brain.Event:2"[..]));
        if let Some(log) = bytes(&event, 7) {
            assert_eq!(fields(log), [(1, Field::Number(1))]);
            start = Some(*step);
        }
        for (_, value) in bytes(&event, 5).map(fields).unwrap_or_default() {
            let Field::Bytes(value) = value else { panic!("{value:?}") };
            let value = fields(&value);
            let tag = String::from_utf8(bytes(&value, 1).unwrap().to_vec()).unwrap();
            scalars.push((*step, tag, f32::from_le_bytes(bytes(&value, 2).unwrap().try_into().unwrap())));
        }
    }
    (scalars, start)
}

/// What rows of `metrics.jsonl` must become.
fn expected(rows: &[serde_json::Value]) -> Vec<(u64, String, f32)> {
    let mut scalars = Vec::new();
    for row in rows {
        let split = row["split"].as_str().unwrap();
        let names: &[&str] = match split {
            "train" => &["loss", "accuracy", "lr", "grad_norm", "tokens_per_s"],
            _ => &["loss", "accuracy", "macro_f1"],
        };
        let scalar = |name: &&str| {
            (row["step"].as_u64().unwrap(), format!("{name}/{split}"), row[name].as_f64().unwrap() as f32)
        };
        scalars.extend(names.iter().map(scalar));
    }
    scalars
}

#[test]
fn the_checksum_of_the_test() {
    assert_eq!(checksum(b"123456789"), 0xE306_9283);
    assert_eq!(checksum(&[0; 32]), 0x8A91_36AA);
}

#[test]
fn event_files_hold_the_rows_of_the_metrics() {
    let folder = Folder::with(&[("texts.tsv", &tsv())]);
    let short = with(&["train", "--quiet", "texts.tsv", "--tensorboard"], TINY_CLASSIFIER);
    folder.run(&with(&short, &["train.epochs=4"])).succeeded();
    let files = || -> Vec<String> {
        folder.names("runs/classify-1").into_iter().filter(|name| name.starts_with("events.out.tfevents.")).collect()
    };
    let [first] = &files()[..] else { panic!("{:?}", files()) };
    let read = |name: &str| scalars(&folder.bytes(&format!("runs/classify-1/{name}")));
    let before = folder.rows("runs/classify-1/metrics.jsonl");
    assert_eq!(read(first), (expected(&before), None));

    // A resumed run leaves the file as it is and begins another, which takes the place of what was measured at the end.
    folder.run(&["train", "--quiet", "--resume", "classify-1", "--set", "train.epochs=8"]).succeeded();
    assert_eq!(read(first), (expected(&before), None));
    let [_, second] = &files()[..] else { panic!("{:?}", files()) };
    let (rows, done) = (folder.rows("runs/classify-1/metrics.jsonl"), before.last().unwrap()["step"].as_u64());
    let later: Vec<_> = rows.iter().filter(|row| row["step"].as_u64() > done).cloned().collect();
    assert!(!later.is_empty());
    assert_eq!(read(second), (expected(&later), done.map(|done| done + 1)));

    // Without the setting there is none.
    folder.run(&with(&["train", "--quiet", "texts.tsv"], TINY_CLASSIFIER)).succeeded();
    assert!(!folder.names("runs/classify-2").iter().any(|name| name.contains("tfevents")));
    folder.run(&with(&short, &["train.tensorboard=false"])).refused(&["--tensorboard", "stands for the same setting"]);
}
