//! What was seen inside a model, as a page for a browser: one file, without scripts and without the network.

use std::fmt::Display;

use throughline_data::{ConfusionMatrix, printable};
use throughline_infer::Evaluation;

use super::{GONE, POOLED, Report, adds_up, horizons, largest};
use crate::figures::{self, Axis, Colour, Curve, FIRST, SECOND};
use crate::numbers::{number, percent};
use crate::{Activation, Column, Example, GateStatistics, Quantiles, Site, Update};

/// Shares of gradients are drawn down to this one.
const LEAST: f64 = 1e-8;
/// Classes of figures by the least width that they take.
const WIDE: &str = "wide";
const SMALL: &str = "small";
/// The most columns of a heat map.
const MOST_COLUMNS: usize = 128;
/// The most classes of a confusion matrix that is shown whole.
const MOST_CLASSES: usize = 30;
/// The most columns of an input whose parts are shown.
const MOST_INPUTS: usize = 12;

/// The whole page.
pub fn page(report: &Report) -> String {
    let sections = [
        evaluation(report),
        training(report),
        gradient_flow(report),
        memory(report),
        interventions(report),
        gates(report),
        states(report),
        spectra(report),
        examples(report),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <style>\n{}{}</style>\n</head>\n<body>\n{}{}</body>\n</html>\n",
        escaped(&report.run),
        include_str!("page.css"),
        figures::style(),
        head(report),
        sections.concat()
    )
}

/// Text from anywhere, for a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A section with a sentence on what it shows; nothing if it is empty.
fn section(title: &str, about: &str, content: &str) -> String {
    if content.is_empty() {
        String::new()
    } else {
        format!("<h2>{title}</h2>\n<p class=\"soft\">{about}</p>\n{content}")
    }
}

/// Figures side by side, as many as the page has room for.
fn figures(class: &str, figures: impl IntoIterator<Item = String>) -> String {
    let figures: String = figures.into_iter().collect();
    if figures.is_empty() { figures } else { format!("<div class=\"figures {class}\">\n{figures}</div>\n") }
}

/// A figure under its caption, in which `name` stands out.
fn figure(name: impl Display, caption: &str, svg: &str) -> String {
    let name = escaped(&name.to_string());
    format!("<figure><figcaption><b>{name}</b> {caption}</figcaption>\n{svg}</figure>\n")
}

