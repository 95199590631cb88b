//! All parameters of a model in one aligned buffer.
//!
//! A tensor is a name, a shape and a range of the buffer. Gradients and the moments of an optimiser are in buffers of
//! the same layout, so that clipping, optimisers and checkpoints need not know one tensor from another.

use alloc::collections::BTreeMap;
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
    /// How many elements it has.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
    /// Its range in a buffer of the layout.
    ///
    /// # Panics
    /// If the layout has no room for it; see [`Network::keep_what_is_read`](crate::Network::keep_what_is_read).
    pub fn range(&self) -> Range<usize> {
        let start =
            self.start.unwrap_or_else(|| panic!("the tensor `{}` was not kept, only its packed form", self.name));
        start..start + self.count()
    }
}

/// For what the places of dropout draw a mask of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DropoutMask {
    /// For every step of every sequence (Srivastava et al. 2014).
    #[default]
    Step,
    /// For every sequence, whose steps share it: variational dropout (Gal and Ghahramani 2016), also called locked dropout
    /// (Merity et al. 2018). A boundary inside a sequence ([`Ragged::set_resets`]) does not change the mask.
    ///
    /// [`Ragged::set_resets`]: throughline_kernels::sequence::Ragged::set_resets
    Sequence,
}

/// Collects the parameters of a model while its modules and heads are constructed, and numbers its places of dropout,
/// so that no two share their masks.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    layout: Layout,
    dropout_mask: DropoutMask,
    /// How many sites of dropout there are between the layers of stacks; these are numbered from 0 up.
    stack_sites: u32,
    /// How many other sites there are; these are numbered from `u32::MAX` down.
    single_sites: u32,
}

impl Builder {
    /// A builder without parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the masks of all places of dropout that are made from now on; [`DropoutMask::Step`] by default.
    pub fn with_dropout_mask(self, mask: DropoutMask) -> Self {
        Self { dropout_mask: mask, ..self }
    }

    /// The masks of a place of dropout that is made now.
    pub(crate) fn dropout_mask(&self) -> DropoutMask {
        self.dropout_mask
    }

    /// Adds a parameter.
    ///
    /// # Panics
    /// If there is one of that name.
    pub fn add(&mut self, name: String, shape: &[usize]) -> TensorId {
        self.layout.add(name, shape)
    }

    /// The first of `count` consecutive sites, for the layers of a stack.
    pub(crate) fn stack_sites(&mut self, count: usize) -> u32 {
        let first = self.stack_sites;
        self.stack_sites += count as u32;
        first
    }

    /// A new site.
    pub(crate) fn site(&mut self) -> u32 {
        self.single_sites += 1;
        u32::MAX - (self.single_sites - 1)
    }

    /// The layout of the parameters so far.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The layout of all parameters.
    pub fn into_layout(self) -> Layout {
        self.layout
    }
}

/// A handle to a tensor of the layout that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorId(usize);

/// The tensors of a model, and where each is in a buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<Tensor>,
    by_name: BTreeMap<String, TensorId>,
    length: usize,
}

impl Layout {
    /// A layout without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a tensor.
    ///
    /// # Panics
    /// If there is one of that name.
    pub fn add(&mut self, name: String, shape: &[usize]) -> TensorId {
        assert!(self.find(&name).is_none(), "two tensors are named `{name}`");
        let id = TensorId(self.tensors.len());
        self.by_name.insert(name.clone(), id);
        let tensor = Tensor { name, shape: shape.to_vec(), start: Some(self.length) };
        self.length = tensor.range().end.next_multiple_of(ALIGNMENT);
        self.tensors.push(tensor);
        id
    }

    /// The same tensors under the same handles, with room for those in `kept` alone.
    pub(crate) fn keeping(&self, kept: &[TensorId]) -> Self {
        let mut is_kept = alloc::vec![false; self.tensors.len()];
        kept.iter().for_each(|id| is_kept[id.0] = true);
        let mut layout = Self { length: 0, ..self.clone() };
        for (tensor, is_kept) in layout.tensors.iter_mut().zip(is_kept) {
            tensor.start = is_kept.then_some(layout.length);
            if is_kept {
                layout.length = tensor.range().end.next_multiple_of(ALIGNMENT);
            }
        }
        layout
    }

    /// The tensors in the order in which they were added.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor named `name`, if there is one.
    pub fn find(&self, name: &str) -> Option<TensorId> {
        self.by_name.get(name).copied()
    }

    /// The tensor behind a handle.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// The length of a buffer of this layout: all elements, and the gaps that align tensors.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The number of parameters, without gaps.
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

    /// The elements of one tensor, mutable.
    pub fn view_mut<'a, E>(&self, buffer: &'a mut [E], id: TensorId) -> &'a mut [E] {
        &mut buffer[self.tensor(id).range()]
    }

    /// The elements of several different tensors, mutable.
    ///
    /// # Panics
    /// If two of the tensors are the same.
    pub fn views_mut<'a, E, const K: usize>(&self, buffer: &'a mut [E], ids: [TensorId; K]) -> [&'a mut [E]; K] {
        buffer.get_disjoint_mut(ids.map(|id| self.tensor(id).range())).expect("different tensors do not overlap")
    }
}
