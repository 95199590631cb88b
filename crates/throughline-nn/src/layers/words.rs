//! Words: a vector of each word's own beside what an encoder reads from its characters (Ling et al. 2015; Lample et al.
//! 2016), `y[n] = [table[word[n]]; encoder(characters of word n)]`.
//!
//! The encoder reads each spelling of a batch once, however many words are written that way.

use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::embedding::{add_gradient, gather};
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use super::recurrent::RecurrentTape;
use super::{Embedding, Pool, Recurrent};
use crate::chain::Chain;
use crate::error::Result;
use crate::initialise::Initialise;
use crate::memory::{Dropout, LastCall};
use crate::module::{Call, Context, Cpu, Gradients, Layer, Module, Pass, Step, TapeSetting, Visit};
use crate::parameters::{Builder, Layout, TensorId};
use crate::state::StateArray;

/// Reads the characters of a word and pools them into one row.
pub type CharacterEncoder = Chain<Embedding, Chain<Recurrent, Pool>>;

/// Embeds words and, with an encoder, their characters.
#[derive(Clone, Debug)]
pub struct Words {
    embedding: Embedding,
    encoder: Option<CharacterEncoder>,
    dropout: Dropout,
}

/// The words of a batch: a token and a spelling for each packed row.
#[derive(Clone, Debug, Default)]
pub struct WordRows {
    tokens: Vec<u32>,
    spelling_of: Vec<u32>,
    /// The spellings as a batch of their own, a sequence each.
    spellings: Ragged,
    characters: Vec<u32>,
    lengths: Vec<usize>,
}

impl WordRows {
    /// Takes the words of a batch: for each packed row a token, and which of the `spellings` is that of the word.
    ///
    /// # Panics
    /// If the two differ in length, or a spelling is asked for that is not there.
    pub fn set(&mut self, tokens: &[u32], spelling_of: &[u32], spellings: &[&[u32]]) {
        assert_eq!(tokens.len(), spelling_of.len(), "a spelling for each token");
        assert!(
            spelling_of.iter().all(|&spelling| (spelling as usize) < spellings.len()),
            "every word is written in one of {} spellings",
            spellings.len()
        );
        let Self { tokens: own_tokens, spelling_of: own_spelling_of, spellings: rows, characters, lengths } = self;
        own_tokens.clear();
        own_tokens.extend_from_slice(tokens);
        own_spelling_of.clear();
        own_spelling_of.extend_from_slice(spelling_of);
        lengths.clear();
        lengths.extend(spellings.iter().map(|spelling| spelling.len()));
        rows.set(lengths);
        characters.clear();
        rows.for_each_row(|_, spelling, t| characters.push(spellings[spelling][t]));
    }

    /// N, the number of words.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Writes the word in packed row `from` of `source`, which has the same spellings, over that in row `to`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn copy_row(&mut self, source: &Self, from: usize, to: usize) {
        self.tokens[to] = source.tokens[from];
        self.spelling_of[to] = source.spelling_of[from];
    }
}

/// The tape of [`Words`].
#[derive(Debug)]
pub struct WordsTape<E: Element> {
    last: LastCall,
    embedding: <Embedding as Module<E>>::Tape,
    encoder: <CharacterEncoder as Module<E>>::Tape,
    /// `[N, C]`: what the encoder made of each word.
    of_characters: Buffer<E>,
    y: Buffer<E>,
    /// `[N, F]`: the gradient of the words' own vectors.
    d_own: Buffer<E>,
    /// `[N, C]`: that of [`of_characters`](Self::of_characters).
    d_of_characters: Buffer<E>,
    /// `[S, C]`: that of the S spellings.
    d_spellings: Buffer<E>,
}

impl<E: Element> Default for WordsTape<E> {
    fn default() -> Self {
        Self {
            last: LastCall::default(),
            embedding: Default::default(),
            encoder: Default::default(),
            of_characters: Buffer::default(),
            y: Buffer::default(),
            d_own: Buffer::default(),
            d_of_characters: Buffer::default(),
            d_spellings: Buffer::default(),
        }
    }
}

