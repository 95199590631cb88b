//! The formats of labelled texts, and how they are detected.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clean::TextRules;
use crate::compressed::{beginning, ending};
use crate::error::{Error, Result, quoted, quoted_list};
use crate::folder::entries;
use crate::table::TableFormat;

/// The prefix of labels in the files of fastText.
pub(crate) const LABEL_PREFIX: &str = "__label__";

/// A format of labelled texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// A file of comma-separated values (RFC 4180). Quoted fields may contain commas and line ends.
    Csv,
    /// A file of tab-separated values. Quotes have no meaning, and no field contains a tab or a line end.
    Tsv,
    /// JSON lines: an object on each line, whose keys are the columns. `null` is a missing value.
    Jsonl,
    /// Apache Parquet: columns of texts, numbers, truth values or times. Read with the feature `parquet`.
    Parquet,
    /// A folder with one subfolder for each class, named by its label. Each text file in it, at any depth, is one
    /// example.
    FolderPerClass,
    /// A folder with one `.txt` file (in any letter case) for each class, or one such file of any name. Each line is
    /// one example; the label is the file's name without its extension.
    FilePerClass,
    /// A file in which each line is a label, white space, and a text. fastText's files with several `__label__` words
    /// on a line are refused.
    LabelFirst,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 7] =
        [Self::Csv, Self::Tsv, Self::Jsonl, Self::Parquet, Self::FolderPerClass, Self::FilePerClass, Self::LabelFirst];

    /// `csv`, `tsv`, `jsonl`, `parquet`, `folder-per-class`, `file-per-class` or `label-first`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::FolderPerClass => "folder-per-class",
            Self::FilePerClass => "file-per-class",
            Self::LabelFirst => "label-first",
        }
    }

    /// Detects the format of a file or folder:
    ///
    /// - a file whose name ends in `.csv`, `.tsv`, `.tab`, `.jsonl`, `.ndjson` or `.parquet` has that format (`.tab` is TSV,
    ///   `.ndjson` is JSON lines);
    /// - any other file is [`LabelFirst`](Self::LabelFirst) if every line in its first 64 KiB begins with a whole
    ///   number or a word such as `__label__good`, some lines have text after it, and there are at most half as many
    ///   labels as lines;
    /// - a folder with subfolders and no `.txt` files is [`FolderPerClass`](Self::FolderPerClass);
    /// - a folder with `.txt` files and no subfolders is [`FilePerClass`](Self::FilePerClass).
    ///
    /// # Errors
    /// [`Error::Malformed`] if none of these applies; it lists the formats to choose from. [`Error::Io`].
    pub fn detect(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let found = if path.is_dir() {
            let (entries, _) = entries(path)?;
            let folders = entries.iter().filter(|entry| entry.is_dir()).count();
            let texts = entries.iter().filter(|entry| is_text_file(entry)).count();
            match (folders, texts) {
                (1.., 0) => return Ok(Self::FolderPerClass),
                (0, 1..) => return Ok(Self::FilePerClass),
                _ => format!("a folder with {folders} folders and {texts} `.txt` files"),
            }
        } else {
            match TableFormat::of(path) {
                Some(format) => return Ok(Self::of_table(format)),
                None if begins_with_labels(path)? => return Ok(Self::LabelFirst),
                None => "a file whose name and content do not show it".into(),
            }
        };
        let expected = "labelled texts whose format can be detected";
        let names: Vec<_> = Self::ALL.iter().map(|format| format!("`{}`", format.name())).collect();
        Err(Error::malformed(path, None, expected, found, format!("set the format to one of {}", names.join(", "))))
    }

    /// The format of `path`, given that `known` has this one: the same, unless their names end as different tables do.
    pub fn beside(self, known: &Path, path: &Path) -> Self {
        match (TableFormat::of(known), TableFormat::of(path)) {
            (known, Some(other)) if known != Some(other) => Self::of_table(other),
            _ => self,
        }
    }

    fn of_table(format: TableFormat) -> Self {
        match format {
            TableFormat::Csv => Self::Csv,
            TableFormat::Tsv => Self::Tsv,
            TableFormat::JsonLines => Self::Jsonl,
            TableFormat::Parquet => Self::Parquet,
        }
    }

    pub(crate) fn is_table(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv | Self::Jsonl | Self::Parquet)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    /// # Errors
    /// [`Error::Setting`] for anything but a [`name`](Format::name).
    fn from_str(name: &str) -> Result<Self> {
        let format = Self::ALL.into_iter().find(|format| format.name() == name);
        format.ok_or_else(|| Error::setting("format", quoted_list(Self::ALL.map(Self::name)), quoted(name)))
    }
}

pub(crate) fn is_text_file(path: &Path) -> bool {
    ending(path).as_deref() == Some("txt") && path.is_file()
}

