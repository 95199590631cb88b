//! Tagged sentences read from files of all formats.

use std::path::Path;

use super::columns::{Column, Columns, Layout, split};
use super::format::{Id, TaggedFormat, begins_document};
use super::{Sentence, Sentences, TaggedSet};
use crate::error::{Error, Result, quoted};
use crate::labels::Labels;
use crate::printable::Shown;
use crate::text::TextReader;

/// Reads sentences of words, with a tag for each word or without.
#[derive(Clone, Debug, Default)]
pub struct TaggedReader {
    /// Encoding, size limit and rules for cleaning; the limit holds for all that one call reads.
    pub text: TextReader,
    /// The format of all files. If it is not given, a file is [CoNLL-U](TaggedFormat::Conllu) if its first word stands
    /// in a line of ten columns as CoNLL-U has them. Any other file is read for tags as
    /// [columns](TaggedFormat::Columns); for words alone so, too, if its first line has a tab or is a `-DOCSTART-` line
    /// or if [`word_column`](Self::word_column) is given, and as [lines](TaggedFormat::Lines) if not.
    pub format: Option<TaggedFormat>,
    /// The column of the words: a number from 1, or from -1 backwards, or a name. By default `FORM` in CoNLL-U, whose
    /// names are [these](TaggedFormat::CONLLU), and the first column otherwise. Where a column is given by name, other
    /// files have a header in their first line.
    pub word_column: Option<String>,
    /// The column of the tags: by default `UPOS` in CoNLL-U and the last column otherwise.
    pub tag_column: Option<String>,
    /// Whether lines that begin with `#` are comments in a file of columns, too. `false` by default, since `#` may be a
    /// word or begin one.
    pub comments: bool,
    /// The tags in the order of their indices, as a trained model has them. If not given, they are those found.
    pub tags: Option<Vec<String>>,
}

impl TaggedReader {
    /// The longest line, in bytes.
    pub const MAX_LINE_BYTES: usize = 1 << 20;

    /// Reads the sentences of all `paths`, which are files, into one set.
    ///
    /// Files are cleaned ([`TextRules::clean`](crate::TextRules::clean)); words and tags lose the white space around
    /// them. A line of nothing but white space is blank. In CoNLL-U the tag `_` means that there is none and is an
    /// error, but for `FEATS`, where it is the tag of words without features.
    ///
    /// # Errors
    /// - [`Error::Empty`] when a file has no sentence;
    /// - [`Error::UnknownLabel`] for a tag that is not among those given;
    /// - [`Error::Malformed`] naming file and line when a column is not there, a line has not as many columns as the
    ///   first one, a word or a tag is empty, a line is longer than [`MAX_LINE_BYTES`](Self::MAX_LINE_BYTES), or the
    ///   words of a sentence of CoNLL-U are not numbered from 1; when the files have different formats; when there are
    ///   fewer than two tags (and none were given), or more than [`TaggedSet::MAX_TAGS`];
    /// - [`Error::Setting`] when there is no path, when the format has no columns, for a column number 0, or when
    ///   `tags` has a tag twice or too many;
    /// - [`Error::Encoding`], [`Error::TooLarge`] and [`Error::Io`] as [`TextReader::read_file`].
    pub fn read(&self, paths: &[impl AsRef<Path>]) -> Result<TaggedSet> {
        let labels = Labels::new(self.tags.as_deref())?;
        let (sentences, tags) = self.collect(paths, Some(labels))?;
        let Tags { labels, mut word_tags } = tags.expect("tags were asked for");
        let tags = labels.finish(&sentences.files[0], &mut word_tags)?;
        Ok(TaggedSet { tags, sentences, word_tags })
    }

    /// Reads the words of all `paths` alone, for sentences that have no tags yet: as [`read`](Self::read), but no
    /// column of tags need be there.
    ///
    /// # Errors
    /// As [`read`](Self::read), save for what is wrong with tags.
    pub fn read_words(&self, paths: &[impl AsRef<Path>]) -> Result<Sentences> {
        Ok(self.collect(paths, None)?.0)
    }

