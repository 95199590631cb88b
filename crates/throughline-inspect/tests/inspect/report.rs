//! The report of what was seen, for a terminal and for a browser.

use std::collections::BTreeMap;

use throughline_data::ConfusionMatrix;
use throughline_infer::Evaluation;
use throughline_inspect::{
    Attribution, Column, Example, Fault, Finding, Inspection, Probe, Report, Site, Training, UnitTrace, Update, spectra,
};
use throughline_kernels::cells::CellKind;
use throughline_nn::layers::RecurrentConfig;

use crate::common::stepwise;

fn report(inspection: Inspection) -> Report {
    Report {
        run: "run-1".to_owned(),
        model: "test model",
        counted: "steps",
        network: "small".to_owned(),
        data: "test split".to_owned(),
        notes: Vec::new(),
        inspection,
        training: Training::default(),
        findings: Vec::new(),
        evaluation: None,
    }
}

fn inspection(cell: CellKind, lengths: &[usize]) -> Inspection {
    let config = RecurrentConfig { layers: 2, bidirectional: true, ..RecurrentConfig::new(cell, 3, 5) };
    let model = stepwise::<f32>(config, lengths);
    let mut found = model.inspected();
    let spectra_of = |stack: &_| spectra(&model.cpu, model.network.layout(), &model.parameters, stack);
    Probe::new(model.subject(), false).stacks(&mut |stack, _| found.spectra = spectra_of(stack));
    found
}

fn update(update: u64, loss: f64, gradient_norm: f64) -> Update {
    Update { update, loss: Some(loss), validation_loss: None, gradient_norm: Some(gradient_norm), learning_rate: 0.1 }
}

/// What is wrong with the marks of a page: each is closed in its turn.
fn unclosed(html: &str) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    for tag in html.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        let name = tag.split([' ', '\n']).next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(name) if open.last().is_some_and(|last| last == name) => drop(open.pop()),
            Some(name) => return vec![format!("</{name}> after {open:?}")],
            None if tag.ends_with('/') || ["!DOCTYPE", "meta"].contains(&name) => {}
            None => open.push(name.to_owned()),
        }
    }
    open
}

#[test]
fn every_cell_has_a_page_and_a_text() {
    for &cell in CellKind::ALL {
        let report = report(inspection(cell, &[12, 7, 12]));
        let (html, text) = (report.html(), report.text(80));
        assert_eq!(unclosed(&html), [""; 0], "{}", cell.name());
        for part in ["run-1: test model", "rnn layer 1, reverse", "spectral radius", "no fault"] {
            assert!(text.contains(part), "{}: {part} in\n{text}", cell.name());
        }
        for part in ["<h1>run-1</h1>", "rnn layer 1, reverse", "largest singular value", "No fault"] {
            assert!(html.contains(part), "{}: {part}", cell.name());
        }
        assert_eq!(html.contains("time constants, sorted"), cell.keeping_gate().is_some(), "{}", cell.name());
        // A flow for each direction of each layer, and as many pictures of spectra.
        assert!(html.matches("<svg ").count() >= 8, "{}", cell.name());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!html.contains("NaN") && !text.contains("NaN"));
    }
}

#[test]
fn the_shortest_sequences_can_be_told_of() {
    for lengths in [&[1][..], &[1, 1], &[2, 0, 1]] {
        let report = report(inspection(CellKind::Lstm, lengths));
        assert_eq!(unclosed(&report.html()), [""; 0], "{lengths:?}");
        assert!(report.text(80).contains("> "), "{lengths:?}");
    }
}

#[test]
fn a_page_needs_nothing_from_elsewhere_and_trusts_no_name() {
    let hostile = "<script src=\"//evil\">'&\u{202e}</script>";
    let mut confusion = ConfusionMatrix::new(vec![hostile.to_owned(), "b".to_owned()]);
    confusion.add(0, 1);
    let report = Report {
        run: hostile.to_owned(),
        data: hostile.to_owned(),
        notes: vec![hostile.to_owned()],
        evaluation: Some(Evaluation {
            count: 1,
            loss: 0.5,
            metrics: BTreeMap::from([("accuracy".to_owned(), 0.0)]),
            unknown_share: 0.0,
            confusion: Some(confusion),
        }),
        ..report(inspection(CellKind::GruAfter, &[5, 5]))
    };
    let html = report.html();
    assert_eq!(unclosed(&html), [""; 0]);
    assert!(!html.contains("<script") && html.contains("&lt;script src=&quot;//evil&quot;&gt;"));
    assert!(html.contains("Confusion matrix") && html.contains("accuracy"));
    // The only address is the name of a language.
    assert_eq!(html.matches("http").count() - html.matches("http-equiv").count(), html.matches("<svg ").count());
    assert!(!html.contains("url(") && !html.contains("@import") && !html.contains("src=\"/"));
}

