//! Initial values of parameters. Each tensor has a random stream of its own, so that a value depends only on the seed,
//! the tensor's position in the layout and the element's in the tensor.

use alloc::vec::Vec;

use throughline_kernels::random::{Philox, Purpose, Stream};

use crate::parameters::{Layout, TensorId};

/// The initial weights of recurrent stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Initialisation {
    /// Weights and biases uniform in ±1/sqrt(H), PyTorch's default.
    #[default]
    Uniform,
    /// Weights uniform in ±sqrt(6 / (fan in + fan out)), gate by gate (Glorot and Bengio 2010, equation 16); biases 0.
    Xavier,
    /// Recurrent weights orthogonal, gate by gate (Saxe et al. 2014); input weights as with `Xavier`; biases 0.
    Orthogonal,
}

/// The initial rows of embeddings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum EmbeddingInitialisation {
    /// Normal with the standard deviation of the embedding: 1, or 1/sqrt(F) for one that is
    /// [`scaled`](crate::layers::Embedding::scaled).
    #[default]
    Own,
    /// Normal with mean 0.
    Normal {
        /// The standard deviation.
        deviation: f64,
    },
    /// Uniform in ±`limit`.
    Uniform {
        /// The limit; the standard deviation is limit/sqrt(3).
        limit: f64,
    },
}

/// How the parameters of a model are initialised.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Initialise {
    /// The seed of all random numbers.
    pub seed: u64,
    /// The rows of embeddings.
    pub embedding: EmbeddingInitialisation,
    /// The weights of recurrent stacks.
    pub recurrent: Initialisation,
    /// Added to the input bias of the gate that keeps the state, an LSTM's forget gate (Gers et al. 2000; Jozefowicz et al.
    /// 2015 advise 1) or a GRU's update gate.
    pub forget_bias: f32,
    /// The longest time in steps over which units are to keep their state at first, above 2, or 0 for no such thing (chrono
    /// initialisation; Tallec and Ollivier, "Can recurrent neural networks warp time?", ICLR 2018, section 3). Each unit
    /// draws a time u from 1 to T - 1: ln u is added to the input bias of the gate that keeps the state, and taken from that
    /// of an LSTM's input gate.
    pub longest_memory: u32,
}

