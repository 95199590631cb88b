//! Reading labelled texts in all formats.

use std::path::Path;

use crate::compressed::inner_name;
use crate::error::{Error, Result, quoted, quoted_list};
use crate::folder::{SkipReason, Skipped, entries, skipped_list};
use crate::format::{Format, LABEL_PREFIX, is_text_file, label_and_text};
use crate::labelled::LabelledSet;
use crate::labelled::collector::Collector;
use crate::labelled::columns::{Columns, for_each};
use crate::printable::Shown;
use crate::table::TableFormat;
use crate::text::TextReader;

/// Reads labelled texts.
#[derive(Clone, Debug, Default)]
pub struct LabelledReader {
    /// Encoding, size limit and cleaning. The limit is on what is kept in memory of all files of one call together: the texts,
    /// and of a folder of texts each file.
    pub text: TextReader,
    /// The format of all paths; by default it is detected ([`Format::detect`]).
    pub format: Option<Format>,
    /// The column of a table with the texts: its name in the header, by default `text`, or its number, from 1, for a
    /// table without a header. The column of the labels must then be a number too.
    pub text_column: Option<String>,
    /// The column of a table with the labels, by default `label`; as [`text_column`](Self::text_column).
    pub label_column: Option<String>,
    /// The classes in the order of their indices, as those of a trained model; by default the classes found.
    pub labels: Option<Vec<String>>,
}

impl LabelledReader {
    /// Reads the examples of all `paths` into one set.
    ///
    /// Texts and labels are cleaned and trimmed ([`TextRules::clean_example`](crate::TextRules::clean_example)). Lines
    /// and records without text are left out and counted in [`LabelledSet::blank`]; what is not read of a folder is
    /// listed in [`LabelledSet::skipped`].
    ///
    /// # Errors
    /// - [`Error::Empty`] if a path, or the file or folder of a class, has no example;
    /// - [`Error::UnknownLabel`] for a label that is not among the given ones;
    /// - [`Error::Malformed`] if a file does not have the format, the paths have different formats, there are fewer
    ///   than two classes and none were given, or there are more than [`LabelledSet::MAX_CLASSES`];
    /// - [`Error::Setting`] if there is no path, columns are given for a format without columns, one column is a name
    ///   and the other a number, or `labels` has a label twice or more than [`LabelledSet::MAX_CLASSES`];
    /// - [`Error::Encoding`], [`Error::TooLarge`] and [`Error::Io`] as [`TextReader::read`].
    pub fn read(&self, paths: &[impl AsRef<Path>]) -> Result<LabelledSet> {
        let Some(first) = paths.first() else {
            return Err(Error::setting("paths", "at least one file or folder", "none"));
        };
        let format = self.format.map_or_else(|| common_format(paths), Ok)?;
        if !format.is_table() && (self.text_column.is_some() || self.label_column.is_some()) {
            let expected = format!("no text_column and no label_column for the format `{format}`");
            return Err(Error::setting("text_column", expected, "one of them"));
        }
        let mut collector = Collector::new(self)?;
        for path in paths {
            let path = path.as_ref();
            let before = collector.examples.len();
            match format {
                Format::Csv => self.read_table(path, TableFormat::Csv, &mut collector)?,
                Format::Tsv => self.read_table(path, TableFormat::Tsv, &mut collector)?,
                Format::Jsonl => self.read_table(path, TableFormat::JsonLines, &mut collector)?,
                Format::Parquet => self.read_table(path, TableFormat::Parquet, &mut collector)?,
                Format::FolderPerClass => self.read_folders(path, &mut collector)?,
                Format::FilePerClass => self.read_class_files(path, &mut collector)?,
                Format::LabelFirst => self.read_label_first(path, &mut collector)?,
            }
            if collector.examples.len() == before {
                return Err(no_example(path, "at least one example with text", &[]));
            }
        }
        collector.finish(first.as_ref(), format)
    }

