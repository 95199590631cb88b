//! Apache Parquet: columns with a type each, in groups of rows.
//!
//! - `reader`: the records of a file, a batch of rows of the selected columns at a time;
//! - `footer`: the schema of a file and the places of its pages; `pages`: the pages of a column, decompressed;
//! - `meaning`: what the values of a column mean, and how each is written as a cell;
//! - [`writer`]: rows of cells to a file; [`arrays`]: lists of numbers to a file.
//!
//! Files may come from anybody, and the crate `parquet` was not written for hostile ones. What makes it panic is caught in `reader`;
//! what would take its stack or memory without bound is refused in `footer` and `pages`, before it sees it.

pub mod arrays;
mod footer;
mod meaning;
mod pages;
pub mod reader;
mod source;
pub mod writer;

#[cfg(test)]
mod tests;

/// An error of the crate `parquet`, in our words.
fn general(found: impl ToString) -> parquet::errors::ParquetError {
    parquet::errors::ParquetError::General(found.to_string())
}

/// The next number of at most 64 bits, seven in a byte; `None` if there is none.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
