//! Which task data are for, by what the tasks recognise in them.

use std::path::{Path, PathBuf};

use throughline_data::{Glimpse, TextReader};
use toml::Value;

use crate::learn::Sign;
use crate::recipe::{has_key, value_set};
use crate::tasks::{TASKS, Task};
use crate::{Error, Result};

/// What data seem to be for.
#[derive(Clone)]
pub struct Guess {
    /// The task.
    pub task: &'static dyn Task,
    /// What in the data says so.
    pub seen: String,
}

/// The settings that name columns by which tasks recognise tables, and the names that the columns have by default.
const COLUMNS: [(&str, &str); 4] = [
    ("data.text_column", "text"),
    ("data.label_column", "label"),
    ("data.id_column", "id"),
    ("data.target_columns", "target"),
];

/// Tells by a look at data which task they are for. The encoding and the columns of tables are as `sets` say, settings as
/// [`Recipe::resolve`](crate::Recipe::resolve) takes them.
///
/// # Errors
/// If no task recognises one of the `paths`, several do equally, they are for different tasks, one cannot be read, or
/// there is no such encoding.
///
/// # Panics
/// If there are no paths.
pub fn guess(paths: &[PathBuf], sets: &[String]) -> Result<Guess> {
    let [first, others @ ..] = paths else { panic!("there is no path to guess from") };
    let looker = Looker::new(sets)?;
    let found = looker.guess(first)?;
    for path in others {
        let other = looker.guess(path)?;
        if other.task.name() != found.task.name() {
            let expected =
                format!("data for the task {}, as {} seems to be; {}", found.task.name(), first.display(), HOW);
            let seen = format!("{}, which is for {}", other.seen, other.task.name());
            return Err(Error::file(path, "task", expected, seen));
        }
    }
    Ok(found)
}

const HOW: &str = "say which task it is with --set task=..., one of those that `throughline recipe` lists";

/// Looks at data.
struct Looker {
    reader: TextReader,
    /// Names of columns, and what they are called by default.
    columns: Vec<(String, &'static str)>,
}

impl Looker {
    fn new(sets: &[String]) -> Result<Self> {
        let mut reader = TextReader::default();
        if let Some(Value::String(label)) = value_set(sets, "data.encoding")? {
            reader = reader.encoding(&label)?;
        }
        let mut columns = Vec::new();
        for (key, usual) in COLUMNS {
            let names = match value_set(sets, key)? {
                Some(Value::String(name)) => vec![name],
                Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                _ => Vec::new(),
            };
            // An empty name leaves a column its usual one.
            columns.extend(names.into_iter().filter(|name| !name.is_empty()).map(|name| (name, usual)));
        }
        Ok(Self { reader, columns })
    }

    /// The tasks that have a setting for every column that is set.
    fn tasks(&self) -> impl Iterator<Item = &'static dyn Task> {
        let keys = COLUMNS.iter().filter(|(_, usual)| self.columns.iter().any(|(_, set)| set == usual));
        let keys: Vec<&str> = keys.map(|(key, _)| *key).collect();
        TASKS.iter().copied().filter(move |task| keys.iter().all(|key| has_key(*task, key)))
    }

