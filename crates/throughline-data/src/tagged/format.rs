//! The forms in which tagged sentences are commonly kept, and how they are told apart.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, quoted, quoted_list};

/// How sentences are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TaggedFormat {
    /// CoNLL-U (<https://universaldependencies.org/format.html>): a word on each line in [ten columns](Self::CONLLU)
    /// between tabs, lines of comments that begin with `#`, a blank line after each sentence. The words of a sentence
    /// are numbered; lines of multiword tokens (`1-2`) and of empty nodes (`1.1`) are left out.
    Conllu,
    /// A word on each line in any number of columns, a blank line after each sentence, as in the data of CoNLL-2003.
    /// Columns are between tabs if the line has one, and between spaces otherwise. Lines that begin with `-DOCSTART-`
    /// are left out.
    Columns,
    /// A sentence on each line, its words between white space; there are no tags.
    Lines,
}

impl TaggedFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Conllu, Self::Columns, Self::Lines];

    /// The names of the columns of CoNLL-U.
    pub const CONLLU: [&str; 10] = ["ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC"];

    /// `conllu`, `columns` or `lines`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conllu => "conllu",
            Self::Columns => "columns",
            Self::Lines => "lines",
        }
    }

    /// The format that a cleaned text has by its first line that is neither blank nor begins with `#`: CoNLL-U if it
    /// begins a sentence in ten columns, columns if it has a tab or begins a document. Otherwise it does not tell.
    pub(crate) fn detect(content: &str) -> Option<Self> {
        let line = content.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'))?;
        if begins_conllu(line) {
            Some(Self::Conllu)
        } else {
            (line.contains('\t') || begins_document(line)).then_some(Self::Columns)
        }
    }
}

impl fmt::Display for TaggedFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TaggedFormat {
    type Err = Error;

    /// # Errors
    /// [`Error::Setting`] for anything but a [`name`](TaggedFormat::name).
    fn from_str(name: &str) -> Result<Self> {
        let format = Self::ALL.into_iter().find(|format| format.name() == name);
        format.ok_or_else(|| Error::setting("format", quoted_list(Self::ALL.map(Self::name)), quoted(name)))
    }
}

/// Whether a line of a column file only says that a document begins.
pub(super) fn begins_document(line: &str) -> bool {
    line.split(['\t', ' ']).next() == Some("-DOCSTART-")
}

fn begins_conllu(line: &str) -> bool {
    let fields: Vec<&str> = line.split('\t').collect();
    let &[id, _, _, _, _, _, head, ..] = &fields[..] else { return false };
    let first = match Id::parse(id) {
        Some(Id::Word(number) | Id::Multiword(number)) => number == 1,
        Some(Id::Empty(number)) => number == 0,
        None => false,
    };
    first && fields.len() == TaggedFormat::CONLLU.len() && (head == "_" || head.parse::<u32>().is_ok())
}

/// The first column of CoNLL-U.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    /// A word and its number, from 1.
    Word(usize),
    /// Several words written as one, and the number of the first of them.
    Multiword(usize),
    /// A word that was left out, and the number of the word before it.
    Empty(usize),
}

impl Id {
    pub(super) fn parse(text: &str) -> Option<Self> {
        // A sign would be taken for part of the number.
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some((first, last)) = text.split_once('-') {
            let (first, last): (usize, usize) = (number(first)?, number(last)?);
            return (0 < first && first <= last).then_some(Self::Multiword(first));
        }
        if let Some((before, place)) = text.split_once('.') {
            return number(place).filter(|&place| place > 0).and(number(before)).map(Self::Empty);
        }
        number(text).filter(|&word| word > 0).map(Self::Word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        let cases = [
            ("1", Some(Id::Word(1))),
            ("12", Some(Id::Word(12))),
            ("1-2", Some(Id::Multiword(1))),
            ("10-12", Some(Id::Multiword(10))),
            ("3-3", Some(Id::Multiword(3))),
            ("0.1", Some(Id::Empty(0))),
            ("8.2", Some(Id::Empty(8))),
        ];
        cases.iter().for_each(|&(text, id)| assert_eq!(Id::parse(text), id, "{text}"));
        for text in ["", "0", "+1", "-1", "2-1", "0-2", "1-", "1.", "1.0", ".1", "1.1.1", "1-2-3", "a", "1 ", "_"] {
            assert_eq!(Id::parse(text), None, "{text:?}");
        }
        assert_eq!(Id::parse("99999999999999999999999"), None);
    }

    #[test]
    fn what_leaves_no_doubt_is_detected() {
        let conllu = "1\tGo\tgo\tVERB\tVB\t_\t0\troot\t_\t_";
        let cases = [
            (conllu.to_owned(), Some(TaggedFormat::Conllu)),
            (format!("\n# sent_id = 1\n# text = Go\n{conllu}\n"), Some(TaggedFormat::Conllu)),
            (conllu.replacen('1', "1-2", 1).replace("\t0\t", "\t_\t"), Some(TaggedFormat::Conllu)),
            (conllu.replacen('1', "0.1", 1), Some(TaggedFormat::Conllu)),
            // Something else in ten columns.
            (conllu.replacen('1', "2", 1), Some(TaggedFormat::Columns)),
            (conllu.replace("\t0\t", "\tup\t"), Some(TaggedFormat::Columns)),
            (format!("{conllu}\tO"), Some(TaggedFormat::Columns)),
            (conllu.replace('\t', " "), None),
            ("Go\tO".into(), Some(TaggedFormat::Columns)),
            ("#hashtag\tO\nGo\tO".into(), Some(TaggedFormat::Columns)),
            ("-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\n".into(), Some(TaggedFormat::Columns)),
            ("EU NNP I-NP I-ORG\n".into(), None),
            ("-DOCSTART-X\n".into(), None),
            ("\n\n".into(), None),
        ];
        for (content, format) in cases {
            assert_eq!(TaggedFormat::detect(&content), format, "{content:?}");
        }
    }

    #[test]
    fn formats_have_names() {
        for format in TaggedFormat::ALL {
            assert_eq!(format.to_string().parse::<TaggedFormat>().unwrap(), format);
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
        }
        assert!(matches!("xml".parse::<TaggedFormat>(), Err(Error::Setting { key: "format", .. })));
    }
}