impl Words {
    /// Words by `embedding` and, with an `encoder`, by their characters.
    pub fn new(embedding: Embedding, encoder: Option<CharacterEncoder>) -> Self {
        Self { embedding, encoder, dropout: Dropout::default() }
    }

    /// In training each number is dropped with probability `rate`.
    ///
    /// # Panics
    /// If the rate is not at least 0 and below 1.
    pub fn with_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        Self { dropout: Dropout::new(builder, rate), ..self }
    }

    /// In training each word's own vector is dropped with probability `rate`, wherever the word occurs in an update; its
    /// characters are still read. See [`Embedding::with_token_dropout`].
    ///
    /// # Panics
    /// If the rate is not at least 0 and below 1.
    pub fn with_token_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        Self { embedding: self.embedding.with_token_dropout(builder, rate), ..self }
    }

    /// The vectors of the words.
    pub fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    /// C, columns that come from the characters.
    fn encoded(&self) -> usize {
        self.encoder.as_ref().map_or(0, Layer::width)
    }

    /// Reads the spellings and writes `y` without dropout.
    fn read<E: Element>(
        &self,
        context: Context<'_, E>,
        packed: Option<&<CharacterEncoder as Module<E>>::Packed>,
        x: &WordRows,
        own: &[E],
        tape: (&mut <CharacterEncoder as Module<E>>::Tape, &mut Buffer<E>, &mut Buffer<E>),
    ) {
        let (encoder_tape, of_characters, y) = tape;
        let (width, own_width, encoded) = (self.width(), self.embedding.width(), self.encoded());
        let y = y.at_least(x.rows() * width);
        let (Some(encoder), Some(packed)) = (&self.encoder, packed) else { return y.copy_from_slice(own) };
        encoder.forward(Call { context, packed, rows: &x.spellings, x: &x.characters[..], start: None }, encoder_tape);
        let (_, spellings) = encoder.output(&x.spellings, encoder_tape);
        let of_characters = of_characters.at_least(x.rows() * encoded);
        gather(&context.cpu.threads, spellings, encoded, &x.spelling_of, of_characters);
        for (row, y) in y.chunks_mut(width).enumerate() {
            y[..own_width].copy_from_slice(&own[row * own_width..][..own_width]);
            y[own_width..].copy_from_slice(&of_characters[row * encoded..][..encoded]);
        }
    }
}

impl Layer for Words {
    fn width(&self) -> usize {
        self.embedding.width() + self.encoded()
    }

    fn cells(&self) -> Vec<(String, CellKind)> {
        self.encoder.as_ref().map_or_else(Vec::new, Layer::cells)
    }

    fn read_directly(&self) -> Vec<TensorId> {
        let mut tensors = self.embedding.read_directly();
        tensors.extend(self.encoder.iter().flat_map(Layer::read_directly));
        tensors
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        self.embedding.initialise(how, layout, parameters);
        if let Some(encoder) = &self.encoder {
            encoder.initialise(how, layout, parameters);
        }
    }
}

