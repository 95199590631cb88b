//! What was seen inside a model, for a terminal.

use throughline_data::printable;

use super::{GONE, POOLED, Report, adds_up, horizons, largest, most_important};
use crate::numbers::{number, percent};
use crate::terminal::{behind, columns, item, right_aligned, sparkline};
use crate::{AtLag, Example, Finding, Flow, GateStatistics, Quantiles, Update};

/// Powers of ten that a sparkline of gradients spans below 1.
const DECADES: f64 = 6.0;
/// Lags whose numbers are shown.
const LAGS: [usize; 9] = [0, 1, 2, 4, 8, 16, 32, 64, 128];

/// Steps of an example that are named.
const LARGEST_PARTS: usize = 5;

/// The whole report, in so many columns.
pub fn text(report: &Report, width: usize) -> String {
    let sections = [
        head(report),
        gradient_flow(report, width),
        memory(report),
        interventions(report),
        gates(report),
        states(report),
        spectra(report),
        examples(report, width),
        training(report, width),
        diagnosis(report, width),
    ];
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
}

fn head(report: &Report) -> String {
    let Report { run, model, network, data, inspection, .. } = report;
    let (sequences, steps) = (inspection.sequences, inspection.steps);
    format!("{run}: {model}, {network}\nseen on {data}: {sequences} sequences, {steps} steps\n")
}

/// A heading and rows of cells, of which the first is a name.
fn section(heading: &str, rows: &[Vec<String>]) -> String {
    if rows.len() > 1 { format!("{heading}\n{}", right_aligned(rows)) } else { String::new() }
}

fn row(name: impl ToString, cells: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_string()).chain(cells).collect()
}

fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn gradient_flow(report: &Report, width: usize) -> String {
    let flows = &report.inspection.flow;
    if flows.is_empty() {
        return String::new();
    }
    let heading = "How far back gradients reach: |dL_t / ds_(t-k)| by lag k, as a share of lag 0, s\n\
                   the state that carries memory on: c of an LSTM, h of other cells";
    let pooled = if report.inspection.pools_steps { item(POOLED, width) } else { String::new() };
    let flows: String = flows.iter().filter(|flow| flow.carried).map(|flow| one_flow(flow, width)).collect();
    format!("{heading}\n{pooled}{flows}")
}

fn one_flow(flow: &Flow, width: usize) -> String {
    let last = flow.lags.len().saturating_sub(1);
    let ends = ["  lag 0 ".to_owned(), format!(" {last}")];
    let room = width.saturating_sub(ends[0].len() + ends[1].len());
    let medians: Vec<f64> = flow.lags.iter().map(|at| at.relative.median).collect();
    // Growth is drawn, too, where there is any.
    let top = medians.iter().copied().filter(|median| median.is_finite()).fold(1.0, f64::max).log10();
    let share = |median: f64| Some((median.log10() + DECADES) / (top + DECADES)).filter(|share| *share >= 0.0);
    let line = sparkline(columns(&medians, room).map(share));
    let scale = format!("1e-{DECADES} to {}", number(10f64.powf(top)));
    let shown: Vec<(usize, &AtLag)> = LAGS.iter().filter_map(|&lag| Some((lag, flow.lags.get(lag)?))).collect();
    let mut rows = vec![row("  lag", shown.iter().map(|(lag, _)| lag.to_string()))];
    rows.extend(quantile_rows("  ", shown.iter().map(|(_, at)| at.relative)));
    format!("{flow}, median, {scale}\n{}{line}{}\n{}", ends[0], ends[1], right_aligned(&rows))
}

fn memory(report: &Report) -> String {
    let mut rows = vec![heads(&["", GONE[0].1, GONE[1].1, "units: 10 %", "median", "90 %"])];
    rows.extend(report.inspection.flow.iter().filter(|flow| flow.carried).map(|flow| {
        let state = report.inspection.gates.states.iter().find(|state| state.site == flow.site);
        let constants = state.map(|state| state.time_constants.clone()).filter(|constants| !constants.is_empty());
        let constants = match constants {
            Some(mut constants) => quantiles(Quantiles::of(&mut constants)),
            None => [(); 3].map(|()| "-".to_owned()),
        };
        row(&flow.site, horizons(flow).into_iter().chain(constants))
    }));
    section("Memory: lags from which gradients are gone; time constants of units, in steps", &rows)
}

fn quantiles(of: Quantiles) -> [String; 3] {
    [of.low, of.median, of.high].map(number)
}

/// A row for each quantile, the highest first.
fn quantile_rows(indent: &str, all: impl Iterator<Item = Quantiles>) -> [Vec<String>; 3] {
    let columns: Vec<[String; 3]> = all.map(quantiles).collect();
    let of = |(name, place): (&str, usize)| {
        row(format!("{indent}{name}"), columns.iter().map(|column| column[place].clone()))
    };
    [("90 %", 2), ("median", 1), ("10 %", 0)].map(of)
}

fn interventions(report: &Report) -> String {
    let shown = &report.inspection.effects;
    let mut rows = vec![row("lag", shown.iter().map(|effect| effect.lag.to_string()))];
    if !shown.is_empty() {
        rows.extend(quantile_rows("", shown.iter().map(|effect| effect.change)));
    }
    section("How far back inputs count: change of the last output where one input is replaced", &rows)
}

fn gates(report: &Report) -> String {
    let mut rows = vec![heads(&["gate", "distribution", "mean", "low", "high", "stuck"])];
    rows.extend(report.inspection.gates.gates.iter().map(|gate| {
        let GateStatistics { site, gate: name, mean, low, high, stuck, .. } = gate;
        let cells = [histogram(gate), format!("{mean:.2}"), percent(*low), percent(*high), stuck.to_string()];
        row(format!("{site} {name}"), cells)
    }));
    section(
        "Gates: activations from 0 to 1, by tanh from -1 to 1; shares in the lowest and
\
         the highest twentieth of the range; units that never leave one of them",
        &rows,
    )
}

