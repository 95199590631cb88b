//! Ranges of single values, and values that must go together.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;

use super::resolve::{Origins, dotted_keys, recipe_error};
use throughline_data::Unit;

use super::{Cell, Checkpointing, OptimiserKind, Recipe, ScheduleKind, Task, recurrent_config};
use crate::{Error, Result, run_folder};

/// TOML has no larger whole number.
const LARGEST_INTEGER: u64 = i64::MAX as u64;
/// No count of updates, units or examples is larger.
const LARGEST_COUNT: u64 = 1_000_000_000_000;
/// No size of a layer or a batch is larger.
const LARGEST_SIZE: usize = 65_536;
/// No stride or window is larger.
const LONGEST_WINDOW: usize = 1 << 20;

impl Recipe {
    /// Checks every range and every rule between values, for a recipe put together by a program
    /// ([`Recipe::resolve`] has done it).
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the first key that is wrong.
    pub fn check(&self) -> Result<()> {
        check(self, &Origins::new())
    }
}

/// Checks `recipe`, whose given keys come from `origins`.
pub(super) fn check(recipe: &Recipe, origins: &Origins) -> Result<()> {
    let check = Check { origins };
    check.general(recipe)?;
    check.data(recipe)?;
    check.model(recipe)?;
    check.training(recipe)?;
    check.optimiser(recipe)?;
    check.schedule_and_sample(recipe)?;
    check.nothing_is_ignored(recipe)
}

struct Check<'a> {
    origins: &'a Origins,
}