    /// Words about columns by their usual names, with those that are set.
    fn as_set(&self, words: &str) -> String {
        let name = |usual: &str| self.columns.iter().find(|(_, set)| *set == usual).map(|(name, _)| name.clone());
        // Names stand in backquotes: every second part.
        let parts = words.split('`').enumerate().map(|(place, part)| match place % 2 {
            1 => name(part).unwrap_or_else(|| part.to_owned()),
            _ => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join("`")
    }

    fn guess(&self, path: &Path) -> Result<Guess> {
        let seen = Glimpse::of(path, &self.reader)?;
        let usual = seen.renamed(|column| {
            let set = self.columns.iter().find(|(name, _)| name == column);
            let displaced = self.columns.iter().any(|(_, usual)| *usual == column);
            set.map(|(_, usual)| *usual).or(displaced.then_some(""))
        });
        let signs: Vec<(&'static dyn Task, Sign)> =
            self.tasks().filter_map(|task| Some((task, task.recognises(&usual)?))).collect();
        let any_clear = signs.iter().any(|(_, sign)| matches!(sign, Sign::Clear(_)));
        let signs = signs.into_iter().filter(|(_, sign)| !any_clear || matches!(sign, Sign::Clear(_)));
        let guess = |(task, sign): (_, Sign)| Guess { task, seen: self.as_set(sign.words()) };
        match &signs.map(guess).collect::<Vec<_>>()[..] {
            [one] => Ok(one.clone()),
            [] => Err(Error::file(path, "task", format!("data of a task; {HOW}"), seen.in_words())),
            several => {
                let tasks: Vec<String> =
                    several.iter().map(|guess| format!("{} for {}", guess.seen, guess.task.name())).collect();
                Err(Error::file(path, "task", format!("data of one task; {HOW}"), tasks.join(" and ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::TestFolder;

    fn guessed(files: &[(&str, &str)], path: &str) -> std::result::Result<&'static str, String> {
        let folder = TestFolder::new();
        for (name, content) in files {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        guess(&[folder.join(path)], &[]).map(|guess| guess.task.name()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_of_data_has_its_task() {
        let conllu = "1\tGo\tgo\tVERB\tVB\t_\t0\troot\t_\t_\n\n";
        for (name, content, task) in [
            ("book.txt", "It was a dark and stormy night.\n", "lm"),
            ("main.ts", "const x: number = 1;\n", "lm"),
            ("data", "", "none"),
            ("reviews.csv", "text,label\nfine,good\ndull,bad\n", "classify"),
            ("reviews.jsonl", "{\"label\": \"good\", \"text\": \"fine\"}\n", "classify"),
            ("labels.txt", "1 fine\n0 dull\n1 good\n0 bad\n", "classify"),
            ("words.txt", conllu, "tag"),
            ("train.conll", "EU B-ORG\n", "tag"),
            ("a.ts", "@problemName a\n@classLabel true x y\n@data\n1,2:x\n", "classify-series"),
            ("b.ts", "@targetLabel TRUE\n@classLabel false\n@data\n1,2:0.5\n", "regress"),
            ("long.tsv", "id\tx\tlabel\n1\t2\ta\n", "classify-series"),
            ("target.csv", "id,x,target\n1,2,3\n", "regress"),
            ("piece.mid", "MThd", "roll"),
            ("rolls.json", "[[[60]]]", "roll"),
            ("notes.csv", "a,b\n1,2\n", "none"),
            ("both.csv", "id,x,label,target\n1,2,3,4\n", "two"),
        ] {
            let found = guessed(&[(name, content)], name);
            match task {
                "none" => {
                    let message = found.unwrap_err();
                    assert!(message.contains("expected data of a task, found a "), "{name}: {message}");
                }
                "two" => {
                    let message = found.unwrap_err();
                    assert!(
                        message.contains("for classify-series and the columns `id` and `target` for regress"),
                        "{message}"
                    );
                }
                task => assert_eq!(found.as_deref(), Ok(task), "{name}"),
            }
        }
    }

    #[test]
    fn so_have_folders() {
        let texts = [("a/1.txt", "x"), ("b/2.txt", "y")];
        assert_eq!(guessed(&texts, ".").as_deref(), Ok("classify"));
        assert_eq!(guessed(&texts, "a").as_deref(), Ok("lm"));
        assert_eq!(guessed(&[("a/51121", "x"), ("b/51122", "y")], ".").as_deref(), Ok("classify"));
        assert_eq!(guessed(&[("a/1.csv", "x\n1\n"), ("b/2.csv", "x\n2\n")], ".").as_deref(), Ok("classify-series"));
        assert_eq!(guessed(&[("src/main.rs", "fn main() {}"), ("README.md", "x")], ".").as_deref(), Ok("lm"));
        assert_eq!(guessed(&[("a.mid", "x"), ("b.midi", "x"), ("LICENSE", "x")], ".").as_deref(), Ok("roll"));
        let with_words = [("a/1.txt", "x"), ("b/2.txt", "y"), ("LICENSE", "x"), ("README.md", "x"), ("b/readme", "x")];
        assert_eq!(guessed(&with_words, ".").as_deref(), Ok("classify"));
        // What is no text is not learned as one because of a file beside it.
        for name in ["t.csv", "t.parquet", "t.ts", "t.conllu", "t.mid"] {
            let message = guessed(&[(name, "x"), ("prose.txt", "x")], ".").unwrap_err();
            assert!(message.contains("data of a task"), "{name}: {message}");
        }
        assert!(guessed(&[("a.csv", "x\n1\n"), ("b.csv", "x\n2\n")], ".").is_err());
    }

    #[test]
    fn columns_have_the_names_that_are_set() {
        let folder = TestFolder::new();
        let [reviews, series] = ["reviews.csv", "series.csv"].map(|name| folder.join(name));
        fs::write(&reviews, "review,stars\nfine,5\n").unwrap();
        fs::write(&series, "patient,x,dose,weight\n1,2,3,4\n").unwrap();
        let guessed = |path: &PathBuf, sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
            guess(std::slice::from_ref(path), &sets).map(|guess| guess.task.name()).map_err(|error| error.to_string())
        };
        let columns = ["data.text_column=review", "data.label_column = \"stars\""];
        assert_eq!(guessed(&reviews, &columns).as_deref(), Ok("classify"));
        let sets = columns.map(str::to_owned);
        assert_eq!(guess(std::slice::from_ref(&reviews), &sets).unwrap().seen, "the columns `review` and `stars`");
        let message = guessed(&reviews, &columns[..1]).unwrap_err();
        assert!(message.contains("found a table with the columns \"review\", \"stars\""), "{message}");
        let columns = ["data.id_column=patient", "data.target_columns=[\"dose\", \"weight\"]"];
        assert_eq!(guessed(&series, &columns).as_deref(), Ok("regress"));
        // A column that is set takes the place of the usual one, and only some tasks have it.
        fs::write(&series, "id,x,label,target\n1,2,3,4\n").unwrap();
        assert_eq!(guessed(&series, &["data.target_columns=[\"target\"]"]).as_deref(), Ok("regress"));
        assert_eq!(guessed(&series, &["data.label_column=label"]).as_deref(), Ok("classify-series"));
        assert!(guessed(&series, &["data.label_column=other"]).is_err());
    }

    #[test]
    fn data_of_two_tasks_are_refused() {
        let folder = TestFolder::new();
        let [a, b] = ["a.txt", "b.csv"].map(|name| folder.join(name));
        fs::write(&a, "a text\n").unwrap();
        fs::write(&b, "text,label\na,b\n").unwrap();
        let message = guess(&[a, b], &[]).map(|guess| guess.task.name()).unwrap_err().to_string();
        assert!(
            message.contains("expected data for the task lm") && message.contains("which is for classify"),
            "{message}"
        );
    }
}
