//! The conditional random field against all paths one by one, central differences, and itself in other batches.

use std::ops::Range;

use crate::common::{
    Batch, DIFFERENCE_STEP, DIFFERENCE_TOLERANCE, Dropouts, Model, Numbers, assert_close_tensors, panic_of, tagger,
};
use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::{Classified, IGNORED};
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::crf::{Constraints, CrfTape, PackedCrf};
use throughline_nn::heads::softmax::SoftmaxTape;
use throughline_nn::heads::{Crf, Head, HeadCall, Softmax};
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::RecurrentConfig;
use throughline_nn::parameters::{Builder, Layout};
use throughline_nn::{Context, Cpu, Layer, Loss, Pass};
use throughline_testkit::vectors::{Tensor, field_cases};
use throughline_testkit::{assert_close, assert_same_bits, central_difference};

/// Of f64 against the sums over all paths, relative to the scores.
const TOLERANCE: f64 = 1e-12;
/// Of f32 against PyTorch, relative to the largest number.
const PYTORCH_TOLERANCE: f64 = 1e-5;
const LENGTHS: [usize; 8] = [3, 1, 5, 0, 2, 4, 1, 5];

/// A head of its own whose emissions are its input.
struct Field<E: Element> {
    head: Crf,
    cpu: Cpu,
    layout: Layout,
    parameters: Buffer<E>,
    packed: PackedCrf<E>,
    tape: CrfTape<E>,
}

/// What training gives of a batch.
struct Learned<E> {
    loss: Loss,
    sequences: Vec<Classified>,
    dx: Vec<E>,
    gradients: Vec<E>,
}

impl<E: Element> Field<E> {
    /// Parameters in ±`scale`.
    fn with_features(features: usize, tags: usize, threads: usize, scale: f64) -> Self {
        let (mut builder, cpu) = (Builder::new(), Cpu::new(threads));
        let head = Crf::new(&mut builder, "head", features, tags);
        let layout = builder.into_layout();
        let parameters: Buffer<E> = Numbers::new(31).parameters(&layout, scale);
        let packed = Head::<E>::packed(&head, cpu.isa, true);
        let mut field = Self { head, cpu, layout, parameters, packed, tape: CrfTape::default() };
        field.pack();
        field
    }

    /// Scores between tags in ±`scale`, and emissions that are the input.
    fn new(tags: usize, threads: usize, scale: f64) -> Self {
        let mut field = Self::with_features(tags, tags, threads, scale);
        let Self { layout, parameters, .. } = &mut field;
        let (weight, bias) = (layout.find("head.weight").unwrap(), layout.find("head.bias").unwrap());
        for (index, weight) in layout.view_mut(parameters, weight).iter_mut().enumerate() {
            *weight = if index.is_multiple_of(tags + 1) { E::ONE } else { E::ZERO };
        }
        layout.view_mut(parameters, bias).fill(E::ZERO);
        field.pack();
        field
    }

    fn pack(&mut self) {
        self.head.pack(&self.cpu, &self.layout, &self.parameters, &mut self.packed);
    }

    fn set(&mut self, name: &str, values: &[E]) {
        let id = self.layout.find(name).expect("a parameter of the head");
        self.layout.view_mut(&mut self.parameters, id).copy_from_slice(values);
        self.pack();
    }

    fn scores(&self, name: &str) -> Vec<f64> {
        let id = self.layout.find(name).expect("a parameter of the head");
        self.layout.view(&self.parameters, id).iter().map(|score| score.to_f64()).collect()
    }

    /// The head, what it is called with, its memory.
    fn call<'a>(&'a mut self, rows: &'a Ragged, x: &'a [E]) -> (&'a Crf, HeadCall<'a, E, Crf>, &'a mut CrfTape<E>) {
        let Self { head, cpu, layout, parameters, packed, tape } = self;
        let context = Context { cpu, layout, parameters, pass: Pass::Traced };
        (head, HeadCall { context, packed, rows, x, scored: 0..rows.rows() }, tape)
    }

    fn learn(&mut self, rows: &Ragged, x: &[E], targets: &[u32], normaliser: f64) -> Learned<E> {
        let mut gradients = vec![E::ZERO; self.layout.length()];
        let mut dx = vec![E::from_f64(f64::NAN); x.len()];
        let (head, call, tape) = self.call(rows, x);
        let loss = head.learn(call, targets, normaliser, &mut dx, &mut gradients, tape);
        Learned { loss, sequences: tape.sequence_losses().to_vec(), dx, gradients }
    }

    fn evaluate(&mut self, rows: &Ragged, x: &[E], targets: &[u32]) -> Loss {
        let (head, call, tape) = self.call(rows, x);
        head.evaluate(call, targets, tape)
    }

    fn decode(&mut self, rows: &Ragged, x: &[E], constraints: Option<&Constraints>) -> (Vec<u32>, Vec<f64>) {
        let (head, call, tape) = self.call(rows, x);
        let decoded = head.decode(call, constraints, tape);
        (decoded.tags.to_vec(), decoded.log_probabilities.to_vec())
    }

    fn marginals(&mut self, rows: &Ragged, x: &[E]) -> Vec<E> {
        let (head, call, tape) = self.call(rows, x);
        head.marginals(call, tape).to_vec()
    }
}

