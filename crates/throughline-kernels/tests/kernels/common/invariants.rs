//! The arithmetic contract as checks of one problem: the same bits, whatever the instruction set, the number of
//! threads, the batch and the cut.

use throughline_kernels::sequence::{Ragged, Scratch, Split, Step, step};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa};
use throughline_testkit::gradient::Bits;
use throughline_testkit::{assert_close, assert_same_bits};

use super::{Parameters, Problem, Sequence, SequenceSolution, Solution};

/// The whole solution, parameter gradients included.
pub fn assert_same_solution<E: Element + Bits>(what: &str, got: &Solution<E>, want: &Solution<E>) {
    for (b, (got, want)) in got.sequences.iter().zip(&want.sequences).enumerate() {
        assert_same_sequence(&format!("{what}, sequence {b}"), got, want);
        assert_same_bits(&format!("{what}, sequence {b}: restart_h"), &got.restart_h, &want.restart_h);
        assert_same_bits(&format!("{what}, sequence {b}: restart_c"), &got.restart_c, &want.restart_c);
    }
    for (d, (got, want)) in got.gradients.iter().zip(&want.gradients).enumerate() {
        for ((name, got), (_, want)) in got.tensors().into_iter().zip(want.tensors()) {
            assert_same_bits(&format!("{what}, direction {d}: {name}"), got, want);
        }
    }
}

fn assert_same_sequence<E: Bits>(what: &str, got: &SequenceSolution<E>, want: &SequenceSolution<E>) {
    for ((name, got), (_, want)) in got.tensors().into_iter().zip(want.tensors()) {
        assert_same_bits(&format!("{what}: {name}"), got, want);
    }
}

fn assert_close_gradients<E: Element + Into<f64>>(
    what: &str,
    got: &[Parameters<E>],
    want: &[Parameters<E>],
    tolerance: f64,
) {
    for (d, (got, want)) in got.iter().zip(want).enumerate() {
        for ((name, got), (_, want)) in got.tensors().into_iter().zip(want.tensors()) {
            assert_close(&format!("{what}, direction {d}: {name}"), got, want, tolerance);
        }
    }
}

/// Every instruction set and every number of threads against the scalar lane on one thread.
pub fn same_on_every_cpu<E: Element + Bits>(what: &str, problem: &Problem<E>, threads: &[Threads]) {
    let all = problem.solve(Isa::SCALAR, Threads::ONE, None);
    let mut without_slots = all.clone();
    for sequence in &mut without_slots.sequences {
        for kept in [&mut sequence.d_slots, &mut sequence.d_h, &mut sequence.d_c] {
            kept.clear();
        }
    }
    for (split, chunked) in
        [(Split::Columns, false), (Split::Units, false), (Split::Columns, true), (Split::Units, true)]
    {
        // A normalised layer needs whole states.
        if problem.shape.normalised && split == Split::Units {
            continue;
        }
        let problem = Problem { split: Some(split), chunked, ..problem.clone() };
        let want = if chunked { &without_slots } else { &all };
        for isa in Isa::available() {
            for threads in threads {
                // The rest of what `chunked` changes does not depend on the instruction set.
                if chunked && isa != Isa::detect() {
                    continue;
                }
                let what = format!("{what}: {} on {} threads by {split:?}", isa.name().as_str(), threads.count());
                assert_same_solution(&what, &problem.solve(isa, threads, None), want);
                let untaped = problem.forward(isa, threads, None);
                for (b, (got, want)) in untaped.iter().zip(&want.sequences).enumerate() {
                    let what = format!("{what}: sequence {b} without a tape");
                    assert_same_bits(&format!("{what}: y"), &got.y, &want.outcome.y);
                    assert_same_bits(&format!("{what}: h_n"), &got.h_n, &want.outcome.h_n);
                    assert_same_bits(&format!("{what}: c_n"), &got.c_n, &want.outcome.c_n);
                }
            }
        }
    }
}

/// Every sequence alone against itself in the batch; and the sum of the parameter gradients within `tolerance`.
pub fn same_alone<E: Element + Bits + Into<f64>>(what: &str, problem: &Problem<E>, tolerance: f64) {
    let want = problem.solve(Isa::detect(), Threads::ONE, None);
    let mut sum = vec![Parameters::zeros(&problem.shape, problem.has_bias()); problem.shape.directions];
    for b in 0..problem.sequences.len() {
        let alone = problem.alone(b);
        let got = alone.solve_into(&mut sum, Isa::detect(), Threads::ONE, None);
        let got = if alone.sequences.len() == 1 { &got[0] } else { &got[b] };
        assert_same_sequence(&format!("{what}: sequence {b} alone"), got, &want.sequences[b]);
    }
    assert_close_gradients(&format!("{what}: sum over sequences"), &sum, &want.gradients, tolerance);
}