impl Check<'_> {
    fn general(&self, recipe: &Recipe) -> Result<()> {
        if !recipe.name.is_empty() {
            self.require("name", run_folder::is_name(&recipe.name), run_folder::NAME_RULE, &recipe.name)?;
        }
        self.within("seed", recipe.seed, 0..=LARGEST_INTEGER)?;
        self.within("threads", recipe.threads, 0..=1024)?;
        let unicode = recipe.runs_dir.to_str().is_some() && !recipe.runs_dir.as_os_str().is_empty();
        self.require("runs_dir", unicode, "a path in Unicode", &recipe.runs_dir)
    }

    fn data(&self, recipe: &Recipe) -> Result<()> {
        let data = &recipe.data;
        for (key, paths) in
            [("data.paths", &data.paths), ("data.validation", &data.validation), ("data.test", &data.test)]
        {
            let usable = paths.iter().all(|path| path.to_str().is_some_and(|path| !path.is_empty()));
            self.require(key, usable, "paths in Unicode", paths)?;
        }
        self.require("data.paths", !data.paths.is_empty(), "at least one path (--data PATH)", &data.paths)?;
        for share in data.split {
            self.within("data.split", share, 0.0..=1.0)?;
        }
        let [train, validation, _] = data.split;
        let rounding = 1e-9;
        let sum: f64 = data.split.iter().sum();
        self.require("data.split", sum <= 1.0 + rounding, "shares that add up to at most 1", sum)?;
        self.require("data.split", train > 0.0, "a training share above 0", train)?;
        let validated = validation > 0.0 || !data.validation.is_empty();
        self.require("data.split", validated, "a validation share above 0, or data.validation", validation)?;
        self.require("data.encoding", !data.encoding.is_empty(), "the label of an encoding", &data.encoding)?;
        let largest = LARGEST_COUNT as usize;
        let vocabulary = data.max_vocabulary != 1 && data.max_vocabulary <= largest;
        self.require("data.max_vocabulary", vocabulary, format!("0, or 2 to {largest}"), data.max_vocabulary)?;
        self.within("data.min_count", data.min_count, 1..=largest)?;
        self.within("data.limit", data.limit, 0..=largest)?;
        self.within("data.max_length", data.max_length, 0..=largest)
    }

    fn model(&self, recipe: &Recipe) -> Result<()> {
        let model = &recipe.model;
        self.within("model.embedding", model.embedding, 1..=LARGEST_SIZE)?;
        self.within("model.hidden", model.hidden, 1..=LARGEST_SIZE)?;
        self.within("model.layers", model.layers, 1..=64)?;
        self.share_below_one("model.dropout", model.dropout)?;
        self.share_below_one("model.embedding_dropout", model.embedding_dropout)?;
        self.share_below_one("model.output_dropout", model.output_dropout)?;
        self.within("model.forget_bias", model.forget_bias, -10.0..=10.0)?;
        let causal = !(recipe.task == Task::Lm && model.bidirectional);
        self.require("model.bidirectional", causal, "false, as a language model must not see what it predicts", true)?;
        let tied_sizes =
            format!("model.embedding == model.hidden ({} and {} are given)", model.embedding, model.hidden);
        self.require("model.tied", !model.tied || model.embedding == model.hidden, tied_sizes, true)?;
        // Bounds on products of sizes, before anything of such a size is made.
        let stack = recurrent_config(recipe);
        let weights = stack.layers as f64 * (4 * stack.output()) as f64 * (stack.output() + stack.hidden) as f64;
        let largest = "sizes of at most 2^32 recurrent weights (model.layers, model.hidden)";
        self.require("model.hidden", weights <= 4_294_967_296.0, largest, model.hidden)?;
        let states = (stack.layers * stack.output()) as f64 * recipe.train.batch as f64;
        let largest = "sizes of at most 2^28 numbers of state (train.batch, model.layers, model.hidden)";
        self.require("train.batch", states <= 268_435_456.0, largest, recipe.train.batch)
    }

    fn training(&self, recipe: &Recipe) -> Result<()> {
        let train = &recipe.train;
        self.within("train.epochs", train.epochs, 1..=1_000_000)?;
        self.within("train.steps", train.steps, 0..=LARGEST_COUNT)?;
        self.within("train.batch", train.batch, 1..=LARGEST_SIZE)?;
        self.within("train.stride", train.stride, 1..=LONGEST_WINDOW)?;
        self.within("train.window", train.window, 0..=LONGEST_WINDOW)?;
        let wide_enough = train.gradient_window() >= train.stride;
        let expected = format!("0, or at least train.stride = {}", train.stride);
        self.require("train.window", wide_enough, expected, train.window)?;
        if let Checkpointing::Every(steps) = train.checkpoint_every {
            let expected = format!("0 to {LONGEST_WINDOW}, or \"auto\"");
            self.require("train.checkpoint_every", steps.get() <= LONGEST_WINDOW, expected, steps)?;
        }
        self.within("train.clip_norm", train.clip_norm, 0.0..=1e6)?;
        self.within("train.clip_value", train.clip_value, 0.0..=1e6)?;
        self.within("train.evaluations", train.evaluations, 5..=100_000)?;
        self.within("train.checkpoint_seconds", train.checkpoint_seconds, 1..=604_800)?;
        self.within("train.max_seconds", train.max_seconds, 0..=LARGEST_COUNT)?;
        self.within("train.patience", train.patience, 0..=LARGEST_COUNT)
    }

    fn optimiser(&self, recipe: &Recipe) -> Result<()> {
        let optimiser = &recipe.optimiser;
        self.above_zero("optimiser.learning_rate", optimiser.learning_rate, 1000.0)?;
        self.within("optimiser.weight_decay", optimiser.weight_decay, 0.0..=1000.0)?;
        self.share_below_one("optimiser.momentum", optimiser.momentum)?;
        self.share_below_one("optimiser.beta1", optimiser.beta1)?;
        self.share_below_one("optimiser.beta2", optimiser.beta2)?;
        self.share_below_one("optimiser.alpha", optimiser.alpha)?;
        self.within("optimiser.epsilon", optimiser.epsilon, 1e-12..=1.0)
    }

    fn schedule_and_sample(&self, recipe: &Recipe) -> Result<()> {
        let (schedule, sample) = (&recipe.schedule, &recipe.sample);
        self.within("schedule.warmup", schedule.warmup, 0..=LARGEST_COUNT)?;
        self.within("schedule.step_every", schedule.step_every, 1..=LARGEST_COUNT)?;
        let gamma = schedule.gamma > 0.0 && schedule.gamma < 1.0;
        self.require("schedule.gamma", gamma, "a number above 0 and below 1", schedule.gamma)?;
        self.within("schedule.floor", schedule.floor, 0.0..=1.0)?;
        self.within("schedule.patience", schedule.patience, 1..=LARGEST_COUNT)?;
        self.within("sample.length", sample.length, 1..=1_000_000)?;
        self.within("sample.temperature", sample.temperature, 0.0..=100.0)
    }

    /// A key without effect must have its default: a setting is never dropped in silence.
    fn nothing_is_ignored(&self, recipe: &Recipe) -> Result<()> {
        let (given, default) = (recipe.to_table(), Recipe::default_for(recipe.task).to_table());
        for key in dotted_keys(&given, "") {
            if let Some(used_with) = unused(recipe, &key)
                && value_at(&given, &key) != value_at(&default, &key)
            {
                let found = value_at(&given, &key).map_or_else(String::new, ToString::to_string);
                return Err(self.error(
                    &key,
                    format_args!("its default, as it has an effect only with {used_with}"),
                    found,
                ));
            }
        }
        Ok(())
    }

    fn within<T: PartialOrd + Display>(&self, key: &str, value: T, range: RangeInclusive<T>) -> Result<()> {
        if range.contains(&value) {
            return Ok(());
        }
        Err(self.error(key, format_args!("{} to {}", range.start(), range.end()), value))
    }

    fn share_below_one(&self, key: &str, value: f64) -> Result<()> {
        self.require(key, (0.0..1.0).contains(&value) && (value as f32) < 1.0, "a number from 0 to below 1", value)
    }

    fn above_zero(&self, key: &str, value: f64, largest: f64) -> Result<()> {
        self.require(key, value > 0.0 && value <= largest, format!("a number above 0, at most {largest}"), value)
    }

    fn require(&self, key: &str, holds: bool, expected: impl Display, found: impl Debug) -> Result<()> {
        if holds { Ok(()) } else { Err(self.error(key, expected, format_args!("{found:?}"))) }
    }

    fn error(&self, key: &str, expected: impl Display, found: impl Display) -> Error {
        recipe_error(&self.origins.get(key).cloned().unwrap_or_default(), key, expected, found)
    }
}

