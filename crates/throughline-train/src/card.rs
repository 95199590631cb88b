//! The model card of a run: what the model is, what it learnt from, how good it is and against what, and how to use it
//! (after Mitchell et al., "Model cards for model reporting", 2019).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use throughline_data::Unit;
use throughline_kernels::cells::CellKind;

use crate::Task;
use crate::lesson::{data_of, grouped, model_of, task_of};
use crate::metrics::Part;
use crate::recipe::{OptimiserKind, Recipe};
use crate::tasks::shared::RecurrentModel;

/// What the card says beside the recipe.
#[derive(Clone, Debug)]
pub struct Card<'a> {
    /// Name of the run.
    pub name: &'a str,
    /// The resolved recipe.
    pub recipe: &'a Recipe,
    /// Facts about the data, in the order of the card: ("training part", "1,003,854 characters").
    pub data: Vec<(String, String)>,
    /// Trainable numbers of the model.
    pub parameters: usize,
    /// Updates done.
    pub updates: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// What the model reached.
    pub results: Vec<Score>,
    /// What simple methods reach on the same data.
    pub baselines: Vec<Score>,
    /// Commands that use the model, one a line.
    pub usage: Vec<String>,
}

/// A line of the table of results.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// What was measured: "this model", "trigram", ...
    pub method: String,
    /// On what it was measured.
    pub split: Part,
    /// The metrics by name. NaN stands for a value that does not exist.
    pub metrics: BTreeMap<String, f64>,
}

impl Card<'_> {
    /// The card as Markdown.
    pub fn render(&self) -> String {
        let sections =
            [self.head(), self.data_section(), self.model_section(), self.results_section(), self.use_section()];
        sections.join("\n")
    }

    fn head(&self) -> String {
        let (model, bidirectional) = model_of(self.recipe);
        let what = match task_of(self.recipe) {
            Task::Lm => "language model",
            Task::Classify => "text classifier",
        };
        let direction = if bidirectional { "bidirectional " } else { "" };
        let layers = if model.layers == 1 { "layer" } else { "layers" };
        format!(
            "# {}\n\nA {what}: {direction}{}, {} {layers} of {} hidden units, {} parameters, trained with Throughline {}.\n",
            plain(self.name),
            cell_name(model.cell),
            model.layers,
            model.hidden,
            grouped(self.parameters),
            env!("CARGO_PKG_VERSION"),
        )
    }

    fn data_section(&self) -> String {
        let paths = data_of(self.recipe).paths.iter().map(|path| code(&path.display().to_string()));
        let mut facts = vec![("files".to_owned(), paths.collect::<Vec<_>>().join(", "))];
        facts.extend(self.data.iter().map(|(what, value)| (what.clone(), plain(value))));
        section("Data", &facts)
    }

    fn model_section(&self) -> String {
        let Recipe { train, optimiser, seed, .. } = self.recipe;
        let (model, bidirectional) = model_of(self.recipe);
        let facts = [
            ("cell", cell_name(model.cell).to_owned()),
            ("embedding", model.embedding.to_string()),
            ("hidden units", model.hidden.to_string()),
            ("layers", model.layers.to_string()),
            ("directions", if bidirectional { "2" } else { "1" }.to_owned()),
            ("parameters", grouped(self.parameters)),
            ("dropout (embedding, between layers, output)", dropouts(model)),
            (
                "optimiser",
                format!("{}, peak learning rate {}", optimiser_name(optimiser.kind), optimiser.learning_rate),
            ),
            ("sequences per update", train.batch.to_string()),
            ("updates", grouped(self.updates)),
            ("training time", format!("{:.0} s", self.seconds)),
            ("seed", seed.to_string()),
        ];
        let facts: Vec<_> = facts.into_iter().map(|(what, value)| (what.to_owned(), value)).collect();
        section("Model and training", &facts) + "\nThe whole recipe is in `config.toml`.\n"
    }

    fn results_section(&self) -> String {
        let scores = || self.results.iter().chain(&self.baselines);
        let metrics: BTreeSet<&String> = scores().flat_map(|score| score.metrics.keys()).collect();
        let mut text = String::from("## Results\n\n| method | part |");
        metrics.iter().for_each(|name| text.push_str(&format!(" {} |", code(name))));
        text.push_str("\n|---|---|");
        text.push_str(&"---:|".repeat(metrics.len()));
        text.push('\n');
        for score in scores() {
            write!(text, "| {} | {} |", plain(&score.method), part_name(score.split)).expect(WRITING);
            for name in &metrics {
                write!(text, " {} |", number(score.metrics.get(*name).copied())).expect(WRITING);
            }
            text.push('\n');
        }
        let kept = match task_of(self.recipe) {
            Task::Lm => "lowest loss",
            Task::Classify => "fewest errors",
        };
        text.push_str(&format!("\nThe parameters kept are those with the {kept} on the validation part.\n"));
        text
    }

    fn use_section(&self) -> String {
        let ((model, _), data) = (model_of(self.recipe), data_of(self.recipe));
        let unit = match data.unit {
            Unit::Word => "words",
            Unit::Byte => "bytes",
            _ => "characters",
        };
        let mut text = String::from("## Use\n\n");
        for command in &self.usage {
            writeln!(text, "    {}", one_line(command)).expect(WRITING);
        }
        if !self.usage.is_empty() {
            text.push('\n');
        }
        text.push_str(&pytorch_note(model.cell));
        write!(
            text,
            "\n## Limits\n\nThe model has seen the texts above and nothing else: expect it to be good on texts of the same \
             kind and no others,\nand to repeat what they say, wrong or unkind as it may be. \
             It reads {unit}; those outside its vocabulary are all one to it.\n"
        )
        .expect(WRITING);
        text
    }
}

