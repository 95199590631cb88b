//! Apache Parquet is known by its name and refused, so that it is not taken for a text.

use std::path::Path;

use crate::error::Error;

/// The error that says what to do.
pub(super) fn refused(path: &Path) -> Error {
    let expected = "a table of a format that is read";
    Error::malformed(path, None, expected, "Parquet", "write the table as CSV or JSON lines")
}
