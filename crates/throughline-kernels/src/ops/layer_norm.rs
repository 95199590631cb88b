//! Layer normalisation (Ba, Kiros and Hinton 2016, equations 3 and 4): a row x of F numbers becomes
//!
//! ```text
//! y = weight · n + bias,   n = (x - mean) r,   r = 1 / sqrt(variance + epsilon)
//! ```
//!
//! with the row's own mean and variance (the mean square of x - mean). With g = weight · dy the transpose is
//!
//! ```text
//! dx = r (g - mean(g) - n · mean(g n)),   dweight = sum of dy n,   dbias = sum of dy, over the rows in order
//! ```
//!
//! since a change of x moves the mean by its own mean and ln r by the mean of -r n dx.

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::tasks::{for_each_row, for_each_task};
use super::vectors::{Map, Terms, map, sum};
use crate::disjoint::Disjoint;
use crate::threads::Threads;

/// What PyTorch adds to a variance by default.
pub const EPSILON: f64 = 1e-5;

/// Columns of a task that adds up the gradients of parameters.
const COLUMNS: usize = 64;

/// The mean of a row and r, the inverse of its deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments<E> {
    /// The mean.
    pub mean: E,
    /// 1 / sqrt(variance + epsilon)
    pub inverse_deviation: E,
}

/// Writes `y` `[N, F]` and the moments `[N]` of the rows of `x` `[N, F]`; `weight` and `bias` are `[F]`.
///
/// # Panics
/// If a length does not fit.
pub fn forward<E: Element>(
    isa: Isa,
    threads: &Threads,
    x: &[E],
    [weight, bias]: [&[E]; 2],
    y: &mut [E],
    moments: &mut [Moments<E>],
) {
    let width = weight.len();
    assert_eq!(bias.len(), width, "a bias for each weight");
    assert!(x.len() == y.len() && x.len() == moments.len() * width, "x and y are [N, {width}], N = {}", moments.len());
    let moments = Disjoint::new(moments);
    for_each_row(threads, y, width, |row, y| {
        let x = &x[row * width..][..width];
        // SAFETY: every row belongs to one task, and so do its moments.
        let own = unsafe { moments.slice(row..row + 1) };
        y.copy_from_slice(bias);
        let mut row = Row { x, y, moments: Moments::default() };
        E::dispatch(isa, AddNormalised { weight, rows: core::slice::from_mut(&mut row) });
        own[0] = row.moments;
    });
}

/// Overwrites `dx` `[N, F]`, if wanted, and adds to the gradients of weight and bias, `[F]` each. `x`, `weight` and
/// `moments` are those of [`forward`], `dy` `[N, F]` the gradient of what it wrote.
///
/// # Panics
/// If a length does not fit.
pub fn backward<E: Element>(
    isa: Isa,
    threads: &Threads,
    [x, dy]: [&[E]; 2],
    weight: &[E],
    moments: &[Moments<E>],
    dx: Option<&mut [E]>,
    [d_weight, d_bias]: [&mut [E]; 2],
) {
    let width = weight.len();
    assert!(d_weight.len() == width && d_bias.len() == width, "gradients of weight and bias are [{width}]");
    let fits = x.len() == dy.len() && x.len() == moments.len() * width;
    assert!(fits, "x and dy are [N, {width}], N = {}", moments.len());
    if let Some(dx) = dx {
        assert_eq!(dx.len(), x.len(), "dx is like x");
        for_each_row(threads, dx, width, |row, dx| {
            let [x, dy] = [x, dy].map(|rows| &rows[row * width..][..width]);
            let mut row = GradientRow { x, dy, moments: moments[row], dx };
            E::dispatch(isa, InputGradient { weight, rows: core::slice::from_mut(&mut row) });
        });
    }
    let (d_weight, d_bias) = (Disjoint::new(d_weight), Disjoint::new(d_bias));
    for_each_task(threads, width.div_ceil(COLUMNS), |task| {
        let columns = task * COLUMNS..width.min((task + 1) * COLUMNS);
        // SAFETY: runs of columns do not overlap, and each belongs to one task.
        let (d_weight, d_bias) = unsafe { (d_weight.slice(columns.clone()), d_bias.slice(columns.clone())) };
        if !moments.is_empty() {
            let [x, dy] = [x, dy].map(|rows| Strided { numbers: &rows[columns.start..], stride: width });
            let moments = Strided { numbers: moments, stride: 1 };
            E::dispatch(isa, AddParameterGradients { rows: moments.numbers.len(), moments, x, dy, d_weight, d_bias });
        }
    });
}

/// Rows that a kernel is best given at a time: they overlap, while a row alone waits for its sums, and stay in the nearest
/// cache.
pub(crate) const ROWS: usize = 8;

