//! Word vectors that others have trained, from the text files of GloVe, word2vec and fastText.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::compressed::open;
use crate::error::{Error, Result, quoted};
use crate::lines::{BoundedLines, Line};

/// Reads the vectors of given words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WordVectorReader {
    /// Whether a word that is not in the file takes the vector of its lowercase form. `false` by default. Many vectors
    /// were trained on lowercase text.
    pub lowercase: bool,
}

/// The vectors of those of the given words that were found.
#[derive(Clone, Debug, PartialEq)]
pub struct WordVectors {
    dim: usize,
    /// `[rows, dim]`, in the order of the file.
    values: Vec<f32>,
    /// The row of each word asked for.
    row_of: Vec<Option<usize>>,
    /// How many of the words asked for were found in their lowercase form alone.
    pub by_lowercase: usize,
    /// How many vectors were left out because one of the same word came before. Only words asked for count.
    pub duplicates: usize,
    /// The number of vectors in the file.
    pub in_file: usize,
}

impl WordVectorReader {
    /// The longest line, in bytes.
    pub const MAX_LINE_BYTES: usize = 1 << 20;

    /// Reads the vectors of `words` from a file in UTF-8, which may be compressed with gzip or zstd, line by line; memory is used for these words alone.
    ///
    /// A line is a word and its numbers, separated by one space each; spaces at its end and blank lines are ignored. If
    /// the first line is two whole numbers, they are the number of vectors and their dimension, as word2vec and
    /// fastText write them. Otherwise, as in GloVe, the numbers of the first line tell the dimension. In later lines a
    /// word may hold spaces, but if what follows its first space is nothing but numbers, the line has too many of them.
    /// The first vector of a word counts. Of words that are not asked for the numbers are counted and not read.
    ///
    /// # Errors
    /// - [`Error::Malformed`] naming file and line when a line has too many or too few numbers, a number is none or is
    ///   not finite, a line is not UTF-8 or is longer than [`MAX_LINE_BYTES`](Self::MAX_LINE_BYTES), and naming the
    ///   file when it does not hold as many vectors as its first line says;
    /// - [`Error::Empty`] when it holds none;
    /// - [`Error::Io`].
    pub fn read(&self, path: impl AsRef<Path>, words: &[impl AsRef<str>]) -> Result<WordVectors> {
        let path = path.as_ref();
        self.read_from(BufReader::with_capacity(1 << 16, open(path)?), path, words)
    }

    fn read_from(&self, input: impl BufRead, path: &Path, words: &[impl AsRef<str>]) -> Result<WordVectors> {
        let mut lines = BoundedLines::new(input, Self::MAX_LINE_BYTES);
        let mut rows = Rows::of(words, self.lowercase);
        let (mut head, mut in_file) = (None, 0);
        while let Some(line) = lines.next_line().map_err(Error::io(path))? {
            let (number, content) = content_of(line);
            let wrong = |(expected, found): Mismatch| Error::malformed(path, Some(number), expected, found, HINT);
            let content = content.map_err(wrong)?;
            if content.is_empty() {
                continue;
            }
            let Head { dim, .. } = match head {
                Some(head) => head,
                None => {
                    let first: Head = *head.insert(Head::of(content).map_err(wrong)?);
                    if first.promised.is_some() {
                        continue;
                    }
                    first
                }
            };
            in_file += 1;
            let (word, numbers) = split(content, dim).map_err(wrong)?;
            rows.add(word, numbers).map_err(wrong)?;
        }
        let Some(Head { dim, promised }) = head.filter(|_| in_file > 0) else {
            return Err(Error::Empty { path: path.into(), expected: "word vectors".into(), hint: HINT.into() });
        };
        if let Some(promised) = promised.filter(|&promised| promised != in_file) {
            let expected = format!("{promised} vectors, as the first line says");
            let hint = "fetch the file again, or correct its first line if vectors were left out on purpose";
            return Err(Error::malformed(path, None, expected, in_file.to_string(), hint));
        }
        let exact = |word: &str| rows.of_form[word];
        let by_lowercase = |word: &str| self.lowercase.then(|| rows.of_form[&word.to_lowercase()]).flatten();
        let words = || words.iter().map(AsRef::as_ref);
        Ok(WordVectors {
            dim,
            row_of: words().map(|word| exact(word).or_else(|| by_lowercase(word))).collect(),
            by_lowercase: words().filter(|word| exact(word).is_none() && by_lowercase(word).is_some()).count(),
            values: rows.values,
            duplicates: rows.duplicates,
            in_file,
        })
    }
}

