//! The cells: each a pointwise map, its transpose, and a declaration of its gates and the products they need.
//!
//! The driver ([`crate::sequence`]) owns everything else: products, time, raggedness, direction, the tape. For each row
//! and unit a cell sees its *slots*: the values the tape keeps, one block of H per slot. A slot holds a gate's
//! pre-activation when the map begins and its activation when it ends.

mod gru;
mod lstm;
mod rnn;
pub(crate) mod zoneout;

use throughline_simd::Lane;

pub use gru::{GruAfter, GruBefore, negate_update_gate};
pub use lstm::Lstm;
pub use rnn::{RnnRelu, RnnTanh};

/// The most slots a cell may have.
pub const MAX_SLOTS: usize = 4;

/// |h| and |c| below this are written as 0; the gradient of that is the identity. 2^-64.
pub const TINY_STATE: f64 = 1.0 / (1u128 << 64) as f64;
/// |dh| and |dc| below this are taken as 0. 2^-96.
pub const TINY_GRADIENT: f64 = 1.0 / (1u128 << 96) as f64;

/// What one product of a step multiplies with the recurrent weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The previous hidden state.
    Hidden,
    /// A slot that an earlier phase of the same step has computed.
    Slot(usize),
}

/// One product of a step and the pointwise map after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// The first of the gates (blocks of H rows of `weight_hh`) that the product computes.
    pub first_gate: usize,
    /// The slot each of them is added to.
    pub slots: &'static [usize],
    /// What is multiplied.
    pub operand: Operand,
}

impl Phase {
    /// The runs of gates whose slots lie side by side: (first gate within the phase, first slot, how many).
    pub fn runs(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let slots = self.slots;
        let starts = (0..slots.len()).filter(move |&i| i == 0 || slots[i] != slots[i - 1] + 1);
        starts.map(move |start| {
            let count = (start..slots.len()).take_while(|&i| slots[i] == slots[start] + i - start).count();
            (start, slots[start], count)
        })
    }
}

/// What dropout inside a step multiplies; everything is 1 without it.
#[derive(Clone, Copy, Debug)]
pub struct Dropout<V> {
    /// The factor of h_(t-1) where a product takes it (Gal and Ghahramani 2016): the driver applies it to
    /// [`Operand::Hidden`], a cell where it makes another operand of h_(t-1).
    pub hidden: V,
    /// The factor of the candidate, g of an LSTM and n of a GRU (Semeniuta et al. 2016).
    pub candidate: V,
}

/// One vector of units on the way forward.
#[derive(Clone, Copy, Debug)]
pub struct Forward<V> {
    /// In: pre-activations (and what earlier phases left). Out: what the tape keeps.
    pub slots: [V; MAX_SLOTS],
    /// In: the previous hidden state. Out, in the last phase of a cell without cell state: the new one.
    pub h: V,
    /// In: the previous cell state. Out, in the last phase: the new one.
    pub c: V,
    /// What dropout multiplies.
    pub dropout: Dropout<V>,
}

/// One vector of units on the way back.
#[derive(Clone, Copy, Debug)]
pub struct Backward<V> {
    /// As forward left them on the tape.
    pub slots: [V; MAX_SLOTS],
    /// Out: the gradient of each slot's pre-activation. In: what phases that ran before left; where a slot is the
    /// operand of a later phase, the gradient of its value.
    pub d: [V; MAX_SLOTS],
    /// The previous hidden state.
    pub h_previous: V,
    /// The previous cell state.
    pub c_previous: V,
    /// In, in the phase that runs first: the gradient of h_t. Out: the gradient of h_(t-1), without what passes through
    /// a product.
    pub dh: V,
    /// In: the gradient of c_t, through step t+1 and what was read out of it. Out: the gradient of c_(t-1).
    pub dc: V,
    /// What dropout multiplied.
    pub dropout: Dropout<V>,
}

/// What a cell is called outside the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// In recipes and on the command line.
    pub recipe: &'static str,
    /// For people: in model cards and tables.
    pub title: &'static str,
    /// In PyTorch.
    pub pytorch: PyTorch,
}

/// The module of PyTorch whose weights have the names, shapes and gate order of a cell's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PyTorch {
    /// It computes the same.
    Same(&'static str),
    /// It would load the weights and compute something else.
    LooksLike {
        /// The module.
        module: &'static str,
        /// Where the two differ, in whole sentences.
        difference: &'static str,
    },
    /// There is none.
    None,
}

