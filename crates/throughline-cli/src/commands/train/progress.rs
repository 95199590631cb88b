//! What a run shows while it trains: a progress bar on a terminal, elsewhere a line every few seconds, and a line for each
//! evaluation everywhere.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use throughline::data::Split;
use throughline::train::{Event, Row};

use crate::commands::{bar, duration, reached};
use crate::output::note;

/// Where there is no bar, a run is never silent for longer, but for one long update.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);

/// The display of one run.
pub struct Progress {
    /// Hidden where there is no terminal.
    bar: ProgressBar,
    steps: u64,
    /// When the last line was written.
    said: Instant,
    quiet: bool,
}

impl Progress {
    /// Nothing is shown yet; when `quiet`, nothing ever is but warnings.
    pub fn new(quiet: bool) -> Self {
        Self { bar: ProgressBar::hidden(), steps: 0, said: Instant::now(), quiet }
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
                    note(&format!("{:<28} {}", score.method, reached(score)));
                }
                self.start(*step, *steps);
            }
            Event::Update { step, loss, tokens_per_s, seconds_left } => {
                let message =
                    || format!("loss {loss:.3}  {tokens_per_s:.0} tokens/s  {} left", duration(*seconds_left));
                if !self.bar.is_hidden() {
                    self.bar.set_position(*step);
                    self.bar.set_message(message());
                } else if is_due(self.said, Instant::now()) {
                    self.line(&format!("update {step:>6} of {}  {}", self.steps, message()));
                }
            }
            Event::Evaluation { row, best } => self.line(&evaluation(row, *best)),
            Event::Sample(text) => self.line(&indented(text)),
            Event::Page(file) => {
                self.line(&format!("the run is over; writing {} (Ctrl-C leaves it out) ...", file.display()));
            }
            Event::Restart { kept } => {
                self.line(&format!("the learning rate goes down a step, from the parameters of update {kept} on"));
            }
            _ => {}
        }
    }

    fn start(&mut self, step: u64, steps: u64) {
        self.bar = bar(steps).with_position(step);
        (self.steps, self.said) = (steps, Instant::now());
    }

    /// A line, above the bar if there is one.
    fn line(&mut self, text: &str) {
        self.bar.suspend(|| note(text));
        self.said = Instant::now();
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Whether a line is due that says how far the run is.
fn is_due(said: Instant, now: Instant) -> bool {
    now.duration_since(said) >= LONGEST_SILENCE
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_after_some_seconds_of_silence() {
        let said = Instant::now();
        assert!(!is_due(said, said + Duration::from_millis(4999)));
        assert!(is_due(said, said + LONGEST_SILENCE));
    }
}