impl WordVectors {
    /// The dimension of all vectors; at least 1.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The vector of the word asked for at this place, `[dim]`; nothing if it was not found.
    ///
    /// # Panics
    /// If fewer words were asked for.
    pub fn get(&self, word: usize) -> Option<&[f32]> {
        self.row_of[word].map(|row| &self.values[row * self.dim..][..self.dim])
    }

    /// How many of the words asked for were found.
    pub fn found(&self) -> usize {
        self.row_of.iter().flatten().count()
    }
}

/// What was expected in a line, and what was found.
type Mismatch = (String, String);

type Checked<T> = std::result::Result<T, Mismatch>;

const HINT: &str = "name a whole text file of GloVe, word2vec or fastText, or repair this one";

/// What the first line says.
#[derive(Clone, Copy)]
struct Head {
    dim: usize,
    /// The number of vectors, if the line does nothing but say so.
    promised: Option<usize>,
}

impl Head {
    fn of(line: &str) -> Checked<Self> {
        let (word, rest) =
            line.split_once(' ').ok_or_else(|| ("a word and its vector between spaces".to_owned(), quoted(line)))?;
        if let (Ok(promised), Ok(dim)) = (word.parse(), rest.parse()) {
            let head = Self { dim, promised: Some(promised) };
            return if dim > 0 { Ok(head) } else { Err(("a dimension of at least 1".into(), "0".into())) };
        }
        // A file of something else should not pass because none of its words is asked for.
        let dim = rest.split(' ').try_fold(0, |dim, field| finite(field).map(|_| dim + 1))?;
        Ok(Self { dim, promised: None })
    }
}

/// The rows of the words asked for.
struct Rows {
    /// The row of each form of a word that may be used, once it is found.
    of_form: HashMap<String, Option<usize>>,
    found: usize,
    /// `[found, dim]`
    values: Vec<f32>,
    duplicates: usize,
}

impl Rows {
    fn of(words: &[impl AsRef<str>], lowercase: bool) -> Self {
        let words = words.iter().map(AsRef::as_ref);
        let lower = words.clone().filter(|_| lowercase).map(str::to_lowercase);
        let of_form = words.map(str::to_owned).chain(lower).map(|form| (form, None)).collect();
        Self { of_form, found: 0, values: Vec::new(), duplicates: 0 }
    }

    /// Keeps the vector of a word if it is asked for and the first one.
    fn add(&mut self, word: &str, numbers: &str) -> Checked<()> {
        match self.of_form.get_mut(word) {
            None => {}
            Some(Some(_)) => self.duplicates += 1,
            Some(row) => {
                for field in numbers.split(' ') {
                    self.values.push(finite(field)?);
                }
                *row = Some(self.found);
                self.found += 1;
            }
        }
        Ok(())
    }
}

/// The number of a line, and what it holds without the spaces at its end.
fn content_of(line: Line<'_>) -> (usize, Checked<&str>) {
    match line {
        Line::Text { number, text } => (number, Ok(text.trim_end_matches(' '))),
        Line::TooLong { number, bytes } => {
            let expected = format!("a line of at most {} bytes", WordVectorReader::MAX_LINE_BYTES);
            (number, Err((expected, bytes.to_string())))
        }
        Line::Invalid { number, offset } => {
            (number, Err(("UTF-8 text".into(), format!("an invalid byte at offset {offset} of the line"))))
        }
    }
}

/// The word of a line, and its `dim` numbers with spaces between them.
fn split(line: &str, dim: usize) -> Checked<(&str, &str)> {
    let wrong = || {
        let found = line.matches(' ').count();
        Err((format!("a word and {dim} numbers, as in the first line"), format!("{found} of them")))
    };
    let Some((space, _)) = line.rmatch_indices(' ').nth(dim - 1) else { return wrong() };
    let (word, numbers) = (&line[..space], &line[space + 1..]);
    match word.split_once(' ') {
        Some((_, more)) if more.split(' ').all(|field| finite(field).is_ok()) => wrong(),
        _ => Ok((word, numbers)),
    }
}

