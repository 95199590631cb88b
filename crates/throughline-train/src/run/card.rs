//! The model card of a run: what the model is, what it was trained on, how good it is and against what, and how to use it
//! (after Mitchell et al., "Model cards for model reporting", 2019).

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

use throughline_infer::Info;

use crate::learn::{Description, Score};
use crate::recipe::{AverageKind, OptimiserKind, Recipe};

/// What the card says.
#[derive(Clone, Debug)]
pub struct Card<'a> {
    /// Name of the run.
    pub name: &'a str,
    /// What the task is.
    pub info: &'static Info,
    /// The resolved recipe.
    pub recipe: &'a Recipe,
    /// The network and its data.
    pub description: Description,
    /// Trainable numbers of the model.
    pub parameters: usize,
    /// Updates done.
    pub updates: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// The update whose parameters were kept.
    pub kept: u64,
    /// Whether they are better on the validation split than the untrained ones.
    pub beat_the_start: bool,
    /// What the model reached.
    pub results: Vec<Score>,
    /// What simple methods reach on the same data.
    pub baselines: Vec<Score>,
    /// The run as commands name it.
    pub run: &'a str,
}

/// A whole number such as 1234567 as "1,234,567".
pub(crate) fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl Card<'_> {
    /// The card as Markdown.
    pub fn render(&self) -> String {
        let sections =
            [self.head(), self.data_section(), self.model_section(), self.results_section(), self.use_section()];
        sections.join("\n")
    }

    fn head(&self) -> String {
        let title = self.info.title;
        let article = if title.starts_with(['a', 'e', 'i', 'o', 'u']) { "An" } else { "A" };
        format!(
            "# {}\n\n{article} {title}: {}, {} parameters, trained with Throughline {}.\n",
            plain(self.name),
            self.description.network,
            grouped(self.parameters),
            env!("CARGO_PKG_VERSION"),
        )
    }

    fn data_section(&self) -> String {
        let files = self.description.files.iter().map(|path| code(&path.display().to_string()));
        let mut rows = vec![("files".to_owned(), files.collect::<Vec<_>>().join(", "))];
        let warnings = self.description.warnings.iter().map(|warning| ("warning".to_owned(), plain(warning)));
        rows.extend(self.description.data.iter().map(|(what, value)| (what.clone(), plain(value))).chain(warnings));
        section("Data", &rows)
    }

    fn model_section(&self) -> String {
        let Recipe { train, optimiser, seed, .. } = self.recipe;
        let mut rows = self.description.sizes.clone();
        let more = [
            ("parameters", grouped(self.parameters)),
            (
                "optimiser",
                format!("{}, peak learning rate {}", optimiser_name(optimiser.kind), optimiser.learning_rate),
            ),
            ("sequences per update", (train.batch as u64 * train.accumulate).to_string()),
            ("updates", grouped(self.updates)),
            ("training time", format!("{:.0} s", self.seconds)),
            ("seed", seed.to_string()),
        ];
        rows.extend(more.into_iter().map(|(what, value)| (what.to_owned(), value)));
        section("Model and training", &rows) + "\nThe whole recipe is in `config.toml`.\n"
    }

    fn results_section(&self) -> String {
        let scores = || self.results.iter().chain(&self.baselines);
        let metrics: BTreeSet<&String> = scores().flat_map(|score| score.metrics.keys()).collect();
        let mut text = String::from("## Results\n\n| method | split |");
        metrics.iter().for_each(|name| text.push_str(&format!(" {} |", code(name))));
        text.push_str("\n|---|---|");
        text.push_str(&"---:|".repeat(metrics.len()));
        text.push('\n');
        for score in scores() {
            write!(text, "| {} | {} |", plain(&score.method), score.split.name()).expect(WRITING);
            for name in &metrics {
                write!(text, " {} |", number(score.metrics.get(*name).copied())).expect(WRITING);
            }
            text.push('\n');
        }
        let kept = grouped(self.kept);
        let best = self.info.best;
        let which = match self.recipe.average.kind {
            AverageKind::None => "those",
            AverageKind::Exponential => "the exponential average",
            AverageKind::Uniform => "the average",
        };
        text.push_str(&format!(
            "\nThe parameters kept are {which} after update {kept}, with {best} on the validation split"
        ));
        text.push_str(if self.beat_the_start {
            ".\n"
        } else {
            ".\n**No update was better there than the untrained model:** it has learned nothing that helps.\n"
        });
        text
    }

    fn use_section(&self) -> String {
        let mut text = String::from("## Use\n\n");
        for command in self.info.usage {
            writeln!(text, "    {}", one_line(&command.replace("{run}", self.run))).expect(WRITING);
        }
        text.push('\n');
        text.push_str(&self.description.exchange);
        write!(
            text,
            "\n## Limits\n\nThe model has seen the data above and nothing else. Expect it to be good on data of the same \
             kind and no others,\nand to repeat what they say, wrong or unkind as it may be. \
             It reads {}; every answer says what share of them were outside its vocabulary.\n",
            self.description.units
        )
        .expect(WRITING);
        text
    }
}