/// A run in one direction cut at the steps `cuts` (rising, from 0 to the greatest length) against the uncut run:
/// states go from chunk to chunk forward, their gradients backward. The forward pass keeps no tape the first time.
pub fn same_in_chunks<E: Element + Bits + Into<f64>>(what: &str, problem: &Problem<E>, cuts: &[usize], tolerance: f64) {
    let want = problem.solve(Isa::detect(), Threads::ONE, None);
    let mut chunks: Vec<Problem<E>> = cuts.windows(2).map(|cut| problem.steps(cut[0]..cut[1])).collect();
    let enter = |chunk: &mut Problem<E>, states: &[(Vec<E>, Vec<E>)]| {
        for (sequence, (h, c)) in chunk.sequences.iter_mut().zip(states) {
            (sequence.h0, sequence.c0) = (h.clone(), c.clone());
        }
    };
    let mut states: Vec<_> = problem.sequences.iter().map(|s| (s.h0.clone(), s.c0.clone())).collect();
    for chunk in &mut chunks {
        enter(chunk, &states);
        states = chunk.forward(Isa::detect(), Threads::ONE, None).into_iter().map(|o| (o.h_n, o.c_n)).collect();
    }
    for (b, ((h, c), want)) in states.iter().zip(&want.sequences).enumerate() {
        assert_same_bits(&format!("{what} in {cuts:?}: h_n of sequence {b}"), h, &want.outcome.h_n);
        assert_same_bits(&format!("{what} in {cuts:?}: c_n of sequence {b}"), c, &want.outcome.c_n);
    }

    let mut sum = vec![Parameters::zeros(&problem.shape, problem.has_bias()); problem.shape.directions];
    let mut state_gradients: Vec<_> = problem.sequences.iter().map(|s| (s.dh_n.clone(), s.dc_n.clone())).collect();
    for (chunk, cut) in chunks.iter_mut().zip(cuts.windows(2)).rev() {
        for (sequence, (dh, dc)) in chunk.sequences.iter_mut().zip(state_gradients) {
            (sequence.dh_n, sequence.dc_n) = (dh, dc);
        }
        let got = chunk.solve_into(&mut sum, Isa::detect(), Threads::ONE, None);
        for (b, (got, want)) in got.iter().zip(&want.sequences).enumerate() {
            for ((name, got), (_, want)) in got.tensors().into_iter().zip(want.tensors()) {
                if !["y", "slots", "c", "d_slots", "d_h", "d_c", "dx"].contains(&name) {
                    continue;
                }
                let features = want.len().checked_div(problem.sequences[b].length()).unwrap_or(0);
                let first = cut[0].min(problem.sequences[b].length()) * features;
                let what = format!("{what} in {cuts:?}: {name} of sequence {b} from step {}", cut[0]);
                assert_same_bits(&what, got, &want[first..first + got.len()]);
            }
        }
        state_gradients = got.into_iter().map(|s| (s.dh0, s.dc0)).collect();
    }
    for (b, ((dh, dc), want)) in state_gradients.iter().zip(&want.sequences).enumerate() {
        assert_same_bits(&format!("{what} in {cuts:?}: dh0 of sequence {b}"), dh, &want.dh0);
        assert_same_bits(&format!("{what} in {cuts:?}: dc0 of sequence {b}"), dc, &want.dc0);
    }
    assert_close_gradients(&format!("{what} in {cuts:?}: sum over chunks"), &sum, &want.gradients, tolerance);
}

/// [`step`] over all sequences that are still alive, step after step, against the uncut run.
pub fn same_in_steps<E: Element + Bits>(what: &str, problem: &Problem<E>) {
    let want = problem.forward(Isa::detect(), Threads::ONE, None);
    let (input, hidden) = (problem.shape.input, problem.shape.hidden);
    let layer = problem.packed_layer(Isa::detect(), Threads::ONE, false);
    let mut scratch = Scratch::default();
    let mut states: Vec<_> = problem.sequences.iter().map(|s| (s.h0.clone(), s.c0.clone())).collect();
    for t in 0..problem.batch().steps() {
        let alive: Vec<usize> = (0..states.len()).filter(|&b| t < problem.sequences[b].length()).collect();
        let (mut x, mut h, mut c) = (Vec::new(), Vec::new(), Vec::new());
        for &b in &alive {
            let sequence: &Sequence<E> = &problem.sequences[b];
            if sequence.reset[t] {
                states[b] = (problem.restart_h.clone(), problem.restart_c.clone());
            }
            x.extend_from_slice(&sequence.x[t * input..][..input]);
            h.extend_from_slice(&states[b].0);
            c.extend_from_slice(&states[b].1);
        }
        let (mut y, mut h_next, mut c_next) = (h.clone(), h.clone(), c.clone());
        let batch = Ragged::even(1, alive.len());
        let now = Step {
            layer: &layer,
            batch: &batch,
            x: &x,
            h: &h,
            c: &c,
            regularisation: problem.regularisation,
            y: &mut y,
            h_next: &mut h_next,
            c_next: &mut c_next,
        };
        step(now, &mut scratch);
        assert_same_bits(&format!("{what}: h_next is y"), &h_next, &y);
        for (place, &b) in alive.iter().enumerate() {
            let of = |all: &[E]| all.iter().skip(place * hidden).take(hidden).copied().collect::<Vec<E>>();
            states[b] = (of(&h_next), of(&c_next));
            assert_same_bits(&format!("{what}: step {t} of sequence {b}"), &of(&y), &want[b].y[t * hidden..][..hidden]);
        }
    }
    for (b, ((h, c), want)) in states.iter().zip(&want).enumerate() {
        assert_same_bits(&format!("{what}: h_n of sequence {b}"), h, &want.h_n);
        assert_same_bits(&format!("{what}: c_n of sequence {b}"), c, &want.c_n);
    }
}