fn finite(field: &str) -> Checked<f32> {
    let value = field.parse().ok().filter(|value: &f32| value.is_finite());
    value.ok_or_else(|| ("a finite number".into(), quoted(field)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Folder;

    fn read_with(reader: WordVectorReader, content: impl AsRef<[u8]>, words: &[&str]) -> Result<WordVectors> {
        reader.read_from(content.as_ref(), Path::new("vectors.txt"), words)
    }

    fn read(content: impl AsRef<[u8]>, words: &[&str]) -> Result<WordVectors> {
        read_with(WordVectorReader::default(), content, words)
    }

    fn message(result: Result<WordVectors>) -> String {
        result.unwrap_err().to_string()
    }

    const GLOVE: &str = "the 0.5 -1 2e-1\n, 1 2 3\n. . . 4 5 6\nThe 7 8 9\nparis -0.0 1 1\n";

    #[test]
    fn glove() {
        let vectors = read(GLOVE, &["paris", "nowhere", ",", ". . .", "paris"]).unwrap();
        assert_eq!((vectors.dim(), vectors.in_file, vectors.found()), (3, 5, 4));
        let found: Vec<_> = (0..5).map(|word| vectors.get(word)).collect();
        let paris = Some(&[-0.0, 1.0, 1.0][..]);
        assert_eq!(found, [paris, None, Some(&[1.0, 2.0, 3.0]), Some(&[4.0, 5.0, 6.0]), paris]);
        assert_eq!((vectors.duplicates, vectors.by_lowercase), (0, 0));
    }

    #[test]
    fn fasttext() {
        // fastText ends its lines with a space.
        let content = "\u{FEFF}3 2\r\n</s> 0.5 1 \r\n10 0.25 2 \r\nwell-known 3 4 \r\n";
        let vectors = read(content, &["10", "</s>", "3"]).unwrap();
        assert_eq!((vectors.dim(), vectors.in_file), (2, 3));
        assert_eq!([0, 1, 2].map(|word| vectors.get(word)), [Some(&[0.25, 2.0][..]), Some(&[0.5, 1.0]), None]);
    }

    #[test]
    fn the_exact_form_comes_before_the_lowercase_one() {
        let words = ["The", "Paris", "the", "ÉTÉ", "Nowhere"];
        let content = format!("{GLOVE}été 1 1 1\n");
        let exact = read(&content, &words).unwrap();
        assert_eq!((exact.found(), exact.by_lowercase), (2, 0));
        let vectors = read_with(WordVectorReader { lowercase: true }, &content, &words).unwrap();
        assert_eq!((vectors.found(), vectors.by_lowercase), (4, 2));
        assert_eq!(vectors.get(0), Some(&[7.0, 8.0, 9.0][..]));
        assert_eq!(vectors.get(1), Some(&[-0.0, 1.0, 1.0][..]));
        assert_eq!(vectors.get(3), Some(&[1.0; 3][..]));
        assert_eq!(vectors.get(4), None);
    }

    #[test]
    fn the_first_of_two_vectors_counts() {
        let vectors = read("a 1 2\nb 3 4\na 5 6\na x 7\nb 8 9\nc 0 0\nc 1 1\n", &["a", "b"]).unwrap();
        assert_eq!((vectors.duplicates, vectors.in_file), (3, 7));
        assert_eq!((vectors.get(0), vectors.get(1)), (Some(&[1.0, 2.0][..]), Some(&[3.0, 4.0][..])));
    }

    #[test]
    fn what_is_wrong_is_named_by_line() {
        let cases: [(&[u8], &str); 17] = [
            (b"a 1 2\nb 3\n", "vectors.txt:2: expected a word and 2 numbers, as in the first line, found 1 of them"),
            (b"a 1 2\nb\n", "vectors.txt:2: expected a word and 2 numbers, as in the first line, found 0 of them"),
            (
                b"a 1 2\n\nb 3 4 5\n",
                "vectors.txt:3: expected a word and 2 numbers, as in the first line, found 3 of them",
            ),
            (b"2 2\na 1 2 3\n", "vectors.txt:2: expected a word and 2 numbers"),
            (b"a 1 2\nb 3 x\n", "vectors.txt:2: expected a finite number, found \"x\"; name a whole text file"),
            (b"a 1 2\nb 3  4\n", "vectors.txt:2: expected a word and 2 numbers, as in the first line, found 3 of them"),
            (b"1 2\nb  3\n", "vectors.txt:2: expected a finite number, found \"\""),
            (b"a 1 2\nb nan 4\n", "vectors.txt:2: expected a finite number, found \"nan\""),
            (b"a 1 2\nb 1e39 4\n", "vectors.txt:2: expected a finite number, found \"1e39\""),
            (b"a 1 2\nb -inf 4\n", "vectors.txt:2: expected a finite number, found \"-inf\""),
            (b"not wanted 1 2\n", "vectors.txt:1: expected a finite number, found \"wanted\""),
            (b"a\nb\n", "vectors.txt:1: expected a word and its vector between spaces, found \"a\""),
            (b"7 0\n", "vectors.txt:1: expected a dimension of at least 1, found 0"),
            (
                b"3 2\na 1 2\nb 1 2\n",
                "vectors.txt: expected 3 vectors, as the first line says, found 2; fetch the file again",
            ),
            (b"1 2\na 1 2\nb 1 2\n", "vectors.txt: expected 1 vectors, as the first line says, found 2"),
            (
                b"a 1 2\nb\xFF 3 4\n",
                "vectors.txt:2: expected UTF-8 text, found an invalid byte at offset 1 of the line",
            ),
            (b"\n \n", "vectors.txt: expected word vectors, found nothing"),
        ];
        for (content, expected) in cases {
            let error = message(read(content, &["a", "b"]));
            assert!(error.contains(expected), "{error}");
        }
        let long = format!("a 1 2\nb 3 {}\n", "0".repeat(WordVectorReader::MAX_LINE_BYTES));
        assert!(message(read(long, &[])).contains("vectors.txt:2: expected a line of at most 1048576 bytes"));
        assert!(message(read("0 5\n", &[])).contains("expected word vectors, found nothing"));
        assert!(
            message(read("1 18446744073709551615\na 1 2\n", &[])).contains("expected a word and 18446744073709551615")
        );
        // Nobody asks for this word.
        assert_eq!(read("a 1 2\nb 3 x\n", &["a"]).unwrap().found(), 1);
    }

    #[test]
    fn files() {
        let folder = Folder::new(&[("glove.txt", GLOVE.as_bytes())]);
        let vectors = WordVectorReader::default().read(folder.join("glove.txt"), &["the".to_owned()]).unwrap();
        assert_eq!(vectors.get(0), Some(&[0.5, -1.0, 0.2][..]));
        let missing = WordVectorReader::default().read(folder.join("missing"), &["the"]);
        assert!(matches!(missing, Err(Error::Io { .. })));
    }

    proptest! {
        #[test]
        fn what_was_written_comes_back(
            vectors in prop::collection::vec(("[a-cA-C]{1,2}( [a-c.])?", prop::array::uniform3(-1e30f32..1e30)), 1..20),
            words in prop::collection::vec("[a-cA-C]{1,2}( [a-c.])?", 0..10),
            header in any::<bool>(),
            lowercase in any::<bool>(),
        ) {
            // In the first line of a file without a header a space would divide the word from its numbers.
            let name = |index: usize, word: &str| if index == 0 { word.replace(' ', "_") } else { word.to_owned() };
            let vectors: Vec<_> = vectors.iter().enumerate().map(|(index, (word, v))| (name(index, word), v)).collect();
            let mut content = if header { format!("{} 3\n", vectors.len()) } else { String::new() };
            for (word, [a, b, c]) in &vectors {
                content += &format!("{word} {a} {b:e} {c}\n");
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let read = read_with(WordVectorReader { lowercase }, content, &words).unwrap();
            prop_assert_eq!(read.in_file, vectors.len());
            let first = |wanted: &str| vectors.iter().find(|(word, _)| word == wanted).map(|(_, vector)| &vector[..]);
            for (place, word) in words.iter().enumerate() {
                let expected = first(word).or_else(|| first(&word.to_lowercase()).filter(|_| lowercase));
                prop_assert_eq!(read.get(place), expected, "{}", word);
            }
        }

        #[test]
        fn no_content_makes_the_reader_panic(
            content in "[a-b0-9 .e\n-]{0,60}",
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            for content in [content.as_bytes(), &bytes] {
                if let Ok(vectors) = read_with(WordVectorReader { lowercase: true }, content, &["a", "B", ""]) {
                    let found = (0..3).filter_map(|word| vectors.get(word));
                    prop_assert!(found.flatten().all(|value| value.is_finite()));
                }
            }
        }
    }
}
