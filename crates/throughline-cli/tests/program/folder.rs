//! A folder to run the program in.

use throughline_testkit::program::{self, Program};

pub use throughline_testkit::program::{Ran, json_lines};

pub struct Throughline;

impl Program for Throughline {
    const PATH: &str = env!("CARGO_BIN_EXE_throughline");
}

pub type Folder = program::Folder<Throughline>;
