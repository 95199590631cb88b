//! In the place of the reader of Parquet, where the feature `parquet` is off.

use std::path::Path;

use super::{Cells, Kind, Records};
use crate::error::{Error, Result};

/// There are none.
pub(super) enum Parquet {}

/// The error that says what to do.
pub(super) fn open(path: &Path, _limit: u64) -> Result<(Parquet, Vec<String>)> {
    let hint = "build with the feature `parquet`, or write the table as CSV or JSON lines";
    Err(Error::malformed(path, None, "a format that this program was built with", "Parquet", hint))
}

impl Records for Parquet {
    fn select(&mut self, _columns: &[(usize, Kind)]) -> Result<()> {
        match *self {}
    }

    fn next(&mut self, _cells: &mut Cells) -> Result<Option<usize>> {
        match *self {}
    }
}
