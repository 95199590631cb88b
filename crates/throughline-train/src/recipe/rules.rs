//! The rules for the settings of every task: ranges, values that must go together, and settings without effect.

use super::check::{Check, LARGEST_COUNT, LARGEST_SIZE, LONGEST_WINDOW, Origins};
use super::table::{dotted_keys, value_at};
use super::{AverageKind, Checkpointing, OptimiserKind, Recipe, ScheduleKind};
use crate::Result;
use crate::run::name;

/// TOML has no larger whole number.
const LARGEST_INTEGER: u64 = i64::MAX as u64;

impl Recipe {
    /// Checks every range and every rule between values, for a recipe put together by a program
    /// ([`Recipe::resolve`] has done it).
    ///
    /// # Errors
    /// [`Error::Recipe`](crate::Error::Recipe) naming the first key that is wrong.
    pub fn check(&self) -> Result<()> {
        self.check_given(&Origins::new())
    }

    /// The same, with the places where the values were given.
    pub(super) fn check_given(&self, origins: &Origins) -> Result<()> {
        let check = &Check { origins };
        self.check_general(check)?;
        self.check_training(check)?;
        self.check_optimiser(check)?;
        self.check_schedule(check)?;
        check.share_below_one("average.decay", self.average.decay)?;
        check.within("average.patience", self.average.patience, 0..=LARGEST_COUNT)?;
        self.options.0.check(&self.train, check)?;
        self.check_that_nothing_is_ignored(check)
    }

    fn check_general(&self, check: &Check<'_>) -> Result<()> {
        if !self.name.is_empty() {
            check.require("name", name::is_name(&self.name), name::NAME_RULE, &self.name)?;
        }
        check.within("seed", self.seed, 0..=LARGEST_INTEGER)?;
        check.within("threads", self.threads, 0..=1024)?;
        let unicode = self.runs_dir.to_str().is_some() && !self.runs_dir.as_os_str().is_empty();
        check.require("runs_dir", unicode, "a path in Unicode that is not empty", &self.runs_dir)
    }

    fn check_training(&self, check: &Check<'_>) -> Result<()> {
        let train = &self.train;
        check.within("train.epochs", train.epochs, 1..=1_000_000)?;
        check.within("train.steps", train.steps, 0..=LARGEST_COUNT)?;
        check.within("train.batch", train.batch, 1..=LARGEST_SIZE)?;
        check.within("train.accumulate", train.accumulate, 1..=LARGEST_SIZE as u64)?;
        if let Checkpointing::Every(steps) = train.checkpoint_every {
            let expected = format!("0 to {LONGEST_WINDOW}, or \"auto\"");
            check.require("train.checkpoint_every", steps.get() <= LONGEST_WINDOW, expected, steps)?;
        }
        check.within("train.clip_norm", train.clip_norm, 0.0..=1e6)?;
        check.within("train.clip_value", train.clip_value, 0.0..=1e6)?;
        check.within("train.evaluations", train.evaluations, 5..=100_000)?;
        check.within("train.checkpoint_seconds", train.checkpoint_seconds, 1..=604_800)?;
        check.within("train.max_seconds", train.max_seconds, 0..=LARGEST_COUNT)?;
        check.within("train.patience", train.patience, 0..=LARGEST_COUNT)
    }

    fn check_optimiser(&self, check: &Check<'_>) -> Result<()> {
        let optimiser = &self.optimiser;
        check.above_zero("optimiser.learning_rate", optimiser.learning_rate, 1000.0)?;
        check.within("optimiser.weight_decay", optimiser.weight_decay, 0.0..=1000.0)?;
        check.share_below_one("optimiser.momentum", optimiser.momentum)?;
        check.share_below_one("optimiser.beta1", optimiser.beta1)?;
        check.share_below_one("optimiser.beta2", optimiser.beta2)?;
        check.share_below_one("optimiser.alpha", optimiser.alpha)?;
        check.within("optimiser.epsilon", optimiser.epsilon, 1e-12..=1.0)
    }