/// A table whose first row is its head; nothing without others.
fn table(rows: &[Vec<String>]) -> String {
    let [head, rows @ ..] = rows else { return String::new() };
    if rows.is_empty() {
        return String::new();
    }
    let line = |row: &Vec<String>, cell: &str| {
        let cells = row.iter().map(|text| format!("<{cell}>{}</{cell}>", escaped(text)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = rows.iter().map(|row| line(row, "td")).collect();
    format!("<div class=\"scroll\"><table>\n{}{rows}</table></div>\n", line(head, "th"))
}

fn cells<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn head(report: &Report) -> String {
    let Report { run, model, network, data, notes, inspection, findings, .. } = report;
    let (sequences, steps) = (inspection.sequences, inspection.steps);
    let about = escaped(&format!("{model}, {network}; seen on {data}: {sequences} sequences, {steps} steps"));
    let notes: String = notes.iter().map(|note| format!("<p class=\"soft\">{}</p>\n", escaped(note))).collect();
    let finding = |seen: &str, remedy: &str| format!("<li><p>{}</p><p>{}</p></li>\n", escaped(seen), escaped(remedy));
    let findings: String = match findings.is_empty() {
        true => "<li class=\"good\"><p>No fault was found in gradients, gates and units.</p></li>\n".to_owned(),
        false => findings.iter().map(|found| finding(&found.seen, &found.remedy)).collect(),
    };
    let run = escaped(run);
    format!("<h1>{run}</h1>\n<p class=\"soft\">{about}</p>\n{notes}<ul class=\"findings\">\n{findings}</ul>\n")
}

fn evaluation(report: &Report) -> String {
    let Some(Evaluation { count, loss, metrics, unknown_share, confusion }) = &report.evaluation else {
        return String::new();
    };
    let mut rows = vec![cells(["measured", "value"]), vec!["loss".to_owned(), format!("{loss:.4}")]];
    rows.extend(metrics.iter().map(|(name, value)| vec![name.replace('_', " "), format!("{value:.4}")]));
    rows.push(vec!["share of unknown units".to_owned(), format!("{unknown_share:.4}")]);
    let about = format!("Measured on {}: {count} {}.", escaped(&report.data), report.counted);
    let confusion = confusion.as_ref().map(confused).unwrap_or_default();
    section("How good the model is", &about, &(table(&rows) + &confusion))
}

/// A confusion matrix; of many classes the confusions that are the most frequent.
fn confused(matrix: &ConfusionMatrix) -> String {
    let labels: Vec<String> = matrix.labels().iter().map(|label| printable(label)).collect();
    let classes = labels.len();
    if classes > MOST_CLASSES {
        let pairs = (0..classes).flat_map(|truth| (0..classes).map(move |prediction| (truth, prediction)));
        let mut pairs: Vec<(usize, usize)> = pairs.filter(|&(a, b)| a != b && matrix.count(a, b) > 0).collect();
        pairs.sort_by_key(|&(truth, prediction)| std::cmp::Reverse(matrix.count(truth, prediction)));
        let pair = |&(truth, prediction): &(usize, usize)| {
            vec![labels[truth].clone(), labels[prediction].clone(), matrix.count(truth, prediction).to_string()]
        };
        let rows =
            std::iter::once(cells(["truth", "prediction", "times"])).chain(pairs.iter().take(MOST_CLASSES).map(pair));
        return format!("<h3>Most frequent confusions</h3>\n{}", table(&rows.collect::<Vec<_>>()));
    }
    // Columns are headed by the number of their class, so that long names do not widen them.
    let heads: String = (1..=classes).map(|number| format!("<th>{number}</th>")).collect();
    let row = |truth: usize| {
        let all = (0..classes).map(|prediction| matrix.count(truth, prediction)).sum::<u64>().max(1) as f64;
        let cell = |prediction: usize| {
            let count = matrix.count(truth, prediction);
            let colour = if truth == prediction { "first" } else { "second" };
            let strength = 70.0 * count as f64 / all;
            format!(
                "<td style=\"background: color-mix(in srgb, var(--{colour}) {strength:.0}%, transparent)\">{count}</td>"
            )
        };
        let (number, label) = (truth + 1, escaped(&labels[truth]));
        format!("<tr><th>{number} {label}</th>{}</tr>\n", (0..classes).map(cell).collect::<String>())
    };
    format!(
        "<h3>Confusion matrix</h3>\n<p class=\"soft\">A row for each true class, a column for each predicted one; colours are \
         shares of the row.</p>\n<div class=\"scroll\"><table class=\"confusion\">\n<tr><th></th>{heads}</tr>\n{}</table></div>\n",
        (0..classes).map(row).collect::<String>()
    )
}

/// The smallest and the largest of some numbers; `None` if there are none.
fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).map(|value| (value, value)).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
}

fn training(report: &Report) -> String {
    let training = &report.training;
    let points = |of: fn(&Update) -> Option<f64>| -> Vec<(f64, f64)> {
        let point = |update: &Update| Some((update.update as f64, of(update)?));
        training.updates.iter().filter_map(point).filter(|(_, value)| value.is_finite()).collect()
    };
    let updates = ends(training.updates.iter().map(|update| update.update as f64)).unwrap_or_default();
    let updates = Axis::linear("update", updates.0..updates.1);
    let (loss, validation) = (points(|update| update.loss), points(|update| update.validation_loss));
    let losses = ends(loss.iter().chain(&validation).map(|point| point.1)).map(|(low, high)| {
        let curve = |colour: &'static Colour, points| Curve { colour, points, band: Vec::new() };
        let curves = [curve(&FIRST, loss), curve(&SECOND, validation)];
        let svg = figures::curves(&updates, &Axis::linear("loss", low..high), &[], &curves);
        let keys = "<span class=\"key\">training</span> <span class=\"key second\">validation</span>";
        figure("Loss", keys, &svg)
    });
    let norms = points(|update| update.gradient_norm);
    let positive = ends(norms.iter().map(|point| point.1).filter(|norm| *norm > 0.0).chain(training.clip_norm));
    let norms = positive.filter(|_| !norms.is_empty()).map(|(low, high)| {
        let caption = match (training.clip_norm, training.clipped()) {
            (Some(norm), Some(share)) => {
                format!("clipped to {} (dashed) in {} of the measured updates", number(norm), percent(share))
            }
            _ => "not clipped".to_owned(),
        };
        let (low, high) = (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil()));
        let guide: Vec<f64> = training.clip_norm.into_iter().collect();
        let curves = [Curve { colour: &FIRST, points: norms, band: Vec::new() }];
        let svg = figures::curves(&updates, &Axis::logarithmic("gradient norm", 10.0, low..high), &guide, &curves);
        figure("Gradient norm", &caption, &svg)
    });
    let about = "Every measured update. The norm is that of the whole gradient, before clipping.";
    section("Training", about, &figures(WIDE, losses.into_iter().chain(norms)))
}

