//! The oracle's solution of a problem.

use throughline_kernels::sequence::Regularisation;
use throughline_testkit::oracle::{Noise, Normalisation, run_direction};
use throughline_testkit::{Number, OracleCell, State, Weights};

use super::{Outcome, Parameters, Problem, Sequence};

/// The sum of everything returned, each number weighted by the gradient that reaches it: the function whose derivatives
/// [`Problem::solve`] yields.
pub fn loss<N: Number>(problem: &Problem<N>, outcomes: &[Outcome<N>]) -> N {
    let mut sum = N::from(0.0);
    for (sequence, outcome) in problem.sequences.iter().zip(outcomes) {
        let pairs = [(&outcome.y, &sequence.dy), (&outcome.h_n, &sequence.dh_n), (&outcome.c_n, &sequence.dc_n)];
        for (values, weights) in pairs {
            assert_eq!(values.len(), weights.len());
            for (value, weight) in values.iter().zip(weights) {
                sum = sum + *value * *weight;
            }
        }
    }
    sum
}

impl<N: Number> Problem<N> {
    /// Direction `direction` of `[D, H]` states.
    pub fn state(&self, direction: usize, h: &[N], c: &[N]) -> State<N> {
        let hidden = self.shape.hidden;
        let slice = |all: &[N]| all.iter().skip(direction * hidden).take(hidden).copied().collect();
        State { h: slice(h), c: slice(c) }
    }

    /// The oracle's weights of every direction.
    pub fn oracle_weights(&self) -> Vec<Weights<N>> {
        let bias = |bias: &Vec<N>| (!bias.is_empty()).then(|| bias.clone());
        let weights = |p: &Parameters<N>| Weights {
            weight_ih: p.weight_ih.clone(),
            weight_hh: p.weight_hh.clone(),
            bias_ih: bias(&p.bias_ih),
            bias_hh: bias(&p.bias_hh),
            normalisation: self.shape.normalised.then(|| Normalisation {
                input: p.norm_input.clone(),
                hidden: p.norm_hidden.clone(),
                cell: p.norm_cell.clone(),
                cell_bias: p.norm_cell_bias.clone(),
            }),
        };
        self.parameters.iter().map(weights).collect()
    }

    /// Collects `run(direction, b, sequence b)` of every direction of every sequence: outputs and last state.
    pub fn collect_outcomes(
        &self,
        run: impl Fn(usize, usize, &Sequence<N>) -> (Vec<Vec<N>>, State<N>),
    ) -> Vec<Outcome<N>> {
        let (hidden, output) = (self.shape.hidden, self.shape.output());
        let collect = |(b, sequence): (usize, &Sequence<N>)| {
            let y = vec![N::from(0.0); sequence.length() * output];
            let mut outcome = Outcome { y, h_n: Vec::new(), c_n: Vec::new() };
            for direction in 0..self.shape.directions {
                let (ys, last) = run(direction, b, sequence);
                for (t, y) in ys.iter().enumerate() {
                    outcome.y[t * output + direction * hidden..][..hidden].copy_from_slice(y);
                }
                outcome.h_n.extend(last.h);
                outcome.c_n.extend(last.c);
            }
            outcome
        };
        self.sequences.iter().enumerate().map(collect).collect()
    }

    /// The oracle's solution of the problem.
    pub fn oracle(&self) -> Vec<Outcome<N>> {
        let cell = OracleCell::from_name(self.shape.cell.name());
        let weights = self.oracle_weights();
        self.collect_outcomes(|direction, b, sequence| {
            let xs: Vec<Vec<N>> = sequence.x.chunks(self.shape.input).map(<[N]>::to_vec).collect();
            let noise = |t| noise(&self.regularisation, self.shape.hidden, direction, b, t);
            let entry = self.state(direction, &sequence.h0, &sequence.c0);
            let restart = self.state(direction, &self.restart_h, &self.restart_c);
            run_direction(cell, &weights[direction], direction == 1, &xs, &sequence.reset, &entry, &restart, &noise)
        })
    }
}

/// What regularises step `t` of a sequence: the masks by the rule that the engine documents, number by number.
fn noise(regularisation: &Regularisation, hidden: usize, direction: usize, sequence: usize, t: usize) -> Noise {
    let &Regularisation { recurrent_dropout, candidate_dropout, zoneout_hidden, zoneout_cell, masks } = regularisation;
    let hits = |kind: usize, rate: f32, time: usize| -> Option<Vec<bool>> {
        let masks = masks.filter(|_| rate > 0.0)?;
        let place = masks.place + ((1 + 4 * direction + kind) << 24) as u32;
        let number = |unit: usize| masks.philox.block([place, sequence as u32, time as u32, unit as u32 / 4])[unit % 4];
        Some((0..hidden).map(|unit| f64::from(number(unit)) / 4_294_967_296.0 < f64::from(rate)).collect())
    };
    let dropout = |kind, rate, time| match hits(kind, rate, time) {
        Some(hits) => hits.iter().map(|&hit| if hit { 0.0 } else { 1.0 / (1.0 - f64::from(rate)) }).collect(),
        None => vec![1.0; hidden],
    };
    let zoneout = |kind, rate, time| match hits(kind, rate, time) {
        Some(hits) => hits.iter().map(|&hit| f64::from(u8::from(hit))).collect(),
        None => vec![f64::from(rate); hidden],
    };
    Noise {
        hidden: dropout(0, recurrent_dropout, 0),
        candidate: dropout(1, candidate_dropout, t),
        keep_hidden: zoneout(2, zoneout_hidden, t),
        keep_cell: zoneout(3, zoneout_cell, t),
    }
}