    fn check_schedule(&self, check: &Check<'_>) -> Result<()> {
        let schedule = &self.schedule;
        check.within("schedule.warmup", schedule.warmup, 0..=LARGEST_COUNT)?;
        check.within("schedule.steps", schedule.steps, 0..=LARGEST_COUNT)?;
        check.within("schedule.step_every", schedule.step_every, 1..=LARGEST_COUNT)?;
        let gamma = schedule.gamma > 0.0 && schedule.gamma < 1.0;
        check.require("schedule.gamma", gamma, "a number above 0 and below 1", schedule.gamma)?;
        check.within("schedule.first_step", schedule.first_step, 0..=LARGEST_COUNT)?;
        check.within("schedule.floor", schedule.floor, 0.0..=1.0)?;
        check.within("schedule.start", schedule.start, 0.0..=1.0)?;
        if schedule.kind == ScheduleKind::OneCycle {
            let expected = format_args!("at least schedule.floor, {}", schedule.floor);
            check.require("schedule.start", schedule.start >= schedule.floor, expected, schedule.start)?;
        }
        check.above_zero("schedule.cycle", schedule.cycle, 1.0)?;
        check.within("schedule.patience", schedule.patience, 1..=LARGEST_COUNT)
    }

    /// A key without effect must have its default: a setting is never dropped in silence.
    fn check_that_nothing_is_ignored(&self, check: &Check<'_>) -> Result<()> {
        let (given, default) = (self.to_table(), Self::with_defaults(self.options.0.defaults()).to_table());
        for key in dotted_keys(&given) {
            let found = value_at(&given, &key);
            if let Some(used_with) = self.unused(&key)
                && found != value_at(&default, &key)
            {
                let found = found.map_or_else(String::new, ToString::to_string);
                let expected = format_args!("its default, as it has an effect only with {used_with}");
                return Err(check.error(&key, expected, found));
            }
        }
        Ok(())
    }

    /// With what `key` has an effect, if it has none in this recipe.
    pub(super) fn unused(&self, key: &str) -> Option<&'static str> {
        use OptimiserKind::{Adam, AdamW, RmsProp, Sgd};
        use ScheduleKind::{Constant, Cosine, OneCycle, Plateau, Step};
        let (optimiser, schedule) = (self.optimiser.kind, self.schedule.kind);
        let (used, with) = match key {
            "optimiser.momentum" => (matches!(optimiser, Sgd | RmsProp), "optimiser.kind = \"sgd\" or \"rmsprop\""),
            "optimiser.beta1" | "optimiser.beta2" => {
                (matches!(optimiser, Adam | AdamW), "optimiser.kind = \"adam\" or \"adamw\"")
            }
            "optimiser.alpha" => (optimiser == RmsProp, "optimiser.kind = \"rmsprop\""),
            "optimiser.epsilon" => (optimiser != Sgd, "an optimiser.kind other than \"sgd\""),
            "schedule.warmup" => (schedule != OneCycle, "a schedule.kind other than \"one-cycle\""),
            "schedule.steps" => (matches!(schedule, Cosine | OneCycle), "schedule.kind = \"cosine\" or \"one-cycle\""),
            "schedule.step_every" | "schedule.first_step" | "schedule.step_unit" => {
                (schedule == Step, "schedule.kind = \"step\"")
            }
            "schedule.start" | "schedule.cycle" => (schedule == OneCycle, "schedule.kind = \"one-cycle\""),
            "schedule.gamma" => (matches!(schedule, Step | Plateau), "schedule.kind = \"step\" or \"plateau\""),
            "schedule.patience" | "schedule.restart" => (schedule == Plateau, "schedule.kind = \"plateau\""),
            "schedule.floor" => (schedule != Constant, "a schedule.kind other than \"constant\""),
            "average.decay" => (self.average.kind == AverageKind::Exponential, "average.kind = \"exponential\""),
            "average.patience" => (self.average.kind == AverageKind::Uniform, "average.kind = \"uniform\""),
            _ => return self.options.0.unused(key),
        };
        (!used).then_some(with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::TASKS;
    use crate::{Error, Origin, RecipeError};

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
        for task in TASKS {
            let error = Recipe::default_for(task.name()).unwrap().check().unwrap_err().to_string();
            assert!(error.contains("data.paths") && error.contains("--data"), "{error}");
            resolve(task.name(), "").unwrap();
        }
    }

