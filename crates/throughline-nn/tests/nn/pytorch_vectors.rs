//! Every registered cell in f32 against what PyTorch computed: stacks, two directions, ragged batches, given states.

use crate::common::Flat;
use throughline_kernels::cells::CellKind;
use throughline_kernels::for_each_cell;
use throughline_kernels::sequence::Ragged;
use throughline_nn::Layer;
use throughline_nn::layers::RecurrentConfig;
use throughline_nn::standalone::Stack;
use throughline_testkit::assert_close;
use throughline_testkit::vectors::{self, CellCase, Tensor};

const TOLERANCE: f64 = 1e-5;

fn states(h: &Tensor, c: Option<&Tensor>) -> Flat<f32> {
    Flat { h: h.data.clone(), c: c.map_or(Vec::new(), |c| c.data.clone()) }
}

fn check(cell: CellKind, case: &CellCase) {
    let name = |what: &str| format!("{} {}: {what}", cell.name(), case.name);
    let mut stack = Stack::new(
        RecurrentConfig {
            layers: case.layers,
            bidirectional: case.bidirectional,
            bias: case.bias,
            ..RecurrentConfig::new(cell, case.input, case.hidden)
        },
        1,
    );
    stack.set_parameters(|layout, parameters| crate::common::fill(layout, "", &case.parameters, parameters));
    let batch = Ragged::new(&case.lengths);
    let features = stack.config().output();
    let packed = |padded: &Tensor| {
        let features = padded.shape[2];
        let mut rows = vec![0.0; batch.rows() * features];
        batch.pack_time_major(&padded.data, features, &mut rows);
        rows
    };
    let padded = |rows: &[f32], features: usize| {
        let mut padded = vec![f32::NAN; case.time() * case.batch() * features];
        batch.unpack_time_major(rows, features, &mut padded);
        padded
    };

    let x = packed(&case.x);
    let shape = stack.module().state_shape();
    let start = case.h0.as_ref().map(|h0| states(h0, case.c0.as_ref()).state(&shape, case.batch()));
    let run = stack.run(&batch, &x, start.as_ref());
    let last = Flat::of(stack.config(), &run.last);
    assert_close(&name("outputs"), &padded(&run.output, features), &case.outputs.data, TOLERANCE);
    assert_close(&name("h_n"), &last.h, &case.h_n.data, TOLERANCE);
    assert_close(&name("c_n"), &last.c, case.c_n.as_ref().map_or(&[][..], |c| &c.data), TOLERANCE);

    let (weights, want) = (&case.loss_weights, &case.gradients);
    let d_last = states(&weights.h_n, weights.c_n.as_ref()).state(&shape, case.batch());
    let got = stack.backward(&batch, &x, start.as_ref(), Some(&packed(&weights.outputs)), Some(&d_last));
    let d_start = Flat::of(stack.config(), &got.start);
    assert_close(&name("gradient of x"), &padded(&got.x, case.input), &want.x.data, TOLERANCE);
    for (what, got, want) in [("h0", &d_start.h, &want.h0), ("c0", &d_start.c, &want.c0)] {
        if let Some(want) = want {
            assert_close(&name(&format!("gradient of {what}")), got, &want.data, TOLERANCE);
        }
    }
    assert_eq!(want.parameters.len(), stack.layout().tensors().len());
    for (parameter, want) in &want.parameters {
        let id = stack.layout().find(parameter).expect("PyTorch's name");
        let got = stack.layout().view(stack.gradients(), id);
        assert_close(&name(&format!("gradient of {parameter}")), got, &want.data, TOLERANCE);
    }
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(#[test]
        fn $name() {
            let cases = vectors::cell_cases(crate::common::oracle_cell(CellKind::$cell));
            assert!(!cases.is_empty());
            cases.iter().for_each(|case| check(CellKind::$cell, case));
        })*
    };
}
for_each_cell!(stamp);
