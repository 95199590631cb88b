//! From a file and overrides to a [`Recipe`].
//!
//! The default recipe, as a TOML table, is the schema: a key is valid if it is there. Values are put into it one at a time,
//! and the table is read as a [`Recipe`] after each, so that whatever is wrong is wrong with the last value, whose origin
//! is known.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Table, Value};

use super::check::Origins;
use super::nearest::nearest;
use super::table::{dotted_keys, value_at, value_at_mut};
use super::{Recipe, TaskSettings};
use crate::tasks::{self, TASKS, Task};
use crate::{Error, Origin, RecipeError, Result, read_at_most};

/// No recipe is larger, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// One value that was given.
struct Assignment {
    key: String,
    value: Value,
    origin: Origin,
}

impl Recipe {
    /// The built-in recipe of the task called `task`: every default. Of a task that reads texts it lacks only `data.paths`.
    ///
    /// # Errors
    /// [`Error::Recipe`] for a task that does not exist.
    pub fn default_for(task: &str) -> Result<Self> {
        Ok(Self::with_defaults(find_task(task)?.defaults()))
    }

    /// Puts a recipe together from its `file` (TOML, UTF-8, at most 1 MiB), then `sets`, then `data`: what comes later wins.
    ///
    /// Each of `sets` is `dotted.key=value`. The value is TOML; where the key takes a string, a value that is not a quoted
    /// TOML string stands for itself (`model.cell=gru`, `name=7`). `data`, if not empty, becomes `data.paths`.
    ///
    /// # Errors
    /// [`Error::Recipe`] for an unknown key, a wrong type, a value out of range or values that do not go together;
    /// [`Error::Toml`], [`Error::Io`] and [`Error::File`] for a file that cannot be read.
    pub fn resolve(file: Option<&Path>, sets: &[String], data: &[PathBuf]) -> Result<Self> {
        let mut assignments = match file {
            Some(path) => read_file(path)?,
            None => Vec::new(),
        };
        for set in sets {
            assignments.push(read_set(set)?);
        }
        if !data.is_empty() {
            assignments.push(read_data(data)?);
        }
        assemble(assignments).map_err(|error| Self::without_task(error, file))
    }