fn histogram(gate: &GateStatistics) -> String {
    let most = gate.histogram.iter().copied().max().unwrap_or_default().max(1) as f64;
    sparkline(gate.histogram.iter().map(|&count| (count > 0).then_some(count as f64 / most)))
}

fn states(report: &Report) -> String {
    let mut rows = vec![heads(&["state", "|h|: 10 %", "median", "90 %", "|c|: median", "largest", "dead"])];
    rows.extend(report.inspection.gates.states.iter().map(|state| {
        let cell = state.cell.map_or_else(|| "-".to_owned(), |cell| number(cell.median));
        let largest = state.largest_cell.map_or_else(|| "-".to_owned(), number);
        row(&state.site, quantiles(state.hidden).into_iter().chain([cell, largest, state.dead.to_string()]))
    }));
    section("States: sizes, and units below 0.001 at every step", &rows)
}

fn spectra(report: &Report) -> String {
    let mut rows = vec![heads(&["W_hh", "spectral radius", "largest singular value"])];
    rows.extend(report.inspection.spectra.iter().map(|spectrum| {
        row(
            format!("{} {}", spectrum.site, spectrum.gate),
            [spectrum.radius, spectrum.largest_singular_value].map(number),
        )
    }));
    section("Recurrent weights", &rows)
}

fn examples(report: &Report, width: usize) -> String {
    let examples = report.inspection.examples.iter().enumerate();
    let examples: String = examples.map(|(index, example)| one_example(index + 1, example, width)).collect();
    if examples.is_empty() {
        return examples;
    }
    format!(
        "Examples, from the highest loss to the lowest; of their last steps the parts of\nthe right answer's \
         log-likelihood, by integrated gradients, and h of the units\nthat change most\n{examples}"
    )
}

fn one_example(index: usize, example: &Example, width: usize) -> String {
    let Example { loss, pieces, attribution, units, .. } = example;
    let parts = &attribution.integrated;
    let name = |unit: usize| format!("  unit {unit}");
    let names = units.iter().map(|unit| name(unit.unit).len()).max().unwrap_or_default().max("  parts".len()) + 1;
    let first = parts.len().saturating_sub(width.saturating_sub(names));
    let line = |name: &str, cells: String| format!("{name:names$}{cells}").trim_end().to_owned() + "\n";
    let letters = pieces.as_ref().filter(|pieces| pieces.iter().all(|piece| piece.chars().count() == 1));
    // What is no letter in a terminal is a dot, so that columns stay in line.
    let letter = |piece: &String| if *printable(piece) == **piece { piece.clone() } else { "·".to_owned() };
    let text = letters.map(|letters| line("", letters[first..].iter().map(letter).collect()));
    let most = largest(parts.iter().copied());
    let parts_line = sparkline(parts[first..].iter().map(|part| Some(part.abs() / most)));
    let about = format!("mean loss {}; {}", number(*loss), adds_up(attribution));
    let mut lines = behind(&format!("{index}:"), about.split(' '), width);
    lines += &text.unwrap_or_default();
    lines += &line("  parts", parts_line);
    let mut named = most_important(example, LARGEST_PARTS);
    let before_last = named.len().saturating_sub(1);
    named[..before_last].iter_mut().for_each(|item| item.push(','));
    lines += &behind(&format!("{:1$}", "  most", names - 1), named.iter().map(String::as_str), width);
    for unit in units {
        let size = largest(unit.values.iter().copied());
        let shares = unit.values[first..].iter().map(|h| Some((h / size + 1.0) / 2.0));
        lines += &line(&name(unit.unit), sparkline(shares));
    }
    lines
}

fn training(report: &Report, width: usize) -> String {
    let training = &report.training;
    let series = |of: fn(&Update) -> Option<f64>| -> Vec<f64> {
        training.updates.iter().filter_map(of).filter(|value| value.is_finite()).collect()
    };
    let named = [
        ("loss", series(|update| update.loss)),
        ("validation loss", series(|update| update.validation_loss)),
        ("gradient norm", series(|update| update.gradient_norm)),
    ];
    let lines = named.into_iter().filter(|(_, values)| !values.is_empty()).map(|(name, values)| {
        let (first, last) = (number(values[0]), number(values[values.len() - 1]));
        let (least, most) = values.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), &x| (a.min(x), b.max(x)));
        let start = format!("  {name:<16}{first:>6} ");
        let room = width.saturating_sub(start.len() + 7).min(values.len());
        let share = |value: f64| Some(if most > least { (value - least) / (most - least) } else { 0.0 });
        format!("{start}{} {last}\n", sparkline(columns(&values, room).map(share)))
    });
    let lines: String = lines.collect();
    if lines.is_empty() {
        return lines;
    }
    let clipping = match (training.clip_norm, training.clipped()) {
        (Some(norm), Some(share)) => {
            format!("  clipped to norm {}: {} of the measured updates\n", number(norm), percent(share))
        }
        _ => "  not clipped\n".to_owned(),
    };
    format!("Training, from its first to its last measured update\n{lines}{clipping}")
}

fn diagnosis(report: &Report, width: usize) -> String {
    if report.findings.is_empty() {
        return "Diagnosis: no fault was found in gradients, gates and units\n".to_owned();
    }
    let finding = |finding: &Finding| item(&format!("{} {}", finding.seen, finding.remedy), width);
    format!("Diagnosis\n{}", report.findings.iter().map(finding).collect::<String>())
}
