//! Where a model's files come from: a folder, or memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The files of a model by name.
#[derive(Clone, Debug)]
pub enum Files {
    /// In a folder.
    Folder(PathBuf),
    /// In memory.
    Memory(BTreeMap<String, Vec<u8>>),
}

impl Files {
    /// The bytes of the file `name`, of which there may be `limit` at most.
    ///
    /// # Errors
    /// If there is no such file, or it is larger; nothing larger than `limit` is ever in memory.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        match self {
            Self::Folder(folder) => read_at_most(&folder.join(name), limit),
            Self::Memory(files) => match files.get(name) {
                Some(bytes) if bytes.len() as u64 <= limit => Ok(bytes.clone()),
                Some(bytes) => Err(Error::model(name, "size", format_args!("at most {limit} bytes"), bytes.len())),
                None => {
                    let names: Vec<&str> = files.keys().map(String::as_str).collect();
                    Err(Error::model(name, "file", "its bytes", format_args!("only {names:?}")))
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

    /// The file as messages name it.
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::Memory(_) => name.to_owned(),
        }
    }
}

/// Reads the file at `path`, which may have at most `limit` bytes.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Model`] when it is larger; nothing larger than `limit` is ever in memory.
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
