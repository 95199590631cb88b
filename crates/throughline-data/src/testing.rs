//! A temporary folder of small files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::folder::{SkipReason, Skipped};

pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A fresh folder with these files in it.
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("throughline-data-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir(folder.path()).unwrap();
        for (name, bytes) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// An entry of the folder that was skipped.
    pub(crate) fn skipped(&self, name: &str, reason: SkipReason) -> Skipped {
        Skipped { path: self.join(name), reason }
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