    fn read_table(&self, path: &Path, format: TableFormat, collector: &mut Collector) -> Result<()> {
        let rules = self.text.rules();
        let text = self.text_column.as_deref().map(|name| rules.clean_example(name));
        let label = self.label_column.as_deref().map(|name| rules.clean_example(name));
        let columns = Columns::new(format, text.as_deref(), label.as_deref())?;
        collector.begin(path);
        for_each(path, format, columns, &self.text, |label, text, line| collector.push(label, text, line))
    }

    fn read_folders(&self, path: &Path, collector: &mut Collector) -> Result<()> {
        if !path.is_dir() {
            let hint = "name the folder, or set another format";
            return Err(Error::malformed(path, None, "a folder of folders", "a file", hint));
        }
        let (visible, hidden) = entries(path)?;
        collector.skipped.extend(hidden);
        for class in visible {
            if !class.is_dir() {
                collector.skipped.push(Skipped { path: class, reason: SkipReason::OutsideClasses });
                continue;
            }
            let label = utf8_name(&class, class.file_name())?;
            let before = collector.examples.len();
            let mut texts = self.text.load_folder(&class, &mut collector.budget)?;
            for document in texts.documents {
                if document.text.trim().is_empty() {
                    texts.skipped.push(Skipped { path: document.path, reason: SkipReason::Empty });
                    continue;
                }
                collector.begin(&document.path);
                collector.push(&label, &document.text, 1)?;
            }
            if collector.examples.len() == before {
                let expected = format!("at least one text of the class {}", quoted(&label));
                return Err(no_example(&class, &expected, &texts.skipped));
            }
            collector.skipped.extend(texts.skipped);
        }
        Ok(())
    }

    fn read_class_files(&self, path: &Path, collector: &mut Collector) -> Result<()> {
        let (candidates, hidden) = if path.is_dir() { entries(path)? } else { (Vec::new(), Vec::new()) };
        let (mut files, others): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|entry| is_text_file(entry));
        collector.skipped.extend(hidden);
        collector.skipped.extend(others.into_iter().map(|path| {
            let reason = if path.is_dir() { SkipReason::Folder } else { SkipReason::Extension };
            Skipped { path, reason }
        }));
        if !path.is_dir() {
            files.push(path.to_path_buf());
        }
        for file in files {
            let label = utf8_name(&file, inner_name(&file).file_stem())?;
            let before = collector.examples.len();
            let mut lines = collector.open(&file)?;
            while let Some((number, line)) = lines.next()? {
                collector.push(&label, &line, number)?;
            }
            if collector.examples.len() == before {
                let expected = format!("at least one line of the class {}", quoted(&label));
                return Err(no_example(&file, &expected, &[]));
            }
        }
        Ok(())
    }

    fn read_label_first(&self, path: &Path, collector: &mut Collector) -> Result<()> {
        let mut lines = collector.open(path)?;
        while let Some((number, line)) = lines.next()? {
            let Some((label, text)) = label_and_text(&line) else {
                collector.blank += 1;
                continue;
            };
            if let Some(second) = text.split_whitespace().find(|word| word.starts_with(LABEL_PREFIX)) {
                let found = format!("the labels {}", quoted_list([label, second]));
                let hint = "keep one label on each line: an example has one class";
                return Err(Error::malformed(path, Some(number), "one label", found, hint));
            }
            collector.push(label, text, number)?;
        }
        Ok(())
    }
}

/// The format of all `paths`.
fn common_format(paths: &[impl AsRef<Path>]) -> Result<Format> {
    let [first, others @ ..] = paths else { unreachable!("there is a path") };
    let format = Format::detect(first)?;
    for path in others.iter().map(AsRef::as_ref) {
        let other = Format::detect(path)?;
        if other != format {
            let expected = format!("the format `{format}`, as in {}", Shown(first.as_ref()));
            let hint = "use files of one format, or set the format of all of them";
            return Err(Error::malformed(path, None, expected, format!("`{other}`"), hint));
        }
    }
    Ok(format)
}