/// Whether the recurrent layers can go to PyTorch.
fn pytorch_note(cell: CellKind) -> String {
    let module = match cell {
        CellKind::Lstm => "torch.nn.LSTM",
        CellKind::GruAfter => "torch.nn.GRU",
        CellKind::RnnTanh => "torch.nn.RNN",
        CellKind::RnnRelu => "torch.nn.RNN` with `nonlinearity=\"relu\"",
        CellKind::GruBefore => {
            return "**Do not load this model as PyTorch's GRU.** Its reset gate acts before the recurrent product, \
                    `n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)`;\nthat of `torch.nn.GRU` acts after it. \
                    Names and shapes of the weights agree, so they would load, and the outputs would be wrong.\n"
                .to_owned();
        }
        _ => unreachable!("every registered cell has a PyTorch note"),
    };
    format!("The weights in `model.safetensors` under `rnn.` have the names, shapes and gate order of `{module}`.\n")
}

/// Writing to a `String` does not fail.
const WRITING: &str = "a string takes all that is written";

fn section(title: &str, facts: &[(String, String)]) -> String {
    let mut text = format!("## {title}\n\n| | |\n|---|---|\n");
    for (what, value) in facts {
        writeln!(text, "| {} | {value} |", plain(what)).expect(WRITING);
    }
    text
}

fn cell_name(cell: CellKind) -> &'static str {
    match cell {
        CellKind::Lstm => "LSTM",
        CellKind::GruAfter => "GRU (reset after the product)",
        CellKind::GruBefore => "GRU (reset before the product)",
        CellKind::RnnTanh => "vanilla RNN (tanh)",
        CellKind::RnnRelu => "vanilla RNN (relu)",
        _ => unreachable!("every registered cell has a name"),
    }
}

fn optimiser_name(kind: OptimiserKind) -> &'static str {
    match kind {
        OptimiserKind::AdamW => "AdamW",
        OptimiserKind::Adam => "Adam",
        OptimiserKind::Sgd => "SGD",
        OptimiserKind::RmsProp => "RMSProp",
    }
}

fn part_name(split: Part) -> &'static str {
    match split {
        Part::Training => "training",
        Part::Validation => "validation",
        Part::Test => "test",
    }
}

fn dropouts(model: &RecurrentModel) -> String {
    format!("{}, {}, {}", model.embedding_dropout, model.dropout, model.output_dropout)
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
    use super::*;
    use crate::tasks::lm::Options;

    fn recipe(cell: CellKind) -> Recipe {
        let mut recipe = Recipe::new::<Options>();
        let options: &mut Options = recipe.options_mut();
        options.model.cell = cell;
        options.data.paths = vec!["a|b`c.txt".into()];
        recipe
    }

    fn score(method: &str, metrics: &[(&str, f64)]) -> Score {
        let metrics = metrics.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        Score { method: method.to_owned(), split: Part::Test, metrics }
    }

    fn card(recipe: &Recipe) -> String {
        let card = Card {
            name: "lm-1",
            recipe,
            data: vec![("training part".to_owned(), "90 characters".to_owned())],
            parameters: 1_234_567,
            updates: 1000,
            seconds: 61.4,
            results: vec![score("this model", &[("loss", 1.5), ("perplexity", f64::INFINITY)])],
            baselines: vec![score("trigram", &[("loss", 2.0625)])],
            usage: vec!["throughline generate lm-1".to_owned()],
        };
        card.render()
    }

    #[test]
    fn the_card_says_what_the_model_is_and_reached() {
        let text = card(&recipe(CellKind::Lstm));
        for line in [
            "# lm-1",
            "| files | `a\\|b'c.txt` |",
            "| training part | 90 characters |",
            "| parameters | 1,234,567 |",
            "| training time | 61 s |",
            "| method | part | `loss` | `perplexity` |",
            "| this model | test | 1.5000 | - |",
            "| trigram | test | 2.0625 | - |",
            "    throughline generate lm-1",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
        }
        assert!(text.contains("`torch.nn.LSTM`"));
    }

    #[test]
    fn only_the_reset_before_gru_warns_against_pytorch() {
        for cell in [CellKind::Lstm, CellKind::GruAfter, CellKind::GruBefore, CellKind::RnnTanh, CellKind::RnnRelu] {
            let warns = card(&recipe(cell)).contains("Do not load this model as PyTorch's GRU");
            assert_eq!(warns, cell == CellKind::GruBefore, "{cell:?}");
        }
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
