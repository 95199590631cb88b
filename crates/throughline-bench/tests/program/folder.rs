//! A folder to run the program in.

use throughline_testkit::program::{self, Program};

pub use throughline_testkit::program::json_lines;

pub struct Bench;

impl Program for Bench {
    const PATH: &str = env!("CARGO_BIN_EXE_throughline-bench");
}

pub type Folder = program::Folder<Bench>;

pub fn with<'a>(first: &[&'a str], others: &[&'a str]) -> Vec<&'a str> {
    [first, others].concat()
}
