//! The folder that keeps all of one run.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::name::{NAME_RULE, is_name};
use crate::learn::DataRecord;
use crate::{Error, Recipe, Result, read_at_most};

/// Bytes of `data.json`, at most.
const LARGEST_RECORD: u64 = 1 << 16;

/// The folder of one run, with everything that is needed to go on with it or to use its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// A run folder in the making: hidden under another name until everything is in it that a run needs to be resumed.
#[derive(Debug)]
pub struct StagedRun {
    runs_dir: PathBuf,
    folder: RunFolder,
}

impl StagedRun {
    /// Begins a folder under `runs_dir`, which is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be made.
    pub fn begin(runs_dir: &Path) -> Result<Self> {
        fs::create_dir_all(runs_dir).map_err(Error::io(runs_dir, "create"))?;
        // A name may be taken by another thread, or by a process that was killed.
        for number in 1_u64.. {
            let path = runs_dir.join(format!(".new-run-{}-{number}.partial", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { runs_dir: runs_dir.to_path_buf(), folder: RunFolder { path } }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(&path, "create")(error)),
            }
        }
        unreachable!("there are more numbers than folders")
    }

    /// Where to write its files.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Gives the folder the name `name`, in one step; `None` where it is taken.
    ///
    /// # Errors
    /// [`Error::File`] for a name that cannot be a folder, [`Error::Io`] where it cannot be renamed.
    pub fn publish(&self, name: &str) -> Result<Option<RunFolder>> {
        check_name(&self.runs_dir, name)?;
        let path = self.runs_dir.join(name);
        // Renaming would replace an empty folder.
        if path.symlink_metadata().is_ok() {
            return Ok(None);
        }
        match fs::rename(&self.folder.path, &path) {
            Ok(()) => Ok(Some(RunFolder { path })),
            Err(_) if path.symlink_metadata().is_ok() => Ok(None),
            Err(error) => Err(Error::io(&path, "create")(error)),
        }
    }
}

impl Drop for StagedRun {
    /// A folder that was not published goes.
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder.path).ok();
    }
}

fn check_name(runs_dir: &Path, name: &str) -> Result<()> {
    if is_name(name) {
        Ok(())
    } else {
        Err(Error::file(runs_dir, "name of a run", NAME_RULE, format_args!("{name:?}")))
    }
}

impl RunFolder {
    /// Checks that `name` can be the name of a new run under `runs_dir`, before any work is done for it.
    ///
    /// # Errors
    /// [`Error::File`] for a name that cannot be a folder and where the run exists: no run is ever overwritten.
    pub fn check_free(runs_dir: &Path, name: &str) -> Result<()> {
        check_name(runs_dir, name)?;
        if runs_dir.join(name).symlink_metadata().is_ok() { Err(taken(runs_dir, name)) } else { Ok(()) }
    }

    /// Opens the folder of a run, given by its path or by its name under `runs_dir`.
    ///
    /// # Errors
    /// [`Error::File`] where neither is a folder with a `config.json` or a `config.toml`. A model in use needs the first alone.
    pub fn open(runs_dir: &Path, run: &Path) -> Result<Self> {
        let candidates = [run.to_path_buf(), runs_dir.join(run)];
        let found = candidates
            .into_iter()
            .map(|path| Self { path })
            .find(|run| run.config_json().is_file() || run.config_toml().is_file());
        found.ok_or_else(|| {
            let expected = format!("the path of a run folder, or the name of one in {}", runs_dir.display());
            Error::file(run, "run", expected, "neither config.json nor config.toml there")
        })
    }

    /// The recipe of the run.
    ///
    /// # Errors
    /// As [`Recipe::resolve`].
    pub fn recipe(&self) -> Result<Recipe> {
        Recipe::resolve(Some(&self.config_toml()), &[], &[])
    }

    /// What identified the data of the run when it began.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::File`] for a file that is damaged.
    pub fn data_record(&self) -> Result<DataRecord> {
        let path = self.data_json();
        let bytes = read_at_most(&path, LARGEST_RECORD)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::file(&path, "data", "the record of a run's data", error))
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

    /// The parameters of the best update on the validation split.
    pub fn model(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// What identifies the data.
    pub fn data_json(&self) -> PathBuf {
        self.path.join("data.json")
    }

    /// The last checkpoint, from which the run can be resumed.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// What was measured during the run.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// What was seen inside the model, as a page.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The model card.
    pub fn card(&self) -> PathBuf {
        self.path.join("README.md")
    }
}

pub(crate) fn taken(runs_dir: &Path, name: &str) -> Error {
    Error::file(&runs_dir.join(name), "new run", "a name that is free; use another, or --resume this run", "a run")
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
    fn a_run_is_never_overwritten() {
        let folder = TestFolder::new();
        let runs = folder.join("deep/runs");
        let run = StagedRun::begin(&runs).unwrap().publish("one").unwrap().unwrap();
        assert_eq!(run.path(), runs.join("one"));
        let staged = StagedRun::begin(&runs).unwrap();
        assert_eq!(staged.publish("one").unwrap(), None);
        let error = RunFolder::check_free(&runs, "one").unwrap_err().to_string();
        assert!(error.contains("--resume") && error.contains("one"), "{error}");
        assert!(staged.publish("../two").is_err());
        RunFolder::check_free(&runs, "two").unwrap();
    }

    #[test]
    fn a_run_appears_whole_or_not_at_all() {
        let folder = TestFolder::new();
        let staged = StagedRun::begin(&folder).unwrap();
        fs::write(staged.folder().config_toml(), "").unwrap();
        let hidden = folder.entries();
        assert!(hidden.len() == 1 && hidden[0].starts_with('.'), "{hidden:?}");
        drop(staged);
        assert_eq!(folder.entries(), [""; 0]);
    }

    #[test]
    fn a_run_opens_by_path_and_by_name() {
        let folder = TestFolder::new();
        let run = StagedRun::begin(&folder).unwrap().publish("one").unwrap().unwrap();
        assert!(matches!(RunFolder::open(&folder, Path::new("one")), Err(Error::File { .. })), "no config.toml yet");
        fs::write(run.config_toml(), "").unwrap();
        assert_eq!(RunFolder::open(&folder, Path::new("one")).unwrap(), run);
        assert_eq!(RunFolder::open(Path::new("elsewhere"), run.path()).unwrap(), run);
        assert!(matches!(RunFolder::open(&folder, Path::new("two")), Err(Error::File { .. })));
    }

    #[test]
    fn a_run_is_trained_by_one_process_at_a_time() {
        let folder = TestFolder::new();
        let run = StagedRun::begin(&folder).unwrap().publish("one").unwrap().unwrap();
        let lock = run.lock().unwrap();
        assert!(matches!(run.lock(), Err(Error::File { .. })));
        drop(lock);
        run.lock().unwrap();
    }
}
