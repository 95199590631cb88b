//! The folder that keeps all of one run.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Longest name of a run, in bytes.
const LONGEST_NAME: usize = 100;

/// What [`is_name`] asks for.
pub(crate) const NAME_RULE: &str = "1 to 100 bytes of letters, digits, `-`, `_` and `.`, beginning with a letter, a digit or `_`, not ending with `.`, \
     and not a name that Windows keeps for a device, such as `con` or `com1.txt`";

/// Names that Windows keeps for devices, with any extension and in any case; COM and LPT are followed by a digit, of which
/// it counts three superscript ones (Naming Files, Paths, and Namespaces, Microsoft).
const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];

/// Whether Windows takes `name` for a device.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_uppercase();
    let numbered = |device: &&str| {
        let mut rest = stem.strip_prefix(*device).unwrap_or_default().chars();
        let digit = rest.next().is_some_and(|digit| digit.is_ascii_digit() || "¹²³".contains(digit));
        digit && rest.next().is_none()
    };
    DEVICES.contains(&stem.as_str()) || NUMBERED_DEVICES.iter().any(numbered)
}

/// Whether `name` can name a run folder on every system: one plain component of a path, not hidden, not an option.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_alphanumeric() || first == '_')
        && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
        && !name.ends_with('.')
        && !is_device(name)
}

/// The folder of one run, with everything that is needed to go on with it or to use its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder `runs_dir/name`, and `runs_dir` where it is missing.
    ///
    /// # Errors
    /// [`Error::File`] for a name that cannot be a folder and where the run exists: no run is ever overwritten.
    /// [`Error::Io`] where the folder cannot be made.
    pub fn create(runs_dir: &Path, name: &str) -> Result<Self> {
        Self::create_if_free(runs_dir, name)?.ok_or_else(|| {
            let path = runs_dir.join(name);
            Error::file(&path, "new run", "a name that is free; use another, or --resume this run", "a run")
        })
    }

    /// Makes the folder `runs_dir/prefix-N` with the first free number `N`, from 1.
    ///
    /// # Errors
    /// As [`RunFolder::create`].
    pub fn create_numbered(runs_dir: &Path, prefix: &str) -> Result<Self> {
        let mut number = 1_u64;
        loop {
            if let Some(run) = Self::create_if_free(runs_dir, &format!("{prefix}-{number}"))? {
                return Ok(run);
            }
            number += 1;
        }
    }

    /// `None` where the name is taken.
    fn create_if_free(runs_dir: &Path, name: &str) -> Result<Option<Self>> {
        if !is_name(name) {
            return Err(Error::file(runs_dir, "name of a run", NAME_RULE, format_args!("{name:?}")));
        }
        let path = runs_dir.join(name);
        fs::create_dir_all(runs_dir).map_err(Error::io(runs_dir, "create"))?;
        match fs::create_dir(&path) {
            Ok(()) => Ok(Some(Self { path })),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(Error::io(&path, "create")(error)),
        }
    }

    /// Opens the folder of a run, given by its path or by its name under `runs_dir`.
    ///
    /// # Errors
    /// [`Error::File`] where neither is a folder with a `config.toml`.
    pub fn open(runs_dir: &Path, run: &Path) -> Result<Self> {
        let candidates = [run.to_path_buf(), runs_dir.join(run)];
        let found = candidates.into_iter().map(|path| Self { path }).find(|run| run.config_toml().is_file());
        found.ok_or_else(|| {
            let expected = format!("the path of a run folder, or the name of one in {}", runs_dir.display());
            Error::file(run, "run", expected, "no config.toml there")
        })
    }

    /// Takes the run for this process until the lock is dropped, so that no two trainers write to it.
    ///
    /// # Errors
    /// [`Error::File`] where another process holds it, [`Error::Io`] where locking fails.
    pub fn lock(&self) -> Result<RunLock> {
        let path = self.path.join(".lock");
        let file = File::create(&path).map_err(Error::io(&path, "create"))?;
        match file.try_lock() {
            Ok(()) => Ok(RunLock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::file(&self.path, "run", "a run that nothing is training", "a process that trains it"))
            }
            Err(TryLockError::Error(error)) => Err(Error::io(&path, "lock")(error)),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved recipe.
    pub fn config_toml(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The network's sizes, for programs that load the model.
    pub fn config_json(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// The best parameters on the validation part: lowest loss (`lm`) or fewest errors (`classify`).
    pub fn model(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// The units that the model knows.
    pub fn vocabulary(&self) -> PathBuf {
        self.path.join("vocabulary.json")
    }

    /// The classes of a classifier.
    pub fn labels(&self) -> PathBuf {
        self.path.join("labels.json")
    }

    /// The last checkpoint, from which the run can be resumed.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// What was measured during the run.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The model card.
    pub fn card(&self) -> PathBuf {
        self.path.join("README.md")
    }
}

/// A run taken by this process; the operating system frees it also after a crash.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestFolder;

    #[test]
    fn names_are_plain_components() {
        for name in ["lm-1", "Näme_2.x", "7", "_a", "console", "com", "com10", "lpt-1", "xcon", "null.con"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["con", "Con.toml", "PRN", "aux.a.b", "NUL", "com0", "COM9.txt", "lpt1", "LPT³", "a.", "run.."] {
            assert!(!is_name(name), "{name}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for name in ["", ".", "..", "a/b", "a\\b", "-rf", ".hidden", "a b", "a:b", "a\n", "a\0", &long] {
            assert!(!is_name(name), "{name:?}");
            assert!(matches!(RunFolder::create(Path::new("never-made"), name), Err(Error::File { .. })), "{name:?}");
        }
        assert!(!Path::new("never-made").exists());
    }

    #[test]
    fn a_run_is_never_overwritten() {
        let folder = TestFolder::new();
        let runs = folder.join("deep/runs");
        let run = RunFolder::create(&runs, "one").unwrap();
        assert_eq!(run.path(), runs.join("one"));
        let error = RunFolder::create(&runs, "one").unwrap_err().to_string();
        assert!(error.contains("--resume") && error.contains("one"), "{error}");
    }

    #[test]
    fn numbered_runs_take_the_first_free_number() {
        let folder = TestFolder::new();
        RunFolder::create(&folder, "lm-2").unwrap();
        for expected in ["lm-1", "lm-3"] {
            assert_eq!(RunFolder::create_numbered(&folder, "lm").unwrap().path(), folder.join(expected));
        }
        assert!(matches!(RunFolder::create_numbered(&folder, "../lm"), Err(Error::File { .. })));
    }

    #[test]
    fn a_run_opens_by_path_and_by_name() {
        let folder = TestFolder::new();
        let run = RunFolder::create(&folder, "one").unwrap();
        assert!(matches!(RunFolder::open(&folder, Path::new("one")), Err(Error::File { .. })), "no config.toml yet");
        fs::write(run.config_toml(), "").unwrap();
        assert_eq!(RunFolder::open(&folder, Path::new("one")).unwrap(), run);
        assert_eq!(RunFolder::open(Path::new("elsewhere"), run.path()).unwrap(), run);
        assert!(matches!(RunFolder::open(&folder, Path::new("two")), Err(Error::File { .. })));
    }

    #[test]
    fn a_run_is_trained_by_one_process_at_a_time() {
        let folder = TestFolder::new();
        let run = RunFolder::create(&folder, "one").unwrap();
        let lock = run.lock().unwrap();
        assert!(matches!(run.lock(), Err(Error::File { .. })));
        drop(lock);
        run.lock().unwrap();
    }
}
