//! Reading series in all formats.

use std::path::Path;

use super::collector::Collector;
use super::long::{self, Which};
use super::{SeriesFormat, SeriesSet, files, ts};
use crate::compressed::ending;
use crate::error::{Error, Result};
use crate::folder::skipped_list;
use crate::printable::Shown;
use crate::table::{TableFormat, endings_in_words};
use crate::text::TextReader;

/// What is wanted of each series besides its numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WantedAnswers {
    /// Nothing.
    #[default]
    Nothing,
    /// A class.
    Classes {
        /// The column of a table that has it, by default `label`; in a folder of tables by default the name of the subfolder.
        column: Option<String>,
        /// The classes in the order of their indices, as those of a trained model; by default the classes found.
        labels: Option<Vec<String>>,
    },
    /// Numbers.
    Numbers {
        /// The columns of a table that have them; by default one called `target`.
        columns: Vec<String>,
    },
}

/// Reads series of numbers.
///
/// A missing number is written as nothing, `?`, `NA`, `N/A`, `NaN`, `null` or `None`, in Parquet also as the number NaN; it is
/// read as NaN. Infinite numbers are errors.
#[derive(Clone, Debug, Default)]
pub struct SeriesReader {
    /// Encoding and size limit. The limit is on what is kept in memory of all files of one call together: 8 bytes a number,
    /// and names and answers.
    pub text: TextReader,
    /// The format of all paths. By default a folder is one of tables, and a file is told by its name: `.ts`, or a table in
    /// long form, `.csv`, `.tsv`, `.tab`, `.jsonl`, `.ndjson` or `.parquet`. A table in long form of any other name is read as
    /// CSV.
    pub format: Option<SeriesFormat>,
    /// The column of a table in long form that says which series a row belongs to; by default `id`. The rows of a series need
    /// not follow each other.
    pub id_column: Option<String>,
    /// The column of a table with the times, which must ascend within a series; by default `time`, where there is one.
    pub time_column: Option<String>,
    /// The channels in their order; by default all columns of a table that are nothing else.
    pub channels: Vec<String>,
    /// What else is wanted of a series.
    pub wanted: WantedAnswers,
}

impl SeriesReader {
    /// Reads the series of all `paths` into one set.
    ///
    /// # Errors
    /// - [`Error::Empty`] if a path has no series;
    /// - [`Error::UnknownLabel`] for a class that is not among the given ones;
    /// - [`Error::Malformed`] if a file does not have the format, a number is none or infinite, the channels are not those of
    ///   the series before, times do not ascend, a series has only missing numbers or two answers, the paths have different
    ///   formats, or there are fewer than two classes and none were given;
    /// - [`Error::Setting`] if there is no path, or `labels` has a label twice;
    /// - [`Error::Encoding`], [`Error::TooLarge`] and [`Error::Io`] as [`TextReader::read`].
    pub fn read(&self, paths: &[impl AsRef<Path>]) -> Result<SeriesSet> {
        let Some(first) = paths.first().map(AsRef::as_ref) else {
            return Err(Error::setting("paths", "at least one file or folder", "none"));
        };
        let format = self.format.map_or_else(|| detect(first), Ok)?;
        let mut collector = Collector::new(self)?;
        for path in paths.iter().map(AsRef::as_ref) {
            let other = self.format.map_or_else(|| detect(path), Ok)?;
            if other != format {
                let expected = format!("the format `{format}`, as in {}", Shown(first));
                let hint = "use files of one format";
                return Err(Error::malformed(path, None, expected, format!("`{other}`"), hint));
            }
            let before = collector.len();
            match format {
                SeriesFormat::Folder => files::read(path, &mut collector)?,
                SeriesFormat::Ts => {
                    ts::read(path, &mut collector)?;
                }
                SeriesFormat::Long => {
                    let format = TableFormat::of(path).unwrap_or(TableFormat::Csv);
                    long::read(path, format, &Which::ById, &mut collector)?;
                }
            }
            if collector.len() == before {
                let skipped = &collector.skipped;
                let skipped =
                    if skipped.is_empty() { String::new() } else { format!(" (skipped: {})", skipped_list(skipped)) };
                let hint = format!("add some, or leave out the path{skipped}");
                return Err(Error::Empty { path: path.into(), expected: "at least one series".into(), hint });
            }
        }
        collector.finish(first, format)
    }
}

