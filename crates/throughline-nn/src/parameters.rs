//! All parameters of a model in one aligned buffer.
//!
//! A tensor is a name, a shape and a place. Gradients and optimiser moments live in buffers of the same layout, so that
//! clipping, one-pass optimisers and checkpoints need not know what the tensors mean.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;

/// Tensors start at multiples of this many elements (a cache line of f32); the gaps hold zeros.
const ALIGNMENT: usize = 16;

/// One tensor of a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    shape: Vec<usize>,
    /// `None` where the layout has no room for it.
    start: Option<usize>,
}

impl Tensor {
    /// Its name in files, such as `rnn.weight_ih_l0`.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its shape, row-major.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
    /// Its place in a buffer of the layout.
    ///
    /// # Panics
    /// If the layout keeps only other tensors (see `Layout::keeping`).
    pub fn range(&self) -> Range<usize> {
        let start = self.start.unwrap_or_else(|| panic!("{} is not kept: only its packed form is", self.name));
        start..start + self.count()
    }
}

/// What constructors of modules and heads need: it collects the parameters of a model, and numbers the places that drop
/// activations, so that no two share their masks.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    layout: Layout,
    /// Sites of dropout between the layers of stacks count up from 0, the others down from the last number.
    stack_sites: u32,
    single_sites: u32,
}

impl Builder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a tensor.
    ///
    /// # Panics
    /// If the name is taken.
    pub fn add(&mut self, name: String, shape: &[usize]) -> TensorId {
        self.layout.add(name, shape)
    }

    /// The first of `count` sites in a row, for the layers of a stack.
    pub(crate) fn stack_sites(&mut self, count: usize) -> u32 {
        let first = self.stack_sites;
        self.stack_sites += count as u32;
        first
    }

    /// A site of its own.
    pub(crate) fn site(&mut self) -> u32 {
        self.single_sites += 1;
        u32::MAX - (self.single_sites - 1)
    }

    /// The parameters so far.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All parameters.
    pub fn into_layout(self) -> Layout {
        self.layout
    }
}

/// A handle to a tensor of the layout that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorId(usize);

/// Which tensors a model has, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<Tensor>,
    length: usize,
}

impl Layout {
    /// No tensor yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a tensor.
    ///
    /// # Panics
    /// If the name is taken.
    pub fn add(&mut self, name: String, shape: &[usize]) -> TensorId {
        assert!(self.find(&name).is_none(), "two tensors named {name}");
        let tensor = Tensor { name, shape: shape.to_vec(), start: Some(self.length) };
        self.length = tensor.range().end.next_multiple_of(ALIGNMENT);
        self.tensors.push(tensor);
        TensorId(self.tensors.len() - 1)
    }

    /// The same tensors under the same handles, with room for `kept` alone.
    pub(crate) fn keeping(&self, kept: &[TensorId]) -> Self {
        let mut layout = Self { tensors: self.tensors.clone(), length: 0 };
        for (index, tensor) in layout.tensors.iter_mut().enumerate() {
            tensor.start = kept.contains(&TensorId(index)).then_some(layout.length);
            if let Some(start) = tensor.start {
                layout.length = (start + tensor.count()).next_multiple_of(ALIGNMENT);
            }
        }
        layout
    }

    /// The tensors in order of their places.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<TensorId> {
        self.tensors.iter().position(|tensor| tensor.name == name).map(TensorId)
    }

    /// The tensor behind a handle.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// Elements of a buffer of this layout, gaps included.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Trainable numbers, gaps not included.
    pub fn parameter_count(&self) -> usize {
        self.tensors.iter().map(Tensor::count).sum()
    }

    /// A buffer of this layout, all zeros.
    pub fn zeros<E: Element>(&self) -> Buffer<E> {
        Buffer::zeros(self.length)
    }

    /// The elements of one tensor.
    pub fn view<'a, E>(&self, buffer: &'a [E], id: TensorId) -> &'a [E] {
        &buffer[self.tensor(id).range()]
    }

    /// The elements of one tensor, to be changed.
    pub fn view_mut<'a, E>(&self, buffer: &'a mut [E], id: TensorId) -> &'a mut [E] {
        &mut buffer[self.tensor(id).range()]
    }

    /// The elements of several different tensors at once, to be changed.
    ///
    /// # Panics
    /// If two of them are the same.
    pub fn views_mut<'a, E, const K: usize>(&self, buffer: &'a mut [E], ids: [TensorId; K]) -> [&'a mut [E]; K] {
        buffer.get_disjoint_mut(ids.map(|id| self.tensor(id).range())).expect("different tensors do not overlap")
    }
}