/// Every path of a sequence with its score.
struct Paths(Vec<(Vec<usize>, f64)>);

impl Paths {
    /// Those through `x` `[T, K]`.
    fn of<E: Element>(field: &Field<E>, x: &[E]) -> Self {
        let [transitions, start, end] = ["head.transitions", "head.start", "head.end"].map(|name| field.scores(name));
        let tags = start.len();
        let steps = x.len() / tags;
        let path = |number: usize| -> Vec<usize> { (0..steps).map(|t| number / tags.pow(t as u32) % tags).collect() };
        let score = |path: &Vec<usize>| -> f64 {
            let emissions: f64 = path.iter().enumerate().map(|(t, &tag)| x[t * tags + tag].to_f64()).sum();
            let between: f64 = path.windows(2).map(|pair| transitions[pair[0] * tags + pair[1]]).sum();
            start[path[0]] + emissions + between + end[path[steps - 1]]
        };
        Self((0..tags.pow(steps as u32)).map(path).map(|path| (path.clone(), score(&path))).collect())
    }

    /// ln of the sum of e^score over the paths that `agree`.
    fn log_z(&self, agree: impl Fn(&[usize]) -> bool) -> f64 {
        let scores: Vec<f64> = self.0.iter().filter(|(path, _)| agree(path)).map(|(_, score)| *score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + scores.iter().map(|score| (score - largest).exp()).sum::<f64>().ln()
    }

    /// The best of the paths that are `allowed`, of equal ones that with the smaller tags, from the last on.
    fn best(&self, allowed: impl Fn(&[usize]) -> bool) -> Vec<u32> {
        let reversed = |path: &[usize]| path.iter().rev().copied().collect::<Vec<_>>();
        let better = |a: &&(Vec<usize>, f64), b: &&(Vec<usize>, f64)| {
            a.1.total_cmp(&b.1).then_with(|| reversed(&b.0).cmp(&reversed(&a.0)))
        };
        let best = self.0.iter().filter(|(path, _)| allowed(path)).max_by(better).expect("a path");
        best.0.iter().map(|&tag| tag as u32).collect()
    }
}

/// The packed rows of every sequence.
fn rows_of(rows: &Ragged) -> Vec<Vec<usize>> {
    let mut of_sequence = vec![Vec::new(); rows.batch()];
    rows.for_each_row(|row, sequence, _| of_sequence[sequence].push(row));
    of_sequence
}

/// Those rows of `width` columns.
fn taken<T: Copy>(rows: &[usize], width: usize, values: &[T]) -> Vec<T> {
    rows.iter().flat_map(|row| values[row * width..][..width].to_vec()).collect()
}

/// Tags for every row; of every third sequence some are unknown, of every fifth all.
fn targets_of(rows: &Ragged, tags: usize) -> Vec<u32> {
    let mut targets = Numbers::new(32).tokens(rows.rows(), tags);
    rows.for_each_row(|row, sequence, t| {
        if sequence % 3 == 2 && t % 2 == 1 || sequence % 5 == 4 {
            targets[row] = IGNORED;
        }
    });
    targets
}

fn agrees(path: &[usize], targets: &[u32]) -> bool {
    path.iter().zip(targets).all(|(&tag, &target)| target == IGNORED || tag as u32 == target)
}

/// Loss and all gradients of PyTorch's automatic differentiation of a plain implementation.
#[test]
fn gradients_are_those_of_pytorch() {
    for (index, case) in field_cases().iter().enumerate() {
        let [tags, features] = case.parameters["weight"].shape[..] else { panic!("a matrix") };
        let mut field = Field::<f32>::with_features(features, tags, 1, 1.0);
        for (name, tensor) in &case.parameters {
            field.set(&format!("head.{name}"), &tensor.data);
        }
        let rows = Ragged::new(&case.targets.iter().map(Vec::len).collect::<Vec<_>>());
        let (mut x, mut dx, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        rows.for_each_row(|_, sequence, t| {
            let of = |tensor: &Tensor| tensor.data[t * features..][..features].to_vec();
            x.extend(of(&case.x[sequence]));
            dx.extend(of(&case.x_gradients[sequence]));
            targets.push(case.targets[sequence][t]);
        });
        let got = field.learn(&rows, &x, &targets, 1.0);
        let widened = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        assert_close(&format!("loss of case {index}"), &[got.loss.sum], &[f64::from(case.loss)], PYTORCH_TOLERANCE);
        assert_close(&format!("dx of case {index}"), &widened(&got.dx), &widened(&dx), PYTORCH_TOLERANCE);
        for (name, want) in &case.gradients {
            let id = field.layout.find(&format!("head.{name}")).expect("a parameter of the head");
            let got = widened(field.layout.view(&got.gradients, id));
            assert_close(&format!("gradient of {name} in case {index}"), &got, &want.to_f64(), PYTORCH_TOLERANCE);
        }
    }
}

/// Scales of transitions and emissions; from the fourth on sums of e^(alpha + A) are lost in f64.
const SCALES: [(f64, f64); 6] = [(1.0, 1.0), (0.0, 3.0), (5.0, 30.0), (3e3, 1.0), (1e4, 1e4), (1.0, 1e4)];

#[test]
fn everything_is_what_all_paths_say() {
    let rows = Ragged::new(&LENGTHS);
    for tags in 1..=4 {
        for (scale, of_emissions) in SCALES {
            let mut field = Field::<f64>::new(tags, 1, scale);
            let x = Numbers::new(33).draw::<f64>(rows.rows() * tags, of_emissions);
            let targets = targets_of(&rows, tags);
            let learned = field.learn(&rows, &x, &targets, 1.0);
            let marginals = field.marginals(&rows, &x);
            let (decoded, log_probabilities) = field.decode(&rows, &x, None);
            let tolerance = TOLERANCE * (1.0 + scale + of_emissions);
            let mut total = Loss::default();
            for (sequence, own) in rows_of(&rows).iter().enumerate() {
                let name =
                    |what: &str| format!("{what} of sequence {sequence}, {tags} tags at {scale}, {of_emissions}");
                let (x, targets) = (taken(own, tags, &x), taken(own, 1, &targets));
                if own.is_empty() {
                    assert_eq!((learned.sequences[sequence], log_probabilities[sequence]), Default::default());
                    continue;
                }
                let paths = Paths::of(&field, &x);
                let log_z = paths.log_z(|_| true);
                let best = paths.best(|_| true);
                let count = targets.iter().filter(|&&target| target != IGNORED).count();
                let correct = targets.iter().zip(&best).filter(|(target, best)| target == best).count();
                let want = log_z - paths.log_z(|path| agrees(path, &targets));
                let got = learned.sequences[sequence];
                assert_close(&name("loss"), &[got.loss.sum], &[want], tolerance);
                assert_eq!((got.loss.count, got.correct), (count, correct), "{}", name("counts"));
                total += got.into();

                assert_eq!(taken(own, 1, &decoded), best, "{}", name("path"));
                let want = paths.log_z(|path| agrees(path, &best)) - log_z;
                assert_close(&name("probability"), &[log_probabilities[sequence]], &[want], tolerance);
                let marginal = |index: usize| {
                    let (t, tag) = (index / tags, index % tags);
                    (paths.log_z(|path| path[t] == tag) - log_z).exp()
                };
                let want: Vec<f64> = (0..x.len()).map(marginal).collect();
                assert_close(&name("marginals"), &taken(own, tags, &marginals), &want, tolerance);
            }
            assert_eq!(learned.loss, total, "the sum in the caller's order");
            assert_eq!(field.evaluate(&rows, &x, &targets), total, "evaluation gives the bits of training");
        }
    }
}

#[test]
fn gradients_of_scores_and_emissions() {
    let rows = Ragged::new(&LENGTHS);
    for (tags, (scale, of_emissions)) in
        [(1, SCALES[0]), (2, SCALES[0]), (4, SCALES[2]), (3, SCALES[3]), (4, SCALES[4])]
    {
        let name = |what: &str| format!("{what} of {tags} tags at {scale}, {of_emissions}");
        let mut field = Field::<f64>::new(tags, 1, scale);
        let mut x = Numbers::new(33).draw::<f64>(rows.rows() * tags, of_emissions);
        let targets = targets_of(&rows, tags);
        let normaliser = 1e3 * (1.0 + scale + of_emissions);
        let learned = field.learn(&rows, &x, &targets, normaliser);
        let value = |field: &mut Field<f64>, x: &[f64]| field.evaluate(&rows, x, &targets).sum / normaliser;
        let want = central_difference(|x| value(&mut field, x), &mut x, 1e-3);
        assert_close(&name("dx"), &learned.dx, &want, DIFFERENCE_TOLERANCE);
        let mut parameters = field.parameters.to_vec();
        let want = central_difference(
            |parameters| {
                field.parameters.copy_from_slice(parameters);
                field.pack();
                value(&mut field, &x)
            },
            &mut parameters,
            1e-3,
        );
        assert_close_tensors(&name("gradient"), &field.layout, &learned.gradients, &want, DIFFERENCE_TOLERANCE);
        assert!(learned.dx.iter().chain(&learned.gradients).any(|&x| x != 0.0) || tags == 1, "{}", name("none"));
    }
}

/// Every parameter of a network that ends in the field, which learns from two batches as from one.
#[test]
fn gradients_of_a_network() {
    let stack = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, 3, 4) };
    let mut model = Model::<f64, _, _>::new(tagger(stack, 6, 4, Dropouts::default()), 1, 4, 0.7);
    let batch = Batch::tagged(6, 4, &LENGTHS);
    let layout = model.network.layout().clone();
    let mut got: Buffer<f64> = layout.zeros();
    let loss = batch.learn(&mut model, Pass::Traced, &mut got);
    assert_eq!(loss, batch.evaluate(&mut model), "evaluation gives the bits of training");
    assert_eq!(loss.weight, batch.targets.iter().filter(|&&target| target != IGNORED).count() as f64);
    let mut parameters = model.parameters.to_vec();
    let want = central_difference(
        |parameters| {
            model.set(|_, to| to.copy_from_slice(parameters));
            batch.evaluate(&mut model).mean()
        },
        &mut parameters,
        DIFFERENCE_STEP,
    );
    assert_close_tensors("gradient", &layout, &got, &want, DIFFERENCE_TOLERANCE);
    for tensor in layout.tensors() {
        assert!(got[tensor.range()].iter().any(|&x| x != 0.0), "{} has a gradient", tensor.name());
    }
}

