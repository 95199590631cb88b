//! From a recipe to threads and the optimiser.

use std::num::NonZero;

use throughline_kernels::optim::{Adam, Averaging, Method, RmsProp, Sgd};
use throughline_kernels::threads::Threads;

use super::{AverageKind, OptimiserKind, Recipe};
use crate::{Error, Origin, Result};

impl Recipe {
    /// Threads to compute with: `threads`, or all there are.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            count => count,
        }
    }

    /// Starts `count` threads, or as many as the recipe says.
    pub(crate) fn start_threads(&self, count: Option<usize>) -> Result<Threads> {
        let count = count.unwrap_or_else(|| self.thread_count());
        Threads::try_new(count)
            .map_err(|refused| Error::recipe(&Origin::Default, "threads", format_args!("fewer ({refused})"), count))
    }

    pub(crate) fn averaging(&self) -> Option<Averaging> {
        match self.average.kind {
            AverageKind::None => None,
            AverageKind::Exponential => Some(Averaging::Exponential { decay: self.average.decay }),
            AverageKind::Uniform => Some(Averaging::Uniform),
        }
    }

    pub(crate) fn method(&self) -> Method {
        let super::Optimiser { kind, weight_decay, momentum, beta1, beta2, alpha, epsilon, .. } = self.optimiser;
        match kind {
            OptimiserKind::Sgd => Method::Sgd(Sgd { momentum, weight_decay }),
            OptimiserKind::RmsProp => Method::RmsProp(RmsProp { alpha, epsilon, momentum, weight_decay }),
            OptimiserKind::Adam => Method::Adam(Adam { beta1, beta2, epsilon, weight_decay, decoupled: false }),
            OptimiserKind::AdamW => Method::Adam(Adam { beta1, beta2, epsilon, weight_decay, decoupled: true }),
        }
    }
}
