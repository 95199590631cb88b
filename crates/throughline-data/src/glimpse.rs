//! What a file or folder looks like before it is read, to tell what it may be for.

use std::collections::BTreeSet;
use std::path::Path;

use crate::compressed::{beginning, ending};
use crate::error::{Error, Result, quoted_list};
use crate::folder::{entries, files_below};
use crate::format::Format;
use crate::table::{Table, TableFormat};
use crate::tagged::format::TaggedFormat;
use crate::text::TextReader;

/// Bytes of a file that are looked at.
const BYTES: u64 = 64 << 10;

/// A look at a file or folder. Of what can be read only once, such as a pipe, it shows nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Glimpse {
    /// The ending of its name in lower case, without that of a compression.
    pub ending: Option<String>,
    /// The names of the columns of a table.
    pub columns: Option<Vec<String>>,
    /// The first 64 KiB of a file that is no table, decompressed; bytes that are not UTF-8 are replaced.
    pub beginning: String,
    /// The format of the tagged sentences that it begins with, as far as that is plain.
    pub tagged: Option<TaggedFormat>,
    /// The format of labelled texts that are no table, as far as that is plain.
    pub labelled: Option<Format>,
    /// What is in a folder.
    pub folder: Option<FolderGlimpse>,
}

/// What is in a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct FolderGlimpse {
    /// The endings of the files below it, as [`Glimpse::ending`]; `""` stands for names without one.
    pub endings: BTreeSet<String>,
    /// Whether it has nothing but folders.
    pub of_folders: bool,
}

impl Glimpse {
    /// Looks at `path`; of a table the header is decoded by `reader`.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Malformed`] for a table whose header cannot be read.
    pub fn of(path: &Path, reader: &TextReader) -> Result<Self> {
        let glimpse = Self { ending: ending(path), ..Self::default() };
        let metadata = path.metadata().map_err(Error::io(path))?;
        if metadata.is_dir() {
            return Self::of_folder(path);
        }
        if !metadata.is_file() {
            return Ok(glimpse);
        }
        if let Some(format) = TableFormat::of(path) {
            let table = Table::open(path, format, reader)?;
            return Ok(Self { columns: Some(table.header().to_vec()), ..glimpse });
        }
        let beginning = String::from_utf8_lossy(&beginning(path, BYTES)?).into_owned();
        let tagged = TaggedFormat::detect(&beginning);
        Ok(Self { beginning, tagged, labelled: Format::detect(path).ok(), ..glimpse })
    }

    fn of_folder(path: &Path) -> Result<Self> {
        let (entries, _) = entries(path)?;
        let (files, _) = files_below(path)?;
        let endings = files.iter().map(|file| ending(file).unwrap_or_default()).collect();
        let folder = FolderGlimpse { endings, of_folders: entries.iter().all(|entry| entry.is_dir()) };
        Ok(Self { folder: Some(folder), ..Self::default() })
    }

    /// Whether it is a table with all these columns.
    pub fn has_columns(&self, names: &[&str]) -> bool {
        let has = |name: &&str| self.columns.iter().flatten().any(|column| column.trim() == *name);
        self.columns.is_some() && names.iter().all(has)
    }

    /// Whether it is a file whose name ends in one of `endings`.
    pub fn ends_in(&self, endings: &[&str]) -> bool {
        self.folder.is_none() && self.ending.as_deref().is_some_and(|ending| endings.contains(&ending))
    }

    /// Whether it is a folder in which some files end in one of `endings` and none in anything else. Names without an ending,
    /// such as `LICENSE`, do not count unless `endings` has `""`.
    pub fn is_folder_of(&self, endings: &[&str]) -> bool {
        let is_one = |ending: &String| endings.contains(&ending.as_str());
        self.folder.as_ref().is_some_and(|FolderGlimpse { endings, .. }| {
            endings.iter().any(is_one) && endings.iter().all(|ending| ending.is_empty() || is_one(ending))
        })
    }

    /// The same with other names for those columns of a table that `name_of` gives one.
    pub fn renamed<'n>(&self, name_of: impl Fn(&str) -> Option<&'n str>) -> Self {
        let mut renamed = self.clone();
        for column in renamed.columns.iter_mut().flatten() {
            if let Some(name) = name_of(column.trim()) {
                name.clone_into(column);
            }
        }
        renamed
    }

    /// What it is, in words.
    pub fn in_words(&self) -> String {
        match (&self.columns, &self.folder, &self.ending) {
            (Some(columns), _, _) => {
                format!("a table with the columns {}", quoted_list(columns.iter().map(AsRef::as_ref)))
            }
            (_, Some(folder), _) if folder.endings.is_empty() => "a folder without files".to_owned(),
            (_, Some(folder), _) => {
                let shown =
                    |ending: &String| if ending.is_empty() { "nothing".to_owned() } else { format!(".{ending}") };
                let endings: Vec<String> = folder.endings.iter().map(shown).collect();
                format!("a folder with files whose names end in {}", endings.join(", "))
            }
            (_, _, Some(ending)) => format!("a file that ends in .{ending}"),
            _ => "a file".to_owned(),
        }
    }
}