pub(super) fn value_at<'t>(table: &'t toml::Table, key: &str) -> Option<&'t toml::Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => value_at(table.get(section)?.as_table()?, rest),
    }
}

/// With what `key` has an effect, if it has none in `recipe`.
pub(super) fn unused(recipe: &Recipe, key: &str) -> Option<&'static str> {
    use OptimiserKind::{Adam, AdamW, RmsProp, Sgd};
    use ScheduleKind::{Constant, Plateau, Step};
    let (optimiser, schedule) = (recipe.optimiser.kind, recipe.schedule.kind);
    let (used, with) = match key {
        "model.tied" | "train.stride" | "train.window" => (recipe.task == Task::Lm, "task = \"lm\""),
        _ if key.starts_with("sample.") => (recipe.task == Task::Lm, "task = \"lm\""),
        "data.format" | "data.text_column" | "data.label_column" | "data.deduplicate" | "data.max_length" => {
            (recipe.task == Task::Classify, "task = \"classify\"")
        }
        "data.max_vocabulary" | "data.min_count" => {
            (recipe.data.unit != Unit::Byte, "data.unit = \"char\" or \"word\"")
        }
        "model.forget_bias" => {
            (recipe.model.cell == Cell::Lstm && recipe.model.bias, "model.cell = \"lstm\" and model.bias = true")
        }
        "train.checkpoint_every" => (!recipe.model.bidirectional, "model.bidirectional = false"),
        "model.dropout" => (recipe.model.layers > 1, "model.layers above 1"),
        "optimiser.momentum" => (matches!(optimiser, Sgd | RmsProp), "optimiser.kind = \"sgd\" or \"rmsprop\""),
        "optimiser.beta1" | "optimiser.beta2" => {
            (matches!(optimiser, Adam | AdamW), "optimiser.kind = \"adam\" or \"adamw\"")
        }
        "optimiser.alpha" => (optimiser == RmsProp, "optimiser.kind = \"rmsprop\""),
        "optimiser.epsilon" => (optimiser != Sgd, "an optimiser.kind other than \"sgd\""),
        "schedule.step_every" => (schedule == Step, "schedule.kind = \"step\""),
        "schedule.gamma" => (matches!(schedule, Step | Plateau), "schedule.kind = \"step\" or \"plateau\""),
        "schedule.patience" => (schedule == Plateau, "schedule.kind = \"plateau\""),
        "schedule.floor" => (schedule != Constant, "a schedule.kind other than \"constant\""),
        _ => return None,
    };
    (!used).then_some(with)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, RecipeError};

    fn resolve(task: &str, sets: &str) -> Result<Recipe> {
        let task = format!("task={task}");
        let sets: Vec<String> = std::iter::once(task.as_str())
            .chain(sets.split(' ').filter(|set| !set.is_empty()))
            .map(str::to_owned)
            .collect();
        Recipe::resolve(None, &sets, &["data.txt".into()])
    }

    fn error(task: &str, sets: &str) -> RecipeError {
        match resolve(task, sets) {
            Err(Error::Recipe(error)) => *error,
            other => panic!("{sets}: {other:?}"),
        }
    }

    #[test]
    fn the_built_in_recipes_lack_only_their_data() {
        for task in [Task::Lm, Task::Classify] {
            let mut recipe = Recipe::default_for(task);
            let error = recipe.check().unwrap_err().to_string();
            assert!(error.contains("data.paths") && error.contains("--data"), "{error}");
            recipe.data.paths.push("a".into());
            recipe.check().unwrap();
        }
    }

    /// One value outside each end of each range.
    #[test]
    fn values_out_of_range_name_their_key() {
        let lm = "name=../x name=.x seed=-1 threads=1025 runs_dir= data.split=[0.9,0.2,0] data.split=[0,0.5,0] \
                  data.split=[0.9,0,0.1] data.split=[nan,0.1,0.1] data.split=[-0.1,0.5,0.1] data.encoding= \
                  data.max_vocabulary=1 data.min_count=0 data.limit=-1 model.embedding=0 model.embedding=65537 model.hidden=0 \
                  model.hidden=65537 model.layers=0 model.layers=65 model.dropout=1 model.dropout=-0.1 \
                  model.embedding_dropout=1 model.output_dropout=nan model.forget_bias=11 train.epochs=0 train.epochs=1000001 \
                  train.batch=0 train.batch=65537 train.stride=0 train.stride=1048577 train.window=63 train.window=1048577 \
                  train.checkpoint_every=1048577 train.checkpoint_every=-1 train.checkpoint_every=sometimes \
                  train.clip_norm=-1 train.clip_norm=inf train.clip_value=nan train.evaluations=4 train.evaluations=100001 \
                  train.checkpoint_seconds=0 optimiser.learning_rate=0 optimiser.learning_rate=inf \
                  optimiser.learning_rate=-1 optimiser.weight_decay=-1 optimiser.beta1=1 optimiser.beta2=1.0 \
                  optimiser.epsilon=0 optimiser.epsilon=2 schedule.step_every=0 schedule.gamma=0 schedule.gamma=1 \
                  schedule.floor=1.1 schedule.patience=0 sample.length=0 sample.length=1000001 sample.temperature=-1 \
                  sample.temperature=nan train.steps=1000000000001";
        for set in lm.split_whitespace() {
            let error = error("lm", set);
            assert_eq!((error.key.as_str(), error.origin), (set.split_once('=').unwrap().0, Origin::Set), "{set}");
        }
    }

    #[test]
    fn the_ends_of_ranges_are_inside() {
        let sets = "threads=1024 data.split=[0.7,0.2,0.1] data.max_vocabulary=2 model.embedding=65536 model.hidden=1 \
                    model.layers=64 model.dropout=0.999 train.window=64 train.evaluations=5 optimiser.beta1=0 sample.temperature=0";
        for set in sets.split_whitespace() {
            resolve("lm", set).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn values_that_do_not_go_together_are_errors() {
        assert_eq!(error("lm", "model.bidirectional=true").key, "model.bidirectional");
        assert_eq!(error("lm", "model.tied=true").key, "model.tied");
        resolve("lm", "model.tied=true model.embedding=256").unwrap();
        assert_eq!(error("lm", "train.stride=100 train.window=99").key, "train.window");
        resolve("lm", "data.split=[1,0,0] data.validation=[\"v\"]").unwrap();
    }

    #[test]
    fn no_setting_is_ignored() {
        for (task, sets, key) in [
            ("lm", "data.deduplicate=true", "data.deduplicate"),
            ("lm", "data.format=csv", "data.format"),
            ("lm", "optimiser.momentum=0.9", "optimiser.momentum"),
            ("lm", "optimiser.kind=sgd optimiser.beta1=0.8", "optimiser.beta1"),
            ("lm", "optimiser.alpha=0.9", "optimiser.alpha"),
            ("lm", "schedule.gamma=0.1", "schedule.gamma"),
            ("lm", "model.cell=gru model.forget_bias=1", "model.forget_bias"),
            ("classify", "train.stride=8", "train.stride"),
            ("classify", "train.checkpoint_every=8", "train.checkpoint_every"),
            ("classify", "train.checkpoint_every=auto", "train.checkpoint_every"),
            ("classify", "sample.prompt=x", "sample.prompt"),
        ] {
            let error = error(task, sets);
            assert_eq!(error.key, key);
            assert!(error.expected.contains("only with"), "{}", error.expected);
        }
        resolve("classify", "train.stride=64 optimiser.kind=sgd optimiser.momentum=0.9").unwrap();
    }

    /// A misspelt key there would silently have no rule.
    #[test]
    fn the_keys_named_above_exist() {
        let keys = dotted_keys(&Recipe::default_for(Task::Lm).to_table(), "");
        let source = include_str!("check.rs");
        let rules = &source[..source.find("#[cfg(test)]").unwrap()];
        let named = rules
            .split('"')
            .filter(|text| text.contains('.') && text.chars().all(|c| c.is_ascii_lowercase() || "._012".contains(c)));
        for name in named {
            assert!(keys.iter().any(|key| key == name || key.starts_with(name)), "{name}");
        }
    }

    #[test]
    fn a_program_made_recipe_that_toml_cannot_hold_is_an_error() {
        let mut recipe = resolve("lm", "").unwrap();
        recipe.seed = u64::MAX;
        assert!(matches!(recipe.to_toml(), Err(Error::Recipe(error)) if error.key == "seed"));
    }
}
