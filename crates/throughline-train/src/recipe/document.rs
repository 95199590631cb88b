//! What settings say about themselves: recipes with a comment on every key, and the page of all settings.

use std::fmt::Write;

use toml::Table;

use super::{Key, Recipe, resolve};
use crate::Result;
use crate::tasks::TASKS;

/// Writing to a `String` does not fail.
const WRITING: &str = "a string takes all that is written";

/// A key with what is said about it.
struct Documented {
    key: &'static Key,
    /// Its default as TOML.
    default: String,
}

/// A table of a recipe, `""` for its top, with its keys.
struct Section {
    name: String,
    keys: Vec<Documented>,
}

/// The tables of a recipe with all their keys, in the order in which a recipe is written.
fn sections(recipe: &Recipe) -> Vec<Section> {
    let values = recipe.to_table();
    let section = |name: &str, values: &Table| {
        let keys = recipe.tables().into_iter().filter(|(table, _)| *table == name).flat_map(|(_, keys)| keys);
        let documented = |key: &'static Key| Documented { key, default: values[key.name].to_string() };
        Section { name: name.to_owned(), keys: keys.map(documented).collect() }
    };
    let tables = values.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_table()?)));
    std::iter::once(("", &values)).chain(tables).map(|(name, values)| section(name, values)).collect()
}

/// A recipe for `task` as TOML with every key at its default, under a comment that says what it means. A key that has no
/// default that could stand, such as `data.paths`, is commented out.
///
/// # Errors
/// [`Error::Recipe`](crate::Error::Recipe) for a task that does not exist.
pub fn commented(task: &str) -> Result<String> {
    let task = resolve::find_task(task)?;
    let mut text = format!(
        "# A recipe for {}.\n#\n# Every setting has its default here; leave out what you do not change. Train with:\n#\n\
         #     throughline train recipe.toml --data PATH\n",
        task.about()
    );
    for Section { name, keys } in sections(&Recipe::with_defaults(task.defaults())) {
        if !name.is_empty() {
            write!(text, "\n[{name}]").expect(WRITING);
        }
        for Documented { key, default } in keys {
            text.push('\n');
            for line in key.doc() {
                text.push_str(format!("# {line}").trim_end());
                text.push('\n');
            }
            match key.example {
                Some(example) if !(name.is_empty() && key.name == "task") => {
                    writeln!(text, "# {} = {example}", key.name).expect(WRITING);
                }
                _ => writeln!(text, "{} = {default}", key.name).expect(WRITING),
            }
        }
    }
    Ok(text)
}

/// One line of the settings page.
struct Row {
    key: &'static Key,
    default: String,
    tasks: Vec<&'static str>,
}

/// Every key of every task, table by table, as Markdown.
pub fn settings_page() -> String {
    let mut tables: Vec<(String, Vec<Row>)> = Vec::new();
    for task in TASKS {
        for Section { name, keys } in sections(&Recipe::with_defaults(task.defaults())) {
            let place = tables.iter().position(|(table, _)| *table == name).unwrap_or_else(|| {
                tables.push((name, Vec::new()));
                tables.len() - 1
            });
            for documented in keys {
                add_row(&mut tables[place].1, documented, task.name());
            }
        }
    }
    let mut page =
        "Every setting of every task; generated from the settings' own documentation.\n\nThe tasks:\n\n".to_owned();
    for task in TASKS {
        writeln!(page, "- `task = \"{}\"` trains {}.", task.name(), task.about()).expect(WRITING);
    }
    for (name, rows) in tables {
        let title = if name.is_empty() { "Above all tables".to_owned() } else { format!("`[{name}]`") };
        write!(page, "\n# {title}\n\n| key | default | tasks | meaning |\n|---|---|---|---|\n").expect(WRITING);
        for row in rows {
            writeln!(page, "{}", row.markdown()).expect(WRITING);
        }
    }
    page
}

