//! The step input: extra input columns that depend on the state before the step, forward and backward.

use crate::common::invariants::assert_same_solution;
use crate::common::{Numbers, Outcome, Problem, Setup, Solution, loss, yield_weight};
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::{
    Direction, ForwardPass, InitialStates, Inputs, Ragged, Record, Regularisation, Scratch, StepAt, StepBackward,
    StepInput, forward,
};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa, for_each_cell};
use throughline_testkit::oracle::step;
use throughline_testkit::{Dual, Number, OracleCell, assert_close, assert_same_bits};

/// The engine in f64 against the oracle, values and exact derivatives alike.
const TOLERANCE: f64 = 1e-12;

/// extra = tanh(A h + m / (t + 1)), with parameters of its own: a matrix A for each direction, a vector m for each
/// sequence.
///
/// What it yields is also read elsewhere: its memory holds the gradient from there when backward begins
/// ([`yield_weight`]), and the gradient of the argument of tanh when it ends.
#[derive(Clone)]
struct Feedback<N> {
    extra: usize,
    hidden: usize,
    /// `[D, extra, H]`
    a: Vec<N>,
    /// `[B, extra]`, sequences in the caller's order.
    m: Vec<N>,
    batch: Ragged,
}

impl Feedback<f64> {
    fn new<E: Element>(problem: &Problem<E>, seed: u64) -> Self {
        let (extra, hidden) = (problem.shape.extra, problem.shape.hidden);
        let numbers = &mut Numbers::new(seed);
        let a = numbers.draw(problem.shape.directions * extra * hidden, 0.5);
        let m = numbers.draw(problem.sequences.len() * extra, 1.0);
        Self { extra, hidden, a, m, batch: problem.batch() }
    }

    fn convert<N: Number>(&self) -> Feedback<N> {
        let all = |from: &[f64]| from.iter().map(|&x| N::from(x)).collect();
        Feedback { extra: self.extra, hidden: self.hidden, a: all(&self.a), m: all(&self.m), batch: self.batch.clone() }
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

    /// The gradients of A and m: products over the rows, added up in packed order.
    fn gradients<E: Element>(&self, solution: &Solution<E>) -> [Vec<E>; 2] {
        let mut d_a = vec![E::ZERO; self.a.len()];
        let mut d_m = vec![E::ZERO; self.m.len()];
        for direction in 0..self.a.len() / (self.extra * self.hidden) {
            self.batch.for_each_row(|_, b, t| {
                let solution = &solution.sequences[b];
                let row = direction * self.batch.lengths()[b] + t;
                let h = &solution.h_previous[row * self.hidden..][..self.hidden];
                for (j, &d) in solution.step_memory[row * self.extra..][..self.extra].iter().enumerate() {
                    let d_row = &mut d_a[(direction * self.extra + j) * self.hidden..][..self.hidden];
                    for (sum, h) in d_row.iter_mut().zip(h) {
                        *sum = *sum + d * *h;
                    }
                    let d_m = &mut d_m[b * self.extra + j];
                    *d_m = *d_m + d * E::from_f64(share(t));
                }
            });
        }
        [d_a, d_m]
    }
}

/// What of m enters at step t.
fn share(t: usize) -> f64 {
    1.0 / (t as f64 + 1.0)
}

impl<N: Number> Feedback<N> {
    /// A row of A.
    fn row(&self, direction: usize, j: usize) -> &[N] {
        &self.a[(direction * self.extra + j) * self.hidden..][..self.hidden]
    }

    /// The map for one sequence.
    fn map(&self, direction: usize, sequence: usize, time: usize, h: &[N]) -> Vec<N> {
        (0..self.extra)
            .map(|j| {
                let start = self.m[sequence * self.extra + j] * N::from(share(time));
                let row = self.row(direction, j).iter().zip(h);
                row.fold(start, |sum, (a, h)| sum + *a * *h).tanh()
            })
            .collect()
    }
}

fn index(direction: Direction) -> usize {
    Direction::BOTH.iter().position(|&d| d == direction).unwrap()
}

impl<E: Element> StepInput<E> for Feedback<f64> {
    fn memory(&self) -> usize {
        self.extra
    }

    fn forward(&self, at: StepAt, h_previous: &[E], memory: &mut [E], extra: &mut [E]) {
        extra.copy_from_slice(&self.map_rows(&at, h_previous));
        memory.fill(E::from_f64(f64::NAN));
    }

    fn backward(&self, at: StepAt, step: StepBackward<'_, E>) {
        let StepBackward { h_previous, extra, d_extra, memory, dh_previous } = step;
        assert_eq!(extra, self.map_rows(&at, h_previous), "backward sees what forward saw");
        let rows = extra.chunks(self.extra).zip(d_extra.chunks(self.extra));
        let writes = memory.chunks_mut(self.extra).zip(dh_previous.chunks_mut(self.hidden));
        for ((column, (extra, d_extra)), (memory, dh)) in at.columns.clone().zip(rows).zip(writes) {
            for j in 0..self.extra {
                let elsewhere = yield_weight(index(at.direction), self.batch.order()[column], at.time, j);
                assert_eq!(memory[j], E::from_f64(elsewhere), "backward sees what the caller left");
                let slope = (d_extra[j].to_f64() + elsewhere) * (1.0 - extra[j].to_f64() * extra[j].to_f64());
                memory[j] = E::from_f64(slope);
                for (dh, a) in dh.iter_mut().zip(self.row(index(at.direction), j)) {
                    *dh = E::from_f64(dh.to_f64() + a * slope);
                }
            }
        }
    }
}

/// The same network as a plain loop: each step's input is x with the extra columns appended. Also the sum of what is
/// yielded, each number times its weight.
fn outcomes<N: Number>(problem: &Problem<N>, feedback: &Feedback<N>) -> (Vec<Outcome<N>>, N) {
    let cell = OracleCell::from_name(problem.shape.cell.name());
    let weights = problem.oracle_weights();
    let yielded = std::cell::Cell::new(N::from(0.0));
    let outcomes = problem.collect_outcomes(|direction, b, sequence| {
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
            let extra = feedback.map(direction, b, t, &state.h);
            for (j, extra) in extra.iter().enumerate() {
                yielded.set(yielded.get() + *extra * N::from(yield_weight(direction, b, t, j)));
            }
            x.extend(extra);
            state = step(cell, &weights[direction], &x, &state);
            ys[t] = state.h.clone();
        }
        (ys, state)
    });
    (outcomes, yielded.get())
}