/// A row that is normalised.
#[derive(Default)]
pub(crate) struct Row<'a, E> {
    pub x: &'a [E],
    pub y: &'a mut [E],
    /// Out.
    pub moments: Moments<E>,
}

/// y += weight · n, and the moments.
pub(crate) struct AddNormalised<'a, 'b, E> {
    pub weight: &'a [E],
    pub rows: &'a mut [Row<'b, E>],
}

impl<E: Element> Kernel<E> for AddNormalised<'_, '_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        for row in &mut *self.rows {
            row.moments.mean = mean(lane, row.x);
        }
        for row in &mut *self.rows {
            row.moments.inverse_deviation = inverse_deviation(lane, row.x, row.moments.mean);
        }
        for row in self.rows {
            map(lane, &AddScaled(row.moments), [&mut *row.y], [row.x, self.weight]);
        }
    }
}

/// The mean of a row. It is taken around the row's first number: where all are equal it is that number, and no rounding is left
/// that r would make large.
#[inline(always)]
pub(crate) fn mean<L: Lane>(lane: L, x: &[L::Element]) -> L::Element {
    let Some(&first) = x.first() else { return L::Element::ZERO };
    L::Element::from_f64(first.to_f64() + sum(lane, &Around(first), [x]) / x.len() as f64)
}

/// x - origin
struct Around<E>(E);

impl<E: Element> Terms<E, 1> for Around<E> {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [x]: [L::Vector; 1]) -> L::Vector {
        lane.add(sums, lane.sub(x, lane.splat(self.0)))
    }
}

/// r of a row with that mean.
#[inline(always)]
pub(crate) fn inverse_deviation<L: Lane>(lane: L, x: &[L::Element], mean: L::Element) -> L::Element {
    let variance = sum(lane, &SquareAround(mean), [x]) / x.len() as f64;
    L::Element::from_f64(1.0 / libm::sqrt(variance + EPSILON))
}

/// (x - mean)²
struct SquareAround<E>(E);

impl<E: Element> Terms<E, 1> for SquareAround<E> {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [x]: [L::Vector; 1]) -> L::Vector {
        let difference = lane.sub(x, lane.splat(self.0));
        lane.fma(difference, difference, sums)
    }
}

/// n = (x - mean) r
#[inline(always)]
pub(crate) fn normalised<L: Lane>(lane: L, moments: Moments<L::Element>, x: L::Vector) -> L::Vector {
    lane.mul(lane.sub(x, lane.splat(moments.mean)), lane.splat(moments.inverse_deviation))
}

/// y += weight · n
struct AddScaled<E>(Moments<E>);

impl<E: Element> Map<E, 1, 2> for AddScaled<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [y]: [L::Vector; 1], [x, weight]: [L::Vector; 2]) -> [L::Vector; 1] {
        [lane.fma(weight, normalised(lane, self.0, x), y)]
    }
}

/// A row on the way back.
#[derive(Default)]
pub(crate) struct GradientRow<'a, E> {
    pub x: &'a [E],
    pub dy: &'a [E],
    pub moments: Moments<E>,
    /// Overwritten.
    pub dx: &'a mut [E],
}

/// dx of rows.
pub(crate) struct InputGradient<'a, 'b, E> {
    pub weight: &'a [E],
    pub rows: &'a mut [GradientRow<'b, E>],
}

impl<E: Element> Kernel<E> for InputGradient<'_, '_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let weight = self.weight;
        let count = weight.len() as f64;
        for rows in self.rows.chunks_mut(ROWS) {
            let mut means = [[E::ZERO; 2]; ROWS];
            for (means, GradientRow { x, dy, moments, .. }) in means.iter_mut().zip(&*rows) {
                let g = sum(lane, &Weighted, [*dy, weight]);
                let gn = sum(lane, &WeightedNormalised(*moments), [*x, *dy, weight]);
                *means = [E::from_f64(g / count), E::from_f64(gn / count)];
            }
            for ([mean_g, mean_gn], GradientRow { x, dy, moments, dx }) in means.into_iter().zip(rows) {
                let operation = Transpose { moments: *moments, mean_g, mean_gn };
                map(lane, &operation, [&mut **dx], [*x, *dy, weight]);
            }
        }
    }
}

/// g = weight · dy
struct Weighted;

impl<E: Element> Terms<E, 2> for Weighted {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [dy, weight]: [L::Vector; 2]) -> L::Vector {
        lane.fma(dy, weight, sums)
    }
}

/// g n
struct WeightedNormalised<E>(Moments<E>);

impl<E: Element> Terms<E, 3> for WeightedNormalised<E> {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [x, dy, weight]: [L::Vector; 3]) -> L::Vector {
        lane.fma(lane.mul(dy, weight), normalised(lane, self.0, x), sums)
    }
}

