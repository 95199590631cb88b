//! What a run shows while it trains: a progress bar on a terminal, a line for each evaluation everywhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use throughline::train::card::Score;
use throughline::train::{Event, Part, Row};

use crate::output::note;

/// The display of one run.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// Nothing is shown yet; when `quiet`, nothing ever is.
    pub fn new(quiet: bool) -> Self {
        Self { bar: ProgressBar::hidden(), quiet }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        match event {
            Event::Ready { facts, baselines, parameters, threads, step, steps } => {
                for (name, fact) in *facts {
                    note(&format!("{name:<28} {fact}"));
                }
                note(&format!("{:<28} {parameters} parameters, {steps} updates, {threads} threads", "model"));
                for score in baselines.iter().filter(|score| score.split == Part::Validation) {
                    note(&format!("{:<28} {}", score.method, baseline(score)));
                }
                self.start(*step, *steps);
            }
            Event::Update { step, loss, tokens_per_s } => {
                self.bar.set_position(*step);
                self.bar.set_message(format!("loss {loss:.3}  {tokens_per_s:.0} tokens/s"));
            }
            Event::Evaluation { row, best } => self.line(&evaluation(row, *best)),
            Event::Sample(text) => self.line(&indented(text)),
            _ => {}
        }
    }

    fn start(&mut self, step: u64, steps: u64) {
        let target = ProgressDrawTarget::stderr_with_hz(5);
        self.bar = ProgressBar::with_draw_target(Some(steps), target).with_position(step);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left");
        self.bar.set_style(style.expect("the template is valid"));
        self.bar.enable_steady_tick(Duration::from_millis(500));
        self.bar.reset_eta();
    }

    /// A line above the bar.
    fn line(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn baseline(score: &Score) -> String {
    let value = |name: &str| score.metrics.get(name);
    match (value("loss"), value("accuracy")) {
        (Some(loss), _) => format!("validation loss {loss:.4}"),
        (None, Some(accuracy)) => {
            format!("validation accuracy {accuracy:.4}, macro F1 {:.4}", value("macro_f1").copied().unwrap_or(f64::NAN))
        }
        _ => String::new(),
    }
}

fn evaluation(row: &Row, best: bool) -> String {
    let part = match row.split {
        Part::Training => "train",
        Part::Validation => "validation",
        Part::Test => "test",
    };
    let mut text = format!("update {:>6}  {part} loss {:.4}", row.step, row.loss);
    for (name, value) in &row.metrics {
        text += &format!("  {} {value:.4}", name.replace('_', " "));
    }
    if best && row.split == Part::Validation {
        text += "  (best)";
    }
    text
}

/// The text with a bar at its left; control characters of a model must not reach the terminal.
fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("  | {line}")
    });
    lines.collect::<Vec<_>>().join("\n")
}