/// A network decodes by its head, in f32, and tags what it was trained on.
#[test]
fn a_network_decodes() {
    let stack = RecurrentConfig::new(CellKind::GruAfter, 3, 4);
    let mut model = Model::<f32, _, _>::new(tagger(stack, 6, 3, Dropouts::default()), 1, 4, 0.7);
    let batch = Batch::<f32>::tagged(6, 3, &LENGTHS);
    let emissions = batch.logits(&mut model);
    let loss = batch.evaluate(&mut model);
    let (network, weights, workspace) = model.borrowed();
    network.read(weights, batch.input(), workspace);
    let call = network.head_call(weights, &batch.rows, &workspace.body);
    let decoded = network.head().decode(call, None, &mut workspace.head);
    let correct = decoded.tags.iter().zip(&batch.targets).filter(|(tag, target)| tag == target).count();
    assert_eq!(loss.correct, correct as f64);
    let mut field = Field::<f32>::new(3, 1, 1.0);
    for name in ["head.transitions", "head.start", "head.end"] {
        let id = model.network.layout().find(name).expect("a parameter of the head");
        field.set(name, model.network.layout().view(&model.parameters, id));
    }
    let (tags, log_probabilities) = field.decode(&batch.rows, &emissions, None);
    let (network, weights, workspace) = model.borrowed();
    let call = network.head_call(weights, &batch.rows, &workspace.body);
    let decoded = network.head().decode(call, None, &mut workspace.head);
    assert_eq!((decoded.tags, decoded.log_probabilities), (&tags[..], &log_probabilities[..]));
}

