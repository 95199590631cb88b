//! `throughline data check`

use anyhow::Result;
use throughline::data::{Split, printable};
use throughline::train::{self, DataReport, Lengths, SplitReport};

use super::given::recipe;
use crate::arguments::DataCheckArguments;
use crate::output::{note, say, say_json};
use crate::plot::{bars, width};
use crate::table::table;

/// Labels of which all splits are shown; of the others there is a sum.
const MOST_LABELS: usize = 40;

pub fn check(arguments: &DataCheckArguments) -> Result<()> {
    let DataCheckArguments { given, json } = arguments;
    let report = train::examine(&recipe(given, &given.set, false)?)?;
    if *json {
        return Ok(say_json(&(serde_json::to_string(&report)? + "\n"))?);
    }
    let parts = [facts(&report), splits(&report), lengths(&report), labels(&report), baselines(&report)];
    say(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n"))?;
    report.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    Ok(())
}

fn facts(report: &DataReport) -> String {
    table(&report.data.iter().map(|(name, fact)| vec![name.clone(), fact.clone()]).collect::<Vec<_>>())
}

/// The splits that have examples.
fn filled(report: &DataReport) -> impl Iterator<Item = (&SplitReport, &Lengths)> {
    report.splits.iter().filter_map(|split| Some((split, split.lengths.as_ref()?)))
}

fn splits(report: &DataReport) -> String {
    let Some((first, _)) = filled(report).next() else { return String::new() };
    let head = [
        "split",
        &first.what,
        "empty",
        "equal",
        "in training",
        "unknown units",
        "shortest",
        "median",
        "95 %",
        "longest",
    ];
    let count = |count: Option<usize>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let rows = filled(report).map(|(split, lengths)| {
        let Lengths { shortest, median, most, longest, .. } = lengths;
        let counts = [split.count, split.empty].map(Some).into_iter().chain([split.equal, split.in_training]);
        let mut row = vec![split.split.name().to_owned()];
        row.extend(counts.map(count));
        row.push(format!("{:.2} %", 100.0 * split.unknown_share));
        row.extend([shortest, median, most, longest].map(ToString::to_string));
        row
    });
    table(&std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect::<Vec<_>>())
}

fn lengths(report: &DataReport) -> String {
    let Some((split, lengths)) = filled(report).next() else { return String::new() };
    let name = |from: usize, to: usize| if from == to { from.to_string() } else { format!("{from} to {to}") };
    let rows: Vec<_> = lengths.histogram.iter().map(|&(from, to, count)| (name(from, to), count)).collect();
    format!("{} of the {} split by {}\n{}", split.what, split.split.name(), report.units, bars(&rows, width()))
}

/// The most frequent labels of the training split first.
fn labels(report: &DataReport) -> String {
    let Some(training) = report.splits.iter().find(|split| split.split == Split::Train) else { return String::new() };
    if training.labels.is_empty() {
        return String::new();
    }
    let all = training.labels.iter().map(|(_, count)| count).sum::<usize>().max(1);
    let mut order: Vec<usize> = (0..training.labels.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(training.labels[index].1));
    let row = |name: &str, indices: &[usize]| {
        let count = |split: &SplitReport| indices.iter().map(|&index| split.labels[index].1).sum::<usize>();
        let mut row = vec![printable(name), format!("{:.1} %", 100.0 * count(training) as f64 / all as f64)];
        row.extend(report.splits.iter().map(|split| count(split).to_string()));
        row
    };
    let (shown, others) = order.split_at(MOST_LABELS.min(order.len()));
    let mut head = vec!["label".to_owned(), "share".to_owned()];
    head.extend(report.splits.iter().map(|split| split.split.name().to_owned()));
    let mut rows = vec![head];
    rows.extend(shown.iter().map(|&index| row(&training.labels[index].0, &[index])));
    if !others.is_empty() {
        rows.push(row(&format!("({} others)", others.len()), others));
    }
    table(&rows)
}

fn baselines(report: &DataReport) -> String {
    table(&report.baselines.iter().map(|score| vec![score.method.clone(), super::reached(score)]).collect::<Vec<_>>())
}