    /// The sentences, and their tags if labels are given to put them in.
    fn collect(&self, paths: &[impl AsRef<Path>], labels: Option<Labels>) -> Result<(Sentences, Option<Tags>)> {
        let Some(first) = paths.first().map(AsRef::as_ref) else {
            return Err(Error::setting("paths", "at least one file", "none"));
        };
        if self.format == Some(TaggedFormat::Lines) && (labels.is_some() || self.word_column.is_some()) {
            let found = format!("`{}`, which has no columns", TaggedFormat::Lines);
            return Err(Error::setting("format", "a format with columns", found));
        }
        let mut budget = self.text.limit();
        let mut tags = labels.map(|labels| Tags { labels, word_tags: Vec::new() });
        let mut all: Option<Sentences> = None;
        for path in paths.iter().map(AsRef::as_ref) {
            if path.is_dir() {
                return Err(Error::malformed(path, None, "a file", "a folder", "name the files in it"));
            }
            let content = self.text.load(path, &mut budget)?;
            let format = self.format_of(&content, tags.is_some());
            let all = all.get_or_insert_with(|| Sentences::new(format));
            if all.format != format {
                let expected = format!("the format `{}`, as {} has it", all.format, Shown(first));
                let hint = "give files of one format, or say which format all of them have";
                return Err(Error::malformed(path, None, expected, format!("`{format}`"), hint));
            }
            all.files.push(path.into());
            let before = all.len();
            let mut file = File { path, begin: all.word_count(), line: 0, sentences: all, tags: tags.as_mut() };
            match format {
                TaggedFormat::Conllu => self.read_conllu(&content, &mut file)?,
                TaggedFormat::Columns => self.read_columns(&content, &mut file)?,
                TaggedFormat::Lines => read_lines(&content, &mut file)?,
            }
            if all.len() == before {
                let hint = "name a file that holds some".into();
                return Err(Error::Empty { path: path.into(), expected: "at least one sentence".into(), hint });
            }
        }
        Ok((all.expect("there is a path"), tags))
    }

    fn format_of(&self, content: &str, with_tags: bool) -> TaggedFormat {
        let columns = with_tags || self.word_column.is_some();
        let unclear = if columns { TaggedFormat::Columns } else { TaggedFormat::Lines };
        self.format.or_else(|| TaggedFormat::detect(content)).unwrap_or(unclear)
    }

    fn read_conllu(&self, content: &str, file: &mut File) -> Result<()> {
        let names = &TaggedFormat::CONLLU;
        // They are written in either case.
        let given = |column: &Option<String>| column.as_deref().map(str::to_ascii_uppercase);
        let (word, tag) = (given(&self.word_column), given(&self.tag_column));
        let columns = file.columns((word.as_deref(), "FORM"), (tag.as_deref(), "UPOS"))?;
        let layout = Layout::new(&columns, names, file.path, None)?;
        for line in lines(content, file.path) {
            let (line, number) = line?;
            if line.trim().is_empty() {
                file.end_sentence();
                continue;
            }
            if line.starts_with('#') {
                continue;
            }
            let wrong = |expected: String, found: String, hint| {
                Err(Error::malformed(file.path, Some(number), expected, found, hint))
            };
            let fields: Vec<&str> = line.split('\t').collect();
            if fields.len() != layout.width {
                let expected = format!("{} columns between tabs, as CoNLL-U has them", layout.width);
                return wrong(expected, fields.len().to_string(), "give the format if it is another one");
            }
            let next = file.words() + 1;
            match Id::parse(fields[0]) {
                Some(Id::Multiword(_) | Id::Empty(_)) => continue,
                Some(Id::Word(id)) if id == next => {}
                _ => {
                    let hint = "number the words of a sentence from 1, and end it with a blank line";
                    return wrong(format!("the word number {next}"), quoted(fields[0]), hint);
                }
            }
            let tag = layout.tag.map(|tag| fields[tag]);
            if tag == Some("_") && layout.tag.is_some_and(|tag| names[tag] != "FEATS") {
                return wrong(
                    "a tag".into(),
                    "\"_\", which means that there is none".into(),
                    "give another tag_column",
                );
            }
            file.push(fields[layout.word], tag, number)?;
        }
        file.end_sentence();
        Ok(())
    }

