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
    /// The endings of the files below it, as [`Glimpse::ending`]; `""` stands for names without one. Files about the others, such
    /// as `README.md` or `LICENSE`, do not count.
    pub endings: BTreeSet<String>,
    /// Whether it has nothing but folders, and files about them.
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
        let data = files.iter().filter(|file| !is_about_others(file));
        let endings = data.map(|file| ending(file).unwrap_or_default()).collect();
        let of_folders = entries.iter().all(|entry| entry.is_dir() || is_about_others(entry));
        let folder = FolderGlimpse { endings, of_folders };
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

    /// Whether it is a folder in which all files, at least one, end in one of `endings`.
    pub fn is_folder_of(&self, endings: &[&str]) -> bool {
        let all = |folder: &FolderGlimpse| folder.endings.iter().all(|ending| endings.contains(&ending.as_str()));
        self.folder.as_ref().is_some_and(|folder| !folder.endings.is_empty() && all(folder))
    }

    /// Whether it is a folder in which no file ends in one of `endings`, and at least one in something else.
    pub fn is_folder_without(&self, endings: &[&str]) -> bool {
        let none = |folder: &FolderGlimpse| !folder.endings.iter().any(|ending| endings.contains(&ending.as_str()));
        self.folder.as_ref().is_some_and(|folder| !folder.endings.is_empty() && none(folder))
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
                let with: Vec<String> = folder
                    .endings
                    .iter()
                    .filter(|ending| !ending.is_empty())
                    .map(|ending| format!(".{ending}"))
                    .collect();
                let without = folder.endings.contains("").then_some("have no ending");
                let with = (!with.is_empty()).then(|| format!("end in {}", with.join(", ")));
                let names: Vec<&str> = with.as_deref().into_iter().chain(without).collect();
                format!("a folder with files whose names {}", names.join(" or "))
            }
            (_, _, Some(ending)) => format!("a file that ends in .{ending}"),
            _ => "a file".to_owned(),
        }
    }
}

/// Whether a file by its name tells about the others beside it, and is no data.
fn is_about_others(path: &Path) -> bool {
    const NAMES: [&str; 8] = ["readme", "license", "licence", "copying", "notice", "authors", "changelog", "source"];
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    NAMES.iter().any(|name| stem.eq_ignore_ascii_case(name)) && !path.is_dir()
}
