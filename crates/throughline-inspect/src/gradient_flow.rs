//! How far back a loss reaches: the norm of dL_t / dh_(t-k), and of dL_t / dc_(t-k) where a cell has a cell state, against the
//! lag k.
//!
//! L_t is the loss of one step, the *anchor*, or of a whole sequence where the network gives one answer for it; the
//! derivative is the total one, through all paths from h_(t-k) or c_(t-k) to L_t. Each anchor is a backward pass of its own from
//! that step's gradient over one tape; all sequences go back together.

use serde::Serialize;
use throughline_kernels::Element;
use throughline_kernels::cells::CellKind;
use throughline_nn::heads::Head;
use throughline_nn::module::Module;

use crate::probe::{Probe, Site, rows_of_sequences};
use crate::quantiles::Quantiles;

/// A state of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum FlowState {
    /// The hidden state h.
    #[serde(rename = "h")]
    Hidden,
    /// The cell state c.
    #[serde(rename = "c")]
    Cell,
}

impl FlowState {
    /// Those of a cell; the last carries memory on.
    fn of(cell: CellKind) -> &'static [Self] {
        if cell.has_cell_state() { &[Self::Hidden, Self::Cell] } else { &[Self::Hidden] }
    }

    /// `h` or `c`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hidden => "h",
            Self::Cell => "c",
        }
    }
}

/// The flow through a state of one direction of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flow {
    /// Where.
    #[serde(flatten)]
    pub site: Site,
    /// With respect to which state.
    pub state: FlowState,
    /// Whether it is the state that carries memory on: c of an LSTM, h of other cells.
    pub carried: bool,
    /// By lag, from 0, as far back as an anchor reaches that has a gradient at lag 0.
    pub lags: Vec<AtLag>,
}

/// The gradients at one lag. A reverse direction reads later steps first, so its lags count forward in time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AtLag {
    /// How many anchors reach so far back.
    pub anchors: usize,
    /// |dL_t / dh_(t-k)| or |dL_t / dc_(t-k)|, the Euclidean norm.
    pub norm: Quantiles,
    /// The same as a share of that at lag 0, anchor by anchor; anchors with none at lag 0 are left out.
    pub relative: Quantiles,
}

/// Gradients below this share of those at lag 0 are gone, as far as training can use them.
pub const GONE: f64 = 1e-2;

/// Each anchor's norms by lag.
type Norms = Vec<Vec<f64>>;

/// The flow from at most `anchors` steps of each sequence, spread evenly, the last one among them.
///
/// # Panics
/// If the probe keeps no row gradients, or `anchors` is 0.
pub fn gradient_flow<E: Element, B: Module<E>, H: Head<E>>(
    probe: &mut Probe<'_, E, B, H>,
    anchors: usize,
) -> Vec<Flow> {
    assert!(anchors > 0, "at least one anchor");
    let of_sequences = rows_of_sequences(probe.rows());
    let loss = probe.loss_gradient();
    let (rows_out, y) = probe.output();
    let width = y.len() / rows_out.rows().max(1);
    // A pooled sequence has one row, whose loss is that of the last step.
    let pooled = rows_out != probe.rows();
    let outputs = rows_of_sequences(rows_out);
    let anchor_of = |length: usize, index: usize| match pooled {
        true => (index == 0 && length > 0).then(|| length - 1),
        false => anchor(length, anchors, index),
    };
    let mut flows: Vec<Flow> = Vec::new();
    let mut norms: Vec<Norms> = Vec::new();
    for index in 0..if pooled { 1 } else { anchors } {
        let steps: Vec<Option<usize>> = of_sequences.iter().map(|rows| anchor_of(rows.len(), index)).collect();
        let mut dy = vec![E::ZERO; loss.len()];
        for (step, outputs) in steps.iter().zip(&outputs) {
            let Some(step) = *step else { continue };
            let row = outputs[if pooled { 0 } else { step }] * width;
            dy[row..row + width].copy_from_slice(&loss[row..row + width]);
        }
        probe.back(&mut dy);
        read_norms(probe, &of_sequences, &steps, pooled, &mut flows, &mut norms);
    }
    flows.iter_mut().zip(&norms).for_each(|(flow, norms)| flow.lags = by_lag(norms));
    flows
}

