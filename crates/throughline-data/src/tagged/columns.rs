//! Which columns of a file hold the words and their tags.

use std::path::Path;

use crate::error::{Error, Result, quoted, quoted_list};

/// A column as it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column<'a> {
    /// From 1, or backwards from -1, the last column. Never 0.
    Number(isize),
    /// The name in the header.
    Name(&'a str),
}

impl<'a> Column<'a> {
    /// What is given for the setting `key`: a whole number, or a name.
    pub(super) fn parse(key: &'static str, given: &'a str) -> Result<Self> {
        match given.parse() {
            Ok(0) => Err(Error::setting(key, "the name of a column, or its number from 1 or from -1 backwards", "0")),
            Ok(number) => Ok(Self::Number(number)),
            Err(_) => Ok(Self::Name(given)),
        }
    }

    pub(super) fn is_name(self) -> bool {
        matches!(self, Self::Name(_))
    }
}

/// The columns wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns<'a> {
    pub(super) word: Column<'a>,
    /// Not wanted where words are read alone.
    pub(super) tag: Option<Column<'a>>,
}

impl Columns<'_> {
    /// Whether the first line that is not blank names the columns.
    pub(super) fn need_header(&self) -> bool {
        self.word.is_name() || self.tag.is_some_and(Column::is_name)
    }
}

/// The columns of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// How many there are.
    pub(super) width: usize,
    /// The places, from 0, of words and tags.
    pub(super) word: usize,
    pub(super) tag: Option<usize>,
}

impl Layout {
    /// The layout of a file by its first line, which is a header if the columns wanted need one.
    pub(super) fn new(columns: &Columns, first: &[&str], path: &Path, line: Option<usize>) -> Result<Self> {
        let place = |column: Column| {
            place(column, first).map_err(|(expected, found)| {
                let hint =
                    "give word_column and tag_column: numbers from 1 or from -1 backwards, or names in the header";
                Error::malformed(path, line, expected, found, hint)
            })
        };
        let word = place(columns.word)?;
        let tag = columns.tag.map(place).transpose()?;
        if tag == Some(word) {
            let found = format!("column {} of {} for both", word + 1, first.len());
            let hint = "give a file with tags, or word_column and tag_column";
            return Err(Error::malformed(path, line, "a column of words and one of tags", found, hint));
        }
        Ok(Self { width: first.len(), word, tag })
    }
}

/// The place of a column among those of the first line; or what was expected and found.
fn place(column: Column, first: &[&str]) -> std::result::Result<usize, (String, String)> {
    let width = first.len();
    match column {
        Column::Number(number) => {
            let distance = number.unsigned_abs();
            let place = if number > 0 { Some(distance - 1) } else { width.checked_sub(distance) };
            let missing = || (format!("a column number {number}"), format!("{width} columns"));
            place.filter(|&place| place < width).ok_or_else(missing)
        }
        Column::Name(name) => {
            let mut places = first.iter().enumerate().filter(|(_, column)| **column == name).map(|(place, _)| place);
            match (places.next(), places.next()) {
                (Some(place), None) => Ok(place),
                (first_place, _) => {
                    let found = if first_place.is_some() { "more than one in " } else { "the columns " };
                    let names = quoted_list(first.iter().copied());
                    Err((format!("one column named {}", quoted(name)), format!("{found}{names}")))
                }
            }
        }
    }
}

/// The fields of a line of a column file: between tabs if it has one, otherwise between spaces.
pub(super) fn split<'a>(line: &'a str, fields: &mut Vec<&'a str>) {
    fields.clear();
    if line.contains('\t') {
        fields.extend(line.split('\t').map(str::trim));
    } else {
        fields.extend(line.split(' ').filter(|field| !field.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(word: &str, tag: &str, first: &[&str]) -> Result<Layout> {
        let columns =
            Columns { word: Column::parse("word_column", word)?, tag: Some(Column::parse("tag_column", tag)?) };
        Layout::new(&columns, first, Path::new("a.conll"), Some(3))
    }

    #[test]
    fn columns_by_number_and_name() {
        let first = ["id", "word", "ner"];
        for (word, tag, places) in
            [("2", "3", (1, 2)), ("-2", "-1", (1, 2)), ("word", "ner", (1, 2)), ("2", "id", (1, 0))]
        {
            let expected = Layout { width: 3, word: places.0, tag: Some(places.1) };
            assert_eq!(layout(word, tag, &first).unwrap(), expected, "{word} {tag}");
        }
    }

    #[test]
    fn columns_that_are_not_there() {
        let cases = [
            ("1", "4", "a.conll:3: expected a column number 4, found 3 columns; give word_column"),
            ("-4", "1", "expected a column number -4, found 3 columns"),
            ("1", "-9223372036854775808", "found 3 columns"),
            ("1", "pos", "expected one column named \"pos\", found the columns \"id\", \"word\", \"word\""),
            ("word", "id", "expected one column named \"word\", found more than one in \"id\", \"word\", \"word\""),
            ("3", "-1", "a.conll:3: expected a column of words and one of tags, found column 3 of 3 for both"),
        ];
        for (word, tag, message) in cases {
            let error = layout(word, tag, &["id", "word", "word"]).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let error = layout("1", "-1", &["word"]).unwrap_err().to_string();
        assert!(error.contains("found column 1 of 1 for both; give a file with tags"), "{error}");
        assert!(matches!(layout("0", "1", &["a", "b"]), Err(Error::Setting { key: "word_column", .. })));
        assert!(matches!(layout("1", "-0", &["a", "b"]), Err(Error::Setting { key: "tag_column", .. })));
    }

    #[test]
    fn fields_of_a_line() {
        let cases: [(&str, &[&str]); 6] = [
            ("EU NNP B-NP B-ORG", &["EU", "NNP", "B-NP", "B-ORG"]),
            ("  EU   O ", &["EU", "O"]),
            ("New York\tB-LOC", &["New York", "B-LOC"]),
            ("New York\t B-LOC ", &["New York", "B-LOC"]),
            ("a\t\tO\t", &["a", "", "O", ""]),
            ("non\u{A0}breaking O", &["non\u{A0}breaking", "O"]),
        ];
        let mut fields = Vec::new();
        for (line, expected) in cases {
            split(line, &mut fields);
            assert_eq!(fields, expected, "{line:?}");
        }
    }
}