/// dx = r (g - mean(g) - n · mean(g n))
struct Transpose<E> {
    moments: Moments<E>,
    mean_g: E,
    mean_gn: E,
}

impl<E: Element> Map<E, 1, 3> for Transpose<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, _: [L::Vector; 1], [x, dy, weight]: [L::Vector; 3]) -> [L::Vector; 1] {
        let centred = lane.sub(lane.mul(dy, weight), lane.splat(self.mean_g));
        let along = lane.mul(normalised(lane, self.moments, x), lane.splat(self.mean_gn));
        [lane.mul(lane.sub(centred, along), lane.splat(self.moments.inverse_deviation))]
    }
}

/// Rows of numbers: element j of row n is `numbers[n · stride + j]`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, T> {
    pub numbers: &'a [T],
    pub stride: usize,
}

/// A run of columns of `rows` rows: dweight += dy n, dbias += dy, row after row; `d_bias` may be empty for none.
pub(crate) struct AddParameterGradients<'a, E> {
    pub rows: usize,
    /// `[rows, 1]`
    pub moments: Strided<'a, Moments<E>>,
    /// `[rows, columns]`
    pub x: Strided<'a, E>,
    /// `[rows, columns]`
    pub dy: Strided<'a, E>,
    pub d_weight: &'a mut [E],
    pub d_bias: &'a mut [E],
}

/// Vectors of columns that go through the rows together.
const VECTORS: usize = 4;

impl<E: Element> Kernel<E> for AddParameterGradients<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(mut self, lane: L) {
        let columns = self.d_weight.len();
        let (tile, mut first) = (VECTORS * L::WIDTH, 0);
        while first < columns {
            if columns - first >= tile {
                self.columns::<L, VECTORS>(lane, first, tile);
                first += tile;
            } else {
                let count = L::WIDTH.min(columns - first);
                self.columns::<L, 1>(lane, first, count);
                first += count;
            }
        }
    }
}

impl<E: Element> AddParameterGradients<'_, E> {
    /// Columns `first .. first + count`: V vectors, or what is left of one.
    #[inline(always)]
    fn columns<L: Lane<Element = E>, const V: usize>(&mut self, lane: L, first: usize, count: usize) {
        let Self { rows, moments, x, dy, .. } = *self;
        let has_bias = !self.d_bias.is_empty();
        let mut of_weight: [L::Vector; V] = load(lane, count, &self.d_weight[first..]);
        let mut of_bias = if has_bias { load(lane, count, &self.d_bias[first..]) } else { [lane.splat(E::ZERO); V] };
        for row in 0..rows {
            let moments = moments.numbers[row * moments.stride];
            let x: [L::Vector; V] = load(lane, count, &x.numbers[row * x.stride + first..]);
            let dy: [L::Vector; V] = load(lane, count, &dy.numbers[row * dy.stride + first..]);
            for v in 0..V {
                of_weight[v] = lane.fma(dy[v], normalised(lane, moments, x[v]), of_weight[v]);
                of_bias[v] = lane.add(of_bias[v], dy[v]);
            }
        }
        store(lane, count, of_weight, &mut self.d_weight[first..]);
        if has_bias {
            store(lane, count, of_bias, &mut self.d_bias[first..]);
        }
    }
}

/// V whole vectors, `count` elements together, or one of `count` elements.
#[inline(always)]
fn load<L: Lane, const V: usize>(lane: L, count: usize, from: &[L::Element]) -> [L::Vector; V] {
    let from = &from[..count];
    let mut vectors = [lane.splat(L::Element::ZERO); V];
    for (v, vector) in vectors.iter_mut().enumerate() {
        let from = &from[v * L::WIDTH..];
        // SAFETY: `from` has WIDTH elements, or `count` if there is one vector.
        *vector = unsafe { if V > 1 { lane.load(from.as_ptr()) } else { lane.load_first(from.as_ptr(), count) } };
    }
    vectors
}

