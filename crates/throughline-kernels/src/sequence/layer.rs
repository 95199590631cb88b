//! A layer's weights, packed for an instruction set.

use alloc::vec::Vec;

use throughline_simd::Isa;

use crate::Element;

use super::batch::Ragged;
use super::normalisation::{self, NormalisationMemory, NormalisationWeights, PackedNormalisation};
use super::plan::{Plan, Split};
use super::regularisation::MaskMemory;
use super::shape::LayerShape;
use crate::buffer::Buffer;
use crate::gemm::Panels;
use crate::threads::Threads;

/// The parameters of one direction, in PyTorch's layout: gate order i, f, g, o or r, z, n.
#[derive(Clone, Copy, Debug)]
pub struct DirectionWeights<'a, E> {
    /// `[G·H, I + extra]`
    pub weight_ih: &'a [E],
    /// `[G·H, H]`
    pub weight_hh: &'a [E],
    /// `[G·H]`, or empty for no bias.
    pub bias_ih: &'a [E],
    /// `[G·H]`, or empty for no bias.
    pub bias_hh: &'a [E],
    /// Those of a normalised layer.
    pub normalisation: Option<NormalisationWeights<'a, E>>,
}

/// A layer's weights, packed. Immutable in use and shared by any number of threads; packed anew after each update.
#[derive(Debug)]
pub struct PackedLayer<E> {
    pub(crate) shape: LayerShape,
    pub(crate) isa: Isa,
    pub(crate) has_backward: bool,
    forced: Option<Plan>,
    pub(crate) directions: Vec<PackedDirection<E>>,
}

#[derive(Debug, Default)]
pub(crate) struct PackedDirection<E> {
    /// `[S·H]`: what the slots of a row start from.
    pub bias: Vec<E>,
    /// x to slots.
    pub input: Panels<E>,
    /// Extra columns to slots.
    pub extra: Panels<E>,
    /// The operand of each phase to its slots.
    pub hidden: Vec<Panels<E>>,
    /// Slot gradients of the input terms to dx.
    pub input_back: Panels<E>,
    /// Slot gradients of the input terms to the gradient of the extra columns.
    pub extra_back: Panels<E>,
    /// Slot gradients of each phase to the gradient of its operand.
    pub hidden_back: Vec<Panels<E>>,
    /// That of a normalised layer.
    pub normalisation: Option<PackedNormalisation<E>>,
}

/// Memory of one thread. Grows to what the largest call needed and is kept between calls.
#[derive(Debug, Default)]
pub struct Scratch<E> {
    pub(crate) rows: Buffer<E>,
    pub(crate) gathered: Buffer<E>,
    pub(crate) extra: Buffer<E>,
    /// Memory of a step input where there is no tape.
    pub(crate) step: Buffer<E>,
    pub(crate) masks: MaskMemory<E>,
    pub(crate) normalisation: NormalisationMemory<E>,
}

impl<E: Element> Scratch<E> {
    /// One for each of `threads`.
    pub fn for_threads(threads: &Threads) -> Vec<Self> {
        (0..threads.count()).map(|_| Self::default()).collect()
    }
}

/// The most panels of a layer: of the input, the extra columns and two phases, and their transposes, in two directions.
const MOST_JOBS: usize = 16;