/// A recurrent cell.
///
/// Slot g < [`GATES`](Self::GATES) takes the input term of gate g; the hidden terms go where the phases say.
pub trait Cell: Copy + Default + Send + Sync + 'static {
    /// Its name in tests and records.
    const NAME: &'static str;
    /// Its names elsewhere.
    const NAMES: Names;
    /// The name of each slot; the first G are those of the gates. A gate that multiplies the state of the step before is
    /// called `forget` or `update`.
    const SLOT_NAMES: &'static [&'static str];
    /// Gates G: blocks of H rows in `weight_ih` and `weight_hh`.
    const GATES: usize;
    /// Slots S: blocks of H values that the tape keeps for a row.
    const SLOTS: usize = Self::SLOT_NAMES.len();
    /// Whether there is a cell state c beside the hidden state h.
    const HAS_CELL_STATE: bool;
    /// Whether there is a candidate, a proposal for the new state that dropout may act on.
    const HAS_CANDIDATE: bool;
    /// The products of a step, in order.
    const PHASES: &'static [Phase];

    /// The pointwise map after product `phase`. The first may change every slot, a later one only the slots of its
    /// phase: other workers may be reading the rest. A cell with cell state leaves h to [`read_out`](Self::read_out).
    fn forward<L: Lane>(lane: L, phase: usize, unit: &mut Forward<L::Vector>);

    /// What the activations of `phase` are of, for inspection, given its slots before and after [`forward`](Self::forward): what
    /// stood there before, unless the map itself adds something first.
    #[inline(always)]
    fn pre_activations<L: Lane>(
        lane: L,
        before: [L::Vector; MAX_SLOTS],
        after: &[L::Vector; MAX_SLOTS],
    ) -> [L::Vector; MAX_SLOTS] {
        let _ = (lane, after);
        before
    }

    /// The transpose of [`forward`](Self::forward); the driver runs the phases from the last to the first. The one that
    /// runs first may set every slot's gradient, another only those of its phase.
    fn backward<L: Lane>(lane: L, phase: usize, unit: &mut Backward<L::Vector>);

    /// c' once more, as [`forward`](Self::forward) made it of the gates' activations and the previous cell state.
    #[inline(always)]
    fn cell_state<L: Lane>(_: L, _: &Backward<L::Vector>) -> L::Vector {
        unreachable!("{} has no cell state", Self::NAME)
    }

    /// The hidden state, of the gates' activations and c'.
    #[inline(always)]
    fn read_out<L: Lane>(_: L, _: &[L::Vector; MAX_SLOTS], _: L::Vector) -> L::Vector {
        unreachable!("{} has no cell state", Self::NAME)
    }

    /// The transpose of [`read_out`](Self::read_out), before [`backward`](Self::backward): sets the slot gradients that
    /// depend on `c`, which was read out, and adds the gradient of `c` to dc.
    #[inline(always)]
    fn read_out_backward<L: Lane>(_: L, _: L::Vector, _: &mut Backward<L::Vector>) {
        unreachable!("{} has no cell state", Self::NAME)
    }
}

/// The registered cells. `for_each_cell!(callback)` calls `callback! { name: Type, ... }`: the one list from which
/// run-time dispatch and the tests of every cell are made. To add a cell, write its file and add its line here.
#[macro_export]
macro_rules! for_each_cell {
    ($callback:ident) => {
        $callback! {
            rnn_tanh: RnnTanh,
            rnn_relu: RnnRelu,
            lstm: Lstm,
            gru_after: GruAfter,
            gru_before: GruBefore,
        }
    };
}