/// Sequences that are alike in nothing, enough of them for several groups.
fn long_batch() -> Ragged {
    Ragged::new(&Numbers::new(34).tokens(60, 31).iter().map(|&length| length as usize).collect::<Vec<_>>())
}

/// A sequence's loss, dx, path and marginals are the same bits alone and in any batch, everything on any number of threads.
fn check_bits<E: Element + throughline_testkit::gradient::Bits>(of_emissions: f64) {
    let (rows, tags) = (long_batch(), 12);
    let x = Numbers::new(33).draw::<E>(rows.rows() * tags, of_emissions);
    let targets = targets_of(&rows, tags);
    let solve = |threads: usize, rows: &Ragged, x: &[E], targets: &[u32]| {
        let mut field = Field::<E>::new(tags, threads, 1.0);
        let learned = field.learn(rows, x, targets, 7.0);
        let mut again = vec![E::ONE; field.layout.length()];
        let (head, call, tape) = field.call(rows, x);
        head.learn(call, targets, 7.0, &mut vec![E::ZERO; x.len()], &mut again, tape);
        for name in ["head.transitions", "head.start", "head.end"] {
            let id = field.layout.find(name).expect("a parameter of the head");
            let [again, first] = [&again, &learned.gradients].map(|gradients| field.layout.view(gradients, id));
            let want: Vec<E> = first.iter().map(|&gradient| E::ONE + gradient).collect();
            assert_same_bits(&format!("{name} accumulates"), again, &want);
        }
        (learned, field.decode(rows, x, None), field.marginals(rows, x))
    };
    let want = solve(1, &rows, &x, &targets);
    for threads in [2, 3] {
        let got = solve(threads, &rows, &x, &targets);
        assert_eq!((got.0.loss, &got.0.sequences, &got.1), (want.0.loss, &want.0.sequences, &want.1));
        assert_same_bits("dx", &got.0.dx, &want.0.dx);
        assert_same_bits("gradients", &got.0.gradients, &want.0.gradients);
        assert_same_bits("marginals", &got.2, &want.2);
    }
    for (sequence, own) in rows_of(&rows).iter().enumerate() {
        let (x, targets) = (taken(own, tags, &x), taken(own, 1, &targets));
        let got = solve(1, &Ragged::new(&[own.len()]), &x, &targets);
        assert_eq!(got.0.sequences[0], want.0.sequences[sequence]);
        assert_eq!((&got.1.0, got.1.1[0]), (&taken(own, 1, &want.1.0), want.1.1[sequence]));
        assert_same_bits("dx alone", &got.0.dx, &taken(own, tags, &want.0.dx));
        assert_same_bits("marginals alone", &got.2, &taken(own, tags, &want.2));
    }
}