    /// Says which file the task is missing in.
    fn without_task(error: Error, file: Option<&Path>) -> Error {
        match (error, file) {
            (Error::Recipe(error), Some(path)) if error.key == "task" && error.origin == Origin::Default => {
                Error::file(path, "task", error.expected, error.found)
            }
            (error, _) => error,
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<Assignment>> {
    let bytes = read_at_most(path, LARGEST_FILE)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        Error::file(path, "encoding", "UTF-8", format_args!("an invalid byte at {}", error.valid_up_to()))
    })?;
    let document = DeTable::parse(text).map_err(|error| Error::Toml {
        path: path.to_path_buf(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let mut assignments = Vec::new();
    collect(document.into_inner(), "", &mut |key, offset, value| {
        let origin = Origin::File { path: path.to_path_buf(), line: line_of(text, offset) };
        let found = &text[value.span()];
        let value = Value::deserialize(ValueDeserializer::from(value))
            .map_err(|_| Error::recipe(&origin, &key, "numbers that fit 64 bits", found))?;
        assignments.push(Assignment { key, value, origin });
        Ok(())
    })?;
    Ok(assignments)
}

/// Line, from 1, of the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// Gives every value below `table` to `take`, with its dotted key and the key's offset. The parser bounds the depth.
/// An empty table is a value too, or an unknown one would pass.
fn collect<'i>(
    table: DeTable<'i>,
    prefix: &str,
    take: &mut impl FnMut(String, usize, Spanned<DeValue<'i>>) -> Result<()>,
) -> Result<()> {
    for (name, value) in table {
        let offset = name.span().start;
        let key = format!("{prefix}{}", name.get_ref());
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(inner) if !inner.is_empty() => collect(inner, &format!("{key}."), take)?,
            other => take(key, offset, Spanned::new(span, other))?,
        }
    }
    Ok(())
}

/// Whether recipes for `task` have `key`.
pub(crate) fn has_key(task: &dyn TaskSettings, key: &str) -> bool {
    value_at(&defaults(task), key).is_some()
}

/// What the last of `sets` for `key` gives it, if one does.
pub(crate) fn value_set(sets: &[String], key: &str) -> Result<Option<Value>> {
    let mut found = None;
    for set in sets {
        let given = read_set(set)?;
        if given.key == key {
            found = Some(given.value);
        }
    }
    Ok(found)
}

fn read_set(set: &str) -> Result<Assignment> {
    let Some((key, value)) = set.split_once('=') else {
        return Err(Error::recipe(&Origin::Set, set, "dotted.key=value", "no `=`"));
    };
    let (key, text) = (key.trim(), value.trim());
    let value = match text.parse() {
        Ok(value) if matches!(value, Value::String(_)) || !is_bare_string(key, &value) => value,
        _ => Value::String(text.to_owned()),
    };
    Ok(Assignment { key: key.to_owned(), value, origin: Origin::Set })
}

/// Whether a value that reads as another type is meant as a string: `key` takes strings, and no such value.
fn is_bare_string(key: &str, value: &Value) -> bool {
    TASKS.iter().any(|task| {
        let mut table = defaults(*task);
        match value_at_mut(&mut table, key) {
            Some(place @ Value::String(_)) => *place = value.clone(),
            _ => return false,
        }
        Recipe::read(*task, &table).is_err()
    })
}

/// Every key of a recipe for `task` with its default.
fn defaults(task: &dyn TaskSettings) -> Table {
    Recipe::with_defaults(task.defaults()).to_table()
}

fn read_data(paths: &[PathBuf]) -> Result<Assignment> {
    let (key, origin) = ("data.paths", Origin::Data);
    let strings = paths.iter().map(|path| match path.to_str() {
        Some(path) => Ok(Value::String(path.to_owned())),
        None => Err(Error::recipe(&origin, key, "a path in Unicode", path.display())),
    });
    Ok(Assignment { key: key.to_owned(), value: Value::Array(strings.collect::<Result<_>>()?), origin })
}

fn assemble(assignments: Vec<Assignment>) -> Result<Recipe> {
    let task = task_of(&assignments)?;
    let mut table = defaults(task);
    let mut recipe = Recipe::with_defaults(task.defaults());
    let mut origins = Origins::new();
    for Assignment { key, value, origin } in assignments {
        recipe = assign(task, &mut table, &key, value, &origin)?;
        origins.insert(key, origin);
    }
    if !origins.contains_key("optimiser.weight_decay") {
        recipe.optimiser.weight_decay = recipe.optimiser.kind.default_weight_decay();
    }
    recipe.check_given(&origins)?;
    Ok(recipe)
}

/// The task that was given last; all that were given must exist.
fn task_of(assignments: &[Assignment]) -> Result<&'static dyn TaskSettings> {
    let mut last: Option<&dyn TaskSettings> = None;
    for Assignment { value, origin, .. } in assignments.iter().filter(|given| given.key == "task") {
        let found = value.as_str().and_then(tasks::find);
        let task = found.ok_or_else(|| Error::recipe(origin, "task", tasks_in_words(TASKS), value))?;
        last = Some(task);
    }
    last.ok_or_else(|| Error::recipe(&Origin::Default, "task", tasks_in_words(TASKS), "nothing"))
}

/// The task called `name`.
pub(super) fn find_task(name: &str) -> Result<&'static dyn TaskSettings> {
    let found = format!("{name:?}");
    let task = tasks::find(name);
    Ok(task.ok_or_else(|| Error::recipe(&Origin::Default, "task", tasks_in_words(TASKS), found))?)
}

/// `"lm", "classify" or "tag"`.
fn tasks_in_words(tasks: &[&dyn Task]) -> String {
    let names: Vec<String> = tasks.iter().map(|task| format!("{:?}", task.name())).collect();
    match names.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => names.concat(),
    }
}

/// Puts `value` at `key` and reads the whole table.
fn assign(task: &dyn TaskSettings, table: &mut Table, key: &str, value: Value, origin: &Origin) -> Result<Recipe> {
    let Some(place) = value_at_mut(table, key) else {
        return Err(key_of_other_tasks(task, key, &value, origin).unwrap_or_else(|| unknown_key(table, key, origin)));
    };
    match (&*place, &value) {
        (Value::Table(_), Value::Table(empty)) if empty.is_empty() => {}
        (Value::Table(_), _) => return Err(Error::recipe(origin, key, format_args!("a table [{key}]"), &value)),
        _ => *place = value.clone(),
    }
    Recipe::read(task, table).map_err(|error| {
        let expected = error.message().rsplit_once("expected ").map_or(error.message(), |(_, expected)| expected);
        Error::recipe(origin, key, in_plain_words(expected), &value)
    })
}

