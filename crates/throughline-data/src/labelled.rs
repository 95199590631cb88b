//! Labelled texts for classification, in the forms in which they are commonly kept.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, quoted, quoted_list};
use crate::text::{TextReader, visible_entries};

/// How labelled texts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// A file of comma-separated values (RFC 4180): fields may be quoted and then hold commas and line ends.
    Csv,
    /// A file of tab-separated values: quotes mean nothing, no field holds a tab or a line end.
    Tsv,
    /// A folder with one folder for each class, named by its label; each text file in it or below it is one example.
    FolderPerClass,
    /// A folder with one `.txt` file for each class, or one such file of any name; each line is one example, the label
    /// is the file's name without extension.
    FilePerClass,
    /// A file in which each line is a label, white space, and a text.
    LabelFirst,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 5] = [Self::Csv, Self::Tsv, Self::FolderPerClass, Self::FilePerClass, Self::LabelFirst];

    /// `csv`, `tsv`, `folder-per-class`, `file-per-class` or `label-first`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::FolderPerClass => "folder-per-class",
            Self::FilePerClass => "file-per-class",
            Self::LabelFirst => "label-first",
        }
    }

    /// The format of a file or folder, where it leaves no doubt:
    ///
    /// - a file named `.csv`, `.tsv` or `.tab` is what its name says;
    /// - any other file is [`LabelFirst`](Self::LabelFirst) if all lines in its first 64 KiB begin with a whole number or
    ///   a word such as `__label__good`, with text after it in some, and at most every second one brings a new label;
    /// - a folder that holds folders and no `.txt` files is [`FolderPerClass`](Self::FolderPerClass);
    /// - a folder that holds `.txt` files and no folders is [`FilePerClass`](Self::FilePerClass).
    ///
    /// # Errors
    /// [`Error::Malformed`] saying what can be given instead, where there is doubt; [`Error::Io`].
    pub fn detect(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let found = if path.is_dir() {
            let entries = visible_entries(path)?;
            let folders = entries.iter().filter(|entry| entry.is_dir()).count();
            let texts = entries.iter().filter(|entry| is_text_file(entry)).count();
            match (folders, texts) {
                (1.., 0) => return Ok(Self::FolderPerClass),
                (0, 1..) => return Ok(Self::FilePerClass),
                _ => format!("a folder with {folders} folders and {texts} `.txt` files"),
            }
        } else {
            match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
                Some("csv") => return Ok(Self::Csv),
                Some("tsv" | "tab") => return Ok(Self::Tsv),
                _ if begins_with_labels(path)? => return Ok(Self::LabelFirst),
                _ => "a file whose name and lines do not tell".into(),
            }
        };
        let expected = "labelled texts in a form that can be recognised";
        let names: Vec<_> = Self::ALL.iter().map(|format| format!("`{}`", format.name())).collect();
        Err(Error::malformed(path, None, expected, found, format!("give the format: {}", names.join(", "))))
    }

    fn is_table(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv)
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

fn is_text_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "txt") && path.is_file()
}

fn begins_with_labels(path: &Path) -> Result<bool> {
    const SAMPLE: u64 = 64 << 10;
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(SAMPLE).read_to_end(&mut bytes)).map_err(Error::io(path))?;
    let sample = String::from_utf8_lossy(&bytes);
    let lines: Vec<(&str, &str)> = sample.lines().filter_map(label_and_text).collect();
    let is_label = |label: &str| label.starts_with("__label__") || label.parse::<i64>().is_ok();
    let labels: HashSet<&str> = lines.iter().map(|line| line.0).collect();
    let some_text = lines.iter().any(|line| !line.1.is_empty());
    Ok(some_text && labels.len() <= lines.len().div_ceil(2) && labels.into_iter().all(is_label))
}

/// The first word of a line, and the rest without the white space around it; nothing if the line is blank.
fn label_and_text(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let (label, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (!label.is_empty()).then_some((label, text.trim_start()))
}

/// One labelled text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The class, an index into [`LabelledSet::labels`].
    pub label: u32,
    /// The text without the white space around it; never empty.
    pub text: String,
    /// The file it was read from, an index into [`LabelledSet::files`].
    pub file: u32,
    /// The line on which it begins, from 1.
    pub line: usize,
}

