//! The labels of a set while it is being read: those given, or those found.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result, quoted, quoted_list};
use crate::labelled::LabelledSet;

/// Labels and their indices.
pub(crate) struct Labels {
    /// In the order in which they were given or found.
    names: Vec<String>,
    index_of: HashMap<String, u32>,
    /// Whether they were given, so that no other is allowed.
    given: bool,
}

impl Labels {
    pub(crate) fn new(given: Option<&[String]>) -> Result<Self> {
        let names = given.unwrap_or_default().to_vec();
        let index_of: HashMap<String, u32> = names.iter().cloned().zip(0..).collect();
        if index_of.len() < names.len() || names.len() > LabelledSet::MAX_CLASSES {
            let expected = format!("each label once, at most {}", LabelledSet::MAX_CLASSES);
            return Err(Error::setting("labels", expected, quoted_list(names.iter().map(String::as_str))));
        }
        Ok(Self { names, index_of, given: given.is_some() })
    }

    /// The index of `label`, which was found in this line of the file.
    pub(crate) fn index(&mut self, label: &str, path: &Path, line: usize) -> Result<u32> {
        if let Some(&index) = self.index_of.get(label) {
            return Ok(index);
        }
        if self.given {
            let known = quoted_list(self.names.iter().map(String::as_str));
            return Err(Error::UnknownLabel { path: path.into(), line, label: quoted(label), known });
        }
        if label.is_empty() {
            return Err(Error::malformed(path, Some(line), "a label", "none", "add the label or remove the example"));
        }
        if self.names.len() == LabelledSet::MAX_CLASSES {
            let expected = format!("at most {} different labels", LabelledSet::MAX_CLASSES);
            let hint = "check which column or word is the label";
            return Err(Error::malformed(path, Some(line), expected, "another one", hint));
        }
        let index = self.names.len() as u32;
        self.names.push(label.into());
        self.index_of.insert(label.into(), index);
        Ok(index)
    }

    /// The names, sorted unless they were given. `indices` are brought into their order. `path` is where to look for
    /// more names if there is one alone.
    pub(crate) fn finish<'a>(self, path: &Path, indices: impl IntoIterator<Item = &'a mut u32>) -> Result<Vec<String>> {
        let Self { mut names, index_of, given } = self;
        if given {
            return Ok(names);
        }
        if let [only] = &names[..] {
            let found = format!("only {}", quoted(only));
            return Err(Error::malformed(path, None, "at least two classes", found, "add examples of another class"));
        }
        names.sort();
        let mut place_of = vec![0; names.len()];
        for (name, place) in names.iter().zip(0u32..) {
            place_of[index_of[name] as usize] = place;
        }
        indices.into_iter().for_each(|index| *index = place_of[*index as usize]);
        Ok(names)
    }
}