#[test]
fn many_classes_are_told_by_their_confusions() {
    let mut confusion = ConfusionMatrix::new((0..50).map(|class| format!("class {class}")).collect());
    (0..3).for_each(|_| confusion.add(7, 49));
    confusion.add(3, 4);
    let evaluation =
        Evaluation { count: 4, loss: 0.5, metrics: BTreeMap::new(), unknown_share: 0.0, confusion: Some(confusion) };
    let html = Report { evaluation: Some(evaluation), ..report(inspection(CellKind::Lstm, &[5, 5])) }.html();
    assert!(!html.contains("Confusion matrix") && !html.contains("class 12"));
    let at = |row: &str| html.find(row).unwrap_or_else(|| panic!("{row}"));
    assert!(at("<td>class 7</td><td>class 49</td><td>3</td>") < at("<td>class 3</td><td>class 4</td><td>1</td>"));
}

#[test]
fn training_is_drawn_with_its_clipping() {
    let training = Training { updates: vec![update(0, 3.0, 4.0), update(10, 1.0, 0.5)], clip_norm: Some(1.0) };
    let report = Report { training, ..report(inspection(CellKind::Lstm, &[5, 5])) };
    assert!(report.html().contains("clipped to 1.00 (dashed) in 50 % of the measured updates"));
    let text = report.text(80);
    assert!(text.contains("clipped to norm 1.00: 50 % of the measured updates"), "{text}");
    assert!(text.contains("  loss              3.00 █▁ 1.00"), "{text}");
    // Numbers that do not exist, and only one update, are no reason to fail.
    let training = Training { updates: vec![update(0, f64::NAN, f64::INFINITY)], clip_norm: None };
    let odd = Report { training, ..report.clone() };
    assert!(!odd.text(80).contains("NaN") && !odd.html().contains("NaN"));
    let training = Training { updates: vec![update(3, 2.0, 0.0)], clip_norm: None };
    assert_eq!(unclosed(&Report { training, ..report }.html()), [""; 0]);
}

#[test]
fn what_is_wrong_comes_with_its_remedy() {
    let finding = Finding { fault: Fault::Dead, seen: "Units are dead.".to_owned(), remedy: "Wake them.".to_owned() };
    let report = Report { findings: vec![finding], ..report(inspection(CellKind::RnnRelu, &[5, 5])) };
    assert!(report.text(80).ends_with("Diagnosis\n- Units are dead. Wake them.\n"));
    let html = report.html();
    assert!(html.contains("<p>Units are dead.</p><p>Wake them.</p>") && !html.contains("No fault"));
}

#[test]
fn examples_are_shown_and_trust_no_piece() {
    let parts = vec![0.5, -0.25, 0.125];
    let attribution = Attribution {
        value: -0.5,
        baseline: -1.0,
        gradient_input: parts.clone(),
        integrated: parts.clone(),
        columns: Vec::new(),
        points: 17,
        complete: false,
    };
    let site = Site { stack: "rnn".to_owned(), layer: 0, reverse: false };
    let units = vec![UnitTrace { site, unit: 12, values: vec![-1.0, 0.0, 1.0] }];
    let pieces = Some(["<b>", "\u{1b}[2J", "fine"].map(str::to_owned).to_vec());
    let of_text =
        Example { loss: 1.0, pieces, inputs: Vec::new(), attribution: attribution.clone(), units: units.clone() };
    let whole =
        Attribution { columns: vec![parts.clone(), parts.clone()], baseline: -0.875, complete: true, ..attribution };
    let column = |name: &str, values| Column { name: name.to_owned(), values };
    let inputs = vec![column("<x>", parts.clone()), column("y", vec![0.0; 3])];
    let of_numbers = Example { loss: 0.5, pieces: None, inputs, attribution: whole, units };
    let mut inspection = inspection(CellKind::Lstm, &[5, 5]);
    inspection.examples = vec![of_text, of_numbers];
    let report = report(inspection);
    let (text, html) = (report.text(80), report.html());
    assert_eq!(unclosed(&html), [""; 0]);
    assert!(
        !html.contains("<b><") && html.contains("&lt;b&gt;") && html.contains("<h3>Example 2: mean loss 0.500</h3>")
    );
    assert!(!html.contains('\u{1b}') && !text.contains('\u{1b}'), "{text}");
    assert!(
        html.contains("Parts of inputs")
            && html.contains("&lt;x&gt;")
            && !html.contains("<x>")
            && !html.contains("NaN")
    );
    // Where lines end is another matter.
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "1: mean loss 1.00; the answer scores -0.500, after a blank input -1.00; the parts, from 17 points, add up to 75 % of the difference, \
         which is not complete parts █▅▃ most \"<b>\" 0.500,",
        "2: mean loss 0.500; the answer scores -0.500, after a blank input -0.875; the parts, from 17 points, add up to 100 % of the \
         difference parts █▅▃ most step 0 0.500, step 1 -0.250, step 2 0.125 unit 12 ▁▅█",
    ] {
        assert!(words.contains(part), "{part} in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}