/// Writes such vectors.
#[inline(always)]
fn store<L: Lane, const V: usize>(lane: L, count: usize, vectors: [L::Vector; V], to: &mut [L::Element]) {
    let to = &mut to[..count];
    for (v, vector) in vectors.into_iter().enumerate() {
        let to = to[v * L::WIDTH..].as_mut_ptr();
        // SAFETY: there is room for WIDTH elements, or for `count` if there is one vector.
        unsafe { if V > 1 { lane.store(to, vector) } else { lane.store_first(to, count, vector) } };
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits, central_difference};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};

    /// The definition, in f64.
    fn plain(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let row = |x: &[f64]| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let of = |i: usize| weight[i] * (x[i] - mean) / (variance + EPSILON).sqrt() + bias[i];
            (0..x.len()).map(of).collect::<Vec<_>>()
        };
        x.chunks(weight.len()).flat_map(row).collect()
    }

    #[test]
    fn it_and_its_gradients_are_those_of_the_definition() {
        let (isa, threads) = (Isa::detect(), Threads::ONE);
        for width in [1, 2, 7, 70] {
            let rows = 3;
            let [x, dy] = [1, 2].map(|seed| numbers::<f64>(seed, rows * width));
            let [weight, bias] = [3, 4].map(|seed| numbers::<f64>(seed, width));
            let (mut y, mut moments) = (vec![0.0; x.len()], vec![Moments::default(); rows]);
            forward(isa, threads, &x, [&weight, &bias], &mut y, &mut moments);
            assert_close("y", &y, &plain(&x, &weight, &bias), 1e-13);

            let (mut dx, mut d_weight, mut d_bias) = (vec![9.0; x.len()], vec![0.5; width], vec![0.5; width]);
            let gradients = [&mut d_weight[..], &mut d_bias[..]];
            backward(isa, threads, [&x, &dy], &weight, &moments, Some(&mut dx), gradients);
            let loss = |y: Vec<f64>| y.iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>();
            let added = |want: Vec<f64>| want.into_iter().map(|want| want + 0.5).collect::<Vec<_>>();
            let want = central_difference(|x| loss(plain(x, &weight, &bias)), &mut x.clone(), 1e-4);
            assert_close("dx", &dx, &want, 1e-8);
            let want = central_difference(|weight| loss(plain(&x, weight, &bias)), &mut weight.clone(), 1e-3);
            assert_close("dweight", &d_weight, &added(want), 1e-10);
            let want = central_difference(|bias| loss(plain(&x, &weight, bias)), &mut bias.clone(), 1e-3);
            assert_close("dbias", &d_bias, &added(want), 1e-10);
        }
    }

    /// A rounded mean would differ from the numbers, and r is large where they do not differ from one another.
    #[test]
    fn equal_numbers_are_normalised_to_nothing() {
        for (width, x) in [(1, 3.3), (3, 1000.1), (7, 100_000.1), (131, 1e7 + 3.0), (131, -0.1)] {
            let (weight, bias) = (vec![1.0; width], vec![0.25; width]);
            let (mut y, mut moments) = (vec![0.0; width], [Moments::default()]);
            forward(Isa::detect(), Threads::ONE, &vec![x; width], [&weight, &bias], &mut y, &mut moments);
            assert_eq!((&y, moments[0].mean), (&bias, x), "{width} times {x}");
        }
    }

    #[test]
    fn the_same_bits_in_every_setting_and_any_batch() {
        let (rows, width) = (150, 131);
        let [x, dy] = [1, 2].map(|seed| numbers::<f32>(seed, rows * width));
        let [weight, bias] = [3, 4].map(|seed| numbers::<f32>(seed, width));
        let run = |isa, threads: &Threads, rows: core::ops::Range<usize>| {
            let [x, dy] = [&x, &dy].map(|array| &array[rows.start * width..rows.end * width]);
            let (mut y, mut moments) = (vec![0.0; x.len()], vec![Moments::default(); rows.len()]);
            forward(isa, threads, x, [&weight, &bias], &mut y, &mut moments);
            let (mut dx, mut gradients) = (vec![0.0; x.len()], [vec![0.0; width], vec![0.0; width]]);
            let [d_weight, d_bias] = &mut gradients;
            backward(isa, threads, [x, dy], &weight, &moments, Some(&mut dx), [d_weight, d_bias]);
            (y, dx, gradients)
        };
        let want = run(Isa::SCALAR, Threads::ONE, 0..rows);
        for_every_setting(|isa, threads| {
            let got = run(isa, threads, 0..rows);
            assert_same_bits("y", &got.0, &want.0);
            assert_same_bits("dx", &got.1, &want.1);
            assert_same_bits("dweight", &got.2[0], &want.2[0]);
            assert_same_bits("dbias", &got.2[1], &want.2[1]);
            let alone = run(isa, threads, 77..78);
            assert_same_bits("y of a row alone", &alone.0, &want.0[77 * width..78 * width]);
            assert_same_bits("dx of a row alone", &alone.1, &want.1[77 * width..78 * width]);
        });
    }

    #[test]
    fn a_row_of_equal_numbers_is_the_bias() {
        let (x, bias) = ([3.0f32; 5], [0.0, 1.0, -2.0, 0.5, 4.0]);
        let (mut y, mut moments) = ([9.0; 5], [Moments::default()]);
        forward(Isa::detect(), Threads::ONE, &x, [&[2.0; 5], &bias], &mut y, &mut moments);
        assert_eq!(y, bias);
    }
}
