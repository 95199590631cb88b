//! What an experiment ends in, for a terminal and for a folder.

use throughline_inspect::figures::Sheet;
use throughline_inspect::numbers::ascending;
use throughline_inspect::terminal::{right_aligned, wrapped};

/// Rows of cells under a caption; the first row is the head.
pub struct Table {
    /// What is in it.
    pub caption: String,
    /// The head and the rows.
    pub rows: Vec<Vec<String>>,
}

/// What an experiment ends in.
pub struct Outcome {
    /// The name of the experiment.
    pub name: &'static str,
    /// What was asked.
    pub question: &'static str,
    /// What was run.
    pub setting: String,
    /// The numbers.
    pub tables: Vec<Table>,
    /// The same as curves.
    pub figure: Sheet,
    /// What was seen, in paragraphs that follow from the numbers.
    pub seen: Vec<String>,
}

impl Outcome {
    /// For a terminal of so many columns.
    pub fn text(&self, width: usize) -> String {
        let tables = self.tables.iter().map(|table| format!("{}\n{}\n", table.caption, right_aligned(&table.rows)));
        format!(
            "{}: {}\n\n{}\n{}{}\n{}",
            self.name,
            self.question,
            wrapped(&self.setting, width),
            tables.collect::<String>(),
            self.figure.text(width),
            self.paragraphs(width)
        )
    }

    /// The files that hold it, each with its name; the page, which names the others, is the last.
    pub fn files(&self) -> [(String, String); 2] {
        let [figure, page] = Self::names(self.name);
        let markdown = self.markdown(&figure);
        [(figure, self.figure.svg()), (page, markdown)]
    }

    /// The names of the files of an experiment.
    pub fn names(experiment: &str) -> [String; 2] {
        ["svg", "md"].map(|kind| format!("{experiment}.{kind}"))
    }

    fn paragraphs(&self, width: usize) -> String {
        self.seen.iter().map(|paragraph| wrapped(paragraph, width)).collect::<Vec<_>>().join("\n")
    }

    fn markdown(&self, figure: &str) -> String {
        const COLUMNS: usize = 120;
        let tables = self.tables.iter().map(|table| format!("{}:\n\n{}\n", table.caption, table.markdown()));
        format!(
            "# {}\n\n{}\n\n{}\n{}![{}]({figure})\n\n{}",
            self.name,
            self.question,
            wrapped(&self.setting, COLUMNS),
            tables.collect::<String>(),
            self.name,
            self.paragraphs(COLUMNS)
        )
    }
}

impl Table {
    /// A head of so many names, and no rows yet.
    pub fn new(caption: &str, head: impl IntoIterator<Item = String>) -> Self {
        Self { caption: caption.to_owned(), rows: vec![head.into_iter().collect()] }
    }

    /// Adds a row that begins with a name.
    pub fn add(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        self.rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }

    fn markdown(&self) -> String {
        let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
        let columns = self.rows[0].len();
        let rule = std::iter::once("---").chain(std::iter::repeat_n("---:", columns - 1));
        let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
        line(&self.rows[0]) + &rule + &self.rows[1..].iter().map(line).collect::<String>()
    }
}

/// Words as a list: `a`, `a and b`, `a, b and c`.
pub fn listed(words: &[String]) -> String {
    match words {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The mean of some numbers with the least and the largest of them, shown as mean ± half of the range.
pub struct Spread {
    pub count: usize,
    pub mean: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// That of at least one number.
    pub fn of(numbers: &[f64]) -> Self {
        Self {
            count: numbers.len(),
            mean: numbers.iter().sum::<f64>() / numbers.len() as f64,
            least: numbers.iter().copied().fold(f64::INFINITY, f64::min),
            most: numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mean, least, most, .. } = self;
        if least == most { write!(f, "{mean:.3}") } else { write!(f, "{mean:.3} ± {:.3}", (most - least) / 2.0) }
    }
}

/// Who has the least of what several have over some seeds.
pub struct Best {
    pub place: usize,
    /// In words, which of the others its seeds overlap with and which are behind.
    pub others: String,
}

impl Best {
    pub fn of(names: &[&str], reached: &[Spread]) -> Self {
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by(|&a, &b| ascending(&reached[a].mean, &reached[b].mean));
        let place = order[0];
        if reached.iter().any(|of| of.count < 2) {
            return Self { place, others: "of one seed each, which cannot tell them apart".to_owned() };
        }
        let (behind, beside): (Vec<usize>, Vec<usize>) =
            order[1..].iter().partition(|&&other| reached[other].least > reached[place].most);
        let named = |places: &[usize]| listed(&places.iter().map(|&at| names[at].to_owned()).collect::<Vec<_>>());
        let tied = match beside.is_empty() {
            true => "no other came so near that the seeds overlap".to_owned(),
            false => format!("the seeds do not tell it from: {}", named(&beside)),
        };
        let lost = match behind.is_empty() {
            true => String::new(),
            false => format!("; clearly behind: {}", named(&behind)),
        };
        Self { place, others: tied + &lost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_those_of_markdown() {
        let mut table = Table::new("Skill", ["cell", "lag 5"].map(str::to_owned));
        table.add("LSTM", ["1.00".to_owned()]);
        assert_eq!(table.markdown(), "| cell | lag 5 |\n|---|---:|\n| LSTM | 1.00 |\n");
    }

    #[test]
    fn words_and_numbers() {
        assert_eq!(listed(&[]), "none");
        assert_eq!(listed(&["a", "b", "c"].map(str::to_owned)), "a, b and c");
        assert_eq!(Spread::of(&[0.5, 1.0, 0.0]).to_string(), "0.500 ± 0.500");
        assert_eq!(Spread::of(&[0.25]).to_string(), "0.250");
    }

    #[test]
    fn the_best_has_the_least() {
        let reached = [[0.3, 0.5], [0.1, 0.2], [0.15, 0.4]].map(|seeds| Spread::of(&seeds));
        let best = Best::of(&["a", "b", "c"], &reached);
        assert_eq!((best.place, &*best.others), (1, "the seeds do not tell it from: c; clearly behind: a"));
        let best = Best::of(&["a", "b"], &reached[..2]);
        assert_eq!(best.others, "no other came so near that the seeds overlap; clearly behind: a");
        let best = Best::of(&["a", "b"], &[Spread::of(&[0.1]), Spread::of(&[1.0])]);
        assert!(best.others.contains("one seed"), "{}", best.others);
        let best = Best::of(&["a", "b"], &[Spread::of(&[-f64::NAN; 2]), Spread::of(&[1.0; 2])]);
        assert_eq!(best.place, 1, "what diverged is not the best");
    }
}
