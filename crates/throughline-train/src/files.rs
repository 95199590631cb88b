//! Files that are whole or not there: reading with a limit, replacing in one step.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Reads the file at `path`, which may have at most `limit` bytes.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::File`] when it is larger; nothing larger than `limit` is ever in memory.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > limit {
        return Err(Error::file(path, "size", format_args!("at most {limit} bytes"), "more"));
    }
    Ok(bytes)
}

/// Checks that a name from outside may be given to [`write_atomically`] or [`replace`]: there is a regular file or nothing.
/// Anything else (a device, a pipe, a link) would not be written to, but lose its name to a new file.
///
/// # Errors
/// [`Error::File`] if something else is there, [`Error::Io`] if that cannot be told.
pub fn check_replaceable(path: &Path) -> Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(path, "look up")(error)),
    };
    if kind.is_file() {
        return Ok(());
    }
    let found = match (kind.is_dir(), kind.is_symlink()) {
        (true, _) => "a folder",
        (_, true) => "a symbolic link",
        _ => "a device, a pipe or the like",
    };
    Err(Error::file(path, "file to write", "a regular file, which is replaced, or a new name", found))
}

/// Checks that [`replace`] could write the file at `path`, before work is done for it.
///
/// # Errors
/// As [`check_replaceable`] and [`replace`].
pub fn check_writable(path: &Path) -> Result<()> {
    check_replaceable(path)?;
    let temporary = temporary_name(path)?;
    let tried = File::create(&temporary).and_then(|_| fs::remove_file(&temporary));
    tried.map_err(Error::io(path, "write"))
}

/// Puts `bytes` in the place of the file at `path`, in one step (see [`replace`]).
///
/// # Errors
/// [`Error::Io`]; the old file is then still whole.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |file| file.write_all(bytes))
}

/// Puts what `write` writes in the place of the file at `path`, in one step: at any moment, also after a crash or on a full
/// disk, `path` is the whole old file or the whole new one.
///
/// The bytes go to a temporary file `.NAME.partial` in the same folder, are forced to the disk, and then take the name.
/// Two writers of one path must not run at the same time.
///
/// # Errors
/// [`Error::Io`]; when the write failed, the old file is still whole and the temporary file is gone.
pub fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let temporary = temporary_name(path)?;
    let written = write_and_rename(&temporary, path, write);
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    written.map_err(Error::io(path, "write (what was there before is unchanged)"))?;
    sync_folder_of(path).map_err(Error::io(path, "force the new name to the disk"))
}

fn temporary_name(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::file(path, "path", "the name of a file", "none"));
    };
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".partial");
    Ok(path.with_file_name(temporary))
}

fn write_and_rename(temporary: &Path, path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    write(&mut file)?;
    file.sync_all()?;
    drop(file);
    fs::rename(temporary, path)
}

/// Forces the new name to the disk. Only Unix lets a program open a folder for that.
#[cfg(unix)]
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder_of(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestFolder;

    #[test]
    fn a_written_file_replaces_the_old_one_and_leaves_nothing_else() {
        let folder = TestFolder::new();
        let path = folder.join("file");
        write_atomically(&path, b"old and longer").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(folder.entries(), ["file"]);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_whole() {
        let folder = TestFolder::new();
        let path = folder.join("file");
        write_atomically(&path, b"old").unwrap();
        let error = replace(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(folder.entries(), ["file"]);
    }

    #[test]
    fn a_rename_that_fails_removes_the_temporary_file() {
        let folder = TestFolder::new();
        let path = folder.join("taken");
        fs::create_dir(&path).unwrap();
        assert!(matches!(write_atomically(&path, b"new"), Err(Error::Io { .. })));
        assert_eq!(folder.entries(), ["taken"]);
    }

    #[test]
    #[cfg(unix)]
    fn only_regular_files_and_new_names_are_replaceable() {
        let folder = TestFolder::new();
        write_atomically(&folder.join("file"), b"").unwrap();
        std::os::unix::fs::symlink("file", folder.join("link")).unwrap();
        std::os::unix::fs::symlink("nothing", folder.join("dangling")).unwrap();
        for name in ["file", "new", "missing/new"] {
            check_replaceable(&folder.join(name)).unwrap();
        }
        for (path, found) in [
            (folder.join("link"), "a symbolic link"),
            (folder.join("dangling"), "a symbolic link"),
            (folder.join("."), "a folder"),
            (PathBuf::from("/dev/null"), "a device"),
        ] {
            let error = check_replaceable(&path).unwrap_err().to_string();
            assert!(error.contains("a regular file") && error.contains(found), "{error}");
        }
    }

    #[test]
    fn paths_without_a_name_or_a_folder_are_errors() {
        assert!(matches!(write_atomically(Path::new(".."), b""), Err(Error::File { .. })));
        let folder = TestFolder::new();
        assert!(matches!(write_atomically(&folder.join("missing/file"), b""), Err(Error::Io { .. })));
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let folder = TestFolder::new();
        let path = folder.join("file");
        write_atomically(&path, b"12345").unwrap();
        assert_eq!(read_at_most(&path, 5).unwrap(), b"12345");
        assert!(matches!(read_at_most(&path, 4), Err(Error::File { .. })));
    }
}