    fn read_columns(&self, content: &str, file: &mut File) -> Result<()> {
        let columns = file.columns((self.word_column.as_deref(), "1"), (self.tag_column.as_deref(), "-1"))?;
        let (mut fields, mut header, mut layout) = (Vec::new(), Vec::new(), None);
        for line in lines(content, file.path) {
            let (line, number) = line?;
            if line.trim().is_empty() {
                file.end_sentence();
                continue;
            }
            if self.comments && line.starts_with('#') {
                continue;
            }
            if begins_document(line) {
                file.end_sentence();
                file.sentences.documents += 1;
                continue;
            }
            split(line, &mut fields);
            let Layout { width, word, tag } = match layout {
                Some(layout) => layout,
                None => {
                    let found = *layout.insert(Layout::new(&columns, &fields, file.path, Some(number))?);
                    if columns.need_header() {
                        header.clone_from(&fields);
                        continue;
                    }
                    found
                }
            };
            if fields.len() != width {
                let hint = match line.starts_with('#') {
                    true => "set comments if lines that begin with # are comments",
                    false => "separate the columns alike in all lines",
                };
                let expected = format!("{width} columns as in the first line");
                return Err(Error::malformed(file.path, Some(number), expected, fields.len().to_string(), hint));
            }
            if width > 1 && fields == header {
                let hint = "remove the headers that came in when files were put one after another";
                return Err(Error::malformed(file.path, Some(number), "a word", "the header again", hint));
            }
            file.push(fields[word], tag.map(|tag| fields[tag]), number)?;
        }
        file.end_sentence();
        Ok(())
    }
}

fn read_lines(content: &str, file: &mut File) -> Result<()> {
    for line in lines(content, file.path) {
        let (line, number) = line?;
        line.split_whitespace().try_for_each(|word| file.push(word, None, number))?;
        file.end_sentence();
    }
    Ok(())
}

/// The lines of a file and their numbers, from 1.
fn lines<'a>(content: &'a str, path: &Path) -> impl Iterator<Item = Result<(&'a str, usize)>> {
    content.lines().zip(1..).map(move |(line, number)| {
        const LIMIT: usize = TaggedReader::MAX_LINE_BYTES;
        if line.len() <= LIMIT {
            return Ok((line, number));
        }
        let (expected, found) = (format!("a line of at most {LIMIT} bytes"), line.len().to_string());
        Err(Error::malformed(path, Some(number), expected, found, "check the format, or divide the line"))
    })
}

/// Tags in the making.
struct Tags {
    labels: Labels,
    word_tags: Vec<u32>,
}

/// A file that is being read.
struct File<'a> {
    path: &'a Path,
    sentences: &'a mut Sentences,
    tags: Option<&'a mut Tags>,
    /// The first word of the sentence that is not ended.
    begin: usize,
    /// Its line.
    line: usize,
}