#[test]
fn any_batch_and_any_threads() {
    check_bits::<f32>(2.0);
    check_bits::<f64>(2.0);
    check_bits::<f32>(1e4);
}

/// Scores that are whole numbers are often equal, and added without rounding.
#[test]
fn of_equal_paths_the_smallest_tags() {
    let (rows, tags) = (Ragged::new(&LENGTHS), 3);
    for seed in 0..40 {
        let mut numbers = Numbers::new(seed);
        let mut whole = |count| numbers.tokens(count, 2).into_iter().map(f64::from).collect::<Vec<_>>();
        let mut field = Field::<f64>::new(tags, 1, 1.0);
        field.set("head.transitions", &whole(tags * tags));
        field.set("head.start", &whole(tags));
        field.set("head.end", &whole(tags));
        let x = whole(rows.rows() * tags);
        let (decoded, _) = field.decode(&rows, &x, None);
        for own in rows_of(&rows).iter().filter(|own| !own.is_empty()) {
            let want = Paths::of(&field, &taken(own, tags, &x)).best(|_| true);
            assert_eq!(taken(own, 1, &decoded), want, "seed {seed}");
        }
    }
    let mut field = Field::<f32>::new(tags, 1, 0.0);
    assert_eq!(field.decode(&Ragged::even(4, 2), &[0.5; 24], None).0, [0; 8]);
}

const BIO: [&str; 5] = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"];
const IOBES: [&str; 5] = ["O", "B-X", "I-X", "E-X", "S-X"];

/// The rules of BIO (`spans_end` false) or IOBES over these labels, whose letters and types stand beside a hyphen.
fn scheme(labels: &[&str], spans_end: bool) -> Option<Constraints> {
    let letter_and_kind = |tag: Option<usize>| {
        let label: &str = tag.map_or("O", |tag| labels[tag]);
        label.split_once('-').unwrap_or((label, ""))
    };
    Constraints::new(labels.len(), |from, to| {
        let ((from, from_kind), (to, to_kind)) = (letter_and_kind(from), letter_and_kind(to));
        let open = matches!(from, "B" | "I");
        if matches!(to, "I" | "E") { open && from_kind == to_kind } else { !(spans_end && open) }
    })
}

