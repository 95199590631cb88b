//! Labelled texts for classification.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, quoted, quoted_list};
use crate::format::{Format, is_text_file, label_and_text};
use crate::table::{Columns, Table};
use crate::text::{TextReader, visible_entries};

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
    /// What was found in folders and not read: see [`Texts::skipped`](crate::Texts::skipped), and what lies in a folder
    /// of classes without being one.
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
    /// - [`Error::Malformed`] naming file and line when the data do not have their format, when there are fewer than
    ///   two classes (and none were given), or more than [`LabelledSet::MAX_CLASSES`];
    /// - [`Error::Setting`] when there is no path, when columns are given for a format that has none or do not go
    ///   together, or when `labels` has a label twice or more than [`LabelledSet::MAX_CLASSES`];
    /// - [`Error::Encoding`], [`Error::TooLarge`] and [`Error::Io`] as [`TextReader::read`].
    pub fn read(&self, paths: &[impl AsRef<Path>]) -> Result<LabelledSet> {
        let Some(first) = paths.first() else {
            return Err(Error::setting("paths", "at least one file or folder", "none"));
        };
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
                Format::Csv => self.read_table(path, b',', &mut collector)?,
                Format::Tsv => self.read_table(path, b'\t', &mut collector)?,
                Format::FolderPerClass => self.read_folders(path, &mut collector)?,
                Format::FilePerClass => self.read_class_files(path, &mut collector)?,
                Format::LabelFirst => self.read_label_first(path, &mut collector)?,
            }
            if collector.examples.len() == before {
                return Err(no_example(path));
            }
        }
        collector.finish(first.as_ref())
    }

    fn read_table(&self, path: &Path, delimiter: u8, collector: &mut Collector) -> Result<()> {
        let columns = Columns::new(self.text_column.as_deref(), self.label_column.as_deref())?;
        let content = collector.open(path)?;
        let table = Table { path, content: &content, delimiter };
        table.for_each(columns, |label, text, line| collector.push(label, text, line))
    }

    fn read_folders(&self, path: &Path, collector: &mut Collector) -> Result<()> {
        if !path.is_dir() {
            let hint = "give the folder, or another format";
            return Err(Error::malformed(path, None, "a folder of folders", "a file", hint));
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
        if index_of.len() < labels.len() || labels.len() > LabelledSet::MAX_CLASSES {
            let expected = format!("each label once, at most {}", LabelledSet::MAX_CLASSES);
            let found = quoted_list(labels.iter().map(String::as_str));
            return Err(Error::setting("labels", expected, found));
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

    /// The set, its labels sorted by name unless they were given. `path` is where to look for more classes.
    fn finish(mut self, path: &Path) -> Result<LabelledSet> {
        if self.reader.labels.is_none() {
            if let [only] = &self.labels[..] {
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

    fn message(result: Result<impl std::fmt::Debug>) -> String {
        result.unwrap_err().to_string()
    }

    fn columns(text: &str, label: &str) -> LabelledReader {
        LabelledReader { text_column: Some(text.into()), label_column: Some(label.into()), ..Default::default() }
    }

    #[test]
    fn tables() {
        let default = LabelledReader::default();
        let csv = "label,text\r\n good,\"fine,\r\nreally\"\r\nbad, \r\nbad,awful\r\n";
        assert_eq!(read(&default, "a.csv", csv).unwrap(), [row("good", "fine,\r\nreally", 2), row("bad", "awful", 5)]);
        let tsv = "x\t\"one\ny\ttwo\n";
        assert_eq!(read(&columns("2", "1"), "a.tsv", tsv).unwrap(), [row("x", "\"one", 1), row("y", "two", 2)]);
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
        let none: [&Path; 0] = [];
        assert!(matches!(reader.read(&none), Err(Error::Setting { key: "paths", .. })));
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        let default = LabelledReader::default();
        assert!(matches!(read(&default, "a.csv", "text,label\n,x\n"), Err(Error::Empty { .. })));
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
        fn no_content_makes_the_reader_panic(content in "[ab1,\"\n\r\t ]{0,40}") {
            for name in ["a.csv", "a.tsv", "a.labels"] {
                let _ = read(&LabelledReader::default(), name, &content);
                let _ = read(&columns("2", "1"), name, &content);
            }
        }
    }
}
