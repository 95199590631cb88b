//! The files of a model, in a folder or in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The files of a model.
#[derive(Clone, Debug)]
pub enum Files {
    /// In a folder.
    Folder(PathBuf),
    /// In memory, by name.
    Memory(BTreeMap<String, Vec<u8>>),
}

impl Files {
    /// The bytes of the file `name`, at most `limit`.
    ///
    /// # Errors
    /// If there is no such file, it cannot be read, or it is larger. No more than `limit` bytes are read.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        match self {
            Self::Folder(folder) => read_at_most(&folder.join(name), limit),
            Self::Memory(files) => match files.get(name) {
                Some(bytes) if bytes.len() as u64 <= limit => Ok(bytes.clone()),
                Some(bytes) => Err(Error::model(name, "size", format_args!("at most {limit} bytes"), bytes.len())),
                None => {
                    let names: Vec<&str> = files.keys().map(String::as_str).collect();
                    Err(Error::model(name, "file", "a file of this name", format_args!("only {}", names.join(", "))))
                }
            },
        }
    }

    /// The text of the file `name`.
    ///
    /// # Errors
    /// As [`read`](Self::read), and if it is not UTF-8.
    pub fn read_text(&self, name: &str, limit: u64) -> Result<String> {
        String::from_utf8(self.read(name, limit)?)
            .map_err(|error| Error::model(&self.place(name), "text", "UTF-8", error))
    }

    /// The file `name` as messages show it: its path in a folder, or its name.
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::Memory(_) => name.to_owned(),
        }
    }
}

/// The bytes of the file at `path`, at most `limit`.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Model`] if it is larger. No more than `limit` bytes are kept in memory.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |action| move |source| Error::Io { path: path.to_path_buf(), action, source };
    let file = File::open(path).map_err(io("open"))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io("read"))?;
    if bytes.len() as u64 > limit {
        return Err(Error::model(&path.display().to_string(), "size", format_args!("at most {limit} bytes"), "more"));
    }
    Ok(bytes)
}