/// The types that serde names as Rust does.
fn in_plain_words(expected: &str) -> &str {
    match expected {
        "usize" | "u64" => "a whole number, 0 or more",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "an array of strings",
        "path string" => "a string",
        "an array of length 3" => "an array of three numbers",
        other => other,
    }
}

/// The error for a key that `task` does not have, if others do.
fn key_of_other_tasks(task: &dyn TaskSettings, key: &str, value: &Value, origin: &Origin) -> Option<Error> {
    let others: Vec<_> = TASKS.iter().copied().filter(|other| has_key(*other, key)).collect();
    let expected =
        format!("a key of task {:?}; {key} is used only with task = {}", task.name(), tasks_in_words(&others));
    (!others.is_empty()).then(|| Error::recipe(origin, key, expected, value))
}

fn unknown_key(table: &Table, key: &str, origin: &Origin) -> Error {
    let section = key.rsplit_once('.').map_or("", |(section, _)| section);
    let names = |table: &Table| table.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let expected = match value_at(table, section).and_then(Value::as_table) {
        Some(section_table) => format!("a key of [{section}]: {}", names(section_table)),
        None => format!("a key or a table of a recipe: {}", names(table)),
    };
    let keys = dotted_keys(table);
    Error::from(Box::new(RecipeError {
        origin: origin.clone(),
        key: key.to_owned(),
        expected,
        found: "an unknown key".to_owned(),
        nearest: nearest(key, keys.iter().map(String::as_str)).map(str::to_owned),
    }))
}

#[cfg(test)]
mod tests {
    use throughline_data::{Format, Unit};
    use throughline_kernels::cells::CellKind;

    use super::super::{Checkpointing, OptimiserKind, ScheduleKind};
    use super::*;
    use crate::tasks::{classify, lm};
    use crate::testing::TestFolder;

    const RECIPE: &str = r#"# A comment.
task = "classify"
data = { paths = ["a", "b"], unit = "word" }

[model]
cell = "gru-before"
hidden = 10
dropout = 0.1

[optimiser]
kind = "sgd"
learning_rate = 1
momentum = 0.9
"#;

    fn resolve(text: &str, sets: &[&str]) -> Result<Recipe> {
        let folder = TestFolder::new();
        let path = folder.join("recipe.toml");
        std::fs::write(&path, text).unwrap();
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        Recipe::resolve(Some(&path), &sets, &[])
    }

    fn message(text: &str, sets: &[&str]) -> String {
        resolve(text, sets).expect_err("an error").to_string()
    }

