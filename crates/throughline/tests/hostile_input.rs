//! The fuzz targets in a short and deterministic form: every seed, and thousands of seeded mutations of each target's
//! seeds, are read or refused; nothing panics. `fuzz/README.md` tells how to search for longer.
#![forbid(unsafe_code)]

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use throughline_kernels::random::{Philox, Purpose, Stream};

use targets::{TARGETS, Target};

/// Mutated inputs for each target.
const MUTATIONS: usize = 3000;
/// The most changes to one input.
const MOST_CHANGES: usize = 6;
/// What means something to one of the formats.
const TOKENS: &[&[u8]] = &[
    b"\"",
    b"\"\"",
    b",",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xEF\xBB\xBF",
    b"\xFF\xFE",
    b"\xC3",
    b" ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[[",
    b"=",
    b"null",
    b"-1",
    b"0",
    b"1e999",
    b"nan",
    b"18446744073709551616",
    b"16777216",
    b"\\ud800",
    b"__label__a",
    b"text,label",
    b"\n\n",
    b"-DOCSTART-",
    b"1-2",
    b"I-PER",
    b"@data",
    b":",
    b"?",
    b"<unk>",
];

#[test]
fn tables() {
    check("tables");
}

#[test]
fn parquet() {
    check("parquet");
}

#[test]
fn tagged() {
    check("tagged");
}

#[test]
fn word_vectors() {
    check("word_vectors");
}

#[test]
fn model_files() {
    check("model_files");
}

#[test]
fn music() {
    check("music");
}

#[test]
fn series() {
    check("series");
}

#[test]
fn recipes() {
    check("recipes");
}

#[test]
fn vocabulary() {
    check("vocabulary");
}

fn check(name: &str) {
    let Target { run, seeds, .. } = TARGETS.into_iter().find(|target| target.name == name).unwrap();
    let seeds = seeds();
    for (index, seed) in seeds.iter().enumerate() {
        assert!(run(seed), "{name}: seed {index} is refused");
        // A file that ends early; every length of a small one.
        for end in (0..seed.len()).step_by(seed.len().div_ceil(256)) {
            run(&seed[..end]);
        }
    }
    let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
    let accepted = (0..MUTATIONS).filter(|_| run(&mutated(&seeds, &mut random))).count();
    // Mutations that are all refused, or none, would not reach far.
    assert!((MUTATIONS / 100..MUTATIONS).contains(&accepted), "{name}: {accepted} of {MUTATIONS} were accepted");
}

/// One of `seeds` with a few changes.
fn mutated(seeds: &[Vec<u8>], random: &mut Stream) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    // Few changes more often than many: most of those leave nothing to read.
    let most = 1 + random.below(MOST_CHANGES);
    for _ in 0..1 + random.below(most) {
        let at = random.below(input.len() + 1);
        let range = at..(at + 1 + random.below(16)).min(input.len());
        match random.below(6) {
            0 if !range.is_empty() => input[at] ^= 1 << random.below(8),
            1 if !range.is_empty() => input[at] = random.bits() as u8,
            2 if !range.is_empty() => drop(input.drain(range)),
            3 if !range.is_empty() => {
                let copy = input[range].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            4 => {
                let other = &seeds[random.below(seeds.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len())..]);
            }
            _ => drop(input.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied())),
        }
    }
    input
}