impl SeriesFormat {
    /// The format of `path`, given that `known` has this one: the same, unless their names say that they differ.
    pub fn beside(self, known: &Path, path: &Path) -> Self {
        match (detect(known).ok(), detect(path).ok()) {
            (known, Some(other)) if known != Some(other) => other,
            _ => self,
        }
    }
}

/// The format of a file or folder by its name.
fn detect(path: &Path) -> Result<SeriesFormat> {
    if path.is_dir() {
        return Ok(SeriesFormat::Folder);
    }
    if TableFormat::of(path).is_some() {
        return Ok(SeriesFormat::Long);
    }
    if ending(path).as_deref() == Some("ts") {
        return Ok(SeriesFormat::Ts);
    }
    let expected =
        format!("series whose format can be told: a folder, or a file whose name ends in .ts, {}", endings_in_words());
    Err(Error::malformed(path, None, expected, "another name", "rename the file, or set data.format to `ts` or `long`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::SkipReason;
    use crate::series::{Answers, Place};
    use crate::testing::Folder;

    fn classes() -> WantedAnswers {
        WantedAnswers::Classes { column: None, labels: None }
    }

    fn numbers(columns: &[&str]) -> WantedAnswers {
        WantedAnswers::Numbers { columns: columns.iter().map(|&column| column.to_owned()).collect() }
    }

    fn reader(wanted: WantedAnswers) -> SeriesReader {
        SeriesReader { wanted, ..Default::default() }
    }

    fn read(reader: &SeriesReader, name: &str, content: &str) -> Result<SeriesSet> {
        let folder = Folder::new(&[(name, content.as_bytes())]);
        reader.read(&[folder.join(name)])
    }

    fn message(result: Result<SeriesSet>) -> String {
        result.unwrap_err().to_string()
    }

    /// Each series with its name, numbers and missing ones as -1.
    fn rows(set: &SeriesSet) -> Vec<(String, Vec<f64>)> {
        let shown = |value: &f64| if value.is_nan() { -1.0 } else { *value };
        (0..set.len()).map(|i| (set.name(i).to_owned(), set.values(i).iter().map(shown).collect())).collect()
    }

    #[test]
    fn other_files_are_read_as_the_known_one_unless_their_names_say_otherwise() {
        let folder = Folder::new(&[("folder/a.csv", b"")]);
        let beside =
            |format: SeriesFormat, known: &str, path: &str| format.beside(Path::new(known), &folder.join(path));
        assert_eq!(beside(SeriesFormat::Ts, "a.ts", "b.ts"), SeriesFormat::Ts);
        assert_eq!(beside(SeriesFormat::Ts, "a.ts", "b.parquet"), SeriesFormat::Long);
        assert_eq!(beside(SeriesFormat::Long, "a.csv", "folder"), SeriesFormat::Folder);
        assert_eq!(beside(SeriesFormat::Long, "a.txt", "b.txt"), SeriesFormat::Long);
    }

    const TS: &str =
        "# about\n@problemName x\n@timeStamps false\n@classLabel true b a\n@data\n1,2,3:4,5,?:b\n\n7:8:a\n";

    #[test]
    fn ts_files() {
        let set = read(&reader(classes()), "x.ts", TS).unwrap();
        assert_eq!(set.channels, ["1", "2"]);
        assert_eq!(rows(&set), [("1".into(), vec![1.0, 4.0, 2.0, 5.0, 3.0, -1.0]), ("2".into(), vec![7.0, 8.0])]);
        let labels = ["a".to_owned(), "b".to_owned()].into();
        assert_eq!(set.answers, Answers::Classes { labels, classes: vec![1, 0] });
        assert_eq!((set.lengths(), set.missing(0), set.missing(1)), (vec![3, 1], 1, 0));
        assert!(set.place(1).ends_with("x.ts:8"));
        // What comes last is left away where nothing is wanted.
        assert_eq!(rows(&read(&reader(WantedAnswers::Nothing), "x.ts", TS).unwrap()), rows(&set));
        let target = TS.replace("@classLabel true b a", "@targetLabel true").replace(":b", ":2.5").replace(":a", ":-1");
        let set = read(&reader(numbers(&[])), "x.ts", &target).unwrap();
        assert_eq!(set.answers, Answers::Numbers { names: vec!["target".into()], values: vec![2.5, -1.0] });
    }

    #[test]
    fn wrong_ts_files() {
        let with = |from: &str, to: &str| TS.replace(from, to);
        for (content, expected) in [
            (with("@data\n", ""), "x.ts:5: expected `@data` before the first series, found \"1,2,3:4,5,?:b\""),
            ("@classLabel true\n".into(), "x.ts:1: expected a line `@data`, found the end of the file"),
            (with("@timeStamps false", "@timeStamps true"), "x.ts:3: expected series without time stamps"),
            (with("1,2,3:", "(0,1),(1,2):"), "x.ts:6: expected series without time stamps"),
            (with("7:8:a", "7:8:9:a"), "x.ts:8: expected 2 channels, as before, found 3"),
            (
                with("7:8:a", "7,1:8:a"),
                "x.ts:8: expected 2 numbers in each channel, as in the first, found 1 in channel 2",
            ),
            (
                with("7:8:a", "7:x:a"),
                "x.ts:8: expected finite numbers, or `?` for a missing one, at step 1, found \"x\"",
            ),
            (with("7:8:a", "7:inf:a"), "found \"inf\""),
            (with("7:8:a", "?:NaN:a"), "x.ts:8: expected a series with numbers, found only missing ones"),
            (with("7:8:a", "7:8:c"), "x.ts:8: expected a class of the header: \"b\", \"a\", found \"c\""),
            (with("7:8:a", "7:8:b"), "x.ts: expected at least two classes, found only \"b\""),
            (with("7:8:a", "a"), "x.ts:8: expected at least one channel of numbers, found none"),
            (
                with("@classLabel true b a", "@classLabel false"),
                "expected a file with classes (`@classLabel true`), found one without",
            ),
            (with("1,2,3:4,5,?:b\n\n7:8:a\n", ""), "x.ts: expected at least one series, found nothing"),
        ] {
            let error = message(read(&reader(classes()), "x.ts", &content));
            assert!(error.contains(expected), "{error}\n{expected}");
        }
        let error = message(read(&reader(numbers(&[])), "x.ts", TS));
        assert!(error.contains("expected a file with a number to predict (`@targetLabel true`)"), "{error}");
        let given = WantedAnswers::Classes { column: None, labels: Some(vec!["a".into(), "c".into()]) };
        let error = message(read(&reader(given), "x.ts", TS));
        assert!(error.contains("x.ts:6: expected one of the labels \"a\", \"c\", found \"b\""), "{error}");
    }

    const LONG: &str = "time,id,x,y,label\n1,one,1,2,a\n1,two,5,,b\n2,one,3,4,\n2,two,NA,7,b\n";

    #[test]
    fn long_tables() {
        let set = read(&reader(classes()), "x.csv", LONG).unwrap();
        assert_eq!(set.channels, ["x", "y"]);
        assert_eq!(rows(&set), [("one".into(), vec![1.0, 2.0, 3.0, 4.0]), ("two".into(), vec![5.0, -1.0, -1.0, 7.0])]);
        let labels = ["a".to_owned(), "b".to_owned()].into();
        assert_eq!(set.answers, Answers::Classes { labels, classes: vec![0, 1] });
        let tsv = LONG.replace(',', "\t");
        assert_eq!(rows(&read(&reader(classes()), "x.tsv", &tsv).unwrap()), rows(&set));
        // Channels that are named come in their order, and other columns do not matter.
        let named = SeriesReader { channels: vec!["y".into()], ..reader(WantedAnswers::Nothing) };
        let set = read(&named, "x.csv", LONG).unwrap();
        assert_eq!(rows(&set), [("one".into(), vec![2.0, 4.0]), ("two".into(), vec![-1.0, 7.0])]);
        let other = LONG.replace("time,id", "when,who").replace("label", "class");
        let named = SeriesReader {
            id_column: Some("who".into()),
            time_column: Some("when".into()),
            wanted: WantedAnswers::Classes { column: Some("class".into()), labels: None },
            ..Default::default()
        };
        assert_eq!(read(&named, "x.csv", &other).unwrap().channels, ["x", "y"]);
        let values = "id,x,goal,cost\n1,0,2,3\n1,1,,\n2,5,-1,1e3\n";
        let set = read(&reader(numbers(&["cost", "goal"])), "x.csv", values).unwrap();
        let names = vec!["cost".into(), "goal".into()];
        assert_eq!(set.answers, Answers::Numbers { names, values: vec![3.0, 2.0, 1000.0, -1.0] });
        let chosen = set.select(&[1]);
        assert_eq!((rows(&chosen), chosen.lengths()), (vec![("2".into(), vec![5.0])], vec![1]));
        assert!(matches!(chosen.answers, Answers::Numbers { values, .. } if values == [1000.0, -1.0]));
    }

    #[test]
    fn wrong_tables() {
        let with = |from: &str, to: &str| LONG.replace(from, to);
        for (content, expected) in [
            (with("id", "who"), "x.csv:1: expected one column named \"id\", found the columns \"time\", \"who\""),
            (with("label", "class"), "x.csv:1: expected one column named \"label\""),
            (with("2,one,3", "1,one,3"), "x.csv:4: expected each time once in series \"one\", found \"1\" again"),
            (
                with("2,one,3", "0,one,3"),
                "x.csv:4: expected ascending times in series \"one\", found \"0\" after a later one",
            ),
            (
                with("2,one,3", "2016-01-01,one,3"),
                "x.csv:4: expected times that are all written alike in series \"one\"",
            ),
            (with("2,one,3", "noon,one,3"), "x.csv:4: expected a time: a number, or a date"),
            (with("2,one,3", "2,,3"), "x.csv:4: expected the identifier of a series, found none"),
            (
                with("2,one,3", "2,one,NW"),
                "x.csv:4: expected a finite number, or nothing, in column \"x\", found \"NW\"",
            ),
            (with("2,one,3", "2,one,-inf"), "found \"-inf\""),
            (
                with("2,one,3,4,", "2,one,3,4,b"),
                "x.csv:4: expected \"a\" in column \"label\" in series \"one\", as before, found \"b\"",
            ),
            (with("2,one,3,4,", "2,one,3,4"), "x.csv:4: expected 5 fields as in the first record, found 4"),
            (
                with("NA,7,b", "NA,,b").replace("5,,b", ",,b"),
                "x.csv:3: expected a series with numbers, found only missing ones",
            ),
            (with("1,one,1,2,a", "1,one,1,2,"), "x.csv:2: expected a label, found none"),
            ("time,id,x,y,label\n".into(), "x.csv: expected at least one series, found nothing"),
            (String::new(), "x.csv:1: expected one column named \"id\""),
            ("id,label\n1,a\n".into(), "x.csv:1: expected at least one channel of numbers, found none"),
        ] {
            let error = message(read(&reader(classes()), "x.csv", &content));
            assert!(error.contains(expected), "{error}\n{expected}");
        }
        let error = message(read(&reader(numbers(&["y"])), "x.csv", "id,x,y\n1,1,2\n1,2,4\n"));
        assert!(error.contains("expected \"2\" in column \"y\" in series \"1\", as before, found \"4\""), "{error}");
        let channel = SeriesReader { channels: vec!["id".into()], ..reader(WantedAnswers::Nothing) };
        assert!(message(read(&channel, "x.csv", LONG)).contains("channels that are not the identifier"));
        assert!(message(read(&reader(classes()), "x.txt", LONG)).contains("a file whose name ends in .ts, .csv"));
        let folder = Folder::new(&[("a.csv", LONG.as_bytes()), ("b.csv", LONG.replace(",y", ",z").as_bytes())]);
        let error = message(reader(classes()).read(&[folder.join("a.csv"), folder.join("b.csv")]));
        assert!(
            error.contains("b.csv:1: expected the channels \"x\", \"y\", as before, found \"x\", \"z\""),
            "{error}"
        );
        assert!(matches!(reader(classes()).read(&[""; 0]), Err(Error::Setting { key: "paths", .. })));
    }

    #[test]
    fn json_lines_in_long_form() {
        let content = concat!(
            "{\"id\": 1, \"time\": \"2016-07-01\", \"x\": 1.5, \"up\": true, \"label\": \"a\"}\n",
            "{\"label\": null, \"id\": 1, \"up\": false, \"x\": null, \"time\": \"2016-07-02\"}\n",
            "{\"id\": \"b\", \"time\": 5, \"x\": -2e3, \"up\": false, \"label\": 7}\n",
        );
        let set = read(&reader(classes()), "x.jsonl", content).unwrap();
        assert_eq!(set.channels, ["x", "up"]);
        assert_eq!(rows(&set), [("1".into(), vec![1.5, 1.0, -1.0, 0.0]), ("b".into(), vec![-2000.0, 0.0])]);
        assert!(matches!(&set.answers, Answers::Classes { labels, .. } if labels == &["7", "a"]));
        let values = "{\"id\": 1, \"x\": 0, \"target\": 0.1}\n{\"id\": 2, \"x\": 1, \"target\": 3}\n";
        let set = read(&reader(numbers(&[])), "x.ndjson", values).unwrap();
        assert!(matches!(&set.answers, Answers::Numbers { values, .. } if values == &[0.1, 3.0]));
        let error = message(read(&reader(numbers(&[])), "x.jsonl", &values.replace("\"x\": 1", "\"y\": 1")));
        assert!(error.contains("x.jsonl:2: expected the key \"x\", found the keys"), "{error}");
        let error = message(read(&reader(numbers(&[])), "x.jsonl", &values.replace("\"x\": 1", "\"x\": [1]")));
        assert!(error.contains("x.jsonl:2: expected a number in \"x\", or `null`, found a list"), "{error}");
    }

    #[test]
    fn what_is_kept_is_limited_and_not_the_file() {
        let comments = format!("{}{TS}", "# a comment\n".repeat(1000));
        let limited = |bytes| SeriesReader { text: TextReader::default().max_bytes(bytes), ..reader(classes()) };
        // Eight numbers, and the names of two series.
        let kept = 8 * 8 + 2 * (size_of::<Place>() as u64 + 1);
        assert_eq!(read(&limited(kept), "x.ts", &comments).unwrap().len(), 2);
        let error = read(&limited(kept - 1), "x.ts", &comments).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        assert!(matches!(read(&limited(kept), "x.csv", LONG), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn folders_of_tables() {
        let files: [(&str, &[u8]); 4] = [
            ("walk/1.csv", b"time,x\n0,1\n1,2\n"),
            ("run/2.tsv", b"time\tx\n0\t3\n"),
            ("run/notes.txt", b"about"),
            ("README.md", b"about"),
        ];
        let folder = Folder::new(&files);
        let set = reader(classes()).read(&[folder.path()]).unwrap();
        assert_eq!(rows(&set), [("run/2.tsv".into(), vec![3.0]), ("walk/1.csv".into(), vec![1.0, 2.0])]);
        assert!(matches!(&set.answers, Answers::Classes { classes, .. } if classes[..] == [0, 1]));
        let skipped = ["README.md", "run/notes.txt"].map(|name| folder.skipped(name, SkipReason::NotTable));
        assert_eq!((set.skipped, set.format), (skipped.into(), SeriesFormat::Folder));
        let in_files = Folder::new(&[("1.csv", b"x,target\n1,5\n2,\n"), ("2.csv", b"x,target\n3,6\n")]);
        let set = reader(numbers(&[])).read(&[in_files.path()]).unwrap();
        assert!(matches!(&set.answers, Answers::Numbers { values, .. } if values[..] == [5.0, 6.0]));
        let error = message(reader(classes()).read(&[in_files.path()]));
        assert!(error.contains("1.csv: expected a series in the folder of its class, found one in none"), "{error}");
        let empty = Folder::new(&[("a/1.csv", b"x\n"), ("b/2.csv", b"x\n1\n")]);
        assert!(message(reader(classes()).read(&[empty.path()])).contains("1.csv:1: expected a row for each step"));
        assert!(message(reader(classes()).read(&[Folder::new(&[]).path()])).contains("expected at least one series"));
        let file = SeriesReader { format: Some(SeriesFormat::Folder), ..reader(classes()) };
        assert!(message(file.read(&[in_files.join("1.csv")])).contains("expected a folder of tables, found a file"));
    }
}
