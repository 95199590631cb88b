//! From a recipe to the parts of the network and the optimiser.

use std::num::NonZero;

use throughline_kernels::cells::CellKind;
use throughline_kernels::optim::{Adam, Method, RmsProp, Sgd};
use throughline_kernels::threads::Threads;
use throughline_nn::network::Dropouts;
use throughline_nn::recurrent::RecurrentConfig;

use super::{Cell, OptimiserKind, Recipe};
use crate::{Error, Origin, RecipeError, Result};

/// The recurrent stack of a recipe.
pub(crate) fn recurrent_config(recipe: &Recipe) -> RecurrentConfig {
    let model = &recipe.model;
    RecurrentConfig {
        cell: match model.cell {
            Cell::Lstm => CellKind::Lstm,
            Cell::Gru => CellKind::GruAfter,
            Cell::GruBefore => CellKind::GruBefore,
            Cell::Rnn => CellKind::RnnTanh,
            Cell::RnnRelu => CellKind::RnnRelu,
        },
        input: model.embedding,
        hidden: model.hidden,
        layers: model.layers,
        bidirectional: model.bidirectional,
        bias: model.bias,
        dropout: model.dropout as f32,
        initial_state: model.initial_state,
    }
}

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
        Threads::try_new(count).map_err(|refused| {
            let key = "threads".to_owned();
            let (expected, found) = (format!("fewer ({refused})"), count.to_string());
            Error::from(Box::new(RecipeError { origin: Origin::default(), key, expected, found, nearest: None }))
        })
    }

    pub(crate) fn dropouts(&self) -> Dropouts {
        let model = &self.model;
        Dropouts { embedding: model.embedding_dropout as f32, output: model.output_dropout as f32 }
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