/// Writing to a `String` does not fail.
const WRITING: &str = "a string takes all that is written";

fn section(title: &str, rows: &[(String, String)]) -> String {
    let mut text = format!("## {title}\n\n| | |\n|---|---|\n");
    for (what, value) in rows {
        writeln!(text, "| {} | {value} |", plain(what)).expect(WRITING);
    }
    text
}

fn optimiser_name(kind: OptimiserKind) -> &'static str {
    match kind {
        OptimiserKind::AdamW => "AdamW",
        OptimiserKind::Adam => "Adam",
        OptimiserKind::Sgd => "SGD",
        OptimiserKind::RmsProp => "RMSProp",
    }
}

/// Four digits after the point; what has no value is a dash.
fn number(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

/// `text` so that Markdown takes it for itself, also in a table.
fn plain(text: &str) -> String {
    let mut escaped = String::new();
    for c in one_line(text).chars() {
        if "\\`*_[]<>|#".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// `text` as code, also in a table.
fn code(text: &str) -> String {
    format!("`{}`", one_line(text).replace('`', "'").replace('|', "\\|"))
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use throughline_data::Split;
    use throughline_infer::Serve;
    use throughline_infer::tasks::LanguageModel;

    use super::*;

    fn score(method: &str, metrics: &[(&str, f64)]) -> Score {
        let metrics = metrics.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        Score { method: method.to_owned(), split: Split::Test, metrics }
    }

    fn card(beat_the_start: bool) -> String {
        let description = Description {
            network: "LSTM, 1 layer of 8 hidden units".to_owned(),
            files: vec!["a|b`c.txt".into()],
            data: vec![("training split".to_owned(), "90 characters".to_owned())],
            units: "characters".to_owned(),
            ..Description::default()
        };
        let card = Card {
            name: "lm-1",
            info: &LanguageModel::INFO,
            recipe: &Recipe::default_for("lm").unwrap(),
            description,
            parameters: 1_234_567,
            updates: 1000,
            seconds: 61.4,
            kept: 900,
            beat_the_start,
            results: vec![score("this model", &[("loss", 1.5), ("perplexity", f64::INFINITY)])],
            baselines: vec![score("trigram", &[("loss", 2.0625)])],
            run: "lm-1",
        };
        card.render()
    }

    #[test]
    fn the_card_says_what_the_model_is_and_reached() {
        let text = card(true);
        for line in [
            "# lm-1",
            "| files | `a\\|b'c.txt` |",
            "| training split | 90 characters |",
            "| parameters | 1,234,567 |",
            "| training time | 61 s |",
            "| method | split | `loss` | `perplexity` |",
            "| this model | test | 1.5000 | - |",
            "| trigram | test | 2.0625 | - |",
            "    throughline predict lm-1 < lines.txt",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
        }
        assert!(text.contains("after update 900, with the lowest loss on the validation split.\n"));
        assert!(!text.contains("untrained"));
        assert!(card(false).contains("**No update was better there than the untrained model:**"));
    }

    #[test]
    fn foreign_text_stays_in_its_place() {
        assert_eq!(plain("a|b\n# c_d"), "a\\|b \\# c\\_d");
        assert_eq!(code("x`|\ny"), "`x'\\| y`");
    }

    #[test]
    fn digits_in_groups() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
