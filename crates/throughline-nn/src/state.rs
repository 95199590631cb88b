//! The state of streams: what recurrent layers remember from one call to the next, in one form for every module.

use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::Element;

use crate::module::Start;

/// The names and widths of a state's arrays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateShape(Vec<(String, usize)>);

impl StateShape {
    /// Appends an array of `width` numbers for each stream.
    pub fn push(&mut self, name: String, width: usize) {
        self.0.push((name, width));
    }

    /// Appends the arrays of another module.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Name and width of each array.
    pub fn arrays(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, width)| (name.as_str(), *width))
    }

    /// Numbers for each stream.
    pub fn numbers(&self) -> usize {
        self.0.iter().map(|(_, width)| width).sum()
    }
}

/// One array of a state: `[streams, width]`, in the caller's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateArray<E> {
    name: String,
    width: usize,
    values: Vec<E>,
}

impl<E: Element> StateArray<E> {
    /// Its name, such as `rnn.h_l0`.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Numbers of a stream.
    pub fn width(&self) -> usize {
        self.width
    }
    /// `[streams, width]`
    pub fn values(&self) -> &[E] {
        &self.values
    }
    /// `[streams, width]`, to be changed.
    pub fn values_mut(&mut self) -> &mut [E] {
        &mut self.values
    }
    /// The numbers of one stream.
    pub fn of(&self, stream: usize) -> &[E] {
        &self.values[stream * self.width..][..self.width]
    }
}

/// The state of parallel streams.
///
/// A stream that has not begun stands before its first step: a pass starts it from the module's own initial state (zero or
/// learned), whatever its arrays hold.
#[derive(Clone, Debug, PartialEq)]
pub struct State<E> {
    begun: Vec<bool>,
    arrays: Vec<StateArray<E>>,
}

impl<E: Element> State<E> {
    /// `streams` streams that have not begun.
    pub fn new(shape: &StateShape, streams: usize) -> Self {
        let arrays = shape.arrays().map(|(name, width)| StateArray {
            name: name.into(),
            width,
            values: alloc::vec![E::ZERO; streams * width],
        });
        Self { begun: alloc::vec![false; streams], arrays: arrays.collect() }
    }

    /// How many streams.
    pub fn streams(&self) -> usize {
        self.begun.len()
    }

    /// For each stream whether it has begun.
    pub fn begun(&self) -> &[bool] {
        &self.begun
    }

    /// Every stream has begun: its arrays count from now on.
    pub fn begin(&mut self) {
        self.begun.fill(true);
    }

    /// The arrays, in the order of the modules that own them.
    pub fn arrays(&self) -> &[StateArray<E>] {
        &self.arrays
    }

    /// The arrays, to be changed.
    pub fn arrays_mut(&mut self) -> &mut [StateArray<E>] {
        &mut self.arrays
    }

    /// Which streams have begun, and the arrays to be changed.
    pub fn parts_mut(&mut self) -> (&[bool], &mut [StateArray<E>]) {
        (&self.begun, &mut self.arrays)
    }

    /// The array of that name.
    ///
    /// # Panics
    /// If there is none.
    pub fn array(&self, name: &str) -> &StateArray<E> {
        let found = self.arrays.iter().find(|array| array.name == name);
        found.unwrap_or_else(|| {
            let names: Vec<&str> = self.arrays.iter().map(StateArray::name).collect();
            panic!("there is no state {name}, only {names:?}")
        })
    }

    /// Puts the streams for which `mask` is true before their first step, with zeros in their arrays.
    ///
    /// # Panics
    /// If the mask is not as long as there are streams.
    pub fn reset_where(&mut self, mask: &[bool]) {
        assert_eq!(mask.len(), self.streams(), "one mask for each stream");
        for stream in (0..mask.len()).filter(|&stream| mask[stream]) {
            self.begun[stream] = false;
            for array in &mut self.arrays {
                array.values[stream * array.width..][..array.width].fill(E::ZERO);
            }
        }
    }

    /// Puts all streams before their first step.
    pub fn reset(&mut self) {
        self.begun.fill(false);
        self.arrays.iter_mut().for_each(|array| array.values.fill(E::ZERO));
    }

    /// The streams `streams`, in that order; one may be taken several times, as beams are.
    ///
    /// # Panics
    /// If there is no such stream.
    pub fn gather(&self, streams: &[usize]) -> Self {
        let arrays = self.arrays.iter().map(|array| StateArray {
            name: array.name.clone(),
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
            "the state has other arrays than the model: make it by its `state_shape`"
        );
        assert_eq!(self.streams(), streams, "the state has another number of streams than the batch has sequences");
    }

    /// What a pass starts from.
    pub fn start(&self) -> Start<'_, E> {
        Start { begun: &self.begun, arrays: &self.arrays }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State<f32> {
        let mut shape = StateShape::default();
        shape.push("h".into(), 2);
        shape.push("c".into(), 1);
        let mut state = State::new(&shape, 3);
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
        assert_eq!(
            state.gather(&[0]),
            State::new(
                &{
                    let mut shape = StateShape::default();
                    shape.push("h".into(), 2);
                    shape.push("c".into(), 1);
                    shape
                },
                1
            )
        );
    }

    #[test]
    #[should_panic(expected = "there is no state x, only [\"h\", \"c\"]")]
    fn an_unknown_array_is_named() {
        state().array("x");
    }
}