/// Labelled texts, and where they came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledSet {
    /// The names of the classes: those given, or those found, ordered by code point.
    pub labels: Vec<String>,
    /// The examples in the order in which they were read.
    pub examples: Vec<Example>,
    /// The files read.
    pub files: Vec<PathBuf>,
    /// How many lines, records and files were left out because they hold no text.
    pub blank: usize,
    /// What was found in folders and not read: see [`Texts::skipped`](crate::Texts::skipped), and what lies in a folder of
    /// classes without being one.
    pub skipped: Vec<PathBuf>,
}

impl LabelledSet {
    /// The most classes a set may have. More of them mean that a column of numbers or of text was taken for the labels.
    pub const MAX_CLASSES: usize = 4096;

    /// Removes every example whose label and text occurred before, and says how many there were. The same text under
    /// another label stays.
    pub fn remove_duplicates(&mut self) -> usize {
        let before = self.examples.len();
        let mut seen = HashSet::new();
        let first: Vec<bool> =
            self.examples.iter().map(|example| seen.insert((example.label, example.text.as_str()))).collect();
        let mut first = first.into_iter();
        self.examples.retain(|_| first.next().expect("one flag for each example"));
        before - self.examples.len()
    }

    /// The class of each example.
    pub fn classes(&self) -> Vec<u32> {
        self.examples.iter().map(|example| example.label).collect()
    }
}

/// Reads labelled texts.
#[derive(Clone, Debug, Default)]
pub struct LabelledReader {
    /// Encoding and size limit; the limit holds for all that one call reads.
    pub text: TextReader,
    /// The format of every path; [`Format::detect`] decides for each if not given.
    pub format: Option<Format>,
    /// The column of a table that holds the text: a name in its header, by default `text`. A whole number, counted from
    /// 1, means that the table has no header; then the column of the labels must be given as a number too.
    pub text_column: Option<String>,
    /// The column of a table that holds the label, by default `label`; otherwise as [`text_column`](Self::text_column).
    pub label_column: Option<String>,
    /// The classes in the order of their indices, as a trained model has them. If not given, they are those found.
    pub labels: Option<Vec<String>>,
}

impl LabelledReader {
    /// Reads the examples of all `paths` into one set.
    ///
    /// Texts and labels lose the white space around them. What then has no text is left out and counted in
    /// [`LabelledSet::blank`].
    ///
    /// # Errors
    /// - [`Error::Empty`] when a path holds no example, or the file or folder of a class none;
    /// - [`Error::UnknownLabel`] for a label that is not among those given;
    /// - [`Error::Malformed`] naming file and line when the data do not have their format, when there are fewer than two
    ///   classes (and none were given), or more than [`LabelledSet::MAX_CLASSES`];
    /// - [`Error::Setting`] when columns are given for a format that has none or do not go together, or when `labels`
    ///   has a label twice;
    /// - [`Error::Encoding`], [`Error::TooLarge`] and [`Error::Io`] as [`TextReader::read`].
    pub fn read(&self, paths: &[impl AsRef<Path>]) -> Result<LabelledSet> {
        let mut collector = Collector::new(self)?;
        for path in paths {
            let path = path.as_ref();
            let format = self.format.map_or_else(|| Format::detect(path), Ok)?;
            if !format.is_table() && (self.text_column.is_some() || self.label_column.is_some()) {
                let expected = format!("no text_column and no label_column for the format `{format}`");
                return Err(Error::setting("text_column", expected, "one of them"));
            }
            let before = collector.examples.len();
            match format {
                Format::Csv => self.read_table(path, csv::ReaderBuilder::new().delimiter(b','), &mut collector)?,
                Format::Tsv => {
                    let mut builder = csv::ReaderBuilder::new();
                    self.read_table(path, builder.delimiter(b'\t').quoting(false), &mut collector)?;
                }
                Format::FolderPerClass => self.read_folders(path, &mut collector)?,
                Format::FilePerClass => self.read_class_files(path, &mut collector)?,
                Format::LabelFirst => self.read_label_first(path, &mut collector)?,
            }
            if collector.examples.len() == before {
                return Err(no_example(path));
            }
        }
        collector.finish(paths.first().map(AsRef::as_ref))
    }