fn begins_with_labels(path: &Path) -> Result<bool> {
    const SAMPLE: u64 = 64 << 10;
    // Reading from a pipe would consume it.
    if !path.metadata().map_err(Error::io(path))?.is_file() {
        return Ok(false);
    }
    let mut bytes = beginning(path, SAMPLE)?;
    if bytes.len() as u64 == SAMPLE {
        // The last line may be incomplete.
        bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n' || byte == b'\r').unwrap_or(0));
    }
    let sample = String::from_utf8_lossy(&bytes);
    let sample = TextRules::default().clean(&sample);
    let lines: Vec<(&str, &str)> = sample.lines().filter_map(label_and_text).collect();
    let is_label = |label: &str| label.starts_with(LABEL_PREFIX) || label.parse::<i64>().is_ok();
    let labels: HashSet<&str> = lines.iter().map(|line| line.0).collect();
    let some_text = lines.iter().any(|line| !line.1.is_empty());
    Ok(some_text && labels.len() <= lines.len().div_ceil(2) && labels.into_iter().all(is_label))
}

/// The first word of a line, and the rest, trimmed; `None` if the line is blank.
pub(crate) fn label_and_text(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let (label, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (!label.is_empty()).then_some((label, text.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn doubt_about_the_format_is_an_error() {
        let folder = Folder::new(&[
            ("both/a/x.txt", b"x"),
            ("both/y.txt", b"y"),
            ("tables/a.csv", b"text,label"),
            ("prose.txt", b"It was the best of times,\nit was the worst of times"),
            ("numbers.txt", b"1\n2\n1\n2\n"),
            ("years.txt", b"1789 revolution\n1815 congress\n1848 revolution\n"),
        ]);
        for name in ["both", "tables", "prose.txt", "numbers.txt", "years.txt"] {
            let error = Format::detect(folder.join(name)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("`label-first`"), "{error}");
        }
        assert!(matches!(Format::detect(folder.join("missing")), Err(Error::Io { .. })));
    }

    #[test]
    fn what_leaves_no_doubt_is_detected() {
        let folder = Folder::new(&[
            ("folders/a/x.txt", b"x"),
            ("folders/README.md", b"about"),
            ("files/a.txt", b"x"),
            ("files/SOURCE.md", b"about"),
            ("a.CSV", b"anything"),
            ("a.tab", b"anything"),
            ("a.jsonl", b"anything"),
            ("a.ndjson.gz", b"anything"),
            ("a.parquet", b"anything"),
            ("numbers.train", b"1 x\n0 y\n\n1 z\n0\n"),
            ("words.txt", b"__label__a x\n__label__b y\n__label__a z\n"),
        ]);
        for (name, format) in [
            ("folders", Format::FolderPerClass),
            ("files", Format::FilePerClass),
            ("a.CSV", Format::Csv),
            ("a.tab", Format::Tsv),
            ("a.jsonl", Format::Jsonl),
            ("a.ndjson.gz", Format::Jsonl),
            ("a.parquet", Format::Parquet),
            ("numbers.train", Format::LabelFirst),
            ("words.txt", Format::LabelFirst),
        ] {
            assert_eq!(Format::detect(folder.join(name)).unwrap(), format, "{name}");
        }
    }

    #[test]
    fn other_files_are_read_as_the_known_one_unless_their_names_say_otherwise() {
        let beside = |format: Format, known: &str, path: &str| format.beside(Path::new(known), Path::new(path));
        assert_eq!(beside(Format::Csv, "a.csv", "b.csv.gz"), Format::Csv);
        assert_eq!(beside(Format::Csv, "a.csv", "b.parquet"), Format::Parquet);
        assert_eq!(beside(Format::Csv, "a.csv", "b.txt"), Format::Csv);
        assert_eq!(beside(Format::Csv, "a.tsv", "b.tsv"), Format::Csv);
        assert_eq!(beside(Format::LabelFirst, "a.train", "b.jsonl"), Format::Jsonl);
        assert_eq!(beside(Format::FolderPerClass, "train", "test"), Format::FolderPerClass);
    }

    #[test]
    fn a_sample_cut_within_a_label_is_no_doubt() {
        // 3 bytes and lines of 23: the sample of 64 KiB ends after `__labe`.
        let content = format!("\u{FEFF}{}", "__label__a eleven char\n__label__b eleven char\n".repeat(2000));
        let folder = Folder::new(&[("a", content.as_bytes())]);
        assert_eq!(Format::detect(folder.join("a")).unwrap(), Format::LabelFirst);
    }

    #[test]
    fn formats_have_names() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
        }
        assert!(matches!("xml".parse::<Format>(), Err(Error::Setting { key: "format", .. })));
    }
}
