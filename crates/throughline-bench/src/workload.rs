//! The models whose training step is timed, with the sizes and the optimiser of each.

use anyhow::Result;
use clap::ValueEnum;
use throughline_kernels::optim::{Adam, Method, Sgd};
use throughline_nn::chain::Chain;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::{Embedding, Pool, Pooling, Recurrent};
use throughline_nn::parameters::Builder;
use throughline_nn::{Layer, Network};

use crate::arguments::{Arguments, Lengths, ModelChoice};
use crate::memory::{self, Needs};
use crate::sizes::{Defaults, Sizes, products};

/// The sizes of a model and how it is optimised.
pub struct Setup {
    pub model: ModelChoice,
    pub sizes: Sizes,
    pub vocabulary: usize,
    /// Rows of the head.
    pub outputs: usize,
    pub method: Method,
    pub learning_rate: f64,
    /// The largest norm of the gradient; none where it is not clipped.
    pub clip_norm: Option<f64>,
}

impl Setup {
    pub fn new(arguments: &Arguments, model: ModelChoice) -> Result<Self> {
        let even = |time| Lengths::Between(time, time);
        let (sgd, adam) = (Method::Sgd(Sgd::default()), Method::Adam(Adam::default()));
        let (lengths, batch, input, hidden, layers, bidirectional) = match model {
            ModelChoice::WordLm => (even(20), 20, 200, 200, 2, false),
            ModelChoice::CharLm => (even(256), 64, 96, 512, 2, false),
            ModelChoice::Tagger => (even(50), 32, 100, 256, 1, true),
            ModelChoice::Classifier => (Lengths::Between(50, 200), 32, 128, 256, 1, true),
        };
        let sizes = Sizes::new(arguments, Defaults { lengths, batch, input, hidden, layers, bidirectional })?;
        let vocabulary = |of_model| arguments.vocabulary.unwrap_or(of_model);
        let (vocabulary, outputs, method, learning_rate, clip_norm) = match model {
            ModelChoice::WordLm => (vocabulary(10_000), vocabulary(10_000), sgd, 1.0, Some(5.0)),
            ModelChoice::CharLm => (vocabulary(96), vocabulary(96), adam, 1e-3, Some(1.0)),
            ModelChoice::Tagger => (vocabulary(20_000), 17, adam, 1e-3, None),
            ModelChoice::Classifier => (vocabulary(20_000), 2, adam, 1e-3, None),
        };
        Ok(Self { model, sizes, vocabulary, outputs, method, learning_rate, clip_norm })
    }

    pub fn check_memory(&self, arguments: &Arguments) -> Result<()> {
        let (copies, vocabulary, outputs) = (2 + self.method.moments().len(), self.vocabulary, self.outputs);
        memory::check(&self.sizes, &Needs { copies, train: true, vocabulary, outputs, others: 0 }, arguments)
    }

    /// Rows that the head reads.
    fn scored(&self) -> usize {
        if self.model == ModelChoice::Classifier { self.sizes.lengths.len() } else { self.sizes.rows() }
    }

    /// Operations of the products of a step: forward, and twice as many backward.
    pub fn operations(&self) -> f64 {
        let config = &self.sizes.config;
        let head = 2.0 * (self.scored() * config.output() * self.outputs) as f64;
        3.0 * (products(config, self.sizes.rows()) + head)
    }

    /// A language model or a tagger: a softmax at every row.
    pub fn of_rows(&self) -> Network<Chain<Embedding, Recurrent>, Softmax> {
        let (builder, config) = (&mut Builder::new(), self.sizes.config);
        let embedding = Embedding::new(builder, "embedding", self.vocabulary, config.input);
        let recurrent = Recurrent::new(builder, "rnn", config);
        let head = Softmax::new(builder, "head", config.output(), self.outputs);
        embedding.then(recurrent).ending_in(head, std::mem::take(builder))
    }

    /// A classifier: a softmax over the last states.
    pub fn of_last_states(&self) -> Network<Chain<Embedding, Chain<Recurrent, Pool>>, Softmax> {
        let (builder, config) = (&mut Builder::new(), self.sizes.config);
        let embedding = Embedding::new(builder, "embedding", self.vocabulary, config.input);
        let recurrent = Recurrent::new(builder, "rnn", config);
        let pooled = Pool::of(builder, "pool", recurrent, Pooling::LastStates);
        let head = Softmax::new(builder, "head", config.output(), self.outputs);
        embedding.then(pooled).ending_in(head, std::mem::take(builder))
    }

    /// The name in arguments and files.
    pub fn name(&self) -> String {
        self.model.to_possible_value().expect("every model has a name").get_name().to_owned()
    }
}