/// The loss whose gradients the engine gives.
fn whole_loss(problem: &Problem<Dual>, feedback: &Feedback<Dual>) -> Dual {
    let (outcomes, yielded) = outcomes(problem, feedback);
    loss(problem, &outcomes) + yielded
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

/// A parameter of the hook.
type Leaf = fn(&mut Feedback<Dual>) -> &mut Vec<Dual>;

fn check_against_oracle(cell: CellKind) {
    for setup in setups(cell) {
        let problem = Problem::<f64>::new(&setup);
        let feedback = Feedback::new(&problem, 7);
        let got = problem.solve(Isa::detect(), Threads::ONE, Some(&feedback));
        let [d_a, d_m] = feedback.gradients(&got);
        for (got, want) in got.sequences.iter().zip(outcomes(&problem, &feedback).0) {
            assert_close("y", &got.outcome.y, &want.y, TOLERANCE);
            assert_close("h_n", &got.outcome.h_n, &want.h_n, TOLERANCE);
            assert_close("c_n", &got.outcome.c_n, &want.c_n, TOLERANCE);
        }
        let got = got.leaf_gradients();
        let (mut dual, mut dual_feedback) = (problem.convert(Dual::from), feedback.convert::<Dual>());
        for (leaf, name) in problem.leaf_names().iter().enumerate() {
            let mut want = Vec::new();
            for k in 0..dual.leaves_mut()[leaf].len() {
                dual.leaves_mut()[leaf][k].slope = 1.0;
                want.push(whole_loss(&dual, &dual_feedback).slope);
                dual.leaves_mut()[leaf][k].slope = 0.0;
            }
            assert_close(&format!("gradient of {name} of {setup:?}"), &got[leaf], &want, TOLERANCE);
        }
        let leaves: [(&str, &[f64], Leaf); 2] = [("A", &d_a, |f| &mut f.a), ("m", &d_m, |f| &mut f.m)];
        for (name, got, leaf) in leaves {
            let mut want = Vec::new();
            for k in 0..got.len() {
                leaf(&mut dual_feedback)[k].slope = 1.0;
                want.push(whole_loss(&dual, &dual_feedback).slope);
                leaf(&mut dual_feedback)[k].slope = 0.0;
            }
            assert_close(&format!("gradient of {name} of {setup:?}"), got, &want, TOLERANCE);
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
                let what = format!("{isa:?} on {} threads: {setup:?}", threads.count());
                assert_same_solution(&what, &got, &want);
                for (got, want) in feedback.gradients(&got).iter().zip(&feedback.gradients(&want)) {
                    assert_same_bits(&format!("{what}: gradients of the step input"), got, want);
                }
            }
            let forward = problem.forward(Isa::detect(), &threads, Some(&feedback));
            for (got, want) in forward.iter().zip(&want.sequences) {
                assert_eq!(got.y, want.outcome.y, "without a tape");
            }
        }
    }
}

/// A run cut into windows gives the bits of the whole: the hook sees the sequence and time of the whole in each.
#[test]
fn windows_see_the_time_of_the_whole() {
    let problem = Problem::<f32>::new(&Setup { extra: 2, ..Setup::new(CellKind::GruAfter, 3, 4, &[2, 5, 0, 3]) });
    let (input, hidden) = (problem.shape.input, problem.shape.hidden);
    let feedback = Feedback::new(&problem, 7);
    let layer = problem.packed_layer(Isa::detect(), Threads::ONE, false);
    let whole = problem.batch();
    let mut x = vec![0.0; whole.rows() * input];
    whole.for_each_row(|row, b, t| {
        x[row * input..][..input].copy_from_slice(&problem.sequences[b].x[t * input..][..input]);
    });
    let run = |batch: &Ragged, x: &[f32], h: &mut Vec<f32>| {
        let (mut y, mut h_n) = (vec![0.0; batch.rows() * hidden], h.clone());
        let initial = InitialStates { h, c: &[], restart_h: &[], restart_c: &[] };
        let inputs = Inputs {
            layer: &layer,
            threads: Threads::ONE,
            batch,
            x,
            initial,
            regularisation: Regularisation::NONE,
            step_input: Some(&feedback),
        };
        let pass = ForwardPass { y: &mut y, h_n: &mut h_n, c_n: &mut [], record: Record::Nothing };
        forward(&inputs, pass, &mut Scratch::for_threads(Threads::ONE));
        *h = h_n;
        y
    };
    let start = vec![0.25; whole.batch() * hidden];
    let (mut h_whole, mut h) = (start.clone(), start);
    let want = run(&whole, &x, &mut h_whole);
    let (mut got, mut window) = (Vec::new(), Ragged::default());
    for steps in [0..2, 2..3, 3..5] {
        window.set_window(&whole, steps.clone());
        let rows = whole.rows_of(&steps);
        got.extend(run(&window, &x[rows.start * input..rows.end * input], &mut h));
    }
    assert_same_bits("y in windows", &got, &want);
    assert_same_bits("h_n in windows", &h, &h_whole);
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
