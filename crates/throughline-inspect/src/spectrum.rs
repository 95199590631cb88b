//! The recurrent weights: spectral radius and largest singular value of each gate's W_hh.
//!
//! Both are one computation. By Gelfand's formula the spectral radius of A is the limit of |A^n|^(1/n), here with
//! n = 2^24 by repeated squaring; the largest singular value of A is the root of the spectral radius of A'A.

use serde::Serialize;
use throughline_kernels::ops::Linear;
use throughline_nn::layers::Recurrent;
use throughline_nn::module::Cpu;
use throughline_nn::parameters::Layout;

use crate::gates::gates_of;
use crate::probe::Site;

/// How often the matrix is squared.
const SQUARINGS: i32 = 24;

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
        let spectrum = |(weights, gate): (&[f32], &'static str)| Spectrum {
            site: site.clone(),
            gate,
            radius: spectral_radius(cpu, hidden, weights),
            largest_singular_value: largest_singular_value(cpu, hidden, weights),
        };
        blocks.map(spectrum).collect::<Vec<_>>()
    };
    Site::all(stack).flat_map(of_site).collect()
}

/// The largest singular value of `a` `[n, n]`.
pub fn largest_singular_value(cpu: &Cpu, n: usize, a: &[f32]) -> f64 {
    let transposed = transpose(n, a);
    spectral_radius(cpu, n, &product(cpu, n, &transposed, a)).sqrt()
}

/// The spectral radius of `a` `[n, n]`, the largest modulus of its eigenvalues.
///
/// # Panics
/// If the length is not n².
pub fn spectral_radius(cpu: &Cpu, n: usize, a: &[f32]) -> f64 {
    assert_eq!(a.len(), n * n, "a matrix [n, n]");
    // a^(2^k) = scale^(2^k) · power, of which the logarithm of the scale is kept.
    let (mut power, mut logarithm) = (a.to_vec(), 0.0);
    for k in 0..=SQUARINGS {
        let norm = power.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        if norm == 0.0 || !norm.is_finite() {
            return norm;
        }
        power.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        logarithm += norm.ln() / 2f64.powi(k);
        if k < SQUARINGS {
            power = product(cpu, n, &power, &power);
        }
    }
    logarithm.exp()
}

/// a b, both `[n, n]`.
fn product(cpu: &Cpu, n: usize, a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut of_b = Linear::new(cpu.isa, n, n, false);
    of_b.pack(&cpu.threads, &transpose(n, b), &[]);
    let mut out = vec![0.0; n * n];
    of_b.forward(&cpu.threads, a, &mut out);
    out
}

fn transpose(n: usize, a: &[f32]) -> Vec<f32> {
    (0..n * n).map(|place| a[place % n * n + place / n]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounding of f32 in the matrix, which the power divides away, and the power itself.
    const TOLERANCE: f64 = 1e-5;

    fn assert_near(found: f64, want: f64) {
        assert!((found - want).abs() <= TOLERANCE * want.abs().max(1.0), "{found} instead of {want}");
    }

    #[test]
    fn known_matrices() {
        let cpu = &Cpu::new(1);
        // A rotation by an angle, twice as long: eigenvalues 2 e^(±i a).
        let (sin, cos) = 0.7f32.sin_cos();
        let rotation = [2.0 * cos, -2.0 * sin, 2.0 * sin, 2.0 * cos];
        assert_near(spectral_radius(cpu, 2, &rotation), 2.0);
        assert_near(largest_singular_value(cpu, 2, &rotation), 2.0);
        // Not normal: eigenvalues 0.5 and 0.5, singular values far apart.
        let sheared = [0.5, 10.0, 0.0, 0.5];
        assert_near(spectral_radius(cpu, 2, &sheared), 0.5);
        assert_near(
            largest_singular_value(cpu, 2, &sheared),
            (100.5f64 / 2.0 + (100.5f64.powi(2) / 4.0 - 0.0625).sqrt()).sqrt(),
        );
        assert_near(spectral_radius(cpu, 3, &[-3.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0]), 3.0);
        assert_eq!(spectral_radius(cpu, 2, &[0.0, 1.0, 0.0, 0.0]), 0.0);
        assert_eq!(spectral_radius(cpu, 1, &[0.0]), 0.0);
        assert!(spectral_radius(cpu, 1, &[f32::NAN]).is_nan());
    }
}
