//! The state of parallel streams: what recurrent layers remember from one call to the next. Every module has the same
//! type.

use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::Element;

/// The names and widths of a state's arrays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateShape(Vec<(String, usize)>);

impl StateShape {
    /// Appends an array `[streams, width]`. One that grows with what it remembers begins with width 0.
    pub fn push(&mut self, name: String, width: usize) {
        self.0.push((name, width));
    }

    /// Appends the arrays of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Name and width of each array.
    pub fn arrays(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, width)| (name.as_str(), *width))
    }

    /// How many numbers one stream has: the sum of the widths.
    pub fn numbers(&self) -> usize {
        self.0.iter().map(|(_, width)| width).sum()
    }
}

/// One array of a [`State`]: `[streams, width]`, in the caller's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateArray<E> {
    name: String,
    /// An array without width cannot tell.
    streams: usize,
    width: usize,
    values: Vec<E>,
}

impl<E: Element> StateArray<E> {
    /// Its name, such as `rnn.h_l0`.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// How many numbers each stream has.
    pub fn width(&self) -> usize {
        self.width
    }
    /// `[streams, width]`
    pub fn values(&self) -> &[E] {
        &self.values
    }
    /// `[streams, width]`, mutable.
    pub fn values_mut(&mut self) -> &mut [E] {
        &mut self.values
    }
    /// Widens it to at least `width` numbers for each stream, the new ones 0. For arrays that grow with what they remember.
    pub(crate) fn widen(&mut self, width: usize) {
        let old = self.width;
        if width <= old {
            return;
        }
        let streams = self.streams;
        self.values.reserve_exact(streams * width - self.values.len());
        self.values.resize(streams * width, E::ZERO);
        for stream in (0..streams).rev() {
            self.values.copy_within(stream * old..(stream + 1) * old, stream * width);
            self.values[stream * width + old..(stream + 1) * width].fill(E::ZERO);
        }
        self.width = width;
    }

    /// `[width]`: the numbers of one stream.
    ///
    /// # Panics
    /// If there is no such stream.
    pub fn of(&self, stream: usize) -> &[E] {
        &self.values[stream * self.width..][..self.width]
    }
}

/// The state of parallel streams.
///
/// A stream that has not begun is before its first step: a pass starts it from the module's initial state, zero or
/// learned, whatever the arrays hold for it.
#[derive(Clone, Debug, PartialEq)]
pub struct State<E> {
    begun: Vec<bool>,
    arrays: Vec<StateArray<E>>,
}

impl<E: Element> State<E> {
    /// A state of `streams` streams that have not begun; its arrays are zero.
    pub fn new(shape: &StateShape, streams: usize) -> Self {
        let arrays = shape.arrays().map(|(name, width)| StateArray {
            name: name.into(),
            streams,
            width,
            values: alloc::vec![E::ZERO; streams * width],
        });
        Self { begun: alloc::vec![false; streams], arrays: arrays.collect() }
    }

    /// How many streams.
    pub fn streams(&self) -> usize {
        self.begun.len()
    }

    /// The bytes of all arrays: of recurrent layers always the same, of attention growing with what it remembers.
    pub fn bytes(&self) -> usize {
        self.arrays.iter().map(|array| size_of_val(&array.values[..])).sum()
    }

    /// Whether each stream has begun.
    pub fn begun(&self) -> &[bool] {
        &self.begun
    }

    /// Marks every stream as begun: the next pass starts from the arrays.
    pub fn begin(&mut self) {
        self.begun.fill(true);
    }

    /// The arrays, in the order of the [`StateShape`].
    pub fn arrays(&self) -> &[StateArray<E>] {
        &self.arrays
    }

    /// The arrays, mutable.
    pub fn arrays_mut(&mut self) -> &mut [StateArray<E>] {
        &mut self.arrays
    }

    /// Whether each stream has begun, and the arrays, mutable.
    pub(crate) fn begun_and_arrays_mut(&mut self) -> (&[bool], &mut [StateArray<E>]) {
        (&self.begun, &mut self.arrays)
    }

    /// The array named `name`.
    ///
    /// # Panics
    /// If there is none.
    pub fn array(&self, name: &str) -> &StateArray<E> {
        let found = self.arrays.iter().find(|array| array.name == name);
        found.unwrap_or_else(|| {
            let names: Vec<&str> = self.arrays.iter().map(StateArray::name).collect();
            panic!("the state has no array `{name}`, only {names:?}")
        })
    }

    /// Resets the streams for which `mask` is true: they have not begun, and their arrays are zero.
    ///
    /// # Panics
    /// If the mask does not have one entry for each stream.
    pub fn reset_where(&mut self, mask: &[bool]) {
        assert_eq!(mask.len(), self.streams(), "the mask has one entry for each stream");
        for stream in (0..mask.len()).filter(|&stream| mask[stream]) {
            self.begun[stream] = false;
            for array in &mut self.arrays {
                array.values[stream * array.width..][..array.width].fill(E::ZERO);
            }
        }
    }

    /// Resets every stream: none has begun, and all arrays are zero.
    pub fn reset(&mut self) {
        self.begun.fill(false);
        self.arrays.iter_mut().for_each(|array| array.values.fill(E::ZERO));
    }