/// Medians against lags from 1 on, in a band from the 10th to the 90th percentile.
fn against_lag(name: &'static str, longest: usize, top: f64, guides: &[f64], at: &[(usize, Quantiles)]) -> String {
    let x = Axis::logarithmic("lag", 2.0, 1.0..longest.max(2) as f64);
    let y = Axis::logarithmic(name, 10.0, LEAST..top);
    let finite = at.iter().filter(|(lag, of)| *lag > 0 && of.high.is_finite());
    let (points, band) = finite
        .map(|&(lag, Quantiles { low, median, high })| {
            let lag = lag as f64;
            ((lag, median), (lag, low, high))
        })
        .unzip();
    figures::curves(&x, &y, guides, &[Curve { colour: &FIRST, points, band }])
}

/// The power of ten that is no smaller than any of these, and at least 1.
fn power_above(values: impl Iterator<Item = f64>) -> f64 {
    let most = values.filter(|value| value.is_finite()).fold(1.0, f64::max);
    10f64.powf(most.log10().ceil())
}

fn gradient_flow(report: &Report) -> String {
    let flows = &report.inspection.flow;
    let longest = flows.iter().map(|flow| flow.lags.len()).max().unwrap_or(0).saturating_sub(1);
    let top = power_above(flows.iter().flat_map(|flow| &flow.lags).map(|at| at.relative.high));
    let guides = GONE.map(|(share, _)| share);
    let pooled = if report.inspection.pools_steps { format!("<p>{POOLED}</p>\n") } else { String::new() };
    let of_flow = |flow: &crate::Flow| {
        let at: Vec<(usize, Quantiles)> = flow.lags.iter().map(|at| at.relative).enumerate().collect();
        let gone = GONE.map(|(share, name)| match flow.horizon(share) {
            Some(lag) => format!("{name} from lag {lag}"),
            None => format!("not {name}"),
        });
        let caption = gone.join(", ");
        figure(flow, &caption, &against_lag("share of lag 0", longest, top, &guides, &at))
    };
    section(
        "How far back gradients reach",
        "The norm of the derivative of the loss at a step with respect to the state k steps before, h or c, as a share of that at \
         lag 0: the median, and a band from a tenth below to a tenth above. Dashed: 1 % and 1e-6.",
        &(pooled + &figures(WIDE, flows.iter().map(of_flow))),
    )
}

