//! The step input: extra input columns that depend on the state before the step, forward and backward.

use crate::common::invariants::assert_same_solution;
use crate::common::{Numbers, Outcome, Problem, Setup, loss};
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::{Direction, Ragged, StepAt, StepInput};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa, for_each_cell};
use throughline_testkit::oracle::step;
use throughline_testkit::{Dual, Number, OracleCell, assert_close};

/// The engine in f64 against the oracle, values and exact derivatives alike.
const TOLERANCE: f64 = 1e-12;

/// extra = tanh(A h + m / (t + 1)): a matrix A for each direction, a vector m for each sequence, and the time t.
#[derive(Clone)]
struct Feedback {
    extra: usize,
    hidden: usize,
    /// `[D, extra, H]`
    a: Vec<f64>,
    /// `[B, extra]`, sequences in the caller's order.
    memory: Vec<f64>,
    batch: Ragged,
}

impl Feedback {
    fn new<E: Element>(problem: &Problem<E>, seed: u64) -> Self {
        let (extra, hidden) = (problem.shape.extra, problem.shape.hidden);
        let numbers = &mut Numbers::new(seed);
        let a = numbers.draw(problem.shape.directions * extra * hidden, 0.5);
        let memory = numbers.draw(problem.sequences.len() * extra, 1.0);
        Self { extra, hidden, a, memory, batch: problem.batch() }
    }

    /// A row of A.
    fn row(&self, direction: usize, j: usize) -> &[f64] {
        &self.a[(direction * self.extra + j) * self.hidden..][..self.hidden]
    }

    /// The map for one sequence, in any number.
    fn map<N: Number>(&self, direction: usize, sequence: usize, time: usize, h: &[N]) -> Vec<N> {
        (0..self.extra)
            .map(|j| {
                let start = N::from(self.memory[sequence * self.extra + j] / (time as f64 + 1.0));
                let row = self.row(direction, j).iter().zip(h);
                row.fold(start, |sum, (a, h)| sum + N::from(*a) * *h).tanh()
            })
            .collect()
    }

    fn map_rows<E: Element>(&self, at: &StepAt, h_previous: &[E]) -> Vec<E> {
        let columns = at.columns.clone().zip(h_previous.chunks(self.hidden));
        columns
            .flat_map(|(column, h)| {
                let h: Vec<f64> = h.iter().map(|h| h.to_f64()).collect();
                self.map(index(at.direction), self.batch.order()[column], at.time, &h)
            })
            .map(E::from_f64)
            .collect()
    }
}

fn index(direction: Direction) -> usize {
    Direction::BOTH.iter().position(|&d| d == direction).unwrap()
}

impl<E: Element> StepInput<E> for Feedback {
    fn forward(&self, at: StepAt, h_previous: &[E], extra: &mut [E]) {
        extra.copy_from_slice(&self.map_rows(&at, h_previous));
    }

    fn backward(&self, at: StepAt, h_previous: &[E], extra: &[E], d_extra: &[E], dh_previous: &mut [E]) {
        assert_eq!(extra, self.map_rows(&at, h_previous), "backward sees what forward saw");
        let rows = extra.chunks(self.extra).zip(d_extra.chunks(self.extra)).zip(dh_previous.chunks_mut(self.hidden));
        for ((extra, d_extra), dh) in rows {
            for j in 0..self.extra {
                let slope = d_extra[j].to_f64() * (1.0 - extra[j].to_f64() * extra[j].to_f64());
                for (dh, a) in dh.iter_mut().zip(self.row(index(at.direction), j)) {
                    *dh = E::from_f64(dh.to_f64() + a * slope);
                }
            }
        }
    }
}