impl File<'_> {
    /// The columns wanted: those given, or those that stand beside them.
    fn columns<'c>(&self, word: (Option<&'c str>, &'c str), tag: (Option<&'c str>, &'c str)) -> Result<Columns<'c>> {
        let word = Column::parse("word_column", word.0.unwrap_or(word.1))?;
        let tag = Column::parse("tag_column", tag.0.unwrap_or(tag.1))?;
        Ok(Columns { word, tag: self.tags.is_some().then_some(tag) })
    }

    /// The number of words of the sentence that is not ended.
    fn words(&self) -> usize {
        self.sentences.word_count() - self.begin
    }

    /// Adds a word to the sentence. There is a tag if tags are read.
    fn push(&mut self, word: &str, tag: Option<&str>, line: usize) -> Result<()> {
        let missing = |expected: &str| {
            Err(Error::malformed(self.path, Some(line), expected, "none", "complete the line or remove it"))
        };
        let word = word.trim();
        if word.is_empty() {
            return missing("a word");
        }
        if let (Some(tags), Some(tag)) = (&mut self.tags, tag.map(str::trim)) {
            if tag.is_empty() {
                return missing("a tag");
            }
            tags.word_tags.push(tags.labels.index(tag, self.path, line)?);
        }
        if self.words() == 0 {
            self.line = line;
        }
        self.sentences.push_word(word);
        Ok(())
    }

    /// Ends the sentence if it has begun.
    fn end_sentence(&mut self) {
        let end = self.sentences.word_count();
        if self.begin < end {
            let file = self.sentences.files.len() as u32 - 1;
            self.sentences.sentences.push(Sentence { words: self.begin..end, file, line: self.line });
            self.begin = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Folder;

    /// Sentences as `line: word/tag word/tag`.
    fn shown(set: &TaggedSet) -> Vec<String> {
        let sentence = |sentence: usize| {
            let tags = set.tags_of(sentence).iter().map(|&tag| &set.tags[tag as usize]);
            let words: Vec<_> =
                set.sentences.words(sentence).zip(tags).map(|(word, tag)| format!("{word}/{tag}")).collect();
            let place = set.sentences.place(sentence);
            format!("{}: {}", place.rsplit(':').next().unwrap(), words.join(" "))
        };
        (0..set.sentences.len()).map(sentence).collect()
    }

    /// Sentences as `line: word word`.
    fn shown_words(sentences: &Sentences) -> Vec<String> {
        let sentence = |sentence: usize| {
            let words: Vec<_> = sentences.words(sentence).collect();
            format!("{}: {}", sentences.place(sentence).rsplit(':').next().unwrap(), words.join(" "))
        };
        (0..sentences.len()).map(sentence).collect()
    }

    fn read(reader: &TaggedReader, content: impl AsRef<[u8]>) -> Result<TaggedSet> {
        let folder = Folder::new(&[("a.conll", content.as_ref())]);
        reader.read(&[folder.join("a.conll")])
    }

    fn read_words(reader: &TaggedReader, content: impl AsRef<[u8]>) -> Result<Sentences> {
        let folder = Folder::new(&[("a.conll", content.as_ref())]);
        reader.read_words(&[folder.join("a.conll")])
    }

    fn message(result: Result<impl std::fmt::Debug>) -> String {
        result.unwrap_err().to_string()
    }

    fn columns(word: &str, tag: &str) -> TaggedReader {
        TaggedReader { word_column: Some(word.into()), tag_column: Some(tag.into()), ..Default::default() }
    }

    fn tag_column(tag: &str) -> TaggedReader {
        TaggedReader { tag_column: Some(tag.into()), ..Default::default() }
    }

    const CONLLU: &str = "\
# sent_id = 1
# text = I haven't a clue.
1\tI\tI\tPRON\tPRP\tCase=Nom\t2\tnsubj\t_\t_
2-3\thaven't\t_\t_\t_\t_\t_\t_\t_\t_
2\thave\thave\tVERB\tVBP\t_\t0\troot\t_\t_
3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\t_
4\ta clue\tclue\tNOUN\tNN\tNumber=Sing\t2\tobj\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_

# sent_id = 2
1\tSue\tSue\tPROPN\tNNP\tNumber=Sing\t2\tnsubj\t_\t_
1.1\tlikes\tlike\tVERB\tVBZ\t_\t_\t_\t0:root\t_
2\t_\t_\tSYM\tNFP\t_\t0\troot\t_\t_
";

    #[test]
    fn conllu() {
        let set = read(&TaggedReader::default(), CONLLU).unwrap();
        assert_eq!(set.sentences.format, TaggedFormat::Conllu);
        assert_eq!(set.tags, ["NOUN", "PART", "PRON", "PROPN", "PUNCT", "SYM", "VERB"]);
        assert_eq!(shown(&set), ["3: I/PRON have/VERB n't/PART a clue/NOUN ./PUNCT", "11: Sue/PROPN _/SYM"]);
        assert_eq!(set.sentences.words(0).len(), 5);
        for (column, second) in [
            ("XPOS", "11: Sue/NNP _/NFP"),
            ("deprel", "11: Sue/nsubj _/root"),
            ("FEATS", "11: Sue/Number=Sing _/_"),
            ("5", "11: Sue/NNP _/NFP"),
            ("-3", "11: Sue/nsubj _/root"),
        ] {
            assert_eq!(shown(&read(&tag_column(column), CONLLU).unwrap())[1], second, "{column}");
        }
        assert_eq!(shown(&read(&columns("XPOS", "UPOS"), CONLLU).unwrap())[1], "11: NNP/PROPN NFP/SYM");
        // The last sentence has no blank line after it, the first one line ends of Windows and some spare blank lines.
        let windows = format!("\u{FEFF}\r\n{}\r\n \r\n", CONLLU.replace('\n', "\r\n"));
        let found = read(&TaggedReader::default(), windows).unwrap();
        assert_eq!((&found.tags, shown(&found)[1].as_str()), (&set.tags, "12: Sue/PROPN _/SYM"));
    }

    #[test]
    fn what_conllu_does_not_allow() {
        let cases = [
            (
                "3\tn't\tnot",
                "3 n't\tnot",
                "a.conll:6: expected 10 columns between tabs, as CoNLL-U has them, found 9; give the format",
            ),
            ("3\tn't", "4\tn't", "a.conll:6: expected the word number 3, found \"4\"; number the words"),
            ("3\tn't", "x\tn't", "a.conll:6: expected the word number 3, found \"x\""),
            ("3\tn't", "2-\tn't", "a.conll:6: expected the word number 3, found \"2-\""),
            // Two sentences, and no blank line between them.
            ("\n\n", "\n", "a.conll:10: expected the word number 6, found \"1\""),
            (
                "have\tVERB",
                "have\t_",
                "a.conll:5: expected a tag, found \"_\", which means that there is none; give another tag_column",
            ),
            ("have\tVERB", "have\t", "a.conll:5: expected a tag, found none"),
            ("\tn't", "\t\u{A0}", "a.conll:6: expected a word, found none; complete the line or remove it"),
        ];
        for (from, to, expected) in cases {
            let error = message(read(&TaggedReader::default(), CONLLU.replacen(from, to, 1)));
            assert!(error.contains(expected), "{error}");
        }
        let error = message(read(&tag_column("POS"), CONLLU));
        assert!(
            error.contains("a.conll: expected one column named \"POS\", found the columns \"ID\", \"FORM\""),
            "{error}"
        );
        let error = message(read(&tag_column("11"), CONLLU));
        assert!(error.contains("expected a column number 11, found 10 columns"), "{error}");
        // Half a treebank has been stripped.
        let error = message(read(&tag_column("DEPS"), CONLLU));
        assert!(error.contains("a.conll:3: expected a tag, found \"_\""), "{error}");
    }

    const CONLL_2003: &str = "\
-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

# NN B-NP O
-DOCSTART- -X- -X- O
Peter  NNP B-NP B-PER
";

    #[test]
    fn columns_between_spaces() {
        let set = read(&TaggedReader::default(), CONLL_2003).unwrap();
        assert_eq!(set.tags, ["B-ORG", "B-PER", "O"]);
        assert_eq!(shown(&set), ["3: EU/B-ORG rejects/O", "6: #/O", "8: Peter/B-PER"]);
        assert_eq!((set.sentences.documents, set.sentences.format), (2, TaggedFormat::Columns));
        assert_eq!(shown(&read(&tag_column("2"), CONLL_2003).unwrap())[0], "3: EU/NNP rejects/VBZ");
        assert_eq!(shown(&read(&columns("-3", "-2"), CONLL_2003).unwrap())[0], "3: NNP/B-NP VBZ/B-VP");
        let commented = TaggedReader { comments: true, ..Default::default() };
        assert_eq!(shown(&read(&commented, CONLL_2003).unwrap()), ["3: EU/B-ORG rejects/O", "8: Peter/B-PER"]);
    }

    #[test]
    fn columns_between_tabs() {
        // In WNUT 2017 a line of a tab alone ends a sentence, and there is a byte order mark in a word.
        let content = "New York\tB-LOC\r\nis\tO\r\n\t\r\n#fun\tO\r\nDubbz\u{FEFF}\t B-PER \r\n\r\n\r\n";
        let set = read(&TaggedReader::default(), content).unwrap();
        assert_eq!(shown(&set), ["1: New York/B-LOC is/O", "4: #fun/O Dubbz/B-PER"]);
        assert_eq!(set.sentences.words(0).next(), Some("New York"));
        assert_eq!((set.sentences.lengths(), set.sentences.word_count()), (vec![2, 2], 4));
    }

    #[test]
    fn columns_by_the_names_of_a_header() {
        let content = "\nword\tpos\tner\nEU\tNNP\tB-ORG\n\nsays\tVBZ\tO\n";
        for reader in [columns("word", "ner"), columns("1", "ner"), columns("word", "-1"), tag_column("ner")] {
            assert_eq!(shown(&read(&reader, content).unwrap()), ["3: EU/B-ORG", "5: says/O"], "{reader:?}");
        }
        let error = message(read(&tag_column("tag"), content));
        assert!(
            error
                .contains("a.conll:2: expected one column named \"tag\", found the columns \"word\", \"pos\", \"ner\"")
        );
        let error = message(read(&tag_column("ner"), format!("{content}\n{content}")));
        assert!(error.contains("a.conll:8: expected a word, found the header again"), "{error}");
        let error = message(read(&tag_column("ner"), "word ner\n"));
        assert!(error.contains("expected at least one sentence, found nothing"), "{error}");
    }

    #[test]
    fn what_columns_do_not_allow() {
        let cases = [
            ("EU O\nsays\n", "a.conll:2: expected 2 columns as in the first line, found 1; separate the columns alike"),
            ("EU O\n\n# said VBZ O\n", "a.conll:3: expected 2 columns as in the first line, found 4; set comments"),
            ("EU\tO\nNew York O\n", "a.conll:2: expected 2 columns as in the first line, found 3"),
            ("EU\tO\n\tO\n", "a.conll:2: expected a word, found none"),
            ("EU\tO\n\u{FEFF}\tO\n", "a.conll:2: expected a word, found none"),
            ("EU\tO\nsays\t\n", "a.conll:2: expected a tag, found none"),
            ("EU\nsays\n", "a.conll:1: expected a column of words and one of tags, found column 1 of 1 for both"),
            ("EU O\nsays O\n", "a.conll: expected at least two classes, found only \"O\""),
            ("", "a.conll: expected at least one sentence, found nothing; name a file that holds some"),
            ("\n-DOCSTART- O\n\n", "a.conll: expected at least one sentence, found nothing"),
        ];
        for (content, expected) in cases {
            let error = message(read(&TaggedReader::default(), content));
            assert!(error.contains(expected), "{error}");
        }
        let error = message(read(&tag_column("4"), "EU B\nsays O\n"));
        assert!(error.contains("a.conll:1: expected a column number 4, found 2 columns"), "{error}");
    }

    #[test]
    fn words_alone() {
        let reader = TaggedReader::default();
        let text = "  Go home , now !\r\n\r\nNew\u{A0}York\r\nx";
        let sentences = read_words(&reader, text).unwrap();
        assert_eq!(sentences.format, TaggedFormat::Lines);
        assert_eq!(shown_words(&sentences), ["1: Go home , now !", "3: New York", "4: x"]);
        assert_eq!(shown_words(&read_words(&reader, CONLLU).unwrap()), ["3: I have n't a clue .", "11: Sue _"]);
        // No tags are needed, and none are looked at.
        let stripped = CONLLU.replace("\tVERB\t", "\t_\t");
        assert_eq!(shown_words(&read_words(&reader, &stripped).unwrap())[1], "11: Sue _");
        assert_eq!(shown_words(&read_words(&reader, "EU\tO\n\nsays\tO\n").unwrap()), ["1: EU", "3: says"]);
        assert_eq!(shown_words(&read_words(&reader, "-DOCSTART-\n\nEU\nsays\n").unwrap()), ["3: EU says"]);
        for reader in [
            TaggedReader { format: Some(TaggedFormat::Columns), ..Default::default() },
            TaggedReader { word_column: Some("1".into()), ..Default::default() },
        ] {
            assert_eq!(shown_words(&read_words(&reader, "EU\nsays\n\nno\n").unwrap()), ["1: EU says", "4: no"]);
        }
        assert!(message(read_words(&reader, " \n\n")).contains("expected at least one sentence"));
    }

    #[test]
    fn several_files_make_one_set() {
        let folder =
            Folder::new(&[("a", b"EU B\n"), ("b", b"EU O\n\nsays B\n"), ("c", CONLLU.as_bytes()), ("d/x", b"")]);
        let read = |names: &[&str]| {
            TaggedReader::default().read(&names.iter().map(|name| folder.join(name)).collect::<Vec<_>>())
        };
        let set = read(&["a", "b"]).unwrap();
        assert_eq!(shown(&set), ["1: EU/B", "1: EU/O", "3: says/B"]);
        assert_eq!(set.sentences.place(2), format!("{}:3", folder.join("b").display()));
        assert_eq!(set.sentences.files, [folder.join("a"), folder.join("b")]);
        assert_eq!(set.word_tags(), [0, 1, 0]);
        let error = message(read(&["a", "c"]));
        assert!(error.contains("c: expected the format `columns`, as ") && error.contains("found `conllu`"), "{error}");
        assert!(message(read(&["a", "d"])).contains("d: expected a file, found a folder"));
        assert!(matches!(read(&[]), Err(Error::Setting { key: "paths", .. })));
        assert!(matches!(read(&["missing"]), Err(Error::Io { .. })));
        let budget = TaggedReader { text: TextReader::default().max_bytes(10), ..Default::default() };
        let error = budget.read(&[folder.join("a"), folder.join("b")]).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 5, .. }), "{error}");
    }

    #[test]
    fn sentences_are_selected() {
        let set = read(&TaggedReader::default(), "a X\nb Y\n\nc X\n\nd Z\ne X\nf Y\n").unwrap();
        assert_eq!(set.select(&[0, 1, 2]), set);
        let selected = set.select(&[2, 0]);
        assert_eq!(shown(&selected), ["6: d/Z e/X f/Y", "1: a/X b/Y"]);
        assert_eq!((selected.word_tags(), &selected.tags), (&[2, 0, 1, 0, 1][..], &set.tags));
        assert!(set.select(&[]).sentences.is_empty() && !set.sentences.is_empty());
    }

    #[test]
    fn given_tags_keep_their_order_and_admit_no_other() {
        let with = |tags: &[&str]| TaggedReader {
            tags: Some(tags.iter().copied().map(String::from).collect()),
            ..Default::default()
        };
        let set = read(&with(&["O", "B"]), "EU O\nsays O\n").unwrap();
        assert_eq!((set.word_tags(), set.tags.len()), (&[0, 0][..], 2));
        let error = message(read(&with(&["O", "B"]), "EU O\nsays I\n"));
        assert!(error.contains("a.conll:2: expected one of the labels \"O\", \"B\", found \"I\""), "{error}");
        assert!(matches!(read(&with(&["O", "O"]), "EU O\n"), Err(Error::Setting { key: "labels", .. })));
        let many: String = (0..=TaggedSet::MAX_TAGS).map(|n| format!("x {n}\n")).collect();
        let error = message(read(&TaggedReader::default(), many));
        assert!(error.contains("a.conll:4097: expected at most 4096 different labels"), "{error}");
    }

    #[test]
    fn settings_that_do_not_apply_are_refused() {
        let lines = TaggedReader { format: Some(TaggedFormat::Lines), ..Default::default() };
        assert!(matches!(read(&lines, "EU O\n"), Err(Error::Setting { key: "format", .. })));
        assert!(read_words(&lines, "EU\tO\n").is_ok());
        let lines = TaggedReader { word_column: Some("1".into()), ..lines };
        assert!(matches!(read_words(&lines, "EU O\n"), Err(Error::Setting { key: "format", .. })));
        assert!(matches!(read(&tag_column("0"), "EU O\n"), Err(Error::Setting { key: "tag_column", .. })));
    }

    #[test]
    fn bytes_that_are_no_text() {
        let error = read(&TaggedReader::default(), b"EU\tO\ncaf\xE9\tO\n").unwrap_err();
        assert!(matches!(error, Error::Encoding { line: 2, offset: 8, .. }), "{error}");
        let text = TextReader::default().encoding("latin1").unwrap();
        let set = read(&TaggedReader { text, ..Default::default() }, b"EU\tB\ncaf\xE9\tO\n").unwrap();
        assert_eq!(shown(&set), ["1: EU/B caf\u{E9}/O"]);
        let composed = read(&TaggedReader::default(), "EU\tB\ncafe\u{301}\tO\n").unwrap();
        assert_eq!(shown(&composed), shown(&set));
        let long = format!("EU\tO\n{}\tO\n", "x".repeat(TaggedReader::MAX_LINE_BYTES));
        let error = message(read(&TaggedReader::default(), long));
        assert!(error.contains("a.conll:2: expected a line of at most 1048576 bytes, found 1048578"), "{error}");
    }

    proptest! {
        #[test]
        fn what_was_written_comes_back(
            sentences in prop::collection::vec(
                prop::collection::vec(("[a#é]{1,3}( [a-])?", "[BIO]-[XY]"), 1..5), 1..8
            ),
            form in 0..3,
            blank in 1usize..3,
        ) {
            let (mut content, mut expected, mut line) = (String::new(), Vec::new(), 1);
            for sentence in &sentences {
                expected.push(format!("{line}:"));
                for ((word, tag), number) in sentence.iter().zip(1..) {
                    // Between spaces a word holds none.
                    let word = if form == 0 { word.replace(' ', "_") } else { word.clone() };
                    content += &match form {
                        0 => format!("{word} {tag}\n"),
                        1 => format!("{word}\t{tag}\n"),
                        _ => format!("{number}\t{word}\t_\t{tag}\t_\t_\t_\t_\t_\t_\n"),
                    };
                    *expected.last_mut().unwrap() += &format!(" {word}/{tag}");
                }
                content += &"\n".repeat(blank);
                line += sentence.len() + blank;
            }
            let tags = ["B-X", "I-X", "O-X", "B-Y", "I-Y", "O-Y"].map(String::from).to_vec();
            let set = read(&TaggedReader { tags: Some(tags), ..Default::default() }, &content).unwrap();
            prop_assert_eq!(set.sentences.format == TaggedFormat::Conllu, form == 2);
            prop_assert_eq!(shown(&set), expected);
        }

        #[test]
        fn no_content_makes_the_reader_panic(
            text in "([a1-3_.#-]|\t|\n|\r| |é|-DOCSTART-|1\tx\t_\tX\t_\t_\t0\t_\t_\t_\n){0,30}",
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            format in prop::option::of(prop::sample::select(TaggedFormat::ALL.to_vec())),
            word in prop::option::of("[a12-]{1,2}"),
        ) {
            let reader = TaggedReader { format, word_column: word, ..Default::default() };
            for content in [text.as_bytes(), &bytes] {
                if let Ok(set) = read(&reader, content) {
                    prop_assert_eq!(set.word_tags().len(), set.sentences.word_count());
                    prop_assert!(set.sentences.lengths().iter().all(|&length| length > 0));
                }
                if let Ok(sentences) = read_words(&reader, content) {
                    let words = (0..sentences.len()).flat_map(|sentence| sentences.words(sentence));
                    prop_assert!(words.clone().all(|word| !word.is_empty() && word.trim() == word));
                    prop_assert_eq!(words.count(), sentences.word_count());
                }
            }
        }
    }
}