#[test]
fn constraints_are_what_the_caller_says() {
    let allowed = |from: Option<usize>, to: Option<usize>| match (from, to) {
        (None, to) => to != Some(1),
        (Some(from), None) => from != 2,
        (Some(from), Some(to)) => (from + 2 * to) % 3 != 1,
    };
    let constraints = Constraints::new(3, allowed).expect("0 may stand alone and follow itself");
    assert_eq!(constraints.tags(), 3);
    for from in 0..3 {
        assert_eq!(constraints.may_start(from), allowed(None, Some(from)));
        assert_eq!(constraints.may_end(from), allowed(Some(from), None));
        (0..3).for_each(|to| assert_eq!(constraints.may_follow(from, to), allowed(Some(from), Some(to))));
    }
}

#[test]
fn constraints_without_a_path_of_every_length() {
    assert!(scheme(&["I-PER"], false).is_none() && scheme(&["B-X", "E-X"], true).is_none());
    assert!(Constraints::new(0, |_, _| true).is_none());
    assert!(Constraints::new(2, |from, to| from != to).is_none(), "no tag follows itself");
}

#[test]
fn decoding_keeps_to_the_constraints() {
    let rows = Ragged::new(&[4, 1, 0, 3, 2, 4, 1]);
    for (spans_end, labels) in [(false, &BIO[..]), (true, &IOBES[..]), (true, &IOBES[1..])] {
        let constraints = scheme(labels, spans_end).expect("paths of every length");
        let tags = labels.len();
        let allowed = |path: &[usize]| {
            constraints.may_start(path[0])
                && path.windows(2).all(|pair| constraints.may_follow(pair[0], pair[1]))
                && constraints.may_end(path[path.len() - 1])
        };
        let mut restricted = 0;
        for (seed, scale) in (0..12).zip([0.0, 1.0, 1e3, 1e4].into_iter().cycle()) {
            let mut field = Field::<f64>::new(tags, 1, scale);
            let x = Numbers::new(seed).draw::<f64>(rows.rows() * tags, 1.0 + scale);
            let (free, _) = field.decode(&rows, &x, None);
            let (decoded, log_probabilities) = field.decode(&rows, &x, Some(&constraints));
            restricted += usize::from(free != decoded);
            for (own, log_probability) in rows_of(&rows).iter().zip(log_probabilities) {
                if own.is_empty() {
                    continue;
                }
                let paths = Paths::of(&field, &taken(own, tags, &x));
                let want = paths.best(allowed);
                assert_eq!(taken(own, 1, &decoded), want, "{labels:?} at {scale}");
                let want = paths.log_z(|path| agrees(path, &want)) - paths.log_z(|_| true);
                assert_close("probability", &[log_probability], &[want], TOLERANCE * (1.0 + scale));
            }
        }
        assert!(restricted > 6, "constraints matter");
    }
}

/// Hopeless and certain tags at ±1e4, in f32.
#[test]
fn extreme_scores_stay_finite() {
    let rows = long_batch();
    for scale in [1.0, 1e4] {
        let tags = 6;
        let mut field = Field::<f32>::new(tags, 1, scale);
        let x: Vec<f32> =
            Numbers::new(35).draw::<f32>(rows.rows() * tags, 1.0).iter().map(|x| 1e4 * x.signum()).collect();
        let learned = field.learn(&rows, &x, &targets_of(&rows, tags), 1.0);
        assert!(learned.loss.sum.is_finite() && learned.loss.sum > 0.0, "{:?}", learned.loss);
        let marginals = field.marginals(&rows, &x);
        let numbers = learned.dx.iter().chain(&learned.gradients).chain(&marginals);
        assert!(numbers.clone().all(|x| x.is_finite()));
        assert!(learned.dx.iter().all(|x| (-1.001..=1.001).contains(x)));
        for marginals in marginals.chunks(tags) {
            assert_close("sum of marginals", &[marginals.iter().sum::<f32>()], &[1.0], 1e-6);
        }
        let (_, log_probabilities) = field.decode(&rows, &x, None);
        assert!(log_probabilities.iter().all(|x| x.is_finite() && *x <= 0.0));
    }
}