    /// The recipe's error, with the line of the file it is at.
    fn error(text: &str, sets: &[&str]) -> (Option<usize>, RecipeError) {
        match resolve(text, sets) {
            Err(Error::Recipe(error)) => match &error.origin {
                Origin::File { line, .. } => (Some(*line), *error),
                _ => (None, *error),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn given_values_stand_beside_defaults() {
        let recipe = resolve(RECIPE, &[]).unwrap();
        let mut expected = Recipe::default_for("classify").unwrap();
        let options: &mut classify::Options = expected.options_mut();
        options.files.paths = vec!["a".into(), "b".into()];
        options.units.unit = Unit::Word;
        options.model.cell = CellKind::GruBefore;
        options.model.hidden = 10;
        options.model.dropout = 0.1;
        expected.optimiser.kind = OptimiserKind::Sgd;
        expected.optimiser.learning_rate = 1.0;
        expected.optimiser.momentum = 0.9;
        expected.optimiser.weight_decay = 0.0;
        assert_eq!(recipe, expected);
    }

    #[test]
    fn overrides_win_over_the_file_and_later_ones_over_earlier_ones() {
        let sets = ["model.cell=gru", "model.hidden = 20", "model.hidden=30", "data.split=[0.8, 0.2, 0]", "name=7"];
        let recipe = resolve(RECIPE, &sets).unwrap();
        let classify::Options { files, model, .. } = recipe.options();
        assert_eq!((model.cell, model.hidden, recipe.name.as_str()), (CellKind::GruAfter, 30, "7"));
        assert_eq!(files.split, [0.8, 0.2, 0.0]);
        let sets = ["task=classify".to_owned(), "task=lm".to_owned()];
        let recipe = Recipe::resolve(None, &sets, &["x".into()]).unwrap();
        assert_eq!(recipe.task(), "lm");
        assert_eq!(recipe.options::<lm::Options>().files.paths, [PathBuf::from("x")]);
    }

    #[test]
    fn the_recipes_of_the_project_resolve() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes"));
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let recipes: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|name| name == "toml")).collect();
        assert!(recipes.len() >= 3, "{recipes:?}");
        for recipe in recipes {
            Recipe::resolve(Some(&recipe), &[], &["texts".into()]).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn a_set_string_may_be_bare_or_quoted() {
        let value = |set: &str| {
            let recipe = resolve(RECIPE, &[&format!("data.text_column={set}")]).unwrap();
            recipe.options::<classify::Options>().examples.text_column.clone()
        };
        for (set, expected) in [("review", "review"), ("\"re view\"", "re view"), ("2", "2"), ("a=b", "a=b"), ("", "")]
        {
            assert_eq!(value(set), expected);
        }
    }

    #[test]
    fn a_set_number_is_one_where_the_key_takes_numbers_beside_strings() {
        let value = |set: &str| {
            let recipe = resolve(RECIPE, &[&format!("data.unknown={set}")]).unwrap();
            recipe.options::<classify::Options>().known.unknown
        };
        for (set, expected) in
            [("0.5", Some(0.5)), ("0", Some(0.0)), ("auto", None), ("\"auto\"", None), (" 0.25 ", Some(0.25))]
        {
            assert_eq!(value(set), expected, "{set}");
        }
        assert_eq!(error(RECIPE, &["data.unknown=often"]).1.found, "\"often\"");
    }

    #[test]
    fn the_resolved_recipe_reads_again_identically() {
        let lm = [
            "task=lm",
            "model.tied=true",
            "model.embedding=10",
            "schedule.kind=cosine",
            "schedule.steps=70",
            "train.clip_norm=0.3",
            "data.unknown=0.5",
        ];
        let classify = [
            "data.format=label-first",
            "schedule.kind=plateau",
            "optimiser.learning_rate=1e-7",
            "model.pooling=max",
            "data.normalise=none",
        ];
        let segments = ["task=lm", "train.checkpoint_every=100"];
        let one_way = ["model.bidirectional=false", "train.checkpoint_every=auto"];
        for sets in [&lm[..], &classify, &segments, &one_way, &[]] {
            let recipe = resolve(RECIPE, sets).unwrap();
            let text = recipe.to_toml().unwrap();
            assert_eq!(resolve(&text, &[]).unwrap(), recipe, "{text}");
            assert_eq!(resolve(&text, &[]).unwrap().to_toml().unwrap(), text);
        }
    }

    #[test]
    fn checkpointing_is_a_number_of_steps_or_auto() {
        let value = |value: &str| {
            let text = format!("task = 'lm'\ndata.paths = ['x']\ntrain.checkpoint_every = {value}");
            let from_file = resolve(&text, &[]).unwrap();
            let set = format!("train.checkpoint_every={value}");
            assert_eq!(resolve(RECIPE, &["model.bidirectional=false", &set]).unwrap().train, from_file.train);
            let line = format!("checkpoint_every = {}", value.replace('\'', "\""));
            assert!(from_file.to_toml().unwrap().lines().any(|found| found == line), "{line}");
            from_file.train.checkpoint_every
        };
        assert_eq!(value("0"), Checkpointing::Off);
        assert_eq!(value("7"), Checkpointing::every(7));
        assert_eq!(value("'auto'"), Checkpointing::Auto);
        let bare = resolve(RECIPE, &["model.bidirectional=false", "train.checkpoint_every=auto"]).unwrap();
        assert_eq!(bare.train.checkpoint_every, Checkpointing::Auto);
        for (wrong, found) in [("-1", "-1"), ("1.5", "1.5"), ("'often'", "\"often\""), ("true", "true")] {
            let (line, error) = error(&format!("task = 'lm'\ntrain.checkpoint_every = {wrong}"), &[]);
            assert_eq!((line, error.key.as_str(), error.found.as_str()), (Some(2), "train.checkpoint_every", found));
            assert_eq!(error.expected, "a whole number of steps, 0 or more, or \"auto\"");
        }
        let both = message(RECIPE, &["train.checkpoint_every=8"]);
        assert!(both.contains("only with model.bidirectional = false, found 8"), "{both}");
    }

    #[test]
    fn the_resolved_recipe_spells_out_what_has_an_effect() {
        let text = resolve(RECIPE, &[]).unwrap().to_toml().unwrap();
        for line in ["threads = 0", "bidirectional = true", "format = \"auto\"", "kind = \"constant\"", "epochs = 10"] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        for absent in ["stride", "temperature", "beta1", "huber_delta", "gamma", "steps = 0\nstep_every"] {
            assert!(!text.contains(absent), "{absent} in\n{text}");
        }
        assert!(
            text.starts_with("task = \"classify\"\nname = \"\"\nseed = 1\n"),
            "keys in the order of the documentation"
        );
        let tables: Vec<&str> = text.lines().filter(|line| line.starts_with('[')).collect();
        assert_eq!(tables, ["[data]", "[model]", "[train]", "[optimiser]", "[schedule]", "[average]"]);
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_one_and_its_neighbours() {
        let (line, found) = error(&format!("{RECIPE}momentun = 0.5"), &[]);
        assert_eq!((line, found.key.as_str()), (Some(14), "optimiser.momentun"));
        assert_eq!(found.nearest.as_deref(), Some("optimiser.momentum"));
        assert!(found.expected.contains("[optimiser]") && found.expected.contains("beta1"), "{}", found.expected);
        let (_, found) = error(RECIPE, &["modle.hidden=3"]);
        assert_eq!((found.origin, found.nearest.as_deref()), (Origin::Set, Some("model.hidden")));
        assert!(found.expected.contains("threads"), "{}", found.expected);
        assert_eq!(error("task = 'lm'\n[trian]", &[]).1.nearest.as_deref(), Some("train"));
        assert_eq!(error("task = 'lm'\n[train.stride.x]\ny = 1", &[]).0, Some(3));
        assert_eq!(error(RECIPE, &["=1"]).1.key, "");
    }

    /// Where a key of another task stands, it has no effect; a mistyped one is nobody's.
    #[test]
    fn a_key_of_another_task_says_whose_it_is() {
        for (task, given, key, owner) in [
            ("classify", "[train]\nstride = 64", "train.stride", "lm"),
            ("classify", "[sample]", "sample", "lm"),
            ("lm", "[model]\npooling = 'mean'", "model.pooling", "classify\", \"classify-series\" or \"regress"),
            ("lm", "[data]\ndeduplicate = true", "data.deduplicate", "classify"),
        ] {
            let (line, found) = error(&format!("task = '{task}'\n{given}"), &[]);
            assert_eq!((line, found.key.as_str(), found.nearest), (Some(1 + given.lines().count()), key, None));
            assert!(found.expected.ends_with(&format!("only with task = \"{owner}\"")), "{}", found.expected);
        }
        let (_, found) = error("task = 'classify'", &["train.strid=8"]);
        assert!(found.expected.starts_with("a key of [train]"), "{}", found.expected);
    }

    #[test]
    fn a_wrong_type_names_key_line_and_what_is_expected() {
        for (text, line, key, expected, found) in [
            ("task = 'lm'\nseed = 'x'", 2, "seed", "a whole number, 0 or more", "\"x\""),
            ("task = 'lm'\nseed = -1", 2, "seed", "a whole number, 0 or more", "-1"),
            ("task = 'lm'\n[model]\nhidden = 2.5", 3, "model.hidden", "a whole number, 0 or more", "2.5"),
            ("task = 'lm'\n[model]\n\ndropout = true", 4, "model.dropout", "a number", "true"),
            ("task = 'lm'\n[model]\nbias = 1", 3, "model.bias", "true or false", "1"),
            ("task = 'lm'\nmodel = 3", 2, "model", "a table [model]", "3"),
            ("task = 'lm'\ndata.split = [1.0]", 2, "data.split", "an array of three numbers", "[1.0]"),
            ("task = 'lm'\ndata.unit = 'line'", 2, "data.unit", "one of `char`, `byte`, `word`", "\"line\""),
            (
                "task = 'poem'",
                1,
                "task",
                "\"lm\", \"classify\", \"tag\", \"classify-series\", \"regress\" or \"roll\"",
                "\"poem\"",
            ),
            ("task = 'lm'\ndata.normalise = 'nfd'", 2, "data.normalise", "`nfc` or `none`", "\"nfd\""),
            (
                "task = 'lm'\nmodel.cell = 'tree'",
                2,
                "model.cell",
                "one of `rnn`, `rnn-relu`, `lstm`, `gru`",
                "\"tree\"",
            ),
            ("task = 'classify'\nmodel.pooling = 'sum'", 2, "model.pooling", "one of `last-states`, `last`", "\"sum\""),
            ("task = 'lm'\nseed = 99999999999999999999", 2, "seed", "fit 64 bits", "99999999999999999999"),
        ] {
            let (at, error) = error(text, &[]);
            assert_eq!((at, error.key.as_str(), error.found.as_str()), (Some(line), key, found), "{text}");
            assert!(error.expected.contains(expected), "{text}: {}", error.expected);
        }
        let formats = error(RECIPE, &["data.format=xml"]).1.expected;
        assert_eq!(formats.matches('`').count(), 2 * (1 + Format::ALL.len()), "{formats}");
        assert!(message(RECIPE, &["data.paths=a"]).contains("array"));
        assert!(message(RECIPE, &["train.batch=many"]).contains("--set: train.batch: expected a whole number"));
        assert!(message(RECIPE, &["train.batch"]).contains("key=value"));
        assert!(message("", &[]).contains("task"));
    }

    #[test]
    fn the_last_task_decides_the_defaults() {
        assert_eq!(resolve(RECIPE, &["task=lm"]).unwrap().task(), "lm");
        assert_eq!(error(RECIPE, &["task=poem", "task=lm"]).1.found, "\"poem\"");
        assert_eq!(
            resolve(RECIPE, &["optimiser.kind=adamw", "optimiser.momentum=0"]).unwrap().optimiser.weight_decay,
            0.01
        );
        let kept = ["optimiser.weight_decay=0.5", "schedule.kind=step"];
        let recipe = resolve(RECIPE, &kept).unwrap();
        assert_eq!((recipe.optimiser.weight_decay, recipe.schedule.kind), (0.5, ScheduleKind::Step));
    }

    #[test]
    fn files_that_are_no_recipe_are_errors() {
        assert!(matches!(resolve("task = 'lm'\n\nseed = = 1", &[]), Err(Error::Toml { line: 3, .. })));
        assert!(matches!(resolve("seed = 1\nseed = 2", &[]), Err(Error::Toml { line: 2, .. })));
        assert!(resolve(&format!("task = {}", "[".repeat(100_000)), &[]).is_err());
        assert!(resolve(&format!("a{} = 1", ".a".repeat(100_000)), &[]).is_err());
        assert!(matches!(resolve(&" ".repeat(2 << 20), &[]), Err(Error::File { .. })));
        assert!(matches!(Recipe::resolve(Some(Path::new("no such file")), &[], &[]), Err(Error::Io { .. })));
        let folder = TestFolder::new();
        let path = folder.join("latin1.toml");
        std::fs::write(&path, b"name = \"\xE9\"").unwrap();
        assert!(matches!(Recipe::resolve(Some(&path), &[], &[]), Err(Error::File { .. })));
    }

    /// Whatever happens to one byte of a recipe, it is read or refused.
    #[test]
    fn a_changed_byte_never_panics() {
        let text = resolve(RECIPE, &[]).unwrap().to_toml().unwrap();
        for place in 0..text.len() {
            for byte in ["", "=", "\"", "9"] {
                let changed = format!("{}{byte}{}", &text[..place], &text[place + 1..]);
                if let Ok(recipe) = resolve(&changed, &[]) {
                    assert!(recipe.check().is_ok());
                }
            }
        }
    }

    #[test]
    fn the_identity_is_what_decides_the_numbers() {
        let identity = |sets: &[&str]| resolve(RECIPE, sets).unwrap().identity().unwrap();
        let same = ["name=x", "threads=2", "runs_dir=y", "train.epochs=20", "train.max_seconds=9", "train.patience=3"];
        let cosine = ["schedule.kind=cosine", "schedule.steps=10"];
        assert_eq!(identity(&cosine), identity(&cosine[..1]));
        assert_eq!(identity(&same), identity(&[]));
        for other in
            ["seed=2", "model.hidden=11", "train.batch=8", "data.limit=100", "optimiser.momentum=0.8", "data.unknown=0"]
        {
            assert_ne!(identity(&[other]), identity(&[]), "{other}");
        }
        let unlike = |sets: &[&str]| {
            let (changed, begun) = (resolve(RECIPE, sets).unwrap(), resolve(RECIPE, &[]).unwrap());
            changed.deciding_keys_unlike(&begun).unwrap()
        };
        assert_eq!(unlike(&same), [""; 0]);
        assert_eq!(unlike(&["train.epochs=20", "model.hidden=11", "seed=2"]), ["seed", "model.hidden"]);
        let other_task = unlike(&["task=lm", "sample.length=3"]);
        let keys = ["task", "model.tied", "train.stride", "train.window", "data.format", "model.pooling"];
        assert!(keys.iter().all(|key| other_task.iter().any(|found| found == key)), "{other_task:?}");
        assert!(!other_task.iter().any(|key| key.starts_with("sample")), "{other_task:?}");
    }
}
