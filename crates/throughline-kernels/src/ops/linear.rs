//! Linear: y = x W' + b with W `[O, I]`.
//!
//! With dy the gradient of y: dx = dy W, dW += dy' x, db += the sum of the rows of dy.

use alloc::vec::Vec;
use core::ops::Range;

use throughline_simd::Isa;

use crate::Element;

use super::tasks::for_each_task;
use crate::disjoint::Disjoint;
use crate::gemm::accumulate::GROUP;
use crate::gemm::{OuterProducts, Panels, RowGroup, accumulate, add_outer_products};
use crate::sequence::Scratch;
use crate::threads::Threads;

/// Weights of a segment: 512 KiB of f32, which stay in a core's cache for all chunks of rows.
const SEGMENT: usize = 1 << 17;
/// Columns of a segment are a multiple of this, so that all panels but the last are full on every instruction set.
const PANEL: usize = 64;
/// Rows of dW of a task: enough to pay for packing x, which every task does.
const OUTPUTS: usize = 256;

/// A linear map, its weights packed. Immutable in use and shared by any number of threads; packed anew after each
/// update.
#[derive(Debug)]
pub struct Linear<E> {
    isa: Isa,
    input: usize,
    output: usize,
    bias: Vec<E>,
    forward: Vec<Segment<E>>,
    backward: Vec<Segment<E>>,
}

/// Columns of a product, and the weights that make them.
#[derive(Debug)]
struct Segment<E> {
    columns: Range<usize>,
    panels: Panels<E>,
}

/// Gradients of the parameters of a [`Linear`]. They accumulate.
#[derive(Debug)]
pub struct LinearGradients<'a, E> {
    /// `[O, I]`
    pub weight: &'a mut [E],
    /// `[O]`, or empty for no bias.
    pub bias: &'a mut [E],
}

impl<E: Element> Linear<E> {
    /// Room for a map from `input` to `output` features on `isa`; with `backward`, also for the transpose that training
    /// needs.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(isa: Isa, input: usize, output: usize, backward: bool) -> Self {
        assert!(input > 0 && output > 0, "I and O are at least 1, not {input} and {output}");
        Self {
            isa,
            input,
            output,
            bias: alloc::vec![E::ZERO; output],
            forward: segments(input, output),
            backward: if backward { segments(output, input) } else { Vec::new() },
        }
    }

    /// I
    pub fn input(&self) -> usize {
        self.input
    }

    /// O
    pub fn output(&self) -> usize {
        self.output
    }

    /// The instruction set it is packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Packs `weight` `[O, I]` and `bias` `[O]`, empty for none.
    ///
    /// # Panics
    /// If an array has another length.
    pub fn pack(&mut self, threads: &Threads, weight: &[E], bias: &[E]) {
        let (isa, input, output) = (self.isa, self.input, self.output);
        assert_eq!(weight.len(), output * input, "the weight is [O, I]");
        assert!(bias.is_empty() || bias.len() == output, "a bias is [O] or empty, not [{}]", bias.len());
        self.bias.fill(E::ZERO);
        self.bias[..bias.len()].copy_from_slice(bias);
        threads.for_each_mut(&mut self.forward, |Segment { columns, panels }| {
            panels.pack_transposed(isa, &weight[columns.start * input..], input, input, columns.len(), &[0]);
        });
        threads.for_each_mut(&mut self.backward, |Segment { columns, panels }| {
            panels.pack(isa, &weight[columns.start..], input, output, columns.len());
        });
    }

    /// `y = x W' + b` for `x` `[N, I]` and `y` `[N, O]`: each output is the chain that begins with the bias.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn forward(&self, threads: &Threads, x: &[E], y: &mut [E]) {
        let rows = self.rows(x, y);
        product(self.isa, threads, &self.forward, rows, (x, self.input), (y, self.output), Some(&self.bias));
    }

    /// `dx = dy W` for `dy` `[N, O]` and `dx` `[N, I]`.
    ///
    /// # Panics
    /// If the lengths do not fit, or the weights were packed without their transpose.
    pub fn input_gradient(&self, threads: &Threads, dy: &[E], dx: &mut [E]) {
        assert!(!self.backward.is_empty(), "the weights were packed for inference only");
        let rows = self.rows(dx, dy);
        product(self.isa, threads, &self.backward, rows, (dy, self.output), (dx, self.input), None);
    }

    /// `dW += dy' x` and `db += sum of the rows of dy`, each in ascending rows. `scratch` has one element for each
    /// thread.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn add_gradients(
        &self,
        threads: &Threads,
        x: &[E],
        dy: &[E],
        gradients: LinearGradients<'_, E>,
        scratch: &mut [Scratch<E>],
    ) {
        let (input, output) = (self.input, self.output);
        let LinearGradients { weight, bias } = gradients;
        let rows = self.rows(x, dy);
        assert_eq!(weight.len(), output * input, "the gradient of the weight is [O, I]");
        assert!(bias.is_empty() || bias.len() == output, "the gradient of the bias is [O] or empty");
        if rows == 0 {
            return;
        }
        let (weight, bias) = (Disjoint::new(weight), Disjoint::new(bias));
        let tasks = output.div_ceil(OUTPUTS).max(threads.count()).min(output);
        threads.for_each(tasks, scratch, |task, scratch| {
            let outputs = task * output / tasks..(task + 1) * output / tasks;
            let products = OuterProducts {
                rows,
                a: dy.as_ptr(),
                a_stride: output,
                b: &|n| x[n * input..][..input].as_ptr(),
                columns: input,
                out: weight.at(outputs.start * input),
                out_stride: input,
                sums: if bias.length() > 0 { bias.at(outputs.start) } else { core::ptr::null_mut() },
                outputs,
            };
            // SAFETY: row n of dy is read up to output `outputs.end` <= O, row n of x is I elements; the rows of the
            // weight and the elements of the bias at `outputs` belong to this task alone.
            unsafe { add_outer_products(self.isa, products, &mut scratch.gathered) };
        });
    }

    /// N of `x` `[N, I]` and `y` `[N, O]`.
    fn rows(&self, x: &[E], y: &[E]) -> usize {
        let rows = x.len() / self.input;
        assert_eq!(x.len(), rows * self.input, "x and dx are [N, I] with I = {}", self.input);
        assert_eq!(y.len(), rows * self.output, "y and dy are [N, O] with N = {rows} and O = {}", self.output);
        rows
    }
}