    /// A state of the streams `streams`, in that order. One may be taken several times, as in beam search.
    ///
    /// # Panics
    /// If an index is not below the number of streams.
    pub fn gather(&self, streams: &[usize]) -> Self {
        let arrays = self.arrays.iter().map(|array| StateArray {
            name: array.name.clone(),
            streams: streams.len(),
            width: array.width,
            values: streams.iter().flat_map(|&stream| array.of(stream).iter().copied()).collect(),
        });
        Self { begun: streams.iter().map(|&stream| self.begun[stream]).collect(), arrays: arrays.collect() }
    }

    /// Panics unless it has `arrays` arrays of `streams` streams.
    pub(crate) fn assert_fits(&self, arrays: usize, streams: usize) {
        assert_eq!(
            self.arrays.len(),
            arrays,
            "the state does not have the arrays of this model: make it from the model's `state_shape`"
        );
        assert_eq!(self.streams(), streams, "the state must have one stream for each sequence of the batch");
    }

    /// This state as the start of a pass.
    pub fn start(&self) -> Start<'_, E> {
        Start { begun: &self.begun, arrays: &self.arrays }
    }
}

/// The state that the sequences of a batch start from. A sequence that has not begun starts from the module's initial
/// state, zero or learned, whatever the arrays hold for it.
#[derive(Debug)]
pub struct Start<'a, E> {
    /// Whether each sequence has begun, in the caller's order.
    pub begun: &'a [bool],
    /// The module's arrays, as in [`Layer::state_shape`](crate::Layer::state_shape).
    pub arrays: &'a [StateArray<E>],
}

impl<E> Clone for Start<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Start<'_, E> {}

impl<E> Start<'_, E> {
    /// The first `count` arrays, and the rest: the starts of two modules whose arrays follow each other.
    ///
    /// # Panics
    /// If there are fewer than `count` arrays.
    pub fn split_at(self, count: usize) -> (Self, Self) {
        let (first, rest) = split(self.arrays, count);
        (Self { arrays: first, ..self }, Self { arrays: rest, ..self })
    }
}

/// The first `count` arrays, and the rest.
pub(crate) fn split<E>(arrays: &[StateArray<E>], count: usize) -> (&[StateArray<E>], &[StateArray<E>]) {
    arrays.split_at_checked(count).unwrap_or_else(|| too_few(arrays.len(), count))
}

/// The first `count` arrays, and the rest, mutable.
pub(crate) fn split_mut<E>(arrays: &mut [StateArray<E>], count: usize) -> (&mut [StateArray<E>], &mut [StateArray<E>]) {
    let found = arrays.len();
    arrays.split_at_mut_checked(count).unwrap_or_else(|| too_few(found, count))
}

fn too_few(found: usize, count: usize) -> ! {
    panic!("the state has {found} arrays, but the first of two modules alone has {count}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> StateShape {
        let mut shape = StateShape::default();
        shape.push("h".into(), 2);
        shape.push("c".into(), 1);
        shape
    }

    fn state() -> State<f32> {
        let mut state = State::new(&shape(), 3);
        for (array, first) in state.arrays_mut().iter_mut().zip([1.0, 10.0]) {
            array.values_mut().iter_mut().zip(0u8..).for_each(|(x, i)| *x = first + f32::from(i));
        }
        state.begin();
        state
    }

    #[test]
    fn streams_are_reset_by_mask_and_gathered_by_index() {
        let mut state = state();
        state.reset_where(&[false, true, false]);
        assert_eq!(state.begun(), [true, false, true]);
        assert_eq!(state.array("h").values(), [1.0, 2.0, 0.0, 0.0, 5.0, 6.0]);
        let beams = state.gather(&[2, 0, 2, 1]);
        assert_eq!(beams.array("c").values(), [12.0, 10.0, 12.0, 0.0]);
        assert_eq!((beams.begun(), beams.array("h").of(1)), (&[true, true, true, false][..], &[1.0, 2.0][..]));
        state.reset();
        assert_eq!(state.gather(&[0]), State::new(&shape(), 1));
    }

    #[test]
    fn an_array_grows_and_keeps_its_numbers() {
        let mut state = state();
        let bytes = state.bytes();
        state.arrays_mut()[0].widen(4);
        assert_eq!(state.array("h").values(), [1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0]);
        assert_eq!((state.bytes(), state.array("h").width()), (bytes + 6 * 4, 4));
        state.arrays_mut()[0].widen(3);
        assert_eq!(state.array("h").of(2), [5.0, 6.0, 0.0, 0.0]);
        let mut shape = StateShape::default();
        shape.push("keys".into(), 0);
        let mut empty = State::<f32>::new(&shape, 2).gather(&[0, 1, 0]);
        empty.arrays_mut()[0].widen(2);
        assert_eq!(empty.array("keys").values(), [0.0; 6]);
    }

    #[test]
    #[should_panic(expected = "the state has no array `x`, only [\"h\", \"c\"]")]
    fn an_unknown_array_is_named() {
        state().array("x");
    }
}
