//! The arithmetic contract over random shapes.

use crate::common::invariants::{same_alone, same_in_chunks, same_in_steps, same_on_every_cpu};
use crate::common::{Problem, Setup};
use proptest::prelude::*;
use throughline_kernels::cells::CellKind;
use throughline_kernels::threads::Threads;
use throughline_kernels::{Isa, for_each_cell};
use throughline_testkit::assert_close;

const CASES: u32 = 100;
/// Parameter gradients in f32 of a batch against the sum over its sequences or chunks.
const SUM_TOLERANCE: f64 = 1e-5;
/// The engine in f64 against the oracle.
const ORACLE_TOLERANCE: f64 = 1e-12;

fn setups(cell: CellKind) -> impl Strategy<Value = Setup> {
    let lengths = prop::collection::vec(0usize..9, 0..12);
    let flags = (1usize..3, any::<bool>(), any::<bool>());
    (1usize..24, 1usize..40, lengths, flags, any::<u64>()).prop_map(
        move |(input, hidden, lengths, (directions, bias, resets), seed)| Setup {
            directions,
            bias,
            resets,
            seed,
            ..Setup::new(cell, input, hidden, &lengths)
        },
    )
}

fn check(cell: CellKind) {
    let threads = [1, 3].map(Threads::new);
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(setup in setups(cell), cut in 0usize..9)| {
        let problem = Problem::<f32>::new(&setup);
        same_on_every_cpu("shapes", &problem, &threads);
        same_alone("shapes", &problem, SUM_TOLERANCE);

        let one_way = Problem::<f32>::new(&Setup { directions: 1, ..setup.clone() });
        let steps = one_way.batch().steps();
        let cut = cut.min(steps);
        same_in_chunks("shapes", &one_way, &[0, cut, steps], SUM_TOLERANCE);
        same_in_steps("shapes", &one_way);

        let exact = Problem::<f64>::new(&setup);
        for (got, want) in exact.forward(Isa::detect(), Threads::ONE, None).iter().zip(exact.oracle()) {
            assert_close("y", &got.y, &want.y, ORACLE_TOLERANCE);
            assert_close("h_n", &got.h_n, &want.h_n, ORACLE_TOLERANCE);
            assert_close("c_n", &got.c_n, &want.c_n, ORACLE_TOLERANCE);
        }
    });
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(#[test]
        fn $name() {
            check(CellKind::$cell);
        })*
    };
}
for_each_cell!(stamp);
