//! Folders of tables, each a series.

use std::path::Path;

use super::collector::Collector;
use super::long::{self, Which};
use super::reader::WantedAnswers;
use crate::error::{Error, Result};
use crate::folder::{SkipReason, Skipped, files_below};
use crate::table::TableFormat;

/// Reads all tables below a folder. Where classes are wanted and no column is named for them, a table's class is the name of
/// the subfolder of `folder` that it is in.
pub(super) fn read(folder: &Path, collector: &mut Collector<'_>) -> Result<()> {
    if !folder.is_dir() {
        let hint = "name the folder, or set another format";
        return Err(Error::malformed(folder, None, "a folder of tables", "a file", hint));
    }
    let (files, skipped) = files_below(folder)?;
    collector.skipped.extend(skipped);
    for path in files {
        let Some(format) = TableFormat::of(&path) else {
            collector.skipped.push(Skipped { path, reason: SkipReason::NotTable });
            continue;
        };
        let below = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
        let utf8 = |part: Option<&std::ffi::OsStr>| {
            part.and_then(|part| part.to_str()).map(str::to_owned).ok_or_else(|| {
                Error::malformed(&path, None, "a name in UTF-8", "one that is not", "rename the file or folder")
            })
        };
        let name = utf8(Some(below.as_os_str()))?;
        let class = match &collector.reader.wanted {
            WantedAnswers::Classes { column: None, .. } => {
                let mut parts = below.components();
                let first = parts.next().map(|part| part.as_os_str());
                if parts.next().is_none() {
                    let hint =
                        "put it in a folder named as its class, or name the column of the class in data.label_column";
                    return Err(Error::malformed(
                        &path,
                        None,
                        "a series in the folder of its class",
                        "one in none",
                        hint,
                    ));
                }
                Some(utf8(first)?)
            }
            _ => None,
        };
        let which = Which::One { name: &name, class: class.as_deref() };
        let before = collector.len();
        long::read(&path, format, &which, collector)?;
        if collector.len() == before {
            return Err(collector.wrong(
                1,
                "a row for each step after the header",
                "no row",
                "add rows, or leave the file out",
            ));
        }
    }
    Ok(())
}