fn memory(report: &Report) -> String {
    let states = &report.inspection.gates.states;
    let mut rows = vec![cells(["layer", GONE[0].1, GONE[1].1, "units: 10 %", "median", "90 %"])];
    rows.extend(report.inspection.flow.iter().filter(|flow| flow.carried).map(|flow| {
        let constants = states.iter().find(|state| state.site == flow.site).map(|state| state.time_constants.clone());
        let quantiles = match constants.filter(|constants| !constants.is_empty()) {
            Some(mut constants) => {
                let Quantiles { low, median, high } = Quantiles::of(&mut constants);
                [low, median, high].map(number)
            }
            None => cells(["-", "-", "-"]).try_into().expect("three cells"),
        };
        std::iter::once(flow.site.to_string()).chain(horizons(flow)).chain(quantiles).collect()
    }));
    let all = ends(states.iter().flat_map(|state| state.time_constants.iter().copied()).filter(|steps| *steps > 0.0));
    let curves = all.into_iter().flat_map(|(low, high)| {
        let y = Axis::logarithmic("steps", 10.0, 10f64.powf(low.log10().floor())..10f64.powf(high.log10().ceil()));
        let of_state = move |state: &crate::StateStatistics| {
            let mut constants = state.time_constants.clone();
            constants.sort_by(f64::total_cmp);
            let last = constants.len().saturating_sub(1).max(1) as f64;
            let point = |(unit, steps): (usize, f64)| (100.0 * unit as f64 / last, steps);
            let points = constants.into_iter().enumerate().map(point).collect();
            let curve = Curve { colour: &FIRST, points, band: Vec::new() };
            let svg = figures::curves(&Axis::linear("share of units, in %", 0.0..100.0), &y, &[], &[curve]);
            figure(&state.site, "time constants, sorted", &svg)
        };
        states.iter().filter(|state| !state.time_constants.is_empty()).map(of_state).collect::<Vec<_>>()
    });
    section(
        "How long units remember",
        "Lags from which gradients are gone, and the time constants of units: the steps after which 1/e of what a unit holds \
         is left where nothing new comes in.",
        &(table(&rows) + &figures(WIDE, curves)),
    )
}

fn interventions(report: &Report) -> String {
    let effects = &report.inspection.effects;
    let longest = effects.last().map_or(1, |effect| effect.lag);
    let top = power_above(effects.iter().map(|effect| effect.change.high));
    let at: Vec<(usize, Quantiles)> = effects.iter().map(|effect| (effect.lag, effect.change)).collect();
    let shown =
        (at.len() > 1).then(|| figure("Change of the last output", "", &against_lag("change", longest, top, &[], &at)));
    section(
        "How far back inputs count",
        "One input, so many steps before the last, is replaced by that of another sequence; the change of the last output is \
         measured as a share of its size. What changes nothing is forgotten, whatever gradients say.",
        &figures(WIDE, shown),
    )
}

/// What a gate's activations may be; those of a ReLU end where its histogram does, which says nothing of where.
fn range(activation: Activation) -> Axis {
    match activation {
        Activation::Sigmoid => Axis::linear("", 0.0..1.0),
        Activation::Tanh => Axis::linear("", -1.0..1.0),
        Activation::Relu => Axis::linear("", 0.0..1.0),
    }
}

fn gates(report: &Report) -> String {
    let all = &report.inspection.gates.gates;
    let of_gate = |gate: &GateStatistics| {
        let GateStatistics { activation, mean, low, high, stuck, units, histogram, .. } = gate;
        let caption = match activation {
            Activation::Relu => format!("mean {}; the axis is a share of the largest", number(*mean)),
            _ => format!(
                "mean {mean:.2}; {} low, {} high; {stuck} of {} stuck",
                percent(*low),
                percent(*high),
                units.len()
            ),
        };
        figure(gate.gate, &caption, &figures::bars(&range(*activation), histogram))
    };
    let of_site = |site: &Site| {
        let here: Vec<&GateStatistics> = all.iter().filter(|gate| gate.site == *site).collect();
        let map = figure("Mean of each unit", &order_in_words(&here), &heat_map(&here));
        let bars = here.into_iter().map(of_gate);
        format!("<h3>{}</h3>\n{}", escaped(&site.to_string()), figures(SMALL, bars.chain([map])))
    };
    let sites = report.inspection.gates.states.iter().map(|state| of_site(&state.site));
    section(
        "What the gates do",
        "How often each activation occurs; low and high are the lowest and the highest twentieth of the range, and a unit is \
         stuck that never leaves one of them.",
        &sites.collect::<String>(),
    )
}