/// A panel to be packed, and from what.
enum Job<'a, E> {
    Input(&'a mut Panels<E>),
    Extra(&'a mut Panels<E>),
    Hidden(usize, &'a mut Panels<E>),
    InputBack(&'a mut Panels<E>),
    ExtraBack(&'a mut Panels<E>),
    HiddenBack(usize, &'a mut Panels<E>),
}

impl<E: Element> PackedLayer<E> {
    /// Room for a layer of `shape` on `isa`; with `backward`, also for the transposes that training needs.
    pub fn new(shape: LayerShape, isa: Isa, backward: bool) -> Self {
        shape.check();
        let direction = || PackedDirection {
            bias: alloc::vec![E::ZERO; shape.slot_width()],
            hidden: shape.cell.phases().iter().map(|_| Panels::new()).collect(),
            hidden_back: shape.cell.phases().iter().map(|_| Panels::new()).collect(),
            normalisation: shape.normalised.then(|| PackedNormalisation::new(&shape)),
            ..PackedDirection::default()
        };
        Self {
            shape,
            isa,
            has_backward: backward,
            forced: None,
            directions: (0..shape.directions).map(|_| direction()).collect(),
        }
    }

    /// The layer's shape.
    pub fn shape(&self) -> LayerShape {
        self.shape
    }

    /// How [`forward`](super::forward()) over `batch` is divided among `threads`.
    pub fn plan(&self, batch: &Ragged, threads: &Threads) -> Plan {
        self.plan_steps(batch.steps(), batch.rows(), threads)
    }

    /// Every possible plan for [`forward`](super::forward()) over `batch`; the first is that of one worker.
    pub fn plans(&self, batch: &Ragged, threads: &Threads) -> Vec<Plan> {
        let alive = batch.rows() as f64 / batch.steps().max(1) as f64;
        Plan::candidates::<E>(&self.shape, self.isa, batch.steps(), alive, threads).collect()
    }

    /// The [`plan`](Self::plan) for `steps` steps with `rows` rows in all.
    pub(super) fn plan_steps(&self, steps: usize, rows: usize, threads: &Threads) -> Plan {
        let alive = rows as f64 / steps.max(1) as f64;
        match self.forced {
            Some(plan) => plan,
            None => Plan::choose::<E>(&self.shape, self.isa, steps, alive, threads),
        }
    }

    /// Divides every pass by `plan` instead of the one chosen from the shape; `None` goes back to that. For measuring
    /// other plans; the results are the same to the bit.
    ///
    /// # Panics
    /// If a layer that needs whole states, for a step input or normalisation, is to be split by units, or there are no
    /// workers.
    pub fn force(&mut self, plan: Option<Plan>) {
        assert!(plan.is_none_or(|plan| plan.workers > 0), "a plan has at least one worker");
        let by_units = plan.is_some_and(|plan| plan.split == Split::Units);
        assert!(
            !by_units || !self.shape.needs_whole_states(),
            "a step input and normalisation need whole states: split by columns"
        );
        self.forced = plan;
    }

    /// Workers of the forward pass divide the hidden units in multiples of this, the units of the widest panel.
    pub(super) fn unit_block(&self) -> usize {
        let direction = &self.directions[0];
        direction.hidden.iter().chain([&direction.input]).map(Panels::units_per_panel).max().unwrap_or(1)
    }

    /// The instruction set it is packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Packs `weights`, one for each direction.
    ///
    /// # Panics
    /// If an array does not have the length that the shape asks for.
    pub fn pack(&mut self, threads: &Threads, weights: &[DirectionWeights<'_, E>]) {
        let (shape, isa, backward) = (self.shape, self.isa, self.has_backward);
        assert_eq!(weights.len(), shape.directions, "weights for every direction");
        let mut jobs = [const { None }; MOST_JOBS];
        let mut places = jobs.iter_mut();
        for (direction, weights) in self.directions.iter_mut().zip(weights) {
            check_weights(&shape, weights);
            fill_bias(&shape, weights, &mut direction.bias);
            if let (Some(packed), Some(weights)) = (&mut direction.normalisation, &weights.normalisation) {
                packed.pack(&shape, weights);
            }
            let mut add = |job| *places.next().expect("a layer has no more panels") = Some((*weights, job));
            add(Job::Input(&mut direction.input));
            for (phase, panels) in direction.hidden.iter_mut().enumerate() {
                add(Job::Hidden(phase, panels));
            }
            if shape.extra > 0 {
                add(Job::Extra(&mut direction.extra));
            }
            if backward {
                add(Job::InputBack(&mut direction.input_back));
                for (phase, panels) in direction.hidden_back.iter_mut().enumerate() {
                    add(Job::HiddenBack(phase, panels));
                }
                if shape.extra > 0 {
                    add(Job::ExtraBack(&mut direction.extra_back));
                }
            }
        }
        let of_layer = jobs.iter().flatten().count();
        threads.for_each_mut(&mut jobs[..of_layer], |job| {
            if let Some((weights, job)) = job {
                run(&shape, isa, weights, job);
            }
        });
    }
}

fn check_weights<E>(shape: &LayerShape, weights: &DirectionWeights<'_, E>) {
    let rows = shape.gate_rows();
    assert_eq!(weights.weight_ih.len(), rows * (shape.input + shape.extra), "weight_ih is [G·H, I]");
    assert_eq!(weights.weight_hh.len(), rows * shape.hidden, "weight_hh is [G·H, H]");
    for bias in [weights.bias_ih, weights.bias_hh] {
        assert!(bias.is_empty() || bias.len() == rows, "a bias is [G·H] or empty, not [{}]", bias.len());
    }
    normalisation::check_lengths(shape, weights.normalisation.as_ref().map(NormalisationWeights::lengths));
}

/// A slot starts from the sum of the biases of the terms it takes.
fn fill_bias<E: Element>(shape: &LayerShape, weights: &DirectionWeights<'_, E>, bias: &mut [E]) {
    let hidden = shape.hidden;
    bias.fill(E::ZERO);
    bias[..weights.bias_ih.len()].copy_from_slice(weights.bias_ih);
    if weights.bias_hh.is_empty() {
        return;
    }
    for phase in shape.cell.phases() {
        for (index, &slot) in phase.slots.iter().enumerate() {
            let from = &weights.bias_hh[(phase.first_gate + index) * hidden..][..hidden];
            for (to, from) in bias[slot * hidden..][..hidden].iter_mut().zip(from) {
                *to = *to + *from;
            }
        }
    }
}

fn run<E: Element>(shape: &LayerShape, isa: Isa, weights: &DirectionWeights<'_, E>, job: &mut Job<'_, E>) {
    let LayerShape { cell, input, extra, hidden, .. } = *shape;
    let columns = input + extra;
    let places =
        |slots: &[usize]| -> [usize; 4] { core::array::from_fn(|i| slots.get(i).copied().unwrap_or(0) * hidden) };
    let gates = cell.gates();
    let input_places = places(&[0, 1, 2, 3]);
    match job {
        Job::Input(panels) => {
            panels.pack_transposed(isa, weights.weight_ih, columns, input, hidden, &input_places[..gates]);
        }
        Job::Extra(panels) => {
            panels.pack_transposed(isa, &weights.weight_ih[input..], columns, extra, hidden, &input_places[..gates]);
        }
        Job::Hidden(phase, panels) => {
            let phase = &cell.phases()[*phase];
            let w = &weights.weight_hh[phase.first_gate * hidden * hidden..];
            panels.pack_transposed(isa, w, hidden, hidden, hidden, &places(phase.slots)[..phase.slots.len()]);
        }
        Job::InputBack(panels) => panels.pack(isa, weights.weight_ih, columns, gates * hidden, input),
        Job::ExtraBack(panels) => panels.pack(isa, &weights.weight_ih[input..], columns, gates * hidden, extra),
        Job::HiddenBack(phase, panels) => {
            let phase = &cell.phases()[*phase];
            let w = &weights.weight_hh[phase.first_gate * hidden * hidden..];
            panels.pack(isa, w, hidden, phase.slots.len() * hidden, hidden);
        }
    }
}