/// Rounding makes no path likelier than all: where tags hardly change, one path is certain in the end and was not on the way.
#[test]
fn no_loss_is_negative() {
    let (rows, tags) = (long_batch(), 3);
    let mut field = Field::<f64>::new(tags, 1, 0.3);
    let stay = |index: usize| if index.is_multiple_of(tags + 1) { 60.1 } else { 0.0 };
    field.set("head.transitions", &(0..tags * tags).map(stay).collect::<Vec<_>>());
    for seed in 0..20 {
        let x = Numbers::new(seed).draw::<f64>(rows.rows() * tags, 10.0);
        let (path, log_probabilities) = field.decode(&rows, &x, None);
        assert!(log_probabilities.iter().all(|&x| x <= 0.0), "{log_probabilities:?}");
        let learned = field.learn(&rows, &x, &path, 1.0);
        let losses: Vec<f64> = learned.sequences.iter().map(|sequence| sequence.loss.sum).collect();
        assert!(losses.iter().all(|&loss| loss >= 0.0), "{losses:?}");
    }
}

#[test]
fn gradients_of_hopeless_tags_are_zero_and_not_subnormal() {
    let (rows, x) = (Ragged::new(&[1]), [0.0f32, -95.0, -40.0]);
    let dx = Field::<f32>::new(3, 1, 0.0).learn(&rows, &x, &[0], 1.0).dx;
    assert_eq!(dx[1], 0.0);
    assert_close("gradient", &[f64::from(dx[2]) / (-40.0f64).exp()], &[1.0], 1e-6);
}

#[test]
fn a_broken_score_shows() {
    let rows = Ragged::even(3, 1);
    for (at, value) in [(0, f32::NAN), (4, f32::NAN), (8, f32::INFINITY), (3, f32::INFINITY)] {
        let mut field = Field::<f32>::new(3, 1, 1.0);
        let mut x = vec![0.5; 9];
        x[at] = value;
        assert!(field.evaluate(&rows, &x, &[1, 2, 0]).sum.is_nan(), "{value} at {at}");
        assert_eq!(field.decode(&rows, &x, None).0.len(), 3);
    }
}

#[test]
fn one_tag_is_certain() {
    let (rows, x) = (Ragged::new(&LENGTHS), Numbers::new(36).draw::<f32>(21, 5.0));
    let mut field = Field::<f32>::new(1, 1, 3.0);
    let learned = field.learn(&rows, &x, &[0; 21], 21.0);
    assert_eq!(learned.loss, Loss { sum: 0.0, weight: 21.0, correct: 21.0 });
    assert!(learned.dx.iter().chain(&learned.gradients).all(|&x| x == 0.0));
    assert_eq!(field.marginals(&rows, &x), [1.0; 21]);
    let (tags, log_probabilities) = field.decode(&rows, &x, None);
    assert_eq!((tags, log_probabilities), (vec![0; 21], vec![0.0; 8]));
}

/// Targets that are all unknown say nothing; a batch may have no rows.
#[test]
fn nothing_to_learn_from() {
    let rows = Ragged::new(&LENGTHS);
    let x = Numbers::new(33).draw::<f32>(rows.rows() * 4, 2.0);
    let mut field = Field::<f32>::new(4, 2, 1.0);
    for (rows, x) in [(&rows, &x[..]), (&Ragged::new(&[0, 0]), &[]), (&Ragged::default(), &[])] {
        let targets = vec![IGNORED; rows.rows()];
        let weight = Head::<f32>::weight(&field.head, 0..rows.rows(), &targets);
        let learned = field.learn(rows, x, &targets, weight);
        assert_eq!((weight, learned.loss), (0.0, Loss::default()));
        assert!(learned.dx.iter().chain(&learned.gradients).all(|&x| x == 0.0));
    }
}