fn order_in_words(gates: &[&GateStatistics]) -> String {
    match gates.iter().find(|gate| gate.keeps) {
        Some(gate) => format!("in the order of the {} gate", escaped(gate.gate)),
        None => "in their order".to_owned(),
    }
}

/// The mean activations of units, in the order of those of the gate that keeps the state; of many units neighbours share a
/// column.
fn heat_map(gates: &[&GateStatistics]) -> String {
    let units = gates.first().map_or(0, |gate| gate.units.len());
    let mut order: Vec<usize> = (0..units).collect();
    if let Some(keeping) = gates.iter().find(|gate| gate.keeps) {
        order.sort_by(|&a, &b| keeping.units[a].total_cmp(&keeping.units[b]));
    }
    let columns = units.min(MOST_COLUMNS);
    let row = |gate: &&GateStatistics| {
        let size = match gate.activation {
            Activation::Relu => gate.units.iter().copied().fold(f64::MIN_POSITIVE, f64::max),
            Activation::Sigmoid | Activation::Tanh => 1.0,
        };
        let mean = |column: usize| {
            let shared = &order[column * units / columns..(column + 1) * units / columns];
            shared.iter().map(|&unit| gate.units[unit] / size).sum::<f64>() / shared.len() as f64
        };
        (gate.gate, (0..columns).map(mean).collect())
    };
    figures::heat_map(&gates.iter().map(row).collect::<Vec<_>>())
}

fn states(report: &Report) -> String {
    let mut rows = vec![cells(["layer", "|h|: 10 %", "median", "90 %", "|c|: median", "largest", "dead units"])];
    rows.extend(report.inspection.gates.states.iter().map(|state| {
        let Quantiles { low, median, high } = state.hidden;
        let cell = state.cell.map_or_else(|| "-".to_owned(), |cell| number(cell.median));
        let largest = state.largest_cell.map_or_else(|| "-".to_owned(), number);
        let sizes = [low, median, high].map(number).into_iter();
        let rest = [cell, largest, state.dead.to_string()];
        std::iter::once(state.site.to_string()).chain(sizes).chain(rest).collect()
    }));
    section("How large states are", "A unit is dead whose |h| is below 0.001 at every step.", &table(&rows))
}

fn spectra(report: &Report) -> String {
    let all = &report.inspection.spectra;
    let of_site = |site: &Site| {
        let here = all.iter().filter(|spectrum| spectrum.site == *site);
        let rows: Vec<(&str, [f64; 2])> =
            here.map(|spectrum| (spectrum.gate, [spectrum.radius, spectrum.largest_singular_value])).collect();
        (!rows.is_empty()).then(|| figure(site, "", &figures::dots("radius and largest singular value", &rows)))
    };
    section(
        "What the recurrent weights do",
        "Of each gate's W_hh the spectral radius (disc), what the product does to a state in the long run, and the largest \
         singular value (ring), the most that it stretches one. The line stands at 1.",
        &figures(WIDE, report.inspection.gates.states.iter().filter_map(|state| of_site(&state.site))),
    )
}

/// Rows of inputs have numbers, since names may be long; here are the names.
fn names_of(inputs: &[Column]) -> String {
    if inputs.is_empty() {
        return String::new();
    }
    let names = inputs.iter().take(MOST_INPUTS).zip(1..).map(|(column, number)| format!("{number} {}", column.name));
    let names = escaped(&names.collect::<Vec<_>>().join(", "));
    let left_out = match inputs.len().saturating_sub(MOST_INPUTS) {
        0 => String::new(),
        more => format!(", and {more} more, which are not shown"),
    };
    format!("<p class=\"soft\">Inputs: {names}{left_out}.</p>\n")
}

