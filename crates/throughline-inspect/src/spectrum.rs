//! The recurrent weights: spectral radius and largest singular value of each gate's W_hh.
//!
//! By Gelfand's formula the spectral radius of A is the limit of |A^n|^(1/n), here by repeated squaring: in f32 by the engine, and in
//! f64 for a matrix that stretches states for so long before they shrink that its eigenvalues are lost among the digits of f32. The
//! largest singular value is the root of the largest eigenvalue of A'A, by power iteration.

use serde::Serialize;
use throughline_kernels::ops::Linear;
use throughline_nn::layers::Recurrent;
use throughline_nn::module::Cpu;
use throughline_nn::parameters::Layout;

use crate::gates::gates_of;
use crate::probe::Site;

/// How often a matrix is squared; less often in f64, which is slow, if it has more than so many rows.
const SQUARINGS: i32 = 24;
const MOST_ROWS: usize = 512;
const FEW_SQUARINGS: i32 = 7;
/// The square of a matrix as long as 1 is at least so long, or eigenvalues are lost in the next: in f32, and in f64.
const LEAST_OF_F32: f64 = 1e-3;
const LEAST: f64 = 1e-100;
/// Steps of the power iteration.
const ITERATIONS: usize = 300;

/// What the recurrent weights of one gate do to a state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spectrum {
    /// Where.
    #[serde(flatten)]
    pub site: Site,
    /// The gate: those of `weight_hh`'s blocks of rows.
    pub gate: &'static str,
    /// The largest modulus of an eigenvalue: what the product does to a state in the long run.
    pub radius: f64,
    /// The most that the product stretches a state.
    pub largest_singular_value: f64,
}

/// The spectra of every gate of `stack`, whose parameters are in `layout`.
pub fn spectra(cpu: &Cpu, layout: &Layout, parameters: &[f32], stack: &Recurrent) -> Vec<Spectrum> {
    let (hidden, cell) = (stack.config().hidden, stack.config().cell);
    let of_site = |site: Site| {
        let weights = layout.view(parameters, stack.weight_hh(site.layer, site.direction()));
        let blocks = weights.chunks(hidden * hidden).zip(gates_of(cell));
        let spectrum = |(weights, gate): (&[f32], &'static str)| {
            let weights: Vec<f64> = weights.iter().map(|&x| f64::from(x)).collect();
            Spectrum {
                site: site.clone(),
                gate,
                radius: spectral_radius(cpu, hidden, &weights),
                largest_singular_value: largest_singular_value(hidden, &weights),
            }
        };
        blocks.map(spectrum).collect::<Vec<_>>()
    };
    Site::all(stack).flat_map(of_site).collect()
}

/// The largest singular value of `a` `[n, n]`.
///
/// # Panics
/// If the length is not n².
pub fn largest_singular_value(n: usize, a: &[f64]) -> f64 {
    assert_eq!(a.len(), n * n, "a matrix [n, n]");
    let size = norm(a);
    if size == 0.0 || !size.is_finite() {
        return size;
    }
    // Its squares would leave the range of f64 sooner than it does.
    let a: Vec<f64> = a.iter().map(|x| x / size).collect();
    // Numbers that no symmetry of a matrix is likely to have.
    let mut x: Vec<f64> = (1..=n).map(|place| (place as f64 * 0.7).sin() + 1.1).collect();
    let mut stretched = 0.0;
    for _ in 0..ITERATIONS {
        let length = norm(&x);
        x.iter_mut().for_each(|x| *x /= length);
        let y: Vec<f64> = a.chunks(n).map(|row| row.iter().zip(&x).map(|(a, x)| a * x).sum()).collect();
        stretched = norm(&y);
        if stretched == 0.0 {
            break;
        }
        x.fill(0.0);
        for (row, y) in a.chunks(n).zip(&y) {
            x.iter_mut().zip(row).for_each(|(x, a)| *x += a * y);
        }
    }
    stretched * size
}

/// The spectral radius of `a` `[n, n]`, the largest modulus of its eigenvalues.
///
/// # Panics
/// If the length is not n².
pub fn spectral_radius(cpu: &Cpu, n: usize, a: &[f64]) -> f64 {
    assert_eq!(a.len(), n * n, "a matrix [n, n]");
    let squarings = if n <= MOST_ROWS { SQUARINGS } else { FEW_SQUARINGS };
    let by_engine = by_squaring(a, SQUARINGS, LEAST_OF_F32, |power| square_by_engine(cpu, n, power));
    let radius = by_engine.or_else(|_| by_squaring(a, squarings, LEAST, |power| square(n, power)));
    radius.unwrap_or_else(|nearest| nearest)
}

