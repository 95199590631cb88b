//! `throughline recipe`

use anyhow::Result;
use throughline::train::TASKS;
use throughline::train::recipe::commented;

use crate::arguments::RecipeArguments;
use crate::output::say;

pub fn run(arguments: &RecipeArguments) -> Result<()> {
    let text = match &arguments.task {
        Some(task) => commented(task)?,
        None => list_of_tasks(),
    };
    Ok(say(&text)?)
}

fn list_of_tasks() -> String {
    let width = TASKS.iter().map(|task| task.name().len()).max().unwrap_or_default();
    TASKS.iter().map(|task| format!("{:width$}  {}\n", task.name(), task.about())).collect()
}