/// Divides `columns` outputs of chains of `depth` terms into segments.
fn segments<E: Element>(depth: usize, columns: usize) -> Vec<Segment<E>> {
    let width = (SEGMENT / depth / PANEL).max(1) * PANEL;
    let segment = |start| Segment { columns: start..columns.min(start + width), panels: Panels::new() };
    (0..columns).step_by(width).map(segment).collect()
}

/// `out = init + a · segments` for `rows` rows; `a` and `out` come with their widths.
fn product<E: Element>(
    isa: Isa,
    threads: &Threads,
    segments: &[Segment<E>],
    rows: usize,
    (a, a_width): (&[E], usize),
    (out, out_width): (&mut [E], usize),
    init: Option<&[E]>,
) {
    let out = Disjoint::new(out);
    let chunks = rows.div_ceil(GROUP);
    // The chunks of a segment come one after another, so a thread mostly keeps the segment that is in its cache.
    for_each_task(threads, chunks * segments.len(), |task| {
        let Segment { columns, panels } = &segments[task / chunks];
        let chunk = task % chunks;
        let mut group = init.map_or_else(RowGroup::default, |init| RowGroup::from_init(&init[columns.clone()]));
        for row in chunk * rows / chunks..(chunk + 1) * rows / chunks {
            // SAFETY: these columns of these rows belong to this task alone.
            let out = unsafe { out.slice(row * out_width + columns.start..row * out_width + columns.end) };
            if init.is_none() {
                out.fill(E::ZERO);
            }
            group.push(a[row * a_width..][..a_width].as_ptr(), out.as_mut_ptr());
        }
        // SAFETY: each `a` is a_width elements, the depth of the panels; each `out`, and the init, is as many elements
        // as the panels have columns; `out` belongs to this task alone.
        unsafe { accumulate(isa, panels, 0..panels.count(), 0..a_width, &group) };
    });
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};

    /// (N, I, O); the last two have several segments forward and backward.
    const SHAPES: [(usize, usize, usize); 6] =
        [(0, 3, 2), (1, 1, 1), (5, 7, 3), (97, 33, 65), (49, 2100, 70), (50, 70, 2100)];

    struct Case<E> {
        x: Vec<E>,
        weight: Vec<E>,
        bias: Vec<E>,
        dy: Vec<E>,
        before: Vec<E>,
    }

    fn case<E: Element>((rows, input, output): (usize, usize, usize), with_bias: bool) -> Case<E> {
        Case {
            x: numbers(1, rows * input),
            weight: numbers(2, output * input),
            bias: numbers(3, if with_bias { output } else { 0 }),
            dy: numbers(4, rows * output),
            before: numbers(5, output * (input + 1)),
        }
    }

    /// y, dx, dW, db
    fn run<E: Element>(
        isa: Isa,
        threads: &Threads,
        (rows, input, output): (usize, usize, usize),
        case: &Case<E>,
    ) -> [Vec<E>; 4] {
        let nan = E::from_f64(f64::NAN);
        let mut linear = Linear::new(isa, input, output, true);
        linear.pack(threads, &case.weight, &case.bias);
        let (mut y, mut dx) = (vec![nan; rows * output], vec![nan; rows * input]);
        let (weight, bias) = case.before.split_at(output * input);
        let (mut weight, mut bias) = (weight.to_vec(), bias[..case.bias.len()].to_vec());
        linear.forward(threads, &case.x, &mut y);
        linear.input_gradient(threads, &case.dy, &mut dx);
        let gradients = LinearGradients { weight: &mut weight, bias: &mut bias };
        linear.add_gradients(threads, &case.x, &case.dy, gradients, &mut Scratch::for_threads(threads));
        [y, dx, weight, bias]
    }

    #[test]
    fn it_is_what_the_definition_says() {
        for shape in SHAPES {
            for with_bias in [false, true] {
                let (rows, input, output) = shape;
                let case: Case<f64> = case(shape, with_bias);
                let [y, dx, d_weight, d_bias] = run(Isa::SCALAR, Threads::ONE, shape, &case);
                let dot = |terms: &mut dyn Iterator<Item = f64>| terms.sum::<f64>();
                for n in 0..rows {
                    let want: Vec<f64> = (0..output)
                        .map(|o| {
                            let bias = case.bias.get(o).copied().unwrap_or(0.0);
                            bias + dot(&mut (0..input).map(|i| case.x[n * input + i] * case.weight[o * input + i]))
                        })
                        .collect();
                    assert_close("y", &y[n * output..][..output], &want, 1e-13);
                    let want: Vec<f64> = (0..input)
                        .map(|i| dot(&mut (0..output).map(|o| case.dy[n * output + o] * case.weight[o * input + i])))
                        .collect();
                    assert_close("dx", &dx[n * input..][..input], &want, 1e-13);
                }
                for o in 0..output {
                    for i in 0..input {
                        let want = case.before[o * input + i]
                            + dot(&mut (0..rows).map(|n| case.dy[n * output + o] * case.x[n * input + i]));
                        assert_close("dW", &[d_weight[o * input + i]], &[want], 1e-13);
                    }
                    if with_bias {
                        let want =
                            case.before[output * input + o] + dot(&mut (0..rows).map(|n| case.dy[n * output + o]));
                        assert_close("db", &[d_bias[o]], &[want], 1e-13);
                    }
                }
            }
        }
    }

    #[test]
    fn it_has_the_same_bits_in_every_setting() {
        for shape in SHAPES {
            let case: Case<f32> = case(shape, true);
            let want = run(Isa::SCALAR, Threads::ONE, shape, &case);
            for_every_setting(|isa, threads| {
                let got = run(isa, threads, shape, &case);
                for (name, (got, want)) in ["y", "dx", "dW", "db"].into_iter().zip(got.iter().zip(&want)) {
                    assert_same_bits(name, got, want);
                }
            });
        }
    }

    #[test]
    #[should_panic(expected = "packed for inference only")]
    fn backward_needs_the_transpose() {
        let mut linear = Linear::new(Isa::SCALAR, 1, 1, false);
        linear.pack(Threads::ONE, &[1.0f32], &[]);
        linear.input_gradient(Threads::ONE, &[1.0], &mut [0.0]);
    }
}
