//! Optimisers: one pass over parameters, gradients and moments, with PyTorch's semantics.
//!
//! - [`sgd`]: stochastic gradient descent, with momentum;
//! - [`rmsprop`]: steps divided by a running root mean square;
//! - [`adam`]: Adam and AdamW;
//! - [`average`]: the average of the parameters over updates.
//!
//! Every method first multiplies the gradient by a factor, so that clipping by the global norm
//! ([`clipping_factor`]) needs no pass of its own.
//!
//! Moments that decay would end among the subnormal numbers, where rounding keeps them for ever and arithmetic is many
//! times slower. So a moment below 2^-120 is written as 0, and methods that square gradients take a gradient below
//! 2^-56 as 0; with an `epsilon` of 1e-12 or more that changes no update by more than 2^-16 of the learning rate.

pub mod adam;
pub mod average;
pub mod rmsprop;
pub mod sgd;

use alloc::vec::Vec;

use throughline_simd::{Element, Isa, Lane};

pub use adam::Adam;
pub use average::{Average, Averaging};
pub use rmsprop::RmsProp;
pub use sgd::Sgd;

use crate::buffer::Buffer;
use crate::threads::Threads;

/// Moments below this are written as 0. 2^-120.
pub const TINY_MOMENT: f64 = 1.0 / (1u128 << 120) as f64;
/// Gradients below this are taken as 0 where they are squared. 2^-56.
pub const TINY_BEFORE_SQUARE: f64 = 1.0 / (1u128 << 56) as f64;

/// A method and its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// [`Sgd`]
    Sgd(Sgd),
    /// [`RmsProp`]
    RmsProp(RmsProp),
    /// [`Adam`], AdamW with [`Adam::decoupled`].
    Adam(Adam),
}

impl Method {
    /// The names of the moments it keeps, each as many elements as there are parameters.
    pub fn moments(&self) -> &'static [&'static str] {
        match self {
            Method::Sgd(method) => method.moments(),
            Method::RmsProp(method) => method.moments(),
            Method::Adam(_) => Adam::MOMENTS,
        }
    }

    fn check(&self) {
        match self {
            Method::Sgd(method) => method.check(),
            Method::RmsProp(method) => method.check(),
            Method::Adam(method) => method.check(),
        }
    }
}

/// A method, its moments, and how many updates it has made.
#[derive(Debug)]
pub struct Optimiser<E> {
    method: Method,
    moments: Vec<Buffer<E>>,
    parameters: usize,
    updates: u64,
}

/// What an update is made with.
struct Update<'a> {
    isa: Isa,
    threads: &'a Threads,
    learning_rate: f64,
    gradient_factor: f64,
    /// 1 at the first update.
    count: u64,
}

impl<E: Element> Optimiser<E> {
    /// `method` for `parameters` parameters, before its first update.
    ///
    /// # Panics
    /// If a setting is out of its range.
    pub fn new(method: Method, parameters: usize) -> Self {
        method.check();
        let moments = method.moments().iter().map(|_| Buffer::zeros(parameters)).collect();
        Self { method, moments, parameters, updates: 0 }
    }

    /// The method and its settings.
    pub fn method(&self) -> Method {
        self.method
    }

    /// One update of `parameters` by `gradients` times `gradient_factor`, both `[P]`.
    ///
    /// # Panics
    /// If a length is not the number of parameters.
    pub fn step(
        &mut self,
        isa: Isa,
        threads: &Threads,
        learning_rate: f64,
        gradient_factor: f64,
        parameters: &mut [E],
        gradients: &[E],
    ) {
        assert_eq!(parameters.len(), self.parameters, "the optimiser was made for as many parameters");
        assert_eq!(gradients.len(), self.parameters, "a gradient for every parameter");
        self.updates += 1;
        let at = Update { isa, threads, learning_rate, gradient_factor, count: self.updates };
        match self.method {
            Method::Sgd(method) => method.update(&at, parameters, gradients, &mut self.moments),
            Method::RmsProp(method) => method.update(&at, parameters, gradients, &mut self.moments),
            Method::Adam(method) => method.update(&at, parameters, gradients, &mut self.moments),
        }
    }

    /// The moments by name, `[P]` each: with [`updates`](Self::updates), all that a checkpoint keeps.
    pub fn state(&self) -> Vec<(&'static str, &[E])> {
        let names = self.method.moments().iter().copied();
        names.zip(self.moments.iter().map(|moment| &moment[..])).collect()
    }