    /// One value outside each end of each range.
    #[test]
    fn values_out_of_range_name_their_key() {
        let lm = "name=../x name=.x seed=-1 threads=1025 runs_dir= data.split=[0.9,0.2,0] data.split=[0,0.5,0] \
                  data.split=[0.9,0,0.1] data.split=[nan,0.1,0.1] data.split=[-0.1,0.5,0.1] data.encoding= \
                  data.max_vocabulary=1 data.min_count=0 data.limit=-1 model.embedding=0 model.embedding=65537 model.hidden=0 \
                  model.hidden=65537 model.layers=0 model.layers=65 model.dropout=1 model.dropout=-0.1 \
                  model.embedding_dropout=1 model.output_dropout=nan model.token_dropout=1 model.embedding_scale=0 \
                  model.embedding_scale=101 model.activation_penalty=-1 model.temporal_penalty=inf \
                  model.forget_bias=11 model.longest_memory=2 model.longest_memory=1000001 train.epochs=0 train.epochs=1000001 \
                  train.batch=0 train.batch=65537 train.accumulate=0 train.accumulate=65537 \
                  train.stride=0 train.stride=1048577 train.window=63 train.window=1048577 \
                  train.checkpoint_every=1048577 train.checkpoint_every=-1 train.checkpoint_every=sometimes \
                  train.clip_norm=-1 train.clip_norm=inf train.clip_value=nan train.evaluations=4 train.evaluations=100001 \
                  train.checkpoint_seconds=0 optimiser.learning_rate=0 optimiser.learning_rate=inf \
                  optimiser.learning_rate=-1 optimiser.weight_decay=-1 optimiser.beta1=1 optimiser.beta2=1.0 \
                  optimiser.epsilon=0 optimiser.epsilon=2 schedule.step_every=0 schedule.gamma=0 schedule.gamma=1 \
                  schedule.floor=1.1 schedule.patience=0 schedule.start=1.1 schedule.cycle=0 schedule.cycle=1.1 \
                  schedule.first_step=1000000000001 sample.length=0 sample.length=1000001 sample.temperature=-1 \
                  sample.temperature=nan train.steps=1000000000001 schedule.steps=1000000000001 data.unknown=1 \
                  average.decay=1 average.decay=-0.1 average.patience=-1 data.unknown=-0.1 data.unknown=0.99999999999";
        for set in lm.split_whitespace() {
            let error = error("lm", set);
            assert_eq!((error.key.as_str(), error.origin), (set.split_once('=').unwrap().0, Origin::Set), "{set}");
        }
    }