    fn read_table(&self, path: &Path, builder: &mut csv::ReaderBuilder, collector: &mut Collector) -> Result<()> {
        let text = collector.open(path)?;
        let columns = Columns::of(self)?;
        let mut table = builder.has_headers(matches!(columns, Columns::Named { .. })).from_reader(text.as_bytes());
        let (text_column, label_column) = match columns {
            Columns::Numbered { text, label } => (text, label),
            Columns::Named { text, label } => {
                let header = table.headers().map_err(|error| bad_record(path, &error))?;
                (column(path, header, text)?, column(path, header, label)?)
            }
        };
        let mut lines = LineCounter::new(&text);
        let mut record = csv::StringRecord::new();
        while table.read_record(&mut record).map_err(|error| bad_record(path, &error))? {
            let line = lines.line_of(record.position().map_or(0, csv::Position::byte) as usize);
            let field = |index: usize| {
                record.get(index).ok_or_else(|| {
                    let (expected, found) =
                        (format!("a column number {}", index + 1), format!("{} columns", record.len()));
                    Error::malformed(path, Some(line), expected, found, "give the number of a column, from 1")
                })
            };
            collector.push(field(label_column)?, field(text_column)?, line)?;
        }
        Ok(())
    }

    fn read_folders(&self, path: &Path, collector: &mut Collector) -> Result<()> {
        if !path.is_dir() {
            return Err(Error::malformed(
                path,
                None,
                "a folder of folders",
                "a file",
                "give the folder, or another format",
            ));
        }
        for class in visible_entries(path)? {
            if !class.is_dir() {
                collector.skipped.push(class);
                continue;
            }
            let label = utf8_name(&class, class.file_name())?;
            let before = collector.examples.len();
            let texts = self.text.load_folder(&class, &mut collector.budget)?;
            collector.skipped.extend(texts.skipped);
            for document in texts.documents {
                collector.files.push(document.path);
                collector.push(&label, &document.text, 1)?;
            }
            if collector.examples.len() == before {
                return Err(no_example(&class));
            }
        }
        Ok(())
    }

    fn read_class_files(&self, path: &Path, collector: &mut Collector) -> Result<()> {
        let (files, others) = if path.is_dir() {
            visible_entries(path)?.into_iter().partition(|entry| is_text_file(entry))
        } else {
            (vec![path.to_path_buf()], Vec::new())
        };
        collector.skipped.extend(others);
        for file in files {
            let label = utf8_name(&file, file.file_stem())?;
            let before = collector.examples.len();
            let text = collector.open(&file)?;
            for (line, number) in text.lines().zip(1..) {
                collector.push(&label, line, number)?;
            }
            if collector.examples.len() == before {
                return Err(no_example(&file));
            }
        }
        Ok(())
    }

    fn read_label_first(&self, path: &Path, collector: &mut Collector) -> Result<()> {
        let text = collector.open(path)?;
        for (line, number) in text.lines().zip(1..) {
            match label_and_text(line) {
                Some((label, text)) => collector.push(label, text, number)?,
                None => collector.blank += 1,
            }
        }
        Ok(())
    }
}

fn no_example(path: &Path) -> Error {
    let hint = "add some, or leave the path or the class out";
    Error::Empty { path: path.into(), expected: "at least one example with text", hint }
}

fn utf8_name(path: &Path, name: Option<&std::ffi::OsStr>) -> Result<String> {
    name.and_then(|name| name.to_str()).map(String::from).ok_or_else(|| {
        Error::malformed(path, None, "a name in UTF-8 to serve as label", "another name", "rename the file or folder")
    })
}

/// Where text and label are in a table.
enum Columns<'a> {
    /// By the names in the header.
    Named { text: &'a str, label: &'a str },
    /// By position from 0, without a header.
    Numbered { text: usize, label: usize },
}

