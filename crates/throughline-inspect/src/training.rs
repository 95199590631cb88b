//! What the log of a training run says of it.

use serde::Serialize;

/// A row of the log.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Update {
    /// Updates done.
    pub update: u64,
    /// The mean training loss since the row before; `None` in a row of a validation.
    pub loss: Option<f64>,
    /// The validation loss; `None` in a row of training.
    pub validation_loss: Option<f64>,
    /// The global norm of the gradient before clipping, of the last update.
    pub gradient_norm: Option<f64>,
    /// The learning rate.
    pub learning_rate: f64,
}

/// A training run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Training {
    /// The log.
    pub updates: Vec<Update>,
    /// The norm to which gradients were clipped, if they were.
    pub clip_norm: Option<f64>,
}

impl Training {
    /// The share of the logged updates whose gradient was clipped; `None` where none was to be, or nothing was logged.
    pub fn clipped(&self) -> Option<f64> {
        let clip_norm = self.clip_norm?;
        let norms: Vec<f64> = self.updates.iter().filter_map(|row| row.gradient_norm).collect();
        let clipped = norms.iter().filter(|&&norm| norm > clip_norm).count();
        (!norms.is_empty()).then(|| clipped as f64 / norms.len() as f64)
    }
}