/// Adds a key of `task`; keys that tasks have in common are one row.
fn add_row(rows: &mut Vec<Row>, Documented { key, default }: Documented, task: &'static str) {
    let default = match key.example {
        Some(example) => format!("none, for example `{example}`"),
        None => format!("`{default}`"),
    };
    let same = |row: &&mut Row| row.key.name == key.name && row.key.lines == key.lines && row.default == default;
    match rows.iter_mut().find(same) {
        Some(row) => row.tasks.push(task),
        None => rows.push(Row { key, default, tasks: vec![task] }),
    }
}

impl Row {
    fn markdown(&self) -> String {
        let tasks = if self.tasks.len() == TASKS.len() { "all".to_owned() } else { self.tasks.join(", ") };
        let meaning = self.key.doc().collect::<Vec<_>>().join(" ");
        let cells = [format!("`{}`", self.key.name), self.default.clone(), tasks, meaning];
        format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;
    use crate::recipe::table::{dotted_keys, value_at};
    use crate::testing::TestFolder;

    /// The keys stand in the text as they are, or commented out after their documentation.
    #[test]
    fn a_printed_recipe_is_the_recipe_of_all_defaults() {
        for task in TASKS {
            let text = commented(task.name()).unwrap();
            let folder = TestFolder::new();
            let path = folder.join("recipe.toml");
            std::fs::write(&path, &text).unwrap();
            let sets = ["data.paths=[\"texts\"]".to_owned()];
            let expected = Recipe::resolve(None, &[format!("task={}", task.name()), sets[0].clone()], &[]).unwrap();
            assert_eq!(Recipe::resolve(Some(&path), &sets, &[]).unwrap(), expected, "{text}");

            let printed: Table = text.parse().unwrap();
            let recipe = Recipe::with_defaults(task.defaults());
            for (table, keys) in recipe.tables() {
                for key in keys {
                    let dotted = if table.is_empty() { key.name.to_owned() } else { format!("{table}.{}", key.name) };
                    let active = value_at(&printed, &dotted).is_some();
                    let example = key.example.map(|example| format!("# {} = {example}", key.name));
                    let shown = example.is_some_and(|example| text.lines().any(|line| line == example));
                    assert!(active != shown, "{dotted} in\n{text}");
                }
            }
        }
    }

    /// Uncommented, an example is a value that the key takes.
    #[test]
    fn examples_resolve() {
        let folder = TestFolder::new();
        let path = folder.join("recipe.toml");
        for task in TASKS {
            let text = commented(task.name()).unwrap().replace("# paths = ", "paths = ");
            std::fs::write(&path, &text).unwrap();
            Recipe::resolve(Some(&path), &[], &[]).unwrap();
        }
    }

    #[test]
    fn every_key_is_documented_in_a_sentence() {
        for task in TASKS {
            for (table, keys) in Recipe::with_defaults(task.defaults()).tables() {
                for key in keys {
                    let doc = key.doc().collect::<Vec<_>>().join(" ");
                    assert!(doc.trim_end().ends_with('.'), "{table}.{}: {doc}", key.name);
                    assert!(!doc.contains("[`"), "{table}.{}: a link does not survive in TOML: {doc}", key.name);
                }
            }
        }
    }

    #[test]
    fn a_task_that_does_not_exist() {
        let error = commented("poem").unwrap_err().to_string();
        assert!(
            error.contains("\"lm\", \"classify\", \"tag\", \"classify-series\", \"regress\" or \"roll\"")
                && error.contains("\"poem\""),
            "{error}"
        );
    }

    /// Tasks may differ in a default, but not in what kind of value a key takes: `--set` is read before the task is known.
    #[test]
    fn a_key_takes_the_same_kind_of_value_in_every_task() {
        let kind = |value: &Value| value.type_str();
        let tables = TASKS.iter().map(|task| Recipe::with_defaults(task.defaults()).to_table()).collect::<Vec<_>>();
        for (table, other) in tables.iter().flat_map(|a| tables.iter().map(move |b| (a, b))) {
            for key in dotted_keys(table) {
                if let (Some(ours), Some(theirs)) = (value_at(table, &key), value_at(other, &key)) {
                    assert_eq!(kind(ours), kind(theirs), "{key}");
                }
            }
        }
    }
}