impl<E: Element> Module<E> for Words {
    type Input = WordRows;
    type Packed = Option<<CharacterEncoder as Module<E>>::Packed>;
    type Tape = WordsTape<E>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        self.encoder.as_ref().map(|encoder| encoder.packed(isa, backward))
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        if let (Some(encoder), Some(packed)) = (&self.encoder, packed) {
            encoder.pack(cpu, layout, parameters, packed);
        }
    }

    /// Words are read whole, so neither checkpointing nor states in mid-sequence concern their characters.
    fn set(&self, tape: &mut Self::Tape, setting: TapeSetting) {
        let of_words = matches!(
            setting,
            TapeSetting::PreActivations(_) | TapeSetting::RowGradients(_) | TapeSetting::ParameterGradients(_)
        );
        if let (Some(encoder), true) = (&self.encoder, of_words) {
            encoder.set(&mut tape.encoder, setting);
        }
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, .. } = call;
        assert_eq!(x.rows(), rows.rows(), "one word for each packed row");
        tape.last.forget();
        self.embedding.forward(Call { context, packed: &(), rows, x: &x.tokens[..], start: None }, &mut tape.embedding);
        let WordsTape { embedding, encoder, of_characters, y, .. } = tape;
        let (_, own) = self.embedding.output(rows, embedding);
        self.read(context, packed.as_ref(), x, own, (encoder, of_characters, y));
        self.dropout.apply(context, rows, 0, self.width(), &mut y[..x.rows() * self.width()]);
        tape.last.remember(call);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        (rows, &tape.y[..tape.last.row_count(rows) * self.width()])
    }

    /// The gradient of a row's columns belongs to the word's own vector and to its spelling; a spelling receives the sum over
    /// the rows that are written that way, in ascending order of the rows.
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        tape.last.assert_was(call);
        let Call { context, packed, rows, x, .. } = call;
        let Gradients { dy, dx, parameters, .. } = gradients;
        assert!(dx.is_none(), "words have no gradient");
        let Some(dy) = dy else { return };
        let (width, own_width, encoded) = (self.width(), self.embedding.width(), self.encoded());
        assert_eq!(dy.len(), x.rows() * width, "dy is [N, F]");
        self.dropout.apply(context, rows, 0, width, dy);
        let (d_own, d_of_characters) =
            (tape.d_own.at_least(x.rows() * own_width), tape.d_of_characters.at_least(x.rows() * encoded));
        for (row, dy) in dy.chunks(width).enumerate() {
            d_own[row * own_width..][..own_width].copy_from_slice(&dy[..own_width]);
            d_of_characters[row * encoded..][..encoded].copy_from_slice(&dy[own_width..]);
        }
        self.embedding.backward(
            Call { context, packed: &(), rows, x: &x.tokens[..], start: None },
            Gradients { dy: Some(d_own), d_end: None, dx: None, d_start: None, parameters: &mut *parameters },
            &mut tape.embedding,
        );
        let (Some(encoder), Some(packed)) = (&self.encoder, packed) else { return };
        let Cpu { isa, threads } = context.cpu;
        let d_spellings = tape.d_spellings.at_least(x.spellings.batch() * encoded);
        d_spellings.fill(E::ZERO);
        add_gradient(*isa, threads, &x.spelling_of, d_of_characters, encoded, d_spellings);
        encoder.backward(
            Call { context, packed, rows: &x.spellings, x: &x.characters[..], start: None },
            Gradients { dy: Some(d_spellings), d_end: None, dx: None, d_start: None, parameters },
            &mut tape.encoder,
        );
    }

    fn step<'a>(&self, step: Step<'_, E, Self>, _: &mut [StateArray<E>], tape: &'a mut Self::Tape) -> Result<&'a [E]> {
        let Step { context, packed, x, begun } = step;
        assert_eq!(x.rows(), begun.len(), "one word for each stream");
        tape.last.forget();
        let context = Context { pass: Pass::Inference, ..context };
        let WordsTape { embedding, encoder, of_characters, y, .. } = tape;
        let own = self.embedding.step(Step { context, packed: &(), x: &x.tokens[..], begun }, &mut [], embedding)?;
        self.read(context, packed.as_ref(), x, own, (encoder, of_characters, y));
        Ok(&y[..x.rows() * self.width()])
    }

    fn visit(&self, tape: &Self::Tape, visitor: &mut dyn Visit<E>) {
        if let Some(encoder) = &self.encoder {
            encoder.visit(&tape.encoder, &mut Beneath(visitor));
        }
    }
}

/// Shows a visitor what reads characters.
struct Beneath<'a, E>(&'a mut dyn Visit<E>);

impl<E: Element> Visit<E> for Beneath<'_, E> {
    fn recurrent(&mut self, stack: &Recurrent, tape: &RecurrentTape<E>) {
        self.0.beneath(stack, tape);
    }
}