impl Initialise {
    /// Embeddings as they are made, uniform recurrent weights, and nothing added to the forget biases.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

/// Adds ln u to the biases of gate `keep` in tensor `id`, `[gates · H]`, with u uniform from 1 to `longest` - 1 for each unit,
/// and takes it from those of gate `enter`.
///
/// # Panics
/// If `longest` is not above 2.
pub(crate) fn chrono(
    seed: u64,
    layout: &Layout,
    id: TensorId,
    hidden: usize,
    longest: u32,
    (keep, enter): (usize, Option<usize>),
    parameters: &mut [f32],
) {
    assert!(longest > 2, "the longest memory is above 2 steps, not {longest}");
    // Another stream than that of the biases themselves.
    let index = layout.tensor(id).range().start as u64 | 1 << 63;
    let mut random = Philox::new(seed, Purpose::Initialise, index).stream();
    let biases = layout.view_mut(parameters, id);
    for unit in 0..hidden {
        let time = libm::log(1.0 + random.uniform() * f64::from(longest - 2)) as f32;
        biases[keep * hidden + unit] += time;
        if let Some(enter) = enter {
            biases[enter * hidden + unit] -= time;
        }
    }
}

fn stream(seed: u64, layout: &Layout, id: TensorId) -> Stream {
    let index = layout.tensor(id).range().start as u64;
    Philox::new(seed, Purpose::Initialise, index).stream()
}

/// Fills tensor `id` with numbers uniform in ±`limit`.
pub fn uniform(seed: u64, layout: &Layout, id: TensorId, limit: f64, parameters: &mut [f32]) {
    let mut random = stream(seed, layout, id);
    for x in layout.view_mut(parameters, id) {
        *x = ((2.0 * random.uniform() - 1.0) * limit) as f32;
    }
}

/// Fills tensor `id` with normal numbers of mean 0 and standard deviation `deviation`.
pub fn normal(seed: u64, layout: &Layout, id: TensorId, deviation: f64, parameters: &mut [f32]) {
    let mut random = stream(seed, layout, id);
    for x in layout.view_mut(parameters, id) {
        *x = (standard_normal(&mut random) * deviation) as f32;
    }
}

/// Fills tensor `id`, a matrix `[gates · rows, columns]`, with numbers uniform in ±sqrt(6 / (rows + columns)) (Glorot
/// and Bengio 2010, equation 16).
pub fn xavier(seed: u64, layout: &Layout, id: TensorId, gates: usize, parameters: &mut [f32]) {
    let shape = layout.tensor(id).shape();
    let limit = libm::sqrt(6.0 / (shape[0] / gates + shape[1]) as f64);
    uniform(seed, layout, id, limit, parameters);
}

/// Fills tensor `id`, a matrix `[gates · H, H]`, with one random orthogonal matrix for each gate: normal rows,
/// orthogonalised by Gram–Schmidt with a second pass for accuracy.
pub fn orthogonal(seed: u64, layout: &Layout, id: TensorId, parameters: &mut [f32]) {
    let hidden = layout.tensor(id).shape()[1];
    let mut random = stream(seed, layout, id);
    for gate in layout.view_mut(parameters, id).chunks_mut(hidden * hidden) {
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(hidden);
        while rows.len() < hidden {
            let mut row: Vec<f64> = (0..hidden).map(|_| standard_normal(&mut random)).collect();
            for _ in 0..2 {
                for earlier in &rows {
                    let overlap = dot(&row, earlier);
                    row.iter_mut().zip(earlier).for_each(|(x, y)| *x -= overlap * y);
                }
            }
            let length = libm::sqrt(dot(&row, &row));
            if length > 1e-6 {
                row.iter_mut().for_each(|x| *x /= length);
                rows.push(row);
            }
        }
        for (x, value) in gate.iter_mut().zip(rows.iter().flatten()) {
            *x = *value as f32;
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// A standard normal number (Box and Muller 1958).
fn standard_normal(random: &mut Stream) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - random.uniform()));
    radius * libm::cos(2.0 * core::f64::consts::PI * random.uniform())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Builder;
    use alloc::string::ToString;

    #[test]
    fn gates_that_keep_states_for_up_to_so_many_steps() {
        let mut builder = Builder::new();
        let id = builder.add("bias".to_string(), &[4 * 500]);
        let layout = builder.into_layout();
        let mut parameters = layout.zeros::<f32>();
        chrono(5, &layout, id, 500, 400, (1, Some(0)), &mut parameters);
        let biases = layout.view(&parameters, id);
        let (enter, keep) = (&biases[..500], &biases[500..1000]);
        assert!(
            enter.iter().zip(keep).all(|(enter, keep)| *enter == -keep) && biases[1000..].iter().all(|b| *b == 0.0)
        );
        // A unit that closes its gate no further forgets with a time constant of 1 / (1 - f) = 1 + e^b steps.
        let times: Vec<f64> = keep.iter().map(|&bias| f64::from(bias).exp()).collect();
        assert!(times.iter().all(|&time| (1.0..399.01).contains(&time)));
        let mean = times.iter().sum::<f64>() / 500.0;
        assert!((mean - 200.0).abs() < 20.0, "{mean}");
    }

    #[test]
    fn orthogonal_rows() {
        let mut layout = Layout::new();
        let id = layout.add("w".to_string(), &[3 * 12, 12]);
        let mut parameters = layout.zeros::<f32>();
        orthogonal(5, &layout, id, &mut parameters);
        for gate in layout.view(&parameters, id).chunks(144) {
            for i in 0..12 {
                for j in 0..12 {
                    let product: f32 = (0..12).map(|k| gate[i * 12 + k] * gate[j * 12 + k]).sum();
                    let want = if i == j { 1.0 } else { 0.0 };
                    assert!((product - want).abs() < 1e-6, "rows {i} and {j}: {product}");
                }
            }
        }
    }

    /// Whatever it was made with, its table begins as asked; the rest of a model begins as it always does.
    #[test]
    fn embeddings_begin_as_asked() {
        use crate::Layer;
        use crate::layers::{Embedding, Linear};
        use crate::parameters::Builder;

        let mut builder = Builder::new();
        let own = Embedding::new(&mut builder, "own", 200, 25);
        let scaled = Embedding::new(&mut builder, "scaled", 200, 25).scaled();
        let linear = Linear::new(&mut builder, "linear", 25, 4);
        let (tables, layout) = ([own.table(), scaled.table()], builder.into_layout());
        let begin = |embedding| {
            let (how, mut parameters) = (Initialise { embedding, ..Initialise::new(7) }, layout.zeros::<f32>());
            own.initialise(&how, &layout, &mut parameters);
            scaled.initialise(&how, &layout, &mut parameters);
            linear.initialise(&how, &layout, &mut parameters);
            parameters
        };
        let (normal, uniform) =
            (EmbeddingInitialisation::Normal { deviation: 0.3 }, EmbeddingInitialisation::Uniform { limit: 0.3 });
        let uniform_deviation = 0.3 / 3_f32.sqrt();
        for (how, deviations) in [
            (EmbeddingInitialisation::Own, [1.0, 0.2]),
            (normal, [0.3, 0.3]),
            (uniform, [uniform_deviation, uniform_deviation]),
        ] {
            let parameters = begin(how);
            for (table, want) in tables.into_iter().zip(deviations) {
                let table = layout.view(&parameters, table);
                let deviation = (table.iter().map(|x| x * x).sum::<f32>() / table.len() as f32).sqrt();
                assert!((deviation / want - 1.0).abs() < 0.05, "{how:?}: {deviation}, not {want}");
                assert!(how != uniform || table.iter().all(|x| x.abs() <= 0.3));
            }
            let rest = layout.tensor(tables[1]).range().end..;
            assert_eq!(parameters[rest.clone()], begin(EmbeddingInitialisation::Own)[rest], "{how:?}");
        }
    }

    #[test]
    fn moments_are_as_asked() {
        let mut layout = Layout::new();
        let (a, b) = (layout.add("a".to_string(), &[100, 100]), layout.add("b".to_string(), &[100, 100]));
        let mut parameters = layout.zeros::<f32>();
        uniform(1, &layout, a, 0.5, &mut parameters);
        normal(1, &layout, b, 2.0, &mut parameters);
        let variance = |id| layout.view(&parameters, id).iter().map(|x| x * x).sum::<f32>() / 1e4;
        assert!((variance(a) - 0.25 / 3.0).abs() < 0.003, "{}", variance(a));
        assert!((variance(b) - 4.0).abs() < 0.2, "{}", variance(b));
        assert!(layout.view(&parameters, a).iter().all(|x| x.abs() <= 0.5));
    }
}
