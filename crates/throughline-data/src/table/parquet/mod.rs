//! Apache Parquet: columns with a type each, in groups of rows.
//!
//! - `reader`: the records of a file, a batch of rows of the selected columns at a time;
//! - `meaning`: what the values of a column mean, and how each is written as a cell;
//! - [`writer`]: rows of cells to a file.

mod meaning;
pub mod reader;
pub mod writer;

#[cfg(test)]
mod tests;