/// The same network as a dumb loop: each step's input is x with the extra columns appended.
fn outcomes<N: Number>(problem: &Problem<N>, feedback: &Feedback) -> Vec<Outcome<N>> {
    let cell = OracleCell::from_name(problem.shape.cell.name());
    let weights = problem.oracle_weights();
    problem.collect_outcomes(|direction, b, sequence| {
        let mut state = problem.state(direction, &sequence.h0, &sequence.c0);
        let length = sequence.length();
        let mut ys = vec![Vec::new(); length];
        for done in 0..length {
            let (t, boundary) = match direction {
                0 => (done, sequence.reset[done]),
                _ => (length - 1 - done, done > 0 && sequence.reset[length - done]),
            };
            if boundary {
                state = problem.state(direction, &problem.restart_h, &problem.restart_c);
            }
            let mut x = sequence.x[t * problem.shape.input..][..problem.shape.input].to_vec();
            x.extend(feedback.map(direction, b, t, &state.h));
            state = step(cell, &weights[direction], &x, &state);
            ys[t] = state.h.clone();
        }
        (ys, state)
    })
}

fn setups(cell: CellKind) -> [Setup; 3] {
    let setup = |input, extra, hidden, lengths: &[usize]| Setup {
        extra,
        directions: 2,
        resets: true,
        ..Setup::new(cell, input, hidden, lengths)
    };
    [setup(3, 2, 4, &[3, 0, 5, 1]), setup(1, 1, 1, &[2, 4]), Setup { directions: 1, ..setup(2, 5, 6, &[1, 4, 3]) }]
}

fn check_against_oracle(cell: CellKind) {
    for setup in setups(cell) {
        let problem = Problem::<f64>::new(&setup);
        let feedback = Feedback::new(&problem, 7);
        let got = problem.solve(Isa::detect(), Threads::ONE, Some(&feedback));
        for (got, want) in got.sequences.iter().zip(outcomes(&problem, &feedback)) {
            assert_close("y", &got.outcome.y, &want.y, TOLERANCE);
            assert_close("h_n", &got.outcome.h_n, &want.h_n, TOLERANCE);
            assert_close("c_n", &got.outcome.c_n, &want.c_n, TOLERANCE);
        }
        let got = got.leaf_gradients();
        let mut dual = problem.convert(Dual::from);
        for (leaf, name) in problem.leaf_names().iter().enumerate() {
            let mut want = Vec::new();
            for k in 0..dual.leaves_mut()[leaf].len() {
                dual.leaves_mut()[leaf][k].slope = 1.0;
                want.push(loss(&dual, &outcomes(&dual, &feedback)).slope);
                dual.leaves_mut()[leaf][k].slope = 0.0;
            }
            assert_close(&format!("gradient of {name} of {setup:?}"), &got[leaf], &want, TOLERANCE);
        }
    }
}

/// Also over more columns than the driver takes at a time.
fn check_every_cpu(cell: CellKind) {
    let many: Vec<usize> = (0..200).map(|b| b % 3).collect();
    let wide = Setup { extra: 9, directions: 2, resets: true, ..Setup::new(cell, 5, 19, &many) };
    for setup in setups(cell).iter().chain([&wide]) {
        let problem = Problem::<f32>::new(setup);
        let feedback = Feedback::new(&problem, 7);
        let want = problem.solve(Isa::SCALAR, Threads::ONE, Some(&feedback));
        for threads in [1, 2, 3].map(Threads::new) {
            for isa in Isa::available() {
                let got = problem.solve(isa, &threads, Some(&feedback));
                assert_same_solution(&format!("{isa:?} on {} threads: {setup:?}", threads.count()), &got, &want);
            }
            let forward = problem.forward(Isa::detect(), &threads, Some(&feedback));
            for (got, want) in forward.iter().zip(&want.sequences) {
                assert_eq!(got.y, want.outcome.y, "without a tape");
            }
        }
    }
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn oracle() {
                check_against_oracle(CellKind::$cell);
            }
            #[test]
            fn every_cpu() {
                check_every_cpu(CellKind::$cell);
            }
        })*
    };
}
for_each_cell!(stamp);
