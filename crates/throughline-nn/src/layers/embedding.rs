//! Embedding: `y[n] = table[x[n]]`.

use alloc::format;
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::embedding;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use crate::error::Result;
use crate::initialise::{self, EmbeddingInitialisation, Initialise};
use crate::memory::{Dropout, LastCall};
use crate::module::{Call, Cpu, Gradients, Layer, Module, Step};
use crate::parameters::{Builder, Layout, TensorId};
use crate::state::StateArray;

/// A table `[V, F]`, one row for each token.
#[derive(Clone, Debug)]
pub struct Embedding {
    table: TensorId,
    vocabulary: usize,
    width: usize,
    deviation: f64,
    token_dropout: Dropout,
    dropout: Dropout,
}

/// The tape of an [`Embedding`]: its output.
#[derive(Debug, Default)]
pub struct EmbeddingTape<E> {
    y: Buffer<E>,
    last: LastCall,
}

impl Embedding {
    /// An embedding with the table `{name}.weight` `[vocabulary, width]`, initially normal with mean 0 and standard
    /// deviation 1 unless [`EmbeddingInitialisation`] says otherwise.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(builder: &mut Builder, name: &str, vocabulary: usize, width: usize) -> Self {
        assert!(vocabulary > 0 && width > 0, "V and F are at least 1, not {vocabulary} and {width}");
        let table = builder.add(format!("{name}.weight"), &[vocabulary, width]);
        let (token_dropout, dropout) = Default::default();
        Self { table, vocabulary, width, deviation: 1.0, token_dropout, dropout }
    }

    /// Applies dropout to the output in training: each element is 0 with probability `rate`, and otherwise scaled by
    /// 1 / (1 - rate).
    ///
    /// # Panics
    /// If `rate` is not in [0, 1).
    pub fn with_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        Self { dropout: Dropout::new(builder, rate), ..self }
    }

    /// Applies dropout to the rows of the table in training: in an update each row is 0 with probability `rate`, wherever its
    /// token occurs, and otherwise scaled by 1 / (1 - rate) (Gal and Ghahramani 2016, section 4.2).
    ///
    /// # Panics
    /// If `rate` is not in [0, 1).
    pub fn with_token_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        Self { token_dropout: Dropout::new(builder, rate), ..self }
    }

    /// Sets the initial standard deviation to 1/sqrt(F), for a table that is also the weight of a head.
    pub fn scaled(self) -> Self {
        Self { deviation: 1.0 / libm::sqrt(self.width as f64), ..self }
    }

    /// The handle of the table, for a head that shares it.
    pub fn table(&self) -> TensorId {
        self.table
    }

    /// V, the number of rows of the table.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }
}

impl Layer for Embedding {
    fn width(&self) -> usize {
        self.width
    }

    fn read_directly(&self) -> Vec<TensorId> {
        alloc::vec![self.table]
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        let (seed, table) = (how.seed, self.table);
        match how.embedding {
            EmbeddingInitialisation::Own => initialise::normal(seed, layout, table, self.deviation, parameters),
            EmbeddingInitialisation::Normal { deviation } => {
                initialise::normal(seed, layout, table, deviation, parameters);
            }
            EmbeddingInitialisation::Uniform { limit } => initialise::uniform(seed, layout, table, limit, parameters),
        }
    }
}

impl<E: Element> Module<E> for Embedding {
    /// `[N]`, each below V.
    type Input = [u32];
    type Packed = ();
    type Tape = EmbeddingTape<E>;

    fn packed(&self, _: Isa, _: bool) {}

    fn pack(&self, _: &Cpu, _: &Layout, _: &[E], (): &mut ()) {}

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { context, rows, x, .. } = call;
        assert_eq!(x.len(), rows.rows(), "there must be one token for each packed row");
        tape.last.forget();
        let table = context.layout.view(context.parameters, self.table);
        let y = tape.y.at_least(x.len() * self.width);
        embedding::gather(&context.cpu.threads, table, self.width, x, y);
        self.token_dropout.apply_to_tokens(context, x, self.width, y);
        self.dropout.apply(context, rows, 0, self.width, y);
        tape.last.remember(call);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        (rows, &tape.y[..tape.last.row_count(rows) * self.width])
    }

    /// `d_table[x[n]] += dy[n]`, in ascending n, where dy is taken back through the masks.
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        tape.last.assert_was(call);
        let Call { context, rows, x, .. } = call;
        let Gradients { dy, dx, parameters, .. } = gradients;
        assert!(dx.is_none(), "tokens have no gradient");
        let Some(dy) = dy else { return };
        assert_eq!(dy.len(), x.len() * self.width, "dy is [N, F]");
        self.dropout.apply(context, rows, 0, self.width, dy);
        self.token_dropout.apply_to_tokens(context, x, self.width, dy);
        let Cpu { isa, threads } = context.cpu;
        let d_table = context.layout.view_mut(parameters, self.table);
        embedding::add_gradient(*isa, threads, x, dy, self.width, d_table);
    }

    fn step<'a>(&self, step: Step<'_, E, Self>, _: &mut [StateArray<E>], tape: &'a mut Self::Tape) -> Result<&'a [E]> {
        let Step { context, x, begun, .. } = step;
        assert_eq!(x.len(), begun.len(), "there must be one token for each stream");
        tape.last.forget();
        let y = tape.y.at_least(x.len() * self.width);
        let table = context.layout.view(context.parameters, self.table);
        embedding::gather(&context.cpu.threads, table, self.width, x, y);
        Ok(y)
    }
}
