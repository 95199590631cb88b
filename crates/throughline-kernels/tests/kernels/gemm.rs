//! The products against a plain loop, bit for bit: every output is one chain of fused multiply-adds.

use crate::common::Numbers;
use throughline_kernels::Isa;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::gemm::{OuterProducts, Panels, RowGroup, accumulate, add_outer_products};
use throughline_testkit::assert_same_bits;

/// Around the widths of vectors and panels.
const UNITS: [usize; 9] = [1, 3, 4, 15, 16, 17, 33, 64, 70];
/// From 0 to chains long enough to be blocked when there are many rows.
const DEPTHS: [usize; 6] = [1, 2, 5, 64, 513, 1100];
/// Up to the most rows of a group.
const ROWS: [usize; 6] = [1, 2, 6, 7, 13, 96];

/// `acc = fma(a[k], b(k), acc)` for k ascending.
fn chain(start: f32, a: &[f32], b: impl Fn(usize) -> f32) -> f32 {
    a.iter().enumerate().fold(start, |sum, (k, a)| a.mul_add(b(k), sum))
}

/// Adds the product of `rows` random rows with the panels' rows `k` to random outputs, and compares with
/// `w(k, column)`; `covered` columns of the output receive something, the others must stay.
fn check_product(
    isa: Isa,
    panels: &Panels<f32>,
    rows: usize,
    k: std::ops::Range<usize>,
    width: usize,
    w: impl Fn(usize, usize) -> Option<f32>,
) {
    let mut numbers = Numbers::new((rows * 1000 + k.len()) as u64);
    let a: Vec<f32> = numbers.draw(rows * k.len(), 1.0);
    let before: Vec<f32> = numbers.draw(rows * width, 1.0);
    let mut out = before.clone();
    let mut group = RowGroup::default();
    for row in 0..rows {
        group.push(a[row * k.len()..].as_ptr(), out[row * width..].as_mut_ptr());
    }
    // SAFETY: every row of `a` has k.len() elements, every row of `out` all columns of the panels; nothing overlaps.
    unsafe { accumulate(isa, panels, 0..panels.count(), k.clone(), &group) };
    let mut want = before;
    for (row, want) in want.chunks_mut(width).enumerate() {
        let a = &a[row * k.len()..][..k.len()];
        for (column, want) in want.iter_mut().enumerate() {
            if w(0, column).is_some() {
                *want = chain(*want, a, |i| w(k.start + i, column).unwrap());
            }
        }
    }
    let what = format!("{rows} rows over {k:?} of {width} columns on {isa:?}");
    assert_same_bits(&what, &out, &want);
    if k.is_empty() {
        return;
    }
    // Chains that all start from one row.
    let init: Vec<f32> = numbers.draw(width, 1.0);
    let mut group = RowGroup::from_init(&init);
    for row in 0..rows {
        group.push(a[row * k.len()..].as_ptr(), out[row * width..].as_mut_ptr());
    }
    // SAFETY: as above, and the row has all columns.
    unsafe { accumulate(isa, panels, 0..panels.count(), k.clone(), &group) };
    for (row, want) in want.chunks_mut(width).enumerate() {
        let a = &a[row * k.len()..][..k.len()];
        for (column, want) in want.iter_mut().enumerate() {
            if w(0, column).is_some() {
                *want = chain(init[column], a, |i| w(k.start + i, column).unwrap());
            }
        }
    }
    assert_same_bits(&format!("{what} from one row"), &out, &want);
}

#[test]
fn a_product_with_a_transposed_matrix_is_chains() {
    let mut panels = Panels::new();
    for isa in Isa::available() {
        for groups in 1..=4 {
            for (units, depth) in UNITS.iter().flat_map(|&units| DEPTHS.map(|depth| (units, depth))) {
                let stride = depth + 3;
                let w: Vec<f32> = Numbers::new(units as u64).draw(groups * units * stride, 1.0);
                // Out of order and with gaps.
                let places: Vec<usize> = [3, 0, 2, 1][..groups].iter().map(|place| place * (units + 1) + 1).collect();
                panels.pack_transposed(isa, &w, stride, depth, units, &places);
                let at = |k: usize, column: usize| {
                    let group = places.iter().position(|&place| (place..place + units).contains(&column))?;
                    Some(w[(group * units + column - places[group]) * stride + k])
                };
                // One number of rows per shape; over the shapes every combination occurs.
                let rows = ROWS[(units + depth + groups) % ROWS.len()];
                check_product(isa, &panels, rows, 0..depth, 4 * (units + 1) + 1, at);
            }
        }
    }
}

