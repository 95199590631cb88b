//! A folder to run a program in, and what a run printed.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// The program under test.
pub trait Program {
    /// `env!("CARGO_BIN_EXE_NAME")`
    const PATH: &'static str;
}

/// A new, empty folder to run `P` in, removed with all that is in it.
pub struct Folder<P> {
    path: PathBuf,
    program: PhantomData<P>,
}

impl<P: Program> Folder<P> {
    /// An empty folder.
    #[expect(clippy::new_without_default, reason = "a folder on the disk is no default value")]
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Outside the source tree, whose files `train` without arguments reads.
        let path = std::env::temp_dir().join(format!("throughline-program-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self { path, program: PhantomData }
    }

    /// A folder with these files.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self::new();
        for (name, content) in files {
            folder.write(name, content);
        }
        folder
    }

    /// Writes a file, and creates its folders.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// What a file holds, as text.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What a file holds.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The JSON objects in the lines of a file.
    pub fn rows(&self, name: &str) -> Vec<serde_json::Value> {
        json_lines(&self.text(name))
    }

    /// The names in a folder, sorted.
    pub fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The program, to be run here with empty standard input.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.prepare(P::PATH, arguments)
    }

    fn prepare(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::to_the_end(self.command(arguments).spawn().unwrap())
    }

    /// The same with an environment variable set.
    pub fn run_in_environment(&self, arguments: &[&str], name: &str, value: &str) -> Ran {
        Ran::to_the_end(self.command(arguments).env(name, value).spawn().unwrap())
    }

    /// The same with so many MiB of address space.
    #[cfg(target_os = "linux")]
    pub fn run_limited(&self, arguments: &[&str], mib: usize) -> Ran {
        let limit = format!("ulimit -v {} && exec \"$0\" \"$@\"", mib * 1024);
        let mut shell = self.prepare("sh", &["-c", &limit, P::PATH]);
        shell.args(arguments);
        Ran::to_the_end(shell.spawn().unwrap())
    }

    /// The same with something on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Ran {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        // A program that fails early may exit before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(input.as_ref());
        Ran::to_the_end(child)
    }
}

impl<P> Deref for Folder<P> {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl<P> Drop for Folder<P> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What a run of the program printed, and its exit code.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Waits for the end, which must not be a panic.
    pub fn to_the_end(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        let ran = Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!ran.err.contains("panicked") && ran.code != Some(101), "{ran:?}");
        ran
    }

    /// What a successful run wrote to standard output.
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Checks that the command failed with one error line on standard error, which contains all `fragments`, and with
    /// nothing on standard output.
    pub fn refused(self, fragments: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:?}");
        let complaints: Vec<&str> = self.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(complaints.len(), 1, "{self:?}");
        assert_eq!(self.err.lines().last(), Some(complaints[0]), "{self:?}");
        for fragment in fragments {
            assert!(complaints[0].contains(fragment), "no {fragment:?} in\n{}", self.err);
        }
    }
}

/// The JSON objects in the lines of `text`.
pub fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}