    /// The moments by name, to be filled from a checkpoint.
    pub fn state_mut(&mut self) -> Vec<(&'static str, &mut [E])> {
        let names = self.method.moments().iter().copied();
        names.zip(self.moments.iter_mut().map(|moment| &mut moment[..])).collect()
    }

    /// How many updates it has made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Continues from `updates`, kept earlier with the state.
    pub fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }
}

/// The factor that scales a gradient of norm `norm` down to norm `limit`, and 1 if it is not above that (Pascanu et al.
/// 2013, as min(1, limit / (norm + 1e-6))). It means nothing for a norm that is not finite: check that first.
pub fn clipping_factor(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

/// The gradient a method works with: `factor · gradient + weight_decay · parameter`.
#[derive(Clone, Copy)]
struct Penalised<E> {
    factor: E,
    weight_decay: E,
}

impl<E: Element> Penalised<E> {
    fn new(gradient_factor: f64, weight_decay: f64) -> Self {
        Self { factor: E::from_f64(gradient_factor), weight_decay: E::from_f64(weight_decay) }
    }

    #[inline(always)]
    fn gradient<L: Lane<Element = E>>(&self, lane: L, gradient: L::Vector, parameter: L::Vector) -> L::Vector {
        lane.fma(lane.splat(self.weight_decay), parameter, lane.mul(lane.splat(self.factor), gradient))
    }
}

/// `kept · moment + new · value`, tiny values as 0.
#[derive(Clone, Copy)]
struct Moment<E> {
    kept: E,
    new: E,
}

impl<E: Element> Moment<E> {
    /// The exponential moving average.
    fn average(kept: f64) -> Self {
        Self { kept: E::from_f64(kept), new: E::from_f64(1.0 - kept) }
    }

    /// The exponentially decaying sum.
    fn sum(kept: f64) -> Self {
        Self { kept: E::from_f64(kept), new: E::ONE }
    }

    #[inline(always)]
    fn next<L: Lane<Element = E>>(&self, lane: L, moment: L::Vector, value: L::Vector) -> L::Vector {
        let next = lane.fma(lane.splat(self.kept), moment, lane.mul(lane.splat(self.new), value));
        lane.flush_below(E::from_f64(TINY_MOMENT), next)
    }
}

fn check_share(name: &str, value: f64) {
    assert!((0.0..1.0).contains(&value), "{name} is at least 0 and below 1, not {value}");
}

fn check_not_negative(name: &str, value: f64) {
    assert!(value >= 0.0 && value.is_finite(), "{name} is at least 0, not {value}");
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};

    const METHODS: [Method; 8] = [
        Method::Sgd(Sgd { momentum: 0.0, weight_decay: 0.0 }),
        Method::Sgd(Sgd { momentum: 0.9, weight_decay: 0.01 }),
        Method::RmsProp(RmsProp { alpha: 0.99, epsilon: 1e-8, momentum: 0.0, weight_decay: 0.0 }),
        Method::RmsProp(RmsProp { alpha: 0.9, epsilon: 1e-6, momentum: 0.8, weight_decay: 0.01 }),
        Method::Adam(Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, decoupled: false }),
        Method::Adam(Adam { beta1: 0.8, beta2: 0.99, epsilon: 1e-6, weight_decay: 0.1, decoupled: false }),
        Method::Adam(Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, decoupled: true }),
        Method::Adam(Adam { beta1: 0.0, beta2: 0.9, epsilon: 1e-8, weight_decay: 0.3, decoupled: true }),
    ];

    /// One step after another of one parameter, as the papers and PyTorch's documentation write them.
    fn plain(method: Method, learning_rate: f64, factor: f64, mut p: f64, gradients: &[f64]) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for (index, &gradient) in gradients.iter().enumerate() {
            let (t, mut g) = (index as i32 + 1, factor * gradient);
            match method {
                Method::Sgd(Sgd { momentum, weight_decay }) => {
                    g += weight_decay * p;
                    m = if t == 1 { g } else { momentum * m + g };
                    p -= learning_rate * if momentum > 0.0 { m } else { g };
                }
                Method::RmsProp(RmsProp { alpha, epsilon, momentum, weight_decay }) => {
                    g += weight_decay * p;
                    v = alpha * v + (1.0 - alpha) * g * g;
                    let step = g / (v.sqrt() + epsilon);
                    m = momentum * m + step;
                    p -= learning_rate * if momentum > 0.0 { m } else { step };
                }
                Method::Adam(Adam { beta1, beta2, epsilon, weight_decay, decoupled }) => {
                    if decoupled {
                        p -= learning_rate * weight_decay * p;
                    } else {
                        g += weight_decay * p;
                    }
                    m = beta1 * m + (1.0 - beta1) * g;
                    v = beta2 * v + (1.0 - beta2) * g * g;
                    let (m_hat, v_hat) = (m / (1.0 - beta1.powi(t)), v / (1.0 - beta2.powi(t)));
                    p -= learning_rate * m_hat / (v_hat.sqrt() + epsilon);
                }
            }
        }
        p
    }

    fn run<E: Element>(isa: Isa, threads: &Threads, method: Method, length: usize, steps: usize) -> Vec<E> {
        let mut parameters: Vec<E> = numbers(0, length);
        let mut optimiser = Optimiser::new(method, length);
        for step in 0..steps {
            let gradients: Vec<E> = numbers(1 + step as u64, length);
            optimiser.step(isa, threads, 0.05, 0.7, &mut parameters, &gradients);
        }
        assert_eq!(optimiser.updates(), steps as u64);
        parameters
    }

    #[test]
    fn ten_steps_are_those_of_the_definition() {
        const LENGTH: usize = 37;
        for method in METHODS {
            let start: Vec<f64> = numbers(0, LENGTH);
            let gradients: Vec<Vec<f64>> = (0..10).map(|step| numbers(1 + step, LENGTH)).collect();
            let want: Vec<f64> = (0..LENGTH)
                .map(|j| plain(method, 0.05, 0.7, start[j], &gradients.iter().map(|g| g[j]).collect::<Vec<_>>()))
                .collect();
            let name = format!("{method:?}");
            assert_close(&name, &run::<f64>(Isa::SCALAR, Threads::ONE, method, LENGTH, 10), &want, 1e-13);
            assert_close(&name, &run::<f32>(Isa::detect(), Threads::ONE, method, LENGTH, 10), &want, 1e-6);
        }
    }

    #[test]
    fn bits_are_the_same_in_every_setting() {
        for method in METHODS {
            let want: Vec<f32> = run(Isa::SCALAR, Threads::ONE, method, 40_001, 3);
            for_every_setting(|isa, threads| {
                assert_same_bits("parameters", &run::<f32>(isa, threads, method, 40_001, 3), &want);
            });
        }
    }

    #[test]
    fn the_state_and_the_count_are_all_there_is_to_keep() {
        for method in METHODS {
            let (isa, threads, length) = (Isa::detect(), Threads::ONE, 100);
            let mut whole: Vec<f32> = numbers(0, length);
            let mut optimiser = Optimiser::new(method, length);
            optimiser.step(isa, threads, 0.1, 1.0, &mut whole, &numbers(1, length));
            let (mut cut, mut resumed) = (whole.clone(), Optimiser::new(method, length));
            resumed.set_updates(optimiser.updates());
            for ((name, to), (same, from)) in resumed.state_mut().into_iter().zip(optimiser.state()) {
                assert_eq!(name, same);
                to.copy_from_slice(from);
            }
            optimiser.step(isa, threads, 0.1, 1.0, &mut whole, &numbers(2, length));
            resumed.step(isa, threads, 0.1, 1.0, &mut cut, &numbers(2, length));
            assert_same_bits("parameters", &cut, &whole);
        }
    }

    #[test]
    fn moments_never_become_subnormal() {
        for method in METHODS {
            let mut parameters = [1.0f32];
            let mut optimiser = Optimiser::new(method, 1);
            optimiser.step(Isa::detect(), Threads::ONE, 1e-3, 1.0, &mut parameters, &[1e-3]);
            for _ in 0..3000 {
                // Weight decay would be a gradient.
                parameters = [0.0];
                optimiser.step(Isa::detect(), Threads::ONE, 1e-3, 1.0, &mut parameters, &[0.0]);
            }
            for (name, moment) in optimiser.state() {
                assert!(moment[0] == 0.0 || moment[0].abs() > 1e-36, "{method:?}: {name} is {:e}", moment[0]);
            }
        }
    }

    #[test]
    fn a_gradient_is_clipped_to_the_limit() {
        assert_eq!(clipping_factor(0.5, 1.0), 1.0);
        assert_eq!(clipping_factor(0.0, 1.0), 1.0);
        assert_close("norm after clipping", &[8.0 * clipping_factor(8.0, 2.0)], &[2.0], 1e-6);
    }

    #[test]
    #[should_panic(expected = "beta1 is at least 0 and below 1, not 1")]
    fn a_setting_out_of_range_is_refused() {
        Optimiser::<f32>::new(Method::Adam(Adam { beta1: 1.0, ..Adam::default() }), 1);
    }
}