    #[test]
    fn the_ends_of_ranges_are_inside() {
        let sets = "threads=1024 data.split=[0.7,0.2,0.1] data.max_vocabulary=2 model.embedding=65536 model.hidden=1 \
                    model.layers=64 model.dropout=0.999 train.window=64 train.evaluations=5 optimiser.beta1=0 sample.temperature=0 data.unknown=0 data.unknown=0.999";
        for set in sets.split_whitespace() {
            resolve("lm", set).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn columns_are_different_names() {
        for set in ["data.channels=[\"x\",\"x\"]", "data.channels=[\"\"]", "data.target_columns=[\"a\",\"a\"]"] {
            assert_eq!(error("regress", set).key, set.split('=').next().unwrap());
        }
        for set in ["train.huber_delta=0", "train.huber_delta=1e-60", "train.huber_delta=inf", "train.huber_delta=nan"]
        {
            assert_eq!(error("regress", &format!("train.loss=huber {set}")).key, "train.huber_delta");
        }
        resolve("regress", "train.loss=huber train.huber_delta=0.5 data.channels=[\"x\",\"y\"]").unwrap();
    }

    #[test]
    fn values_that_do_not_go_together_are_errors() {
        assert_eq!(error("lm", "model.bidirectional=true").key, "model.bidirectional");
        assert_eq!(error("lm", "model.tied=true").key, "model.tied");
        resolve("lm", "model.tied=true model.embedding=256").unwrap();
        assert_eq!(error("lm", "train.stride=100 train.window=99").key, "train.window");
        resolve("lm", "data.split=[1,0,0] data.validation=[\"v\"]").unwrap();
        let start = error("lm", "schedule.kind=one-cycle schedule.floor=0.1 schedule.start=0.05");
        assert_eq!((start.key.as_str(), start.expected.as_str()), ("schedule.start", "at least schedule.floor, 0.1"));
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
            ("lm", "model.cell=rnn model.forget_bias=1", "model.forget_bias"),
            ("lm", "model.cell=rnn-relu model.longest_memory=99", "model.longest_memory"),
            ("lm", "average.decay=0.9", "average.decay"),
            ("lm", "average.kind=exponential average.patience=2", "average.patience"),
            ("lm", "model.embedding_scale=0.5", "model.embedding_scale"),
            ("lm", "model.dropout_mask=sequence model.token_dropout=0.5", "model.dropout_mask"),
            ("lm", "schedule.kind=step schedule.steps=8", "schedule.steps"),
            ("lm", "schedule.kind=cosine schedule.restart=true", "schedule.restart"),
            ("lm", "schedule.kind=plateau schedule.step_unit=epochs", "schedule.step_unit"),
            ("lm", "schedule.kind=one-cycle schedule.warmup=9", "schedule.warmup"),
            ("lm", "data.unit=byte data.unknown=0", "data.unknown"),
            ("lm", "model.pooling=mean", "model.pooling"),
            ("classify", "train.stride=8", "train.stride"),
            ("classify", "train.checkpoint_every=8", "train.checkpoint_every"),
            ("classify", "train.checkpoint_every=auto", "train.checkpoint_every"),
            ("classify", "sample.prompt=x", "sample.prompt"),
            ("classify-series", "train.loss=huber", "train.loss"),
            ("classify-series", "data.format=ts data.id_column=who", "data.id_column"),
            ("regress", "train.huber_delta=2", "train.huber_delta"),
            ("regress", "train.class_weights=balanced", "train.class_weights"),
            ("regress", "model.embedding=8", "model.embedding"),
        ] {
            let error = error(task, sets);
            assert_eq!(error.key, key);
            assert!(error.expected.contains("only with"), "{}", error.expected);
        }
        resolve("classify", "data.unit=byte data.unknown=auto optimiser.kind=sgd optimiser.momentum=0.9").unwrap();
    }

    /// A misspelt key in a rule would silently have no effect.
    #[test]
    fn the_keys_that_rules_name_exist() {
        let keys: Vec<String> =
            TASKS.iter().flat_map(|task| dotted_keys(&Recipe::with_defaults(task.defaults()).to_table())).collect();
        for source in [
            include_str!("rules.rs"),
            include_str!("../tasks/shared/recurrent.rs"),
            include_str!("../tasks/shared/text.rs"),
            include_str!("../tasks/lm/options.rs"),
            include_str!("../tasks/classify/options.rs"),
            include_str!("../tasks/classify_series/options.rs"),
            include_str!("../tasks/regress/options.rs"),
            include_str!("../tasks/roll/options.rs"),
            include_str!("../tasks/shared/embedding.rs"),
            include_str!("../tasks/shared/files.rs"),
            include_str!("../tasks/shared/series.rs"),
        ] {
            let rules = source.split("#[cfg(test)]").next().unwrap();
            let named = rules.split('"').filter(|text| {
                text.contains('.') && text.chars().all(|c| c.is_ascii_lowercase() || "._012".contains(c))
            });
            for name in named {
                assert!(keys.iter().any(|key| key == name), "{name}");
            }
        }
    }

    #[test]
    fn a_program_made_recipe_that_toml_cannot_hold_is_an_error() {
        let mut recipe = resolve("lm", "").unwrap();
        recipe.seed = u64::MAX;
        assert!(matches!(recipe.to_toml(), Err(Error::Recipe(error)) if error.key == "seed"));
    }
}