#[test]
fn a_product_with_a_plain_matrix_is_chains() {
    let mut panels = Panels::new();
    for isa in Isa::available() {
        for (columns, depth) in UNITS.iter().flat_map(|&columns| DEPTHS.map(|depth| (columns, depth))) {
            let stride = columns + 2;
            let w: Vec<f32> = Numbers::new(columns as u64).draw(depth * stride, 1.0);
            panels.pack(isa, &w, stride, depth, columns);
            let at = |k: usize, column: usize| (column < columns).then(|| w[k * stride + column]);
            for rows in ROWS {
                check_product(isa, &panels, rows, 0..depth, columns + 1, at);
            }
            check_product(isa, &panels, 7, depth / 3..depth, columns + 1, at);
            check_product(isa, &panels, 7, depth..depth, columns + 1, at);
        }
    }
}

/// Panels that were larger, or packed for a wider instruction set, keep nothing of it.
#[test]
fn panels_are_packed_anew() {
    let mut panels = Panels::new();
    panels.pack(Isa::detect(), &[9.0; 40 * 40], 40, 40, 40);
    let w: Vec<f32> = Numbers::new(1).draw(7 * 5, 1.0);
    for isa in Isa::available() {
        panels.pack(isa, &w, 5, 7, 5);
        check_product(isa, &panels, 3, 0..7, 5, |k, column| Some(w[k * 5 + column]));
        assert_eq!(panels.depth(), 7);
    }
}

#[test]
fn outer_products_are_chains_over_the_rows() {
    let mut scratch = Buffer::default();
    for isa in Isa::available() {
        for rows in [0, 1, 5, 255, 256, 257, 600] {
            for columns in [0, 1, 4, 17, 64, 70] {
                for (outputs, stride) in [(0..1, columns), (2..9, columns + 3), (5..5, columns), (3..73, columns)] {
                    let stride = stride.max(1);
                    let mut numbers = Numbers::new((rows + columns) as u64);
                    let a_stride = outputs.end + 1;
                    let a: Vec<f32> = numbers.draw(rows * a_stride, 1.0);
                    let b: Vec<f32> = numbers.draw(rows * columns, 1.0);
                    // The rows of b, in an order of their own.
                    let place = |n: usize| (rows - 1 - n) * columns;
                    let before: Vec<f32> = numbers.draw(outputs.len() * stride, 1.0);
                    let sums_before: Vec<f32> = numbers.draw(outputs.len(), 1.0);
                    let mut want = before.clone();
                    let mut want_sums = sums_before.clone();
                    for (m, (want, sum)) in outputs.clone().zip(want.chunks_mut(stride).zip(&mut want_sums)) {
                        let a: Vec<f32> = (0..rows).map(|n| a[n * a_stride + m]).collect();
                        for (column, want) in want.iter_mut().take(columns).enumerate() {
                            *want = chain(*want, &a, |n| b[place(n) + column]);
                        }
                        a.iter().for_each(|a| *sum += a);
                    }
                    for with_sums in [false, true] {
                        let (mut out, mut sums) = (before.clone(), sums_before.clone());
                        let products = OuterProducts {
                            rows,
                            a: a.as_ptr(),
                            a_stride,
                            outputs: outputs.clone(),
                            b: &|n| b[place(n)..].as_ptr(),
                            columns,
                            out: out.as_mut_ptr(),
                            out_stride: stride,
                            sums: if with_sums { sums.as_mut_ptr() } else { core::ptr::null_mut() },
                        };
                        // SAFETY: a has `rows` rows of more than outputs.end elements, b's rows have `columns`, `out`
                        // has outputs.len() rows of `stride` >= `columns`, and there are as many sums.
                        unsafe { add_outer_products(isa, products, &mut scratch) };
                        let case = format!("{rows} rows, {outputs:?} by {columns} on {isa:?}");
                        assert_same_bits(&case, &out, &want);
                        assert_same_bits(&case, &sums, if with_sums { &want_sums } else { &sums_before });
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "packed for another instruction set")]
fn panels_of_another_instruction_set_are_refused() {
    let mut panels = Panels::new();
    panels.pack(Isa::SCALAR, &[1.0f32; 4], 2, 2, 2);
    let other = Isa::available().find(|isa| *isa != Isa::SCALAR);
    let Some(other) = other else { panic!("packed for another instruction set: there is only one here") };
    check_product(other, &panels, 1, 0..2, 2, |_, _| Some(1.0));
}