fn examples(report: &Report) -> String {
    // They all read the same.
    let mut inputs = report.inspection.examples.iter().map(|example| &example.inputs);
    let names = inputs.find(|inputs| !inputs.is_empty()).map(|inputs| names_of(inputs)).unwrap_or_default();
    let examples = report.inspection.examples.iter().enumerate();
    let examples: String = examples.map(|(index, example)| one_example(index + 1, example)).collect();
    section(
        "What answers rest on",
        "Some sequences in detail, from the highest loss to the lowest of those that were seen. What is explained is the log-likelihood of the right answer, for numbers minus the error, and \
         where every step has an answer that of the last step; a tagger's is explained for all steps together. Integrated gradients \
         share out its difference to that of a blank input among the steps; gradient times input is how it would change if a step counted \
         a little more. Blue speaks for the answer, orange against it.",
        &(names + &examples),
    )
}

fn one_example(index: usize, Example { loss, pieces, inputs, attribution, units }: &Example) -> String {
    let both =
        [("Integrated gradients", &attribution.integrated), ("Gradient times input", &attribution.gradient_input)];
    let words = pieces.iter().flat_map(|pieces| {
        both.map(|(name, parts)| format!("<h4>{name}</h4>\n<p class=\"pieces\">{}</p>\n", coloured(pieces, parts)))
    });
    let words: String = words.collect();
    let scaled = |values: &[f64]| -> Vec<f64> {
        let most = largest(values.iter().copied());
        values.iter().map(|value| value / most).collect()
    };
    let mut maps = Vec::new();
    if pieces.is_none() {
        let rows = [("integrated", scaled(&attribution.integrated)), ("gradient", scaled(&attribution.gradient_input))];
        maps.push(figure(
            "Parts of steps",
            "from the first to the last, each row by its largest",
            &figures::heat_map(&rows),
        ));
        let numbers: Vec<String> = (1..=inputs.len().min(MOST_INPUTS)).map(|number| number.to_string()).collect();
        let rows = |of: &mut dyn Iterator<Item = &Vec<f64>>| -> String {
            let rows: Vec<(&str, Vec<f64>)> =
                numbers.iter().zip(of).map(|(number, values)| (&number[..], scaled(values))).collect();
            figures::heat_map(&rows)
        };
        let read = rows(&mut inputs.iter().map(|column| &column.values));
        maps.push(figure("What was read", "each row by its largest number", &read));
        if inputs.len() > 1 {
            let caption = "integrated gradients, each row by its largest";
            maps.push(figure("Parts of inputs", caption, &rows(&mut attribution.columns.iter())));
        }
    }
    if let Some(first) = units.first() {
        let most = largest(units.iter().flat_map(|unit| unit.values.iter().copied())).max(1.0);
        let names: Vec<String> = units.iter().map(|unit| format!("unit {}", unit.unit)).collect();
        let rows: Vec<(&str, Vec<f64>)> = names
            .iter()
            .zip(units)
            .map(|(name, unit)| (&name[..], unit.values.iter().map(|h| h / most).collect()))
            .collect();
        let caption = "h of the units that change most, from the first step to the last";
        maps.push(figure(&first.site, caption, &figures::heat_map(&rows)));
    }
    let about = escaped(&adds_up(attribution));
    let loss = number(*loss);
    format!(
        "<h3>Example {index}: mean loss {loss}</h3>\n<p class=\"soft\">{about}.</p>\n{words}{}",
        figures(WIDE, maps)
    )
}

/// Pieces of text, each on a ground as strong as its part is large.
fn coloured(pieces: &[String], parts: &[f64]) -> String {
    let most = largest(parts.iter().copied());
    // Characters stand close, and words apart.
    let apart = if pieces.iter().any(|piece| piece.chars().count() > 1) { " " } else { "" };
    let piece = |(piece, part): (&String, &f64)| {
        let colour = if *part < 0.0 { "second" } else { "first" };
        let strength = 70.0 * part.abs() / most;
        let (text, part) = (escaped(&printable(piece)), number(*part));
        format!(
            "<span title=\"{part}\" style=\"background: color-mix(in srgb, var(--{colour}) {strength:.0}%, transparent)\">\
             {text}</span>"
        )
    };
    pieces.iter().zip(parts).map(piece).collect::<Vec<_>>().join(apart)
}