/// Where neighbours do not matter, the loss is the sum of cross-entropies; so a new head begins.
#[test]
fn without_transitions_it_is_a_softmax() {
    let (tags, input, rows) = (5, 3, Ragged::new(&LENGTHS));
    let (mut builder, cpu) = (Builder::new(), Cpu::new(1));
    let crf = Crf::new(&mut builder, "head", input, tags);
    let shapes: Vec<String> =
        builder.layout().tensors().iter().map(|tensor| format!("{} {:?}", tensor.name(), tensor.shape())).collect();
    let want = ["head.weight [5, 3]", "head.bias [5]", "head.transitions [5, 5]", "head.start [5]", "head.end [5]"];
    assert_eq!(shapes, want);
    let softmax = Softmax::new(&mut builder, "softmax", input, tags);
    let layout = builder.into_layout();
    let mut parameters = layout.zeros::<f32>();
    crf.initialise(&Initialise::new(5), &layout, &mut parameters);
    let mut of_softmax = layout.zeros::<f32>();
    let ids = ["head.weight", "softmax.weight"].map(|name| layout.find(name).expect("a parameter"));
    let weight = layout.view(&parameters, ids[0]).to_vec();
    assert!(weight.iter().any(|&x| x != 0.0));
    layout.view_mut(&mut of_softmax, ids[1]).copy_from_slice(&weight);

    let targets = targets_of(&rows, tags);
    let x = Numbers::new(37).draw::<f32>(rows.rows() * input, 3.0);
    fn solve<H: Head<f32, Target = [u32]>>(
        head: &H,
        tape: &mut H::Tape,
        (cpu, layout, parameters): (&Cpu, &Layout, &[f32]),
        (rows, x, targets): (&Ragged, &[f32], &[u32]),
    ) -> (Loss, Vec<f32>) {
        let mut packed = head.packed(cpu.isa, true);
        head.pack(cpu, layout, parameters, &mut packed);
        let context = Context { cpu, layout, parameters, pass: Pass::Traced };
        let call = HeadCall { context, packed: &packed, rows, x, scored: 0..rows.rows() };
        let (mut dx, mut gradients) = (vec![0.0; x.len()], vec![0.0; layout.length()]);
        (head.learn(call, targets, 1.0, &mut dx, &mut gradients, tape), dx)
    }
    let batch = (&rows, &x[..], &targets[..]);
    let got = solve(&crf, &mut CrfTape::default(), (&cpu, &layout, &parameters), batch);
    let want = solve(&softmax, &mut SoftmaxTape::default(), (&cpu, &layout, &of_softmax), batch);
    assert_eq!((got.0.weight, got.0.correct), (want.0.weight, want.0.correct));
    assert_close("loss", &[got.0.sum], &[want.0.sum], 1e-6);
    assert_close("dx", &got.1, &want.1, 1e-6);
}

#[track_caller]
fn expect<T>(what: &str, expected: &str, work: impl FnOnce() -> T) {
    let message = panic_of(work);
    assert!(message.contains(expected), "{what}: expected a message with `{expected}`, found `{message}`");
}

#[test]
fn wrong_use_is_named() {
    let rows = Ragged::new(&[3, 1]);
    let mut bounded = rows.clone();
    bounded.set_resets(|sequence, t| sequence == 0 && t == 1);
    let x = vec![0.5f32; 8];
    let mut field = Field::<f32>::new(2, 1, 1.0);
    let right = [0, 1, 1, IGNORED];
    for (what, rows, x, targets, expected) in [
        ("x", &rows, &x[1..], &right[..], "x is [N, 2], N = 4"),
        ("targets", &rows, &x[..], &right[1..], "one target for each of 4 rows"),
        ("a target", &rows, &x[..], &[0, 1, 2, 0], "a target is below 2 or IGNORED"),
        ("boundaries", &bounded, &x[..], &right[..], "no boundaries inside one"),
    ] {
        expect(what, expected, || field.evaluate(rows, x, targets));
        expect(what, expected, || field.learn(rows, x, targets, 1.0));
        if !what.contains("target") {
            expect(what, expected, || field.decode(rows, x, None));
            expect(what, expected, || field.marginals(rows, x));
        }
    }
    for normaliser in [f64::NAN, -1.0, f64::INFINITY] {
        expect("a normaliser", "the normaliser must be finite", || field.learn(&rows, &x, &right, normaliser));
    }
    for scored in [1..4, 0..3, Range { start: 3, end: 2 }] {
        let (head, call, tape) = field.call(&rows, &x);
        let call = HeadCall { scored, ..call };
        expect("scored rows", "all of 4 rows are to be scored", || {
            head.decode(call, None, tape);
        });
    }
    let three = scheme(&["O", "B", "I"], false).expect("paths of every length");
    expect("constraints", "constraints of as many tags", || field.decode(&rows, &x, Some(&three)));
    expect("a weight", "one target for each row", || Head::<f32>::weight(&field.head, 0..5, &right));
    expect("dx", "dx is [N, 2]", || {
        let mut gradients = vec![0.0; field.layout.length()];
        let (head, call, tape) = field.call(&rows, &x);
        head.learn(call, &right, 1.0, &mut [0.0; 7], &mut gradients, tape)
    });
    expect("K", "I and O are at least 1", || Crf::new(&mut Builder::new(), "head", 3, 0));
    // After all that it still works.
    assert!(field.evaluate(&rows, &x, &right).sum.is_finite());
}