impl<'a> Columns<'a> {
    fn of(reader: &'a LabelledReader) -> Result<Self> {
        let (text, label) = (reader.text_column.as_deref(), reader.label_column.as_deref());
        let number = |column: Option<&str>| column.and_then(|column| column.parse::<usize>().ok());
        match (number(text), number(label)) {
            (None, None) => Ok(Self::Named { text: text.unwrap_or("text"), label: label.unwrap_or("label") }),
            (Some(text @ 1..), Some(label @ 1..)) => Ok(Self::Numbered { text: text - 1, label: label - 1 }),
            _ => {
                let expected = "two names of columns, or two numbers from 1 for a table without a header";
                let shown = |column: Option<&str>| column.map_or_else(|| "the default".into(), quoted);
                let found = format!("text_column {} and label_column {}", shown(text), shown(label));
                Err(Error::setting("text_column", expected, found))
            }
        }
    }
}

fn column(path: &Path, header: &csv::StringRecord, name: &str) -> Result<usize> {
    let mut places = header.iter().enumerate().filter(|(_, column)| column.trim() == name).map(|(place, _)| place);
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (first, _) => {
            let expected = format!("one column named {}", quoted(name));
            let found = if first.is_some() { "more than one in " } else { "the columns " };
            let hint = "give text_column and label_column: names, or numbers from 1 if there is no header";
            Err(Error::malformed(path, Some(1), expected, format!("{found}{}", quoted_list(header)), hint))
        }
    }
}

fn bad_record(path: &Path, error: &csv::Error) -> Error {
    let line = error.position().map(|position| position.line() as usize);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => Error::malformed(
            path,
            line,
            format!("{expected_len} fields as in the first record"),
            format!("{len}"),
            "quote a field that holds the separator",
        ),
        _ => Error::malformed(path, line, "a table", quoted(&error.to_string()), "correct the file"),
    }
}

/// Line numbers of ascending positions in a text.
struct LineCounter<'a> {
    text: &'a [u8],
    position: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), position: 0, line: 1 }
    }

    /// The line, from 1, of the record that begins at or after `position`: blank lines before it are not part of it.
    fn line_of(&mut self, position: usize) -> usize {
        let blank = self.text[position..].iter().take_while(|byte| b"\r\n".contains(byte)).count();
        let begin = position + blank;
        self.line += self.text[self.position..begin].iter().filter(|&&byte| byte == b'\n').count();
        self.position = begin;
        self.line
    }
}

/// A set in the making.
struct Collector<'a> {
    reader: &'a LabelledReader,
    /// How many bytes may still be read.
    budget: u64,
    /// The labels in the order in which they were given or found.
    labels: Vec<String>,
    index_of: HashMap<String, u32>,
    examples: Vec<Example>,
    files: Vec<PathBuf>,
    blank: usize,
    skipped: Vec<PathBuf>,
}

impl<'a> Collector<'a> {
    fn new(reader: &'a LabelledReader) -> Result<Self> {
        let labels = reader.labels.clone().unwrap_or_default();
        let index_of: HashMap<String, u32> = labels.iter().cloned().zip(0..).collect();
        if index_of.len() < labels.len() {
            let found = quoted_list(labels.iter().map(String::as_str));
            return Err(Error::setting("labels", "each label once", found));
        }
        Ok(Self {
            reader,
            budget: reader.text.limit(),
            labels,
            index_of,
            examples: Vec::new(),
            files: Vec::new(),
            blank: 0,
            skipped: Vec::new(),
        })
    }

    /// The text of a file, from which the examples pushed next come.
    fn open(&mut self, path: &Path) -> Result<String> {
        self.files.push(path.into());
        self.reader.text.load(path, &mut self.budget)
    }

    fn push(&mut self, label: &str, text: &str, line: usize) -> Result<()> {
        let (label, text) = (label.trim(), text.trim());
        if text.is_empty() {
            self.blank += 1;
            return Ok(());
        }
        let path = self.files.last().expect("a file is open");
        let label = match self.index_of.get(label) {
            Some(&label) => label,
            None if self.reader.labels.is_some() => {
                let known = quoted_list(self.labels.iter().map(String::as_str));
                return Err(Error::UnknownLabel { path: path.clone(), line, label: quoted(label), known });
            }
            None if label.is_empty() => {
                return Err(Error::malformed(
                    path,
                    Some(line),
                    "a label",
                    "none",
                    "add the label or remove the example",
                ));
            }
            None if self.labels.len() == LabelledSet::MAX_CLASSES => {
                let expected = format!("at most {} different labels", LabelledSet::MAX_CLASSES);
                let hint = "check which column or word is the label";
                return Err(Error::malformed(path, Some(line), expected, "one more", hint));
            }
            None => {
                self.labels.push(label.into());
                self.index_of.insert(label.into(), self.labels.len() as u32 - 1);
                self.labels.len() as u32 - 1
            }
        };
        self.examples.push(Example { label, text: text.into(), file: self.files.len() as u32 - 1, line });
        Ok(())
    }