fn no_example(path: &Path, expected: &str, skipped: &[Skipped]) -> Error {
    let skipped = if skipped.is_empty() { String::new() } else { format!(" (skipped: {})", skipped_list(skipped)) };
    let hint = format!("add some, or leave out the path or the class{skipped}");
    Error::Empty { path: path.into(), expected: expected.into(), hint }
}

fn utf8_name(path: &Path, name: Option<&std::ffi::OsStr>) -> Result<String> {
    name.and_then(|name| name.to_str()).map(String::from).ok_or_else(|| {
        let expected = "a name in UTF-8, to use as the label";
        Error::malformed(path, None, expected, "a name that is not UTF-8", "rename the file or folder")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::labelled::Example;
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
        assert_eq!(read(&default, "a.csv", csv).unwrap(), [row("good", "fine,\nreally", 2), row("bad", "awful", 5)]);
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
        assert_eq!(rows(&set), [row("neg", "bad", 1), row("pos", "good\nfilm", 1), row("pos", "nice", 1)]);
        assert_eq!(set.files[set.examples[2].file as usize], folder.join("pos/deep/b.txt"));
        let skipped = [
            (".cache", SkipReason::Hidden),
            ("README.md", SkipReason::OutsideClasses),
            ("neg/picture", SkipReason::Binary),
            ("pos/blank.txt", SkipReason::Empty),
        ];
        assert_eq!((set.blank, set.skipped), (0, skipped.map(|(name, reason)| folder.skipped(name, reason)).into()));

        for lost in [&b"\n"[..], b"\0", b"caf\xE9", b""] {
            let folder = Folder::new(&[("pos/a.txt", b"good"), ("neg/a.txt", lost)]);
            let error = LabelledReader::default().read(&[folder.path()]).unwrap_err();
            assert!(matches!(&error, Error::Empty { path, .. } if path.ends_with("neg")), "{error}");
            let error = error.to_string();
            assert!(error.contains("the class \"neg\"") && error.contains("neg/a.txt: "), "{error}");
        }
    }

    #[test]
    fn files_of_classes() {
        let folder = Folder::new(&[
            ("Czech.TXT", b"Abl\r\n\r\nNov\xC3\xA1k "),
            ("Korean.txt", b"Ahn\n"),
            ("SOURCE.md", b"x"),
            (".git", b"x"),
        ]);
        assert_eq!(Format::detect(folder.path()).unwrap(), Format::FilePerClass);
        let set = LabelledReader::default().read(&[folder.path()]).unwrap();
        assert_eq!(rows(&set), [row("Czech", "Abl", 1), row("Czech", "Novák", 3), row("Korean", "Ahn", 1)]);
        let skipped =
            vec![folder.skipped(".git", SkipReason::Hidden), folder.skipped("SOURCE.md", SkipReason::Extension)];
        assert_eq!((set.blank, set.skipped), (1, skipped));
        let labels = LabelledReader { labels: Some(vec!["Korean".into(), "Dutch".into()]), ..Default::default() };
        let error = message(labels.read(&[folder.path()]));
        assert!(error.contains("Czech.TXT:1: expected one of the labels \"Korean\", \"Dutch\""), "{error}");

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
            ":2: expected one of the labels \"pos\", \"neg\", found \"so\"; correct the label, or train a model with it"
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
        assert!(matches!(read(&reader, "a.csv", "text,label\na,b\n"), Err(Error::TooLarge { limit: 5, .. })));
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
    fn several_labels_on_a_line_are_an_error() {
        let reader = LabelledReader { format: Some(Format::LabelFirst), ..Default::default() };
        for line in ["__label__a __label__b text", "__label__b text __label__a", "b __label__a text"] {
            let error = message(read(&reader, "a", &format!("__label__a x\n__label__b y\n\n{line}\n")));
            assert!(error.contains(":4: expected one label, found the labels"), "{error}");
        }
        let numbers = read(&reader, "a", "1 2 films\n0 1 film\n1 x__label__\n").unwrap();
        assert_eq!(numbers, [row("1", "2 films", 1), row("0", "1 film", 2), row("1", "x__label__", 3)]);
    }

    #[test]
    fn line_ends_of_all_kinds_are_the_same() {
        let labelled = "1 one\n0 two\n\n1 three\n";
        let lines = [row("1", "one", 1), row("0", "two", 2), row("1", "three", 4)];
        let class = [row("Czech", "one", 1), row("Czech", "two", 3), row("Korean", "x", 1)];
        for end in ["\n", "\r\n", "\r"] {
            assert_eq!(read(&LabelledReader::default(), "a", &labelled.replace('\n', end)).unwrap(), lines);
            let folder = Folder::new(&[
                ("Czech.txt", "one\n\ntwo".replace('\n', end).as_bytes()),
                ("Korean.txt", format!("x{end}").as_bytes()),
            ]);
            assert_eq!(rows(&LabelledReader::default().read(&[folder.path()]).unwrap()), class);
        }
        assert_eq!(read(&LabelledReader::default(), "a", "1 one\r0 two\n\r\n1 three").unwrap(), lines);
    }

    #[test]
    fn labels_and_texts_are_cleaned() {
        let csv = "label,\u{FEFF}te\u{301}xt\ne\u{301},cafe\u{301}\n\u{E9},\u{FEFF} caf\u{E9}\n\u{FEFF}b,x\n";
        let reader = LabelledReader { text_column: Some("t\u{E9}xt".into()), ..Default::default() };
        let expected = [row("\u{E9}", "caf\u{E9}", 2), row("\u{E9}", "caf\u{E9}", 3), row("b", "x", 4)];
        assert_eq!(read(&reader, "a.csv", csv).unwrap(), expected);
        let reader = LabelledReader { text_column: Some("te\u{301}xt".into()), ..Default::default() };
        assert_eq!(read(&reader, "a.csv", csv).unwrap(), expected);
    }

    #[test]
    fn unknown_labels_are_errors_in_every_format() {
        let folder = Folder::new(&[
            ("a.csv", b"label,text\na,x\nc,y\n"),
            ("a.tsv", b"label\ttext\na\tx\nc\ty\n"),
            ("folders/a/x.txt", b"x"),
            ("folders/c/y.txt", b"y"),
            ("files/a.txt", b"x"),
            ("files/c.txt", b"y"),
            ("lines", b"a x\nc y\n"),
        ]);
        let labels = Some(vec!["a".to_owned(), "b".to_owned()]);
        let cases = [
            ("a.csv", Format::Csv, "a.csv", 3),
            ("a.tsv", Format::Tsv, "a.tsv", 3),
            ("folders", Format::FolderPerClass, "folders/c/y.txt", 1),
            ("files", Format::FilePerClass, "files/c.txt", 1),
            ("lines", Format::LabelFirst, "lines", 2),
        ];
        for (name, format, file, number) in cases {
            let reader = LabelledReader { labels: labels.clone(), format: Some(format), ..Default::default() };
            match reader.read(&[folder.join(name)]) {
                Err(Error::UnknownLabel { path, line, label, .. }) => {
                    assert_eq!((path, line, label.as_str()), (folder.join(file), number, "\"c\""));
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_format_is_one_and_is_returned() {
        let folder = Folder::new(&[
            ("a.csv", b"label,text\n1,x\n0,y\n"),
            ("b.csv", b"label,text\n1,z\n"),
            ("c.tsv", b"label\ttext\n1\tx\n"),
        ]);
        let read = |names: &[&str]| {
            LabelledReader::default().read(&names.iter().map(|name| folder.join(name)).collect::<Vec<_>>())
        };
        assert_eq!(read(&["a.csv", "b.csv"]).unwrap().format, Format::Csv);
        let error = message(read(&["a.csv", "b.csv", "c.tsv"]));
        assert!(error.contains("c.tsv: expected the format `csv`, as in ") && error.contains("found `tsv`"), "{error}");
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