/// Anchor `index` of `anchors` in a sequence of `length` steps, if it has so many.
fn anchor(length: usize, anchors: usize, index: usize) -> Option<usize> {
    let anchors = anchors.min(length);
    (index < anchors).then(|| (index + 1) * length / anchors - 1)
}

/// Adds the norms of the last backward pass to `norms`, those of each of `flows`, which the first pass finds.
fn read_norms<E: Element, B: Module<E>, H: Head<E>>(
    probe: &Probe<'_, E, B, H>,
    of_sequences: &[Vec<usize>],
    steps: &[Option<usize>],
    pooled: bool,
    flows: &mut Vec<Flow>,
    norms: &mut Vec<Norms>,
) {
    let mut place = 0;
    probe.stacks(&mut |stack, tape| {
        let states = FlowState::of(stack.config().cell);
        for (site, &state) in Site::all(stack).flat_map(|site| states.iter().map(move |state| (site.clone(), state))) {
            let gradients = tape.row_gradients(site.layer).expect("the probe keeps row gradients");
            let norm = |&row: &usize| {
                let of_state = match state {
                    FlowState::Hidden => gradients.hidden(site.direction(), row),
                    FlowState::Cell => gradients.cell(site.direction(), row).expect("the cell has a cell state"),
                };
                of_state.iter().map(|x| x.to_f64() * x.to_f64()).sum::<f64>().sqrt()
            };
            if place == flows.len() {
                flows.push(Flow { site: site.clone(), state, carried: states.ends_with(&[state]), lags: Vec::new() });
                norms.push(Norms::new());
            }
            for (rows, step) in of_sequences.iter().zip(steps) {
                let Some(step) = *step else { continue };
                norms[place].push(match (site.reverse, pooled) {
                    (false, _) => rows[..=step].iter().rev().map(norm).collect(),
                    // Its last state is that after the first step.
                    (true, true) => rows.iter().map(norm).collect(),
                    (true, false) => rows[step..].iter().map(norm).collect(),
                });
            }
            place += 1;
        }
    });
}

fn by_lag(norms: &Norms) -> Vec<AtLag> {
    // Where no gradient begins, none can be followed.
    let lags = norms.iter().filter(|norms| norms[0] > 0.0).map(Vec::len).max().unwrap_or(0);
    let at = |lag: usize| {
        let reach = || norms.iter().filter(move |norms| norms.len() > lag);
        let mut absolute: Vec<f64> = reach().map(|norms| norms[lag]).collect();
        let mut relative: Vec<f64> =
            reach().filter(|norms| norms[0] > 0.0).map(|norms| norms[lag] / norms[0]).collect();
        AtLag { anchors: absolute.len(), norm: Quantiles::of(&mut absolute), relative: Quantiles::of(&mut relative) }
    };
    (0..lags).map(at).collect()
}

impl Flow {
    /// The first lag at which half of the anchors have less than `share` of their gradient at lag 0 left; `None` if
    /// there is none.
    pub fn horizon(&self, share: f64) -> Option<usize> {
        self.lags.iter().position(|at| at.relative.median < share)
    }
}

impl std::fmt::Display for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.site, self.state.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_spread_and_the_last_step_is_one() {
        let all = |length, anchors| (0..anchors).filter_map(|index| anchor(length, anchors, index)).collect::<Vec<_>>();
        assert_eq!(all(10, 3), [2, 5, 9]);
        assert_eq!(all(2, 4), [0, 1]);
        assert_eq!(all(0, 4), [0usize; 0]);
    }
}