    /// The set, its labels sorted by name unless they were given.
    fn finish(mut self, path: Option<&Path>) -> Result<LabelledSet> {
        if self.reader.labels.is_none() {
            if let ([only], Some(path)) = (&self.labels[..], path) {
                let hint = "a classifier needs at least two";
                return Err(Error::malformed(
                    path,
                    None,
                    "at least two classes",
                    format!("only {}", quoted(only)),
                    hint,
                ));
            }
            self.labels.sort();
            let sorted: HashMap<&str, u32> = self.labels.iter().map(String::as_str).zip(0..).collect();
            let mut place_of = vec![0; self.labels.len()];
            for (label, &found) in &self.index_of {
                place_of[found as usize] = sorted[label.as_str()];
            }
            self.examples.iter_mut().for_each(|example| example.label = place_of[example.label as usize]);
        }
        let Self { labels, examples, files, blank, skipped, .. } = self;
        Ok(LabelledSet { labels, examples, files, blank, skipped })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Folder;

    /// Reads the only file of a folder, and gives label name, text and line of each example.
    fn read(reader: &LabelledReader, name: &str, content: &str) -> Result<Vec<(String, String, usize)>> {
        let folder = Folder::new(&[(name, content.as_bytes())]);
        reader.read(&[folder.join(name)]).map(|set| rows(&set))
    }

    fn rows(set: &LabelledSet) -> Vec<(String, String, usize)> {
        let row = |e: &Example| (set.labels[e.label as usize].clone(), e.text.clone(), e.line);
        set.examples.iter().map(row).collect()
    }

    fn row(label: &str, text: &str, line: usize) -> (String, String, usize) {
        (label.into(), text.into(), line)
    }

    fn message(result: Result<impl fmt::Debug>) -> String {
        result.unwrap_err().to_string()
    }

    fn columns(text: &str, label: &str) -> LabelledReader {
        LabelledReader { text_column: Some(text.into()), label_column: Some(label.into()), ..Default::default() }
    }

    #[test]
    fn csv_by_header() {
        let csv = "id,label,text\r\n1,good,\"fine,\r\nreally\"\r\n\r\n2,bad, \r\n3, bad ,awful\r\n";
        let default = LabelledReader::default();
        assert_eq!(read(&default, "a.csv", csv).unwrap(), [row("good", "fine,\r\nreally", 2), row("bad", "awful", 6)]);
        assert_eq!(read(&columns("id", "text"), "a.CSV", "text,id\nx,1\ny,2").unwrap()[1], row("y", "2", 3));
        let error = message(read(&columns("review", "label"), "a.csv", csv));
        assert!(error.contains("a.csv:1: expected one column named \"review\", found the columns \"id\""), "{error}");
        let error = message(read(&default, "a.csv", "text,text,label\n1,2,3"));
        assert!(error.contains("found more than one in"), "{error}");
        let error = message(read(&default, "a.csv", "text,label\n1,2,3"));
        assert!(error.contains("a.csv:2: expected 2 fields as in the first record, found 3"), "{error}");
    }

    #[test]
    fn csv_without_a_header() {
        assert_eq!(
            read(&columns("2", "1"), "a.csv", "x,one\ny,two").unwrap(),
            [row("x", "one", 1), row("y", "two", 2)]
        );
        let error = message(read(&columns("3", "1"), "a.csv", "x,one\ny,two"));
        assert!(error.contains("a.csv:1: expected a column number 3, found 2 columns"), "{error}");
        for (text, label) in [("0", "1"), ("1", "label"), ("text", "2")] {
            let error = read(&columns(text, label), "a.csv", "x,one");
            assert!(matches!(error, Err(Error::Setting { key: "text_column", .. })), "{text} {label}");
        }
    }

    #[test]
    fn tsv_has_no_quotes() {
        let tsv = "text\tlabel\n\"open\t1\nit's \"x\"\t0\n";
        let rows = read(&LabelledReader::default(), "a.tsv", tsv).unwrap();
        assert_eq!(rows, [row("1", "\"open", 2), row("0", "it's \"x\"", 3)]);
    }

    #[test]
    fn folders_of_classes() {
        let folder = Folder::new(&[
            ("pos/a.txt", b"good\r\nfilm\n"),
            ("pos/deep/b.txt", b"nice"),
            ("pos/blank.txt", b" \n"),
            ("neg/a.txt", b"bad"),
            ("neg/picture", b"\x00"),
            ("README.md", b"about"),
            (".cache/x.txt", b"x"),
        ]);
        assert_eq!(Format::detect(folder.path()).unwrap(), Format::FolderPerClass);
        let set = LabelledReader::default().read(&[folder.path()]).unwrap();
        assert_eq!(set.labels, ["neg", "pos"]);
        assert_eq!(rows(&set), [row("neg", "bad", 1), row("pos", "good\r\nfilm", 1), row("pos", "nice", 1)]);
        assert_eq!(set.files[set.examples[2].file as usize], folder.join("pos/deep/b.txt"));
        assert_eq!((set.blank, set.skipped), (1, vec![folder.join("README.md"), folder.join("neg/picture")]));

        let folder = Folder::new(&[("pos/a.txt", b"good"), ("neg/a.txt", b"\n")]);
        let error = LabelledReader::default().read(&[folder.path()]).unwrap_err();
        assert!(matches!(&error, Error::Empty { path, .. } if path.ends_with("neg")), "{error}");
    }

    #[test]
    fn files_of_classes() {
        let folder =
            Folder::new(&[("Czech.txt", b"Abl\r\n\r\nNov\xC3\xA1k "), ("Korean.txt", b"Ahn\n"), ("SOURCE.md", b"x")]);
        assert_eq!(Format::detect(folder.path()).unwrap(), Format::FilePerClass);
        let set = LabelledReader::default().read(&[folder.path()]).unwrap();
        assert_eq!(rows(&set), [row("Czech", "Abl", 1), row("Czech", "Novák", 3), row("Korean", "Ahn", 1)]);
        assert_eq!((set.blank, set.skipped), (1, vec![folder.join("SOURCE.md")]));

        let reader = LabelledReader { format: Some(Format::FilePerClass), ..Default::default() };
        let set = reader.read(&[folder.join("Korean.txt"), folder.join("SOURCE.md")]).unwrap();
        assert_eq!(rows(&set), [row("Korean", "Ahn", 1), row("SOURCE", "x", 1)]);
        let error = message(reader.read(&[folder.join("Korean.txt")]));
        assert!(error.contains("expected at least two classes, found only \"Korean\""), "{error}");
    }

    #[test]
    fn lines_that_begin_with_their_label() {
        let text = "1 a stirring , funny film\r\n0\tdull\n\n1\n1 again\n";
        let rows = read(&LabelledReader::default(), "stsa.train", text).unwrap();
        assert_eq!(rows, [row("1", "a stirring , funny film", 1), row("0", "dull", 2), row("1", "again", 5)]);
    }

    #[test]
    fn given_labels_keep_their_order_and_admit_no_other() {
        let labels = Some(vec!["pos".into(), "neg".into()]);
        let reader = LabelledReader { format: Some(Format::LabelFirst), labels, ..Default::default() };
        let folder = Folder::new(&[("a", b"neg bad\nneg worse"), ("b", b"pos good\nso so")]);
        let set = reader.read(&[folder.join("a")]).unwrap();
        assert_eq!((set.classes(), set.labels.len()), (vec![1, 1], 2));
        let error = message(reader.read(&[folder.join("b")]));
        assert!(error.ends_with(
            ":2: expected one of the labels \"pos\", \"neg\", found \"so\"; correct the label or train with it"
        ));
        let twice = LabelledReader { labels: Some(vec!["a".into(), "a".into()]), ..reader };
        assert!(matches!(twice.read(&[folder.join("a")]), Err(Error::Setting { key: "labels", .. })));
    }

    #[test]
    fn settings_that_do_not_apply_are_refused() {
        let reader = LabelledReader { format: Some(Format::LabelFirst), ..columns("text", "label") };
        assert!(matches!(read(&reader, "a", "0 x\n1 y"), Err(Error::Setting { key: "text_column", .. })));
        assert_eq!("label-first".parse::<Format>().unwrap(), Format::LabelFirst);
        for format in Format::ALL {
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
        }
        assert!(matches!("xml".parse::<Format>(), Err(Error::Setting { key: "format", .. })));
    }

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
            let error = message(Format::detect(folder.join(name)));
            assert!(error.contains(name) && error.contains("`label-first`"), "{error}");
        }
        assert!(matches!(Format::detect(folder.join("missing")), Err(Error::Io { .. })));
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        let default = LabelledReader::default();
        assert!(matches!(read(&default, "a.csv", "text,label\n,x\n"), Err(Error::Empty { .. })));
        assert!(message(read(&default, "a.csv", "")).contains("one column named \"text\""));
        assert!(message(read(&default, "a.csv", "text,label\nx,\n")).contains("a.csv:2: expected a label"));
        let many: String = (0..=LabelledSet::MAX_CLASSES).map(|n| format!("x,{n}\n")).collect();
        let error = message(read(&columns("1", "2"), "a.csv", &many));
        assert!(error.contains("a.csv:4097: expected at most 4096 different labels"), "{error}");
        let reader = LabelledReader { text: TextReader::default().max_bytes(5), ..Default::default() };
        assert!(matches!(read(&reader, "a.csv", "text,label\n"), Err(Error::TooLarge { limit: 5, .. })));
    }

    #[test]
    fn other_encodings() {
        let folder = Folder::new(&[("a.csv", b"text,label\ncaf\xE9,1\nth\xE9,0\n")]);
        let text = TextReader::default().encoding("latin1").unwrap();
        let set = LabelledReader { text, ..Default::default() }.read(&[folder.join("a.csv")]).unwrap();
        assert_eq!(rows(&set), [row("1", "café", 2), row("0", "thé", 3)]);
        let error = LabelledReader::default().read(&[folder.join("a.csv")]).unwrap_err();
        assert!(matches!(error, Error::Encoding { line: 2, offset: 14, .. }), "{error}");
    }

    #[test]
    fn duplicates_go_and_contradictions_stay() {
        let folder = Folder::new(&[("a", b"1 x\n0 y\n0 x\n1 x\n1 z\n0 y\n")]);
        let mut set = LabelledReader::default().read(&[folder.join("a")]).unwrap();
        assert_eq!(set.remove_duplicates(), 2);
        assert_eq!(rows(&set), [row("1", "x", 1), row("0", "y", 2), row("0", "x", 3), row("1", "z", 5)]);
    }

    proptest! {
        #[test]
        fn a_csv_file_comes_back(fields in prop::collection::vec(("[ab]", "[a-c\",\n\r]{0,6}x"), 1..12)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["label", "text"]).unwrap();
            fields.iter().for_each(|(label, text)| writer.write_record([label, text]).unwrap());
            let csv = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let reader = LabelledReader { labels: Some(vec!["a".into(), "b".into()]), ..Default::default() };
            let mut line = 2;
            for (read, (label, text)) in read(&reader, "a.csv", &csv).unwrap().iter().zip(&fields) {
                prop_assert_eq!(read, &row(label, text.trim(), line));
                line += 1 + text.matches('\n').count();
            }
        }

        #[test]
        fn no_table_makes_the_reader_panic(bytes in prop::collection::vec(prop::sample::select(b"a,\"\n\r\t 1".to_vec()), 0..40)) {
            let text = String::from_utf8(bytes).unwrap();
            for name in ["a.csv", "a.tsv", "a.labels"] {
                let _ = read(&LabelledReader::default(), name, &text);
                let _ = read(&columns("2", "1"), name, &text);
            }
        }
    }
}