macro_rules! define_kind {
    ($($name:ident: $cell:ident,)*) => {
        /// A registered cell as a value. What needs equations of its own for every cell matches on it exhaustively.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CellKind {
            $(#[doc = concat!("[`", stringify!($cell), "`]")] $cell,)*
        }

        impl CellKind {
            /// Every registered cell.
            pub const ALL: &'static [CellKind] = &[$(CellKind::$cell),*];

            /// [`Cell::NAME`]
            pub fn name(self) -> &'static str {
                match self { $(CellKind::$cell => $cell::NAME),* }
            }
            /// [`Cell::NAMES`]
            pub fn names(self) -> Names {
                match self { $(CellKind::$cell => $cell::NAMES),* }
            }
            /// [`Cell::SLOT_NAMES`]
            pub fn slot_names(self) -> &'static [&'static str] {
                match self { $(CellKind::$cell => $cell::SLOT_NAMES),* }
            }
            /// [`Cell::GATES`]
            pub fn gates(self) -> usize {
                match self { $(CellKind::$cell => $cell::GATES),* }
            }
            /// [`Cell::SLOTS`]
            pub fn slots(self) -> usize {
                match self { $(CellKind::$cell => $cell::SLOTS),* }
            }
            /// [`Cell::HAS_CELL_STATE`]
            pub fn has_cell_state(self) -> bool {
                match self { $(CellKind::$cell => $cell::HAS_CELL_STATE),* }
            }
            /// [`Cell::HAS_CANDIDATE`]
            pub fn has_candidate(self) -> bool {
                match self { $(CellKind::$cell => $cell::HAS_CANDIDATE),* }
            }
            /// [`Cell::PHASES`]
            pub fn phases(self) -> &'static [Phase] {
                match self { $(CellKind::$cell => $cell::PHASES),* }
            }
        }

        /// Calls a function that is generic over the cell with the cell that `$kind` names.
        macro_rules! with_cell {
            ($kind:expr, $alias:ident => $body:expr) => {
                match $kind {
                    $($crate::cells::CellKind::$cell => { type $alias = $crate::cells::$cell; $body })*
                }
            };
        }
        pub(crate) use with_cell;
    };
}
for_each_cell!(define_kind);

impl CellKind {
    /// The cell of that name in recipes.
    pub fn from_recipe_name(name: &str) -> Option<CellKind> {
        Self::ALL.iter().copied().find(|cell| cell.names().recipe == name)
    }

    /// The place of a gate among the blocks of H rows of weights and biases; `None` if the cell has no gate of that
    /// name.
    pub fn gate(self, name: &str) -> Option<usize> {
        self.slot_names()[..self.gates()].iter().position(|&gate| gate == name)
    }

    /// The gate that multiplies the state of the step before, so that a state is kept where it is 1: an LSTM's forget gate,
    /// a GRU's update gate. `None` if the cell has none.
    pub fn keeping_gate(self) -> Option<usize> {
        self.gate("forget").or_else(|| self.gate("update"))
    }

    /// The slot of that name.
    ///
    /// # Panics
    /// If the cell has none.
    pub(crate) fn slot(self, name: &str) -> usize {
        let names = self.slot_names();
        let slot = names.iter().position(|&slot| slot == name);
        slot.unwrap_or_else(|| panic!("the cell {} has no gate {name:?}; it has {}", self.name(), names.join(", ")))
    }
}

/// a(1 - a), the derivative of the sigmoid at activation a.
#[inline(always)]
fn sigmoid_slope<L: Lane>(lane: L, a: L::Vector) -> L::Vector {
    lane.mul(a, lane.sub(lane.splat(one::<L>()), a))
}

/// 1 - a², the derivative of tanh at activation a.
#[inline(always)]
fn tanh_slope<L: Lane>(lane: L, a: L::Vector) -> L::Vector {
    lane.sub(lane.splat(one::<L>()), lane.mul(a, a))
}

#[inline(always)]
fn one<L: Lane>() -> L::Element {
    <L::Element as throughline_simd::Element>::ONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        for &cell in CellKind::ALL {
            let names = cell.names();
            assert_eq!(CellKind::from_recipe_name(names.recipe), Some(cell));
            let titles = CellKind::ALL.iter().filter(|other| other.names().title == names.title);
            assert_eq!(titles.count(), 1, "{}", names.title);
            for (slot, name) in cell.slot_names().iter().enumerate() {
                assert_eq!(cell.slot(name), slot, "{} of {}", name, cell.name());
                assert_eq!(cell.gate(name), (slot < cell.gates()).then_some(slot));
            }
            assert!(cell.gates() <= cell.slots() && cell.slots() <= MAX_SLOTS);
        }
        assert_eq!(CellKind::from_recipe_name("transformer"), None);
    }

    #[test]
    #[should_panic = "the cell gru_after has no gate \"forget\"; it has reset, update, new, hidden_new"]
    fn an_unknown_gate_lists_those_there_are() {
        CellKind::GruAfter.slot("forget");
    }
}
