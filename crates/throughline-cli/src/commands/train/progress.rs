//! What a run shows while it trains: a progress bar on a terminal, a line for each evaluation everywhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use throughline::data::Split;
use throughline::train::{Event, Row, Score};

use crate::output::note;

/// The display of one run.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// Nothing is shown yet; when `quiet`, nothing ever is but warnings.
    pub fn new(quiet: bool) -> Self {
        Self { bar: ProgressBar::hidden(), quiet }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event<'_>) {
        if let Event::Warning(warning) = event {
            self.line(&format!("warning: {warning}"));
        }
        if self.quiet {
            return;
        }
        match event {
            Event::Ready { description, baselines, parameters, threads, step, steps } => {
                for (name, fact) in &description.data {
                    note(&format!("{name:<28} {fact}"));
                }
                note(&format!("{:<28} {parameters} parameters, {steps} updates, {threads} threads", "model"));
                for score in baselines.iter().filter(|score| score.split == Split::Validation) {
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
            Event::Restart { kept } => {
                self.line(&format!("the learning rate goes down a step, from the parameters of update {kept} on"));
            }
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
    let metrics = score.metrics.iter().map(|(name, value)| format!("{} {value:.4}", name.replace('_', " ")));
    format!("validation {}", metrics.collect::<Vec<_>>().join(", "))
}

fn evaluation(row: &Row, best: bool) -> String {
    let mut text = format!("update {:>6}  {} loss {:.4}", row.step, row.split.name(), row.loss);
    for (name, value) in &row.metrics {
        text += &format!("  {} {value:.4}", name.replace('_', " "));
    }
    if best && row.split == Split::Validation {
        text += "  (best)";
    }
    text
}

/// The text with a bar at its left.
fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  | {line}")).collect();
    lines.join("\n")
}