/// |a^(2n)| / |a^n| to the power of 1/n, for n = 2^(squarings - 1): by how much the last half of the steps stretched a state is nearer to
/// the limit than by how much all did. As an error the same for a smaller n, where the next square is shorter than `least`.
fn by_squaring(a: &[f64], squarings: i32, least: f64, square: impl Fn(&[f64]) -> Vec<f64>) -> Result<f64, f64> {
    let mut size = norm(a);
    // The logarithm of |a^(2^k)|^(1/2^k), and a^(2^k) as long as 1.
    let (mut power, mut logarithm) = (a.to_vec(), 0.0);
    for k in 0..=squarings {
        if size == 0.0 && k > 0 {
            // Nothing is left, or nothing that the numbers can tell.
            return Err(0.0);
        }
        if size == 0.0 || !size.is_finite() {
            return Ok(size);
        }
        power.iter_mut().for_each(|x| *x /= size);
        let growth = size.ln() / 2f64.powi(k);
        logarithm += growth;
        let radius = (logarithm + growth).exp();
        if k == squarings {
            return Ok(radius);
        }
        if k > 0 && size < least {
            return Err(radius);
        }
        power = square(&power);
        size = norm(&power);
    }
    unreachable!("the last power returns")
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// a a, `[n, n]`, in f32.
fn square_by_engine(cpu: &Cpu, n: usize, a: &[f64]) -> Vec<f64> {
    let narrow: Vec<f32> = a.iter().map(|&x| x as f32).collect();
    let transposed: Vec<f32> = (0..n * n).map(|place| narrow[place % n * n + place / n]).collect();
    let mut product = Linear::new(cpu.isa, n, n, false);
    product.pack(&cpu.threads, &transposed, &[]);
    let mut out = vec![0.0; n * n];
    product.forward(&cpu.threads, &narrow, &mut out);
    out.into_iter().map(f64::from).collect()
}

/// a a, `[n, n]`
fn square(n: usize, a: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for (row, out) in a.chunks(n).zip(out.chunks_mut(n)) {
        for (x, other) in row.iter().zip(a.chunks(n)) {
            out.iter_mut().zip(other).for_each(|(out, y)| *out += x * y);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of |A^n| after so many squarings and steps, and rounding.
    const TOLERANCE: f64 = 1e-6;

    fn assert_near(found: f64, want: f64) {
        assert!((found - want).abs() <= TOLERANCE * want.abs().max(1.0), "{found} instead of {want}");
    }

    #[test]
    fn known_matrices() {
        let cpu = &Cpu::new(1);
        // A rotation by an angle, twice as long: eigenvalues 2 e^(±i a).
        let (sin, cos) = 0.7f64.sin_cos();
        let rotation = [2.0 * cos, -2.0 * sin, 2.0 * sin, 2.0 * cos];
        assert_near(spectral_radius(cpu, 2, &rotation), 2.0);
        assert_near(largest_singular_value(2, &rotation), 2.0);
        // Not normal: eigenvalues 0.5 and 0.5, singular values far apart.
        let sheared = [0.5, 10.0, 0.0, 0.5];
        assert_near(spectral_radius(cpu, 2, &sheared), 0.5);
        assert_near(
            largest_singular_value(2, &sheared),
            (100.5f64 / 2.0 + (100.5f64.powi(2) / 4.0 - 0.0625).sqrt()).sqrt(),
        );
        assert_near(spectral_radius(cpu, 3, &[-3.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0]), 3.0);
        assert_eq!(spectral_radius(cpu, 2, &[0.0, 1.0, 0.0, 0.0]), 0.0);
        assert_eq!(spectral_radius(cpu, 1, &[0.0]), 0.0);
        assert!(spectral_radius(cpu, 1, &[f64::NAN]).is_nan());
    }

    /// The largest singular value is far above the radius, and states grow for a long time before they shrink.
    #[test]
    fn matrices_that_are_far_from_normal() {
        let (cpu, n) = (&Cpu::new(1), 40);
        for (diagonal, above) in [(0.9, 0.5), (0.5, 1.0)] {
            let at = |place: usize| match (place / n, place % n) {
                (row, column) if row == column => diagonal,
                (row, column) if row + 1 == column => above,
                _ => 0.0,
            };
            let shifted: Vec<f64> = (0..n * n).map(at).collect();
            let radius = spectral_radius(cpu, n, &shifted);
            assert!((radius / diagonal - 1.0).abs() < 0.01, "{radius} instead of {diagonal}");
            let largest = largest_singular_value(n, &shifted);
            assert!(largest > diagonal + 0.9 * above && largest < diagonal + above, "{largest}");
        }
    }

    #[test]
    fn tiny_and_huge_matrices() {
        let cpu = &Cpu::new(1);
        for size in [1e-30, 1e30] {
            let rotation = [0.0, -size, size, 0.0];
            assert!((spectral_radius(cpu, 2, &rotation) / size - 1.0).abs() < TOLERANCE);
            assert!((largest_singular_value(2, &rotation) / size - 1.0).abs() < 1e-12);
        }
    }
}
